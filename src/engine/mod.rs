//! Graph and parameters to tensors: the frozen prefix, the trainable suffix, the feature cache.

pub mod cache;
mod device;
pub mod explain;
mod forward;
mod layout;
mod memory;
pub mod params;
pub mod prefix;
pub mod seam;
pub mod store;
pub mod suffix;
mod tokens;

#[cfg(test)]
mod keras_parity;
#[cfg(test)]
pub(crate) mod parity;
#[cfg(test)]
pub(crate) mod test_support;
