//! What lies above one layer, to ask how the logits depend on its output.

use candle_core::{Result, Tensor};

use super::plan::Plan;
use super::{backward, portable};
use crate::engine::params::Params;
use crate::graph::{Graph, NodeId};

/// The part of a network above a layer, in inference.
#[derive(Debug)]
pub struct Above {
    graph: Graph,
    plan: Plan,
    layer: NodeId,
}

impl Above {
    /// What lies above the output of a node; `None` if the logits do not depend on that.
    pub fn new(graph: &Graph, layer: NodeId) -> Option<Self> {
        Some(Self {
            plan: Plan::to_layer(graph, layer)?,
            graph: graph.clone(),
            layer,
        })
    }

    /// The nodes whose outputs are given: the layer, and what joins in above it, such as shortcuts.
    pub fn inputs(&self) -> &[NodeId] {
        &self.plan.stored
    }

    /// Values of a picture that a pass forward and back holds, at most.
    pub fn values(&self) -> usize {
        let nodes = self.graph.nodes();
        let elements = |&id: &NodeId| nodes[id].shape.elements();
        let Plan { stored, order, .. } = &self.plan;
        2 * stored.iter().chain(order).map(elements).sum::<usize>()
    }

    /// The gradient of `sum(logits * dlogits)` to the layer's output. `inputs` are the outputs of
    /// [`Self::inputs`] for a batch, `dlogits` is `[batch, outputs]`.
    pub fn gradient(&self, params: &Params, inputs: &[Tensor], dlogits: &Tensor) -> Result<Tensor> {
        let Self { graph, plan, layer } = self;
        let (_, tape) = portable::forward(graph, plan, params, inputs, None)?;
        let found = backward::to_given(graph, plan, params, tape, dlogits, *layer)?;
        match found {
            Some(gradient) => Ok(gradient),
            None => {
                let dims = graph.nodes()[*layer].shape.batched(dlogits.dim(0)?);
                Tensor::zeros(dims, dlogits.dtype(), dlogits.device())
            }
        }
    }

    /// The logits, from the same inputs.
    #[cfg(test)]
    pub(in crate::engine) fn logits(&self, params: &Params, inputs: &[Tensor]) -> Result<Tensor> {
        Ok(portable::forward(&self.graph, &self.plan, params, inputs, None)?.0)
    }
}
