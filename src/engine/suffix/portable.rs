//! A training step node by node, in tensor operations.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, bail};

use super::plan::Plan;
use super::{LossGradient, Stepped, backward};
use crate::engine::forward;
use crate::engine::params::Params;
use crate::graph::{Graph, NodeId, Op};
use crate::ops::{dropout, norm};
use crate::rng;

/// What a forward pass kept.
#[derive(Debug)]
pub(super) struct Tape {
    /// Outputs of nodes that the reverse pass reads.
    pub(super) values: Vec<Option<Tensor>>,
    pub(super) dropout: BTreeMap<NodeId, Tensor>,
    /// Mean and biased variance of the batch.
    pub(super) batch: BTreeMap<NodeId, (Tensor, Tensor)>,
    statistics: Vec<(String, Tensor)>,
}

pub(super) fn step(
    graph: &Graph,
    plan: &Plan,
    params: &Params,
    inputs: &[Tensor],
    seed: u64,
    loss: &LossGradient<'_>,
) -> Result<Stepped> {
    let (logits, mut tape) = forward(graph, plan, params, inputs, Some(seed))?;
    let dlogits = loss(&logits, 0..logits.dim(0)?)?;
    let statistics = std::mem::take(&mut tape.statistics);
    Ok(Stepped {
        logits,
        statistics,
        gradients: backward::run(graph, plan, params, tape, &dlogits)?,
    })
}

/// Output and what the reverse pass reads; without the seed of its streams, dropout is the identity.
pub(super) fn forward(
    graph: &Graph,
    plan: &Plan,
    params: &Params,
    inputs: &[Tensor],
    seed: Option<u64>,
) -> Result<(Tensor, Tape)> {
    let mut run = Run {
        graph,
        plan,
        params,
        seed,
        tape: Tape {
            values: vec![None; graph.nodes().len()],
            dropout: BTreeMap::new(),
            batch: BTreeMap::new(),
            statistics: Vec::new(),
        },
    };
    let output = run.forward(inputs)?;
    Ok((output, run.tape))
}

/// A forward pass under way.
struct Run<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    params: &'a Params,
    seed: Option<u64>,
    tape: Tape,
}

impl Run<'_> {
    fn forward(&mut self, inputs: &[Tensor]) -> Result<Tensor> {
        let Plan { stored, order, .. } = self.plan;
        for (&id, input) in stored.iter().zip(inputs) {
            self.tape.values[id] = Some(input.clone());
        }
        let mut reads = self.plan.reads.clone();
        for &id in order {
            let output = self.node(id)?;
            self.tape.values[id] = Some(output);
            for &input in &self.graph.nodes()[id].inputs {
                reads[input] -= 1;
                if reads[input] == 0 && !self.plan.keep[input] {
                    self.tape.values[input] = None;
                }
            }
        }
        match self.tape.values[self.plan.output].clone() {
            Some(logits) => Ok(logits),
            None => bail!("nothing lies above the stored tensors"),
        }
    }

    fn node(&mut self, id: NodeId) -> Result<Tensor> {
        let (graph, plan) = (self.graph, self.plan);
        let node = &graph.nodes()[id];
        let inputs: Vec<&Tensor> = node
            .inputs
            .iter()
            .filter_map(|&input| self.tape.values[input].as_ref())
            .collect();
        let Some(&x) = inputs.first() else {
            bail!("layer `{}` has lost its input", node.name);
        };
        match (node.op, self.seed) {
            (Op::Dropout { rate }, Some(seed)) if rate > 0.0 => {
                let mut stream = rng::stream(seed, "dropout", &[id as u64]);
                let mask = dropout::mask(x, rate, &mut stream)?;
                let y = dropout::apply(x, &mask)?;
                if plan.gradient[id] {
                    self.tape.dropout.insert(id, mask);
                }
                Ok(y)
            }
            (
                Op::BatchNorm {
                    epsilon, momentum, ..
                },
                _,
            ) if plan.batch_statistics[id] => {
                let stored = forward::batch_norm(graph, self.params, id, epsilon)?;
                let trained = norm::forward_train(x, stored, momentum)?;
                let running = [trained.running_mean, trained.running_variance];
                let names = plan.statistics[&id].iter().cloned();
                self.tape.statistics.extend(names.zip(running));
                let moments = (trained.mean, trained.variance);
                self.tape.batch.insert(id, moments);
                Ok(trained.y)
            }
            _ => forward::infer(graph, self.params, id, &inputs),
        }
    }
}
