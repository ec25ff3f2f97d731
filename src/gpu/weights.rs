//! Operations on parameters: folding, gradients taken apart, steps of optimizers.

use super::args::{self, kernels};
use super::{Address, Gpu, Result, THREADS};

/// Values of a block of parameters.
pub const BLOCK: usize = 4 * THREADS;

impl Gpu {
    /// A norm with stored statistics as scale and bias of the layer before it.
    ///
    /// # Errors
    /// If the device failed; so for all operations here.
    pub fn fold(&self, channels: usize, args: args::Fold) -> Result<()> {
        let args = args::Fold {
            channels: channels as i32,
            ..args
        };
        self.singly(kernels::FOLD, channels, &args)
    }

    /// Scales and stores kernels, all at once: `parts` on the device, of so many blocks in all.
    pub fn scale_parts(&self, parts: Address, count: usize, blocks: usize) -> Result<()> {
        let args = args::Scale {
            parts,
            count: count as i32,
        };
        self.blocks(kernels::SCALE_PARTS, false, [blocks, 1, 1], &args)
    }

    /// Takes the gradient to a folded kernel apart.
    pub fn unfold(&self, args: args::Unfold) -> Result<()> {
        let filters = args.filters as usize;
        self.blocks(kernels::UNFOLD, false, [filters, 1, 1], &args)
    }

    /// The same of a bias.
    pub fn unfold_bias(&self, args: args::UnfoldBias) -> Result<()> {
        let filters = args.filters as usize;
        self.singly(kernels::UNFOLD_BIAS, filters, &args)
    }

    /// One step of all parameters, [`BLOCK`] values a block.
    pub fn optimize(&self, args: args::Optimize) -> Result<()> {
        let blocks = (args.count as usize).div_ceil(BLOCK);
        self.blocks(kernels::OPTIMIZE, false, [blocks, 1, 1], &args)
    }

    /// `to = keep * to + share * from`, of f32; a `from` of 0 is none.
    pub fn blend(
        &self,
        to: Address,
        from: Address,
        count: usize,
        [keep, share]: [f32; 2],
    ) -> Result<()> {
        let args = args::Blend {
            to,
            from,
            count: count as i64,
            keep,
            share,
        };
        self.singly(kernels::BLEND, count, &args)
    }

    /// `to += share * (from - to)`, of f32.
    pub fn lerp(&self, to: Address, from: Address, count: usize, share: f32) -> Result<()> {
        let args = args::Blend {
            to,
            from,
            count: count as i64,
            keep: 0.0,
            share,
        };
        self.singly(kernels::LERP, count, &args)
    }

    /// Cuts off values beyond `most` either way.
    pub fn limit(&self, to: Address, count: usize, most: f32) -> Result<()> {
        let args = args::Limit {
            to,
            count: count as i64,
            most,
        };
        self.singly(kernels::LIMIT, count, &args)
    }

    /// Sum of squares of values in f32; waits for it.
    pub fn square_sum(&self, from: Address, count: usize) -> Result<f64> {
        let blocks = count.div_ceil(64 * THREADS).clamp(1, 512);
        let [partial] = self.scratch(super::queue::Use::Sums, [blocks * 8])?;
        let args = args::Squares {
            from,
            partial,
            count: count as i64,
            per_block: count.div_ceil(blocks) as i32,
        };
        self.blocks(kernels::SQUARES, false, [blocks, 1, 1], &args)?;
        let mut sums = vec![0f64; blocks];
        self.backend()
            .download(partial, bytemuck::cast_slice_mut(&mut sums))?;
        Ok(sums.iter().sum())
    }
}
