//! Parameters of a blueprint's network: initialised, loaded, saved.

use candle_core::Device;

use super::blueprint::Blueprint;
use super::recorder;
use super::{Exit, Failure, Printer};
use crate::engine::params::Params;
use crate::graph::Part;
use crate::run::ModelFile;
use crate::weights;

/// Random head, and backbone weights where the configuration names some. Returns what to record
/// of where they came from.
pub fn initial(
    blueprint: &Blueprint,
    device: &Device,
    printer: &Printer,
) -> Result<(Params, String), Failure> {
    let experiment = &blueprint.loaded.experiment;
    let graph = &blueprint.graph;
    let mut params = Params::initialise(graph, experiment.seed, device)?;
    let Some(source) = &blueprint.weights else {
        return Ok((params, "none".into()));
    };
    let wanted: Vec<(String, Vec<usize>)> = (0..graph.nodes().len())
        .filter(|&id| graph.nodes()[id].part == Part::Backbone)
        .flat_map(|id| graph.params(id))
        .map(|spec| (spec.name, spec.dims))
        .collect();
    let loaded = weights::load(source, blueprint.family.name, &wanted, device)?;
    printer.note(format!(
        "weights: {source} ({} tensors)",
        loaded.tensors.len()
    ));
    for (name, value) in loaded.tensors {
        params.set(&name, value)?;
    }
    Ok((params, loaded.fingerprint))
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
        tensors: recorder::tensors(params),
        classes: classes.to_vec(),
        preprocess_json: preprocess,
        config_toml: blueprint.loaded.resolved(),
        model: blueprint.family.name.into(),
        flavour: format!("{:?}", blueprint.flavour).to_lowercase(),
        version: env!("CARGO_PKG_VERSION").into(),
    })
}
