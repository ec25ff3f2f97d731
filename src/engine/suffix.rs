//! The trainable part of the graph: a training step forward and back, over the static graph.
//!
//! On the CPU a step is a compiled program, run a few pictures at a time; elsewhere it goes node by
//! node in tensor operations, which is also what the program must equal.

mod above;
mod backward;
mod device;
mod fuse;
mod kernels;
mod lower;
mod memory;
mod plan;
mod portable;
mod program;
mod run;
mod sums;
mod team;
mod together;

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor, bail};
use indexmap::IndexMap;

use super::params::Params;
use crate::config::BatchNormMode;
use crate::graph::Graph;
use crate::graph::cutoff::{Frontier, Trainable};
use crate::ranks::Ranks;
pub use above::Above;
pub use device::{OptimizerNumbers, Rule, RuleKind, Session};
use plan::Plan;
use run::Compiled;
pub use team::Team;

/// Gradients by parameter name, in graph order.
pub type Gradients = IndexMap<String, Tensor>;

/// Gradient of a batch's loss to the logits `[pictures, classes]` of the pictures at these
/// positions of the batch.
pub type LossGradient<'a> = dyn Fn(&Tensor, Range<usize>) -> Result<Tensor> + Sync + 'a;

/// A plan for training everything above the frontier's stored tensors.
#[derive(Debug)]
pub struct Suffix {
    graph: Arc<Graph>,
    plan: Plan,
    compiled: Option<Compiled>,
}

/// What a process has of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The frontier's stored tensors of its pictures.
    pub inputs: &'a [Tensor],
    /// Pictures of the whole batch.
    pub batch: usize,
}

/// What a training step leaves.
#[derive(Debug)]
pub struct Stepped {
    /// `[batch, classes]`; with auxiliary classifiers, the logits of all side by side.
    pub logits: Tensor,
    /// New values of running batch-norm statistics, by name; empty when none trains.
    pub statistics: Vec<(String, Tensor)>,
    /// Gradients to every trained parameter.
    pub gradients: Gradients,
}

impl Suffix {
    /// Plans forward and reverse pass. `bn` is the batch-norm mode of trainable backbone layers;
    /// batch norm in the head always uses the batch's statistics in training.
    pub fn new(
        graph: Arc<Graph>,
        trainable: &Trainable,
        frontier: &Frontier,
        bn: BatchNormMode,
    ) -> Self {
        let plan = Plan::new(&graph, trainable, frontier, bn);
        let compiled = Compiled::new(&graph, &plan);
        Self {
            graph,
            plan,
            compiled,
        }
    }

    /// The same, with so many pictures of a batch computed at a time and the others waiting: less
    /// memory and the same sums, in chunks of other sizes if the number is small. Where batch norm
    /// looks at the whole batch, that is computed at once still.
    #[must_use]
    pub fn at_once(mut self, pictures: Option<usize>) -> Self {
        if let Some(compiled) = &mut self.compiled {
            compiled.at_once(pictures);
        }
        self
    }

    /// The same, node by node in tensor operations on any device.
    #[cfg(test)]
    pub(super) fn portable(mut self) -> Self {
        self.compiled = None;
        self
    }

    /// Names of the parameters that train, in graph order.
    pub fn trained(&self) -> &[String] {
        &self.plan.trained
    }

    /// Names of the running batch-norm statistics that training moves, in graph order.
    pub fn updated_statistics(&self) -> Vec<String> {
        self.plan.statistics.values().flatten().cloned().collect()
    }

    /// Multiply-adds of the forward pass of a picture.
    pub fn multiply_adds(&self, graph: &Graph) -> u64 {
        let nodes = self.plan.order.iter();
        nodes.map(|&id| graph.node_multiply_adds(id)).sum()
    }

    /// Values that a process of a team sends on, and gets back, in a step, norms that join the batch
    /// apart.
    pub fn exchanged(&self) -> usize {
        self.compiled.as_ref().map_or(0, Compiled::exchanged)
    }

    /// Bytes that steps of a batch hold and take on so many threads, inputs and gradients apart.
    pub fn memory(&self, params: &Params, batch: usize, threads: usize) -> Result<usize> {
        match &self.compiled {
            Some(compiled) => compiled.memory(&self.graph, params, batch, threads),
            None => Ok(0),
        }
    }

    /// A training step's forward and reverse pass. `inputs` are the frontier's stored tensors of
    /// the batch; `dropout` is the seed of this step's dropout streams, and each node draws from
    /// its own. `loss` may be asked for a part of the batch at a time.
    pub fn step(
        &self,
        params: &Params,
        inputs: &[Tensor],
        dropout: u64,
        loss: &LossGradient<'_>,
    ) -> Result<Stepped> {
        let batch = inputs.first().map_or(Ok(0), |input| input.dim(0))?;
        let part = Part { inputs, batch };
        self.step_of(params, part, dropout, loss, &Ranks::alone())
    }

    /// Which pictures of a batch a process of a team computes in [`Self::step_of`]: it needs the inputs
    /// of these alone. There may be none.
    pub fn pictures(&self, batch: usize, team: &dyn Team) -> Range<usize> {
        match &self.compiled {
            Some(compiled) if !team.is_alone() => compiled.pictures(batch, team),
            _ => 0..batch,
        }
    }

    /// A step that a team takes together, each on its [part](Self::pictures) of the batch. All get the
    /// whole batch's logits, statistics and gradients, which are, bit by bit, those of [`Self::step`].
    pub fn step_of(
        &self,
        params: &Params,
        part: Part<'_>,
        dropout: u64,
        loss: &LossGradient<'_>,
        team: &dyn Team,
    ) -> Result<Stepped> {
        let inputs = part.inputs;
        let pictures = self.pictures(part.batch, team).len();
        if pictures > 0 || team.is_alone() {
            self.check(inputs, pictures)?;
        }
        let loss = |logits: &Tensor, pictures| {
            let gradient = loss(logits, pictures)?;
            if gradient.dims() != logits.dims() {
                bail!(
                    "the gradient to logits {:?} has dimensions {:?}",
                    logits.dims(),
                    gradient.dims()
                );
            }
            Ok(gradient)
        };
        if let Some(mut session) = self.session(params)? {
            let logits = session.run(inputs, dropout, &loss)?;
            return Ok(Stepped {
                logits,
                statistics: session.statistics()?,
                gradients: session.gradients()?,
            });
        }
        match (&self.compiled, params.device()) {
            (Some(compiled), Device::Cpu) => {
                let how = (dropout, &loss as &LossGradient<'_>);
                compiled.step(&self.graph, &self.plan, params, part, how, team)
            }
            _ if !team.is_alone() => bail!("only the CPU shares a step among processes"),
            _ => portable::step(&self.graph, &self.plan, params, inputs, dropout, &loss),
        }
    }

    /// Training on the GPU that the parameters are meant for, beginning at their values; `None` if
    /// that is none.
    ///
    /// # Errors
    /// If the device has no room for them.
    pub fn session(&self, params: &Params) -> Result<Option<Session>> {
        let session = |gpu| Session::new(gpu, &self.graph, &self.plan, params);
        params.gpu().map(session).transpose()
    }

    fn check(&self, inputs: &[Tensor], pictures: usize) -> Result<()> {
        let stored = &self.plan.stored;
        if inputs.len() != stored.len() {
            bail!(
                "expected {} stored tensors, not {}",
                stored.len(),
                inputs.len()
            );
        }
        for (&id, input) in stored.iter().zip(inputs) {
            let node = &self.graph.nodes()[id];
            if input.dims() != node.shape.batched(pictures) {
                bail!(
                    "output of `{}` has dimensions {:?} without the batch, not {:?}",
                    node.name,
                    &node.shape.batched(1)[1..],
                    input.dims()
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod device_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod token_tests;
