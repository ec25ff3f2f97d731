//! What each node of the suffix needs, known before the first step.

use std::collections::BTreeMap;

use crate::config::BatchNormMode;
use crate::engine::forward;
use crate::graph::cutoff::{Frontier, Trainable, nodes_between};
use crate::graph::{Graph, NodeId, Op, ParamKind, Part};

/// The static analysis of a suffix. All lists but `stored`, `order` and `trained` have an entry
/// a node.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The node whose output is computed, and whose gradient is given.
    pub(super) output: NodeId,
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
        let output = graph.training_output();
        let order = forward::between(graph, &frontier.stored, &[output]).unwrap_or_default();
        let mut plan = Self::empty(graph, frontier.stored.clone(), output);
        for &id in &order {
            let node = &nodes[id];
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
        plan.order_by(graph, order);
        plan
    }

    /// The plan of a reverse pass down to the output of a layer: nothing trains. `None` if the layer
    /// does not lead to the logits.
    pub(super) fn to_layer(graph: &Graph, layer: NodeId) -> Option<Self> {
        let nodes = graph.nodes();
        let output = graph.output();
        let mut above = vec![false; nodes.len()];
        for id in layer + 1..nodes.len() {
            let mut inputs = nodes[id].inputs.iter();
            above[id] = inputs.any(|&input| input == layer || above[input]);
        }
        if !above[output] {
            return None;
        }
        let mut order = nodes_between(graph, &[layer], &[output]);
        order.retain(|&id| above[id]);
        let read = order
            .iter()
            .flat_map(|&id| nodes[id].inputs.iter().copied());
        let mut stored: Vec<NodeId> = read.filter(|&id| !above[id]).collect();
        stored.sort_unstable();
        stored.dedup();
        let mut plan = Self::empty(graph, stored, output);
        plan.gradient[layer] = true;
        for &id in &order {
            plan.gradient[id] = true;
        }
        plan.order_by(graph, order);
        Some(plan)
    }

    fn empty(graph: &Graph, stored: Vec<NodeId>, output: NodeId) -> Self {
        let none = || vec![false; graph.nodes().len()];
        Self {
            output,
            stored,
            order: Vec::new(),
            trained: Vec::new(),
            gradient: none(),
            trains: none(),
            batch_statistics: none(),
            statistics: BTreeMap::new(),
            keep: none(),
            reads: vec![0; graph.nodes().len()],
        }
    }

    /// Sets the order, and what is read and kept in it.
    fn order_by(&mut self, graph: &Graph, order: Vec<NodeId>) {
        let nodes = graph.nodes();
        for &id in &order {
            for &input in &nodes[id].inputs {
                self.reads[input] += 1;
            }
        }
        for &id in order.iter().filter(|&&id| self.gradient[id]) {
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
                | Op::GlobalMaxPool => self.keep[nodes[id].inputs[0]] = true,
                Op::ClassToken
                | Op::DropClassToken
                | Op::PositionEmbedding
                | Op::TakeClassToken => {}
                Op::Activation(activation) => match activation.bounds() {
                    Some(_) => self.keep[id] = true,
                    None => self.keep[nodes[id].inputs[0]] = true,
                },
                Op::Multiply => {
                    for &input in &nodes[id].inputs {
                        self.keep[input] = true;
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
        self.order = order;
    }
}
