//! What a node computes in inference, by the tensor operations: what the compiled prefix must
//! equal, and how frozen layers run inside the suffix.

use candle_core::{Result, Tensor, bail};

use super::params::Params;
use crate::geometry::Window;
use crate::graph::cutoff::nodes_between;
use crate::graph::{Graph, NodeId, Op, ParamKind};
use crate::ops::norm::BatchNorm;
use crate::ops::{
    activation as activations, attention, concat, conv, dense, depthwise, elementwise, gate,
    layer_norm, norm, pool, tokens, window_pool,
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
        Op::Attention { heads } => attention::forward(x, heads),
        Op::ClassToken => {
            let token = params.expect(graph, id, ParamKind::Token)?;
            tokens::prepend(x, token, params.expect(graph, id, ParamKind::Position)?)
        }
        Op::DropClassToken => tokens::take(x, 1, x.dim(2)? - 1),
        Op::LayerNorm { epsilon } => {
            let gamma = params.expect(graph, id, ParamKind::Gamma)?;
            let beta = params.expect(graph, id, ParamKind::Beta)?;
            layer_norm::forward(x, gamma, beta, epsilon)
        }
        Op::LayerScale { .. } => norm::forward_eval(x, batch_norm(graph, params, id, 0.0)?),
        Op::PointwiseDense { .. } => {
            let (kernel, window) = (pointwise(kernel()?)?, Window::POINT);
            conv::forward(x, &kernel, bias, &window)
        }
        Op::PositionEmbedding => {
            tokens::add_position(x, params.expect(graph, id, ParamKind::Position)?)
        }
        Op::TakeClassToken => tokens::take(x, 0, 1)?.flatten_from(1),
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

/// The kernel of a dense layer `[units, channels]` as that of a convolution over single pixels.
pub(super) fn pointwise(kernel: &Tensor) -> Result<Tensor> {
    kernel.unsqueeze(2)?.unsqueeze(3)
}

/// Scale, offset and statistics of a batch norm; of a layer scale, those that leave only the scale.
pub(super) fn batch_norm<'a>(
    graph: &Graph,
    params: &'a Params,
    id: NodeId,
    epsilon: f64,
) -> Result<BatchNorm<'a>> {
    let expect = |kind| params.expect(graph, id, kind);
    let node = &graph.nodes()[id];
    if let Op::LayerScale { .. } = node.op {
        let zeros = params.zeros(node.shape.channels())?;
        return Ok(BatchNorm {
            gamma: expect(ParamKind::Gamma)?,
            beta: zeros,
            mean: zeros,
            variance: params.ones(node.shape.channels())?,
            epsilon,
        });
    }
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
