//! Layers: defaults < `extends` < file < `XP_*` environment < `--set key=value`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::value::Value;

use super::diagnose::{Diagnostic, Problem, Report, Severity};
use super::layer::{ENVIRONMENT_PREFIX, Entry, Layer, Lookup, Node, Origin, Provided, Tree};
use super::path::{self, Segment};
use super::schema::Experiment;
use super::{shape, validate};

/// Key of a file that names the file below it.
const EXTENDS: &str = "extends";
/// Longer chains of `extends` are refused.
const LONGEST_CHAIN: usize = 32;
/// Settings that change where or how fast a run computes, but not what.
const NOT_HASHED: [&str; 3] = ["runs_dir", "threads", "device"];

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
    let mut sources = Sources::default();
    let mut problems = Vec::new();
    sources.read_files(path, &mut problems);
    let text = sources.layers.last().map(|top| top.text.clone());
    let Some(text) = text else {
        return Err(Report::new(problems));
    };
    let syntax_is_good = problems.is_empty();
    sources.read_environment(environment, &mut problems);
    sources.read_sets(sets, &mut problems);
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
    problems
        .extend(located.filter(|p| line_of(p).is_none_or(|line| !broken_lines.contains(&line))));

    // With parts missing or left out, the remaining values can still be judged.
    let pruned = shape::prune(merged.clone(), &findings);
    let mut warnings = Vec::new();
    if syntax_is_good && let Some(Ok(experiment)) = pruned.map(|p| p.deserialize::<Experiment>()) {
        let given = |key: &str| merged.find_ref(key).is_some();
        for finding in validate::check(&experiment, given) {
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
        Ok(experiment) => Ok(Loaded {
            experiment,
            text,
            warnings,
            sources,
        }),
        Err(error) => {
            let key = error.path.join(".");
            let problem = Problem::new(key, error.kind.to_string());
            Err(Report::new(vec![sources.locate(&problem)]))
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
        // Only a value that TOML cannot hold could fail, and all of them came from TOML.
        toml::to_string(&self.experiment).unwrap_or_else(|error| format!("# {error}\n"))
    }

    /// Hash of what is computed, 64 hex digits; where results go and what computes them
    /// (`runs_dir`, `threads`, `device`) are left out.
    pub fn hash(&self) -> String {
        let json = serde_json::to_value(&self.experiment).unwrap_or_default();
        let mut canonical = String::new();
        write_canonical(&json, &mut canonical, &NOT_HASHED);
        blake3::hash(canonical.as_bytes()).to_hex().to_string()
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

/// Everything a configuration was read from, lowest first.
#[derive(Debug, Default)]
struct Sources {
    layers: Vec<Layer>,
}

impl Sources {
    /// Reads the file and what it extends. Leaves no layer if the file itself cannot be read.
    fn read_files(&mut self, path: &Path, problems: &mut Vec<Diagnostic>) {
        let mut next = Some(path.to_path_buf());
        // Highest first, with the bytes of the `extends` that leads on.
        let mut chain: Vec<(Layer, Option<Range<usize>>)> = Vec::new();
        let mut seen: Vec<PathBuf> = Vec::new();
        while let Some(path) = next.take() {
            let refuse =
                |chain: &[(Layer, Option<Range<usize>>)], message: String| match chain.last() {
                    Some((layer, Some(span))) => layer.problem(span.clone(), message),
                    _ => Diagnostic::new(message),
                };
            let shown = path.display();
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            if seen.contains(&real) {
                let message = format!("`{shown}` extends itself");
                problems.push(Diagnostic {
                    help: Some("take `extends` out of one of the files".into()),
                    ..refuse(&chain, message)
                });
                break;
            }
            if chain.len() == LONGEST_CHAIN {
                problems.push(refuse(&chain, "the chain of `extends` is too long".into()));
                break;
            }
            let text = match read(&path) {
                Ok(text) => text,
                Err(reason) => {
                    problems.push(refuse(&chain, format!("cannot read `{shown}`: {reason}")));
                    break;
                }
            };
            seen.push(real);
            let folder = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
            let folder = folder.parent().map(Path::to_path_buf).unwrap_or_default();
            let rank = LONGEST_CHAIN - chain.len();
            let name = shown.to_string();
            let mut layer = Layer::file(name, folder, rank, text, problems);
            let base = layer.take(EXTENDS);
            layer.anchor_paths();
            let span = base.as_ref().map(|entry| entry.node.span.clone());
            match base.as_ref().map(base_name) {
                Some(Some(base)) => next = Some(path.parent().unwrap_or(&path).join(base)),
                Some(None) => {
                    let span = span.clone().unwrap_or_default();
                    problems.push(Diagnostic {
                        help: Some("for example `extends = \"base.toml\"`".into()),
                        ..layer.problem(span, "`extends` must be the path of a TOML file")
                    });
                }
                None => {}
            }
            chain.push((layer, span));
        }
        self.layers = chain.into_iter().rev().map(|(layer, _)| layer).collect();
    }

    fn read_environment(
        &mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        problems: &mut Vec<Diagnostic>,
    ) {
        let ours = |name: &OsString| {
            name.as_encoded_bytes()
                .starts_with(ENVIRONMENT_PREFIX.as_bytes())
        };
        let mut variables: Vec<_> = environment.into_iter().filter(|(n, _)| ours(n)).collect();
        // The order in which a process holds its environment means nothing.
        variables.sort();
        for (name, value) in variables {
            let text = format!("{}={}", name.to_string_lossy(), value.to_string_lossy());
            let end = name.to_string_lossy().len();
            let mut prefix = path::Spanned::new();
            let mut start = ENVIRONMENT_PREFIX.len();
            for part in text[start..end].split("__") {
                let span = start..start + part.len();
                prefix.push((Segment::Key(part.to_lowercase()), span));
                start += part.len() + 2;
            }
            self.assign(Origin::Environment, text, prefix, end + 1, problems);
        }
    }

    fn read_sets(&mut self, sets: &[String], problems: &mut Vec<Diagnostic>) {
        const FLAG: &str = "--set ";
        for set in sets {
            let text = format!("{FLAG}{set}");
            let refused = |message: String| {
                let place = super::diagnose::Place::new(
                    "command line",
                    &text,
                    FLAG.len()..text.len(),
                    false,
                );
                Diagnostic {
                    place: Some(place),
                    order: (usize::MAX, 0),
                    help: Some(
                        "write `--set KEY=VALUE`, for example `--set train.batch_size=16`".into(),
                    ),
                    ..Diagnostic::new(message)
                }
            };
            match path::parse(set) {
                Ok((_, end)) if end == set.len() => {
                    problems.push(refused(format!("`{set}` has no `=`")));
                }
                Ok((mut prefix, end)) => {
                    for (_, span) in &mut prefix {
                        *span = span.start + FLAG.len()..span.end + FLAG.len();
                    }
                    let value_start = FLAG.len() + end + 1;
                    self.assign(Origin::CommandLine, text, prefix, value_start, problems);
                }
                Err(message) => problems.push(refused(message)),
            }
        }
    }

    /// Adds a layer that sets one key.
    fn assign(
        &mut self,
        origin: Origin,
        text: String,
        prefix: path::Spanned,
        value_start: usize,
        problems: &mut Vec<Diagnostic>,
    ) {
        let rank = LONGEST_CHAIN + 1 + self.layers.len();
        let folder = std::env::current_dir().unwrap_or_default();
        match Layer::assignment(origin, folder, rank, text, prefix, value_start) {
            Ok(layer) => self.layers.push(layer),
            Err(problem) => problems.push(problem),
        }
    }

    /// Merges all layers; arrays are replaced whole, entries of them by index.
    fn merge(&mut self, problems: &mut Vec<Diagnostic>) -> Figment {
        let mut figment = Figment::new();
        for layer in &mut self.layers {
            let merged = figment.find_value("").ok();
            match place(layer, merged.as_ref()) {
                Ok((keys, value)) => {
                    figment = figment.merge(Provided { layer, value, keys });
                }
                Err(problem) => problems.push(problem),
            }
        }
        figment
    }

    /// The layer and bytes of the value in force at a path, and of its key.
    fn find(&self, path: &[Segment]) -> Option<(&Layer, Range<usize>, Option<Range<usize>>)> {
        let mut implied = None;
        for layer in self.layers.iter().rev() {
            match layer.lookup(path) {
                Lookup::Found(node, key) => {
                    let scalar = matches!(node.tree, Tree::Scalar(_));
                    if !scalar || implied.is_none() {
                        return Some((layer, node.span.clone(), key));
                    }
                }
                Lookup::Implied(span) => {
                    implied = implied.or(Some((layer, span.clone(), Some(span))));
                }
                Lookup::Blocked => break,
                Lookup::Absent => {}
            }
        }
        implied
    }

    /// The problem at its key's value; without one, at the nearest table around it.
    fn locate(&self, problem: &Problem) -> Diagnostic {
        let path: Vec<Segment> = path::parse(&problem.key)
            .map(|(path, _)| path.into_iter().map(|(segment, _)| segment).collect())
            .unwrap_or_default();
        let place = self.find(&path).map(|(layer, span, _)| (layer, span));
        self.diagnostic(place, &path, &problem.message, problem.help.clone())
    }

    fn locate_finding(&self, finding: &shape::Finding) -> Diagnostic {
        let place = match self.find(&finding.path) {
            Some((layer, span, key)) if finding.at_key => Some((layer, key.unwrap_or(span))),
            Some((layer, span, _)) => Some((layer, span)),
            None => None,
        };
        let help = finding.help.clone();
        self.diagnostic(place, &finding.path, &finding.message, help)
    }

    fn diagnostic(
        &self,
        place: Option<(&Layer, Range<usize>)>,
        path: &[Segment],
        message: &str,
        help: Option<String>,
    ) -> Diagnostic {
        let around = || {
            (0..path.len())
                .rev()
                .filter(|&length| length > 0)
                .find_map(|length| self.find(&path[..length]))
                .map(|(layer, span, _)| (layer, span))
        };
        let first_line = || {
            let top = self
                .layers
                .iter()
                .rfind(|layer| layer.origin == Origin::File);
            top.map(|layer| (layer, 0..layer.text.find('\n').unwrap_or(layer.text.len())))
        };
        let located = place.or_else(around).or_else(first_line);
        Diagnostic {
            help,
            ..match located {
                Some((layer, span)) => layer.problem(span, message),
                None => Diagnostic::new(message),
            }
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..at];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8")
    })?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or(text.clone(), String::from))
}

fn base_name(entry: &Entry) -> Option<&str> {
    match &entry.node.tree {
        Tree::Scalar(Value::String(_, base)) if !base.is_empty() => Some(base),
        _ => None,
    }
}

/// The keys that a layer's value goes to and the value, for a path through arrays the whole
/// array with the entry changed. Turns a numeric key of the path into an index where an array
/// stands.
fn place(layer: &mut Layer, merged: Option<&Value>) -> Result<(Vec<String>, Value), Diagnostic> {
    let mut below = merged;
    let mut path: Vec<Segment> = Vec::new();
    for at in 0..layer.prefix.len() {
        let (segment, span) = &layer.prefix[at];
        let segment = match below {
            Some(Value::Array(_, values)) => {
                let shown = path::show(&path);
                let count = values.len();
                match segment.index() {
                    Some(index) if index < count => Segment::Index(index),
                    Some(index) => {
                        let noun = if count == 1 { "entry" } else { "entries" };
                        let message = format!(
                            "there is no `{shown}[{index}]`: `{shown}` has {count} {noun}, counted from 0"
                        );
                        return Err(layer.problem(span.clone(), message));
                    }
                    None => {
                        let message = format!("`{shown}` is an array");
                        return Err(Diagnostic {
                            help: Some(format!("name an entry of it, for example `{shown}[0]`")),
                            ..layer.problem(span.clone(), message)
                        });
                    }
                }
            }
            _ if matches!(segment, Segment::Index(_)) => {
                let message = format!("`{}` is not an array", path::show(&path));
                return Err(layer.problem(span.clone(), message));
            }
            _ => segment.clone(),
        };
        below = below.and_then(|value| child(value, &segment));
        layer.prefix[at].0 = segment.clone();
        path.push(segment);
    }
    if layer.origin != Origin::File && path == [Segment::key(EXTENDS)] {
        let span = layer.prefix[0].1.clone();
        return Err(layer.problem(span, "`extends` can only stand in a file"));
    }
    layer.anchor_paths();
    let keys: Vec<String> = path
        .iter()
        .map_while(|segment| match segment {
            Segment::Key(key) => Some(key.clone()),
            Segment::Index(_) => None,
        })
        .collect();
    let inner = &path[keys.len()..];
    if inner.is_empty() {
        return Ok((keys, layer.node.value()));
    }
    let outer = path[..keys.len()].iter();
    let array = outer.fold(merged, |value, segment| child(value?, segment));
    let mut array = array
        .cloned()
        .unwrap_or_else(|| Value::from(Vec::<Value>::new()));
    put(&mut array, inner, &layer.node);
    Ok((keys, array))
}

fn child<'a>(value: &'a Value, segment: &Segment) -> Option<&'a Value> {
    match (value, segment) {
        (Value::Dict(_, dict), Segment::Key(key)) => dict.get(key),
        (Value::Array(_, values), Segment::Index(index)) => values.get(*index),
        _ => None,
    }
}

/// Puts a node at a path below a value, making tables where there are none.
fn put(value: &mut Value, path: &[Segment], node: &Node) {
    match path {
        [] => *value = node.value(),
        [Segment::Index(index), rest @ ..] => {
            if let Value::Array(_, values) = value
                && let Some(entry) = values.get_mut(*index)
            {
                put(entry, rest, node);
            }
        }
        [Segment::Key(key), rest @ ..] => {
            if !matches!(value, Value::Dict(..)) {
                *value = Value::from(figment::value::Dict::new());
            }
            if let Value::Dict(_, dict) = value {
                let absent = || Value::from(figment::value::Dict::new());
                put(dict.entry(key.clone()).or_insert_with(absent), rest, node);
            }
        }
    }
}
