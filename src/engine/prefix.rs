//! Compiled inference of a part of the graph: batch norm folded, activations and residual
//! additions fused, run depth-first a few pictures at a time. No gradients.

use candle_core::{Result, Tensor};

use super::params::Params;
use crate::graph::{Graph, NodeId};

/// A compiled part of the graph.
#[derive(Debug)]
pub struct Prefix {}

impl Prefix {
    /// Compiles what lies between `inputs` (exclusive; usually the picture) and `outputs`.
    /// Dropout is the identity, batch norm uses its stored statistics.
    pub fn compile(
        _graph: &Graph,
        _params: &Params,
        _inputs: &[NodeId],
        _outputs: &[NodeId],
    ) -> Result<Self> {
        todo!()
    }

    /// Runs a batch: one tensor an input, `[batch, height, width, channels]` or
    /// `[batch, features]`; returns one an output.
    pub fn run(&self, _inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        todo!()
    }
}
