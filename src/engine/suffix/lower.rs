//! From fused layers to the passes of a training step, forward and back.

use super::fuse::{Fuser, Layer};
use super::kernels::KernelSpec;
use super::plan::Plan;
use super::program::{
    Buffer, Channels, Join, NormSpec, Pass, Place, Pool, Room, Slot, Stage, TokenSpec, place,
    stages,
};
use super::sums::{Block, Spot};
use crate::activation::Activation;
use crate::engine::tokens::TokenLayer;
use crate::graph::{Graph, NodeId, Op, ParamKind, Shape};
use crate::ops::Needs;
use crate::ops::kernel::MapDims;

/// A training step, ready to run but for the values of its parameters.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) passes: Vec<Pass>,
    pub(super) stages: Vec<Stage>,
    pub(super) rooms: Vec<Room>,
    pub(super) places: Vec<Place>,
    pub(super) slots: Vec<Slot>,
    pub(super) kernels: Vec<KernelSpec>,
    pub(super) norms: Vec<NormSpec>,
    pub(super) tokens: Vec<TokenSpec>,
    /// Dropout nodes.
    pub(super) masks: Vec<NodeId>,
    /// Values of all that chunks were to sum if all of it were wanted: what their size goes by.
    pub(super) sums: usize,
    /// What a chunk sums over its pictures.
    pub(super) blocks: Vec<Block>,
}

impl Program {
    /// A program of stages of at most so many pictures; `None` if no way leads from the stored
    /// tensors to the output.
    pub(super) fn new(graph: &Graph, plan: &Plan, most: usize) -> Option<Self> {
        let fuser = Fuser::new(graph, plan);
        let layers = fuser.layers();
        let mut lowering = Lowering {
            graph,
            plan,
            passes: Vec::new(),
            joins: Vec::new(),
            rooms: Vec::new(),
            values: vec![None; graph.nodes().len()],
            readers: readers(graph, &fuser, &layers),
            recipes: vec![None; graph.nodes().len()],
            computed: vec![None; graph.nodes().len()],
            gradients: vec![None; graph.nodes().len()],
            kernels: Vec::new(),
            norms: Vec::new(),
            tokens: Vec::new(),
            masks: Vec::new(),
            sums: 0,
        };
        for (index, &id) in plan.stored.iter().enumerate() {
            lowering
                .rooms
                .push(room(graph.nodes()[id].shape, Some(index)));
            lowering.values[id] = Some(index);
        }
        let parts: Vec<Part> = layers.iter().map(|layer| lowering.forward(layer)).collect();
        let output = fuser.canonical(graph.training_output());
        let logits = lowering.values[output]?;
        let dlogits = lowering.buffer(output);
        lowering.passes.push(Pass::Loss { logits, dlogits });
        lowering.gradients[output] = Some(dlogits);
        for (layer, part) in layers.iter().zip(&parts).rev() {
            lowering.backward(layer, *part);
        }
        let by_pixel = |pass: &Pass| lowering.by_pixel(pass);
        let (passes, joins) = (&lowering.passes, &lowering.joins);
        let stages = stages(passes, joins, &lowering.rooms, by_pixel, most);
        let (places, slots) = place(&lowering.passes, &stages, &lowering.rooms, most);
        let mut program = Self {
            passes: lowering.passes,
            stages,
            rooms: lowering.rooms,
            places,
            slots,
            kernels: lowering.kernels,
            norms: lowering.norms,
            tokens: lowering.tokens,
            masks: lowering.masks,
            sums: lowering.sums,
            blocks: Vec::new(),
        };
        program.lay_out_sums();
        Some(program)
    }
}

impl Program {
    /// Pixels of a picture in the maps of a pass.
    pub(super) fn pixels(&self, pass: &Pass) -> usize {
        pass.buffers()
            .next()
            .map_or(1, |it| self.rooms[it].pixels())
    }
}

/// How many layers read the output of each node; the step's output counts as read.
fn readers(graph: &Graph, fuser: &Fuser<'_>, layers: &[Layer]) -> Vec<usize> {
    let mut readers = vec![0; graph.nodes().len()];
    for layer in layers {
        let mut read = layer.inputs.clone();
        read.extend([Some(layer.input), layer.residual].into_iter().flatten());
        read.sort_unstable();
        read.dedup();
        read.iter().for_each(|&id| readers[id] += 1);
    }
    readers[fuser.canonical(graph.training_output())] += 1;
    readers
}

/// What a layer's root became.
#[derive(Debug, Clone, Copy)]
enum Part {
    Kernel(usize),
    Norm(usize),
    Dropout(usize),
    Token(usize),
    Other,
}

struct Lowering<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    passes: Vec<Pass>,
    /// What joins the chunks, and how many passes lie before it.
    joins: Vec<(usize, Join)>,
    rooms: Vec<Room>,
    /// Buffer of each node's output.
    values: Vec<Option<Buffer>>,
    /// How many layers read it.
    readers: Vec<usize>,
    /// How to compute it again: norm, its input and the activation behind it.
    recipes: Vec<Option<(usize, NodeId, Activation)>>,
    /// Where it was computed again, and how many joins lay before.
    computed: Vec<Option<(Buffer, usize)>>,
    /// Buffer of the gradient to it, once it holds one.
    gradients: Vec<Option<Buffer>>,
    kernels: Vec<KernelSpec>,
    norms: Vec<NormSpec>,
    tokens: Vec<TokenSpec>,
    masks: Vec<NodeId>,
    sums: usize,
}

impl Lowering<'_> {
    /// A new buffer in the shape of a node's output.
    fn buffer(&mut self, node: NodeId) -> Buffer {
        self.rooms.push(room(self.graph.nodes()[node].shape, None));
        self.rooms.len() - 1
    }

    /// Whether a pass looks at each pixel by itself.
    fn by_pixel(&self, pass: &Pass) -> bool {
        match *pass {
            Pass::Kernel { kernel, .. }
            | Pass::KernelGrad { kernel, .. }
            | Pass::InputGrad { kernel, .. } => self.kernels[kernel].is_by_pixel(),
            Pass::BiasGrad { .. }
            | Pass::Moments { .. }
            | Pass::Norm { .. }
            | Pass::NormSums { .. }
            | Pass::NormGrad { .. }
            | Pass::Activate { .. }
            | Pass::ActivateGrad { .. }
            | Pass::Copy { .. }
            | Pass::AddInto { .. } => true,
            _ => false,
        }
    }

    fn value(&self, node: NodeId) -> Buffer {
        // Layers run in graph order, so that every input has its buffer by now.
        self.values[node].unwrap_or_default()
    }

    /// The value of a node for the reverse pass: what the forward pass left, or computed again from
    /// that, which costs less than to store and load it.
    fn again(&mut self, node: NodeId) -> Buffer {
        let Some((norm, input, activation)) = self.recipes[node] else {
            return self.value(node);
        };
        let stage = self.joins.len();
        match self.computed[node] {
            Some((buffer, when)) if when == stage => buffer,
            _ => {
                let (x, y) = (self.again(input), self.buffer(node));
                self.passes.push(Pass::Norm {
                    norm,
                    x,
                    residual: None,
                    activation,
                    y,
                });
                self.computed[node] = Some((y, stage));
                y
            }
        }
    }

    /// What a depthwise layer reads instead of its input `x` where a norm has just made that and
    /// nothing else wants it: the norm's input, and the norm.
    fn unstored(&mut self, layer: &Layer, x: Buffer) -> (Buffer, Option<(usize, Activation)>) {
        let depthwise = self.is_depthwise(layer);
        let only_reader = self.recipes[layer.input].is_some() && self.readers[layer.input] == 1;
        match self.passes.last() {
            Some(&Pass::Norm {
                norm,
                x: from,
                residual: None,
                activation,
                y,
            }) if y == x && depthwise && only_reader && activation.bounds().is_some() => {
                self.passes.pop();
                (from, Some((norm, activation)))
            }
            _ => (x, None),
        }
    }

    /// What the gradient of a layer's kernel reads for its input, and the norm to take of that.
    fn again_for(&mut self, layer: &Layer) -> (Buffer, Option<(usize, Activation)>) {
        match self.recipes[layer.input] {
            Some((norm, input, activation))
                if self.is_depthwise(layer) && activation.bounds().is_some() =>
            {
                (self.again(input), Some((norm, activation)))
            }
            _ => (self.again(layer.input), None),
        }
    }

    fn is_depthwise(&self, layer: &Layer) -> bool {
        let op = &self.graph.nodes()[layer.root].op;
        matches!(op, Op::DepthwiseConv2d { .. })
    }

    fn join(&mut self, join: Join) {
        self.joins.push((self.passes.len(), join));
    }

    /// A place for sums, which they get when all passes are known.
    fn sums(&mut self, length: usize) -> Spot {
        self.sums += length;
        Spot::default()
    }

    fn forward(&mut self, layer: &Layer) -> Part {
        let x = self.value(layer.input);
        let residual = layer.residual.map(|id| self.value(id));
        let activation = layer.activation;
        let y = self.buffer(layer.output);
        self.values[layer.output] = Some(y);
        let dims = map(self.graph.nodes()[layer.input].shape);
        let node = &self.graph.nodes()[layer.root];
        if let Some(part) = self.token_layer(layer.root, x, y) {
            return part;
        }
        match node.op {
            Op::Conv2d { .. }
            | Op::DepthwiseConv2d { .. }
            | Op::Dense { .. }
            | Op::PointwiseDense { .. } => {
                let kernel = self.kernel(layer);
                let (x, norm) = self.unstored(layer, x);
                self.passes.push(Pass::Kernel {
                    kernel,
                    norm,
                    x,
                    residual,
                    activation,
                    y,
                });
                Part::Kernel(kernel)
            }
            Op::BatchNorm { .. } | Op::LayerScale { .. } => {
                let (epsilon, momentum) = match node.op {
                    Op::BatchNorm {
                        epsilon, momentum, ..
                    } => (epsilon, momentum),
                    _ => (0.0, 0.0),
                };
                let norm = self.norm(layer.root, epsilon, momentum);
                if self.norms[norm].by_batch {
                    self.passes.push(Pass::Moments { norm, x });
                    self.join(Join::Moments(norm));
                }
                if self.norms[norm].by_batch && residual.is_none() {
                    self.recipes[layer.output] = Some((norm, layer.input, activation));
                }
                self.passes.push(Pass::Norm {
                    norm,
                    x,
                    residual,
                    activation,
                    y,
                });
                Part::Norm(norm)
            }
            Op::Dropout { .. } => {
                let mask = self.masks.len();
                self.masks.push(layer.root);
                self.passes.push(Pass::Dropout { mask, x, y });
                Part::Dropout(mask)
            }
            Op::Pad(padding) => {
                self.passes.push(Pass::Pad {
                    dims,
                    padding,
                    x,
                    y,
                });
                Part::Other
            }
            Op::Concat => {
                for (id, channels) in self.parts(layer) {
                    let x = self.value(id);
                    self.passes.push(Pass::Place { channels, x, y });
                }
                Part::Other
            }
            Op::MaxPool { .. } | Op::AvgPool { .. } => {
                if let Some(pool) = pool(&node.op, dims) {
                    self.passes.push(Pass::Pool { pool, x, y });
                }
                Part::Other
            }
            Op::GlobalAvgPool => {
                self.passes.push(Pass::GlobalAvg { dims, x, y });
                Part::Other
            }
            Op::GlobalMaxPool => {
                self.passes.push(Pass::GlobalMax { dims, x, y });
                Part::Other
            }
            Op::Attention { .. }
            | Op::ClassToken
            | Op::DropClassToken
            | Op::LayerNorm { .. }
            | Op::PositionEmbedding
            | Op::TakeClassToken => Part::Other,
            Op::Multiply => {
                let factors = self.value(layer.inputs[1]);
                self.passes.push(Pass::Gate {
                    dims,
                    x,
                    factors,
                    y,
                });
                Part::Other
            }
            Op::Add
            | Op::Activation(_)
            | Op::Flatten
            | Op::Identity(_)
            | Op::Reshape
            | Op::Input => {
                self.passes.push(Pass::Activate {
                    x,
                    residual,
                    activation,
                    y,
                });
                Part::Other
            }
        }
    }

    /// The pass of a layer of tokens; `None` if the node is of another kind.
    fn token_layer(&mut self, node: NodeId, x: Buffer, y: Buffer) -> Option<Part> {
        let layer = TokenLayer::of(self.graph, node)?;
        let spec = TokenSpec {
            node,
            layer,
            trains: self.plan.trains[node],
            sums: self.sums(layer.sums()),
        };
        self.tokens.push(spec);
        let token = self.tokens.len() - 1;
        self.passes.push(Pass::Token { token, x, y });
        Some(Part::Token(token))
    }

    fn token_grad(&mut self, token: usize, input: NodeId, dy: Buffer) {
        let (layer, trains) = (self.tokens[token].layer, self.tokens[token].trains);
        if trains {
            let x = self.again(input);
            self.passes.push(Pass::TokenSums { token, x, dy });
        }
        if !self.plan.gradient[input] {
            return;
        }
        if layer.passes_gradients_on() {
            return self.give(input, dy);
        }
        let dx = self.buffer(input);
        let x = layer.reads_input().then(|| self.again(input));
        self.passes.push(Pass::TokenGrad { token, x, dy, dx });
        self.give(input, dx);
    }

    /// The maps that a concatenation joins, and where.
    fn parts(&self, layer: &Layer) -> Vec<(NodeId, Channels)> {
        let nodes = self.graph.nodes();
        let all = nodes[layer.root].shape.channels();
        let mut first = 0;
        // A flattened map's memory has another shape.
        let inputs = layer.inputs.iter().zip(&nodes[layer.root].inputs);
        let part = |(&id, &input): (&NodeId, &NodeId)| {
            let count = nodes[input].shape.channels();
            first += count;
            let first = first - count;
            (id, Channels { first, count, all })
        };
        inputs.map(part).collect()
    }

    fn kernel(&mut self, layer: &Layer) -> usize {
        let trains = |id: NodeId| self.plan.trains[id];
        let conv_trains = trains(layer.root);
        let norm_trains = layer.norm.is_some_and(trains);
        let params = self.graph.params(layer.root);
        let has_bias = params.iter().any(|spec| spec.kind == ParamKind::Bias);
        let needs = Needs {
            input: self.plan.gradient[layer.input],
            kernel: conv_trains || norm_trains,
            bias: norm_trains || (conv_trains && has_bias),
        };
        let mut spec = KernelSpec::new(self.graph, layer, needs);
        spec.kernel_sum = self.sums(spec.kernel_elements());
        spec.bias_sum = self.sums(spec.filters);
        spec.trains = [conv_trains, norm_trains];
        self.kernels.push(spec);
        self.kernels.len() - 1
    }

    fn norm(&mut self, node: NodeId, epsilon: f64, momentum: f64) -> usize {
        let shape = self.graph.nodes()[node].shape;
        let channels = shape.channels();
        let spec = NormSpec {
            node,
            epsilon,
            momentum,
            channels,
            rows: shape.elements() / channels.max(1),
            by_batch: self.plan.batch_statistics[node],
            trains: self.plan.trains[node],
            moments: self.sums(2 * channels),
            sums: self.sums(2 * channels),
        };
        self.norms.push(spec);
        self.norms.len() - 1
    }

    fn backward(&mut self, layer: &Layer, part: Part) {
        if !self.plan.gradient[layer.output] {
            return;
        }
        // Without a gradient no way leads from here to the loss.
        let Some(dy) = self.gradients[layer.output].take() else {
            return;
        };
        let mut activation = layer.activation;
        // A norm's own passes find the gradient of a clamp from its input.
        let alone = matches!(part, Part::Norm(_)) && layer.residual.is_none();
        if activation != Activation::Linear && !alone {
            let of = match activation.bounds() {
                Some(_) => layer.output,
                None => layer.input,
            };
            let of = self.again(of);
            self.passes.push(Pass::ActivateGrad { of, activation, dy });
            activation = Activation::Linear;
        }
        let input = layer.input;
        let needed = self.plan.gradient[input];
        let dims = map(self.graph.nodes()[input].shape);
        match (part, self.graph.nodes()[layer.root].op) {
            (Part::Kernel(kernel), _) => {
                let needs = self.kernels[kernel].needs;
                if needs.kernel {
                    let (x, norm) = self.again_for(layer);
                    self.passes.push(Pass::KernelGrad {
                        kernel,
                        norm,
                        x,
                        dy,
                    });
                }
                if needs.bias {
                    self.passes.push(Pass::BiasGrad { kernel, dy });
                }
                if needed {
                    let (dx, add) = self.gradient(input);
                    self.passes.push(Pass::InputGrad {
                        kernel,
                        dy,
                        dx,
                        add,
                    });
                }
            }
            (Part::Norm(norm), _) => {
                let NormSpec {
                    by_batch, trains, ..
                } = self.norms[norm];
                if by_batch || trains {
                    let x = self.again(input);
                    self.passes.push(Pass::NormSums {
                        norm,
                        x,
                        activation,
                        dy,
                    });
                }
                if by_batch {
                    self.join(Join::Sums(norm));
                }
                if needed {
                    let (x, dx) = (self.again(input), self.buffer(input));
                    self.passes.push(Pass::NormGrad {
                        norm,
                        x,
                        activation,
                        dy,
                        dx,
                    });
                    self.give(input, dx);
                }
            }
            (Part::Token(token), _) => self.token_grad(token, input, dy),
            (Part::Dropout(mask), _) if needed => {
                let dx = self.buffer(input);
                self.passes.push(Pass::Dropout { mask, x: dy, y: dx });
                self.give(input, dx);
            }
            (_, Op::Pad(padding)) if needed => {
                let (dx, add) = self.gradient(input);
                self.passes.push(Pass::PadGrad {
                    dims,
                    padding,
                    dy,
                    dx,
                    add,
                });
            }
            (_, Op::Concat) => {
                for (id, channels) in self.parts(layer) {
                    if self.plan.gradient[id] {
                        let dx = self.buffer(id);
                        self.passes.push(Pass::PlaceGrad { channels, dy, dx });
                        self.give(id, dx);
                    }
                }
            }
            (_, Op::Multiply) => {
                let by = layer.inputs[1];
                if needed {
                    let (factors, dx) = (self.again(by), self.buffer(input));
                    self.passes.push(Pass::Gate {
                        dims,
                        x: dy,
                        factors,
                        y: dx,
                    });
                    self.give(input, dx);
                }
                if self.plan.gradient[by] {
                    let (x, to) = (self.again(input), self.buffer(by));
                    self.passes.push(Pass::GateGrad { dims, x, dy, to });
                    self.give(by, to);
                }
            }
            (_, ref op @ (Op::MaxPool { .. } | Op::AvgPool { .. })) if needed => {
                if let Some(pool) = pool(op, dims) {
                    let (x, dx) = (self.again(input), self.buffer(input));
                    self.passes.push(Pass::PoolGrad { pool, x, dy, dx });
                    self.give(input, dx);
                }
            }
            (_, Op::GlobalAvgPool) if needed => {
                let dx = self.buffer(input);
                self.passes.push(Pass::GlobalAvgGrad { dims, dy, dx });
                self.give(input, dx);
            }
            (_, Op::GlobalMaxPool) if needed => {
                let (x, dx) = (self.again(input), self.buffer(input));
                self.passes.push(Pass::GlobalMaxGrad { dims, x, dy, dx });
                self.give(input, dx);
            }
            (_, Op::Add | Op::Activation(_)) if needed => {
                let shared = layer.residual.is_some_and(|id| self.plan.gradient[id]);
                match self.gradients[input] {
                    None if shared => {
                        let to = self.buffer(input);
                        self.passes.push(Pass::Copy { from: dy, to });
                        self.gradients[input] = Some(to);
                    }
                    _ => self.give(input, dy),
                }
            }
            _ => {}
        }
        if let Some(residual) = layer.residual
            && self.plan.gradient[residual]
        {
            self.give(residual, dy);
        }
    }

    /// The buffer for the gradient to a node, and whether it holds a part of it already.
    fn gradient(&mut self, node: NodeId) -> (Buffer, bool) {
        match self.gradients[node] {
            Some(buffer) => (buffer, true),
            None => {
                let buffer = self.buffer(node);
                self.gradients[node] = Some(buffer);
                (buffer, false)
            }
        }
    }

    /// Makes a buffer that nothing else will change the gradient to a node, or adds it to that.
    fn give(&mut self, node: NodeId, buffer: Buffer) {
        match self.gradients[node] {
            Some(to) => self.passes.push(Pass::AddInto { from: buffer, to }),
            None => self.gradients[node] = Some(buffer),
        }
    }
}

fn room(shape: Shape, input: Option<usize>) -> Room {
    Room {
        elements: shape.elements(),
        channels: shape.channels(),
        input,
    }
}

/// A pool with a window over maps of this size.
fn pool(op: &Op, dims: MapDims) -> Option<Pool> {
    let (window, mean) = match *op {
        Op::MaxPool { window } => (window, None),
        Op::AvgPool {
            window,
            count_include_pad,
        } => (window, Some(count_include_pad)),
        _ => return None,
    };
    Some(Pool { dims, window, mean })
}

/// A shape as a map; a vector is one pixel.
pub(super) fn map(shape: Shape) -> MapDims {
    match shape {
        Shape::Map {
            channels,
            height,
            width,
        } => MapDims {
            height,
            width,
            channels,
        },
        Shape::Vector(channels) => MapDims {
            height: 1,
            width: 1,
            channels,
        },
    }
}
