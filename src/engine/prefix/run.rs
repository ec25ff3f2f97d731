//! Running the steps: groups of pictures in parallel, each on one thread with an arena of its own.

use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::fuse::{Fuser, Host, Kernel, Step};
use super::schedule::{MOST_PICTURES, Place, Schedule, Stage};
use crate::engine::forward;
use crate::engine::memory::{self, Slice};
use crate::engine::params::Params;
use crate::graph::{Graph, NodeId, Shape};
use crate::ops::kernel::{self, Epilogue};

/// Steps with planned memory.
#[derive(Debug)]
pub(super) struct Compiled {
    steps: Vec<Step>,
    schedule: Schedule,
    /// Values per picture of each node's output.
    elements: Vec<usize>,
    /// Nodes that are computed into outputs, each once.
    computed: Vec<NodeId>,
    /// What the caller gets, in order.
    outputs: Vec<(Source, Shape)>,
    scratch: usize,
    arenas: Mutex<Vec<Arena>>,
}

/// Where an output comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// It is an input, perhaps in other dimensions.
    Given(usize),
    /// It is the n-th computed one.
    Computed(usize),
}

/// The memory of one thread, kept from batch to batch.
#[derive(Debug)]
struct Arena {
    slots: Vec<Vec<f32>>,
    scratch: Vec<f32>,
}

impl Compiled {
    pub(super) fn new(
        graph: &Graph,
        params: &Params,
        inputs: &[NodeId],
        outputs: &[NodeId],
    ) -> Result<Self> {
        let order = forward::between(graph, inputs, outputs)?;
        let fuser = Fuser::new(&Host, (graph, params), inputs, outputs, &order);
        let steps = fuser.steps(&order)?;
        let elements: Vec<usize> = graph.nodes().iter().map(|n| n.shape.elements()).collect();
        let mut computed = Vec::new();
        let mut sources = Vec::new();
        for &id in outputs {
            let canonical = fuser.canonical(id);
            let source = match inputs.iter().position(|&input| input == canonical) {
                Some(given) => Source::Given(given),
                None => {
                    let known = computed.iter().position(|&node| node == canonical);
                    Source::Computed(known.unwrap_or_else(|| {
                        computed.push(canonical);
                        computed.len() - 1
                    }))
                }
            };
            sources.push((source, graph.nodes()[id].shape));
        }
        let schedule = Schedule::plan(&steps, &elements, inputs, &computed);
        let scratch = steps.iter().map(scratch).max().unwrap_or(0);
        Ok(Self {
            steps,
            schedule,
            elements,
            computed,
            outputs: sources,
            scratch,
            arenas: Mutex::new(Vec::new()),
        })
    }

    /// Bytes that it holds and that a batch takes on so many threads, its inputs apart.
    pub(super) fn memory(&self, batch: usize, threads: usize) -> usize {
        let held: usize = self.steps.iter().map(|step| values(&step.kernel)).sum();
        let arena = self.schedule.slots.iter().sum::<usize>() + self.scratch;
        let groups = batch.div_ceil(group_size(batch, threads));
        let outputs = self.computed.iter().map(|&id| self.elements[id]);
        let values = held + arena * groups.min(threads) + batch * outputs.sum::<usize>();
        values * size_of::<f32>()
    }

    /// Runs a batch whose dimensions have been checked.
    pub(super) fn run(&self, inputs: &[Tensor], batch: usize) -> Result<Vec<Tensor>> {
        let inputs: Vec<Tensor> = inputs.iter().map(memory::to_host).collect::<Result<_>>()?;
        let mut buffers: Vec<Vec<f32>> = self
            .computed
            .iter()
            .map(|&id| vec![0.0; batch * self.elements[id]])
            .collect();
        {
            let slices: Vec<Slice<'_>> = inputs.iter().map(Slice::of).collect::<Result<_>>()?;
            let group = group_size(batch, rayon::current_num_threads());
            let mut groups: Vec<Group<'_>> = (0..batch)
                .step_by(group.max(1))
                .map(|first| {
                    let pictures = group.min(batch - first);
                    Group {
                        pictures,
                        inputs: slices
                            .iter()
                            .map(|slice| part(slice, batch, first, pictures))
                            .collect(),
                        outputs: Vec::new(),
                    }
                })
                .collect();
            for (buffer, &id) in buffers.iter_mut().zip(&self.computed) {
                let chunks = buffer.chunks_mut((group * self.elements[id]).max(1));
                for (group, chunk) in groups.iter_mut().zip(chunks) {
                    group.outputs.push(chunk);
                }
            }
            groups
                .into_par_iter()
                .for_each(|group| self.run_group(group));
        }
        let computed: Vec<Tensor> = buffers
            .into_iter()
            .map(|buffer| {
                let count = buffer.len();
                Tensor::from_vec(buffer, count, &Device::Cpu)
            })
            .collect::<Result<_>>()?;
        self.outputs
            .iter()
            .map(|&(source, shape)| match source {
                Source::Given(index) => inputs[index].reshape(shape.batched(batch)),
                Source::Computed(index) => computed[index].reshape(shape.batched(batch)),
            })
            .collect()
    }

    fn run_group(&self, group: Group<'_>) {
        let mut arena = self.take_arena();
        let Group {
            pictures,
            inputs,
            outputs,
        } = group;
        let slots = arena.slots.iter_mut().map(Vec::as_mut_slice);
        let mut places = Places {
            inputs,
            slots: slots.collect(),
            outputs,
        };
        for stage in &self.schedule.stages {
            for first in (0..pictures).step_by(stage.pictures) {
                let count = stage.pictures.min(pictures - first);
                self.run_stage(stage, first, count, &mut places, &mut arena.scratch);
            }
        }
        self.arenas
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(arena);
    }

    /// Runs a stage for the pictures `first..first + count` of the group.
    fn run_stage(
        &self,
        stage: &Stage,
        first: usize,
        count: usize,
        places: &mut Places<'_>,
        scratch: &mut [f32],
    ) {
        for step in &self.steps[stage.steps.clone()] {
            let place = |id: NodeId| self.schedule.places[id];
            let range = |id: NodeId| {
                let start = if place(id).whole() { first } else { 0 };
                start * self.elements[id]..(start + count) * self.elements[id]
            };
            let output = places.take(place(step.output));
            let x = &places.read(place(step.input))[range(step.input)];
            let residual = step.residual.map(|id| &places.read(place(id))[range(id)]);
            let y = &mut output[range(step.output)];
            run_step(step, x, residual, count, y, scratch);
            places.put_back(place(step.output), output);
        }
    }

    fn take_arena(&self) -> Arena {
        let mut arenas = self.arenas.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = arenas.pop();
        drop(arenas);
        kept.unwrap_or_else(|| Arena {
            slots: self.schedule.slots.iter().map(|&n| vec![0.0; n]).collect(),
            scratch: vec![0.0; self.scratch],
        })
    }
}

/// Some pictures of a batch.
struct Group<'a> {
    pictures: usize,
    inputs: Vec<&'a [f32]>,
    outputs: Vec<&'a mut [f32]>,
}

/// All memory that a group reads and writes.
struct Places<'a> {
    inputs: Vec<&'a [f32]>,
    slots: Vec<&'a mut [f32]>,
    outputs: Vec<&'a mut [f32]>,
}

impl<'a> Places<'a> {
    fn read(&self, place: Place) -> &[f32] {
        match place {
            Place::Input(index) => self.inputs[index],
            Place::Output(index) => self.outputs[index],
            Place::Slot { index, .. } => self.slots[index],
            Place::Nowhere => &[],
        }
    }

    /// Takes the memory that a step writes out of the rest, which it reads.
    fn take(&mut self, place: Place) -> &'a mut [f32] {
        self.writable(place).map(std::mem::take).unwrap_or_default()
    }

    fn put_back(&mut self, place: Place, memory: &'a mut [f32]) {
        if let Some(room) = self.writable(place) {
            *room = memory;
        }
    }

    fn writable(&mut self, place: Place) -> Option<&mut &'a mut [f32]> {
        match place {
            Place::Input(_) | Place::Nowhere => None,
            Place::Output(index) => self.outputs.get_mut(index),
            Place::Slot { index, .. } => self.slots.get_mut(index),
        }
    }
}

fn run_step(
    step: &Step,
    x: &[f32],
    residual: Option<&[f32]>,
    count: usize,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let activation = step.activation;
    match &step.kernel {
        Kernel::Conv {
            kernel,
            window,
            dims,
            bias,
        } => {
            let epilogue = Epilogue {
                bias: bias.as_deref(),
                residual,
                activation,
                accumulate: false,
            };
            kernel::conv(x, count, *dims, kernel, window, epilogue, y, scratch);
        }
        Kernel::Depthwise {
            kernel,
            window,
            dims,
            bias,
        } => {
            let epilogue = Epilogue {
                bias: bias.as_deref(),
                residual,
                activation,
                accumulate: false,
            };
            kernel::depthwise(x, count, *dims, kernel, window, epilogue, y);
        }
        Kernel::Affine { scale, offset } => {
            kernel::affine(x, scale, offset, residual, activation, y);
        }
        Kernel::Pad { dims, padding } => kernel::pad(x, *dims, *padding, y),
        Kernel::MaxPool { dims, window } => kernel::max_pool(x, count, *dims, window, y),
        Kernel::AvgPool {
            dims,
            window,
            count_include_pad,
        } => kernel::avg_pool(x, count, *dims, window, *count_include_pad, y),
        Kernel::Place {
            channels,
            first,
            all,
        } => kernel::place(x, *channels, y, *first, *all),
        Kernel::Token { layer, values } => layer.forward(values, x, y, scratch),
        Kernel::Gate(dims) => kernel::gate(x, residual.unwrap_or_default(), *dims, y),
        Kernel::GlobalAvg(dims) => kernel::global_avg(x, count, *dims, y),
        Kernel::GlobalMax(dims) => kernel::global_max(x, count, *dims, y),
    }
}

/// Values that a kernel holds.
fn values(kernel: &Kernel) -> usize {
    match kernel {
        Kernel::Conv { kernel, .. } => kernel.values(),
        Kernel::Depthwise { window, dims, .. } => {
            window.kernel[0] * window.kernel[1] * dims.channels
        }
        Kernel::Token { values, .. } => values.len(),
        Kernel::Affine { scale, offset } => scale.len() + offset.len(),
        Kernel::Pad { .. }
        | Kernel::MaxPool { .. }
        | Kernel::AvgPool { .. }
        | Kernel::Place { .. }
        | Kernel::Gate(_)
        | Kernel::GlobalAvg(_)
        | Kernel::GlobalMax(_) => 0,
    }
}

fn scratch(step: &Step) -> usize {
    match &step.kernel {
        Kernel::Conv {
            kernel,
            window,
            dims,
            ..
        } => kernel::conv_scratch(*dims, kernel, window),
        Kernel::Token { layer, .. } => layer.scratch(),
        _ => 0,
    }
}

/// Pictures a group: as many as may be, but so that all threads get the same number of groups.
fn group_size(batch: usize, threads: usize) -> usize {
    let threads = threads.max(1);
    let rounds = batch.div_ceil(threads * MOST_PICTURES).max(1);
    batch.div_ceil(threads * rounds).max(1)
}

fn part(slice: &[f32], batch: usize, first: usize, pictures: usize) -> &[f32] {
    let elements = slice.len() / batch.max(1);
    &slice[first * elements..(first + pictures) * elements]
}
