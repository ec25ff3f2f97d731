//! Tensors as slices of main memory.

use std::ops::{Deref, Range};

use candle_core::{DType, Device, Result, Storage, StorageRef, Tensor, bail};

/// A tensor in main memory, contiguous: itself where it is so already.
pub(super) fn to_host(tensor: &Tensor) -> Result<Tensor> {
    tensor.to_device(&Device::Cpu)?.contiguous()
}

/// The values of a contiguous f32 tensor in main memory, borrowed from it.
pub(super) struct Slice<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> Slice<'a> {
    /// Borrows the values of what [`to_host`] gave.
    pub(super) fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        if tensor.dtype() != DType::F32 || !matches!(*storage, Storage::Cpu(_)) {
            bail!("expected f32 values in main memory, not {tensor:?}");
        }
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("expected a contiguous tensor, not {tensor:?}");
        };
        Ok(Self {
            range: start..end,
            storage,
        })
    }
}

impl Deref for Slice<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(storage) => storage
                .as_slice::<f32>()
                .map_or(&[], |values| &values[self.range.clone()]),
            _ => &[],
        }
    }
}

/// A copy of a tensor's values.
pub(super) fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}
