//! Stages of a backbone, found in the graph and not in tables: a stage begins where the map shrinks,
//! in nets of tokens with each numbered block.

use std::ops::Range;

use super::build::Graph;
use super::node::{NodeId, Op, ParamKind};

/// A run of backbone layers, the first of them next to the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its nodes; it begins with the first node of a layer.
    pub nodes: Range<NodeId>,
}

impl Graph {
    /// The stages of the backbone, in order; together they are the whole of it, and each has
    /// parameters, unless there are none at all.
    ///
    /// A stage begins with the block that multiplies the stride between picture and map: after the
    /// last place below it that everything passes, and before a 1 x 1 convolution that only widens
    /// the map for the block, as in inverted residuals.
    pub fn stages(&self) -> Vec<Stage> {
        let nodes = &self.nodes()[..self.backbone_len()];
        let net = Net::new(self);
        let mut begins = vec![0];
        let (mut strides, mut most, mut block) = (Vec::new(), 1, None);
        for (id, node) in nodes.iter().enumerate() {
            let below = node.inputs.iter().map(|&input| strides[input]).max();
            strides.push(below.unwrap_or(1) * stride(&node.op));
            let begin = if strides[id] > most {
                most = strides[id];
                Some(net.beginning(id))
            } else {
                let number = block_of(&node.name).filter(|_| net.tokens);
                let new = number.is_some() && number != block;
                block = number.or(block);
                (new && !node.joined).then_some(id)
            };
            begins.extend(begin.filter(|&begin| begins.last().is_some_and(|&last| begin > last)));
        }
        begins.push(nodes.len());
        let mut stages: Vec<Stage> = Vec::new();
        let mut start = 0;
        for end in begins.into_iter().skip(1) {
            if (start..end).any(|id| !self.params(id).is_empty()) {
                stages.push(Stage { nodes: start..end });
                start = end;
            }
        }
        // What has no parameters goes with what lies before it.
        match stages.last_mut() {
            Some(last) => last.nodes.end = nodes.len(),
            None => stages.push(Stage {
                nodes: 0..nodes.len(),
            }),
        }
        stages
    }
}

/// What the beginnings of stages depend on.
struct Net<'a> {
    graph: &'a Graph,
    /// For every node of the backbone, whether all that lies above reads nothing below it.
    passed: Vec<bool>,
    /// Whether the backbone is a net of tokens, whose map never shrinks.
    tokens: bool,
}

impl<'a> Net<'a> {
    fn new(graph: &'a Graph) -> Self {
        let count = graph.backbone_len();
        let nodes = &graph.nodes()[..count];
        let mut last_reader: Vec<NodeId> = (0..count).collect();
        for (id, node) in nodes.iter().enumerate() {
            node.inputs.iter().for_each(|&it| last_reader[it] = id);
        }
        let mut furthest = 0;
        let passed = (0..count)
            .map(|id| {
                let passed = furthest <= id;
                furthest = furthest.max(last_reader[id]);
                passed
            })
            .collect();
        Self {
            graph,
            passed,
            tokens: nodes
                .iter()
                .any(|node| matches!(node.op, Op::Attention { .. })),
        }
    }

    /// Where the stage begins that `shrinking` makes.
    fn beginning(&self, shrinking: NodeId) -> NodeId {
        let nodes = self.graph.nodes();
        let size = |id: NodeId| nodes[id].shape.elements();
        let ends_layer = |id: NodeId| nodes.get(id + 1).is_none_or(|next| !next.joined);
        let passes = |&id: &NodeId| self.passed[id] && ends_layer(id);
        let Some(mut best) = (0..shrinking).rev().find(passes) else {
            return shrinking;
        };
        let (mut at, mut widened, mut norms) = (best, false, false);
        loop {
            if let Some(kernel) = self.kernel(at) {
                let widens = matches!(kernel[..], [_, inputs, 1, 1] if inputs > 1);
                if !widens || widened {
                    break;
                }
                widened = true;
            }
            norms |= !self.graph.params(at).is_empty();
            let &[below] = nodes[at].inputs.as_slice() else {
                break;
            };
            if stride(&nodes[at].op) > 1 || !self.passed[below] {
                break;
            }
            // A norm of what it reads from another block begins this one.
            let goes_along = norms && !widened && self.kernel(below).is_none();
            let smaller = size(below) < size(best) || size(below) == size(best) && goes_along;
            if smaller && ends_layer(below) {
                (best, norms) = (below, false);
            }
            at = below;
        }
        best + 1
    }

    /// Dimensions of a node's kernel.
    fn kernel(&self, id: NodeId) -> Option<Vec<usize>> {
        let params = self.graph.params(id);
        let kernel = params.into_iter().find(|it| it.kind == ParamKind::Kernel);
        kernel.map(|spec| spec.dims)
    }
}

/// How much smaller a node makes a map.
fn stride(op: &Op) -> usize {
    match op {
        Op::Conv2d { window, .. }
        | Op::DepthwiseConv2d { window, .. }
        | Op::MaxPool { window }
        | Op::AvgPool { window, .. } => window.stride[0].max(window.stride[1]),
        _ => 1,
    }
}

/// `blocks_3` of `blocks_3_norm1`: a name up to the first number that ends a word, if more follows.
fn block_of(name: &str) -> Option<&str> {
    let mut end = 0;
    for word in name.split('_') {
        end += word.len();
        if word.ends_with(|c: char| c.is_ascii_digit()) && end < name.len() {
            return Some(&name[..end]);
        }
        end += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flavour;

    /// First layers of the stages.
    fn begins(family: &str, side: u32, flavour: Flavour) -> Vec<String> {
        let graph = Graph::build_backbone(family, 1.0, [side, side], flavour).unwrap();
        let stages = graph.stages();
        let mut next = 0;
        for stage in &stages {
            assert_eq!(stage.nodes.start, next);
            assert!(!graph.nodes()[next].joined);
            next = stage.nodes.end;
        }
        assert_eq!(next, graph.backbone_len());
        let name = |stage: &Stage| graph.nodes()[stage.nodes.start].name.clone();
        stages.iter().map(name).collect()
    }

    #[test]
    fn blocks_of_tokens_are_stages() {
        let mut expected = vec!["input_1".to_string()];
        expected.extend((0..12).map(|block| format!("block_{block}_norm1")));
        assert_eq!(begins("vit_small_16", 224, Flavour::Torch), expected);
    }

    #[test]
    fn stages_begin_where_the_map_shrinks() {
        for (family, expected) in [
            (
                "mobilenet_v2",
                &[
                    "input_1",
                    "block_1_expand",
                    "block_3_expand",
                    "block_6_expand",
                    "block_13_expand",
                ][..],
            ),
            (
                "resnet50",
                &[
                    "input_1",
                    "pool1_pad",
                    "conv3_block1_1_conv",
                    "conv4_block1_1_conv",
                    "conv5_block1_1_conv",
                ],
            ),
            (
                "vgg16",
                &[
                    "input_1",
                    "block1_pool",
                    "block2_pool",
                    "block3_pool",
                    "block4_pool",
                ],
            ),
            (
                "xception",
                &[
                    "input_1",
                    "block2_sepconv1",
                    "block3_sepconv1_act",
                    "block4_sepconv1_act",
                    "block13_sepconv1_act",
                ],
            ),
            (
                "inception_v3",
                &[
                    "input_1",
                    "max_pooling2d",
                    "max_pooling2d_1",
                    "conv2d_27",
                    "conv2d_72",
                ],
            ),
        ] {
            for flavour in [Flavour::Torch, Flavour::Tf] {
                let found = begins(family, 224, flavour);
                assert_eq!(found, expected, "{family} {flavour:?}");
                // They hang on strides, not on the size of the picture.
                assert_eq!(begins(family, 80, flavour), expected, "{family}");
            }
        }
    }

    #[test]
    fn blocks_are_told_by_their_numbers() {
        for (name, block) in [
            ("blocks_3_norm1", Some("blocks_3")),
            ("encoder_layer_11_mlp_1", Some("encoder_layer_11")),
            ("block3_mlp", Some("block3")),
            ("fc1", None),
            ("patch_embed", None),
            ("norm", None),
        ] {
            assert_eq!(block_of(name), block, "{name}");
        }
    }
}
