//! Everything a configuration was read from: files and their bases, variables, flags.

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::value::Value;

use super::diagnose::{Diagnostic, Place, Problem};
use super::layer::{ENVIRONMENT_PREFIX, Entry, Layer, Lookup, Origin, Provided, Tree};
use super::path::{self, Segment};
use super::place::{EXTENDS, place};
use super::shape;

/// Longer chains of `extends` are refused.
const LONGEST_CHAIN: usize = 32;
/// Everything a configuration was read from, lowest first.
#[derive(Debug, Default)]
pub(super) struct Sources {
    layers: Vec<Layer>,
}

impl Sources {
    /// The text of the file that was asked for; `None` if it could not be read.
    pub(super) fn text(&self) -> Option<String> {
        self.top().map(|layer| layer.text.clone())
    }

    fn top(&self) -> Option<&Layer> {
        self.layers
            .iter()
            .rfind(|layer| layer.origin == Origin::File)
    }

    /// Reads the file and what it extends. Leaves no layer if the file itself cannot be read.
    pub(super) fn read_files(&mut self, path: &Path, problems: &mut Vec<Diagnostic>) {
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

    pub(super) fn read_environment(
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

    pub(super) fn read_sets(&mut self, sets: &[String], problems: &mut Vec<Diagnostic>) {
        self.read_assignments(Origin::CommandLine, "--set ", sets, problems);
    }

    /// Values of a sweep's axes, `key=value`.
    pub(super) fn read_axes(&mut self, values: &[String], problems: &mut Vec<Diagnostic>) {
        self.read_assignments(Origin::Axis, "", values, problems);
        // They stand in the file, and so do paths among them.
        let folder = self.top().map(|top| top.folder.clone());
        let axes = self
            .layers
            .iter_mut()
            .filter(|it| it.origin == Origin::Axis);
        for axis in axes {
            axis.folder = folder.clone().unwrap_or_default();
        }
    }

    fn read_assignments(
        &mut self,
        origin: Origin,
        flag: &str,
        sets: &[String],
        problems: &mut Vec<Diagnostic>,
    ) {
        for set in sets {
            let text = format!("{flag}{set}");
            let refused = |message: String| {
                let place = Place::new("command line", &text, flag.len()..text.len(), false);
                Diagnostic {
                    place: Some(Box::new(place)),
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
                        *span = span.start + flag.len()..span.end + flag.len();
                    }
                    let value_start = flag.len() + end + 1;
                    self.assign(origin, text, prefix, value_start, problems);
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
    pub(super) fn merge(&mut self, problems: &mut Vec<Diagnostic>) -> Figment {
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

    /// Where the value in force at a path stands.
    fn find(&self, path: &[Segment]) -> Option<Spot<'_>> {
        let mut implied = None;
        for layer in self.layers.iter().rev() {
            match layer.lookup(path) {
                Lookup::Found(node, key) => {
                    let scalar = matches!(node.tree, Tree::Scalar(_));
                    if !scalar || implied.is_none() {
                        let span = node.span.clone();
                        return Some(Spot { layer, span, key });
                    }
                }
                Lookup::Implied(span) => {
                    let key = Some(span.clone());
                    implied = implied.or(Some(Spot { layer, span, key }));
                }
                Lookup::Blocked => break,
                Lookup::Absent => {}
            }
        }
        implied
    }

    /// How high the layer stands that the value in force at a key came from; `None` if none sets
    /// it. All variables stand at one height, and so do all flags.
    pub(super) fn level(&self, key: &str) -> Option<(Origin, usize)> {
        let Spot { layer, .. } = self.find(&segments(key))?;
        let is_file = layer.origin == Origin::File;
        Some((layer.origin, if is_file { layer.rank } else { 0 }))
    }

    /// The problem at its key's value; without one, at the nearest table around it.
    pub(super) fn locate(&self, problem: &Problem) -> Diagnostic {
        Diagnostic {
            help: problem.help.clone(),
            ..self.at(&segments(&problem.key), false, &problem.message)
        }
    }

    /// The finding at its key or its value.
    pub(super) fn locate_finding(&self, finding: &shape::Finding) -> Diagnostic {
        Diagnostic {
            help: finding.help.clone(),
            ..self.at(&finding.path, finding.at_key, &finding.message)
        }
    }

    fn at(&self, path: &[Segment], at_key: bool, message: &str) -> Diagnostic {
        if let Some(Spot { layer, span, key }) = self.find(path) {
            let key = key.filter(|_| at_key);
            return layer.problem(key.unwrap_or(span), message);
        }
        let around = (1..path.len())
            .rev()
            .find_map(|length| self.find(&path[..length]));
        if let Some(Spot { layer, span, .. }) = around {
            return layer.problem(span, message);
        }
        match self.top() {
            Some(top) => {
                let first_line = 0..top.text.find('\n').unwrap_or(top.text.len());
                top.problem(first_line, message)
            }
            None => Diagnostic::new(message),
        }
    }
}

/// The bytes of a layer that a value and its key came from.
struct Spot<'a> {
    layer: &'a Layer,
    span: Range<usize>,
    key: Option<Range<usize>>,
}

fn segments(key: &str) -> Vec<Segment> {
    path::parse(key)
        .map(|(path, _)| path.into_iter().map(|(segment, _)| segment).collect())
        .unwrap_or_default()
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
