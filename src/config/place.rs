//! Where the value of a layer goes in what the layers below it make.

use figment::value::{Dict, Value};

use super::diagnose::Diagnostic;
use super::layer::{Layer, Node, Origin};
use super::path::{self, Segment};

/// Key of a file that names the file below it.
pub(super) const EXTENDS: &str = "extends";

/// The keys that a layer's value goes to and the value, for a path through arrays the whole
/// array with the entry changed. Turns a numeric key of the path into an index where an array
/// stands.
pub(super) fn place(
    layer: &mut Layer,
    merged: Option<&Value>,
) -> Result<(Vec<String>, Value), Diagnostic> {
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
                *value = Value::from(Dict::new());
            }
            if let Value::Dict(_, dict) = value {
                let absent = || Value::from(Dict::new());
                put(dict.entry(key.clone()).or_insert_with(absent), rest, node);
            }
        }
    }
}
