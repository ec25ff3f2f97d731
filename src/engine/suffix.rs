//! The trainable part of the graph: forward pass that keeps what gradients need, and a reverse
//! pass over the static graph.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use indexmap::IndexMap;

use super::params::Params;
use crate::config::BatchNormMode;
use crate::graph::Graph;
use crate::graph::cutoff::{Frontier, Trainable};

/// Gradients by parameter name, in graph order.
pub type Gradients = IndexMap<String, Tensor>;

/// A plan for training everything above the frontier's stored tensors.
#[derive(Debug)]
pub struct Suffix {}

/// What a forward pass kept.
#[derive(Debug)]
pub struct Tape {
    /// `[batch, classes]`.
    pub logits: Tensor,
    /// New values of running batch-norm statistics, by name; empty when none trains.
    pub statistics: Vec<(String, Tensor)>,
}

impl Suffix {
    /// Plans forward and reverse pass. `bn` is the batch-norm mode of trainable backbone layers;
    /// batch norm in the head always uses the batch's statistics in training.
    pub fn new(
        _graph: Arc<Graph>,
        _trainable: &Trainable,
        _frontier: &Frontier,
        _bn: BatchNormMode,
    ) -> Self {
        todo!()
    }

    /// Names of the parameters that train, in graph order.
    pub fn trained(&self) -> &[String] {
        todo!()
    }

    /// Training forward pass. `inputs` are the frontier's stored tensors of the batch; `dropout`
    /// is the seed of this step's dropout streams, and each node draws from its own.
    pub fn forward(&self, _params: &Params, _inputs: &[Tensor], _dropout: u64) -> Result<Tape> {
        todo!()
    }

    /// Gradients of the loss to every trained parameter, given those to the logits.
    pub fn backward(&self, _params: &Params, _tape: Tape, _dlogits: &Tensor) -> Result<Gradients> {
        todo!()
    }
}
