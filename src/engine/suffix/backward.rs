//! The reverse pass: from the gradient to the logits down to the lowest trained parameter.

use candle_core::{Result, Tensor, bail};

use super::Gradients;
use super::plan::Plan;
use super::portable::Tape;
use crate::engine::forward;
use crate::engine::params::Params;
use crate::geometry::Window;
use crate::graph::{Graph, NodeId, Op, ParamKind, Shape};
use crate::ops::{KernelGrads, Needs};
use crate::ops::{
    activation as activations, attention, concat, conv, dense, depthwise, dropout, elementwise,
    gate, layer_norm, norm, pool, tokens, window_pool,
};

/// Gradients to every trained parameter.
pub(super) fn run(
    graph: &Graph,
    plan: &Plan,
    params: &Params,
    tape: Tape,
    dlogits: &Tensor,
) -> Result<Gradients> {
    let pass = Pass::through(graph, plan, params, tape, dlogits)?;
    let mut gradients = Gradients::with_capacity(plan.trained.len());
    for (id, to_params) in pass.to_params.into_iter().enumerate() {
        for (kind, gradient) in to_params {
            let specs = graph.params(id);
            if let Some(spec) = specs.into_iter().find(|spec| spec.kind == kind) {
                gradients.insert(spec.name, gradient);
            }
        }
    }
    Ok(gradients)
}

/// The gradient to the output of a node that was given; `None` if none reaches it.
pub(super) fn to_given(
    graph: &Graph,
    plan: &Plan,
    params: &Params,
    tape: Tape,
    dlogits: &Tensor,
    node: NodeId,
) -> Result<Option<Tensor>> {
    let mut pass = Pass::through(graph, plan, params, tape, dlogits)?;
    Ok(pass.to_outputs[node].take())
}

struct Pass<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    params: &'a Params,
    tape: Tape,
    to_outputs: Vec<Option<Tensor>>,
    to_params: Vec<Vec<(ParamKind, Tensor)>>,
}

impl<'a> Pass<'a> {
    fn through(
        graph: &'a Graph,
        plan: &'a Plan,
        params: &'a Params,
        tape: Tape,
        dlogits: &Tensor,
    ) -> Result<Self> {
        let mut pass = Self {
            graph,
            plan,
            params,
            tape,
            to_outputs: vec![None; graph.nodes().len()],
            to_params: vec![Vec::new(); graph.nodes().len()],
        };
        pass.to_outputs[plan.output] = Some(dlogits.clone());
        for &id in plan.order.iter().rev() {
            // Taken, not borrowed: a buffer is free as soon as nothing below needs it.
            if let Some(dy) = pass.to_outputs[id].take() {
                pass.node(id, &dy)?;
            }
            pass.tape.values[id] = None;
        }
        Ok(pass)
    }

    fn node(&mut self, id: NodeId, dy: &Tensor) -> Result<()> {
        let node = &self.graph.nodes()[id];
        let Some(&input) = node.inputs.first() else {
            return Ok(());
        };
        let needed = self.plan.gradient[input];
        match node.op {
            Op::Conv2d { ref window, .. } => {
                let (x, kernel, needs) = self.kernel(id, input)?;
                let grads = conv::backward(x, kernel, dy, window, needs)?;
                self.keep_kernel(id, input, grads)
            }
            Op::DepthwiseConv2d { ref window, .. } => {
                let (x, kernel, needs) = self.kernel(id, input)?;
                let grads = depthwise::backward(x, kernel, dy, window, needs)?;
                self.keep_kernel(id, input, grads)
            }
            Op::Dense { .. } => {
                let (x, kernel, needs) = self.kernel(id, input)?;
                let grads = dense::backward(x, kernel, dy, needs)?;
                self.keep_kernel(id, input, grads)
            }
            Op::BatchNorm { epsilon, .. } => self.batch_norm(id, input, dy, epsilon),
            Op::LayerScale { .. } => self.batch_norm(id, input, dy, 0.0),
            Op::LayerNorm { epsilon } => {
                let gamma = self.params.expect(self.graph, id, ParamKind::Gamma)?;
                let (x, trains) = (self.value(input)?, self.plan.trains[id]);
                let grads = layer_norm::backward(x, dy, gamma, epsilon, needed, trains)?;
                self.keep(id, ParamKind::Gamma, grads.gamma);
                self.keep(id, ParamKind::Beta, grads.beta);
                self.accumulate_if_any(input, grads.input)
            }
            Op::PointwiseDense { .. } => {
                let (x, kernel, needs) = self.kernel(id, input)?;
                let point = forward::pointwise(kernel)?;
                let mut grads = conv::backward(x, &point, dy, &Window::POINT, needs)?;
                let dims = kernel.dims().to_vec();
                let flat = |kernel: Tensor| kernel.reshape(dims.as_slice());
                grads.kernel = grads.kernel.map(flat).transpose()?;
                self.keep_kernel(id, input, grads)
            }
            Op::PositionEmbedding => {
                if self.plan.trains[id] {
                    self.keep(id, ParamKind::Position, Some(tokens::position_grad(dy)?));
                }
                self.accumulate_if_any(input, needed.then(|| dy.clone()))
            }
            Op::ClassToken => {
                let dims = self.graph.nodes()[input].shape.batched(dy.dim(0)?);
                let [dx, token] = tokens::prepend_grad(dy, &dims)?;
                if self.plan.trains[id] {
                    self.keep(id, ParamKind::Token, Some(token.clone()));
                    self.keep(id, ParamKind::Position, Some(token));
                }
                self.accumulate_if_any(input, needed.then_some(dx))
            }
            _ if !needed && !matches!(node.op, Op::Add | Op::Concat | Op::Multiply) => Ok(()),
            Op::Activation(activation) => {
                let of = self.value(match activation.bounds() {
                    Some(_) => id,
                    None => input,
                })?;
                let dx = activations::backward(of, dy, activation)?;
                self.accumulate(input, dx)
            }
            Op::Add => {
                for &input in &node.inputs {
                    if self.plan.gradient[input] {
                        self.accumulate(input, dy.clone())?;
                    }
                }
                Ok(())
            }
            Op::Concat => {
                let mut first = 0;
                for &input in &node.inputs {
                    let channels = self.graph.nodes()[input].shape.channels();
                    if self.plan.gradient[input] {
                        self.accumulate(input, concat::backward(dy, first, channels)?)?;
                    }
                    first += channels;
                }
                Ok(())
            }
            Op::Attention { heads } => {
                let dx = attention::backward(self.value(input)?, dy, heads)?;
                self.accumulate(input, dx)
            }
            Op::DropClassToken | Op::TakeClassToken => {
                let dims = self.graph.nodes()[input].shape.batched(dy.dim(0)?);
                let (batch, tokens, channels) = (dims[0], dims[2], dims[3]);
                let dy = dy.reshape((batch, 1, (), channels))?;
                let first = usize::from(matches!(node.op, Op::DropClassToken));
                self.accumulate(input, tokens::take_grad(&dy, first, tokens)?)
            }
            Op::MaxPool { ref window } => {
                let dx = window_pool::max_backward(self.value(input)?, dy, window)?;
                self.accumulate(input, dx)
            }
            Op::AvgPool {
                ref window,
                count_include_pad,
            } => {
                let dims = self.graph.nodes()[input].shape.batched(dy.dim(0)?);
                let dx = window_pool::avg_backward(&dims, dy, window, count_include_pad)?;
                self.accumulate(input, dx)
            }
            Op::Pad(padding) => self.accumulate(input, elementwise::pad_backward(dy, padding)?),
            Op::GlobalAvgPool => {
                let (height, width) = match self.graph.nodes()[input].shape {
                    Shape::Map { height, width, .. } => (height, width),
                    Shape::Vector(_) => bail!("layer `{}` pools a vector", node.name),
                };
                self.accumulate(input, pool::global_avg_backward(dy, height, width)?)
            }
            Op::GlobalMaxPool => {
                let dx = pool::global_max_backward(self.value(input)?, dy)?;
                self.accumulate(input, dx)
            }
            Op::Multiply => {
                let by = node.inputs[1];
                let wanted = [needed, self.plan.gradient[by]];
                let [dx, to] = gate::backward(self.value(input)?, self.value(by)?, dy, wanted)?;
                self.accumulate_if_any(input, dx)?;
                self.accumulate_if_any(by, to)
            }
            Op::Identity(_) => self.accumulate(input, dy.clone()),
            Op::Flatten | Op::Reshape => {
                let dims = self.graph.nodes()[input].shape.batched(dy.dim(0)?);
                self.accumulate(input, dy.reshape(dims)?)
            }
            Op::Dropout { .. } => {
                let dx = match self.tape.dropout.remove(&id) {
                    Some(mask) => dropout::apply(dy, &mask)?,
                    None => dy.clone(),
                };
                self.accumulate(input, dx)
            }
            Op::Input => Ok(()),
        }
    }

    fn batch_norm(&mut self, id: NodeId, input: NodeId, dy: &Tensor, epsilon: f64) -> Result<()> {
        let stored = forward::batch_norm(self.graph, self.params, id, epsilon)?;
        let needed = self.plan.gradient[input];
        let trains = self.plan.trains[id];
        let batch = self.tape.batch.remove(&id);
        let x = self.value(input)?;
        let grads = match batch {
            Some((mean, variance)) => {
                norm::backward_train(x, dy, stored, &mean, &variance, needed, trains)?
            }
            None => norm::backward_eval(x, dy, stored, needed, trains)?,
        };
        self.keep(id, ParamKind::Gamma, grads.gamma);
        self.keep(id, ParamKind::Beta, grads.beta);
        self.accumulate_if_any(input, grads.input)
    }

    /// Input, kernel and needs of a node with a kernel.
    fn kernel(&self, id: NodeId, input: NodeId) -> Result<(&Tensor, &Tensor, Needs)> {
        let trains = self.plan.trains[id];
        let has_bias = self.params.of(self.graph, id, ParamKind::Bias).is_some();
        let needs = Needs {
            input: self.plan.gradient[input],
            kernel: trains,
            bias: trains && has_bias,
        };
        let kernel = self.params.expect(self.graph, id, ParamKind::Kernel)?;
        Ok((self.value(input)?, kernel, needs))
    }

    fn keep_kernel(&mut self, id: NodeId, input: NodeId, grads: KernelGrads) -> Result<()> {
        self.keep(id, ParamKind::Kernel, grads.kernel);
        self.keep(id, ParamKind::Bias, grads.bias);
        self.accumulate_if_any(input, grads.input)
    }

    fn keep(&mut self, id: NodeId, kind: ParamKind, gradient: Option<Tensor>) {
        let gradient = gradient.map(|gradient| (kind, gradient));
        self.to_params[id].extend(gradient);
    }

    fn accumulate_if_any(&mut self, id: NodeId, gradient: Option<Tensor>) -> Result<()> {
        match gradient {
            Some(gradient) => self.accumulate(id, gradient),
            None => Ok(()),
        }
    }

    /// Adds to the gradient of a node that several nodes may read.
    fn accumulate(&mut self, id: NodeId, gradient: Tensor) -> Result<()> {
        let sum = match self.to_outputs[id].take() {
            Some(sum) => elementwise::add(&sum, &gradient)?,
            None => gradient,
        };
        self.to_outputs[id] = Some(sum);
        Ok(())
    }

    fn value(&self, id: NodeId) -> Result<&Tensor> {
        match &self.tape.values[id] {
            Some(value) => Ok(value),
            None => bail!(
                "the output of `{}` was not kept for the reverse pass",
                self.graph.nodes()[id].name
            ),
        }
    }
}
