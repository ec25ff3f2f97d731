//! Layers of transformers and ConvNeXt as passes over some pictures, for compiled inference and
//! training alike: each picture by itself, forward and back.

use candle_core::{Result, Tensor};

use super::memory::values;
use super::params::Params;
use crate::graph::{Graph, NodeId, Op, ParamKind};
use crate::ops::kernel::{self, AttentionDims};

/// A layer that works on the tokens of each picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenLayer {
    pub(super) kind: Kind,
    /// Values per picture of input and output.
    pub(super) input: usize,
    pub(super) output: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Attention(AttentionDims),
    /// So many values before the others.
    ClassToken(usize),
    LayerNorm {
        channels: usize,
        epsilon: f32,
    },
    Position,
    /// The values from this one on.
    Take(usize),
}

impl TokenLayer {
    /// The layer that a node is; `None` if it is of another kind.
    pub(super) fn of(graph: &Graph, id: NodeId) -> Option<Self> {
        let nodes = graph.nodes();
        let node = &nodes[id];
        let input = nodes[*node.inputs.first()?].shape;
        let channels = node.shape.channels();
        let kind = match node.op {
            Op::Attention { heads } => Kind::Attention(AttentionDims {
                tokens: node.shape.elements() / channels.max(1),
                channels,
                heads,
            }),
            Op::ClassToken => Kind::ClassToken(channels),
            Op::DropClassToken => Kind::Take(channels),
            Op::LayerNorm { epsilon } => Kind::LayerNorm {
                channels,
                epsilon: epsilon as f32,
            },
            Op::PositionEmbedding => Kind::Position,
            Op::TakeClassToken => Kind::Take(0),
            _ => return None,
        };
        Some(Self {
            kind,
            input: input.elements(),
            output: node.shape.elements(),
        })
    }

    /// What [`Self::forward`] and [`Self::input_grad`] read of the parameters.
    pub(super) fn values(&self, graph: &Graph, params: &Params, id: NodeId) -> Result<Vec<f32>> {
        let read = |kind| values(params.expect(graph, id, kind)?);
        Ok(match self.kind {
            Kind::LayerNorm { .. } => [read(ParamKind::Gamma)?, read(ParamKind::Beta)?].concat(),
            Kind::ClassToken(_) => {
                let mut first = read(ParamKind::Token)?;
                kernel::add_into(&read(ParamKind::Position)?, &mut first);
                first
            }
            Kind::Position => read(ParamKind::Position)?,
            Kind::Attention(_) | Kind::Take(_) => Vec::new(),
        })
    }

    /// How many of these values belong to the first of its parameters.
    pub(super) fn first_values(&self, count: usize) -> usize {
        match self.kind {
            Kind::LayerNorm { channels, .. } => channels,
            _ => count,
        }
    }

    /// Floats of scratch that [`Self::forward`] wants.
    pub(super) fn scratch(&self) -> usize {
        match self.kind {
            Kind::Attention(dims) => kernel::attention_scratch(dims),
            _ => 0,
        }
    }

    /// Output of some pictures.
    pub(super) fn forward(&self, values: &[f32], x: &[f32], y: &mut [f32], scratch: &mut [f32]) {
        if let Kind::LayerNorm { channels, epsilon } = self.kind {
            let (gamma, beta) = values.split_at(channels);
            return kernel::layer_norm(x, gamma, beta, epsilon, y);
        }
        let pictures = y.chunks_exact_mut(self.output.max(1));
        for (y, x) in pictures.zip(x.chunks_exact(self.input.max(1))) {
            match self.kind {
                Kind::Attention(dims) => kernel::attention(x, dims, y, scratch),
                Kind::ClassToken(channels) => {
                    y[..channels].copy_from_slice(values);
                    y[channels..].copy_from_slice(x);
                }
                Kind::Position | Kind::LayerNorm { .. } => {
                    for ((y, x), position) in y.iter_mut().zip(x).zip(values) {
                        *y = x + position;
                    }
                }
                Kind::Take(first) => y.copy_from_slice(&x[first..first + self.output]),
            }
        }
    }

    /// Whether the gradient to the input is that to the output.
    pub(super) fn passes_gradients_on(&self) -> bool {
        matches!(self.kind, Kind::Position)
    }

    /// Whether the gradient to the input depends on the input.
    pub(super) fn reads_input(&self) -> bool {
        matches!(self.kind, Kind::Attention(_) | Kind::LayerNorm { .. })
    }

    /// Gradient to the input of some pictures; `x` counts where [`Self::reads_input`] says so.
    pub(super) fn input_grad(
        &self,
        values: &[f32],
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        scratch: &mut [Vec<f32>; 2],
    ) {
        if let Kind::LayerNorm { channels, epsilon } = self.kind {
            return kernel::layer_norm_input_grad(x, dy, &values[..channels], epsilon, dx);
        }
        let pictures = dx.chunks_exact_mut(self.input.max(1));
        for (index, (dx, dy)) in pictures
            .zip(dy.chunks_exact(self.output.max(1)))
            .enumerate()
        {
            match self.kind {
                Kind::Attention(dims) => {
                    let x = &x[index * self.input..][..self.input];
                    kernel::attention_grad(x, dims, dy, dx, scratch);
                }
                Kind::ClassToken(channels) => dx.copy_from_slice(&dy[channels..]),
                Kind::Position | Kind::LayerNorm { .. } => dx.copy_from_slice(dy),
                Kind::Take(first) => {
                    dx.fill(0.0);
                    dx[first..first + self.output].copy_from_slice(dy);
                }
            }
        }
    }

    /// How many sums the gradients to the parameters are.
    pub(super) fn sums(&self) -> usize {
        match self.kind {
            Kind::LayerNorm { channels, .. } => 2 * channels,
            Kind::ClassToken(channels) => channels,
            Kind::Position => self.output,
            Kind::Attention(_) | Kind::Take(_) => 0,
        }
    }

    /// Sums over some pictures of the gradients to the parameters, set or added to what is there.
    pub(super) fn param_sums(&self, x: &[f32], dy: &[f32], add: bool, sums: &mut [f32]) {
        if let Kind::LayerNorm { epsilon, .. } = self.kind {
            return kernel::layer_norm_sums(x, dy, epsilon, add, sums);
        }
        if !add {
            sums.fill(0.0);
        }
        for dy in dy.chunks_exact(self.output.max(1)) {
            kernel::add_into(&dy[..sums.len()], sums);
        }
    }

    /// Gradients to the parameters of a node by name, from the sums of all pictures.
    pub(super) fn gradients(
        &self,
        graph: &Graph,
        id: NodeId,
        sums: &[f32],
    ) -> Result<Vec<(String, Tensor)>> {
        let specs = graph.params(id).into_iter();
        specs
            .map(|spec| {
                let count = spec.elements();
                let values = match spec.kind {
                    ParamKind::Beta => &sums[count..],
                    _ => &sums[..count],
                };
                let device = &candle_core::Device::Cpu;
                let gradient = Tensor::from_slice(values, spec.dims.as_slice(), device)?;
                Ok((spec.name, gradient))
            })
            .collect()
    }
}
