//! Which layers train, which are frozen, and where the line between them runs.

mod trainable;

pub use trainable::Trainable;

use super::build::Graph;
use super::node::{NodeId, Op};

/// Most frozen nodes in a row that the suffix computes again so that less has to be stored.
const MOST_AGAIN: usize = 4;

/// The line between the frozen prefix and the trainable suffix of one phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontier {
    /// For every node: no trainable parameter and nothing random feeds it, so that its output for
    /// a picture is the same in every epoch.
    pub frozen: Vec<bool>,
    /// Frozen nodes whose outputs are handed to the suffix and cached: the narrowest cut at or a
    /// little below the frontier, in id order. Frozen nodes that the suffix needs above these are
    /// computed again by the suffix, without gradients.
    pub stored: Vec<NodeId>,
}

impl Frontier {
    /// Finds the frontier.
    pub fn find(graph: &Graph, trainable: &Trainable) -> Self {
        let nodes = graph.nodes();
        let mut frozen: Vec<bool> = Vec::with_capacity(nodes.len());
        for (id, node) in nodes.iter().enumerate() {
            let moves = trainable.node(id) && !graph.params(id).is_empty();
            let random = matches!(node.op, Op::Dropout { .. });
            frozen.push(!moves && !random && node.inputs.iter().all(|&input| frozen[input]));
        }
        let mut exact: Vec<NodeId> = nodes
            .iter()
            .enumerate()
            .filter(|&(id, _)| !frozen[id])
            .flat_map(|(_, node)| node.inputs.iter().copied())
            .filter(|&input| frozen[input])
            .collect();
        if frozen[graph.training_output()] {
            exact.push(graph.training_output());
        }
        exact.sort_unstable();
        exact.dedup();
        Self {
            stored: narrowest(graph, &exact),
            frozen,
        }
    }
}

/// Lowers the nodes of an exact frontier to what is smallest to store, as long as the way back up
/// is cheap to compute. Whole groups move to one node together, so that branches that start at
/// the same place are stored once.
fn narrowest(graph: &Graph, exact: &[NodeId]) -> Vec<NodeId> {
    let ways: Vec<Vec<NodeId>> = exact.iter().map(|&id| way_down(graph, id)).collect();
    let distinct = |chosen: &[NodeId]| {
        let mut ids = chosen.to_vec();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let size = |chosen: &[NodeId]| -> usize {
        distinct(chosen)
            .iter()
            .map(|&id| graph.nodes()[id].shape.elements())
            .sum()
    };
    let mut chosen = exact.to_vec();
    loop {
        let better = ways
            .iter()
            .flatten()
            .map(|&target| {
                let moved: Vec<NodeId> = chosen
                    .iter()
                    .zip(&ways)
                    .map(|(&now, way)| if way.contains(&target) { target } else { now })
                    .collect();
                (size(&moved), moved)
            })
            // Of equally small ones the highest: less to compute again.
            .min_by_key(|(size, moved)| (*size, std::cmp::Reverse(moved.iter().sum::<NodeId>())));
        match better {
            Some((smaller, moved)) if smaller < size(&chosen) => chosen = moved,
            _ => return distinct(&chosen),
        }
    }
}

/// A node and those below it that can stand in for it: at most [`MOST_AGAIN`] cheap ones have to
/// be computed again, at most one of them a pointwise convolution.
fn way_down(graph: &Graph, from: NodeId) -> Vec<NodeId> {
    let mut way = vec![from];
    let mut convolutions = 0;
    let mut at = from;
    while way.len() <= MOST_AGAIN {
        let node = &graph.nodes()[at];
        match node.op {
            Op::LayerNorm { .. } | Op::LayerScale { .. } => {}
            Op::Pad(_) | Op::BatchNorm { .. } | Op::Activation(_) => {}
            Op::Conv2d { window, .. } if window.kernel == [1, 1] && convolutions == 0 => {
                convolutions += 1;
            }
            _ => break,
        }
        at = node.inputs[0];
        way.push(at);
    }
    way
}

/// The nodes to compute `outputs` from `stored`, in order; stored nodes are not among them.
pub fn nodes_between(graph: &Graph, stored: &[NodeId], outputs: &[NodeId]) -> Vec<NodeId> {
    let nodes = graph.nodes();
    let mut needed = vec![false; nodes.len()];
    for &output in outputs {
        needed[output] = true;
    }
    for id in (0..nodes.len()).rev() {
        if stored.contains(&id) {
            needed[id] = false;
        } else if needed[id] {
            for &input in &nodes[id].inputs {
                needed[input] = true;
            }
        }
    }
    (0..nodes.len()).filter(|&id| needed[id]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flavour, ModelConfig, PhaseConfig};

    fn model(text: &str) -> ModelConfig {
        toml::from_str(&format!("backbone = \"mobilenet_v2\"\n{text}")).unwrap()
    }

    fn graph(text: &str) -> Graph {
        Graph::build(&model(text), [160, 160], Flavour::Torch).unwrap()
    }

    fn phase(text: &str) -> PhaseConfig {
        let text =
            format!("name = \"p\"\nepochs = 1\noptimizer = {{ kind = \"sgd\", lr = 0.1 }}\n{text}");
        toml::from_str(&text).unwrap()
    }

    fn stored(graph: &Graph, freezing: &str) -> Vec<String> {
        let trainable = Trainable::resolve(graph, &phase(freezing), 0).unwrap();
        Frontier::find(graph, &trainable)
            .stored
            .iter()
            .map(|&id| graph.nodes()[id].name.clone())
            .collect()
    }

    #[test]
    fn stores_the_narrowest_cut() {
        let graph = graph("head = [{ dropout = 0.2 }, { dense = 1 }]");
        for (freezing, expected) in [
            ("freeze = \"all\"", vec!["global_average_pooling2d"]),
            ("freeze = \"none\"", vec!["input_1"]),
            ("", vec!["input_1"]),
            ("freeze_before = 100", vec!["block_10_project_BN"]),
            (
                "freeze_before = \"block_11_expand_BN\"",
                vec!["block_10_project_BN"],
            ),
            (
                "freeze_before = \"block_11_expand\"",
                vec!["block_10_project_BN"],
            ),
            (
                "freeze_before = \"block_11_depthwise\"",
                vec!["block_10_project_BN"],
            ),
            (
                "freeze_before = \"block_11_depthwise_BN\"",
                vec!["block_10_project_BN", "block_11_depthwise"],
            ),
            (
                "freeze_before = \"block_13_depthwise\"",
                vec!["block_12_add"],
            ),
            ("freeze_before = \"Conv_1_bn\"", vec!["block_16_project_BN"]),
            (
                "freeze_before = \"out_relu\"",
                vec!["global_average_pooling2d"],
            ),
            ("freeze = \"Conv1*\"", vec!["Conv1"]),
        ] {
            assert_eq!(stored(&graph, freezing), expected, "{freezing}");
        }
    }

    #[test]
    fn an_unfrozen_layer_below_frozen_ones_moves_the_frontier_below_it() {
        let graph = graph("head = [{ dense = 1 }]");
        assert_eq!(
            stored(&graph, "freeze = [\"block_1*\", \"Conv_1*\"]"),
            ["input_1"]
        );
    }

    #[test]
    fn everything_above_is_computed_from_stored_nodes_alone() {
        for text in [
            "head = [{ dense = 1 }]",
            "pooling = \"none\"\nhead = [\"flatten\", { dense = 1 }]",
        ] {
            let graph = graph(text);
            for cutoff in 3..graph.backbone_len() {
                let phase = phase(&format!("freeze_before = {cutoff}"));
                let trainable = Trainable::resolve(&graph, &phase, 0).unwrap();
                let frontier = Frontier::find(&graph, &trainable);
                assert!(frontier.stored.iter().all(|&id| frontier.frozen[id]));
                let between = nodes_between(&graph, &frontier.stored, &[graph.output()]);
                assert!(
                    !between.contains(&0),
                    "cutoff {cutoff} runs from the picture"
                );
                for &id in &between {
                    for input in &graph.nodes()[id].inputs {
                        assert!(between.contains(input) || frontier.stored.contains(input));
                    }
                }
                let unfrozen = |id: &NodeId| !frontier.frozen[*id];
                assert!(
                    (0..graph.nodes().len())
                        .filter(unfrozen)
                        .all(|id| between.contains(&id))
                );
                let again = between.iter().filter(|id| !unfrozen(id)).count();
                assert!(
                    again <= MOST_AGAIN,
                    "cutoff {cutoff} computes {again} nodes again"
                );
            }
        }
    }
}
