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
