//! How much memory a run takes, phase by phase, before it takes it.

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::Result;
use serde::{Deserialize, Serialize};

use super::features::{self, Room};
use super::feed::Variety;
use super::phase::{PhasePlan, Plan};
use super::rule::Rule;
use crate::config::AugmentConfig;
use crate::data::preprocess::Preprocess;
use crate::engine::cache::{self, Place};
use crate::engine::params::Params;
use crate::engine::prefix::Prefix;
use crate::graph::{Graph, NodeId};
use crate::records::{MicroBatch, Split};

/// The program itself and its threads: measured.
const PROGRAM: usize = 24 << 20;

/// What the allocator takes beyond what it is asked for: measured.
const ALLOCATOR_PERCENT: usize = 10;

/// Most bytes of moments and averages of a best state that is held back from disk for a while.
pub const HELD_BACK: usize = 64 << 20;

const VALUE: usize = size_of::<f32>();

/// What the memory of a run depends on.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// Backbone and head.
    pub graph: &'a Arc<Graph>,
    /// Their parameters.
    pub params: &'a Params,
    /// Phases and batch size.
    pub plan: &'a Plan,
    /// Pictures of each split.
    pub pictures: [usize; 3],
    /// How training pictures change.
    pub augment: &'a AugmentConfig,
    /// From picture to tensor.
    pub preprocess: &'a Preprocess,
    /// Pixels of the largest picture.
    pub largest: usize,
    /// Bytes of decoded pictures that the scan left for their first use.
    pub waiting: usize,
    /// Threads that compute, and that decode.
    pub threads: usize,
}

/// What a run may take of what it could do with less of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// Bytes for features.
    pub features: Room,
    /// Bytes for decoded pictures that are used in every epoch.
    pub pictures: usize,
    /// Batches that wait to be used.
    pub waiting: usize,
    /// How many pictures of a batch are computed at a time.
    pub micro_batch: MicroBatch,
}

/// Bytes of a phase while they are most.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseMemory {
    /// Name of the phase.
    pub phase: String,
    /// Values that train.
    pub trainable: usize,
    /// Tensors that train.
    pub tensors: usize,
    /// Epochs begun.
    pub epochs: usize,
    /// Steps in all of them.
    pub steps: u64,
    /// Layers whose outputs the phase starts from.
    pub from: Vec<String>,
    /// Whether these are cached for training pictures.
    pub cached: bool,
    /// Parameters, their averages, and those of the best epoch.
    pub parameters: usize,
    /// Moments, those of a best state held back, gradients, and copies while a checkpoint is written.
    pub optimizer: usize,
    /// Activations, packed kernels and pictures on their way, of a step or of the pass that computes
    /// features.
    pub step: usize,
    /// Features kept in main memory.
    pub features: usize,
    /// Decoded pictures.
    pub pictures: usize,
    /// All of these, the program, and what the allocator takes beyond.
    pub total: usize,
}

/// Bytes of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// Phase by phase.
    pub phases: Vec<PhaseMemory>,
    /// The most that any phase takes.
    pub peak: usize,
    /// Features on disk, at most.
    pub disk: u64,
}

/// What earlier phases leave.
#[derive(Debug, Default)]
struct Past {
    /// Parameters and statistics that have moved, of which the best epoch has other values.
    moved: BTreeSet<String>,
    /// Bytes of decoded batches, and of what computed features: the allocator keeps freed memory
    /// for a while.
    loading: usize,
    extraction: usize,
}

/// Features that are held from phase to phase.
struct Held {
    split: Split,
    variety: Variety,
    nodes: Vec<NodeId>,
    in_memory: usize,
}

impl Estimate {
    /// What a run takes if it is allowed so much.
    pub fn of(given: Given<'_>, allowance: Allowance) -> Result<Self> {
        let mut phases = Vec::new();
        let mut held: Vec<Held> = Vec::new();
        let mut stored: BTreeSet<(Split, Variety, Vec<NodeId>)> = BTreeSet::new();
        let mut past = Past::default();
        for index in 0..given.plan.phases.len() {
            let rest = &given.plan.phases[index..];
            held.retain(|it| {
                let reads = rest.iter().map(|phase| {
                    let variety = given.variety(it.split, phase);
                    (&phase.frontier, variety == it.variety)
                });
                features::is_read(reads, &it.nodes)
            });
            let mut computed: Vec<NodeId> = Vec::new();
            for split in [Split::Train, Split::Val] {
                let varieties = rest.iter().map(|phase| given.variety(split, phase));
                let varieties: BTreeSet<Variety> = varieties.collect();
                for variety in varieties.into_iter().filter(|&it| it != Variety::Endless) {
                    if given.pictures[split as usize] == 0 {
                        continue;
                    }
                    let new = given.wanted(rest, (split, variety), &held, allowance.features);
                    computed.extend(new.iter().flat_map(|it| &it.nodes));
                    stored.extend(new.iter().map(|it| (split, variety, it.nodes.clone())));
                    held.extend(new);
                }
            }
            computed.sort_unstable();
            computed.dedup();
            let phase = &given.plan.phases[index];
            phases.push(given.phase(phase, &held, &computed, &mut past, allowance)?);
        }
        // The test pictures start from the highest features that there are.
        let last = stored.iter().map(|(_, _, nodes)| nodes).max().cloned();
        stored.extend(last.map(|nodes| (Split::Test, Variety::Same, nodes)));
        let bytes = |(split, variety, nodes): &(Split, Variety, Vec<NodeId>)| {
            features::cost(given.graph, nodes, given.rows(*split, *variety)) as u64
        };
        Ok(Self {
            peak: phases.iter().map(|it| it.total).max().unwrap_or(0),
            phases,
            disk: match allowance.features.disk {
                0 => 0,
                most => stored.iter().map(bytes).sum::<u64>().min(most),
            },
        })
    }

    /// The phase that takes the most.
    pub fn largest(&self) -> Option<&PhaseMemory> {
        self.phases.iter().max_by_key(|it| it.total)
    }
}

impl Given<'_> {
    fn variety(&self, split: Split, phase: &PhasePlan) -> Variety {
        Variety::of(split, phase.pictures, self.augment)
    }

    fn rows(&self, split: Split, variety: Variety) -> usize {
        self.pictures[split as usize] * variety.versions()
    }

    fn wanted(
        &self,
        rest: &[PhasePlan],
        (split, variety): (Split, Variety),
        held: &[Held],
        room: Room,
    ) -> Vec<Held> {
        let rows = self.rows(split, variety);
        let of_these = |it: &&Held| (it.split, it.variety) == (split, variety);
        let holds = |nodes: &[NodeId]| held.iter().filter(of_these).any(|it| it.nodes == nodes);
        let sees = |phase: &PhasePlan| self.variety(split, phase) == variety;
        let used = held.iter().map(|it| it.in_memory).sum();
        let units = features::wanted(self.graph, rest, (rows, sees), holds, used, room).into_iter();
        units
            .map(|unit| Held {
                split,
                variety,
                in_memory: match unit.place {
                    Place::Memory => features::cost(self.graph, &unit.nodes, rows),
                    Place::Disk => 0,
                },
                nodes: unit.nodes,
            })
            .collect()
    }

    fn phase(
        &self,
        phase: &PhasePlan,
        held: &[Held],
        computed: &[NodeId],
        past: &mut Past,
        allowance: Allowance,
    ) -> Result<PhaseMemory> {
        let Given {
            graph,
            params,
            plan,
            threads,
            ..
        } = *self;
        let stored = &phase.frontier.stored;
        let batch = plan.batch_size.min(self.pictures[0].max(1));
        let at_once = allowance.micro_batch.of_batch(plan.batch_size);
        let suffix = phase.suffix(graph).at_once(at_once);
        let bytes = |name: &String| VALUE * params.value(name).elem_count();
        let trained: usize = suffix.trained().iter().map(bytes).sum();
        past.moved.extend(suffix.trained().iter().cloned());
        past.moved.extend(suffix.updated_statistics());
        let all = params.iter();
        let all: usize = all.map(|(_, it)| VALUE * it.value.elem_count()).sum();
        let moments = Rule::moments(&phase.optimizer).len() * trained;

        let cached = |split| {
            let variety = self.variety(split, phase);
            held.iter()
                .any(|it| (it.split, it.variety) == (split, variety) && &it.nodes == stored)
        };
        let reads_pictures = !cached(Split::Train);
        if reads_pictures || !computed.is_empty() {
            past.loading = self.loading(batch, allowance.waiting);
        }
        let upper = Prefix::compile(graph, params, stored, &[graph.output()])?;
        let mut step = self.outputs(stored, batch) + suffix.memory(params, batch, threads)?;
        step += upper.memory(batch, threads);
        let is_computed = stored != &[0] && (reads_pictures || !cached(Split::Val));
        if is_computed {
            step += Prefix::compile(graph, params, &[0], stored)?.memory(batch, threads);
        }
        // Gradients and new values while a step is taken, copies while a checkpoint is written.
        // Sums over several batches are one more set.
        let in_step = if plan.accumulate > 1 { 3 } else { 2 };
        let sets = 1 + usize::from(plan.ema.is_some());
        let moved: usize = past.moved.iter().map(bytes).sum();
        let held_back = (moments + (sets - 1) * moved).min(HELD_BACK);
        let optimizer = moments + held_back + (in_step * trained).max(all + 2 * moments);
        if !computed.is_empty() {
            let mut extraction =
                Prefix::compile(graph, params, &[0], computed)?.memory(batch, threads);
            if allowance.features.disk > 0 {
                let most = cache::SEGMENT_BYTES + self.outputs(computed, batch);
                extraction += most.min(self.outputs(computed, self.pictures[0]));
            }
            past.extraction = past.extraction.max(extraction);
        }
        step += past.loading + past.extraction;
        let features: usize = held.iter().map(|it| it.in_memory).sum();
        let pictures = self.kept(reads_pictures, !cached(Split::Val), allowance);
        let parameters = all + sets * moved;
        let decoding = 2 * 3 * self.largest * threads;
        let total = PROGRAM + decoding + parameters + optimizer + step + features + pictures;
        let statistics = !suffix.updated_statistics().is_empty();
        let pace = plan.pace(phase, plan.batches(self.pictures[0], statistics));
        Ok(PhaseMemory {
            phase: phase.name.clone(),
            trainable: trained / VALUE,
            tensors: suffix.trained().len(),
            epochs: pace.epochs(),
            steps: pace.steps,
            from: stored
                .iter()
                .map(|&id| graph.nodes()[id].name.clone())
                .collect(),
            cached: !reads_pictures,
            parameters,
            optimizer,
            step,
            features,
            pictures,
            total: total + total / 100 * ALLOCATOR_PERCENT,
        })
    }

    /// Bytes of these layers' outputs for some pictures.
    fn outputs(&self, nodes: &[NodeId], pictures: usize) -> usize {
        let shapes = nodes.iter().map(|&id| self.graph.nodes()[id].shape);
        VALUE * pictures * shapes.map(|shape| shape.elements()).sum::<usize>()
    }

    /// Bytes of batches that are being decoded, that wait and that are used.
    fn loading(&self, batch: usize, waiting: usize) -> usize {
        let batches = self.pictures[0].div_ceil(batch.max(1));
        let loaders = self.threads.min(batches).max(1);
        // Each has a queue of its own.
        let waiting = loaders * waiting.div_ceil(loaders);
        let under_way = (waiting + loaders + 1).min(batches);
        VALUE * self.preprocess.values() * batch * under_way
    }

    /// Bytes of decoded pictures that are kept.
    fn kept(&self, train: bool, val: bool, allowance: Allowance) -> usize {
        let [height, width] = self.preprocess.resized();
        let bytes = |pictures: usize| pictures * height as usize * width as usize * 3;
        let [of_train, of_val, _] = self.pictures;
        let used = if train { of_train } else { 0 } + if val { of_val } else { 0 };
        bytes(used).min(allowance.pictures).max(self.waiting)
    }
}
