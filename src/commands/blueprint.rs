//! From a configuration to its network and phases: everything that can be known, and everything
//! that can be wrong, before data or weights are touched.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;

use super::{Exit, Failure, Printer, device};
use crate::config::{
    self, Activation, DenseLayer, Flavour, HeadLayer, Loaded, ModelConfig, Pooling, Problem,
};
use crate::data::preprocess::{self, Preprocess};
use crate::graph::Graph;
use crate::train::phase::{PhasePlan, plan_phases};
use crate::weights;
use crate::zoo::registry::{self, Family};

/// A configuration resolved against the architectures that there are.
#[derive(Debug)]
pub struct Blueprint {
    /// The configuration.
    pub loaded: Loaded,
    /// Where tensors lie.
    pub device: Device,
    /// Family of the backbone.
    pub family: &'static Family,
    /// Where pretrained weights come from; `None` for random ones.
    pub weights: Option<String>,
    /// Convention of padding and batch norm.
    pub flavour: Flavour,
    /// Backbone and head.
    pub graph: Arc<Graph>,
    /// The phases.
    pub phases: Vec<PhasePlan>,
    /// From picture to tensor.
    pub preprocess: Preprocess,
}

impl Blueprint {
    /// Loads a configuration and builds what it describes.
    pub fn load(path: &Path, sets: &[String], printer: &Printer) -> Result<Self, Failure> {
        let loaded = config::load(path, sets)?;
        printer.config_warnings(&loaded.warnings);
        Self::from_loaded(loaded)
    }

    /// Builds what a configuration describes; fails with all problems that do not follow from
    /// one another.
    pub fn from_loaded(loaded: Loaded) -> Result<Self, Failure> {
        let experiment = &loaded.experiment;
        let model = &experiment.model;
        let mut problems = Problems::default();

        let device = problems.keep(device::of_tensors(&experiment.device));
        let family = problems.keep(registry::find(&model.backbone));
        let weights = problems.keep(weights_source(model, family));
        let flavour = weights.as_ref().and_then(|weights| {
            let found = flavour(weights.as_deref(), model.flavour);
            problems.keep(found)
        });
        let default_size = [family.map_or(1, |family| family.default_size); 2];
        let height_width = experiment
            .data
            .image_size
            .map_or(default_size, |size| size.height_width());
        let layers = flavour.unwrap_or(Flavour::Torch);
        let graph = family.and_then(|_| problems.graph(model, height_width, layers));
        let pretrained = weights.as_ref().is_some_and(Option::is_some);
        let phases = graph.as_ref().and_then(|graph| {
            let plans = plan_phases(graph, &experiment.phase, pretrained);
            plans.map_err(|all| problems.0.extend(all)).ok()
        });
        let preprocess = family.and_then(|family| {
            let scaling = preprocess::named((family.normalize)(layers));
            let prepared = Preprocess::from_config(&experiment.data, default_size, scaling);
            problems.keep(prepared.map_err(|error| Problem {
                key: "data.resize".into(),
                message: error.to_string(),
                help: Some(error.help().to_string()),
            }))
        });
        if !problems.0.is_empty() {
            return Err(loaded.report(&problems.0).into());
        }
        let (Some(device), Some(family), Some(weights), Some(flavour)) =
            (device, family, weights, flavour)
        else {
            return Err(unresolved());
        };
        let (Some(graph), Some(phases), Some(preprocess)) = (graph, phases, preprocess) else {
            return Err(unresolved());
        };
        Ok(Self {
            device,
            family,
            weights,
            flavour,
            graph: Arc::new(graph),
            phases,
            preprocess,
            loaded,
        })
    }

    /// A failure about a key of this configuration.
    pub fn problem(&self, problem: Problem) -> Failure {
        self.loaded.report(&[problem]).into()
    }
}

/// Something is missing although nothing was wrong: a mistake in this file.
fn unresolved() -> Failure {
    let message = "the configuration could not be resolved, and no problem was found";
    Failure::new(Exit::Other, message).help("please report this with the configuration")
}

/// Problems of one configuration, gathered.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.0.push(problem)).ok()
    }

    /// Builds the network. What is impossible about it is left out, so that the phases can be
    /// judged, too: layers that the whole backbone lacks, a part of it lacks as well.
    fn graph(
        &mut self,
        model: &ModelConfig,
        height_width: [u32; 2],
        flavour: Flavour,
    ) -> Option<Graph> {
        let mut model = model.clone();
        loop {
            let problem = match Graph::build(&model, height_width, flavour) {
                Ok(graph) => return Some(graph),
                Err(error) => error.0,
            };
            let plain = ModelConfig {
                // What the head makes of a wrong backbone says nothing.
                head: vec![HeadLayer::Dense(DenseLayer {
                    dense: 1,
                    activation: Activation::Linear,
                })],
                pooling: Pooling::Auto,
                cut: model.cut.clone().filter(|_| problem.key != "model.cut"),
                width: match problem.key.as_str() {
                    "model.width" => 1.0,
                    _ => model.width,
                },
                ..model.clone()
            };
            self.0.push(problem);
            if plain == model {
                return None;
            }
            model = plain;
        }
    }
}

/// The weights that a model begins with, as its configuration or its backbone has it; `none` stands for
/// random ones.
pub(super) fn weights_in_force(model: &ModelConfig) -> Option<String> {
    let family = registry::find(&model.backbone).ok();
    let source = weights_source(model, family).ok()?;
    Some(source.unwrap_or_else(|| "none".into()))
}

/// `model.weights`, or the family's default; `None` stands for random weights.
fn weights_source(model: &ModelConfig, family: Option<&Family>) -> Result<Option<String>, Problem> {
    match (model.weights.as_deref(), family) {
        (Some("none"), _) => Ok(None),
        (Some(source), _) => Ok(Some(source.to_owned())),
        // Without a family or with an impossible width, that is the problem.
        (None, None) => Ok(None),
        (None, Some(family)) if family.check_width(model.width).is_err() => Ok(None),
        (None, Some(family)) => family
            .default_weights(model.width)
            .map(|id| Some(id.into())),
    }
}

fn flavour(weights: Option<&str>, wanted: Option<Flavour>) -> Result<Flavour, Problem> {
    let Some(source) = weights else {
        return Ok(wanted.unwrap_or(Flavour::Torch));
    };
    let found = weights::flavour_of(source).map_err(|error| Problem {
        key: "model.weights".into(),
        message: error.to_string(),
        help: error.help(),
    })?;
    match wanted {
        Some(wanted) if wanted != found => {
            let name = flavour_name(found);
            let message = format!("the weights `{source}` are of the flavour `{name}`");
            Err(Problem::new("model.flavour", message)
                .help("leave `flavour` out: it follows from the weights"))
        }
        _ => Ok(found),
    }
}

fn flavour_name(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Torch => "torch",
        Flavour::Tf => "tf",
    }
}

/// Sizes the thread pool; 0 takes all cores.
pub fn set_threads(threads: usize) -> Result<usize, Failure> {
    if threads > 0 {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|error| Failure::new(Exit::Other, format!("cannot start threads: {error}")))?;
    }
    Ok(rayon::current_num_threads())
}
