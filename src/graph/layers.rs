//! Layers as users cite them: mostly a node each, sometimes a few nodes in a row.

use std::ops::Range;

use super::build::Graph;
use super::node::{NodeId, Op, Part};

impl Graph {
    /// The nodes of each layer, in order; a layer's position is its index in `xp summary`.
    pub fn layers(&self) -> Vec<Range<NodeId>> {
        let mut layers: Vec<Range<NodeId>> = Vec::new();
        for (id, node) in self.nodes().iter().enumerate() {
            match layers.last_mut() {
                Some(layer) if node.joined => layer.end = id + 1,
                _ => layers.push(id..id + 1),
            }
        }
        layers
    }

    /// The layers of the backbone; they come first.
    pub fn backbone_layers(&self) -> Vec<Range<NodeId>> {
        let mut layers = self.layers();
        layers.retain(|nodes| self.nodes()[nodes.start].part == Part::Backbone);
        layers
    }

    /// Names of the backbone's layers, in order.
    pub fn backbone_names(&self) -> impl Iterator<Item = &str> {
        self.nodes()
            .iter()
            .filter(|node| node.part == Part::Backbone && !node.joined)
            .map(|node| node.name.as_str())
    }

    /// The node whose output is that of the named layer.
    pub(super) fn layer_end(&self, name: &str) -> Option<NodeId> {
        let named = |nodes: &Range<NodeId>| self.nodes()[nodes.start].name == name;
        self.layers()
            .into_iter()
            .find(named)
            .map(|nodes| nodes.end - 1)
    }

    /// Keras' class name of a layer.
    pub(super) fn layer_kind(&self, layer: &Range<NodeId>) -> &'static str {
        let op = |id: NodeId| &self.nodes()[id].op;
        let second = (layer.len() > 1).then(|| op(layer.start + 1));
        match (op(layer.start), second) {
            (Op::DepthwiseConv2d { .. }, Some(Op::Conv2d { .. })) => "SeparableConv2D",
            (first, _) => first.kind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flavour;
    use crate::graph::cutoff::Trainable;
    use crate::graph::summary::Summary;

    fn graph(text: &str) -> Graph {
        Graph::build(&toml::from_str(text).unwrap(), [96, 96], Flavour::Tf).unwrap()
    }

    /// Trained values and tensors under a way of freezing.
    fn trained(graph: &Graph, freezing: &str) -> (usize, usize) {
        let optimizer = "optimizer = { kind = \"sgd\", lr = 0.1 }";
        let phase = format!("name = \"p\"\nepochs = 1\n{optimizer}\n{freezing}");
        let phase = toml::from_str(&phase).unwrap();
        let trainable = Trainable::resolve(graph, &phase, 0).unwrap();
        let phases = [("p".to_string(), trainable)];
        let summary = Summary::new(graph, &phases).phases.remove(0);
        (summary.trainable_parameters, summary.trainable_tensors)
    }

    #[test]
    fn an_activation_counts_with_its_convolution() {
        let vgg = graph("backbone = \"vgg16\"\nhead = [{ dense = 1 }]");
        let top = (3 * 2_359_808 + 513, 8);
        for freezing in [
            "freeze_before = 15",
            "freeze_before = -4",
            "freeze_before = \"block5_conv1\"",
            "freeze = \"block[1-4]_*\"",
        ] {
            assert_eq!(trained(&vgg, freezing), top, "{freezing}");
        }
        let cut = "backbone = \"vgg16\"\ncut = \"block4_conv3\"\nhead = [{ dense = 1 }]";
        let cut = graph(cut);
        assert_eq!(cut.backbone_layers().len(), 14);
        assert_eq!(cut.nodes()[cut.backbone_len() - 1].op, Op::RELU);
    }

    #[test]
    fn both_halves_of_a_separable_convolution_are_one_layer() {
        let xception = graph("backbone = \"xception\"\nhead = [{ dense = 1 }]");
        let top = (3_159_552 + 2 * 2048 + 2049, 6);
        for freezing in [
            "freeze_before = \"block14_sepconv2\"",
            "freeze_before = 129",
            "freeze_before = -3",
        ] {
            assert_eq!(trained(&xception, freezing), top, "{freezing}");
        }
    }
}
