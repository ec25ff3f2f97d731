//! Norms in a device's memory, forward and back, and the sums over rows that they and others want.

use super::args::{self, kernels};
use super::maps::{Channelwise, or_null};
use super::queue::Use;
use super::{Address, Gpu, Kernel, Result, THREADS};
use crate::activation::Activation;

/// How rows are cut into blocks to be summed.
pub(super) struct Cut {
    pub(super) grid: [usize; 2],
    pub(super) rows_per_block: usize,
    pub(super) lanes: usize,
}

impl Gpu {
    pub(super) fn finish_sums(
        &self,
        partial: Address,
        blocks: usize,
        count: usize,
        to: Address,
    ) -> Result<()> {
        let args = args::Finish {
            partial,
            to,
            count: count as i64,
            blocks: blocks as i32,
            add: 0,
            factor: 1.0,
        };
        self.singly(kernels::FINISH_SUMS, count, &args)
    }

    pub(super) fn vectors(&self, channels: usize) -> usize {
        match self.takes_vectors(channels) {
            true => channels / self.real().vector(),
            false => channels,
        }
    }

    /// Vectors of channels that a block takes: a power of two.
    pub(super) fn lanes(&self, channels: usize) -> usize {
        self.vectors(channels).next_power_of_two().min(32)
    }

    /// Cuts rows into blocks: enough to keep the device busy, `others` times as many in all, and each
    /// with a few rows for every thread.
    pub(super) fn cut(&self, rows: usize, channels: usize, others: usize) -> Cut {
        let lanes = self.lanes(channels);
        let columns = self.vectors(channels).div_ceil(lanes);
        let lines = THREADS / lanes;
        let wanted = (4 * self.backend().blocks()).div_ceil(columns * others.max(1));
        let rows_per_block = rows.div_ceil(wanted.max(1)).max(8 * lines);
        Cut {
            grid: [columns, rows.div_ceil(rows_per_block).max(1)],
            rows_per_block,
            lanes,
        }
    }

    /// Partial sums over rows by one of the kernels, `sums` values a channel: where they lie, and how
    /// many blocks of them.
    fn columns(
        &self,
        kernel: Kernel,
        [rows, channels]: [usize; 2],
        sums: usize,
        args: args::Columns,
    ) -> Result<(Address, usize)> {
        let cut = self.cut(rows, channels, 1);
        let blocks = cut.grid[1];
        let [partial] = self.scratch(Use::Sums, [blocks * sums * channels * 4])?;
        let args = args::Columns {
            partial,
            rows: rows as i64,
            rows_per_block: cut.rows_per_block as i32,
            channels: channels as i32,
            lanes: cut.lanes as i32,
            ..args
        };
        let vector = self.takes_vectors(channels);
        self.blocks(kernel, vector, [cut.grid[0], blocks, 1], &args)?;
        Ok((partial, blocks))
    }

    /// Sum over rows, in f32.
    pub fn sum_of_rows(&self, x: Address, rows: [usize; 2], to: Address) -> Result<()> {
        let args = args::Columns {
            x,
            ..args::Columns::default()
        };
        let (partial, blocks) = self.columns(kernels::SUM_COLUMNS, rows, 1, args)?;
        self.finish_sums(partial, blocks, rows[1], to)
    }

    /// Mean, inverse deviation and scale of a norm from the rows of a batch, and running statistics
    /// moved by them. `finish` has all but what the sums give.
    pub fn moments(&self, x: Address, rows: [usize; 2], finish: args::FinishMoments) -> Result<()> {
        let args = args::Columns {
            x,
            ..args::Columns::default()
        };
        let (partial, blocks) = self.columns(kernels::MOMENTS_COLUMNS, rows, 2, args)?;
        let args = args::FinishMoments {
            partial,
            x,
            rows: rows[0] as f64,
            blocks: blocks as i32,
            channels: rows[1] as i32,
            ..finish
        };
        self.singly(kernels::FINISH_MOMENTS, rows[1], &args)
    }

    /// What passes of a norm with stored statistics read.
    pub fn stored_norm(&self, channels: usize, args: args::StoredNorm) -> Result<()> {
        let args = args::StoredNorm {
            channels: channels as i32,
            ..args
        };
        self.singly(kernels::STORED_NORM, channels, &args)
    }

    /// Sums of `dy` and of `dy (x - mean)` over rows, `[2, channels]`, behind a clamp of the norm.
    pub fn norm_sums(
        &self,
        [x, dy]: [Address; 2],
        rows: [usize; 2],
        norm: Channelwise,
        clamp: Activation,
        to: Address,
    ) -> Result<()> {
        let (scale, offset, [low, high]) = clamped(norm, clamp);
        let args = args::Columns {
            x,
            dy,
            mean: or_null(norm.mean),
            scale,
            offset,
            low,
            high,
            ..args::Columns::default()
        };
        let (partial, blocks) = self.columns(kernels::NORM_COLUMNS, rows, 2, args)?;
        self.finish_sums(partial, blocks, 2 * rows[1], to)
    }

    /// Coefficients of a norm's gradient to its input and gradients to its parameters.
    pub fn finish_norm(&self, channels: usize, args: args::FinishNorm) -> Result<()> {
        let args = args::FinishNorm {
            channels: channels as i32,
            ..args
        };
        self.singly(kernels::FINISH_NORM, channels, &args)
    }

    /// Gradient of a norm to its input.
    pub fn norm_grad(
        &self,
        [x, dy]: [Address; 2],
        [rows, channels]: [usize; 2],
        (norm, clamp): (Channelwise, Activation),
        coefficients: Address,
        dx: Address,
    ) -> Result<()> {
        let (scale, offset, [low, high]) = clamped(norm, clamp);
        let count = rows * channels;
        let args = args::NormGrad {
            x,
            dy,
            mean: or_null(norm.mean),
            scale,
            offset,
            coefficients,
            dx,
            count: count as i64,
            channels: channels as i32,
            low,
            high,
        };
        self.each(kernels::NORM_GRAD, count, channels, &args)
    }

    /// `(x - mean) / deviation * gamma + beta` of each row.
    pub fn layer_norm(
        &self,
        x: Address,
        rows: [usize; 2],
        epsilon: f32,
        [gamma, beta]: [Address; 2],
        y: Address,
    ) -> Result<()> {
        let args = args::LayerNorm {
            x,
            gamma,
            beta,
            to: y,
            ..layer_norm(rows, epsilon)
        };
        self.rows(kernels::LAYER_NORM, rows, &args)
    }

    /// Gradient of [`Self::layer_norm`] to its input.
    pub fn layer_norm_grad(
        &self,
        [x, dy]: [Address; 2],
        rows: [usize; 2],
        epsilon: f32,
        gamma: Address,
        dx: Address,
    ) -> Result<()> {
        let args = args::LayerNorm {
            x,
            dy,
            gamma,
            to: dx,
            ..layer_norm(rows, epsilon)
        };
        self.rows(kernels::LAYER_NORM_GRAD, rows, &args)
    }

    /// Gradients of [`Self::layer_norm`] to gamma and beta, `[2, channels]`.
    pub fn layer_norm_sums(
        &self,
        [x, dy]: [Address; 2],
        rows: [usize; 2],
        epsilon: f32,
        to: Address,
    ) -> Result<()> {
        let [moments] = self.scratch(Use::Padded, [rows[0] * 8])?;
        let args = args::LayerNorm {
            x,
            moments,
            ..layer_norm(rows, epsilon)
        };
        self.rows(kernels::LAYER_NORM_MOMENTS, rows, &args)?;
        let args = args::Columns {
            x,
            dy,
            moments,
            ..args::Columns::default()
        };
        let (partial, blocks) = self.columns(kernels::LAYER_NORM_COLUMNS, rows, 2, args)?;
        self.finish_sums(partial, blocks, 2 * rows[1], to)
    }

    /// A kernel whose warps take a row each.
    pub(super) fn rows(
        &self,
        kernel: Kernel,
        [rows, channels]: [usize; 2],
        args: &impl args::Arguments,
    ) -> Result<()> {
        let vector = self.takes_vectors(channels);
        self.blocks(kernel, vector, [rows.div_ceil(THREADS / 32), 1, 1], args)
    }

    /// Tokens before, behind or added to those of each picture; see the kernel.
    pub fn tokens(&self, count: usize, args: args::Tokens) -> Result<()> {
        let args = args::Tokens {
            count: count as i64,
            ..args
        };
        self.singly(kernels::TOKENS, count, &args)
    }

    /// Sums over pictures of the first `values` of each `stride`.
    pub fn picture_sums(
        &self,
        dy: Address,
        pictures: usize,
        [values, stride]: [usize; 2],
        to: Address,
    ) -> Result<()> {
        let args = args::PictureSums {
            dy,
            to,
            pictures: pictures as i32,
            values: values as i32,
            stride: stride as i32,
        };
        self.singly(kernels::PICTURE_SUMS, values, &args)
    }
}

fn layer_norm([rows, channels]: [usize; 2], epsilon: f32) -> args::LayerNorm {
    args::LayerNorm {
        rows: rows as i64,
        channels: channels as i32,
        epsilon,
        ..args::LayerNorm::default()
    }
}

/// Scale, offset and bounds of a norm whose clamp gradients lie behind; nothing without a clamp.
fn clamped(norm: Channelwise, clamp: Activation) -> (Address, Address, [f32; 2]) {
    match clamp.bounds() {
        Some(bounds) if clamp != Activation::Linear => {
            (or_null(norm.scale), or_null(norm.offset), bounds)
        }
        _ => (0, 0, [f32::NEG_INFINITY, f32::INFINITY]),
    }
}
