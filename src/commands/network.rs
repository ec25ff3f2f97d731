//! Parameters of a blueprint's network: initialised, loaded, saved.

use candle_core::Device;

use super::blueprint::Blueprint;
use super::progress::DownloadProgress;
use super::recorder;
use super::{Exit, Failure, Printer};
use crate::engine::params::Params;
use crate::graph::Part;
use crate::run::ModelFile;
use crate::weights;

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
    let mut params = Params::initialise(graph, experiment.seed, device)?;
    let Some(source) = &blueprint.weights else {
        return Ok(Initial {
            params,
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
    let loaded = loaded?;
    let note = format!("weights: {source} ({} tensors)", loaded.tensors.len());
    for (name, value) in loaded.tensors {
        params.set(&name, value)?;
    }
    Ok(Initial {
        params,
        fingerprint: loaded.fingerprint,
        note: Some(note),
    })
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
