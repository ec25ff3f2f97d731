//! From nodes to steps: pads go into the window behind them, batch norms into the convolution
//! before them, residual additions and activations into its epilogue.

use std::fmt::Debug;

use candle_core::{Result, bail};

use crate::activation::Activation;
use crate::engine::forward;
use crate::engine::memory::values;
use crate::engine::params::Params;
use crate::engine::tokens::TokenLayer;
use crate::geometry::{Padding, Window};
use crate::graph::{Graph, NodeId, Op, ParamKind, Shape};
use crate::ops::kernel::{MapDims, PackedConv, PackedDepthwise};

/// A kernel with a window as the parameters have it.
pub(super) struct Weights<'a> {
    /// `[filters, channels, height, width]`.
    pub(super) values: &'a [f32],
    pub(super) dims: [usize; 4],
    /// A factor of each filter.
    pub(super) scale: Option<&'a [f32]>,
    pub(super) input: MapDims,
    pub(super) window: &'a Window,
}

/// How kernels are kept to run fast.
pub(super) trait Packing: Debug {
    /// One of a convolution.
    type Conv: Debug;
    /// One of a depthwise convolution.
    type Depthwise: Debug;

    fn conv(&self, weights: Weights<'_>) -> Result<Self::Conv>;
    fn depthwise(&self, weights: Weights<'_>) -> Result<Self::Depthwise>;
}

/// For the kernels of the CPU.
#[derive(Debug)]
pub(super) struct Host;

impl Packing for Host {
    type Conv = PackedConv;
    type Depthwise = PackedDepthwise;

    fn conv(&self, weights: Weights<'_>) -> Result<PackedConv> {
        let Weights {
            values,
            dims,
            scale,
            input,
            window,
        } = weights;
        Ok(PackedConv::for_window(values, dims, scale, input, window))
    }

    fn depthwise(&self, weights: Weights<'_>) -> Result<PackedDepthwise> {
        let Weights {
            values,
            dims,
            scale,
            ..
        } = weights;
        Ok(PackedDepthwise::new(values, dims, scale))
    }
}

/// What one pass over memory computes.
#[derive(Debug)]
pub(super) struct Step<P: Packing = Host> {
    pub(super) kernel: Kernel<P>,
    /// The node whose output is read.
    pub(super) input: NodeId,
    /// The node whose output is added before the activation, or holds the factors of a gate.
    pub(super) residual: Option<NodeId>,
    pub(super) activation: Activation,
    /// The node whose output this is: the last one fused in.
    pub(super) output: NodeId,
}

impl Step {
    /// Values of its kernel.
    pub(super) fn kernel_floats(&self) -> usize {
        match &self.kernel {
            Kernel::Conv { kernel, .. } => kernel.values(),
            _ => 0,
        }
    }
}

/// The kernel of a step, ready to run.
#[derive(Debug)]
pub(super) enum Kernel<P: Packing = Host> {
    Conv {
        kernel: P::Conv,
        window: Window,
        dims: MapDims,
        bias: Option<Vec<f32>>,
    },
    Depthwise {
        kernel: P::Depthwise,
        window: Window,
        dims: MapDims,
        bias: Option<Vec<f32>>,
    },
    Affine {
        scale: Vec<f32>,
        offset: Vec<f32>,
    },
    Pad {
        dims: MapDims,
        padding: Padding,
    },
    MaxPool {
        dims: MapDims,
        window: Window,
    },
    AvgPool {
        dims: MapDims,
        window: Window,
        count_include_pad: bool,
    },
    /// Copies the input into the output's channels from `first` on; `all` is how many those are.
    Place {
        channels: usize,
        first: usize,
        all: usize,
    },
    /// A layer of tokens, with what it reads of its parameters.
    Token {
        layer: TokenLayer,
        values: Vec<f32>,
    },
    /// Times one value a picture and channel.
    Gate(MapDims),
    GlobalAvg(MapDims),
    GlobalMax(MapDims),
}

/// A batch norm, or several, as `x * scale + offset` per channel; folded in double precision.
struct Affine {
    scale: Vec<f64>,
    offset: Vec<f64>,
}

/// Nodes with what reads them. Some, such as dropout and flatten, are other names of their input.
pub(super) struct Fuser<'a, P> {
    packing: &'a P,
    graph: &'a Graph,
    params: &'a Params,
    given: &'a [NodeId],
    readers: Vec<Vec<NodeId>>,
    wanted: Vec<bool>,
}

impl<'a, P: Packing> Fuser<'a, P> {
    pub(super) fn new(
        packing: &'a P,
        (graph, params): (&'a Graph, &'a Params),
        given: &'a [NodeId],
        wanted_nodes: &[NodeId],
        order: &[NodeId],
    ) -> Self {
        let mut fuser = Self {
            packing,
            graph,
            params,
            given,
            readers: vec![Vec::new(); graph.nodes().len()],
            wanted: vec![false; graph.nodes().len()],
        };
        for &id in order {
            if fuser.canonical(id) == id {
                for &input in &graph.nodes()[id].inputs {
                    let input = fuser.canonical(input);
                    fuser.readers[input].push(id);
                }
            }
        }
        for &id in wanted_nodes {
            let id = fuser.canonical(id);
            fuser.wanted[id] = true;
        }
        fuser
    }

    /// The node whose memory a node's output is.
    pub(super) fn canonical(&self, id: NodeId) -> NodeId {
        let node = &self.graph.nodes()[id];
        match node.op {
            Op::Dropout { .. } | Op::Flatten | Op::Identity(_) | Op::Reshape
                if !self.given.contains(&id) =>
            {
                self.canonical(node.inputs[0])
            }
            _ => id,
        }
    }

    /// Steps that compute the nodes in `order`, in the order to run them.
    pub(super) fn steps(&self, order: &[NodeId]) -> Result<Vec<Step<P>>> {
        let mut done = vec![false; self.graph.nodes().len()];
        let mut steps = Vec::new();
        for &id in order {
            if done[id] || self.canonical(id) != id || self.folds_into_windows(id) {
                continue;
            }
            if let Op::Concat = self.graph.nodes()[id].op {
                // Within another concatenation, its inputs go there at once.
                if !self.folds_into_concat(id) {
                    self.place(id, id, &mut 0, &mut steps);
                }
                continue;
            }
            let step = self.step(id, &mut done)?;
            steps.push(step);
        }
        // A residual may be computed after the convolution that takes it in began in the graph,
        // and a branch is put into its concatenation while it is in the cache.
        steps.sort_by_key(|step| match step.kernel {
            Kernel::Place { .. } => (step.input, 1),
            _ => (step.output, 0),
        });
        Ok(steps)
    }

    /// Steps that put the inputs of the concatenation `id` into `output`, from channel `first` on.
    fn place(&self, id: NodeId, output: NodeId, first: &mut usize, steps: &mut Vec<Step<P>>) {
        let nodes = self.graph.nodes();
        for &input in &nodes[id].inputs {
            let input = self.canonical(input);
            if self.folds_into_concat(input) {
                self.place(input, output, first, steps);
                continue;
            }
            let channels = nodes[input].shape.channels();
            steps.push(Step {
                kernel: Kernel::Place {
                    channels,
                    first: *first,
                    all: nodes[output].shape.channels(),
                },
                input,
                residual: None,
                activation: Activation::Linear,
                output,
            });
            *first += channels;
        }
    }

    /// Whether a node is a concatenation that only another one reads.
    fn folds_into_concat(&self, id: NodeId) -> bool {
        let is_concat = |id: NodeId| matches!(self.graph.nodes()[id].op, Op::Concat);
        let own = is_concat(id) && !self.given.contains(&id);
        own && self.only_reader(id).is_some_and(is_concat)
    }

    /// Whether a node is a pad that only windows read which can pad themselves.
    fn folds_into_windows(&self, id: NodeId) -> bool {
        let nodes = self.graph.nodes();
        let windowed = |&reader: &NodeId| match (&nodes[reader].op, nodes[id].op) {
            (Op::Conv2d { .. } | Op::DepthwiseConv2d { .. }, _) => true,
            // Zeros never win against what an activation gives, no more than a pool's own padding.
            (Op::MaxPool { window }, Op::Pad(padding)) => {
                let Padding {
                    top,
                    bottom,
                    left,
                    right,
                } = window.padding.plus(padding);
                let [height, width] = window.kernel;
                let below = self.canonical(nodes[id].inputs[0]);
                matches!(nodes[below].op, Op::RELU | Op::RELU6)
                    && top.max(bottom) < height
                    && left.max(right) < width
            }
            _ => false,
        };
        matches!(self.graph.nodes()[id].op, Op::Pad(_))
            && !self.given.contains(&id)
            && !self.wanted[id]
            && self.readers[id].iter().all(windowed)
    }

    /// The only node that reads this one, unless the output itself is wanted.
    fn only_reader(&self, id: NodeId) -> Option<NodeId> {
        match self.readers[id].as_slice() {
            &[reader] if !self.wanted[id] => Some(reader),
            _ => None,
        }
    }

    fn step(&self, root: NodeId, done: &mut [bool]) -> Result<Step<P>> {
        let node = &self.graph.nodes()[root];
        let channels = node.shape.channels();
        let fuses = !matches!(
            node.op,
            Op::Pad(_)
                | Op::MaxPool { .. }
                | Op::AvgPool { .. }
                | Op::GlobalAvgPool
                | Op::GlobalMaxPool
                | Op::Multiply
        ) && TokenLayer::of(self.graph, root).is_none();
        let mut affine = None;
        let mut residual = None;
        let mut activation = Activation::Linear;
        match node.op {
            Op::BatchNorm { epsilon, .. } => affine = Some(self.batch_norm(root, epsilon)?),
            Op::LayerScale { .. } => affine = Some(self.batch_norm(root, 0.0)?),
            Op::Add | Op::Multiply => residual = Some(self.canonical(node.inputs[1])),
            Op::Activation(own) => activation = own,
            _ => {}
        }
        let mut output = root;
        done[root] = true;
        while let Some(next) = self.only_reader(output).filter(|_| fuses) {
            let reader = &self.graph.nodes()[next];
            if done[next] || activation != Activation::Linear {
                break;
            }
            match reader.op {
                Op::BatchNorm { .. } | Op::LayerScale { .. }
                    if residual.is_none() && reader.shape.channels() == channels =>
                {
                    let epsilon = match reader.op {
                        Op::BatchNorm { epsilon, .. } => epsilon,
                        _ => 0.0,
                    };
                    let norm = self.batch_norm(next, epsilon)?;
                    affine = Some(match affine {
                        Some(inner) => norm.after(&inner),
                        None => norm,
                    });
                }
                Op::Add if residual.is_none() => {
                    let mut others = reader.inputs.iter().map(|&id| self.canonical(id));
                    residual = others.find(|&id| id != output);
                }
                Op::Activation(next) => activation = next,
                _ => break,
            }
            done[next] = true;
            output = next;
        }
        let (kernel, input) = self.kernel(root, affine)?;
        Ok(Step {
            kernel,
            input,
            residual,
            activation,
            output,
        })
    }

    fn kernel(&self, root: NodeId, affine: Option<Affine>) -> Result<(Kernel<P>, NodeId)> {
        let node = &self.graph.nodes()[root];
        let mut input = self.canonical(node.inputs[0]);
        let kernel = match node.op {
            Op::Conv2d { mut window, .. } => {
                input = self.through_pad(input, &mut window);
                let (values, dims, scale, bias) = self.weights(root, affine)?;
                let dims: [usize; 4] = fixed(&dims)?;
                let weights = Weights {
                    values: &values,
                    dims,
                    scale: scale.as_deref(),
                    input: self.map(input),
                    window: &window,
                };
                Kernel::Conv {
                    kernel: self.packing.conv(weights)?,
                    window,
                    dims: self.map(input),
                    bias,
                }
            }
            Op::DepthwiseConv2d { mut window, .. } => {
                input = self.through_pad(input, &mut window);
                let (values, dims, scale, bias) = self.weights(root, affine)?;
                let dims: [usize; 4] = fixed(&dims)?;
                let weights = Weights {
                    values: &values,
                    dims,
                    scale: scale.as_deref(),
                    input: self.map(input),
                    window: &window,
                };
                Kernel::Depthwise {
                    kernel: self.packing.depthwise(weights)?,
                    window,
                    dims: self.map(input),
                    bias,
                }
            }
            Op::PointwiseDense { .. } | Op::Dense { .. } => {
                let (values, dims, scale, bias) = self.weights(root, affine)?;
                let [units, features]: [usize; 2] = fixed(&dims)?;
                let input = match node.op {
                    Op::PointwiseDense { .. } => self.map(input),
                    // A map is read as one long vector.
                    _ => MapDims {
                        height: 1,
                        width: 1,
                        channels: features,
                    },
                };
                let weights = Weights {
                    values: &values,
                    dims: [units, features, 1, 1],
                    scale: scale.as_deref(),
                    input,
                    window: &Window::POINT,
                };
                Kernel::Conv {
                    kernel: self.packing.conv(weights)?,
                    window: Window::POINT,
                    dims: input,
                    bias,
                }
            }
            Op::Pad(padding) => Kernel::Pad {
                dims: self.map(input),
                padding,
            },
            Op::MaxPool { mut window } => {
                input = self.through_pad(input, &mut window);
                Kernel::MaxPool {
                    dims: self.map(input),
                    window,
                }
            }
            Op::AvgPool {
                window,
                count_include_pad,
            } => Kernel::AvgPool {
                dims: self.map(input),
                window,
                count_include_pad,
            },
            Op::Multiply => Kernel::Gate(self.map(input)),
            Op::GlobalAvgPool => Kernel::GlobalAvg(self.map(input)),
            Op::GlobalMaxPool => Kernel::GlobalMax(self.map(input)),
            Op::BatchNorm { .. } | Op::LayerScale { .. } | Op::Activation(_) | Op::Add => {
                let channels = node.shape.channels();
                let affine = affine.unwrap_or_else(|| Affine::identity(channels));
                Kernel::Affine {
                    scale: single(&affine.scale),
                    offset: single(&affine.offset),
                }
            }
            Op::Attention { .. }
            | Op::ClassToken
            | Op::DropClassToken
            | Op::LayerNorm { .. }
            | Op::PositionEmbedding
            | Op::TakeClassToken
            | Op::Input
            | Op::Concat
            | Op::Dropout { .. }
            | Op::Flatten
            | Op::Identity(_)
            | Op::Reshape => match TokenLayer::of(self.graph, root) {
                Some(layer) => Kernel::Token {
                    layer,
                    values: layer.values(self.graph, self.params, root)?,
                },
                None => bail!("layer `{}` computes nothing", node.name),
            },
        };
        Ok((kernel, input))
    }

    /// Kernel values and dimensions of a node, with a batch norm as scale and bias.
    #[expect(clippy::type_complexity, reason = "taken apart at once by its callers")]
    fn weights(
        &self,
        id: NodeId,
        affine: Option<Affine>,
    ) -> Result<(Vec<f32>, Vec<usize>, Option<Vec<f32>>, Option<Vec<f32>>)> {
        let kernel = self.params.expect(self.graph, id, ParamKind::Kernel)?;
        let bias = match self.params.of(self.graph, id, ParamKind::Bias) {
            Some(bias) => Some(values(bias)?),
            None => None,
        };
        let (scale, bias) = match affine {
            None => (None, bias),
            Some(Affine { scale, mut offset }) => {
                if let Some(bias) = bias {
                    for ((offset, scale), bias) in offset.iter_mut().zip(&scale).zip(bias) {
                        *offset += scale * f64::from(bias);
                    }
                }
                (Some(single(&scale)), Some(single(&offset)))
            }
        };
        Ok((values(kernel)?, kernel.dims().to_vec(), scale, bias))
    }

    /// Takes a foldable pad into the window that reads it.
    fn through_pad(&self, input: NodeId, window: &mut Window) -> NodeId {
        match self.graph.nodes()[input].op {
            Op::Pad(padding) if self.folds_into_windows(input) => {
                window.padding = window.padding.plus(padding);
                self.canonical(self.graph.nodes()[input].inputs[0])
            }
            _ => input,
        }
    }

    /// The output of a node as a map; a vector is one pixel.
    fn map(&self, id: NodeId) -> MapDims {
        let shape = self.graph.nodes()[id].shape;
        let [height, width] = match shape {
            Shape::Map { height, width, .. } => [height, width],
            Shape::Vector(_) => [1, 1],
        };
        MapDims {
            height,
            width,
            channels: shape.channels(),
        }
    }

    fn batch_norm(&self, id: NodeId, epsilon: f64) -> Result<Affine> {
        let norm = forward::batch_norm(self.graph, self.params, id, epsilon)?;
        let double = |tensor| -> Result<Vec<f64>> {
            Ok(values(tensor)?.into_iter().map(f64::from).collect())
        };
        let (gamma, beta) = (double(norm.gamma)?, double(norm.beta)?);
        let (mean, variance) = (double(norm.mean)?, double(norm.variance)?);
        let scale: Vec<f64> = gamma
            .iter()
            .zip(&variance)
            .map(|(gamma, variance)| gamma / (variance + epsilon).sqrt())
            .collect();
        let offset = (0..scale.len())
            .map(|channel| beta[channel] - mean[channel] * scale[channel])
            .collect();
        Ok(Affine { scale, offset })
    }
}

impl Affine {
    fn identity(channels: usize) -> Self {
        Self {
            scale: vec![1.0; channels],
            offset: vec![0.0; channels],
        }
    }

    /// `inner` first, then this.
    fn after(self, inner: &Self) -> Self {
        let offset = (0..self.scale.len())
            .map(|channel| self.scale[channel] * inner.offset[channel] + self.offset[channel])
            .collect();
        let scale = self.scale.iter().zip(&inner.scale).map(|(a, b)| a * b);
        Self {
            scale: scale.collect(),
            offset,
        }
    }
}

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

fn fixed<const N: usize>(dims: &[usize]) -> Result<[usize; N]> {
    match dims.try_into() {
        Ok(dims) => Ok(dims),
        Err(_) => bail!("expected a kernel of {N} dimensions, not {dims:?}"),
    }
}
