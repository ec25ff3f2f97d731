//! Running a program: chunks of the batch in parallel, each on one thread in an arena of its own.
//!
//! A chunk's size follows from the batch and the graph alone, and chunks are summed in their order,
//! so that the bits do not depend on the number of threads.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::kernels::{Banded, KernelValues, bias_grad, kernel_grad, kernel_grad_of};
use super::lower::Program;
use super::memory::{Memory, NormValues, Span};
use super::plan::Plan;
use super::program::{Channels, Join, Pass, Pool, Stage, Step, TokenSpec};
use super::sums::{Sums, total};
use super::team::Team;
use super::together::Share;
use super::{Gradients, LossGradient, Part, Stepped};
use crate::activation::Activation;
use crate::engine::forward;
use crate::engine::memory::{self, Slice};
use crate::engine::params::Params;
use crate::graph::{Graph, Op, ParamKind};
use crate::ops::kernel::{self, Epilogue};
use crate::ops::{dropout, norm};
use crate::rng;

/// Pictures of a chunk, at least: enough rows for the products of small maps.
const CHUNK: usize = 4;

/// Bytes that the sums of all chunks may take, as long as there are at least [`LEAST_CHUNKS`].
const SUM_BYTES: usize = 256 << 20;
const LEAST_CHUNKS: usize = 2;

/// A training step compiled for the CPU.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) program: Program,
    /// Most pictures of a batch that are computed at a time; all of them if `None`.
    at_once: Option<usize>,
    arenas: Mutex<Vec<Arena>>,
    sums: Mutex<Vec<Sums>>,
}

/// The memory of one chunk, kept from step to step.
#[derive(Debug, Default)]
struct Arena {
    slots: Vec<Vec<f32>>,
    scratch: Vec<f32>,
    growing: [Vec<f32>; 2],
}

/// Some pictures of a batch, and what they sum up.
pub(super) struct Chunk {
    /// Its number among those of this process.
    pub(super) index: usize,
    pub(super) pictures: Range<usize>,
    arena: Option<Arena>,
    pub(super) sums: Sums,
    pub(super) logits: Vec<f32>,
}

/// What the passes of a step read.
pub(super) struct Values<'a> {
    pub(super) inputs: Vec<Slice<'a>>,
    /// Pictures of the whole batch, and the first of those that the inputs are of.
    pub(super) batch: usize,
    pub(super) offset: usize,
    /// Pictures of a chunk.
    pub(super) size: usize,
    pub(super) kernels: Vec<KernelValues>,
    pub(super) norms: Vec<NormValues>,
    pub(super) tokens: Vec<Vec<f32>>,
    pub(super) masks: Vec<Vec<f32>>,
    pub(super) scratch: usize,
    pub(super) loss: &'a LossGradient<'a>,
}

impl Values<'_> {
    /// A norm and the activation behind it.
    fn norm(&self, (norm, activation): (usize, Activation)) -> impl Fn(&[f32], &mut [f32]) {
        move |x: &[f32], y: &mut [f32]| self.norms[norm].forward(x, None, activation, y)
    }
}

impl Compiled {
    pub(super) fn new(graph: &Graph, plan: &Plan) -> Option<Self> {
        Some(Self {
            program: Program::new(graph, plan, CHUNK)?,
            at_once: None,
            arenas: Mutex::default(),
            sums: Mutex::default(),
        })
    }

    /// Computes so many pictures at a time from now on, where batch norm lets them be apart: a
    /// smaller step in memory, with sums in the same order.
    pub(super) fn at_once(&mut self, pictures: Option<usize>) {
        let joined = self.program.stages.iter().any(|stage| stage.join.is_some());
        self.at_once = pictures.filter(|_| !joined);
    }

    pub(super) fn step(
        &self,
        graph: &Graph,
        plan: &Plan,
        params: &Params,
        part: Part<'_>,
        (seed, loss): (u64, &LossGradient<'_>),
        team: &dyn Team,
    ) -> Result<Stepped> {
        let batch = part.batch;
        let host = part.inputs.iter().map(memory::to_host);
        let host: Vec<Tensor> = host.collect::<Result<_>>()?;
        let mut step = self.values(graph, params, &host, batch, seed, loss)?;
        let (logits, statistics, sums) = match team.is_alone() {
            true => self.alone(graph, plan, params, &mut step)?,
            false => self.together(graph, plan, params, &mut step, team)?,
        };
        let gradients = self.gradients(graph, plan, params, &step, &sums)?;
        self.keep_sums(sums);
        let classes = graph.nodes()[graph.training_output()].shape.elements();
        Ok(Stepped {
            logits: Tensor::from_vec(logits, (batch, classes), &Device::Cpu)?,
            statistics,
            gradients,
        })
    }

    /// Logits, new statistics, and sums of all chunks, or of some.
    #[expect(clippy::type_complexity, reason = "three parts of one result")]
    fn alone(
        &self,
        graph: &Graph,
        plan: &Plan,
        params: &Params,
        step: &mut Values<'_>,
    ) -> Result<(Vec<f32>, Vec<(String, Tensor)>, Vec<Sums>)> {
        let batch = step.batch;
        let (size, round) = self.portions(batch);
        let (mut logits, mut statistics) = (Vec::new(), Vec::new());
        let mut sums: Vec<Sums> = Vec::new();
        for first in (0..batch).step_by(round) {
            let mut chunks = self.chunks(first..(first + round).min(batch), size);
            statistics.extend(self.run(graph, plan, params, step, &mut chunks, None)?);
            for chunk in chunks {
                logits.extend(chunk.logits);
                match sums.first_mut() {
                    // Later rounds go into the first sums, in the order that they would have anyway.
                    Some(total) if round < batch => {
                        total.add(&chunk.sums);
                        lock(&self.sums).push(chunk.sums);
                    }
                    _ => sums.push(chunk.sums),
                }
            }
        }
        Ok((logits, statistics, sums))
    }

    pub(super) fn keep_sums(&self, sums: Vec<Sums>) {
        lock(&self.sums).extend(sums);
    }

    pub(super) fn memory_of_sums(&self) -> Sums {
        let mut sums = lock(&self.sums).pop().unwrap_or_default();
        sums.resize(&self.program.blocks);
        sums
    }

    /// Pictures of the batch in chunks of a size, with memory for what they sum up.
    pub(super) fn chunks(&self, pictures: Range<usize>, size: usize) -> Vec<Chunk> {
        let end = pictures.end;
        let chunk = |(index, first)| Chunk {
            index,
            pictures: first..(first + size).min(end),
            arena: None,
            sums: self.memory_of_sums(),
            logits: Vec::new(),
        };
        pictures.step_by(size).enumerate().map(chunk).collect()
    }

    /// Runs all stages for these chunks; new values of running statistics.
    pub(super) fn run(
        &self,
        graph: &Graph,
        plan: &Plan,
        params: &Params,
        step: &mut Values<'_>,
        chunks: &mut [Chunk],
        mut share: Option<Share<'_>>,
    ) -> Result<Vec<(String, Tensor)>> {
        let mut statistics = Vec::new();
        let mut left = self.program.stages.len();
        // Chunks wait for one another only where something joins them: until then each goes its
        // own way, and those that have not begun take no memory.
        let joined = self.program.stages.split_inclusive(|it| it.join.is_some());
        for (index, stages) in joined.enumerate() {
            let first = self.program.stages.len() - left;
            left -= stages.len();
            let desk = share.as_ref().map(|share| share.desk);
            let run = |chunk: &mut Chunk| {
                for (number, stage) in stages.iter().enumerate() {
                    self.run_stage(stage, step, chunk)?;
                    if let Some(desk) = desk {
                        desk.leave(first + number, chunk.index, &mut chunk.sums);
                    }
                }
                if left == 0 {
                    lock(&self.arenas).extend(chunk.arena.take());
                }
                Ok::<_, candle_core::Error>(())
            };
            // To and fro: the chunks that were last to run are partly in cache still.
            let all = chunks.par_iter_mut().with_max_len(1);
            match index % 2 {
                0 => all.try_for_each(run)?,
                _ => all.rev().try_for_each(run)?,
            }
            match stages.last().and_then(|stage| stage.join) {
                Some(Join::Moments(norm)) => {
                    let spot = self.program.norms[norm].moments;
                    let parts = self.parts(norm, spot, chunks, share.as_ref())?;
                    statistics.extend(self.join_moments(graph, plan, params, norm, &parts, step)?);
                }
                Some(Join::Sums(norm)) => {
                    let spot = self.program.norms[norm].sums;
                    let parts = self.parts(norm, spot, chunks, share.as_ref())?;
                    self.join_sums(norm, &parts, step);
                    if let Some(share) = &mut share {
                        let total = share
                            .totals
                            .at_mut(spot, 2 * self.program.norms[norm].channels);
                        total.fill(0.0);
                        let mut parts = parts.chunks(total.len().max(1));
                        total.copy_from_slice(parts.next().unwrap_or_default());
                        parts.for_each(|part| kernel::add_into(part, total));
                    }
                }
                None => {}
            }
        }
        Ok(statistics)
    }

    /// Pictures a chunk, and pictures that are computed at a time.
    pub(super) fn portions(&self, batch: usize) -> (usize, usize) {
        let most = SUM_BYTES / (self.program.sums * size_of::<f32>()).max(1);
        let most = most.max(LEAST_CHUNKS);
        match self.at_once {
            // Two chunks, so that two threads have work, as long as there are two pictures.
            Some(pictures) => {
                let size = (pictures / 2).clamp(1, CHUNK).max(pictures.div_ceil(most));
                (size, pictures.max(1) / size * size)
            }
            None => (CHUNK.max(batch.div_ceil(most)), batch.max(1)),
        }
    }

    /// Bytes that steps of a batch hold and take on so many threads, inputs and gradients apart.
    pub(super) fn memory(
        &self,
        graph: &Graph,
        params: &Params,
        batch: usize,
        threads: usize,
    ) -> Result<usize> {
        let program = &self.program;
        let kernels = self.kernels(graph, params)?;
        let packed = kernels.iter().zip(&program.kernels);
        let packed: usize = packed.map(|(kernel, spec)| kernel.values(spec)).sum();
        let (size, round) = self.portions(batch);
        let chunks = round.div_ceil(size);
        let slots = program.slots.iter().map(|slot| slot.values(size));
        let arena = slots.sum::<usize>() + self.scratch(&kernels);
        // Up to a join all chunks wait with what they have computed.
        let joined = program.stages.iter().any(|stage| stage.join.is_some());
        let arenas = if joined { chunks } else { chunks.min(threads) };
        let masks = program.masks.iter();
        let masks = masks.map(|&id| batch * graph.nodes()[id].shape.elements());
        let sums = chunks + usize::from(round < batch);
        let values = packed + arenas * arena + sums * program.sums + masks.sum::<usize>();
        Ok(values * size_of::<f32>())
    }

    fn kernels(&self, graph: &Graph, params: &Params) -> Result<Vec<KernelValues>> {
        let specs = self.program.kernels.par_iter().with_max_len(1);
        specs
            .map(|spec| KernelValues::new(graph, params, spec))
            .collect()
    }

    /// Floats of scratch that the passes of a chunk want.
    fn scratch(&self, kernels: &[KernelValues]) -> usize {
        let kernels = kernels.iter().zip(&self.program.kernels);
        let tokens = self.program.tokens.iter();
        let tokens = tokens.map(|spec| spec.layer.scratch());
        let all = kernels.map(|(kernel, spec)| kernel.scratch(spec));
        all.chain(tokens).max().unwrap_or(0)
    }

    fn values<'a>(
        &self,
        graph: &Graph,
        params: &Params,
        inputs: &'a [Tensor],
        batch: usize,
        seed: u64,
        loss: &'a LossGradient<'a>,
    ) -> Result<Values<'a>> {
        let Program {
            norms,
            tokens,
            masks,
            ..
        } = &self.program;
        let kernels = self.kernels(graph, params)?;
        let mask = |&id: &usize| {
            let node = &graph.nodes()[id];
            let rate = match node.op {
                Op::Dropout { rate } => rate,
                _ => 0.0,
            };
            let mut stream = rng::stream(seed, "dropout", &[id as u64]);
            dropout::mask_values(batch * node.shape.elements(), rate, &mut stream)
        };
        Ok(Values {
            inputs: inputs.iter().map(Slice::of).collect::<Result<_>>()?,
            batch,
            offset: 0,
            size: self.portions(batch).0,
            scratch: self.scratch(&kernels),
            kernels,
            norms: norms
                .iter()
                .map(|spec| NormValues::stored(graph, params, spec))
                .collect::<Result<_>>()?,
            tokens: tokens
                .iter()
                .map(|spec| spec.layer.values(graph, params, spec.node))
                .collect::<Result<_>>()?,
            masks: masks.iter().map(mask).collect::<Result<_>>()?,
            loss,
        })
    }

    fn run_stage(&self, stage: &Stage, step: &Values<'_>, chunk: &mut Chunk) -> Result<()> {
        let mut arena = match chunk.arena.take() {
            Some(arena) => arena,
            None => self.arena(chunk.pictures.len(), step.scratch),
        };
        let passes = &self.program.passes[stage.passes.clone()];
        let (all, size) = match stage.step {
            Step::Pictures(pictures) => (chunk.pictures.len(), pictures),
            Step::Rows(rows) => {
                let pixels = passes.first().map_or(0, |pass| self.program.pixels(pass));
                (chunk.pictures.len() * pixels, rows)
            }
        };
        for start in (0..all).step_by(size) {
            let span = Span {
                first: chunk.pictures.start,
                range: start..(start + size).min(all),
                by_rows: matches!(stage.step, Step::Rows(_)),
            };
            for pass in passes {
                self.run_pass(pass, step, chunk, &span, &mut arena)?;
            }
        }
        chunk.arena = Some(arena);
        Ok(())
    }

    fn arena(&self, pictures: usize, scratch: usize) -> Arena {
        let mut arena = lock(&self.arenas).pop().unwrap_or_default();
        arena.slots.resize(self.program.slots.len(), Vec::new());
        for (memory, slot) in arena.slots.iter_mut().zip(&self.program.slots) {
            if memory.len() < slot.values(pictures) {
                memory.resize(slot.values(pictures), 0.0);
            }
        }
        if arena.scratch.len() < scratch {
            arena.scratch.resize(scratch, 0.0);
        }
        arena
    }

    /// Runs a pass for a part of the chunk; what it sums up is added to what the parts before it did.
    fn run_pass(
        &self,
        pass: &Pass,
        step: &Values<'_>,
        chunk: &mut Chunk,
        span: &Span,
        arena: &mut Arena,
    ) -> Result<()> {
        let Program {
            kernels,
            norms,
            tokens,
            ..
        } = &self.program;
        let pictures = span.range.len();
        let add_up = span.range.start > 0;
        let Arena {
            slots,
            scratch,
            growing,
        } = arena;
        let mut memory = Memory {
            program: &self.program,
            step,
            span,
            slots,
        };
        let sums = &mut chunk.sums;
        match *pass {
            Pass::Kernel {
                kernel,
                norm,
                x,
                residual,
                activation,
                y,
            } => memory.write(y, |memory, y| {
                let epilogue = Epilogue {
                    residual: residual.map(|residual| memory.read(residual)),
                    activation,
                    ..Epilogue::default()
                };
                let (spec, x) = (&kernels[kernel], memory.read(x));
                let values = &step.kernels[kernel];
                match norm {
                    None => values.forward(spec, x, span.maps(spec.input), epilogue, y, scratch),
                    Some(norm) => {
                        let x = Banded {
                            norm: step.norm(norm),
                            x,
                            normal: &mut growing[0],
                        };
                        values.forward_of(spec, x, epilogue, y);
                    }
                }
            }),
            Pass::KernelGrad {
                kernel,
                norm,
                x,
                dy,
            } => {
                let (spec, x, dy) = (&kernels[kernel], memory.read(x), memory.read(dy));
                match norm {
                    None => kernel_grad(spec, x, dy, add_up, sums, growing),
                    Some(norm) => {
                        let x = Banded {
                            norm: step.norm(norm),
                            x,
                            normal: &mut growing[0],
                        };
                        kernel_grad_of(spec, x, dy, add_up, sums);
                    }
                }
            }
            Pass::BiasGrad { kernel, dy } => {
                bias_grad(&kernels[kernel], memory.read(dy), add_up, sums);
            }
            Pass::InputGrad {
                kernel,
                dy,
                dx,
                add,
            } => memory.write(dx, |memory, dx| {
                let (spec, dy) = (&kernels[kernel], memory.read(dy));
                let maps = span.maps(spec.input);
                step.kernels[kernel].input_grad(spec, dy, maps, add, dx, scratch);
            }),
            Pass::Moments { norm: index, x } => {
                let spec = &norms[index];
                let moments = sums.at_mut(spec.moments, 2 * spec.channels);
                let (mean, squares) = moments.split_at_mut(spec.channels);
                let before = match span.by_rows {
                    true => span.range.start,
                    false => span.range.start * spec.rows,
                };
                norm::moments(memory.read(x), before, mean, squares);
            }
            Pass::Norm {
                norm,
                x,
                residual,
                activation,
                y,
            } => memory.write(y, |memory, y| {
                let residual = residual.map(|residual| memory.read(residual));
                step.norms[norm].forward(memory.read(x), residual, activation, y);
            }),
            Pass::NormSums {
                norm: index,
                x,
                activation,
                dy,
            } => {
                let (spec, values) = (&norms[index], &step.norms[index]);
                let sums = sums.at_mut(spec.sums, 2 * spec.channels);
                let (x, dy) = (memory.read(x), memory.read(dy));
                let clamped = values.clamped(activation);
                norm::gradient_sums(x, dy, &values.mean, clamped, add_up, sums);
            }
            Pass::NormGrad {
                norm,
                x,
                activation,
                dy,
                dx,
            } => memory.write(dx, |memory, dx| {
                let values = &step.norms[norm];
                let coefficients = values.coefficients.each_ref().map(Vec::as_slice);
                let (x, dy) = (memory.read(x), memory.read(dy));
                let clamped = values.clamped(activation);
                kernel::norm_input_grad(x, dy, &values.mean, coefficients, clamped, dx);
            }),
            Pass::Activate {
                x,
                residual,
                activation,
                y,
            } => memory.write(y, |memory, y| {
                let residual = residual.map(|residual| memory.read(residual));
                kernel::activate(memory.read(x), residual, activation, y);
            }),
            Pass::ActivateGrad { of, activation, dy } => memory.write(dy, |memory, dy| {
                kernel::activate_grad(memory.read(of), activation, dy);
            }),
            Pass::Dropout { mask, x, y } => memory.write(y, |memory, y| {
                let first = (span.first + span.range.start) * (y.len() / pictures);
                let mask = &step.masks[mask][first..][..y.len()];
                for ((y, x), mask) in y.iter_mut().zip(memory.read(x)).zip(mask) {
                    *y = x * mask;
                }
            }),
            Pass::Pad {
                dims,
                padding,
                x,
                y,
            } => memory.write(y, |memory, y| kernel::pad(memory.read(x), dims, padding, y)),
            Pass::PadGrad {
                dims,
                padding,
                dy,
                dx,
                add,
            } => memory.write(dx, |memory, dx| {
                kernel::pad_grad(memory.read(dy), dims, padding, add, dx);
            }),
            Pass::Place { channels, x, y } => memory.write(y, |memory, y| {
                let Channels { first, count, all } = channels;
                kernel::place(memory.read(x), count, y, first, all);
            }),
            Pass::PlaceGrad { channels, dy, dx } => memory.write(dx, |memory, dx| {
                let Channels { first, count, all } = channels;
                kernel::take(memory.read(dy), all, first, dx, count);
            }),
            Pass::Pool { pool, x, y } => memory.write(y, |memory, y| {
                let Pool { dims, window, mean } = pool;
                let x = memory.read(x);
                match mean {
                    None => kernel::max_pool(x, pictures, dims, &window, y),
                    Some(pad) => kernel::avg_pool(x, pictures, dims, &window, pad, y),
                }
            }),
            Pass::PoolGrad { pool, x, dy, dx } => memory.write(dx, |memory, dx| {
                let Pool { dims, window, mean } = pool;
                let (x, dy) = (memory.read(x), memory.read(dy));
                let elements = dims.elements().max(1);
                let maps = dx.chunks_exact_mut(elements).zip(x.chunks_exact(elements));
                for ((dx, x), dy) in maps.zip(dy.chunks_exact(dy.len() / pictures)) {
                    dx.fill(0.0);
                    match mean {
                        None => kernel::max_pool_grad(x, dy, dims, &window, dx),
                        Some(pad) => kernel::avg_pool_grad(dy, dims, &window, pad, dx),
                    }
                }
            }),
            Pass::Gate {
                dims,
                x,
                factors,
                y,
            } => memory.write(y, |memory, y| {
                kernel::gate(memory.read(x), memory.read(factors), dims, y);
            }),
            Pass::GateGrad { dims, x, dy, to } => memory.write(to, |memory, to| {
                kernel::gate_grad(memory.read(x), memory.read(dy), dims, to);
            }),
            Pass::GlobalAvg { dims, x, y } => memory.write(y, |memory, y| {
                kernel::global_avg(memory.read(x), pictures, dims, y);
            }),
            Pass::GlobalAvgGrad { dims, dy, dx } => memory.write(dx, |memory, dx| {
                kernel::global_avg_grad(memory.read(dy), dims, dx);
            }),
            Pass::GlobalMax { dims, x, y } => memory.write(y, |memory, y| {
                kernel::global_max(memory.read(x), pictures, dims, y);
            }),
            Pass::GlobalMaxGrad { dims, x, dy, dx } => memory.write(dx, |memory, dx| {
                kernel::global_max_grad(memory.read(x), memory.read(dy), dims, dx);
            }),
            Pass::Token { token, x, y } => memory.write(y, |memory, y| {
                let (layer, values) = (tokens[token].layer, &step.tokens[token]);
                layer.forward(values, memory.read(x), y, scratch);
            }),
            Pass::TokenSums { token, x, dy } => {
                let TokenSpec {
                    layer, sums: first, ..
                } = tokens[token];
                let sums = sums.at_mut(first, layer.sums());
                layer.param_sums(memory.read(x), memory.read(dy), add_up, sums);
            }
            Pass::TokenGrad { token, x, dy, dx } => memory.write(dx, |memory, dx| {
                let (layer, values) = (tokens[token].layer, &step.tokens[token]);
                let x = x.map_or(&[][..], |x| memory.read(x));
                layer.input_grad(values, x, memory.read(dy), dx, growing);
            }),
            Pass::Loss { logits, dlogits } => {
                let values = memory.read(logits);
                chunk.logits.extend_from_slice(values);
                let classes = values.len() / pictures;
                let logits = Tensor::from_slice(values, (pictures, classes), &Device::Cpu)?;
                let Range { start, end } = span.range;
                let gradient = (step.loss)(&logits, span.first + start..span.first + end)?;
                let gradient = gradient.contiguous()?;
                let gradient = Slice::of(&gradient)?;
                memory.write(dlogits, |_, to| to.copy_from_slice(&gradient));
            }
            Pass::Copy { from, to } => {
                memory.write(to, |memory, to| to.copy_from_slice(memory.read(from)));
            }
            Pass::AddInto { from, to } => {
                memory.write(to, |memory, to| kernel::add_into(memory.read(from), to));
            }
        }
        Ok(())
    }

    fn join_moments(
        &self,
        graph: &Graph,
        plan: &Plan,
        params: &Params,
        index: usize,
        parts: &[f32],
        step: &mut Values<'_>,
    ) -> Result<Vec<(String, Tensor)>> {
        let spec = &self.program.norms[index];
        let channels = spec.channels;
        let parts = parts.chunks(2 * channels.max(1)).enumerate();
        let parts = parts.map(|(chunk, part)| {
            let pictures = step.size.min(step.batch - chunk * step.size);
            (part, pictures * spec.rows)
        });
        let moments = norm::join_moments(parts, channels);
        if step.batch == 0 {
            return Ok(Vec::new());
        }
        let [mean, variance] = moments
            .each_ref()
            .map(|values| Tensor::from_slice(values, channels, &Device::Cpu));
        let stored = forward::batch_norm(graph, params, spec.node, spec.epsilon)?;
        let rows = step.batch * spec.rows;
        let running = norm::running(stored, &mean?, &variance?, rows, spec.momentum)?;
        step.norms[index].moments(moments, spec.epsilon);
        let names = plan.statistics.get(&spec.node).into_iter().flatten();
        Ok(names.cloned().zip(running).collect())
    }

    fn join_sums(&self, index: usize, parts: &[f32], step: &mut Values<'_>) {
        let spec = &self.program.norms[index];
        let channels = spec.channels;
        let mut sums = vec![0f64; 2 * channels];
        for part in parts.chunks(2 * channels.max(1)) {
            for (sum, value) in sums.iter_mut().zip(part) {
                *sum += f64::from(*value);
            }
        }
        let sums: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
        let norm = &mut step.norms[index];
        let sums = (
            [&sums[..channels], &sums[channels..]],
            step.batch * spec.rows,
        );
        norm.coefficients = norm::input_coefficients(&norm.gamma, &norm.inverse, Some(sums));
    }

    /// Gradients of all parameters, in graph order.
    fn gradients(
        &self,
        graph: &Graph,
        plan: &Plan,
        params: &Params,
        step: &Values<'_>,
        sums: &[Sums],
    ) -> Result<Gradients> {
        let specs = self.program.kernels.par_iter().zip(&step.kernels);
        let of_kernels: Vec<_> = specs
            .with_max_len(1)
            .filter(|(spec, _)| spec.needs.kernel)
            .map(|(spec, values)| values.gradients(graph, params, spec, sums))
            .collect::<Result<_>>()?;
        let mut found: Gradients = of_kernels.into_iter().flatten().collect();
        let norms = self.program.norms.iter().zip(&step.norms);
        for (spec, values) in norms.filter(|(spec, _)| spec.trains) {
            let mut beta = total(sums, spec.sums, 2 * spec.channels);
            let product = beta.split_off(spec.channels);
            let gamma = product.iter().zip(&values.inverse);
            let gamma = gamma.map(|(sum, inverse)| (f64::from(*sum) * inverse) as f32);
            for (kind, gradient) in [(ParamKind::Gamma, gamma.collect()), (ParamKind::Beta, beta)] {
                let specs = graph.params(spec.node);
                if let Some(param) = specs.into_iter().find(|param| param.kind == kind) {
                    let gradient = Tensor::from_vec(gradient, spec.channels, &Device::Cpu)?;
                    found.insert(param.name, gradient);
                }
            }
        }
        for spec in self.program.tokens.iter().filter(|spec| spec.trains) {
            let sums = total(sums, spec.sums, spec.layer.sums());
            found.extend(spec.layer.gradients(graph, spec.node, &sums)?);
        }
        let names = plan.trained.iter();
        Ok(names
            .filter_map(|name| found.swap_remove_entry(name))
            .collect())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
