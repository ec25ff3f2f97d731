//! Auxiliary classifiers: they read a layer half-way up the backbone, learn beside the head, and
//! are left out of everything but training.

use super::build::{GraphBuilder, GraphError};
use super::node::{NodeId, Op};
use crate::config::{Flavour, ModelConfig};
use crate::zoo::registry::{self, FAMILIES};

/// Appends the family's auxiliary classifiers, and the logits of all classifiers side by side:
/// those of the head first.
pub(super) fn append(
    mut builder: GraphBuilder,
    model: &ModelConfig,
    flavour: Flavour,
) -> Result<GraphBuilder, GraphError> {
    const KEY: &str = "model.auxiliary";
    let family = registry::find(&model.backbone).map_err(GraphError)?;
    builder.at(KEY);
    let logits = builder.last();
    builder.end_head();
    let outputs = builder.shape(logits).channels();
    let mut all: Vec<NodeId> = vec![logits];
    for auxiliary in family.auxiliaries {
        let from = builder.find(auxiliary.from).ok_or_else(|| {
            GraphError::new(
                KEY,
                format!(
                    "the backbone is cut below `{}`, which the auxiliary classifier reads",
                    auxiliary.from
                ),
                "leave `auxiliary` out, or `cut` higher".to_string(),
            )
        })?;
        all.push((auxiliary.build)(&mut builder, from, outputs, flavour)?);
    }
    if all.len() == 1 {
        let with = FAMILIES.iter().filter(|it| !it.auxiliaries.is_empty());
        let with: Vec<String> = with.map(|it| format!("`{}`", it.name)).collect();
        return Err(GraphError::new(
            KEY,
            format!("`{}` has no auxiliary classifier", model.backbone),
            format!("leave it out; backbones with one: {}", with.join(", ")),
        ));
    }
    builder.add("all_logits", Op::Concat, &all)?;
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;

    fn build(text: &str, side: u32) -> Result<Graph, GraphError> {
        let model = format!("{text}\nauxiliary = 0.3\nhead = [{{ dense = 3 }}]");
        Graph::build(&toml::from_str(&model).unwrap(), [side; 2], Flavour::Torch)
    }

    #[test]
    fn the_heads_logits_stay_the_output() {
        for (family, heads, side) in [("inception_v3", 2, 299), ("googlenet", 3, 96)] {
            let graph = build(&format!("backbone = \"{family}\""), side).unwrap();
            let shape = |id: NodeId| graph.nodes()[id].shape.elements();
            assert_eq!(graph.nodes()[graph.output()].name, "dense");
            assert_eq!(shape(graph.output()), 3);
            assert_eq!(shape(graph.training_output()), 3 * heads);
        }
        // torchvision's `InceptionAux` of three classes: 3,326,696 parameters for a thousand.
        let graph = build("backbone = \"inception_v3\"", 299).unwrap();
        let mine = (graph.output() + 1..graph.nodes().len()).flat_map(|id| graph.params(id));
        let trained = mine.filter(|spec| spec.kind.trains());
        let parameters: usize = trained.map(|spec| spec.elements()).sum();
        assert_eq!(parameters, 3_326_696 - 997 * 769);
    }

    #[test]
    fn impossible_auxiliaries_are_problems() {
        for (text, side, message) in [
            ("backbone = \"resnet50\"", 96, "`resnet50` has no auxiliary"),
            (
                "backbone = \"inception_v3\"\ncut = \"mixed5\"",
                299,
                "cut below `mixed7`",
            ),
            ("backbone = \"inception_v3\"", 150, "does not fit"),
        ] {
            let problem = build(text, side).unwrap_err().0;
            assert_eq!(problem.key, "model.auxiliary");
            assert!(problem.message.contains(message), "{}", problem.message);
        }
    }
}
