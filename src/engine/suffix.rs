//! The trainable part of the graph: forward pass that keeps what gradients need, and a reverse
//! pass over the static graph.

mod backward;
mod fold;
mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use indexmap::IndexMap;

use super::forward;
use super::params::Params;
use crate::config::BatchNormMode;
use crate::graph::cutoff::{Frontier, Trainable};
use crate::graph::{Graph, NodeId, Op, ParamKind};
use crate::ops::activation::Activation;
use crate::ops::{dropout, norm};
use crate::rng;
use fold::Folded;
use plan::Plan;

/// Gradients by parameter name, in graph order.
pub type Gradients = IndexMap<String, Tensor>;

/// A plan for training everything above the frontier's stored tensors.
#[derive(Debug)]
pub struct Suffix {
    graph: Arc<Graph>,
    plan: Plan,
}

/// What a forward pass kept.
#[derive(Debug)]
pub struct Tape {
    /// `[batch, classes]`.
    pub logits: Tensor,
    /// New values of running batch-norm statistics, by name; empty when none trains.
    pub statistics: Vec<(String, Tensor)>,
    /// Outputs of nodes that the reverse pass reads.
    values: Vec<Option<Tensor>>,
    dropout: BTreeMap<NodeId, Tensor>,
    /// Mean and biased variance of the batch.
    batch: BTreeMap<NodeId, (Tensor, Tensor)>,
    /// By batch norm.
    folded: BTreeMap<NodeId, Folded>,
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
        Self { graph, plan }
    }

    /// Names of the parameters that train, in graph order.
    pub fn trained(&self) -> &[String] {
        &self.plan.trained
    }

    /// Names of the running batch-norm statistics that training moves, in graph order.
    pub fn updated_statistics(&self) -> Vec<String> {
        self.plan.statistics.values().flatten().cloned().collect()
    }

    /// Training forward pass. `inputs` are the frontier's stored tensors of the batch; `dropout`
    /// is the seed of this step's dropout streams, and each node draws from its own.
    pub fn forward(&self, params: &Params, inputs: &[Tensor], dropout: u64) -> Result<Tape> {
        let Plan { stored, order, .. } = &self.plan;
        if inputs.len() != stored.len() {
            bail!(
                "expected {} stored tensors, not {}",
                stored.len(),
                inputs.len()
            );
        }
        let nodes = self.graph.nodes();
        let mut run = Run {
            suffix: self,
            params,
            seed: dropout,
            values: vec![None; nodes.len()],
            dropout: BTreeMap::new(),
            batch: BTreeMap::new(),
            folded: BTreeMap::new(),
            statistics: Vec::new(),
        };
        for (&id, input) in stored.iter().zip(inputs) {
            if input.dims() != nodes[id].shape.batched(input.dim(0)?) {
                bail!(
                    "output of `{}` has dimensions {:?} without the batch, not {:?}",
                    nodes[id].name,
                    &nodes[id].shape.batched(1)[1..],
                    input.dims()
                );
            }
            run.values[id] = Some(input.clone());
        }
        let mut reads = self.plan.reads.clone();
        for &id in order.iter().filter(|&&id| !self.plan.folds[id]) {
            let output = run.node(id)?;
            run.values[id] = Some(output);
            let reader = self.plan.folded[id].unwrap_or(id);
            for &input in &nodes[reader].inputs {
                reads[input] -= 1;
                if reads[input] == 0 && !self.plan.keep[input] {
                    run.values[input] = None;
                }
            }
        }
        let output = self.graph.output();
        let Some(logits) = run.values[output].clone() else {
            bail!("nothing lies above the stored tensors");
        };
        if !self.plan.keep[output] {
            run.values[output] = None;
        }
        Ok(Tape {
            logits,
            statistics: run.statistics,
            values: run.values,
            dropout: run.dropout,
            batch: run.batch,
            folded: run.folded,
        })
    }

    /// Gradients of the loss to every trained parameter, given those to the logits.
    pub fn backward(&self, params: &Params, tape: Tape, dlogits: &Tensor) -> Result<Gradients> {
        backward::run(&self.graph, &self.plan, params, tape, dlogits)
    }
}

/// A forward pass under way.
struct Run<'a> {
    suffix: &'a Suffix,
    params: &'a Params,
    seed: u64,
    values: Vec<Option<Tensor>>,
    dropout: BTreeMap<NodeId, Tensor>,
    batch: BTreeMap<NodeId, (Tensor, Tensor)>,
    folded: BTreeMap<NodeId, Folded>,
    statistics: Vec<(String, Tensor)>,
}

impl Run<'_> {
    fn node(&mut self, id: NodeId) -> Result<Tensor> {
        let graph = &self.suffix.graph;
        let plan = &self.suffix.plan;
        let node = &graph.nodes()[id];
        let reader = plan.folded[id].unwrap_or(id);
        let inputs: Vec<&Tensor> = graph.nodes()[reader]
            .inputs
            .iter()
            .filter_map(|&input| self.values[input].as_ref())
            .collect();
        let Some(&x) = inputs.first() else {
            bail!("layer `{}` has lost its input", node.name);
        };
        match node.op {
            // Frozen features are those of inference, whatever is random above them.
            Op::Dropout { rate } if !plan.frozen[id] && rate > 0.0 => {
                let mut stream = rng::stream(self.seed, "dropout", &[id as u64]);
                let mask = dropout::mask(x, rate, &mut stream)?;
                let y = dropout::apply(x, &mask)?;
                if plan.gradient[id] {
                    self.dropout.insert(id, mask);
                }
                Ok(y)
            }
            Op::BatchNorm { epsilon, .. } if reader != id => {
                let norm = forward::batch_norm(graph, self.params, id, epsilon)?;
                let kernel = self.params.expect(graph, reader, ParamKind::Kernel)?;
                let bias = self.params.of(graph, reader, ParamKind::Bias);
                let folded = Folded::new(kernel, bias, norm)?;
                let y = folded.forward(&graph.nodes()[reader].op, x)?;
                self.folded.insert(id, folded);
                Ok(y)
            }
            Op::BatchNorm {
                epsilon, momentum, ..
            } if plan.batch_statistics[id] => {
                let stored = forward::batch_norm(graph, self.params, id, epsilon)?;
                let trained = norm::forward_train(x, stored, momentum)?;
                let running = [trained.running_mean, trained.running_variance];
                let names = &plan.statistics[&id];
                self.statistics.extend(names.iter().cloned().zip(running));
                self.batch.insert(id, (trained.mean, trained.variance));
                Ok(trained.y)
            }
            _ => forward::infer(graph, self.params, id, &inputs),
        }
    }
}

/// The activation that a node applies, if it does nothing else.
fn activation(op: &Op) -> Option<Activation> {
    match op {
        Op::Relu => Some(Activation::Relu),
        Op::Relu6 => Some(Activation::Relu6),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
