//! Architectures: one file a family, as data on the layer graph, and the registry of them.

pub mod mobilenet_v2;
pub mod registry;
