//! Architectures: one file a family, as data on the layer graph, and the registry of them.

mod efficientnet;
mod inception_v3;
pub mod mobilenet_v2;
mod mobilenet_v3;
mod parts;
pub mod registry;
mod resnet;
mod vgg;
mod xception;
