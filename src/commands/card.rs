//! `metrics.json` and `model_card.md`, from what a run directory holds.

use serde_json::Value;

use super::blueprint::weights_in_force;
use super::{Failure, summary};
use crate::config::Experiment;
use crate::fsx;
use crate::records::{DataIssueRow, MetricsRow, SplitRow, TestReport};
use crate::report::{self, Told};
use crate::run::{ModelFile, RunDir};
use crate::zoo::registry;

/// What a run directory holds; what is not there, or cannot be read, is left out.
#[derive(Debug)]
pub struct Gathered {
    name: String,
    run: String,
    /// The resolved configuration.
    pub config: Value,
    manifest: Value,
    /// Rows of `metrics.csv`.
    pub rows: Vec<MetricsRow>,
    best: Option<usize>,
    /// `test.json`.
    pub test: Option<TestReport>,
    calibration: Option<Value>,
    split: Vec<SplitRow>,
    issues: Vec<DataIssueRow>,
    parameters: Option<usize>,
    trainable: Vec<(String, usize)>,
    preprocess: Option<Value>,
    licence: Option<&'static str>,
}

impl Gathered {
    /// Reads a run directory.
    pub fn of(run: &RunDir) -> Self {
        let text = fsx::read_text(&run.resolved_toml()).unwrap_or_default();
        let table: toml::Table = toml::from_str(&text).unwrap_or_default();
        let experiment: Option<Experiment> = toml::from_str(&text).ok();
        let name = experiment.as_ref().map(|it| it.name.clone());
        let weights = experiment
            .as_ref()
            .and_then(|it| weights_in_force(&it.model));
        let summary = experiment.and_then(|it| summary::of_experiment(&it).ok());
        let manifest = run.manifest().ok();
        let rows = run.metrics().map_or_else(|_| Vec::new(), |log| log.rows);
        let best = manifest.as_ref().and_then(|manifest| manifest.best);
        let test = fsx::read(&run.test_json()).ok();
        let test: Option<Value> = test.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let calibration = test.and_then(|test| test.get("calibration").cloned());
        let preprocess = ModelFile::preprocess_json(&run.model_safetensors());
        let mut config: Value = serde_json::to_value(table).unwrap_or_default();
        if let Some(weights) = weights {
            config["model"]["weights"] = weights.into();
        }
        let trainable = summary.iter().flat_map(|it| &it.phases);
        Self {
            name: name.unwrap_or(run.name()),
            run: run.folder_name(),
            licence: config["model"]["weights"].as_str().and_then(licence),
            config,
            manifest: serde_json::to_value(manifest).unwrap_or_default(),
            best: best.and_then(|best| best.find(&rows)),
            rows,
            test: run.test().ok().flatten(),
            calibration: calibration.filter(|it| !it.is_null()),
            split: run.split().unwrap_or_default(),
            issues: run.data_issues().unwrap_or_default(),
            trainable: trainable
                .map(|phase| (phase.name.clone(), phase.trainable_parameters))
                .collect(),
            parameters: summary.map(|it| it.parameters),
            preprocess: preprocess.and_then(|json| serde_json::from_str(&json).ok()),
        }
    }

    /// The same, to be reported.
    pub fn told(&self) -> Told<'_> {
        Told {
            name: &self.name,
            run: &self.run,
            config: &self.config,
            manifest: &self.manifest,
            rows: &self.rows,
            best: self.best,
            test: self.test.as_ref(),
            calibration: self.calibration.as_ref(),
            split: &self.split,
            issues: &self.issues,
            parameters: self.parameters,
            trainable: &self.trainable,
            preprocess: self.preprocess.as_ref(),
            licence: self.licence,
        }
    }
}

/// The licence of weights that the registry knows.
fn licence(weights: &str) -> Option<&'static str> {
    let mut known = registry::FAMILIES
        .iter()
        .flat_map(|family| family.default_weights);
    let found = known.find(|known| known.id == weights);
    found.map(|known| known.licence)
}

/// Writes `metrics.json` and `model_card.md`.
pub fn write(run: &RunDir) -> Result<(), Failure> {
    let gathered = Gathered::of(run);
    let told = gathered.told();
    Ok(run.write_card(&report::figures(&told), &report::card(&told))?)
}
