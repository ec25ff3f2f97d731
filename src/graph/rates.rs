//! Learning rates that differ by depth: decay from the head down, and multipliers by layer.

use std::ops::Range;

use super::build::{Graph, GraphError};
use super::cutoff::Trainable;
use super::node::{NodeId, ParamKind, Part};
use super::pattern::Choice;
use crate::config::{DecayUnit, PhaseConfig};

/// For every node, what the learning rate of a phase is multiplied with.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates {
    nodes: Vec<f64>,
}

impl Rates {
    /// Resolves `lr_decay` and `lr_multipliers` of a phase; `index` is the phase's position, for
    /// errors. An entry that matches no layer that trains is one.
    pub fn resolve(
        graph: &Graph,
        phase: &PhaseConfig,
        index: usize,
        trainable: &Trainable,
    ) -> Result<Self, GraphError> {
        let mut nodes = vec![1.0; graph.nodes().len()];
        let layers = Choice::all(graph);
        for (entry, multiplier) in phase.lr_multipliers.iter().enumerate() {
            let key = format!("phase[{index}].lr_multipliers[{entry}].layers");
            for cited in layers.cited(&multiplier.layers, &key)? {
                let trains = |id: NodeId| trainable.moves(graph, id);
                if !cited.nodes().any(trains) {
                    return Err(GraphError::new(
                        cited.key,
                        "this changes no learning rate: no layer that it matches trains in this \
                         phase",
                        "`xp summary CONFIG` lists what trains; match one of these layers, or \
                         take the entry out"
                            .to_string(),
                    ));
                }
                for id in cited.nodes() {
                    nodes[id] = multiplier.multiplier;
                }
            }
        }
        if let Some(decay) = phase.lr_decay {
            let depths = match decay.unit() {
                DecayUnit::Stage => depths_by_stage(graph),
                DecayUnit::Layer => depths_by_layer(graph),
            };
            for (multiplier, depth) in nodes.iter_mut().zip(depths) {
                *multiplier *= decay.factor().powi(depth);
            }
        }
        Ok(Self { nodes })
    }

    /// What the learning rate of the node's parameters is multiplied with.
    pub fn node(&self, id: NodeId) -> f64 {
        self.nodes[id]
    }
}

/// Depth below the head: 0 in the head, 1 in the backbone's last stage.
fn depths_by_stage(graph: &Graph) -> Vec<i32> {
    let mut depths = vec![0; graph.nodes().len()];
    for (depth, stage) in (1..).zip(graph.stages().into_iter().rev()) {
        depths[stage.nodes].fill(depth);
    }
    depths
}

/// Depth below the head: 0 in the head, and 1 more for every layer with a kernel on the longest way
/// up to it. Norms and activations are as deep as the layer whose output they read.
fn depths_by_layer(graph: &Graph) -> Vec<i32> {
    let nodes = graph.nodes();
    let mut depths = vec![0; nodes.len()];
    for id in (0..nodes.len()).rev() {
        if nodes[id].part == Part::Backbone {
            depths[id] = depths[id].max(1);
        }
        let params = graph.params(id);
        let kernel = params.iter().any(|spec| spec.kind == ParamKind::Kernel);
        let counts = kernel && nodes[id].part == Part::Backbone && !nodes[id].joined;
        let below = depths[id] + i32::from(counts);
        for &input in &nodes[id].inputs {
            depths[input] = depths[input].max(below);
        }
    }
    // Both halves of a layer train at one rate.
    for Range { start, end } in graph.layers() {
        let depth = depths[end - 1];
        depths[start..end].fill(depth);
    }
    depths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flavour, Problem};

    fn graph(backbone: &str) -> Graph {
        let model = format!("backbone = \"{backbone}\"\nhead = [{{ dense = 2 }}]");
        Graph::build(&toml::from_str(&model).unwrap(), [96, 96], Flavour::Torch).unwrap()
    }

    fn resolve(graph: &Graph, text: &str) -> Result<Rates, Problem> {
        let optimizer = "optimizer = { kind = \"sgd\", lr = 0.1 }";
        let text = format!("name = \"p\"\nepochs = 1\n{optimizer}\n{text}");
        let phase: PhaseConfig = toml::from_str(&text).unwrap();
        let trainable = Trainable::resolve(graph, &phase, 2).unwrap();
        Rates::resolve(graph, &phase, 2, &trainable).map_err(|error| error.0)
    }

    #[track_caller]
    fn check(graph: &Graph, text: &str, expected: &[(&str, f64)]) {
        let rates = resolve(graph, text).unwrap();
        for (name, expected) in expected {
            let found = rates.node(graph.find(name).unwrap());
            assert!((found - expected).abs() < 1e-12, "{name}: {found}");
        }
    }

    #[test]
    fn rates_fall_with_every_stage() {
        let graph = graph("mobilenet_v2");
        check(
            &graph,
            "lr_decay = 0.5",
            &[
                ("dense", 1.0),
                ("Conv_1", 0.5),
                ("block_13_expand", 0.5),
                ("block_12_project_BN", 0.25),
                ("Conv1", 0.03125),
            ],
        );
    }

    #[test]
    fn rates_fall_with_every_layer() {
        check(
            &graph("mobilenet_v2"),
            "lr_decay = { factor = 0.5, per = \"layer\" }",
            &[
                ("dense", 1.0),
                ("Conv_1_bn", 0.5),
                ("Conv_1", 0.5),
                ("block_16_project_BN", 0.25),
                ("block_16_project", 0.25),
                ("block_16_depthwise", 0.125),
            ],
        );
        // Side by side means equally deep; the way past a block is as deep as its sum.
        check(
            &graph("resnet50"),
            "lr_decay = { factor = 0.5, per = \"layer\" }",
            &[
                ("conv5_block3_3_conv", 0.5),
                ("conv5_block3_1_conv", 0.125),
                ("conv5_block1_0_conv", 0.5f64.powi(7)),
                ("conv5_block1_0_bn", 0.5f64.powi(7)),
                ("conv5_block1_3_conv", 0.5f64.powi(7)),
            ],
        );
        // A separable convolution is one layer.
        check(
            &graph("xception"),
            "lr_decay = { factor = 0.5, per = \"layer\" }",
            &[("block14_sepconv2", 0.5), ("block14_sepconv1", 0.25)],
        );
    }

    #[test]
    fn the_last_multiplier_that_matches_counts() {
        check(
            &graph("mobilenet_v2"),
            "lr_multipliers = [{ layers = \"block_*\", multiplier = 0.1 }, \
             { layers = [\"block_16_*\", -1], multiplier = 10.0 }]\nlr_decay = 0.5",
            &[
                ("block_15_expand", 0.05),
                ("block_16_expand", 5.0),
                ("Conv_1", 0.5),
                ("dense", 10.0),
            ],
        );
    }

    #[test]
    fn multipliers_of_nothing_are_problems() {
        let graph = graph("mobilenet_v2");
        for (text, key, message) in [
            (
                "lr_multipliers = [{ layers = \"blok_1*\", multiplier = 0.1 }]",
                "phase[2].lr_multipliers[0].layers",
                "no layer matches `blok_1*`",
            ),
            (
                "lr_multipliers = [{ layers = [\"dense\", \"x*\"], multiplier = 0.1 }]",
                "phase[2].lr_multipliers[0].layers[1]",
                "no layer matches `x*`",
            ),
            (
                "freeze = \"all\"\nlr_multipliers = [{ layers = \"Conv*\", multiplier = 0.1 }]",
                "phase[2].lr_multipliers[0].layers",
                "no layer that it matches trains",
            ),
        ] {
            let problem = resolve(&graph, text).unwrap_err();
            assert_eq!(problem.key, key);
            assert!(problem.message.contains(message), "{}", problem.message);
            assert!(problem.help.is_some());
        }
    }
}
