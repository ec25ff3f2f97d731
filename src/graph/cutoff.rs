//! Which layers train, which are frozen, and where the line between them runs.

use super::build::{Graph, GraphError};
use super::node::NodeId;
use crate::config::PhaseConfig;

/// For every node, whether its parameters train in a phase. Head nodes always do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trainable {
    nodes: Vec<bool>,
}

impl Trainable {
    /// Resolves `freeze` / `freeze_before` of a phase; `index` is the phase's position, for errors.
    pub fn resolve(
        _graph: &Graph,
        _phase: &PhaseConfig,
        _index: usize,
    ) -> Result<Self, GraphError> {
        todo!()
    }

    /// Whether the node's parameters train.
    pub fn node(&self, id: NodeId) -> bool {
        self.nodes[id]
    }
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
    pub fn find(_graph: &Graph, _trainable: &Trainable) -> Self {
        todo!()
    }
}
