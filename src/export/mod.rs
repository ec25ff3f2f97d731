//! Trained networks as files of other tools.

pub mod checkpoint;
pub mod onnx;
