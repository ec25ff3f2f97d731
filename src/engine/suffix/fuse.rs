//! From nodes to layers that one pass over memory computes: pads go into the convolution behind
//! them, batch norms with stored statistics into the one before them, residual additions and
//! activations to its end.

use super::plan::Plan;
use crate::activation::Activation;
use crate::geometry::Window;
use crate::graph::{Graph, NodeId, Op};

/// Some nodes as one layer.
#[derive(Debug)]
pub(super) struct Layer {
    /// The node that computes most.
    pub(super) root: NodeId,
    /// Of a convolution, with the pad before it.
    pub(super) window: Option<Window>,
    /// The batch norm that is folded into a convolution or dense layer.
    pub(super) norm: Option<NodeId>,
    /// The node whose output is added before the activation.
    pub(super) residual: Option<NodeId>,
    pub(super) activation: Activation,
    /// The node whose output is read.
    pub(super) input: NodeId,
    /// All nodes that the root reads.
    pub(super) inputs: Vec<NodeId>,
    /// The last of the nodes.
    pub(super) output: NodeId,
}

/// Nodes with what reads them.
pub(super) struct Fuser<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    readers: Vec<Vec<NodeId>>,
}

impl<'a> Fuser<'a> {
    pub(super) fn new(graph: &'a Graph, plan: &'a Plan) -> Self {
        let mut fuser = Self {
            graph,
            plan,
            readers: vec![Vec::new(); graph.nodes().len()],
        };
        for &id in &plan.order {
            if fuser.canonical(id) == id {
                for &input in &graph.nodes()[id].inputs {
                    let input = fuser.canonical(input);
                    fuser.readers[input].push(id);
                }
            }
        }
        fuser
    }

    /// The node whose memory a node's output is.
    pub(super) fn canonical(&self, id: NodeId) -> NodeId {
        let node = &self.graph.nodes()[id];
        let renames = match node.op {
            Op::Flatten | Op::Identity(_) | Op::Reshape => true,
            Op::Dropout { rate } => rate == 0.0,
            _ => false,
        };
        if renames && !self.plan.stored.contains(&id) {
            self.canonical(node.inputs[0])
        } else {
            id
        }
    }

    /// The layers of the suffix, in the order to run them.
    pub(super) fn layers(&self) -> Vec<Layer> {
        let mut done = vec![false; self.graph.nodes().len()];
        let mut layers = Vec::new();
        for &id in &self.plan.order {
            if !done[id] && self.canonical(id) == id && !self.folds_into_windows(id) {
                layers.push(self.layer(id, &mut done));
            }
        }
        // A residual may be computed after the convolution that takes it in began in the graph.
        layers.sort_by_key(|layer: &Layer| layer.output);
        layers
    }

    /// Whether a node is a pad that only convolutions read.
    fn folds_into_windows(&self, id: NodeId) -> bool {
        let windowed = |&reader: &NodeId| window(&self.graph.nodes()[reader].op).is_some();
        matches!(self.graph.nodes()[id].op, Op::Pad(_))
            && !self.plan.stored.contains(&id)
            && self.readers[id].iter().all(windowed)
    }

    fn layer(&self, root: NodeId, done: &mut [bool]) -> Layer {
        let nodes = self.graph.nodes();
        let node = &nodes[root];
        let mut input = self.canonical(node.inputs[0]);
        let mut window = window(&node.op);
        if let (Some(window), Op::Pad(padding)) = (&mut window, &nodes[input].op)
            && self.folds_into_windows(input)
        {
            window.padding = window.padding.plus(*padding);
            input = self.canonical(nodes[input].inputs[0]);
        }
        let has_kernel = window.is_some() || matches!(node.op, Op::Dense { .. });
        let scales = matches!(node.op, Op::BatchNorm { .. } | Op::LayerScale { .. });
        let mut layer = Layer {
            root,
            window,
            norm: None,
            residual: None,
            activation: match node.op {
                Op::Activation(activation) => activation,
                _ => Activation::Linear,
            },
            input,
            inputs: node.inputs.iter().map(|&id| self.canonical(id)).collect(),
            output: root,
        };
        if matches!(node.op, Op::Add) {
            layer.residual = Some(self.canonical(node.inputs[1]));
        }
        done[root] = true;
        if !has_kernel && !scales && !matches!(node.op, Op::Add) {
            return layer;
        }
        while let &[reader] = self.readers[layer.output].as_slice() {
            if done[reader] || layer.activation != Activation::Linear {
                break;
            }
            match nodes[reader].op {
                Op::BatchNorm { .. } | Op::LayerScale { .. }
                    if has_kernel
                        && layer.norm.is_none()
                        && layer.residual.is_none()
                        && !self.plan.batch_statistics[reader] =>
                {
                    layer.norm = Some(reader);
                }
                Op::Add if layer.residual.is_none() => {
                    let inputs = nodes[reader].inputs.iter();
                    let mut others = inputs.map(|&id| self.canonical(id));
                    layer.residual = others.find(|&id| id != layer.output);
                    if layer.residual.is_none() {
                        break;
                    }
                }
                // The gradient of a curve needs its input, which fused would not be kept.
                Op::Activation(activation) if activation.bounds().is_some() => {
                    layer.activation = activation;
                }
                _ => break,
            }
            done[reader] = true;
            layer.output = reader;
        }
        layer
    }
}

/// The window of a convolution.
fn window(op: &Op) -> Option<Window> {
    match op {
        Op::Conv2d { window, .. } | Op::DepthwiseConv2d { window, .. } => Some(*window),
        Op::PointwiseDense { .. } => Some(Window::POINT),
        _ => None,
    }
}
