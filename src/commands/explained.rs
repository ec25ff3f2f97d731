//! What `xp explain` says of a picture.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::engine::explain::Evidence;

/// A probability in percent.
pub(super) fn percent(probability: f32) -> String {
    format!("{:.1} %", 100.0 * probability)
}

/// What came of a picture.
pub(super) struct Explained {
    pub(super) path: PathBuf,
    /// The most probable class.
    pub(super) class: String,
    pub(super) probability: f32,
    /// What the folder says.
    pub(super) truth: Option<String>,
    /// Whether the class shown was asked for.
    pub(super) chosen: bool,
    pub(super) shown: Vec<Shown>,
    /// The file that shows it.
    pub(super) out: PathBuf,
}

/// A class whose evidence is shown.
pub(super) struct Shown {
    pub(super) class: String,
    pub(super) probability: f32,
    pub(super) evidence: Evidence,
}

impl Shown {
    /// Why there is nothing to see, if that is so.
    pub(super) fn problem(&self, layer: &str) -> Option<String> {
        match self.evidence {
            Evidence::Found => None,
            Evidence::Nothing => Some(format!("nothing speaks for {}", self.class)),
            Evidence::Unconnected => Some(format!("no gradient reaches {layer}")),
        }
    }
}

impl Explained {
    /// As a line of text.
    pub(super) fn line(&self, layer: &str) -> String {
        let mut line = format!(
            "{}: {} {}",
            self.path.display(),
            self.class,
            percent(self.probability)
        );
        if let Some(truth) = self.truth.as_ref().filter(|truth| **truth != self.class) {
            line += &format!(", is {truth}");
        }
        if let (true, Some(shown)) = (self.chosen, self.shown.first()) {
            line += &format!(", shown {} {}", shown.class, percent(shown.probability));
        }
        line += &format!(": {}", self.out.display());
        let problems = self.shown.iter().filter_map(|shown| shown.problem(layer));
        let problems: BTreeSet<String> = problems.collect();
        match problems.is_empty() {
            true => line,
            false => {
                let problems: Vec<String> = problems.into_iter().collect();
                format!("{line} ({})", problems.join("; "))
            }
        }
    }

    /// As JSON.
    pub(super) fn json(&self, layer: &str) -> Value {
        let shown = self.shown.iter().map(|shown| {
            json!({
                "class": shown.class,
                "probability": shown.probability,
                "evidence": match shown.evidence {
                    Evidence::Found => "found",
                    Evidence::Nothing => "nothing",
                    Evidence::Unconnected => "unconnected",
                },
            })
        });
        json!({
            "path": self.path.display().to_string(),
            "class": self.class,
            "probability": self.probability,
            "true_class": self.truth,
            "layer": layer,
            "shown": shown.collect::<Vec<_>>(),
            "out": self.out.display().to_string(),
        })
    }
}
