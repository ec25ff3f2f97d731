//! What there is to tell trackers of a run, from its directory.

use base64::Engine;
use serde_json::Value;

use super::card::Gathered;
use super::drawings;
use crate::fsx;
use crate::report::{self, Format, Kind};
use crate::run::{Condition, Manifest, RunDir};
use crate::tracking::{Ending, State, Story, parameters};

/// The files that trackers get beside the drawings, where they are there.
const FILES: [&str; 13] = [
    "config.toml",
    "resolved.toml",
    "manifest.json",
    "metrics.csv",
    "metrics.json",
    "model_card.md",
    "data_issues.csv",
    "split.csv",
    "test.json",
    "test_last.json",
    "predictions.csv",
    "probabilities.csv",
    "report.html",
];

/// A run as it begins.
pub fn story(run: &RunDir, manifest: &Manifest, experiment: Option<&str>) -> Story {
    let text = fsx::read_text(&run.resolved_toml()).unwrap_or_default();
    let mut table: toml::Table = toml::from_str(&text).unwrap_or_default();
    table.remove("tracking");
    let name = table.get("name").and_then(toml::Value::as_str);
    let name = name.map_or_else(|| run.name(), str::to_owned);
    let folder = run.folder_name();
    // Whatever process goes on with it, and wherever it is copied to.
    let id = blake3::hash(format!("{folder}\n{}", manifest.started).as_bytes());
    let config = serde_json::to_value(&table).unwrap_or(Value::Null);
    let mut tags = vec![("xp.version".to_owned(), manifest.xp_version.clone())];
    for (name, value) in [
        ("mlflow.source.git.commit", &manifest.git_commit),
        ("xp.host", &Some(manifest.process.host.clone())),
        ("xp.data", &Some(manifest.fingerprints.data.clone())),
        ("xp.config", &Some(manifest.fingerprints.config.clone())),
    ] {
        let value = value.clone().filter(|value| !value.is_empty());
        tags.extend(value.map(|value| (name.to_owned(), value)));
    }
    Story {
        id: id.to_hex()[..32].to_owned(),
        name: folder,
        experiment: experiment.map_or(name, str::to_owned),
        started: manifest.started.as_millisecond(),
        parameters: parameters(&config),
        tags,
        config: toml::to_string(&table).unwrap_or_default(),
    }
}

/// A run as it ended, or as it stands.
pub fn ending(run: &RunDir, gathered: &Gathered, manifest: &Manifest) -> Ending {
    let state = match Condition::of(manifest) {
        Condition::Done => State::Finished,
        Condition::Failed | Condition::Broken => State::Failed,
        Condition::Running => State::Running,
        Condition::Interrupted | Condition::Dead => State::Killed,
    };
    let told = gathered.told();
    let done = state == State::Finished;
    let test = gathered.test.as_ref().filter(|_| done);
    let mut texts: Vec<(String, String)> = Vec::new();
    texts.extend(test.map(|test| (String::from("test"), report::test_table(test))));
    texts.extend(done.then(|| (String::from("model_card"), report::card(&told))));
    let drawings = Kind::ALL.map(|kind| drawings::file_name(kind, Format::Png));
    let names = FILES.into_iter().map(str::to_owned).chain(drawings);
    let file = |name: String| {
        let bytes = fsx::read(&run.path().join(&name)).ok()?;
        Some((name, bytes))
    };
    Ending {
        state,
        time: manifest
            .ended
            .unwrap_or(manifest.heartbeat)
            .as_millisecond(),
        results: if done {
            report::results(&told)
        } else {
            Vec::new()
        },
        texts,
        files: names.filter_map(file).collect(),
    }
}

/// The header that MLflow's own clients send, from the same variables.
pub fn authorization() -> Option<String> {
    let variable = |name: &str| std::env::var(format!("MLFLOW_TRACKING_{name}")).ok();
    if let Some(user) = variable("USERNAME") {
        let password = variable("PASSWORD").unwrap_or_default();
        let pair = format!("{user}:{password}");
        let pair = base64::engine::general_purpose::STANDARD.encode(pair);
        return Some(format!("Basic {pair}"));
    }
    variable("TOKEN").map(|token| format!("Bearer {token}"))
}
