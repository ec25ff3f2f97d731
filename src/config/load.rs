//! Layers: defaults < `extends` < file < `XP_*` environment < `--set key=value`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;

use super::diagnose::{Diagnostic, Problem, Report, Severity};
use super::schema::{Experiment, LauncherConfig, SweepConfig, TrackingConfig};
use super::sources::Sources;
use super::{shape, validate};

/// Settings that change where or how fast a run computes, but not what.
const NOT_HASHED: [&str; 8] = [
    "runs_dir",
    "threads",
    "device",
    "deterministic",
    "cache",
    "memory_limit",
    "checkpoint",
    "tracking",
];

/// The tables of a sweep.
const SWEEP: &str = "sweep";
const LAUNCHER: &str = "launcher";

/// Whether results depend on a key, given by its path.
pub fn decides(key: &str) -> bool {
    let section = key.split(['.', '[']).next().unwrap_or_default();
    let is_label = key == "name" || (section == "phase" && key.ends_with("].name"));
    !is_label && !NOT_HASHED.contains(&section)
}

/// A configuration that passed every check that needs nothing but itself.
#[derive(Debug)]
pub struct Loaded {
    /// Every value in force, paths made absolute against the file that names them.
    pub experiment: Experiment,
    /// The file as written.
    pub text: String,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Diagnostic>,
    sources: Sources,
}

/// Loads and checks a configuration file, with the environment of this process.
pub fn load(path: &Path, sets: &[String]) -> Result<Loaded, Report> {
    load_with(path, sets, std::env::vars_os())
}

/// Loads and checks a configuration file with the given environment.
pub fn load_with(
    path: &Path,
    sets: &[String],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Report> {
    read(path, sets, environment, &[])?.check()
}

/// Loads and checks a configuration file with values of axes of a sweep, `key=value` each, which go
/// before everything else; with the environment of this process.
pub fn load_trial(path: &Path, sets: &[String], values: &[String]) -> Result<Loaded, Report> {
    read(path, sets, std::env::vars_os(), values)?.check()
}

/// The values of a trial as they stand, whether they fit or not; `None` where not even that much can
/// be read.
pub fn raw_trial(path: &Path, sets: &[String], values: &[String]) -> Option<serde_json::Value> {
    let mut layers = read(path, sets, std::env::vars_os(), values).ok()?;
    let merged = layers.sources.merge(&mut layers.problems).find_value("");
    serde_json::to_value(merged.ok()?).ok()
}

/// What a file says of a sweep.
#[derive(Debug)]
pub struct SweepFile {
    /// `[sweep]`, if there is one.
    pub sweep: Option<SweepConfig>,
    /// `[launcher]`.
    pub launcher: LauncherConfig,
    /// Locates problems of the two.
    pub located: Located,
}

/// The `[sweep]` and `[launcher]` of a configuration file, the rest of which may lack what axes will
/// set.
pub fn load_sweep(path: &Path, sets: &[String]) -> Result<SweepFile, Report> {
    let Layers {
        mut sources,
        mut problems,
        ..
    } = read(path, sets, std::env::vars_os(), &[])?;
    let figment = sources.merge(&mut problems);
    let merged = figment
        .find_value("")
        .unwrap_or_else(|_| Dict::new().into());
    let findings = shape::check(&merged, problems.is_empty());
    let of_sweep = |it: &&shape::Finding| it.touches(SWEEP) || it.touches(LAUNCHER);
    let found = findings.iter().filter(of_sweep);
    problems.extend(found.map(|finding| sources.locate_finding(finding)));
    if !problems.is_empty() {
        return Err(Report::new(problems));
    }
    let sweep = section(&merged, SWEEP, &sources)?;
    let launcher = section(&merged, LAUNCHER, &sources)?;
    Ok(SweepFile {
        sweep,
        launcher: launcher.unwrap_or_default(),
        located: Located(sources),
    })
}

/// A table of the file, whose shape has been checked.
fn section<T: DeserializeOwned>(
    merged: &Value,
    key: &str,
    sources: &Sources,
) -> Result<Option<T>, Report> {
    let Some(found) = merged.find_ref(key) else {
        return Ok(None);
    };
    found.clone().deserialize().map(Some).map_err(|error| {
        let problem = Problem::new(key, error.kind.to_string());
        Report::new(vec![sources.locate(&problem)])
    })
}

/// What locates the problems of a sweep.
#[derive(Debug)]
pub struct Located(Sources);

impl Located {
    /// Locates problems in the file that the sweep came from.
    pub fn report(&self, problems: &[Problem]) -> Report {
        Report::new(problems.iter().map(|p| self.0.locate(p)).collect())
    }
}

/// All that a configuration is made of, before it is put together.
struct Layers {
    sources: Sources,
    text: String,
    problems: Vec<Diagnostic>,
    syntax_is_good: bool,
}

fn read(
    path: &Path,
    sets: &[String],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    values: &[String],
) -> Result<Layers, Report> {
    let mut sources = Sources::default();
    let mut problems = Vec::new();
    sources.read_files(path, &mut problems);
    let Some(text) = sources.text() else {
        return Err(Report::new(problems));
    };
    let syntax_is_good = problems.is_empty();
    sources.read_environment(environment, &mut problems);
    sources.read_sets(sets, &mut problems);
    sources.read_axes(values, &mut problems);
    Ok(Layers {
        sources,
        text,
        problems,
        syntax_is_good,
    })
}

impl Layers {
    fn check(self) -> Result<Loaded, Report> {
        let Self {
            mut sources,
            text,
            mut problems,
            syntax_is_good,
        } = self;
        let figment = sources.merge(&mut problems);

        let merged = match figment.find_value("") {
            Ok(merged) => merged,
            Err(error) => {
                problems.push(Diagnostic::new(error.to_string()));
                return Err(Report::new(problems));
            }
        };
        let findings = shape::check(&merged, syntax_is_good);
        let broken_lines: Vec<_> = problems.iter().filter_map(line_of).collect();
        let located = findings
            .iter()
            .map(|finding| sources.locate_finding(finding));
        // What stands on a line that is no TOML was not read as it was meant.
        problems.extend(
            located.filter(|p| line_of(p).is_none_or(|line| !broken_lines.contains(&line))),
        );

        // Stand-ins for what is missing or wrong let the other values be judged, too.
        let repaired = shape::repair(merged.clone(), &findings);
        let mut warnings = Vec::new();
        let repaired = repaired.deserialize::<Experiment>().ok();
        let level = |key: &str| merged.find_ref(key).and(sources.level(key));
        if let Some(mut experiment) = repaired.filter(|_| syntax_is_good) {
            validate::overrule(&mut experiment, level);
            for finding in validate::check(&experiment, level) {
                let independent = findings.iter().all(|f| !f.touches(&finding.problem.key));
                if independent {
                    let located = Diagnostic {
                        severity: finding.severity,
                        ..sources.locate(&finding.problem)
                    };
                    match finding.severity {
                        Severity::Error => problems.push(located),
                        Severity::Warning => warnings.push(located),
                    }
                }
            }
        }
        if !problems.is_empty() {
            return Err(Report::new(problems));
        }
        match figment.extract::<Experiment>() {
            Ok(mut experiment) => {
                validate::overrule(&mut experiment, level);
                Ok(Loaded {
                    // What lower layers say of keys without effect must not tell two experiments apart.
                    experiment: toml::from_str(&resolved(&experiment)).unwrap_or(experiment),
                    text,
                    warnings,
                    sources,
                })
            }
            Err(error) => {
                let key = error.path.join(".");
                let problem = Problem::new(key, error.kind.to_string());
                Err(Report::new(vec![sources.locate(&problem)]))
            }
        }
    }
}

fn line_of(problem: &Diagnostic) -> Option<(String, usize)> {
    let place = problem.place.as_ref()?;
    place.position.map(|[line, _]| (place.origin.clone(), line))
}

impl Loaded {
    /// Locates problems that only later stages can see (an unknown layer, a cutoff that freezes
    /// nothing) in the sources that this configuration came from.
    pub fn report(&self, problems: &[Problem]) -> Report {
        Report::new(problems.iter().map(|p| self.sources.locate(p)).collect())
    }

    /// `resolved.toml`: every value in force, enough to run it again.
    pub fn resolved(&self) -> String {
        resolved(&self.experiment)
    }

    /// The same without what concerns this place alone, for files that others get.
    pub fn without_tracking(&self) -> String {
        resolved(&Experiment {
            tracking: TrackingConfig::default(),
            ..self.experiment.clone()
        })
    }

    /// Hash of what is computed, 64 hex digits; where results go and what computes them
    /// (`runs_dir`, `threads`, `device`, `deterministic`, `cache`, `memory_limit`, `checkpoint`, `tracking`,
    /// `data.download_dir`)
    /// are left out.
    pub fn hash(&self) -> String {
        let mut json = serde_json::to_value(&self.experiment).unwrap_or_default();
        if let Some(data) = json["data"].as_object_mut() {
            data.remove("download_dir");
        }
        let mut canonical = String::new();
        write_canonical(&json, &mut canonical, &NOT_HASHED);
        blake3::hash(canonical.as_bytes()).to_hex().to_string()
    }
}

/// Every value in force; keys without effect are left out, as they would be refused.
fn resolved(experiment: &Experiment) -> String {
    let text = toml::Table::try_from(experiment).and_then(|mut table| {
        for idle in validate::idle(experiment) {
            remove(&mut table, idle.key);
        }
        toml::to_string(&table)
    });
    // Only a value that TOML cannot hold could fail, and all of them came from TOML.
    text.unwrap_or_else(|error| format!("# {error}\n"))
}

fn remove(table: &mut toml::Table, key: &str) {
    match key.split_once('.') {
        Some((outer, inner)) => {
            if let Some(toml::Value::Table(table)) = table.get_mut(outer) {
                remove(table, inner);
            }
        }
        None => drop(table.remove(key)),
    }
}

/// JSON with sorted keys, so that the order of fields in the source does not count.
fn write_canonical(value: &serde_json::Value, text: &mut String, without: &[&str]) {
    match value {
        serde_json::Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            for (key, value) in sorted {
                if !without.contains(&key.as_str()) {
                    text.push_str(&format!("{key:?}:"));
                    write_canonical(value, text, &[]);
                    text.push(',');
                }
            }
            text.push('}');
        }
        serde_json::Value::Array(values) => {
            for value in values {
                write_canonical(value, text, &[]);
                text.push(',');
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}
