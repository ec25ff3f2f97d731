//! A trial: one experiment of a sweep.

use std::path::PathBuf;

use indexmap::{IndexMap, IndexSet};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::axes::Setting;
use crate::config::{Freeze, Loaded};

/// Hex digits of a trial's id: few enough to type, and two trials of a sweep never share them.
const ID_DIGITS: usize = 10;

/// One experiment of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Begin of the hash of its configuration: another configuration is another trial.
    pub id: String,
    /// Name of the experiment.
    pub name: String,
    /// The file that it came from.
    pub config: PathBuf,
    /// What the axes set, by key.
    pub settings: IndexMap<String, Value>,
    /// Trials of which this is the same compute the same features of frozen layers; `None` where
    /// nothing is kept for others.
    pub features: Option<String>,
    /// Its whole configuration.
    pub resolved: String,
}

impl Trial {
    /// The trial of a configuration that the axes set so.
    pub fn new(config: PathBuf, loaded: &Loaded, settings: &[Setting]) -> Self {
        let settings = settings.iter().map(|Setting { key, value }| {
            let value = serde_json::to_value(value).unwrap_or_default();
            (key.clone(), value)
        });
        Self {
            id: loaded.hash().chars().take(ID_DIGITS).collect(),
            name: loaded.experiment.name.clone(),
            config,
            settings: settings.collect(),
            features: features(loaded),
            resolved: loaded.resolved(),
        }
    }

    /// `train.batch_size=16 seed=43`, or the name of an experiment without axes.
    pub fn shown(&self) -> String {
        if self.settings.is_empty() {
            return self.name.clone();
        }
        let settings = self.settings.iter();
        let settings = settings.map(|(key, value)| format!("{key}={}", show(value)));
        settings.collect::<Vec<_>>().join(" ")
    }
}

/// The keys that the axes of some trials set, in the order in which they come.
pub fn keys(trials: &[Trial]) -> IndexSet<&String> {
    let keys = trials.iter().flat_map(|trial| trial.settings.keys());
    keys.collect()
}

/// A value in a line: text without its quotes, all else as in TOML.
pub fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(_) | Value::Object(_) => match toml::Value::try_from(value) {
            Ok(value) => value.to_string(),
            Err(_) => value.to_string(),
        },
        other => other.to_string(),
    }
}

/// What the features of frozen layers follow from, hashed. Phases that freeze different layers need
/// different features, of which the first phase's are most.
fn features(loaded: &Loaded) -> Option<String> {
    let experiment = &loaded.experiment;
    let phase = experiment.phase.first()?;
    let augment = experiment.data.augment;
    let drawn = augment.is_random() && augment.views.is_none() && phase.augment;
    let kept = experiment.cache.features && experiment.cache.disk && !drawn;
    let freezing = phase.freezing_keys();
    if !kept || freezing.is_empty() || phase.freeze == Some(Freeze::One("none".into())) {
        return None;
    }
    let mut model = serde_json::to_value(&experiment.model).unwrap_or_default();
    if let Some(model) = model.as_object_mut() {
        model.remove("head");
    }
    let data = serde_json::to_value(&experiment.data).unwrap_or_default();
    let phase = serde_json::to_value(phase).unwrap_or_default();
    let frozen: Vec<&Value> = freezing.iter().map(|key| &phase[*key]).collect();
    let text = serde_json::to_string(&(data, model, frozen)).unwrap_or_default();
    Some(blake3::hash(text.as_bytes()).to_hex().to_string())
}
