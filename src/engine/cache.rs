//! Frozen features, computed once a picture and gathered into batches.

use candle_core::{Result, Tensor};

/// The frontier's stored tensors for a set of pictures, in memory.
#[derive(Debug)]
pub struct FeatureCache {}

impl FeatureCache {
    /// Bytes that caching `pictures` pictures of these per-picture element counts takes.
    pub fn bytes(pictures: usize, elements: &[usize]) -> usize {
        pictures * elements.iter().sum::<usize>() * size_of::<f32>()
    }

    /// Room for `pictures` pictures whose stored tensors have these per-picture dimensions.
    pub fn with_capacity(_pictures: usize, _dims: &[Vec<usize>]) -> Self {
        todo!()
    }

    /// Stores the features of the pictures `first..first + batch`, one tensor a stored node.
    pub fn store(&mut self, _first: usize, _features: &[Tensor]) -> Result<()> {
        todo!()
    }

    /// Features of the given pictures as a batch, one tensor a stored node.
    pub fn gather(&self, _pictures: &[usize]) -> Result<Vec<Tensor>> {
        todo!()
    }
}
