//! Candle tensors as slices, and work over them in chunks that depend on the shape alone.

use std::ops::{Deref, Range};

use candle_core::{DType, Device, Result, Storage, StorageRef, Tensor, bail};
use rayon::prelude::*;

/// Values that a task of an elementwise pass handles.
pub(super) const CHUNK: usize = 16 * 1024;

/// Whether the fast path takes these tensors: f32 on the CPU.
pub(super) fn fits(tensors: &[&Tensor]) -> bool {
    let fast = |t: &&Tensor| t.device().is_cpu() && t.dtype() == DType::F32;
    tensors.iter().all(fast)
}

/// The values of a contiguous f32 tensor on the CPU.
pub(crate) struct Values<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> Values<'a> {
    /// # Errors
    /// If the tensor is not contiguous f32 on the CPU.
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("a tensor of shape {:?} is not contiguous", tensor.shape())
        };
        match &*storage {
            Storage::Cpu(values) => {
                values.as_slice::<f32>()?;
            }
            _ => bail!("a tensor of shape {:?} is not on the CPU", tensor.shape()),
        }
        Ok(Self {
            storage,
            range: start..end,
        })
    }
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(candle_core::CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => &[],
        }
    }
}

/// A tensor on the CPU.
pub(super) fn tensor(values: Vec<f32>, dims: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(values, dims, &Device::Cpu)
}

/// `f` of every value.
pub(super) fn map(x: &Tensor, f: impl Fn(f32) -> f32 + Sync) -> Result<Tensor> {
    let contiguous = x.contiguous()?;
    let values = Values::of(&contiguous)?;
    let input: &[f32] = &values;
    let mut output = vec![0.0; input.len()];
    output
        .par_chunks_mut(CHUNK)
        .zip(input.par_chunks(CHUNK))
        .for_each(|(output, input)| {
            for (y, x) in output.iter_mut().zip(input) {
                *y = f(*x);
            }
        });
    tensor(output, x.dims())
}

/// `f` of every pair of values of two tensors of one shape.
pub(super) fn zip(a: &Tensor, b: &Tensor, f: impl Fn(f32, f32) -> f32 + Sync) -> Result<Tensor> {
    let contiguous = [a.contiguous()?, b.contiguous()?];
    let values = [Values::of(&contiguous[0])?, Values::of(&contiguous[1])?];
    let [left, right]: [&[f32]; 2] = [&values[0], &values[1]];
    let mut output = vec![0.0; left.len()];
    output
        .par_chunks_mut(CHUNK)
        .zip(left.par_chunks(CHUNK).zip(right.par_chunks(CHUNK)))
        .for_each(|(output, (left, right))| {
            for (y, (a, b)) in output.iter_mut().zip(left.iter().zip(right)) {
                *y = f(*a, *b);
            }
        });
    tensor(output, a.dims())
}

/// Values of whole rows of `channels` that a task handles: about [`CHUNK`].
pub(super) fn chunk_of_rows(channels: usize) -> usize {
    (CHUNK / channels.max(1)).max(1) * channels.max(1)
}

/// Length of at most `most` chunks that cover `total` and are at least `least` long.
pub(super) fn chunk_length(total: usize, least: usize, most: usize) -> usize {
    total.div_ceil(most).max(least).max(1)
}

/// Sums partial results of one length in their order, in f64.
pub(super) fn sum_in_order(partials: &[f32], length: usize) -> Vec<f32> {
    let mut sums = vec![0f64; length];
    for partial in partials.chunks_exact(length.max(1)) {
        for (sum, value) in sums.iter_mut().zip(partial) {
            *sum += f64::from(*value);
        }
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}

/// Sum over all but the last axis: `[channels]`.
pub(super) fn sum_of_rows(x: &[f32], channels: usize) -> Vec<f32> {
    let chunk = chunk_of_rows(channels);
    let mut partials = vec![0.0; x.len().div_ceil(chunk) * channels];
    partials
        .par_chunks_mut(channels.max(1))
        .zip(x.par_chunks(chunk))
        .for_each(|(sums, x)| super::kernel::add_rows(x, sums));
    sum_in_order(&partials, channels)
}
