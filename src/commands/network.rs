//! Parameters of a blueprint's network: initialised, loaded, saved.

use candle_core::Device;

use super::blueprint::Blueprint;
use super::progress::DownloadProgress;
use super::state;
use super::{Exit, Failure, Printer};
use crate::config::Flavour;
use crate::engine::params::Params;
use crate::graph::{Graph, Part};
use crate::run::ModelFile;
use crate::weights::{self, WeightsError};
use crate::zoo::registry::FAMILIES;

/// A network before training, and where its weights came from.
#[derive(Debug)]
pub struct Initial {
    /// The parameters.
    pub params: Params,
    /// BLAKE3 of the weights' file, or `none`.
    pub fingerprint: String,
    /// What to tell the user of the weights, where there are any.
    pub note: Option<String>,
}

/// Random head, and backbone weights where the configuration names some. Shows a download.
pub fn initial(
    blueprint: &Blueprint,
    device: &Device,
    printer: &Printer,
) -> Result<Initial, Failure> {
    let experiment = &blueprint.loaded.experiment;
    let graph = &blueprint.graph;
    let seed = experiment.seed;
    let Some(source) = &blueprint.weights else {
        return Ok(Initial {
            params: Params::initialise(graph, seed, device)?,
            fingerprint: "none".into(),
            note: None,
        });
    };
    let wanted: Vec<(String, Vec<usize>)> = (0..graph.nodes().len())
        .filter(|&id| graph.nodes()[id].part == Part::Backbone)
        .flat_map(|id| graph.params(id))
        .map(|spec| (spec.name, spec.dims))
        .collect();
    let mut shown = DownloadProgress::new(*printer, source);
    let family = blueprint.family.name;
    let loaded = weights::load_with_progress(source, family, &wanted, device, &mut |state| {
        shown.at(state);
    });
    shown.clear();
    let loaded = loaded.map_err(|error| misfit(error, source, blueprint))?;
    check_flavour(source, blueprint.flavour, loaded.flavour)?;
    let note = format!("weights: {source} ({} tensors)", loaded.tensors.len());
    Ok(Initial {
        params: Params::initialise_around(graph, loaded.tensors, seed, device)?,
        fingerprint: loaded.fingerprint,
        note: Some(note),
    })
}

/// What was taken for the flavour of weights before they were here must be theirs.
pub(super) fn check_flavour(source: &str, taken: Flavour, found: Flavour) -> Result<(), Failure> {
    if taken == found {
        return Ok(());
    }
    let message = format!("the weights `{source}` are not of the flavour that they seemed to be");
    Err(Failure::new(Exit::Config, message)
        .help("run it again: now that they are here, their file tells"))
}

/// The family whose weights these are, where they do not fit the one that was asked for.
pub(super) fn owner(error: &WeightsError, source: &str, flavour: Flavour) -> Option<&'static str> {
    let unfit = matches!(
        error,
        WeightsError::Foreign { .. } | WeightsError::Missing { .. } | WeightsError::Shape { .. }
    );
    let candidates = FAMILIES.iter().filter_map(|family| {
        let size = [family.default_size; 2];
        let graph = Graph::build_backbone(family.name, 1.0, size, flavour).ok()?;
        let params = (0..graph.nodes().len()).flat_map(|id| graph.params(id));
        let wanted = params.map(|spec| (spec.name, spec.dims)).collect();
        Some((family.name, wanted))
    });
    unfit.then(|| weights::whose(source, candidates)).flatten()
}

/// Weights that do not fit may be those of another backbone.
fn misfit(error: WeightsError, source: &str, blueprint: &Blueprint) -> Failure {
    let owner = owner(&error, source, blueprint.flavour);
    let failure = Failure::from(error);
    match owner {
        Some(family) if family == blueprint.family.name => {
            failure.help("these look like weights of width 1: leave `model.width` out")
        }
        Some(family) => failure.help(format!(
            "these look like weights of `{family}`: set `model.backbone = \"{family}\"`"
        )),
        None => failure,
    }
}

/// The self-contained model of these parameters.
pub fn model_file(
    blueprint: &Blueprint,
    params: &Params,
    classes: &[String],
) -> Result<ModelFile, Failure> {
    let preprocess = serde_json::to_string(&blueprint.preprocess)
        .map_err(|error| Failure::new(Exit::Other, error))?;
    Ok(ModelFile {
        tensors: state::tensors(params),
        classes: classes.to_vec(),
        preprocess_json: preprocess,
        config_toml: blueprint.loaded.without_tracking(),
        model: blueprint.family.name.into(),
        flavour: format!("{:?}", blueprint.flavour).to_lowercase(),
        version: env!("CARGO_PKG_VERSION").into(),
    })
}
