//! Architectures: one file a family, as data on the layer graph, and the registry of them.

pub mod auxiliary;
pub(crate) mod convnext;
mod densenet;
mod efficientnet;
mod googlenet;
mod inception_v3;
pub mod mobilenet_v2;
mod mobilenet_v3;
mod parts;
pub mod registry;
mod resnet;
mod squeezenet;
mod vgg;
pub(crate) mod vit;
mod xception;
