//! Building a graph: shape inference, unique names, backbone, cut and head.

use thiserror::Error;

use super::node::{Node, NodeId, Op, ParamSpec, Part, Shape};
use crate::config::{Flavour, ModelConfig, Problem};

/// Why a graph cannot be built: a key asks for something that the architecture does not have.
#[derive(Debug, Error)]
#[error("{}: {}", .0.key, .0.message)]
pub struct GraphError(pub Problem);

/// A backbone and its head in topological order. Immutable once built.
#[derive(Debug, Clone)]
pub struct Graph {
    nodes: Vec<Node>,
}

impl Graph {
    /// Builds backbone (up to `model.cut`), pooling and head for pictures of `[height, width]`.
    pub fn build(
        _model: &ModelConfig,
        _height_width: [u32; 2],
        _flavour: Flavour,
    ) -> Result<Self, GraphError> {
        todo!()
    }

    /// All nodes; a node's position is its id.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of that name.
    pub fn find(&self, _name: &str) -> Option<NodeId> {
        todo!()
    }

    /// The node whose output are the logits: the last one.
    pub fn output(&self) -> NodeId {
        self.nodes.len() - 1
    }

    /// Number of backbone nodes; they come first.
    pub fn backbone_len(&self) -> usize {
        self.nodes
            .iter()
            .filter(|node| node.part == Part::Backbone)
            .count()
    }

    /// Parameters and statistics of a node, in Keras' order.
    pub fn params(&self, _id: NodeId) -> Vec<ParamSpec> {
        todo!()
    }
}

/// Appends nodes, inferring shapes.
#[derive(Debug)]
pub struct GraphBuilder {
    nodes: Vec<Node>,
    part: Part,
}

impl GraphBuilder {
    /// Starts with the input node, named `input_1`.
    pub fn new(_height_width: [u32; 2]) -> Self {
        todo!()
    }

    /// Appends a node and returns its id.
    pub fn add(&mut self, _name: &str, _op: Op, _inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        todo!()
    }

    /// Shape of a node's output.
    pub fn shape(&self, id: NodeId) -> Shape {
        self.nodes[id].shape
    }
}
