//! Compiled inference on a GPU: the same steps, each over a whole batch.

use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Result, Tensor};

use super::fuse::{Fuser, Kernel, Packing, Step, Weights};
use crate::activation::Activation;
use crate::engine::device;
use crate::engine::forward;
use crate::engine::layout::Layout;
use crate::engine::memory::{self, Slice};
use crate::engine::params::Params;
use crate::gpu::{self, Address, Block, Channelwise, Epilogue, Gpu, Input, Life, Reading, Real};
use crate::graph::{Graph, NodeId, Shape};
use crate::ops::kernel::MapDims;

/// Keeps kernels in a GPU's memory, scaled and by tap.
#[derive(Debug)]
struct ThereOnly<'a>(&'a Gpu);

/// A kernel in a GPU's memory.
#[derive(Debug)]
struct Uploaded {
    block: Block,
    filters: usize,
    groups: usize,
}

impl ThereOnly<'_> {
    fn upload(&self, weights: &Weights<'_>, depthwise: bool) -> Result<Block> {
        let [filters, channels, height, width] = weights.dims;
        let row = channels * height * width;
        let mut values = weights.values.to_vec();
        if let Some(scale) = weights.scale {
            for (row, scale) in values.chunks_mut(row.max(1)).zip(scale) {
                row.iter_mut().for_each(|value| *value *= scale);
            }
        }
        let layout = Layout::ByTap {
            channels: if depthwise { filters } else { channels },
            area: height * width,
        };
        let values = layout.there(&values);
        // Depthwise kernels are few values: they stay in f32.
        let real = if depthwise {
            Real::Single
        } else {
            self.0.real()
        };
        Ok(stored(self.0, &values, real)?)
    }
}

/// Values in a GPU's memory.
fn stored(gpu: &Gpu, values: &[f32], real: Real) -> gpu::Result<Block> {
    let block = gpu.block(values.len() * real.bytes())?;
    match real {
        Real::Single => gpu
            .backend()
            .upload(bytemuck::cast_slice(values), block.address())?,
        Real::Brain => gpu.upload_map(values, block.address())?,
    }
    Ok(block)
}

impl Packing for ThereOnly<'_> {
    type Conv = Uploaded;
    type Depthwise = Uploaded;

    fn conv(&self, weights: Weights<'_>) -> Result<Uploaded> {
        let [filters, channels, ..] = weights.dims;
        Ok(Uploaded {
            block: self.upload(&weights, false)?,
            filters,
            groups: (weights.input.channels / channels.max(1)).max(1),
        })
    }

    fn depthwise(&self, weights: Weights<'_>) -> Result<Uploaded> {
        let [filters, ..] = weights.dims;
        Ok(Uploaded {
            block: self.upload(&weights, true)?,
            filters,
            groups: filters,
        })
    }
}

/// What a step reads besides maps.
#[derive(Debug)]
struct Room {
    /// Bias, or scale, or gamma, or token, or position; what comes second; both in f32.
    first: Option<Block>,
    second: Option<Block>,
    /// The bias as maps are stored.
    real: Option<Block>,
    /// A clamp of what it reads.
    reading: Activation,
}

impl Room {
    fn bias(&self) -> Option<gpu::Bias> {
        let single = self.first.as_ref()?.address();
        let real = self.real.as_ref().map_or(single, Block::address);
        Some(gpu::Bias { single, real })
    }

    fn addresses(&self) -> [Address; 2] {
        [&self.first, &self.second].map(|block| block.as_ref().map_or(0, Block::address))
    }
}

/// Steps with what they read, in a GPU's memory.
#[derive(Debug)]
pub(super) struct OnDevice {
    gpu: Gpu,
    steps: Vec<StepThere>,
    /// Values per picture of each node's output.
    elements: Vec<usize>,
    inputs: Vec<NodeId>,
    computed: Vec<NodeId>,
    /// What the caller gets, in order: an input, or one of `computed`.
    outputs: Vec<(bool, usize, Shape)>,
    batch: Mutex<Option<Batch>>,
}

/// A step, its kernels taken out of the life of their packing.
#[derive(Debug)]
struct StepThere {
    work: Work,
    room: Room,
    input: NodeId,
    residual: Option<NodeId>,
    activation: Activation,
    output: NodeId,
}

#[derive(Debug)]
enum Work {
    Conv(Uploaded, crate::geometry::Window, MapDims),
    Depthwise(Uploaded, crate::geometry::Window, MapDims),
    Affine(usize),
    Pad(MapDims, crate::geometry::Padding),
    Pool(MapDims, crate::geometry::Window, Option<bool>),
    Place {
        channels: usize,
        first: usize,
        all: usize,
    },
    Token(crate::engine::tokens::TokenLayer),
    Gate(MapDims),
    GlobalAvg(MapDims),
    GlobalMax(MapDims),
}

/// Where values of a batch lie.
#[derive(Debug)]
struct Batch {
    pictures: usize,
    arena: Block,
    /// Of each node's output.
    offsets: Vec<usize>,
}

impl OnDevice {
    pub(super) fn new(
        gpu: &Gpu,
        graph: &Graph,
        params: &Params,
        inputs: &[NodeId],
        outputs: &[NodeId],
    ) -> Result<Self> {
        let _turn = gpu.turn();
        let order = forward::between(graph, inputs, outputs)?;
        let packing = ThereOnly(gpu);
        let fuser = Fuser::new(&packing, (graph, params), inputs, outputs, &order);
        let steps = fuser.steps(&order)?;
        let mut computed = Vec::new();
        let mut sources = Vec::new();
        for &id in outputs {
            let canonical = fuser.canonical(id);
            let shape = graph.nodes()[id].shape;
            sources.push(match inputs.iter().position(|&it| it == canonical) {
                Some(given) => (true, given, shape),
                None => {
                    let known = computed.iter().position(|&node| node == canonical);
                    let index = known.unwrap_or_else(|| {
                        computed.push(canonical);
                        computed.len() - 1
                    });
                    (false, index, shape)
                }
            });
        }
        let steps = steps.into_iter().map(|step| there(gpu, step));
        let mut steps: Vec<StepThere> = steps.collect::<Result<_>>()?;
        clamp_where_read(&mut steps, &computed);
        Ok(Self {
            gpu: gpu.clone(),
            steps,
            elements: graph.nodes().iter().map(|n| n.shape.elements()).collect(),
            inputs: inputs.to_vec(),
            computed,
            outputs: sources,
            batch: Mutex::default(),
        })
    }

    /// Runs a batch whose dimensions have been checked.
    pub(super) fn run(&self, inputs: &[Tensor], pictures: usize) -> Result<Vec<Tensor>> {
        let _turn = self.gpu.turn();
        let mut kept = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|batch| batch.pictures != pictures) {
            let earlier = kept.take();
            *kept = Some(self.plan(pictures, earlier)?);
        }
        let mut computed = Vec::with_capacity(self.computed.len());
        if let (Some(batch), true) = (&*kept, pictures > 0) {
            for (&id, input) in self.inputs.iter().zip(inputs) {
                let host = memory::to_host(input)?;
                self.gpu.upload_map(&Slice::of(&host)?, batch.at(id))?;
            }
            self.steps
                .iter()
                .try_for_each(|step| self.step(step, batch))?;
            for &id in &self.computed {
                let count = pictures * self.elements[id];
                computed.push(self.gpu.download_map(batch.at(id), count)?);
            }
        } else {
            computed.resize(self.computed.len(), Vec::new());
        }
        let outputs = self.outputs.iter().map(|&(given, index, shape)| {
            let dims = shape.batched(pictures);
            match given {
                true => inputs[index].reshape(dims),
                false => Tensor::from_slice(&computed[index], dims, &Device::Cpu),
            }
        });
        outputs.collect()
    }

    /// Queues the steps so many times for values that are there already, and waits: what the device
    /// alone takes.
    pub(super) fn repeat(&self, times: usize) -> Result<()> {
        let _turn = self.gpu.turn();
        let kept = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(batch) = &*kept {
            for _ in 0..times {
                self.steps
                    .iter()
                    .try_for_each(|step| self.step(step, batch))?;
            }
            if let Some(&id) = self.computed.first() {
                self.gpu.download_map(batch.at(id), 1)?;
            }
        }
        Ok(())
    }

    /// Where values of so many pictures lie, in the memory of an earlier batch if it is large enough.
    fn plan(&self, pictures: usize, earlier: Option<Batch>) -> Result<Batch> {
        let mut lives: Vec<Option<Life>> = vec![None; self.elements.len()];
        let end = self.steps.len() + 1;
        let mut live = |id: NodeId, at: usize| {
            let bytes = self.elements[id] * pictures * self.gpu.real().bytes();
            let life = lives[id].get_or_insert(Life {
                passes: at..at + 1,
                bytes,
            });
            life.passes.end = life.passes.end.max(at + 1);
        };
        self.inputs.iter().for_each(|&id| live(id, 0));
        for (at, step) in self.steps.iter().enumerate() {
            live(step.input, at);
            step.residual.iter().for_each(|&id| live(id, at));
            live(step.output, at);
        }
        self.computed.iter().for_each(|&id| live(id, end));
        let (offsets, bytes) = gpu::plan(&lives);
        let kept = earlier.map(|batch| batch.arena);
        let arena = match kept.filter(|arena| arena.bytes() >= bytes) {
            Some(arena) => arena,
            None => self.gpu.block(bytes)?,
        };
        Ok(Batch {
            pictures,
            arena,
            offsets,
        })
    }

    fn step(&self, step: &StepThere, batch: &Batch) -> Result<()> {
        let (gpu, pictures) = (&self.gpu, batch.pictures);
        let maps = |dims: MapDims| Input {
            pictures,
            height: dims.height,
            width: dims.width,
            channels: dims.channels,
        };
        let (x, y) = (batch.at(step.input), batch.at(step.output));
        let residual = step.residual.map(|id| batch.at(id));
        let (room, activation) = (&step.room, step.activation);
        match &step.work {
            Work::Conv(kernel, window, dims) => {
                let epilogue = Epilogue {
                    bias: room.bias(),
                    residual,
                    relu: false,
                };
                let shape = (kernel.filters, kernel.groups);
                let (kernel, end) = (kernel.block.address(), (epilogue, activation));
                gpu.convolve(x, maps(*dims), kernel, shape, window, end, y)?;
            }
            Work::Depthwise(kernel, window, dims) => {
                let reading = Reading {
                    clamp: room.reading,
                    ..Reading::default()
                };
                let bias = room.bias().map(|bias| bias.single);
                let (kernel, end) = ((kernel.block.address(), bias), (residual, activation));
                gpu.depthwise(x, maps(*dims), reading, kernel, window, end, y)?;
            }
            Work::Affine(channels) => {
                let [scale, offset] = room.addresses();
                let by = Channelwise {
                    mean: None,
                    scale: Some(scale),
                    offset: Some(offset),
                };
                let count = pictures * self.elements[step.output];
                gpu.affine(x, [count, *channels], by, residual, activation, y)?;
            }
            Work::Pad(dims, padding) => gpu.pad(x, maps(*dims), *padding, y)?,
            Work::Pool(dims, window, mean) => gpu.pool(x, maps(*dims), window, *mean, y)?,
            &Work::Place {
                channels,
                first,
                all,
            } => {
                let input = Input {
                    pictures: pictures * self.elements[step.input] / channels.max(1),
                    height: 1,
                    width: 1,
                    channels,
                };
                gpu.place(x, input, [first, all], y)?;
            }
            Work::Token(layer) => {
                device::token(gpu, *layer, room.addresses(), pictures, x, y)?;
            }
            Work::Gate(dims) => gpu.gate(x, residual.unwrap_or(0), maps(*dims), y)?,
            Work::GlobalAvg(dims) => gpu.global_avg(x, maps(*dims), y)?,
            Work::GlobalMax(dims) => gpu.global_max(x, maps(*dims), y)?,
        }
        Ok(())
    }
}

impl Batch {
    fn at(&self, node: NodeId) -> Address {
        self.arena.address() + self.offsets[node] as Address
    }
}

/// Uploads what a step reads.
fn there(gpu: &Gpu, step: Step<ThereOnly<'_>>) -> Result<StepThere> {
    let single = |values: &[f32]| stored(gpu, values, Real::Single);
    let mut room = Room {
        first: None,
        second: None,
        real: None,
        reading: Activation::Linear,
    };
    let mut bias = |bias: Option<Vec<f32>>| -> Result<()> {
        if let Some(bias) = bias {
            room.first = Some(single(&bias)?);
            if gpu.real() == Real::Brain {
                room.real = Some(stored(gpu, &bias, Real::Brain)?);
            }
        }
        Ok(())
    };
    let work = match step.kernel {
        Kernel::Conv {
            kernel,
            window,
            dims,
            bias: values,
        } => {
            bias(values)?;
            Work::Conv(kernel, window, dims)
        }
        Kernel::Depthwise {
            kernel,
            window,
            dims,
            bias: values,
        } => {
            bias(values)?;
            Work::Depthwise(kernel, window, dims)
        }
        Kernel::Affine { scale, offset } => {
            room.first = Some(single(&scale)?);
            room.second = Some(single(&offset)?);
            Work::Affine(scale.len())
        }
        Kernel::Pad { dims, padding } => Work::Pad(dims, padding),
        Kernel::MaxPool { dims, window } => Work::Pool(dims, window, None),
        Kernel::AvgPool {
            dims,
            window,
            count_include_pad,
        } => Work::Pool(dims, window, Some(count_include_pad)),
        Kernel::Place {
            channels,
            first,
            all,
        } => Work::Place {
            channels,
            first,
            all,
        },
        Kernel::Token { layer, values } => {
            let first = layer.first_values(values.len());
            if !values.is_empty() {
                room.first = Some(single(&values[..first])?);
            }
            if first < values.len() {
                room.second = Some(single(&values[first..])?);
            }
            Work::Token(layer)
        }
        Kernel::Gate(dims) => Work::Gate(dims),
        Kernel::GlobalAvg(dims) => Work::GlobalAvg(dims),
        Kernel::GlobalMax(dims) => Work::GlobalMax(dims),
    };
    Ok(StepThere {
        work,
        room,
        input: step.input,
        residual: step.residual,
        activation: step.activation,
        output: step.output,
    })
}

/// Leaves a clamp that a library does not know to the depthwise convolution that alone reads its
/// output: a pass over the largest maps less.
fn clamp_where_read(steps: &mut [StepThere], wanted: &[NodeId]) {
    for at in 0..steps.len() {
        let step = &steps[at];
        let clamps = step.activation.bounds().is_some() && step.activation != Activation::Linear;
        let alone = matches!(step.work, Work::Conv(..)) && step.activation != Activation::Relu;
        let output = step.output;
        if !clamps || !alone || wanted.contains(&output) {
            continue;
        }
        let reads = |step: &StepThere| step.input == output || step.residual == Some(output);
        let readers: Vec<usize> = (0..steps.len()).filter(|&i| reads(&steps[i])).collect();
        if let &[reader] = readers.as_slice()
            && let Work::Depthwise(..) = steps[reader].work
            && steps[reader].residual != Some(output)
        {
            steps[reader].room.reading = steps[at].activation;
            steps[at].activation = Activation::Linear;
        }
    }
}
