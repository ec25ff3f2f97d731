//! A JSON Schema read as a description: what it wants and what was found instead, in words.

use figment::value::{Dict, Num, Value};
use serde_json::{Map, Value as Json};

use super::suggest;

pub(super) fn resolve<'s>(root: &'s Json, schema: &'s Json) -> &'s Json {
    let mut schema = schema;
    while let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|r| r.strip_prefix("#/$defs/"))
    {
        schema = &root["$defs"][name];
    }
    schema
}

pub(super) fn variants(schema: &Json) -> &[Json] {
    let list = schema["anyOf"].as_array().or(schema["oneOf"].as_array());
    list.map_or(&[], Vec::as_slice)
}

pub(super) fn properties(schema: &Json) -> Option<&Map<String, Json>> {
    schema["properties"].as_object()
}

pub(super) fn required(schema: &Json) -> Vec<&str> {
    let list = schema["required"].as_array().into_iter().flatten();
    list.filter_map(Json::as_str).collect()
}

/// The strings that a schema allows by name.
pub(super) fn names<'s>(root: &'s Json, schema: &'s Json) -> Vec<&'s str> {
    let schema = resolve(root, schema);
    let listed = schema["enum"].as_array().into_iter().flatten();
    let own = listed.chain([&schema["const"]]).filter_map(Json::as_str);
    let below = variants(schema)
        .iter()
        .flat_map(|variant| names(root, variant));
    own.chain(below).collect()
}

/// The key of a table under which it takes this string.
pub(super) fn key_that_takes<'s>(root: &'s Json, schema: &'s Json, text: &str) -> Option<&'s str> {
    let schema = resolve(root, schema);
    let mut known = properties(schema).into_iter().flatten();
    known
        .find(|(_, below)| names(root, below).contains(&text))
        .map(|(key, _)| key.as_str())
        .or_else(|| {
            let mut variants = variants(schema).iter();
            variants.find_map(|variant| key_that_takes(root, variant, text))
        })
}

pub(super) fn accepts_any_string(root: &Json, schema: &Json) -> bool {
    let schema = resolve(root, schema);
    let open = schema["type"] == "string" && schema["const"].is_null() && schema["enum"].is_null();
    open || variants(schema)
        .iter()
        .any(|variant| accepts_any_string(root, variant))
}

/// Some value that fits a schema, not minding ranges.
pub(super) fn stand_in(root: &Json, schema: &Json) -> Option<Value> {
    let schema = resolve(root, schema);
    if let Some(name) = names(root, schema).first() {
        return Some(Value::from(*name));
    }
    if let Some(variant) = variants(schema).first() {
        return stand_in(root, variant);
    }
    let value = match schema["type"].as_str()? {
        "string" => Value::from("x"),
        "boolean" => Value::from(false),
        "integer" => Value::from(schema["minimum"].as_i64().unwrap_or(1).max(1)),
        "number" => Value::from(0.5),
        "array" => {
            let count = schema["minItems"].as_u64().unwrap_or(0);
            let items = (0..count).map(|_| stand_in(root, &schema["items"]));
            Value::from(items.collect::<Option<Vec<Value>>>()?)
        }
        _ => {
            let below =
                |key: &str| Some((key.to_string(), stand_in(root, &schema["properties"][key])?));
            let pairs = required(schema).into_iter().map(below);
            Value::from(pairs.collect::<Option<Dict>>()?)
        }
    };
    Some(value)
}

pub(super) fn has_type(schema: &Json, value: &Value) -> bool {
    let Some(wanted) = schema["type"].as_str() else {
        return true;
    };
    match value {
        Value::String(..) | Value::Char(..) => wanted == "string",
        Value::Bool(..) => wanted == "boolean",
        Value::Num(_, Num::F64(_) | Num::F32(_)) => wanted == "number",
        Value::Num(..) => wanted == "number" || wanted == "integer",
        Value::Dict(..) => wanted == "object",
        Value::Array(..) => wanted == "array",
        Value::Empty(..) => false,
    }
}

pub(super) fn as_f64(number: &Num) -> f64 {
    match *number {
        Num::F64(number) => number,
        Num::F32(number) => number.into(),
        Num::I64(number) => number as f64,
        Num::I128(number) => number as f64,
        other => other.to_u128().map_or(f64::NAN, |number| number as f64),
    }
}

/// What a schema wants, in words.
pub(super) fn describe(root: &Json, schema: &Json) -> String {
    let schema = resolve(root, schema);
    let names = names(root, schema);
    let mut phrases: Vec<String> = names.iter().map(|name| format!("`\"{name}\"`")).collect();
    let others = variants(schema)
        .iter()
        .map(|variant| resolve(root, variant));
    let mut heads = Vec::new();
    for variant in others {
        if !variants(variant).is_empty() || !names.is_empty() && variant["type"] == "string" {
            continue;
        }
        match required(variant).as_slice() {
            [head] if heads.contains(head) => {}
            [head] => heads.push(*head),
            _ => {
                let phrase = describe(root, variant);
                if !phrases.contains(&phrase) {
                    phrases.push(phrase);
                }
            }
        }
    }
    if !heads.is_empty() {
        phrases.push(format!("a table with {}", suggest::list(&heads, "or")));
    }
    if !phrases.is_empty() {
        return suggest::join(&phrases, "or");
    }
    match schema["type"].as_str() {
        Some("string") => "a string".into(),
        Some("boolean") => "true or false".into(),
        Some("integer") => format!("an integer{}", describe_range(schema)),
        Some("number") => format!("a number{}", describe_range(schema)),
        Some("array") => {
            let items = resolve(root, &schema["items"]);
            let of = match items["type"].as_str() {
                Some("string") => "strings".into(),
                Some("integer") => format!("integers{}", describe_range(items)),
                Some("number") => format!("numbers{}", describe_range(items)),
                Some("object") => "tables".into(),
                _ => return "an array".into(),
            };
            match (schema["minItems"].as_u64(), schema["maxItems"].as_u64()) {
                (Some(min), Some(max)) if min == max => format!("an array of {min} {of}"),
                _ => format!("an array of {of}"),
            }
        }
        _ => match required(schema).as_slice() {
            [] => "a table".into(),
            keys => format!("a table with {}", suggest::list(keys, "and")),
        },
    }
}

fn describe_range(schema: &Json) -> String {
    let bound = |key: &str| schema[key].as_f64();
    let low = match (bound("minimum"), bound("exclusiveMinimum")) {
        (_, Some(low)) => Some(format!("greater than {low}")),
        (Some(low), None) => Some(format!("of at least {low}")),
        (None, None) => None,
    };
    let high = match (bound("maximum"), bound("exclusiveMaximum")) {
        (_, Some(high)) => Some(format!("less than {high}")),
        (Some(high), None) => Some(format!("of at most {high}")),
        (None, None) => None,
    };
    match (bound("minimum"), bound("maximum"), low, high) {
        (Some(low), Some(high), ..) => format!(" from {low} to {high}"),
        (_, _, Some(low), Some(high)) => format!(" {low} and {high}"),
        (_, _, Some(one), None) | (_, _, None, Some(one)) => format!(" {one}"),
        (_, _, None, None) => String::new(),
    }
}

/// What was found, in words.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::String(..) | Value::Char(..) => format!("the string \"{}\"", bare(value)),
        Value::Num(..) | Value::Bool(..) => bare(value),
        Value::Dict(..) => "a table".into(),
        Value::Array(..) => "an array".into(),
        Value::Empty(..) => "a date".into(),
    }
}

pub(super) fn bare(value: &Value) -> String {
    const LONGEST: usize = 40;
    let text = match value {
        Value::String(_, text) => text.clone(),
        Value::Bool(_, yes) => yes.to_string(),
        Value::Num(_, Num::I64(number)) => number.to_string(),
        Value::Num(_, Num::I128(number)) => number.to_string(),
        Value::Num(_, number) => format!("{:?}", as_f64(number)),
        _ => String::new(),
    };
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let start: String = text.chars().take(LONGEST).map(printable).collect();
    if text.chars().count() > LONGEST {
        start + "..."
    } else {
        start
    }
}

pub(super) fn first_sentence(text: &str) -> &str {
    let text = text.split("\n\n").next().unwrap_or(text);
    text.split_once(". ")
        .map_or(text.trim_end_matches('.'), |(first, _)| first)
}
