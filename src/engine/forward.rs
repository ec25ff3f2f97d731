//! What a node computes in inference, by the tensor operations: what the compiled prefix must
//! equal, and how frozen layers run inside the suffix.

use candle_core::{Result, Tensor, bail};

use super::params::Params;
use crate::graph::cutoff::nodes_between;
use crate::graph::{Graph, NodeId, Op, ParamKind};
use crate::ops::norm::BatchNorm;
use crate::ops::{
    activation as activations, concat, conv, dense, depthwise, elementwise, gate, norm, pool,
    window_pool,
};

/// Output of a node for the given inputs: dropout is the identity, batch norm uses its stored
/// statistics.
pub(super) fn infer(
    graph: &Graph,
    params: &Params,
    id: NodeId,
    inputs: &[&Tensor],
) -> Result<Tensor> {
    let node = &graph.nodes()[id];
    let (Some(&x), Some(&last)) = (inputs.first(), inputs.last()) else {
        bail!("the picture is missing: `{}` has no inputs", node.name);
    };
    let bias = params.of(graph, id, ParamKind::Bias);
    let kernel = || params.expect(graph, id, ParamKind::Kernel);
    match node.op {
        Op::Input | Op::Dropout { .. } | Op::Identity(_) => Ok(x.clone()),
        Op::Pad(padding) => elementwise::pad(x, padding),
        Op::Conv2d { ref window, .. } => conv::forward(x, kernel()?, bias, window),
        Op::DepthwiseConv2d { ref window, .. } => depthwise::forward(x, kernel()?, bias, window),
        Op::BatchNorm { epsilon, .. } => {
            norm::forward_eval(x, batch_norm(graph, params, id, epsilon)?)
        }
        Op::Activation(activation) => activations::forward(x, activation),
        Op::Add => elementwise::add(x, last),
        Op::Concat => concat::forward(inputs),
        Op::MaxPool { ref window } => window_pool::max(x, window),
        Op::AvgPool {
            ref window,
            count_include_pad,
        } => window_pool::avg(x, window, count_include_pad),
        Op::GlobalAvgPool => pool::global_avg(x),
        Op::GlobalMaxPool => pool::global_max(x),
        Op::Flatten => x.flatten_from(1),
        Op::Multiply => gate::forward(x, last),
        Op::Reshape => x.reshape(node.shape.batched(x.dim(0)?)),
        Op::Dense { .. } => dense::forward(x, kernel()?, bias),
    }
}

/// Scale, offset and statistics of a batch norm.
pub(super) fn batch_norm<'a>(
    graph: &Graph,
    params: &'a Params,
    id: NodeId,
    epsilon: f64,
) -> Result<BatchNorm<'a>> {
    let expect = |kind| params.expect(graph, id, kind);
    Ok(BatchNorm {
        gamma: match graph.nodes()[id].op {
            Op::BatchNorm { gamma: false, .. } => {
                params.ones(graph.nodes()[id].shape.channels())?
            }
            _ => expect(ParamKind::Gamma)?,
        },
        beta: expect(ParamKind::Beta)?,
        mean: expect(ParamKind::MovingMean)?,
        variance: expect(ParamKind::MovingVariance)?,
        epsilon,
    })
}

/// Nodes that must run to get from `from` (given) to `to`, in order; `from` is not among them.
pub(super) fn between(graph: &Graph, from: &[NodeId], to: &[NodeId]) -> Result<Vec<NodeId>> {
    let order = nodes_between(graph, from, to);
    let mut nodes = order.iter().map(|&id| &graph.nodes()[id]);
    if let Some(node) = nodes.find(|node| node.inputs.is_empty()) {
        bail!(
            "layer `{}` is needed but given neither as an input nor by one",
            node.name
        );
    }
    Ok(order)
}
