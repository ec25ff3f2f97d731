//! Which layers train, which are frozen, and where the line between them runs.

use globset::{Glob, GlobMatcher};

use super::build::{Graph, GraphError};
use super::nearest::did_you_mean;
use super::node::{NodeId, Op, Part};
use crate::config::{Freeze, LayerRef, PhaseConfig};

/// Most frozen nodes in a row that the suffix computes again so that less has to be stored.
const MOST_AGAIN: usize = 4;

/// For every node, whether its parameters train in a phase. Head nodes always do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trainable {
    nodes: Vec<bool>,
}

impl Trainable {
    /// Resolves `freeze` / `freeze_before` of a phase; `index` is the phase's position, for
    /// errors. With neither, everything trains.
    pub fn resolve(graph: &Graph, phase: &PhaseConfig, index: usize) -> Result<Self, GraphError> {
        let key = |name: &str| format!("phase[{index}].{name}");
        let frozen = match (&phase.freeze, &phase.freeze_before) {
            (Some(_), Some(_)) => {
                return Err(GraphError::new(
                    key("freeze_before"),
                    "a phase takes either `freeze` or `freeze_before`",
                    "remove one of the two".to_string(),
                ));
            }
            (None, None) => vec![false; graph.backbone_len()],
            (Some(freeze), None) => frozen_by_pattern(graph, freeze, &key("freeze"))?,
            (None, Some(layer)) => frozen_before(graph, layer, &key("freeze_before"))?,
        };
        let nodes = graph
            .nodes()
            .iter()
            .enumerate()
            .map(|(id, node)| node.part == Part::Head || !frozen[id])
            .collect();
        Ok(Self { nodes })
    }

    /// Whether the node's parameters train.
    pub fn node(&self, id: NodeId) -> bool {
        self.nodes[id]
    }
}

fn frozen_by_pattern(graph: &Graph, freeze: &Freeze, key: &str) -> Result<Vec<bool>, GraphError> {
    let patterns = match freeze {
        Freeze::One(word) if word == "all" => return Ok(vec![true; graph.backbone_len()]),
        Freeze::One(word) if word == "none" => return Ok(vec![false; graph.backbone_len()]),
        Freeze::One(pattern) => std::slice::from_ref(pattern),
        Freeze::Many(patterns) => patterns,
    };
    let layers = graph.backbone_layers();
    let mut frozen = vec![false; graph.backbone_len()];
    for (position, pattern) in patterns.iter().enumerate() {
        let key = match freeze {
            Freeze::One(_) => key.to_string(),
            Freeze::Many(_) => format!("{key}[{position}]"),
        };
        let matcher = matcher(pattern, &key)?;
        let mut matches = 0;
        for (name, nodes) in graph.backbone_names().zip(&layers) {
            if matcher.is_match(name) {
                frozen[nodes.clone()].fill(true);
                matches += 1;
            }
        }
        if matches == 0 {
            let plain = pattern.replace(['*', '?', '[', ']', '{', '}'], "");
            let known = ["all", "none"].into_iter().chain(graph.backbone_names());
            return Err(GraphError::new(
                key,
                format!("no backbone layer matches `{pattern}`"),
                did_you_mean(&plain, known)
                    .or_else(|| Some("`xp summary` lists the layers".into())),
            ));
        }
    }
    freezes_something(graph, &frozen, || {
        GraphError::new(
            key,
            "this freezes nothing: the layers it matches have no parameters",
            "match convolutions or batch norms too, or set `freeze = \"none\"`".to_string(),
        )
    })?;
    Ok(frozen)
}

fn matcher(pattern: &str, key: &str) -> Result<GlobMatcher, GraphError> {
    Glob::new(pattern)
        .map(|glob| glob.compile_matcher())
        .map_err(|error| {
            GraphError::new(
                key,
                format!("`{pattern}` is no pattern: {}", error.kind()),
                "`*` stands for any characters, `?` for one, `[ab]` for a or b".to_string(),
            )
        })
}

fn frozen_before(graph: &Graph, layer: &LayerRef, key: &str) -> Result<Vec<bool>, GraphError> {
    let starts = graph.backbone_layers();
    let layers = starts.len();
    let cutoff = match layer {
        LayerRef::Name(name) => graph
            .backbone_names()
            .position(|known| known == name)
            .ok_or_else(|| {
                let head = graph.find(name).is_some();
                GraphError::new(
                    key,
                    match head {
                        true => format!("`{name}` is a layer of the head, which always trains"),
                        false => format!("the backbone has no layer `{name}`"),
                    },
                    match head {
                        true => Some("set `freeze = \"all\"` to freeze the whole backbone".into()),
                        false => did_you_mean(name, graph.backbone_names())
                            .or_else(|| Some("`xp summary` lists the layers".into())),
                    },
                )
            })?,
        LayerRef::Index(index) => {
            let from_start = if *index < 0 {
                index.saturating_add(layers as i64)
            } else {
                *index
            };
            usize::try_from(from_start)
                .ok()
                .filter(|&cutoff| cutoff < layers)
                .ok_or_else(|| {
                    GraphError::new(
                        key,
                        format!("the backbone has {layers} layers, so {index} is out of range"),
                        format!(
                            "give an index from 1 to {}, or from -{} to -1; \
                             `freeze = \"all\"` freezes the whole backbone",
                            layers - 1,
                            layers - 1
                        ),
                    )
                })?
        }
    };
    let first = starts[cutoff].start;
    let frozen: Vec<bool> = (0..graph.backbone_len()).map(|id| id < first).collect();
    freezes_something(graph, &frozen, || {
        GraphError::new(
            key,
            "this freezes nothing: no layer before it has parameters",
            "set `freeze = \"none\"` to train the whole backbone".to_string(),
        )
    })?;
    Ok(frozen)
}

fn freezes_something(
    graph: &Graph,
    frozen: &[bool],
    otherwise: impl FnOnce() -> GraphError,
) -> Result<(), GraphError> {
    let any = frozen
        .iter()
        .enumerate()
        .any(|(id, &frozen)| frozen && !graph.params(id).is_empty());
    if any { Ok(()) } else { Err(otherwise()) }
}

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
    use crate::config::{Flavour, ModelConfig};

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

    fn problem(freezing: &str) -> crate::config::Problem {
        let graph = graph("head = [{ dense = 1 }]");
        Trainable::resolve(&graph, &phase(freezing), 1)
            .unwrap_err()
            .0
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

    #[test]
    fn negative_indices_count_from_the_end_of_the_backbone() {
        let graph = graph("head = [{ dense = 1 }]");
        let by_index = Trainable::resolve(&graph, &phase("freeze_before = -3"), 0).unwrap();
        let by_name = Trainable::resolve(&graph, &phase("freeze_before = \"Conv_1\""), 0).unwrap();
        assert_eq!(by_index, by_name);
        assert!(by_index.node(graph.output()));
    }

    #[test]
    fn impossible_cutoffs_are_problems() {
        for (freezing, key, message, help) in [
            (
                "freeze_before = 0",
                "phase[1].freeze_before",
                "freezes nothing",
                "freeze = \"none\"",
            ),
            (
                "freeze_before = 2",
                "phase[1].freeze_before",
                "freezes nothing",
                "freeze = \"none\"",
            ),
            (
                "freeze_before = -155",
                "phase[1].freeze_before",
                "freezes nothing",
                "none",
            ),
            (
                "freeze_before = 155",
                "phase[1].freeze_before",
                "out of range",
                "freeze = \"all\"",
            ),
            (
                "freeze_before = -156",
                "phase[1].freeze_before",
                "out of range",
                "-154 to -1",
            ),
            (
                "freeze_before = \"block_11_expand_bm\"",
                "phase[1].freeze_before",
                "no layer `block_11_expand_bm`",
                "did you mean `block_11_expand_BN`",
            ),
            (
                "freeze_before = \"dense\"",
                "phase[1].freeze_before",
                "head",
                "freeze = \"all\"",
            ),
            (
                "freeze = \"al\"",
                "phase[1].freeze",
                "matches `al`",
                "`all`",
            ),
            (
                "freeze = \"blok_1*\"",
                "phase[1].freeze",
                "matches `blok_1*`",
                "`block_1_",
            ),
            (
                "freeze = \"*_relu\"",
                "phase[1].freeze",
                "freezes nothing",
                "none",
            ),
            (
                "freeze = [\"Conv*\", \"x*\"]",
                "phase[1].freeze[1]",
                "matches `x*`",
                "xp summary",
            ),
            (
                "freeze = \"block_[\"",
                "phase[1].freeze",
                "is no pattern",
                "`*`",
            ),
            (
                "freeze = \"all\"\nfreeze_before = 3",
                "phase[1].freeze_before",
                "either",
                "remove",
            ),
        ] {
            let found = problem(freezing);
            assert_eq!(found.key, key, "{freezing}");
            assert!(
                found.message.contains(message),
                "{freezing}: {}",
                found.message
            );
            let offered = found.help.unwrap_or_default();
            assert!(offered.contains(help), "{freezing}: {offered}");
        }
    }
}
