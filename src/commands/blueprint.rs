//! From a configuration to its network and phases: everything that can be known, and everything
//! that can be wrong, before data or weights are touched.

use std::path::Path;
use std::sync::Arc;

use super::{Exit, Failure, Printer};
use crate::config::{self, Flavour, Loaded, Problem};
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

    /// Builds what a configuration describes.
    pub fn from_loaded(loaded: Loaded) -> Result<Self, Failure> {
        let experiment = &loaded.experiment;
        let model = &experiment.model;
        let fail = |problem: Problem| Failure::from(loaded.report(&[problem]));

        let family = registry::find(&model.backbone).map_err(fail)?;
        family.check_width(model.width).map_err(fail)?;
        let weights = match model.weights.as_deref() {
            Some("none") => None,
            Some(source) => Some(source.to_owned()),
            None => Some(
                family
                    .default_weights(model.width)
                    .map_err(fail)?
                    .to_owned(),
            ),
        };
        let flavour = match (&weights, model.flavour) {
            (None, flavour) => flavour.unwrap_or(Flavour::Torch),
            (Some(source), None) => weights_flavour(source, &fail)?,
            (Some(source), Some(wanted)) => match weights_flavour(source, &fail)? {
                found if found == wanted => found,
                found => {
                    return Err(fail(Problem {
                        key: "model.flavour".into(),
                        message: format!("the weights `{source}` are of the {found:?} flavour"),
                        help: Some("leave `flavour` out: it follows from the weights".into()),
                    }));
                }
            },
        };
        let default_size = [family.default_size; 2];
        let height_width = experiment
            .data
            .image_size
            .map_or(default_size, |size| size.height_width());
        let graph = Graph::build(model, height_width, flavour).map_err(|error| fail(error.0))?;
        let phases = plan_phases(&graph, &experiment.phase, weights.is_some())
            .map_err(|problems| Failure::from(loaded.report(&problems)))?;
        let scaling = preprocess::named(family.normalize(flavour));
        let preprocess = Preprocess::from_config(&experiment.data, default_size, scaling)?;
        Ok(Self {
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

fn weights_flavour(source: &str, fail: &impl Fn(Problem) -> Failure) -> Result<Flavour, Failure> {
    weights::flavour_of(source).map_err(|error| {
        fail(Problem {
            key: "model.weights".into(),
            message: error.to_string(),
            help: error.help(),
        })
    })
}

/// The device of a configuration. This build computes on the CPU.
pub fn device(blueprint: &Blueprint) -> Result<candle_core::Device, Failure> {
    match blueprint.loaded.experiment.device.as_str() {
        "auto" | "cpu" => Ok(candle_core::Device::Cpu),
        other => Err(blueprint.problem(Problem {
            key: "device".into(),
            message: format!("this build of xp cannot compute on `{other}`"),
            help: Some("use `device = \"cpu\"` or `\"auto\"`".into()),
        })),
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
