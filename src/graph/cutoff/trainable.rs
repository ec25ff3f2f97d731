//! Which layers train in a phase.

use crate::config::{BatchNormMode, Freeze, LayerRef, Layers, PhaseConfig};
use crate::graph::build::{Graph, GraphError};
use crate::graph::nearest::did_you_mean;
use crate::graph::node::{NodeId, Op, Part};
use crate::graph::pattern::{Choice, SUMMARY, position};

/// For every node, whether its parameters train in a phase. Head nodes always do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trainable {
    nodes: Vec<bool>,
}

impl Trainable {
    /// Resolves `freeze`, `freeze_before`, `freeze_stages` or `train_only` of a phase, and
    /// `bn = "frozen"`; `index` is the phase's position, for errors. With none of them, everything
    /// trains.
    pub fn resolve(graph: &Graph, phase: &PhaseConfig, index: usize) -> Result<Self, GraphError> {
        let key = |name: &str| format!("phase[{index}].{name}");
        check_one_of(phase, key)?;
        let mut frozen = if let Some(freeze) = &phase.freeze {
            frozen_by_pattern(graph, freeze, &key("freeze"))?
        } else if let Some(layer) = &phase.freeze_before {
            frozen_before(graph, layer, &key("freeze_before"))?
        } else if let Some(stages) = phase.freeze_stages {
            frozen_stages(graph, stages, &key("freeze_stages"))?
        } else if let Some(layers) = &phase.train_only {
            frozen_but(graph, layers, phase.bn, &key("train_only"))?
        } else {
            vec![false; graph.backbone_len()]
        };
        if phase.bn == Some(BatchNormMode::Frozen) {
            for (frozen, node) in frozen.iter_mut().zip(graph.nodes()) {
                *frozen |= matches!(node.op, Op::BatchNorm { .. });
            }
        }
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

    /// Whether the node has parameters that an optimizer moves in this phase.
    pub fn moves(&self, graph: &Graph, id: NodeId) -> bool {
        self.node(id) && can_train(graph, id)
    }
}

/// Whether the node has parameters that an optimizer may move.
fn can_train(graph: &Graph, id: NodeId) -> bool {
    graph.params(id).iter().any(|spec| spec.kind.trains())
}

fn check_one_of(phase: &PhaseConfig, key: impl Fn(&str) -> String) -> Result<(), GraphError> {
    match phase.freezing_keys()[..] {
        [first, second, ..] => Err(GraphError::new(
            key(second),
            format!("a phase takes either `{first}` or `{second}`"),
            "remove one of the two".to_string(),
        )),
        _ => Ok(()),
    }
}

fn frozen_by_pattern(graph: &Graph, freeze: &Freeze, key: &str) -> Result<Vec<bool>, GraphError> {
    let patterns = match freeze {
        Freeze::One(word) if word == "all" => return Ok(vec![true; graph.backbone_len()]),
        Freeze::One(word) if word == "none" => return Ok(vec![false; graph.backbone_len()]),
        Freeze::One(pattern) => std::slice::from_ref(pattern),
        Freeze::Many(patterns) => patterns,
    };
    let layers = Choice::backbone(graph);
    let mut frozen = vec![false; graph.backbone_len()];
    for (position, pattern) in patterns.iter().enumerate() {
        let key = match freeze {
            Freeze::One(_) => key.to_string(),
            Freeze::Many(_) => format!("{key}[{position}]"),
        };
        for nodes in layers.matching(pattern, &key, &["all", "none"])? {
            frozen[nodes].fill(true);
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
                            .or_else(|| Some(SUMMARY.into())),
                    },
                )
            })?,
        LayerRef::Index(index) => position(*index, layers)
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
            })?,
    };
    let frozen = frozen_below(graph, starts[cutoff].start);
    freezes_something(graph, &frozen, || {
        GraphError::new(
            key,
            "this freezes nothing: no layer before it has parameters",
            "set `freeze = \"none\"` to train the whole backbone".to_string(),
        )
    })?;
    Ok(frozen)
}

fn frozen_stages(graph: &Graph, count: i64, key: &str) -> Result<Vec<bool>, GraphError> {
    let stages = graph.stages();
    let most = stages.len() - 1;
    match position(count, stages.len()) {
        Some(first @ 1..) if first <= most => Ok(frozen_below(graph, stages[first].nodes.start)),
        _ => Err(GraphError::new(
            key,
            match count {
                0 => "this freezes nothing".to_string(),
                _ => format!("the backbone has {} stages, not {count}", stages.len()),
            },
            match most {
                0 => "name layers with `freeze`, or freeze `\"all\"` or `\"none\"`".to_string(),
                _ => format!(
                    "give a number from 1 to {most}, or from -{most} to -1; `xp summary` lists the \
                     stages, and `freeze` takes `\"all\"` and `\"none\"`"
                ),
            },
        )),
    }
}

/// Everything but the cited layers.
fn frozen_but(
    graph: &Graph,
    layers: &Layers,
    bn: Option<BatchNormMode>,
    key: &str,
) -> Result<Vec<bool>, GraphError> {
    let mut frozen = vec![true; graph.backbone_len()];
    for cited in Choice::backbone(graph).cited(layers, key)? {
        let held = |id: NodeId| {
            bn == Some(BatchNormMode::Frozen)
                && matches!(graph.nodes()[id].op, Op::BatchNorm { .. })
        };
        let trains = |id: NodeId| can_train(graph, id) && !held(id);
        if !cited.nodes().any(trains) {
            return Err(GraphError::new(
                cited.key,
                "this trains nothing: the layers it matches have no parameters that train",
                "match convolutions too, or set `freeze = \"all\"` to train the head alone"
                    .to_string(),
            ));
        }
        for id in cited.nodes() {
            frozen[id] = false;
        }
    }
    Ok(frozen)
}

fn frozen_below(graph: &Graph, first: NodeId) -> Vec<bool> {
    (0..graph.backbone_len()).map(|id| id < first).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flavour;
    use crate::graph::cutoff::Frontier;

    fn graph(text: &str) -> Graph {
        let text = format!("backbone = \"mobilenet_v2\"\n{text}");
        Graph::build(&toml::from_str(&text).unwrap(), [160, 160], Flavour::Torch).unwrap()
    }

    fn phase(text: &str) -> PhaseConfig {
        let text =
            format!("name = \"p\"\nepochs = 1\noptimizer = {{ kind = \"sgd\", lr = 0.1 }}\n{text}");
        toml::from_str(&text).unwrap()
    }

    /// Names of the nodes whose parameters train.
    fn trained(graph: &Graph, freezing: &str) -> Vec<String> {
        let trainable = Trainable::resolve(graph, &phase(freezing), 0).unwrap();
        (0..graph.nodes().len())
            .filter(|&id| trainable.moves(graph, id))
            .map(|id| graph.nodes()[id].name.clone())
            .collect()
    }

    fn problem(freezing: &str) -> crate::config::Problem {
        let graph = graph("head = [{ dense = 1 }]");
        Trainable::resolve(&graph, &phase(freezing), 1)
            .unwrap_err()
            .0
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
    fn only_the_cited_layers_train() {
        let graph = graph("head = [{ dense = 1 }]");
        assert_eq!(
            trained(&graph, "train_only = \"block_16_project*\""),
            ["block_16_project", "block_16_project_BN", "dense"]
        );
        assert_eq!(
            trained(&graph, "train_only = [\"Conv1\", 100, -3]"),
            ["Conv1", "block_11_expand_BN", "Conv_1", "dense"]
        );
        assert_eq!(
            trained(
                &graph,
                "train_only = \"block_16_project*\"\nbn = \"frozen\""
            ),
            ["block_16_project", "dense"]
        );
    }

    #[test]
    fn frozen_batch_norm_keeps_scale_and_offset() {
        let graph = graph("head = [\"batch_norm\", { dense = 1 }]");
        let frozen = "freeze_before = \"block_16_project_BN\"\nbn = \"frozen\"";
        // The head's own always trains.
        assert_eq!(
            trained(&graph, frozen),
            ["Conv_1", "batch_normalization", "dense"]
        );
        // So the cached features move up to the first layer that trains.
        let trainable = Trainable::resolve(&graph, &phase(frozen), 0).unwrap();
        let stored = Frontier::find(&graph, &trainable).stored;
        assert_eq!(graph.nodes()[stored[0]].name, "block_16_project_BN");
    }

    #[test]
    fn stages_freeze_from_the_picture_on() {
        let graph = graph("head = [{ dense = 1 }]");
        let same = |stages: &str, cutoff: &str| {
            let by_stage = Trainable::resolve(&graph, &phase(stages), 0).unwrap();
            assert_eq!(
                by_stage,
                Trainable::resolve(&graph, &phase(cutoff), 0).unwrap()
            );
        };
        same("freeze_stages = 1", "freeze_before = \"block_1_expand\"");
        same("freeze_stages = -1", "freeze_before = \"block_13_expand\"");
        same("freeze_stages = 4", "freeze_stages = -1");
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
                "freeze_stages = 5",
                "phase[1].freeze_stages",
                "has 5 stages, not 5",
                "from 1 to 4, or from -4 to -1",
            ),
            (
                "freeze_stages = -5",
                "phase[1].freeze_stages",
                "has 5 stages, not -5",
                "from 1 to 4",
            ),
            (
                "train_only = [\"Conv*\", \"blok_1*\"]",
                "phase[1].train_only[1]",
                "matches `blok_1*`",
                "`block_1_",
            ),
            (
                "train_only = 155",
                "phase[1].train_only",
                "there are 155 backbone layers, so 155 is out of range",
                "-155 to -1",
            ),
            (
                "train_only = \"*_relu\"",
                "phase[1].train_only",
                "trains nothing",
                "freeze = \"all\"",
            ),
            (
                "train_only = \"*_BN\"\nbn = \"frozen\"",
                "phase[1].train_only",
                "trains nothing",
                "convolutions",
            ),
            (
                "freeze_stages = 1\ntrain_only = \"Conv*\"",
                "phase[1].train_only",
                "either `freeze_stages` or `train_only`",
                "remove",
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
