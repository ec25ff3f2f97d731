//! Trained networks as files of other tools.

pub mod onnx;
