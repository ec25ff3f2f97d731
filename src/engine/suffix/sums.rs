//! What a chunk sums over its pictures, in blocks: each is final at another moment of the reverse
//! pass, and can be taken away then.

use super::lower::Program;
use super::program::{Join, Pass, Stage};
use crate::ops::kernel;

/// Values of a block, at least: enough to be worth a message.
const BLOCK: usize = 128 << 10;

/// Where sums lie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) block: usize,
    pub(super) start: usize,
}

/// Sums that are final at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Block {
    pub(super) values: usize,
    /// The stage behind which they are; `None` for what is joined within the step and no gradient is
    /// made of as it is.
    pub(super) stage: Option<usize>,
}

/// The sums of a chunk, a vector a block.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) blocks: Vec<Vec<f32>>,
}

impl Sums {
    /// Makes them fit; what they held stays where it fits already.
    pub(super) fn resize(&mut self, blocks: &[Block]) {
        self.blocks.resize_with(blocks.len(), Vec::new);
        for (values, block) in self.blocks.iter_mut().zip(blocks) {
            values.resize(block.values, 0.0);
        }
    }

    pub(super) fn at(&self, spot: Spot, length: usize) -> &[f32] {
        &self.blocks[spot.block][spot.start..][..length]
    }

    pub(super) fn at_mut(&mut self, spot: Spot, length: usize) -> &mut [f32] {
        &mut self.blocks[spot.block][spot.start..][..length]
    }

    pub(super) fn add(&mut self, others: &Self) {
        for (to, from) in self.blocks.iter_mut().zip(&others.blocks) {
            kernel::add_into(from, to);
        }
    }
}

/// Sum over the chunks, in their order, of so many values.
pub(super) fn total(chunks: &[Sums], spot: Spot, length: usize) -> Vec<f32> {
    let mut parts = chunks.iter().map(|sums| sums.at(spot, length));
    let mut total = parts
        .next()
        .map_or_else(|| vec![0.0; length], <[f32]>::to_vec);
    for part in parts {
        kernel::add_into(part, &mut total);
    }
    total
}

/// Sums that a pass writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Written {
    Kernel(usize),
    Bias(usize),
    Norm(usize),
    Token(usize),
}

impl Program {
    /// Gives all sums their places, in the order in which they become final.
    pub(super) fn lay_out_sums(&mut self) {
        let mut last: Vec<(usize, Written)> = Vec::new();
        for (index, Stage { passes, .. }) in self.stages.iter().enumerate() {
            for pass in &self.passes[passes.clone()] {
                let written = match *pass {
                    Pass::KernelGrad { kernel, .. } => Written::Kernel(kernel),
                    Pass::BiasGrad { kernel, .. } => Written::Bias(kernel),
                    Pass::NormSums { norm, .. } => Written::Norm(norm),
                    Pass::TokenSums { token, .. } => Written::Token(token),
                    _ => continue,
                };
                last.retain(|(_, other)| *other != written);
                last.push((index, written));
            }
        }
        let is_joined = |norm: usize| {
            let mut joins = self.stages.iter().map(|stage| stage.join);
            joins.any(|join| matches!(join, Some(Join::Sums(joined)) if joined == norm))
        };
        let (joined, finals): (Vec<_>, Vec<_>) = last
            .into_iter()
            .partition(|(_, written)| matches!(written, Written::Norm(norm) if is_joined(*norm)));
        let mut blocks = vec![Block::default()];
        for norm in &mut self.norms {
            norm.moments = take(&mut blocks, 2 * norm.channels);
            norm.sums = Spot::default();
        }
        for (_, written) in joined {
            self.place(written, &mut blocks);
        }
        for (stage, written) in finals {
            let is_open = |block: &&Block| {
                block.stage == Some(stage) || (block.stage.is_some() && block.values < BLOCK)
            };
            if blocks.last().filter(is_open).is_none() {
                blocks.push(Block::default());
            }
            self.place(written, &mut blocks);
            if let Some(block) = blocks.last_mut() {
                block.stage = Some(stage);
            }
        }
        self.blocks = blocks;
    }

    fn place(&mut self, written: Written, blocks: &mut [Block]) {
        match written {
            Written::Kernel(index) => {
                let length = self.kernels[index].kernel_elements();
                self.kernels[index].kernel_sum = take(blocks, length);
            }
            Written::Bias(index) => {
                self.kernels[index].bias_sum = take(blocks, self.kernels[index].filters);
            }
            Written::Norm(index) => {
                self.norms[index].sums = take(blocks, 2 * self.norms[index].channels);
            }
            Written::Token(index) => {
                self.tokens[index].sums = take(blocks, self.tokens[index].layer.sums());
            }
        }
    }
}

/// Room in the last block.
fn take(blocks: &mut [Block], length: usize) -> Spot {
    let block = blocks.len().saturating_sub(1);
    let start = blocks[block].values;
    blocks[block].values += length;
    Spot { block, start }
}
