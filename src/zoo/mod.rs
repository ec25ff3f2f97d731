//! Architectures: one file a family, as data on the layer graph, and the registry of them.

pub(crate) mod convnext;
pub mod auxiliary;
mod densenet;
mod googlenet;
mod inception_v3;
pub mod mobilenet_v2;
mod parts;
pub mod registry;
mod resnet;
mod squeezenet;
mod vgg;
pub(crate) mod vit;
mod xception;
