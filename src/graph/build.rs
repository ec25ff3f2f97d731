//! Building a graph: shape inference, unique names, backbone, cut and head.

use thiserror::Error;

use super::nearest::did_you_mean;
use super::node::{Node, NodeId, Op, ParamKind, ParamSpec, Part, Shape};
use super::shapes::infer;
use super::{auxiliary, head};
use crate::config::{Flavour, ModelConfig, Problem};
use crate::zoo::registry;

/// Why a graph cannot be built: a key asks for something that the architecture does not have.
#[derive(Debug, Error)]
#[error("{}: {}", .0.key, .0.message)]
pub struct GraphError(pub Problem);

impl GraphError {
    /// A problem with `key`, and what to do about it.
    pub fn new(
        key: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) -> Self {
        Self(Problem {
            key: key.into(),
            message: message.into(),
            help: help.into(),
        })
    }
}

/// A backbone and its head in topological order. Immutable once built.
#[derive(Debug, Clone)]
pub struct Graph {
    nodes: Vec<Node>,
    output: NodeId,
}

impl Graph {
    /// Builds backbone (up to `model.cut`), pooling and head for pictures of `[height, width]`.
    pub fn build(
        model: &ModelConfig,
        height_width: [u32; 2],
        flavour: Flavour,
    ) -> Result<Self, GraphError> {
        let mut backbone =
            Self::build_backbone(&model.backbone, model.width, height_width, flavour)?;
        if let Some(cut) = &model.cut {
            backbone = backbone.cut(cut)?;
        }
        let mut builder = head::append(GraphBuilder::above(backbone), model)?;
        if model.auxiliary.is_some() {
            builder = auxiliary::append(builder, model, flavour)?;
        }
        Ok(builder.finish())
    }

    /// Builds a backbone alone, up to the layer before its classifier.
    pub fn build_backbone(
        name: &str,
        width: f64,
        height_width: [u32; 2],
        flavour: Flavour,
    ) -> Result<Self, GraphError> {
        let family = registry::find(name).map_err(GraphError)?;
        family.check_width(width).map_err(GraphError)?;
        let mut builder = GraphBuilder::new(height_width);
        (family.build)(&mut builder, width, flavour)?;
        Ok(builder.finish())
    }

    /// Builds a backbone with its own classifier, which belongs to it.
    pub fn build_classifier(
        name: &str,
        width: f64,
        height_width: [u32; 2],
        flavour: Flavour,
        classes: usize,
    ) -> Result<Self, GraphError> {
        let family = registry::find(name).map_err(GraphError)?;
        family.check_width(width).map_err(GraphError)?;
        let mut builder = GraphBuilder::new(height_width);
        (family.build)(&mut builder, width, flavour)?;
        (family.classify)(&mut builder, classes, flavour)?;
        Ok(builder.finish())
    }

    /// The same without dropout.
    #[cfg(test)]
    pub(crate) fn without_dropout(mut self) -> Self {
        for node in &mut self.nodes {
            if let Op::Dropout { rate } = &mut node.op {
                *rate = 0.0;
            }
        }
        self
    }

    /// All nodes; a node's position is its id.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of that name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.name == name)
    }

    /// The node whose output are the logits.
    pub fn output(&self) -> NodeId {
        self.output
    }

    /// The node whose output training computes: the logits, and those of auxiliary classifiers
    /// behind them.
    pub fn training_output(&self) -> NodeId {
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
    pub fn params(&self, id: NodeId) -> Vec<ParamSpec> {
        let node = &self.nodes[id];
        let fan_in = node
            .inputs
            .first()
            .map_or(0, |&input| self.nodes[input].shape.channels());
        let spec = |kind: ParamKind, dims: Vec<usize>| ParamSpec {
            name: format!("{}/{}", node.name, kind.name()),
            kind,
            dims,
        };
        let with_bias = |kernel: Vec<usize>, bias: bool| {
            let outputs = kernel[0];
            let mut specs = vec![spec(ParamKind::Kernel, kernel)];
            if bias {
                specs.push(spec(ParamKind::Bias, vec![outputs]));
            }
            specs
        };
        match node.op {
            Op::Conv2d {
                filters,
                groups,
                window,
                bias,
            } => {
                let [height, width] = window.kernel;
                with_bias(vec![filters, fan_in / groups.max(1), height, width], bias)
            }
            Op::DepthwiseConv2d { window, bias } => {
                let [height, width] = window.kernel;
                with_bias(vec![fan_in, 1, height, width], bias)
            }
            Op::Dense { units } => with_bias(vec![units, fan_in], true),
            Op::BatchNorm { gamma, .. } => [
                gamma.then_some(ParamKind::Gamma),
                Some(ParamKind::Beta),
                Some(ParamKind::MovingMean),
                Some(ParamKind::MovingVariance),
            ]
            .into_iter()
            .flatten()
            .map(|kind| spec(kind, vec![fan_in]))
            .collect(),
            Op::PointwiseDense { units } => with_bias(vec![units, fan_in], true),
            Op::LayerNorm { .. } => vec![
                spec(ParamKind::Gamma, vec![fan_in]),
                spec(ParamKind::Beta, vec![fan_in]),
            ],
            Op::LayerScale { .. } => vec![spec(ParamKind::Gamma, vec![fan_in])],
            Op::ClassToken => vec![
                spec(ParamKind::Token, vec![1, 1, fan_in]),
                spec(ParamKind::Position, vec![1, 1, fan_in]),
            ],
            Op::PositionEmbedding => {
                vec![spec(
                    ParamKind::Position,
                    node.shape.batched(1)[1..].to_vec(),
                )]
            }
            Op::Attention { .. } | Op::DropClassToken | Op::TakeClassToken => Vec::new(),
            Op::Input
            | Op::Pad(_)
            | Op::Activation(_)
            | Op::Add
            | Op::Concat
            | Op::MaxPool { .. }
            | Op::AvgPool { .. }
            | Op::GlobalAvgPool
            | Op::GlobalMaxPool
            | Op::Flatten
            | Op::Identity(_)
            | Op::Multiply
            | Op::Reshape
            | Op::Dropout { .. } => Vec::new(),
        }
    }

    /// Keeps the named layer and what it is computed from.
    fn cut(self, name: &str) -> Result<Self, GraphError> {
        let Some(last) = self.layer_end(name) else {
            return Err(GraphError::new(
                "model.cut",
                format!("the backbone has no layer `{name}`"),
                did_you_mean(name, self.backbone_names())
                    .or_else(|| Some("`xp summary` lists the layers".into())),
            ));
        };
        let mut kept = vec![false; self.nodes.len()];
        kept[last] = true;
        for id in (0..=last).rev() {
            if kept[id] {
                self.nodes[id]
                    .inputs
                    .iter()
                    .for_each(|&input| kept[input] = true);
            }
        }
        let mut moved = vec![0; self.nodes.len()];
        let mut nodes = Vec::new();
        for (id, mut node) in self.nodes.into_iter().enumerate() {
            if kept[id] {
                moved[id] = nodes.len();
                node.inputs
                    .iter_mut()
                    .for_each(|input| *input = moved[*input]);
                nodes.push(node);
            }
        }
        let output = nodes.len() - 1;
        Ok(Self { nodes, output })
    }
}

/// Appends nodes, inferring shapes.
#[derive(Debug)]
pub struct GraphBuilder {
    nodes: Vec<Node>,
    part: Part,
    key: String,
    /// The logits, where more comes behind them.
    output: Option<NodeId>,
}

impl GraphBuilder {
    /// Starts with the input node, named `input_1`.
    pub fn new([height, width]: [u32; 2]) -> Self {
        Self {
            nodes: vec![Node {
                name: "input_1".into(),
                joined: false,
                op: Op::Input,
                inputs: Vec::new(),
                shape: Shape::Map {
                    channels: 3,
                    height: height as usize,
                    width: width as usize,
                },
                part: Part::Backbone,
            }],
            part: Part::Backbone,
            key: "data.image_size".into(),
            output: None,
        }
    }

    /// Goes on above a finished backbone: what is added now belongs to the head.
    pub(super) fn above(backbone: Graph) -> Self {
        Self {
            nodes: backbone.nodes,
            part: Part::Head,
            key: "model.head".into(),
            output: None,
        }
    }

    /// Names the key that the next nodes come from, for errors.
    pub(super) fn at(&mut self, key: impl Into<String>) {
        self.key = key.into();
    }

    /// Says that the last node gives the logits, whatever comes behind it.
    pub(super) fn end_head(&mut self) {
        self.output = Some(self.last());
    }

    /// The node of that name.
    pub(super) fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.name == name)
    }

    /// Appends a node and returns its id. A name that is taken gets a number, as in Keras: the
    /// second `dense` is `dense_1`.
    pub fn add(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let shapes: Vec<Shape> = inputs.iter().map(|&id| self.nodes[id].shape).collect();
        let shape = infer(&op, &shapes)
            .map_err(|(message, help)| GraphError::new(self.key.as_str(), message, help))?;
        self.nodes.push(Node {
            name: self.unique(name),
            joined: false,
            op,
            inputs: inputs.to_vec(),
            shape,
            part: self.part,
        });
        Ok(self.last())
    }

    /// Appends a node that reads the one before it and belongs to the same layer. Returns its id.
    pub fn join(&mut self, name: &str, op: Op) -> Result<NodeId, GraphError> {
        let id = self.add(name, op, &[self.last()])?;
        self.nodes[id].joined = true;
        Ok(id)
    }

    /// Appends global pooling to a backbone. A layer norm that ends a backbone of maps normalises
    /// what is pooled, as in timm and Keras: the pooling goes in below it.
    pub(crate) fn pool(&mut self, name: &str, op: Op) -> Result<NodeId, GraphError> {
        let last = self.last();
        let Op::LayerNorm { .. } = self.nodes[last].op else {
            return self.add(name, op, &[last]);
        };
        if self.has_class_token() {
            return self.add(name, op, &[last]);
        }
        let Some(norm) = self.nodes.pop() else {
            return Ok(last);
        };
        let part = std::mem::replace(&mut self.part, norm.part);
        let pooled = self.add(name, op, &norm.inputs);
        let normalised = pooled.and_then(|pooled| self.add(&norm.name, norm.op, &[pooled]));
        self.part = part;
        normalised
    }

    /// Whether the last node gives tokens of which the first is the class token.
    pub(crate) fn has_class_token(&self) -> bool {
        let is_token = |node: &Node| matches!(node.op, Op::ClassToken);
        let shape = self.shape(self.last()).batched(1);
        let mut nodes = self.nodes.iter().filter(|node| is_token(node));
        nodes.any(|node| node.shape.batched(1)[..3] == shape[..3.min(shape.len())])
    }

    /// Shape of a node's output.
    pub fn shape(&self, id: NodeId) -> Shape {
        self.nodes[id].shape
    }

    /// Name of a node.
    pub(super) fn name(&self, id: NodeId) -> &str {
        &self.nodes[id].name
    }

    /// The node added last.
    pub fn last(&self) -> NodeId {
        self.nodes.len() - 1
    }

    /// The graph.
    pub fn finish(self) -> Graph {
        Graph {
            output: self.output.unwrap_or(self.last()),
            nodes: self.nodes,
        }
    }

    fn unique(&self, name: &str) -> String {
        let taken = |name: &str| self.nodes.iter().any(|node| node.name == name);
        if !taken(name) {
            return name.into();
        }
        (1..)
            .map(|number| format!("{name}_{number}"))
            .find(|candidate| !taken(candidate))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Padding;

    fn build(text: &str) -> Result<Graph, Problem> {
        let text = match text.contains("backbone") {
            true => text.to_string(),
            false => format!("backbone = \"mobilenet_v2\"\n{text}"),
        };
        let model: ModelConfig = toml::from_str(&text).unwrap();
        Graph::build(&model, [160, 160], Flavour::Torch).map_err(|error| error.0)
    }

    fn parameters(graph: &Graph) -> usize {
        (0..graph.nodes().len())
            .flat_map(|id| graph.params(id))
            .map(|spec| spec.elements())
            .sum()
    }

    #[test]
    fn head_layers_carry_keras_names() {
        let graph = build(
            "cut = \"block_16_project_BN\"\npooling = \"none\"\nhead = [{ conv2d = 1280 }, \
             \"batch_norm\", \"relu\", \"flatten\", { dense = 8, activation = \"relu\" }, \
             { dropout = 0.2 }, { dense = 5 }]",
        )
        .unwrap();
        let head: Vec<String> = graph.nodes()[graph.backbone_len()..]
            .iter()
            .map(|node| format!("{} {}", node.name, node.shape))
            .collect();
        assert_eq!(
            head,
            [
                "conv2d 5 x 5 x 1280",
                "batch_normalization 5 x 5 x 1280",
                "re_lu 5 x 5 x 1280",
                "flatten 32000",
                "dense 8",
                "dense_relu 8",
                "dropout 8",
                "dense_1 5"
            ]
        );
        assert_eq!(graph.backbone_len(), 152);
    }

    #[test]
    fn counts_parameters_of_the_tutorials() {
        let tutorial = build("head = [{ dense = 1 }]").unwrap();
        assert_eq!(tutorial.backbone_len(), 155);
        assert_eq!(parameters(&tutorial), 2_259_265);
        let narrow = build("width = 0.35\nhead = [{ dense = 1 }]").unwrap();
        assert_eq!(parameters(&narrow), 410_208 + 1281);
        let wide = build("width = 1.4\nhead = [{ dense = 1 }]").unwrap();
        assert_eq!(parameters(&wide), 4_363_712 + 1793);
    }

    #[test]
    fn flavours_pad_alike_in_shape_and_not_in_place() {
        let shapes = |flavour, side| {
            let graph = Graph::build_backbone("mobilenet_v2", 1.0, [side, side], flavour).unwrap();
            let pad = graph.nodes()[1].op;
            let last = graph.nodes()[graph.output()].shape;
            (pad, last)
        };
        let padding = |before| Padding {
            top: before,
            bottom: 1,
            left: before,
            right: 1,
        };
        let map = |side| Shape::Map {
            channels: 1280,
            height: side,
            width: side,
        };
        assert_eq!(shapes(Flavour::Torch, 160), (Op::Pad(padding(1)), map(5)));
        assert_eq!(shapes(Flavour::Tf, 160), (Op::Pad(padding(0)), map(5)));
        assert_eq!(shapes(Flavour::Tf, 161), (Op::Pad(padding(1)), map(6)));
        assert_eq!(shapes(Flavour::Tf, 8), (Op::Pad(padding(0)), map(1)));
    }

    #[test]
    fn pooling_takes_the_class_token_or_goes_below_the_last_norm() {
        let head = |text: &str| {
            let text = format!("{text}\nhead = [{{ dense = 2 }}]");
            let model: ModelConfig = toml::from_str(&text).unwrap();
            let graph = Graph::build(&model, [56, 56], Flavour::Torch).unwrap();
            let nodes = graph.nodes();
            let from = nodes.len() - 4;
            let parts = nodes[from..]
                .iter()
                .map(|node| format!("{} {:?}", node.name, node.part));
            let features = nodes[nodes.len() - 2].shape;
            assert_eq!(
                features,
                Shape::Vector(if text.contains("dino") { 384 } else { 768 })
            );
            parts.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(
            head("backbone = \"dinov2_small_14\""),
            "block_11_add2 Backbone, norm Backbone, pooled_token Head, dense Head"
        );
        assert_eq!(
            head("backbone = \"dinov2_small_14\"\npooling = \"avg\""),
            "norm Backbone, patch_tokens Head, global_average_pooling2d Head, dense Head"
        );
        for pooling in ["auto", "avg"] {
            assert_eq!(
                head(&format!(
                    "backbone = \"convnext_tiny\"\npooling = \"{pooling}\""
                )),
                "convnext_tiny_stage_3_block_2_identity Backbone, \
                 global_average_pooling2d Backbone, layer_normalization Backbone, dense Head"
            );
        }
        let cut = "convnext_tiny_stage_3_block_1_identity";
        assert_eq!(
            head(&format!("backbone = \"convnext_tiny\"\ncut = \"{cut}\"")),
            "convnext_tiny_stage_3_block_1_layer_scale Backbone, \
             convnext_tiny_stage_3_block_1_identity Backbone, \
             global_average_pooling2d Head, dense Head"
        );
    }

    #[test]
    fn pictures_that_patches_do_not_fit_are_a_problem_of_their_size() {
        let size = |size| {
            let built = Graph::build_backbone("dinov2_small_14", 1.0, size, Flavour::Torch);
            built.map_err(|error| error.0)
        };
        assert!(size([224, 56]).is_ok());
        let problem = size([225, 224]).unwrap_err();
        assert_eq!(problem.key, "data.image_size");
        assert!(problem.message.contains("225 x 224 pixels"));
        assert_eq!(
            problem.help.as_deref(),
            Some("the nearest sizes that fit: [224, 224] or [238, 224]")
        );
        let help = size([160, 160]).unwrap_err().help.unwrap();
        assert_eq!(help, "the nearest sizes that fit: 154 or 168");
    }

    #[test]
    fn impossible_models_are_problems() {
        for (text, key, message, help) in [
            (
                "backbone = \"mobilenetv2\"\nhead = []",
                "model.backbone",
                "no backbone",
                "`mobilenet_v2`",
            ),
            (
                "backbone = \"zzz\"\nhead = []",
                "model.backbone",
                "no backbone",
                "known backbones",
            ),
            (
                "width = 2.0\nhead = []",
                "model.width",
                "no width 2",
                "0.35 to 1.4",
            ),
            (
                "cut = \"block_12_ad\"\nhead = []",
                "model.cut",
                "no layer `block_12_ad`",
                "did you mean `block_12_add`",
            ),
            (
                "head = []",
                "model.head",
                "no layer that trains",
                "dense = N",
            ),
            (
                "head = [{ dropout = 0.1 }]",
                "model.head",
                "no layer that trains",
                "dense = N",
            ),
            (
                "head = [\"flatten\", { dense = 1 }]",
                "model.head[0]",
                "is a vector of 1280",
                "leave",
            ),
            (
                "head = [\"avg_pool\", { dense = 1 }]",
                "model.head[0]",
                "feature map",
                "pooled",
            ),
            (
                "head = [{ conv2d = 8 }]",
                "model.head[0]",
                "feature map",
                "none",
            ),
            (
                "pooling = \"none\"\nhead = [\"relu\", { dense = 1 }]",
                "model.head[1]",
                "5 x 5 x 1280",
                "flatten",
            ),
            (
                "pooling = \"none\"\nhead = [{ conv2d = 8, kernel = 7 }]",
                "model.head[0]",
                "does not fit",
                "smaller kernel",
            ),
            (
                "pooling = \"none\"\nhead = [{ conv2d = 8 }]",
                "model.head",
                "ends in a feature map",
                "avg_pool",
            ),
        ] {
            let problem = build(text).unwrap_err();
            assert_eq!(problem.key, key, "{text}");
            assert!(
                problem.message.contains(message),
                "{text}: {}",
                problem.message
            );
            let offered = problem.help.unwrap_or_default();
            assert!(offered.contains(help), "{text}: {offered}");
        }
    }
}
