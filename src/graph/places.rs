//! Where in the picture the values of a layer lie, and the last layer of which that can be said.

use super::build::Graph;
use super::node::{NodeId, Op, Shape};

/// A grid of places over the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Tokens before the first place: the class token, which lies nowhere.
    pub before: usize,
}

impl Places {
    /// Number of places.
    pub fn count(self) -> usize {
        self.height * self.width
    }
}

impl Graph {
    /// The places of a node's output; `None` of a vector and of a map of one place. Tokens lie where
    /// their patches do.
    pub fn places(&self, id: NodeId) -> Option<Places> {
        let Shape::Map { height, width, .. } = self.nodes()[id].shape else {
            return None;
        };
        let tokens = |patches: [usize; 2]| match width.checked_sub(patches[0] * patches[1]) {
            Some(before @ (0 | 1)) if height == 1 => Some(Places {
                height: patches[0],
                width: patches[1],
                before,
            }),
            _ => None,
        };
        let plain = Places {
            height,
            width,
            before: 0,
        };
        let places = self.patches(id).and_then(tokens).unwrap_or(plain);
        (places.count() > 1).then_some(places)
    }

    /// Rows and columns of the patches that the tokens of a node stand for.
    fn patches(&self, id: NodeId) -> Option<[usize; 2]> {
        let mut below = self.nodes()[..=id].iter();
        let token = below.rfind(|node| node.op == Op::ClassToken)?;
        match self.nodes()[token.inputs[0]].shape {
            Shape::Map { height, width, .. } => Some([height, width]),
            Shape::Vector(_) => None,
        }
    }

    /// Whether the logits are computed from the node's output.
    pub fn leads_to_logits(&self, id: NodeId) -> bool {
        self.below_logits()[id]
    }

    fn below_logits(&self) -> Vec<bool> {
        let mut leads = vec![false; self.nodes().len()];
        leads[self.output()] = true;
        for id in (0..=self.output()).rev() {
            if leads[id] {
                let inputs = &self.nodes()[id].inputs;
                inputs.iter().for_each(|&input| leads[input] = true);
            }
        }
        leads
    }

    /// The last node that has places and that all of the picture goes through on its way to the logits:
    /// what is pooled. Where the class token alone is read, the normalised tokens that go into the last
    /// attention, as none behind it but that one counts. `None` if there is no such node.
    pub fn last_with_places(&self) -> Option<NodeId> {
        let leads = self.below_logits();
        let nodes = self.nodes();
        let of = |op: fn(&Op) -> bool| (0..nodes.len()).rfind(|&id| leads[id] && op(&nodes[id].op));
        if of(|op| matches!(op, Op::TakeClassToken)).is_some()
            && let Some(attention) = of(|op| matches!(op, Op::Attention { .. }))
        {
            let queries = nodes[attention].inputs[0];
            let tokens = nodes[queries].inputs[0];
            if self.places(tokens).is_some() {
                return Some(tokens);
            }
        }
        let shows = |id: &NodeId| {
            // What is padded lies elsewhere; the others are other names of what they read.
            let own = !matches!(
                nodes[*id].op,
                Op::Pad(_) | Op::Dropout { .. } | Op::Identity(_)
            );
            own && leads[*id] && self.places(*id).is_some() && self.carries_all(*id)
        };
        (1..nodes.len()).rev().find(shows)
    }

    /// Whether nothing reaches the logits past a node.
    fn carries_all(&self, node: NodeId) -> bool {
        let mut reached = vec![false; self.nodes().len()];
        reached[0] = true;
        for (id, other) in self.nodes().iter().enumerate().skip(1) {
            reached[id] = id != node && other.inputs.iter().any(|&input| reached[input]);
        }
        !reached[self.output()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flavour;
    use crate::zoo::registry::FAMILIES;

    fn graph(text: &str, side: u32) -> Graph {
        Graph::build(&toml::from_str(text).unwrap(), [side, side], Flavour::Torch).unwrap()
    }

    fn shown(graph: &Graph) -> String {
        let Some(id) = graph.last_with_places() else {
            return "none".into();
        };
        let Places {
            height,
            width,
            before,
        } = graph.places(id).unwrap();
        format!(
            "{} {height}x{width}+{before}",
            graph.nodes()[id].name.as_str()
        )
    }

    #[test]
    fn every_backbone_has_a_layer_to_look_at_under_every_pooling() {
        for family in FAMILIES {
            for head in [
                "head = [{ dense = 3 }]",
                "pooling = \"max\"\nhead = [{ dense = 3 }]",
                "pooling = \"none\"\nhead = [\"flatten\", { dense = 3 }]",
            ] {
                let text = format!("backbone = {:?}\n{head}", family.name);
                let graph = graph(&text, family.default_size);
                let id = graph.last_with_places().unwrap();
                let places = graph.places(id).unwrap();
                let name = family.name;
                assert!((5..=16).contains(&places.height), "{name}: {places:?}");
                assert_eq!(places.height, places.width, "{name}");
                assert!(graph.leads_to_logits(id), "{name}");
                // Only where a class token is read alone may anything go past it.
                let class_token = matches!(graph.nodes()[id].op, Op::LayerNorm { .. });
                assert!(graph.carries_all(id) || class_token, "{name}");
            }
        }
    }

    #[test]
    fn it_is_what_is_pooled() {
        let dense = "head = [{ dropout = 0.2 }, { dense = 1 }]";
        for (text, side, expected) in [
            ("backbone = \"mobilenet_v2\"", 160, "out_relu 5x5+0"),
            ("backbone = \"resnet18\"", 224, "conv5_block2_out 7x7+0"),
            ("backbone = \"vgg16\"", 224, "block5_pool 7x7+0"),
            ("backbone = \"inception_v3\"", 299, "mixed10 8x8+0"),
            ("backbone = \"vit_small_16\"", 224, "block_11_norm1 14x14+1"),
            (
                "backbone = \"vit_small_16\"\npooling = \"avg\"",
                224,
                "patch_tokens 14x14+0",
            ),
            (
                "backbone = \"vit_small_16\"\ncut = \"block_4_add2\"",
                224,
                "block_4_norm1 14x14+1",
            ),
            (
                "backbone = \"mobilenet_v2\"\ncut = \"block_13_expand_relu\"",
                160,
                "block_13_expand_relu 10x10+0",
            ),
            // Where the last map is one pixel, the one before.
            ("backbone = \"resnet18\"", 32, "conv4_block2_out 2x2+0"),
            ("backbone = \"mobilenet_v2\"", 1, "none"),
        ] {
            assert_eq!(
                shown(&graph(&format!("{text}\n{dense}"), side)),
                expected,
                "{text}"
            );
        }
        let head = "pooling = \"none\"\nhead = [{ conv2d = 8 }, \"batch_norm\", \"relu\", \
                    { dropout = 0.1 }, \"flatten\", { dense = 2 }]";
        let headed = graph(&format!("backbone = \"mobilenet_v2\"\n{head}"), 96);
        assert_eq!(shown(&headed), "re_lu 3x3+0");
    }

    #[test]
    fn vectors_and_single_pixels_have_no_places() {
        let graph = graph(
            "backbone = \"mobilenet_v3_small\"\nhead = [{ dense = 1 }]",
            64,
        );
        for (name, has) in [("global_average_pooling2d", false), ("dense", false)] {
            assert_eq!(
                graph.places(graph.find(name).unwrap()).is_some(),
                has,
                "{name}"
            );
        }
        let one_pixel = |id: &usize| {
            let shape = graph.nodes()[*id].shape;
            matches!(
                shape,
                Shape::Map {
                    height: 1,
                    width: 1,
                    ..
                }
            )
        };
        let pixels: Vec<usize> = (0..graph.nodes().len()).filter(one_pixel).collect();
        assert!(pixels.len() > 5);
        assert!(pixels.iter().all(|&id| graph.places(id).is_none()));
    }

    #[test]
    fn auxiliary_classifiers_do_not_lead_to_the_logits() {
        let graph = graph(
            "backbone = \"googlenet\"\nauxiliary = 0.4\nhead = [{ dense = 3 }]",
            224,
        );
        let last = graph.nodes().len() - 1;
        assert!(last > graph.output() && !graph.leads_to_logits(last));
        assert_eq!(
            graph.last_with_places(),
            graph_without_auxiliaries().last_with_places()
        );
    }

    fn graph_without_auxiliaries() -> Graph {
        graph("backbone = \"googlenet\"\nhead = [{ dense = 3 }]", 224)
    }
}
