//! Tensors in main memory.

use candle_core::{Device, Result, Tensor};

pub(super) use crate::ops::Values as Slice;

/// A tensor in main memory, contiguous, for [`Slice`]: itself where it is so already.
pub(super) fn to_host(tensor: &Tensor) -> Result<Tensor> {
    tensor.to_device(&Device::Cpu)?.contiguous()
}

/// A copy of a tensor's values.
pub(super) fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}
