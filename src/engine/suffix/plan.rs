//! What each node of the suffix needs, known before the first step.

use std::collections::BTreeMap;

use crate::config::BatchNormMode;
use crate::engine::forward;
use crate::graph::cutoff::{Frontier, Trainable};
use crate::graph::{Graph, NodeId, Op, ParamKind, Part};

/// The static analysis of a suffix. All lists but `stored`, `order` and `trained` have an entry
/// a node.
#[derive(Debug)]
pub(super) struct Plan {
    /// Nodes whose outputs are given.
    pub(super) stored: Vec<NodeId>,
    /// Nodes to run, in order.
    pub(super) order: Vec<NodeId>,
    /// Names of the parameters that train.
    pub(super) trained: Vec<String>,
    /// Whether a trained parameter feeds the output, so that its gradient is needed.
    pub(super) gradient: Vec<bool>,
    /// Whether the node's own parameters train.
    pub(super) trains: Vec<bool>,
    /// Whether a batch norm uses the batch's statistics.
    pub(super) batch_statistics: Vec<bool>,
    /// Names of running mean and variance of those.
    pub(super) statistics: BTreeMap<NodeId, [String; 2]>,
    /// Whether the reverse pass reads the node's output.
    pub(super) keep: Vec<bool>,
    /// How often the forward pass reads the node's output.
    pub(super) reads: Vec<usize>,
}

impl Plan {
    pub(super) fn new(
        graph: &Graph,
        trainable: &Trainable,
        frontier: &Frontier,
        bn: BatchNormMode,
    ) -> Self {
        let nodes = graph.nodes();
        // Without a path from the stored tensors nothing can run; the forward pass says so.
        let order = forward::between(graph, &frontier.stored, &[graph.training_output()])
            .unwrap_or_default();
        let none = || vec![false; nodes.len()];
        let mut plan = Self {
            stored: frontier.stored.clone(),
            order: Vec::new(),
            trained: Vec::new(),
            gradient: none(),
            trains: none(),
            batch_statistics: none(),
            statistics: BTreeMap::new(),
            keep: none(),
            reads: vec![0; nodes.len()],
        };
        for &id in &order {
            let node = &nodes[id];
            for &input in &node.inputs {
                plan.reads[input] += 1;
            }
            let params = graph.params(id);
            let trained = params.iter().filter(|spec| spec.kind.trains());
            let trained: Vec<String> = trained.map(|spec| spec.name.clone()).collect();
            plan.trains[id] = trainable.node(id) && !trained.is_empty();
            plan.gradient[id] =
                plan.trains[id] || node.inputs.iter().any(|&input| plan.gradient[input]);
            if plan.trains[id] {
                plan.trained.extend(trained);
            }
            let by_batch = node.part == Part::Head || bn == BatchNormMode::Train;
            if matches!(node.op, Op::BatchNorm { .. }) && plan.trains[id] && by_batch {
                plan.batch_statistics[id] = true;
                let name = |kind| {
                    let spec = params.iter().find(|spec| spec.kind == kind);
                    spec.map_or_else(String::new, |spec| spec.name.clone())
                };
                let names = [name(ParamKind::MovingMean), name(ParamKind::MovingVariance)];
                plan.statistics.insert(id, names);
            }
        }
        for &id in order.iter().filter(|&&id| plan.gradient[id]) {
            match nodes[id].op {
                Op::Attention { .. }
                | Op::LayerNorm { .. }
                | Op::LayerScale { .. }
                | Op::PointwiseDense { .. }
                | Op::Conv2d { .. }
                | Op::DepthwiseConv2d { .. }
                | Op::Dense { .. }
                | Op::BatchNorm { .. }
                | Op::MaxPool { .. }
                | Op::GlobalMaxPool => plan.keep[nodes[id].inputs[0]] = true,
                Op::ClassToken
                | Op::DropClassToken
                | Op::PositionEmbedding
                | Op::TakeClassToken => {}
                Op::Activation(activation) => match activation.bounds() {
                    Some(_) => plan.keep[id] = true,
                    None => plan.keep[nodes[id].inputs[0]] = true,
                },
                Op::Multiply => {
                    for &input in &nodes[id].inputs {
                        plan.keep[input] = true;
                    }
                }
                Op::Input
                | Op::Pad(_)
                | Op::Add
                | Op::Concat
                | Op::AvgPool { .. }
                | Op::GlobalAvgPool
                | Op::Flatten
                | Op::Identity(_)
                | Op::Reshape
                | Op::Dropout { .. } => {}
            }
        }
        plan.order = order;
        plan
    }
}
