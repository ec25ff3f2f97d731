//! The layers above a backbone: those of a model against those that a package's network ends in.

use std::collections::{HashMap, HashSet};

use super::Package;
use crate::activation::Activation;
use crate::geometry::Window;
use crate::graph::cutoff::nodes_between;
use crate::graph::{Graph, Node, NodeId, Op, Shape};

/// A layer that computes something: dropout and changes of dimensions do not.
#[derive(Debug, Clone)]
struct Link {
    name: String,
    op: Op,
    /// The backbone's layer that it reads; `None` if it reads the link before.
    reads: Option<String>,
}

/// The layers above a backbone, in order.
#[derive(Debug, Clone)]
pub(super) struct Chain(Vec<Link>);

/// Two chains that are the same.
#[derive(Debug)]
pub(super) struct Matched {
    /// Our layer of each of the package's.
    pub(super) names: HashMap<String, String>,
    /// Whether the pool takes the maximum where the package's takes the mean unless told.
    pub(super) max_pool: bool,
}

impl Chain {
    /// What a graph has above the backbone.
    pub(super) fn above(backbone: &Graph, graph: &Graph) -> Self {
        let below: HashSet<&str> = backbone.nodes().iter().map(|it| it.name.as_str()).collect();
        let nodes = graph.nodes();
        let above = nodes_between(graph, &[0], &[graph.output()]).into_iter();
        let above = above.filter(|&id| !below.contains(nodes[id].name.as_str()));
        let links = above.filter(|&id| !is_idle(graph, id)).map(|id| {
            let mut input = nodes[id].inputs[0];
            while !below.contains(nodes[input].name.as_str()) && is_idle(graph, input) {
                input = nodes[input].inputs[0];
            }
            let Node { name, .. } = &nodes[input];
            Link {
                name: nodes[id].name.clone(),
                op: meant(graph, id),
                reads: below.contains(name.as_str()).then(|| name.clone()),
            }
        });
        Self(links.collect())
    }

    /// Pairs the package's layers with a model's; `None` if they are not the same.
    pub(super) fn matched(&self, ours: &Self, package: Package) -> Option<Matched> {
        let mut max_pool = false;
        let pairs = self.0.iter().zip(&ours.0);
        let same = pairs.clone().all(|(theirs, ours)| {
            let pools = (theirs.op, ours.op) == (Op::GlobalAvgPool, Op::GlobalMaxPool);
            let other_pool = pools && package == Package::Timm;
            max_pool |= other_pool;
            theirs.reads == ours.reads && (theirs.op == ours.op || other_pool)
        });
        let names = pairs.map(|(theirs, ours)| (theirs.name.clone(), ours.name.clone()));
        (same && self.0.len() == ours.0.len()).then(|| Matched {
            names: names.collect(),
            max_pool,
        })
    }

    /// The layers in words.
    pub(super) fn describe(&self) -> String {
        let words = self.0.iter().map(|link| match link.op {
            Op::GlobalAvgPool => "the mean of the map".to_owned(),
            Op::GlobalMaxPool => "the maximum of the map".to_owned(),
            Op::TakeClassToken => "the class token".to_owned(),
            Op::Dense { units } => format!("dense {units}"),
            Op::Conv2d {
                filters, window, ..
            } => format!(
                "conv2d {filters} ({} x {})",
                window.kernel[0], window.kernel[1]
            ),
            Op::Activation(activation) => activation.name().to_owned(),
            op => op.kind().to_lowercase(),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// `[model]` of a network that ends so.
    pub(super) fn config(&self) -> String {
        let mut pooling = "\"none\"";
        let mut head: Vec<String> = Vec::new();
        let mut links = self.0.iter().peekable();
        while let Some(link) = links.next() {
            let mut layer = match link.op {
                Op::GlobalAvgPool if link.reads.is_some() => {
                    pooling = "\"avg\"";
                    continue;
                }
                Op::TakeClassToken => {
                    pooling = "\"auto\"";
                    continue;
                }
                Op::GlobalAvgPool => "\"avg_pool\"".to_owned(),
                Op::Flatten => "\"flatten\"".to_owned(),
                Op::Dense { units } => format!("dense = {units}"),
                Op::Conv2d { filters, .. } => format!("conv2d = {filters}, kernel = 1"),
                _ => continue,
            };
            let next = links.next_if(|it| matches!(it.op, Op::Activation(_)));
            if let Some(Op::Activation(activation)) = next.map(|it| it.op) {
                layer += &format!(", activation = \"{}\"", activation.name());
            }
            head.push(match layer.starts_with('"') {
                true => layer,
                false => format!("{{ {layer} }}"),
            });
        }
        format!("`pooling = {pooling}`, `head = [{}]`", head.join(", "))
    }
}

/// Whether a node leaves the values as they are, when a model is used.
fn is_idle(graph: &Graph, id: NodeId) -> bool {
    let node = &graph.nodes()[id];
    match node.op {
        Op::Dropout { .. } | Op::Identity(_) | Op::Reshape => true,
        Op::Activation(activation) => activation == Activation::Linear,
        Op::Flatten => is_pixel(graph, node),
        _ => false,
    }
}

/// What a node computes, whatever it is written as: a convolution of one pixel is a dense layer.
fn meant(graph: &Graph, id: NodeId) -> Op {
    let node = &graph.nodes()[id];
    match node.op {
        Op::Conv2d {
            filters,
            groups: 1,
            window: Window { kernel: [1, 1], .. },
            bias: true,
        } if is_pixel(graph, node) => Op::Dense { units: filters },
        op => op,
    }
}

/// Whether a node reads a map of one pixel or a vector.
fn is_pixel(graph: &Graph, node: &Node) -> bool {
    let shape: Shape = graph.nodes()[node.inputs[0]].shape;
    shape.elements() == shape.channels()
}
