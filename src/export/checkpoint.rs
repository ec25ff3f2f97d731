//! Networks as checkpoints of Python's packages: safetensors files whose names and dimensions are
//! those that a network of timm or torchvision loads with `strict=True`.

mod architecture;
mod classifier;
mod file;

use candle_core::Tensor;
use serde_json::{Value, json};
use thiserror::Error;

pub use self::architecture::{Architecture, Package};
use self::classifier::Chain;
use crate::config::{Flavour, ModelConfig};
use crate::data::preprocess::{ChannelOrder, Preprocess};
use crate::engine::params::Params;
use crate::graph::cutoff::nodes_between;
use crate::graph::{Graph, GraphError, NodeId, Op, ParamKind, ParamSpec, Part, Shape};
use crate::weights::keys::{checkpoint_key, flattened_channels, variance_gap};

/// Modules of a head that the package's network lacks.
const HEAD: &str = "xp_head";

/// Side of the map that the dense layers of VGG nets read.
const FLATTENED: usize = 7;

/// A network that a package cannot express.
#[derive(Debug, Error)]
pub enum Refusal {
    /// It has no such architecture.
    #[error("{package} has no `{backbone}`{}", of_width(.width))]
    Missing {
        /// The package.
        package: Package,
        /// Our name.
        backbone: String,
        /// Width multiplier.
        width: f64,
        /// Whether the other package has it.
        other: bool,
    },
    /// It has the architecture, but not Keras' padding and norms.
    #[error(
        "the weights of `{backbone}` are of Keras' convention of padding and batch norm, and \
         {package} has no network of that convention"
    )]
    Convention {
        /// The package.
        package: Package,
        /// Our name.
        backbone: String,
    },
    /// It has no such part of the architecture.
    #[error("the backbone is cut at `{layer}`, and {package}'s `{name}` is whole")]
    Cut {
        /// The package.
        package: Package,
        /// Its architecture.
        name: String,
        /// The last layer.
        layer: String,
    },
    /// Its network ends in something else.
    #[error("{package}'s `{name}` ends in {theirs}, and this model in {ours}")]
    Head {
        /// The package.
        package: Package,
        /// Its architecture.
        name: String,
        /// What it ends in.
        theirs: String,
        /// What the model ends in.
        ours: String,
        /// `[model]` of one that fits.
        config: String,
    },
    /// Its network reads a map of another size.
    #[error("{package}'s `{backbone}` flattens a map of 7 x 7, which pictures of 224 x 224 give")]
    Size {
        /// The package.
        package: Package,
        /// Our name, and its.
        backbone: String,
    },
    /// The architecture cannot be built, or a layer has no name: a mistake in this folder.
    #[error("{0}")]
    Unresolved(String),
    /// A tensor could not be rearranged.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

fn of_width(width: &f64) -> String {
    match width {
        1.0 => String::new(),
        _ => format!(" of width {width}"),
    }
}

impl From<GraphError> for Refusal {
    fn from(error: GraphError) -> Self {
        Self::Unresolved(error.to_string())
    }
}

impl Refusal {
    /// What to do.
    pub fn help(&self) -> Option<String> {
        let onnx = "`--format onnx` writes any network";
        match self {
            Self::Missing {
                other: true,
                package,
                ..
            } => Some(format!("`--names {}` has it", package.other())),
            Self::Missing { .. } | Self::Convention { .. } => Some(onnx.into()),
            Self::Size { .. } => Some(format!("train with `data.image_size = 224`; {onnx}")),
            Self::Cut { .. } => Some(format!(
                "`--split-head` writes what there is of it, and the head beside it; {onnx}"
            )),
            Self::Head {
                config, package, ..
            } => Some(format!(
                "train with {config}; or `--split-head` writes the backbone under {package}'s \
                 names and the head as `{HEAD}.N.*`; {onnx}"
            )),
            Self::Unresolved(_) => Some("please report this with the model".into()),
            Self::Tensor(_) => None,
        }
    }
}

/// A network to write.
#[derive(Debug, Clone, Copy)]
pub struct Network<'a> {
    /// Backbone and head.
    pub graph: &'a Graph,
    /// Their parameters.
    pub params: &'a Params,
    /// What they were built of.
    pub model: &'a ModelConfig,
    /// Convention of padding and batch norm.
    pub flavour: Flavour,
    /// From pictures to what it takes.
    pub preprocess: &'a Preprocess,
}

/// A tensor of a checkpoint.
#[derive(Debug)]
enum Entry {
    /// Of floats.
    Floats(Tensor),
    /// The number of batches that a batch norm has seen, which it has no use for.
    Batches,
}

/// A network under a package's names.
#[derive(Debug)]
pub struct Checkpoint {
    /// What loads it.
    pub architecture: Architecture,
    /// Layers of a head beside the network, by number: names and kinds.
    head: Vec<(String, &'static str)>,
    /// By name, in the order of the layers.
    entries: Vec<(String, Entry)>,
}

impl Checkpoint {
    /// All of a network, its head as the package's classifier.
    ///
    /// # Errors
    /// If the package has no such network.
    pub fn whole(network: &Network<'_>, package: Package) -> Result<Self, Refusal> {
        let Network { graph, model, .. } = *network;
        let mut architecture = Architecture::find(network, package)?;
        if let Some(layer) = &model.cut {
            return Err(Refusal::Cut {
                package,
                name: architecture.name,
                layer: layer.clone(),
            });
        }
        let outputs = graph.nodes()[graph.output()].shape.elements();
        let size = network.preprocess.image_size;
        let backbone = (model.backbone.as_str(), model.width, size, network.flavour);
        let (name, width, size, flavour) = backbone;
        let theirs = Graph::build_classifier(name, width, size, flavour, outputs)?;
        let bare = Graph::build_backbone(name, width, size, flavour)?;
        let [expected, found] = [&theirs, graph].map(|graph| Chain::above(&bare, graph));
        let Some(matched) = expected.matched(&found, package) else {
            return Err(Refusal::Head {
                package,
                name: architecture.name,
                theirs: expected.describe(),
                ours: found.describe(),
                config: expected.config(),
            });
        };
        if matched.max_pool {
            architecture.set("global_pool", json!("max"));
        }
        architecture.set("num_classes", json!(outputs));
        let mut writer = Writer::new(network, package);
        for (id, node) in theirs.nodes().iter().enumerate() {
            let source = matched.names.get(&node.name).unwrap_or(&node.name);
            for spec in theirs.params(id) {
                writer.put(&spec, source)?;
            }
            writer.put_batches(&theirs, id)?;
        }
        Ok(Self {
            architecture,
            head: Vec::new(),
            entries: writer.finish()?,
        })
    }

    /// A network without the package's classifier, and the head beside it as modules of its own.
    ///
    /// # Errors
    /// If the package has no such backbone.
    pub fn split(network: &Network<'_>, package: Package) -> Result<Self, Refusal> {
        let graph = network.graph;
        let mut architecture = Architecture::find(network, package)?;
        if package == Package::Timm {
            architecture.set("num_classes", json!(0));
        }
        let mut writer = Writer::new(network, package);
        let mut head = Vec::new();
        // The map that the head has flattened, until a dense layer has read it.
        let mut flattened = None;
        for id in nodes_between(graph, &[0], &[graph.output()]) {
            let node = &graph.nodes()[id];
            match node.part {
                Part::Backbone => {
                    for spec in graph.params(id) {
                        writer.put(&spec, &node.name)?;
                    }
                    writer.put_batches(graph, id)?;
                }
                Part::Head => {
                    if node.op == Op::Flatten {
                        flattened = node.inputs.first().map(|&from| graph.nodes()[from].shape);
                    }
                    for spec in graph.params(id) {
                        let key = format!("{HEAD}.{}.{}", head.len(), variable(spec.kind));
                        let value = network.params.value(&spec.name);
                        // A bias belongs to what comes out, however many that are.
                        let map = flattened.filter(|_| spec.kind != ParamKind::Bias);
                        let value = channels_first(value, map)?;
                        writer.entries.push((key, Entry::Floats(value)));
                    }
                    if matches!(node.op, Op::Dense { .. }) {
                        flattened = None;
                    }
                    head.push((node.name.clone(), node.op.kind()));
                }
            }
        }
        Ok(Self {
            architecture,
            head,
            entries: writer.finish()?,
        })
    }

    /// Names of the tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// The file: all tensors, and how to make the network that loads them, with more to be known.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn encode(
        &self,
        network: &Network<'_>,
        more: &[(&str, String)],
    ) -> Result<Vec<u8>, Refusal> {
        let Architecture {
            package,
            name,
            arguments,
        } = &self.architecture;
        let flavour = match network.flavour {
            Flavour::Torch => "torch",
            Flavour::Tf => "tf",
        };
        let order = match network.preprocess.order {
            ChannelOrder::Rgb => "rgb",
            ChannelOrder::Bgr => "bgr",
        };
        let mut metadata = vec![
            ("format", "pt".to_owned()),
            ("library", package.to_string()),
            ("architecture", name.clone()),
            ("arguments", json!(arguments).to_string()),
            (
                "preprocessing",
                preprocessing(network.preprocess).to_string(),
            ),
            ("channel_order", order.to_owned()),
            (crate::weights::FLAVOUR_KEY, flavour.to_owned()),
        ];
        if !self.head.is_empty() {
            let layers = self.head.iter();
            let layers = layers.map(|(name, kind)| json!({ "name": name, "kind": kind }));
            metadata.push((HEAD, Value::from_iter(layers).to_string()));
        }
        metadata.extend_from_slice(more);
        Ok(file::encode(&self.entries, &metadata)?)
    }
}

/// A parameter of what reads a flattened map: rows, columns and channels here, channels first there.
fn channels_first(value: &Tensor, flattened: Option<Shape>) -> candle_core::Result<Tensor> {
    let Some(Shape::Map {
        channels,
        height,
        width,
    }) = flattened
    else {
        return Ok(value.clone());
    };
    let inputs = height * width * channels;
    match *value.dims() {
        [units, features] if features == inputs => value
            .reshape((units, height, width, channels))?
            .permute((0, 3, 1, 2))?
            .contiguous()?
            .reshape((units, inputs)),
        [features] if features == inputs => value
            .reshape((height, width, channels))?
            .permute((2, 0, 1))?
            .contiguous()?
            .reshape(inputs),
        _ => Ok(value.clone()),
    }
}

/// From a network's parameters to the package's entries.
struct Writer<'a> {
    network: &'a Network<'a>,
    package: Package,
    entries: Vec<(String, Entry)>,
    /// Positions of the class token and of the patches, which lie in one tensor.
    positions: Vec<Tensor>,
}

impl<'a> Writer<'a> {
    fn new(network: &'a Network<'a>, package: Package) -> Self {
        Self {
            network,
            package,
            entries: Vec::new(),
            positions: Vec::new(),
        }
    }

    fn key(&self, parameter: &str) -> Result<String, Refusal> {
        let (family, naming) = (&self.network.model.backbone, self.package.naming());
        checkpoint_key(family, naming, parameter).ok_or_else(|| {
            let package = self.package;
            Refusal::Unresolved(format!(
                "`{parameter}` has no name in {package}'s `{family}`"
            ))
        })
    }

    /// Puts the parameter that the package has as `spec`; it is that of our layer `layer`.
    fn put(&mut self, spec: &ParamSpec, layer: &str) -> Result<(), Refusal> {
        let kind = spec.kind;
        let name = format!("{layer}/{}", kind.name());
        let Some(param) = self.network.params.get(&name) else {
            return Err(Refusal::Unresolved(format!("the model has no `{name}`")));
        };
        let value = &param.value;
        if kind == ParamKind::Position {
            let channels = spec.dims.last().copied().unwrap_or(1);
            let rows = value.reshape((1, spec.elements() / channels, channels))?;
            // That of the class token comes first.
            let at = if spec.dims[..2] == [1, 1] {
                0
            } else {
                self.positions.len()
            };
            self.positions.insert(at, rows);
            return Ok(());
        }
        self.check_side(spec)?;
        let value = self.rearranged(spec, value.reshape(spec.dims.as_slice())?)?;
        self.entries
            .push((self.key(&spec.name)?, Entry::Floats(value)));
        Ok(())
    }

    /// What is flattened has one size in the packages.
    fn check_side(&self, spec: &ParamSpec) -> Result<(), Refusal> {
        let (family, naming) = (&self.network.model.backbone, self.package.naming());
        match flattened_channels(family, naming, &spec.name) {
            Some(channels) if spec.dims[1] != FLATTENED * FLATTENED * channels => {
                Err(Refusal::Size {
                    package: self.package,
                    backbone: family.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// A parameter in the package's dimensions, where they are not ours.
    fn rearranged(&self, spec: &ParamSpec, value: Tensor) -> candle_core::Result<Tensor> {
        let (family, naming) = (self.network.model.backbone.as_str(), self.package.naming());
        let timm = self.package == Package::Timm;
        let dims = spec.dims.as_slice();
        if let (Some(channels), &[units, features]) =
            (flattened_channels(family, naming, &spec.name), dims)
        {
            let side = (features / channels).isqrt();
            let map = Shape::Map {
                channels,
                height: side,
                width: side,
            };
            let kernel = channels_first(&value, Some(map))?;
            return match timm {
                true => kernel.reshape((units, channels, side, side)),
                false => Ok(kernel),
            };
        }
        match (spec.name.as_str(), dims) {
            ("logits/kernel", &[units, features, 1, 1]) => value.reshape((units, features)),
            ("conv_2/kernel", &[units, features, 1, 1]) if !timm => {
                value.reshape((units, features))
            }
            ("fc2/kernel", &[units, features]) if timm => value.reshape((units, features, 1, 1)),
            (name, &[channels]) if !timm && name.ends_with("_layer_scale/gamma") => {
                value.reshape((channels, 1, 1))
            }
            _ => match variance_gap(family, naming) {
                Some(gap) if spec.kind == ParamKind::MovingVariance => value - gap,
                _ => Ok(value),
            },
        }
    }

    /// What PyTorch's batch norms have besides.
    fn put_batches(&mut self, graph: &Graph, id: NodeId) -> Result<(), Refusal> {
        let node = &graph.nodes()[id];
        if let Op::BatchNorm { .. } = node.op {
            let mean = self.key(&format!("{}/{}", node.name, ParamKind::MovingMean.name()))?;
            let module = mean.trim_end_matches("running_mean");
            let key = format!("{module}num_batches_tracked");
            self.entries.push((key, Entry::Batches));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<(String, Entry)>, Refusal> {
        if !self.positions.is_empty() {
            let all = Tensor::cat(&self.positions, 1)?;
            let key = self.key("position_embedding/position")?;
            self.entries.push((key, Entry::Floats(all)));
        }
        Ok(self.entries)
    }
}

/// PyTorch's name of a variable.
fn variable(kind: ParamKind) -> &'static str {
    match kind {
        ParamKind::Kernel | ParamKind::Gamma => "weight",
        ParamKind::Bias | ParamKind::Beta => "bias",
        ParamKind::MovingMean => "running_mean",
        ParamKind::MovingVariance => "running_var",
        ParamKind::Token | ParamKind::Position => "token",
    }
}

/// Arguments of timm's `create_transform`: pictures are resized whatever their sides, as here.
fn preprocessing(preprocess: &Preprocess) -> Value {
    let [height, width] = preprocess.image_size;
    // A little less: timm rounds the quotient of side and share down.
    let share = f64::from(height) / (f64::from(preprocess.resized()[0]) + 1e-6);
    json!({
        "input_size": [3, height, width],
        "mean": preprocess.mean.map(decimal),
        "std": preprocess.std.map(decimal),
        "interpolation": preprocess.interpolation,
        "crop_pct": if preprocess.resize.is_some() { share } else { 1.0 },
        "crop_mode": "squash",
    })
}

/// The decimal that a number was written as.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
mod tests;
