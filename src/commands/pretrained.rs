//! A backbone by name with published weights, as `xp predict` and `xp features` take it.

use std::path::Path;

use candle_core::Device;
use serde_json::json;

use super::network;
use super::progress::DownloadProgress;
use super::{Exit, Failure, Printer};
use crate::cli::BackboneArgs;
use crate::config::{ModelConfig, Problem};
use crate::data::Framing;
use crate::data::preprocess::{self, Preprocess};
use crate::engine::params::Params;
use crate::graph::cutoff::nodes_between;
use crate::graph::nearest::did_you_mean;
use crate::graph::{Graph, GraphError, NodeId};
use crate::weights::{self, WeightsError};
use crate::zoo::imagenet;
use crate::zoo::registry::{self, Family};

/// What the first argument of a command stands for.
#[derive(Debug)]
pub enum Target<'a> {
    /// A run directory or a model file.
    Model(&'a Path),
    /// A backbone.
    Backbone(&'static Family),
}

impl<'a> Target<'a> {
    /// What exists is a model, and so is what looks like a path; else it must be a backbone's name.
    pub fn of(argument: &'a Path) -> Result<Self, Failure> {
        let looks_like_path = argument.components().count() > 1 || argument.extension().is_some();
        if argument.exists() || looks_like_path {
            return Ok(Self::Model(argument));
        }
        match registry::find(&argument.to_string_lossy()) {
            Ok(family) => Ok(Self::Backbone(family)),
            Err(problem) => {
                let name = argument.display();
                let message = format!("there is no run, model file or backbone `{name}`");
                let help = problem.help.unwrap_or_default();
                Err(Failure::new(Exit::Config, message).help(help))
            }
        }
    }
}

/// Fails if flags are given that only go with a backbone.
pub fn check_no_flags(args: &BackboneArgs) -> Result<(), Failure> {
    let given = [
        ("--weights", args.weights.is_some()),
        ("--width", args.width != 1.0),
        ("--size", args.size.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((flag, _)) => {
            let message = format!("`{flag}` goes with the name of a backbone, not with a run");
            Err(Failure::new(Exit::Config, message).help("a run brings its own; leave it out"))
        }
    }
}

/// A backbone with weights, up to one of its layers.
#[derive(Debug)]
pub struct Pretrained {
    /// The layers; of parameters above [`Self::output`] some are random.
    pub graph: Graph,
    /// Their parameters.
    pub params: Params,
    /// The node whose output is wanted.
    pub output: NodeId,
    /// From picture to tensor, as the weights were trained.
    pub preprocess: Preprocess,
    /// Which part of a picture, as the weights were evaluated.
    pub framing: Framing,
    /// Where the weights came from.
    pub source: String,
}

impl Pretrained {
    /// Up to a layer of the backbone or its classifier; by default to the pooled features that
    /// `pooling = "avg"` hands to a head.
    pub fn features(
        family: &'static Family,
        args: &BackboneArgs,
        layer: Option<&str>,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let opened = Opened::new(family, args)?;
        let (graph, output) = opened.layer(layer)?;
        opened.load(graph, output, printer)
    }

    /// Up to the logits of ImageNet's classes.
    pub fn classifier(
        family: &'static Family,
        args: &BackboneArgs,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let opened = Opened::new(family, args)?;
        let graph = opened.with_classifier()?;
        let output = graph.output();
        opened.load(graph, output, printer)
    }
}

/// A backbone and its weights, before any of them is read.
struct Opened {
    family: &'static Family,
    width: f64,
    source: String,
    flavour: crate::config::Flavour,
    height_width: [u32; 2],
}

impl Opened {
    fn new(family: &'static Family, args: &BackboneArgs) -> Result<Self, Failure> {
        family.check_width(args.width)?;
        let source = match &args.weights {
            Some(source) => source.clone(),
            None => match family.default_weights(args.width) {
                Ok(id) => id.to_owned(),
                Err(Problem { message, .. }) => {
                    let help = "name a hub id or a file with `--weights`";
                    return Err(Failure::new(Exit::Config, message).help(help));
                }
            },
        };
        Ok(Self {
            family,
            width: args.width,
            flavour: weights::flavour_of(&source)?,
            source,
            height_width: [args.size.unwrap_or(family.default_size); 2],
        })
    }

    fn with_classifier(&self) -> Result<Graph, Failure> {
        let name = self.family.name;
        Graph::build_classifier(
            name,
            self.width,
            self.height_width,
            self.flavour,
            imagenet::CLASSES,
        )
        .map_err(refused)
    }

    /// The graph that has the layer, and the node whose output is the layer's.
    fn layer(&self, layer: Option<&str>) -> Result<(Graph, NodeId), Failure> {
        // What a head would receive: the graph of an experiment without its one dense layer.
        let model = json!({
            "backbone": self.family.name,
            "width": self.width,
            "head": [{ "dense": 1 }],
        });
        let model: ModelConfig =
            serde_json::from_value(model).map_err(|error| Failure::new(Exit::Other, error))?;
        let pooled = Graph::build(&model, self.height_width, self.flavour).map_err(refused)?;
        let features = pooled.nodes()[pooled.output()].inputs[0];
        let Some(name) = layer else {
            return Ok((pooled, features));
        };
        match pooled.layer_end(name) {
            Some(id) if id <= features => return Ok((pooled, id)),
            _ => {}
        }
        let whole = self.with_classifier()?;
        if let Some(id) = whole.layer_end(name) {
            return Ok((whole, id));
        }
        let pool = pooled.nodes()[features].name.as_str();
        let known = whole.backbone_names().chain([pool]);
        Err(unknown_layer(self.family.name, name, known))
    }

    fn load(self, graph: Graph, output: NodeId, printer: &Printer) -> Result<Pretrained, Failure> {
        let mut params = Params::initialise(&graph, 0, &Device::Cpu)?;
        let wanted: Vec<(String, Vec<usize>)> = nodes_between(&graph, &[0], &[output])
            .into_iter()
            .flat_map(|id| graph.params(id))
            .map(|spec| (spec.name, spec.dims))
            .collect();
        let mut shown = DownloadProgress::new(*printer, &self.source);
        let family = self.family;
        let loaded = weights::load_with_progress(
            &self.source,
            family.name,
            &wanted,
            &Device::Cpu,
            &mut |state| shown.at(state),
        );
        shown.clear();
        let loaded = loaded.map_err(|error| self.explained(&graph, error))?;
        network::check_flavour(&self.source, self.flavour, loaded.flavour)?;
        for (name, value) in loaded.tensors {
            params.set(&name, value)?;
        }
        let scaling = preprocess::named((family.normalize)(self.flavour));
        Ok(Pretrained {
            graph,
            params,
            output,
            preprocess: Preprocess {
                image_size: self.height_width,
                resize: None,
                interpolation: family.interpolation,
                mean: scaling.mean_std.mean,
                std: scaling.mean_std.std,
                order: scaling.order,
            },
            framing: Framing::Centre(family.crop),
            source: self.source,
        })
    }

    /// Weights often come without a classifier, and that is what to say then.
    fn explained(&self, graph: &Graph, error: WeightsError) -> Failure {
        let of_classifier = |name: &str| {
            let layer = name.split('/').next().unwrap_or_default();
            Graph::build_backbone(
                self.family.name,
                self.width,
                self.height_width,
                self.flavour,
            )
            .is_ok_and(|backbone| backbone.find(layer).is_none() && graph.find(layer).is_some())
        };
        match &error {
            WeightsError::Missing { first, .. } if of_classifier(first) => {
                let message = format!("the weights `{}` have no classifier", self.source);
                Failure::new(Exit::Other, message)
                    .help("give a file that holds all of the network with `--weights`")
            }
            WeightsError::Missing { .. }
            | WeightsError::Shape { .. }
            | WeightsError::Foreign { .. } => {
                let owner = network::owner(&error, &self.source, self.flavour);
                let other = owner.filter(|name| *name != self.family.name);
                Failure::new(Exit::Other, &error).help(match other {
                    Some(name) => format!("these look like weights of `{name}`"),
                    None => "check the backbone and `--width` against where the weights come from"
                        .into(),
                })
            }
            _ => error.into(),
        }
    }
}

/// A layer that is not there, and what may have been meant.
pub fn unknown_layer<'a>(
    model: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Failure {
    let message = format!("`{model}` has no layer `{name}`");
    let help = did_you_mean(name, known).unwrap_or_else(|| "`xp summary` lists the layers".into());
    Failure::new(Exit::Config, message).help(help)
}

fn refused(error: GraphError) -> Failure {
    let Problem { key, message, .. } = &error.0;
    if key == "data.image_size" {
        let help = "give a larger `--size`";
        return Failure::new(Exit::Config, message).help(help);
    }
    error.0.into()
}
