//! One layer of a configuration: a file, an `XP_*` variable or a `--set`, with the bytes that
//! every key and value came from.

use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use figment::value::{Dict, Empty, Map, Num, Tag, Value};
use figment::{Metadata, Profile, Provider};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnose::{Diagnostic, Place};
use super::path::{self, Segment};
use super::schema::IMAGENET_LABELS;

/// Text of a key longer than this in parts is refused before parsing: every part is a table.
const MOST_DOTS: usize = 200;
/// Larger files are no configurations.
const LARGEST_TEXT: usize = 4 << 20;
/// Prefix of the environment variables that set keys.
pub(super) const ENVIRONMENT_PREFIX: &str = "XP_";
/// What names a file of weights; anything else in `model.weights` is a file only if it exists.
pub const WEIGHT_EXTENSIONS: [&str; 8] = [
    "safetensors",
    "pth",
    "pt",
    "bin",
    "h5",
    "hdf5",
    "keras",
    "ckpt",
];

/// Where a layer comes from, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Origin {
    File,
    Environment,
    CommandLine,
    Axis,
}

/// A layer: a value at a path (files: at the root), and the text it was read from.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) origin: Origin,
    /// The file as the user named it, or the kind of origin.
    pub(super) name: String,
    /// Place among the layers.
    pub(super) rank: usize,
    /// What was read; spans are bytes of it.
    pub(super) text: String,
    /// The folder that relative paths are relative to.
    pub(super) folder: PathBuf,
    /// Where the value goes.
    pub(super) prefix: path::Spanned,
    /// The value.
    pub(super) node: Node,
}

/// A value and the bytes it came from; of a table with a header, the header.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) tree: Tree,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Scalar(Value),
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key of a table with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) node: Node,
}

/// What a layer has at a path.
pub(super) enum Lookup<'a> {
    /// A value, and the bytes of its key.
    Found(&'a Node, Option<Range<usize>>),
    /// The layer sets something below the path; the bytes of the path's last key.
    Implied(Range<usize>),
    /// The layer sets something above the path that has no such part.
    Blocked,
    /// The layer says nothing.
    Absent,
}

impl Layer {
    /// Reads the text of a file; syntax errors go to `problems`, the rest is recovered.
    pub(super) fn file(
        name: String,
        folder: PathBuf,
        rank: usize,
        text: String,
        problems: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut layer = Self {
            origin: Origin::File,
            name,
            rank,
            text,
            folder,
            prefix: Vec::new(),
            node: Node {
                span: 0..0,
                tree: Tree::Table(Vec::new()),
            },
        };
        if layer.text.len() > LARGEST_TEXT {
            problems.push(layer.problem(0..1, "the file is too large to be a configuration"));
        } else if let Some(span) = endless_key(&layer.text) {
            problems.push(layer.problem(span, "the key has too many parts"));
        } else {
            let (table, errors) = DeTable::parse_recoverable(&layer.text);
            let node = Node {
                span: 0..0,
                tree: table_of(table.into_inner()),
            };
            let mut last_line = None;
            for error in errors {
                let span = error.span().unwrap_or(0..0);
                let before = layer.text.get(..span.start).unwrap_or_default();
                let line = before.matches('\n').count();
                // What follows on the same line follows from the first error.
                if last_line.replace(line) != Some(line) {
                    let message = syntax_message(error.message(), before);
                    problems.push(layer.problem(span, message));
                }
            }
            layer.node = node;
        }
        layer
    }

    /// Reads the value that starts at a byte of `text`: TOML, or else a string.
    pub(super) fn assignment(
        origin: Origin,
        folder: PathBuf,
        rank: usize,
        text: String,
        prefix: path::Spanned,
        value_start: usize,
    ) -> Result<Self, Diagnostic> {
        let value = text[value_start..].trim();
        let start =
            value_start + (text[value_start..].len() - text[value_start..].trim_start().len());
        let mut layer = Self {
            origin,
            name: match origin {
                Origin::CommandLine => "command line".into(),
                Origin::Axis => "axes of the sweep".into(),
                _ => "environment".into(),
            },
            rank,
            text: text.clone(),
            folder,
            prefix,
            node: Node {
                span: start..start + value.len(),
                tree: Tree::Scalar(Value::from(value)),
            },
        };
        if endless_key(value).is_some() {
            return Ok(layer);
        }
        match DeValue::parse(value) {
            Ok(parsed) => {
                layer.node.tree = tree_of(parsed.into_inner());
                layer.node.shift(start);
                layer.node.span = start..start + value.len();
            }
            Err(error) if value.starts_with(['[', '{', '"', '\'']) => {
                let span = error.span().unwrap_or(0..value.len());
                let span = start + span.start..start + span.end;
                let message = syntax_message(error.message(), &text);
                return Err(layer.problem(span, message));
            }
            Err(_) => {}
        }
        Ok(layer)
    }

    /// A problem that stands at some bytes of this layer.
    pub(super) fn problem(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        let numbered = self.origin == Origin::File;
        Diagnostic {
            order: (self.rank, span.start),
            place: Some(Box::new(Place::new(&self.name, &self.text, span, numbered))),
            ..Diagnostic::new(message)
        }
    }

    /// What the layer has at a path.
    pub(super) fn lookup(&self, path: &[Segment]) -> Lookup<'_> {
        let depth = self.prefix.len();
        let shared = self.prefix.iter().zip(path);
        if shared.clone().any(|((own, _), asked)| own != asked) {
            return Lookup::Absent;
        }
        let key_span = |depth: usize| self.prefix.get(depth).map(|(_, span)| span.clone());
        if path.len() < depth {
            // The root is implied by every layer; it has no key.
            return match path.len().checked_sub(1).and_then(key_span) {
                Some(span) => Lookup::Implied(span),
                None => Lookup::Absent,
            };
        }
        let mut key = depth.checked_sub(1).and_then(key_span);
        let mut node = &self.node;
        for segment in &path[depth..] {
            let next = match (&node.tree, segment) {
                (Tree::Table(entries), Segment::Key(name)) => {
                    match entries.iter().find(|entry| entry.key == *name) {
                        Some(entry) => (&entry.node, Some(entry.key_span.clone())),
                        None => return Lookup::Absent,
                    }
                }
                (Tree::Array(nodes), Segment::Index(index)) => match nodes.get(*index) {
                    Some(node) => (node, None),
                    None => return Lookup::Blocked,
                },
                _ => return Lookup::Blocked,
            };
            (node, key) = next;
        }
        Lookup::Found(node, key)
    }

    /// Takes a key out of the root table.
    pub(super) fn take(&mut self, key: &str) -> Option<Entry> {
        let Tree::Table(entries) = &mut self.node.tree else {
            return None;
        };
        let at = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(at))
    }

    /// Makes the paths that this layer names absolute.
    pub(super) fn anchor_paths(&mut self) {
        let folder = self.folder.clone();
        for (path, is_path) in PATH_KEYS {
            let path: Vec<Segment> = path.iter().map(|key| Segment::key(*key)).collect();
            let Some(node) = self.node_mut(&path) else {
                continue;
            };
            let nodes = match node.tree {
                Tree::Array(ref mut nodes) => nodes.as_mut_slice(),
                _ => std::slice::from_mut(node),
            };
            for node in nodes {
                if let Tree::Scalar(Value::String(_, text)) = &mut node.tree
                    && !text.is_empty()
                    && is_path(&folder, text)
                    && let Some(anchored) = anchor(&folder, text).to_str()
                {
                    *text = anchored.into();
                }
            }
        }
    }

    fn node_mut(&mut self, path: &[Segment]) -> Option<&mut Node> {
        let depth = self.prefix.len();
        let below = path.get(depth..)?;
        let matches = self.prefix.iter().zip(path).all(|((own, _), p)| own == p);
        let mut node = matches.then_some(&mut self.node)?;
        for segment in below {
            let (Tree::Table(entries), Segment::Key(name)) = (&mut node.tree, segment) else {
                return None;
            };
            node = &mut entries.iter_mut().find(|entry| entry.key == *name)?.node;
        }
        Some(node)
    }
}

type IsPath = fn(&Path, &str) -> bool;

/// The keys that hold paths, and whether a value of theirs is one.
const PATH_KEYS: [(&[&str], IsPath); 9] = [
    (&["runs_dir"], |_, _| true),
    (&["cache", "dir"], |_, _| true),
    // Another scheme is no folder either: it is refused.
    (&["tracking", "mlflow"], |_, text| !text.contains("://")),
    (&["data", "root"], |_, _| true),
    (&["data", "manifest"], |_, _| true),
    (&["data", "parquet"], |_, _| true),
    (&["data", "download_dir"], |_, _| true),
    (&["data", "labels"], |_, text| text != IMAGENET_LABELS),
    (&["model", "weights"], |folder, text| {
        let extension = Path::new(text).extension().and_then(|e| e.to_str());
        let is_file = extension.is_some_and(|e| WEIGHT_EXTENSIONS.contains(&e));
        let is_address = text.starts_with("https://") || text.starts_with("http://");
        !is_address && (is_file || folder.join(text).is_file())
    }),
];

/// The path as seen from `folder`, without `..` where that names the same place.
pub(super) fn anchor(folder: &Path, text: &str) -> PathBuf {
    let joined = folder.join(text);
    let mut plain = PathBuf::new();
    for component in joined.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    let real = |path: &Path| path.canonicalize().ok();
    // A link on the way makes `..` mean something else.
    if real(&plain) == real(&joined) {
        plain
    } else {
        joined
    }
}

/// The first key with so many parts that the tables it makes could not be walked.
fn endless_key(text: &str) -> Option<Range<usize>> {
    let mut start = 0;
    for run in text.split_inclusive(['=', ',', '[', ']', '{', '}', '\n', '#']) {
        if run.matches('.').count() > MOST_DOTS {
            return Some(start..start + 40);
        }
        start += run.len();
    }
    None
}

fn syntax_message(message: &str, before: &str) -> String {
    match message {
        "duplicate key" => "this key is set twice".into(),
        _ if before.trim_end_matches([' ', '\t']).ends_with('=')
            && message.contains("string values") =>
        {
            "this is not TOML: the value is missing or not in quotes".into()
        }
        _ => format!("this is not TOML: {message}"),
    }
}

impl Node {
    /// The value that figment merges.
    pub(super) fn value(&self) -> Value {
        match &self.tree {
            Tree::Scalar(value) => value.clone(),
            Tree::Array(nodes) => {
                Value::Array(Tag::Default, nodes.iter().map(Node::value).collect())
            }
            Tree::Table(entries) => {
                let pairs = entries.iter().map(|e| (e.key.clone(), e.node.value()));
                Value::Dict(Tag::Default, pairs.collect())
            }
        }
    }

    fn shift(&mut self, by: usize) {
        self.span = self.span.start + by..self.span.end + by;
        match &mut self.tree {
            Tree::Scalar(_) => {}
            Tree::Array(nodes) => nodes.iter_mut().for_each(|node| node.shift(by)),
            Tree::Table(entries) => {
                for entry in entries {
                    entry.key_span = entry.key_span.start + by..entry.key_span.end + by;
                    entry.node.shift(by);
                }
            }
        }
    }
}

fn node_of(value: Spanned<DeValue<'_>>) -> Node {
    let span = value.span();
    Node {
        span,
        tree: tree_of(value.into_inner()),
    }
}

fn tree_of(value: DeValue<'_>) -> Tree {
    let scalar = match value {
        DeValue::Array(array) => return Tree::Array(array.iter().cloned().map(node_of).collect()),
        DeValue::Table(table) => return table_of(table),
        DeValue::String(text) => Value::from(text.into_owned()),
        DeValue::Boolean(yes) => Value::from(yes),
        DeValue::Integer(integer) => {
            let (digits, radix) = (integer.as_str(), integer.radix());
            let small = i64::from_str_radix(digits, radix).map(Num::I64);
            let number = small.or_else(|_| i128::from_str_radix(digits, radix).map(Num::I128));
            Value::Num(Tag::Default, number.unwrap_or(Num::F64(f64::INFINITY)))
        }
        DeValue::Float(float) => Value::from(float.as_str().parse().unwrap_or(f64::NAN)),
        // No key takes a date; it only has to be told from a string.
        DeValue::Datetime(_) => Value::Empty(Tag::Default, Empty::Unit),
    };
    Tree::Scalar(scalar)
}

fn table_of(table: DeTable<'_>) -> Tree {
    let entry = |(key, value): (Spanned<std::borrow::Cow<'_, str>>, Spanned<DeValue<'_>>)| Entry {
        key_span: key.span(),
        key: key.into_inner().into_owned(),
        node: node_of(value),
    };
    Tree::Table(table.into_iter().map(entry).collect())
}

/// A layer as figment sees it: its value nested into the tables of its path.
pub(super) struct Provided<'a> {
    pub(super) layer: &'a Layer,
    /// The value at `keys`, whole arrays included.
    pub(super) value: Value,
    pub(super) keys: Vec<String>,
}

impl Provider for Provided<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.layer.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nest =
            |value, key: &String| Value::Dict(Tag::Default, Dict::from([(key.clone(), value)]));
        let nested = self.keys.iter().rev().fold(self.value.clone(), nest);
        let dict = nested.into_dict().unwrap_or_default();
        Ok(Map::from([(Profile::Default, dict)]))
    }
}
