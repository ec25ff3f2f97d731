//! Nodes of the graph as ONNX operators.
//!
//! Maps are written channels first, as convolutions and pools want them, until a layer works along
//! the channels of each pixel (dense layers and norms of tokens): then channels last, until another
//! convolution comes.

use candle_core::{Result, Tensor, bail};

use super::file::{File, float, int, ints};
use crate::activation::Activation;
use crate::engine::params::Params;
use crate::geometry::{Padding, Window};
use crate::graph::{Graph, NodeId, Op, ParamKind, Shape};

/// Where the channels of a map are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `[batch, channels, height, width]`.
    First,
    /// `[batch, height, width, channels]`.
    Last,
}

/// What a node has come to: its name in the file, and in the other layout, too, if that was wanted.
#[derive(Debug, Clone)]
struct Value {
    name: String,
    layout: Layout,
    turned: Option<String>,
}

/// Writes the nodes of a graph.
#[derive(Debug)]
pub(super) struct Layers<'a> {
    graph: &'a Graph,
    params: &'a Params,
    values: Vec<Option<Value>>,
}

impl<'a> Layers<'a> {
    /// Starts from the picture, channels first, which the file has under this name.
    pub(super) fn new(graph: &'a Graph, params: &'a Params, picture: &str) -> Self {
        let mut values = vec![None; graph.nodes().len()];
        values[0] = Some(Value {
            name: picture.to_owned(),
            layout: Layout::First,
            turned: None,
        });
        Self {
            graph,
            params,
            values,
        }
    }

    /// The name of a node's output, in the layout that it was written in.
    pub(super) fn name(&self, id: NodeId) -> Result<&str> {
        Ok(&self.value(id)?.name)
    }

    /// The node whose values a node's are: layers that change nothing have none of their own.
    fn origin(&self, mut id: NodeId) -> NodeId {
        while let (Op::Dropout { .. } | Op::Identity(_), Some(&input)) = (
            self.graph.nodes()[id].op,
            self.graph.nodes()[id].inputs.first(),
        ) {
            id = input;
        }
        id
    }

    fn value(&self, id: NodeId) -> Result<&Value> {
        let id = self.origin(id);
        match &self.values[id] {
            Some(value) => Ok(value),
            None => bail!("layer `{}` is not there yet", self.graph.nodes()[id].name),
        }
    }

    /// The name of a node's output in a layout; vectors have none.
    fn laid_out(&mut self, file: &mut File, id: NodeId, wanted: Layout) -> Result<String> {
        let id = self.origin(id);
        let value = self.value(id)?.clone();
        if value.layout == wanted || matches!(self.graph.nodes()[id].shape, Shape::Vector(_)) {
            return Ok(value.name);
        }
        if let Some(turned) = value.turned {
            return Ok(turned);
        }
        let (permutation, suffix) = match wanted {
            Layout::First => ([0, 3, 1, 2], "channels_first"),
            Layout::Last => ([0, 2, 3, 1], "channels_last"),
        };
        let turned = file.node(
            "Transpose",
            &[&value.name],
            format!("{}/{suffix}", value.name),
            vec![ints("perm", permutation)],
        );
        self.values[id] = Some(Value {
            turned: Some(turned.clone()),
            ..value
        });
        Ok(turned)
    }

    /// Writes a node whose inputs are there; `output` is what its output is called.
    pub(super) fn write(&mut self, file: &mut File, id: NodeId, output: &str) -> Result<()> {
        let node = &self.graph.nodes()[id];
        let (Some(&x), Some(&last)) = (node.inputs.first(), node.inputs.last()) else {
            bail!("layer `{}` has no inputs", node.name);
        };
        let before = self.value(x)?.layout;
        let is_vector = matches!(node.shape, Shape::Vector(_));
        // Where an operator works on either layout, it keeps the one that is there.
        let (name, layout) = match node.op {
            Op::Input => bail!("there is one picture, and `{}` is another", node.name),
            Op::Dropout { .. } | Op::Identity(_) => return Ok(()),
            Op::Pad(padding) => {
                let x = self.laid_out(file, x, Layout::First)?;
                let Padding {
                    top,
                    bottom,
                    left,
                    right,
                } = padding;
                let pads = [0, 0, top, left, 0, 0, bottom, right].map(|it| it as i64);
                let pads = file.integers(&pads);
                (
                    file.node("Pad", &[&x, &pads], output, vec![]),
                    Layout::First,
                )
            }
            Op::Conv2d {
                groups, ref window, ..
            } => (
                self.convolution(file, id, x, window, groups, output)?,
                Layout::First,
            ),
            Op::DepthwiseConv2d { ref window, .. } => {
                let groups = node.shape.channels();
                (
                    self.convolution(file, id, x, window, groups, output)?,
                    Layout::First,
                )
            }
            Op::BatchNorm { epsilon, gamma, .. } => {
                let x = self.laid_out(file, x, Layout::First)?;
                let scale = match gamma {
                    true => self.param(file, id, ParamKind::Gamma)?,
                    false => {
                        let channels = node.shape.channels();
                        let ones = vec![1.0; channels];
                        file.floats(&format!("{}/ones", node.name), &[channels], &ones)
                    }
                };
                let mut inputs = vec![x, scale];
                for kind in [
                    ParamKind::Beta,
                    ParamKind::MovingMean,
                    ParamKind::MovingVariance,
                ] {
                    inputs.push(self.param(file, id, kind)?);
                }
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                let epsilon = float("epsilon", epsilon as f32);
                (
                    file.node("BatchNormalization", &inputs, output, vec![epsilon]),
                    Layout::First,
                )
            }
            Op::Attention { heads } => (
                self.attention(file, x, heads, node.shape, output)?,
                Layout::Last,
            ),
            Op::ClassToken => (
                self.class_token(file, id, x, node.shape, output)?,
                Layout::Last,
            ),
            Op::DropClassToken => {
                let x = self.laid_out(file, x, Layout::Last)?;
                (slice(file, &x, [1, i64::MAX], 2, output), Layout::Last)
            }
            Op::TakeClassToken => {
                let x = self.laid_out(file, x, Layout::Last)?;
                let first = slice(file, &x, [0, 1], 2, &format!("{output}/token"));
                let flat = vec![int("axis", 1)];
                (file.node("Flatten", &[&first], output, flat), Layout::Last)
            }
            Op::LayerNorm { epsilon } => {
                let x = self.laid_out(file, x, Layout::Last)?;
                let gamma = self.param(file, id, ParamKind::Gamma)?;
                let beta = self.param(file, id, ParamKind::Beta)?;
                let told = vec![int("axis", -1), float("epsilon", epsilon as f32)];
                (
                    file.node("LayerNormalization", &[&x, &gamma, &beta], output, told),
                    Layout::Last,
                )
            }
            Op::LayerScale { .. } => {
                let x = self.laid_out(file, x, before)?;
                let factors = values(self.params.expect(self.graph, id, ParamKind::Gamma)?)?;
                let channels = factors.len();
                let dims: &[usize] = match (is_vector, before) {
                    (false, Layout::First) => &[channels, 1, 1],
                    _ => &[channels],
                };
                let gamma = file.floats(&format!("{}/gamma", node.name), dims, &factors);
                (file.node("Mul", &[&x, &gamma], output, vec![]), before)
            }
            Op::PointwiseDense { .. } => {
                let x = self.laid_out(file, x, Layout::Last)?;
                (self.pointwise(file, id, &x, output)?, Layout::Last)
            }
            Op::PositionEmbedding => {
                let x = self.laid_out(file, x, Layout::Last)?;
                let position = self.param(file, id, ParamKind::Position)?;
                (
                    file.node("Add", &[&x, &position], output, vec![]),
                    Layout::Last,
                )
            }
            Op::Activation(activation) => {
                let x = self.laid_out(file, x, before)?;
                (activate(file, &x, activation, output), before)
            }
            Op::Add => {
                let (x, y) = (
                    self.laid_out(file, x, before)?,
                    self.laid_out(file, last, before)?,
                );
                (file.node("Add", &[&x, &y], output, vec![]), before)
            }
            Op::Concat => {
                let mut names = Vec::new();
                for &input in &node.inputs {
                    names.push(self.laid_out(file, input, Layout::First)?);
                }
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let axis = vec![int("axis", 1)];
                (file.node("Concat", &names, output, axis), Layout::First)
            }
            Op::Multiply => {
                let map = self.laid_out(file, x, Layout::First)?;
                let mut gate = self.laid_out(file, last, Layout::First)?;
                if matches!(self.graph.nodes()[last].shape, Shape::Vector(_)) && !is_vector {
                    gate = as_pixel(file, &gate, &format!("{output}/gate"));
                }
                (
                    file.node("Mul", &[&map, &gate], output, vec![]),
                    Layout::First,
                )
            }
            Op::MaxPool { ref window } => {
                let x = self.laid_out(file, x, Layout::First)?;
                let told = geometry(window).into();
                (file.node("MaxPool", &[&x], output, told), Layout::First)
            }
            Op::AvgPool {
                ref window,
                count_include_pad,
            } => {
                let x = self.laid_out(file, x, Layout::First)?;
                let mut told: Vec<_> = geometry(window).into();
                told.push(int("count_include_pad", i64::from(count_include_pad)));
                (file.node("AveragePool", &[&x], output, told), Layout::First)
            }
            Op::GlobalAvgPool => (
                self.global(file, x, "GlobalAveragePool", output)?,
                Layout::First,
            ),
            Op::GlobalMaxPool => (
                self.global(file, x, "GlobalMaxPool", output)?,
                Layout::First,
            ),
            Op::Flatten => {
                let x = self.laid_out(file, x, Layout::Last)?;
                let told = vec![int("axis", 1)];
                (file.node("Flatten", &[&x], output, told), Layout::Last)
            }
            Op::Reshape => {
                let x = self.laid_out(file, x, Layout::First)?;
                (as_pixel(file, &x, output), Layout::First)
            }
            Op::Dense { .. } => {
                let x = self.laid_out(file, x, Layout::First)?;
                let kernel = self.param(file, id, ParamKind::Kernel)?;
                let bias = self.param(file, id, ParamKind::Bias)?;
                let told = vec![int("transB", 1)];
                (
                    file.node("Gemm", &[&x, &kernel, &bias], output, told),
                    Layout::First,
                )
            }
        };
        self.values[id] = Some(Value {
            name,
            layout,
            turned: None,
        });
        Ok(())
    }

    /// A parameter, as it is kept.
    fn param(&self, file: &mut File, id: NodeId, kind: ParamKind) -> Result<String> {
        let tensor = self.params.expect(self.graph, id, kind)?;
        let name = format!("{}/{}", self.graph.nodes()[id].name, kind.name());
        Ok(file.floats(&name, tensor.dims(), &values(tensor)?))
    }

    fn convolution(
        &mut self,
        file: &mut File,
        id: NodeId,
        x: NodeId,
        window: &Window,
        groups: usize,
        output: &str,
    ) -> Result<String> {
        let mut inputs = vec![
            self.laid_out(file, x, Layout::First)?,
            self.param(file, id, ParamKind::Kernel)?,
        ];
        if self.params.of(self.graph, id, ParamKind::Bias).is_some() {
            inputs.push(self.param(file, id, ParamKind::Bias)?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let mut told: Vec<_> = geometry(window).into();
        told.push(ints("dilations", window.dilation));
        told.push(int("group", groups as i64));
        Ok(file.node("Conv", &inputs, output, told))
    }

    /// A dense layer along the last axis.
    fn pointwise(&self, file: &mut File, id: NodeId, x: &str, output: &str) -> Result<String> {
        let kernel = self.params.expect(self.graph, id, ParamKind::Kernel)?;
        let turned = kernel.t()?.contiguous()?;
        let name = format!("{}/kernel", self.graph.nodes()[id].name);
        let kernel = file.floats(&name, turned.dims(), &values(&turned)?);
        if self.params.of(self.graph, id, ParamKind::Bias).is_none() {
            return Ok(file.node("MatMul", &[x, &kernel], output, vec![]));
        }
        let bias = self.param(file, id, ParamKind::Bias)?;
        let product = file.node("MatMul", &[x, &kernel], format!("{output}/product"), vec![]);
        Ok(file.node("Add", &[&product, &bias], output, vec![]))
    }

    /// A pool over the whole map, to a vector.
    fn global(
        &mut self,
        file: &mut File,
        x: NodeId,
        operator: &str,
        output: &str,
    ) -> Result<String> {
        let x = self.laid_out(file, x, Layout::First)?;
        let pixel = file.node(operator, &[&x], format!("{output}/pixel"), vec![]);
        Ok(file.node("Flatten", &[&pixel], output, vec![int("axis", 1)]))
    }

    /// Softmax(Q K^T / sqrt(size)) V, heads side by side.
    fn attention(
        &mut self,
        file: &mut File,
        x: NodeId,
        heads: usize,
        shape: Shape,
        output: &str,
    ) -> Result<String> {
        let Shape::Map {
            channels,
            height,
            width,
        } = shape
        else {
            bail!("attention wants tokens, not a vector");
        };
        let size = channels / heads;
        let x = self.laid_out(file, x, Layout::Last)?;
        let dims = [0, height * width, 3, heads, size].map(|it| it as i64);
        let dims = file.integers(&dims);
        let split = file.node("Reshape", &[&x, &dims], format!("{output}/split"), vec![]);
        let mut part = |index: i64, what: &str, permutation: [usize; 4]| {
            let at = file.integers(&[index]);
            let taken = format!("{output}/{what}/taken");
            let taken = file.node("Gather", &[&split, &at], taken, vec![int("axis", 2)]);
            let axis = file.integers(&[2]);
            let flat = format!("{output}/{what}/tokens");
            let flat = file.node("Squeeze", &[&taken, &axis], flat, vec![]);
            file.node(
                "Transpose",
                &[&flat],
                format!("{output}/{what}"),
                vec![ints("perm", permutation)],
            )
        };
        let queries = part(0, "queries", [0, 2, 1, 3]);
        let keys = part(1, "keys", [0, 2, 3, 1]);
        let weighted = part(2, "values", [0, 2, 1, 3]);
        let scale = file.float((1.0 / (size as f64).sqrt()) as f32);
        let queries = file.node(
            "Mul",
            &[&queries, &scale],
            format!("{output}/scaled"),
            vec![],
        );
        let products = format!("{output}/products");
        let products = file.node("MatMul", &[&queries, &keys], products, vec![]);
        let weights = format!("{output}/weights");
        let weights = file.node("Softmax", &[&products], weights, vec![int("axis", -1)]);
        let heads = format!("{output}/heads");
        let heads = file.node("MatMul", &[&weights, &weighted], heads, vec![]);
        let beside = format!("{output}/beside");
        let beside = file.node(
            "Transpose",
            &[&heads],
            beside,
            vec![ints("perm", [0, 2, 1, 3])],
        );
        let dims = [0, height, width, channels].map(|it| it as i64);
        let dims = file.integers(&dims);
        Ok(file.node("Reshape", &[&beside, &dims], output, vec![]))
    }

    /// Pixels as tokens behind a learned one with its position.
    fn class_token(
        &mut self,
        file: &mut File,
        id: NodeId,
        x: NodeId,
        shape: Shape,
        output: &str,
    ) -> Result<String> {
        let Shape::Map {
            channels, width, ..
        } = shape
        else {
            bail!("a class token stands before tokens, not a vector");
        };
        let x = self.laid_out(file, x, Layout::Last)?;
        let dims = [0, 1, width - 1, channels].map(|it| it as i64);
        let dims = file.integers(&dims);
        let tokens = file.node("Reshape", &[&x, &dims], format!("{output}/tokens"), vec![]);
        let token = self.params.expect(self.graph, id, ParamKind::Token)?;
        let position = self.params.expect(self.graph, id, ParamKind::Position)?;
        let token = values(&(token + position)?)?;
        let name = format!("{}/token", self.graph.nodes()[id].name);
        let token = file.floats(&name, &[1, 1, 1, channels], &token);
        // One a picture: as many as the batch has.
        let batch = file.node(
            "Shape",
            &[&tokens],
            format!("{output}/batch"),
            vec![int("start", 0), int("end", 1)],
        );
        let rest = file.integers(&[1, 1, channels as i64]);
        let dims = format!("{output}/dims");
        let dims = file.node("Concat", &[&batch, &rest], dims, vec![int("axis", 0)]);
        let first = format!("{output}/first");
        let first = file.node("Expand", &[&token, &dims], first, vec![]);
        Ok(file.node("Concat", &[&first, &tokens], output, vec![int("axis", 2)]))
    }
}

/// Values of a tensor in the order of its dimensions.
fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

/// What convolutions and pools are told alike.
fn geometry(window: &Window) -> [super::proto::Attribute; 3] {
    let Padding {
        top,
        bottom,
        left,
        right,
    } = window.padding;
    [
        ints("kernel_shape", window.kernel),
        ints("strides", window.stride),
        ints("pads", [top, left, bottom, right]),
    ]
}

/// A part of an axis.
fn slice(file: &mut File, x: &str, [start, end]: [i64; 2], axis: i64, output: &str) -> String {
    let ends = [start, end, axis].map(|it| file.integers(&[it]));
    let [start, end, axis] = &ends;
    file.node("Slice", &[x, start, end, axis], output, vec![])
}

/// A vector as a map of one pixel.
fn as_pixel(file: &mut File, x: &str, output: &str) -> String {
    let axes = file.integers(&[2, 3]);
    file.node("Unsqueeze", &[x, &axes], output, vec![])
}

fn activate(file: &mut File, x: &str, activation: Activation, output: &str) -> String {
    match activation {
        Activation::Linear => file.node("Identity", &[x], output, vec![]),
        Activation::Relu => file.node("Relu", &[x], output, vec![]),
        Activation::Relu6 => {
            let (low, high) = (file.float(0.0), file.float(6.0));
            file.node("Clip", &[x, &low, &high], output, vec![])
        }
        Activation::Sigmoid => file.node("Sigmoid", &[x], output, vec![]),
        Activation::HardSigmoid => {
            let told = vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)];
            file.node("HardSigmoid", &[x], output, told)
        }
        Activation::HardSwish => file.node("HardSwish", &[x], output, vec![]),
        Activation::Silu => {
            let gate = file.node("Sigmoid", &[x], format!("{output}/gate"), vec![]);
            file.node("Mul", &[x, &gate], output, vec![])
        }
        Activation::Gelu => file.node("Gelu", &[x], output, vec![]),
    }
}
