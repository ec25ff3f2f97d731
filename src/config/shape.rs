//! The shape of a configuration, checked against the JSON Schema that [`super::schema`] derives:
//! unknown and missing keys, wrong types, values out of range, unknown names.

use figment::value::{Dict, Num, Value};
use serde_json::{Map, Value as Json, json};

use super::path::{self, Segment};
use super::schema::Experiment;
use super::suggest;

/// Something wrong with the shape.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) path: Vec<Segment>,
    /// Whether it is the key that is wrong, and not its value.
    pub(super) at_key: bool,
    pub(super) message: String,
    pub(super) help: Option<String>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    UnknownKey,
    Missing,
    BadValue,
}

impl Finding {
    /// Whether what is known of `key` may be wrong because of this finding.
    pub(super) fn touches(&self, key: &str) -> bool {
        let own = path::show(&self.path);
        let parent = path::show(&self.path[..self.path.len().saturating_sub(1)]);
        let key_parent = key.rfind(['.', '[']).map_or("", |at| &key[..at]);
        own.starts_with(key) || key.starts_with(&own) || parent == key_parent
    }
}

/// The JSON Schema of a configuration file.
pub fn json_schema() -> Json {
    let mut schema = schemars::schema_for!(Experiment).to_value();
    without_null(&mut schema);
    if let Some(properties) = schema.get_mut("properties").and_then(Json::as_object_mut) {
        let extends = json!({
            "description": "File that this one changes: what is not set here is taken from there. \
                Tables are merged, arrays replaced. Relative to this file.",
            "type": "string",
        });
        properties.insert("extends".into(), extends);
    }
    schema
}

/// TOML has no null: an optional key is left out.
fn without_null(schema: &mut Json) {
    match schema {
        Json::Object(map) => {
            if let Some(Json::Array(types)) = map.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".into(), only);
                }
            }
            if let Some(Json::Array(variants)) = map.get_mut("anyOf") {
                variants.retain(|variant| variant["type"] != "null");
                if let [Json::Object(only)] = variants.as_slice() {
                    let only = only.clone();
                    map.remove("anyOf");
                    map.extend(only);
                }
            }
            map.values_mut().for_each(without_null);
        }
        Json::Array(values) => values.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// Everything wrong with the shape of the merged configuration. Missing keys only `if_whole`.
pub(super) fn check(value: &Value, if_whole: bool) -> Vec<Finding> {
    let root = json_schema();
    let mut walk = Walk {
        places: places(&root),
        root: &root,
        findings: Vec::new(),
        path: Vec::new(),
    };
    walk.visit(&root, value);
    let keep = |finding: &Finding| if_whole || finding.kind != Kind::Missing;
    walk.findings.into_iter().filter(keep).collect()
}

/// The value without what was found wrong with it; `None` if that cannot be left out.
pub(super) fn prune(mut value: Value, findings: &[Finding]) -> Option<Value> {
    for finding in findings {
        let (last, parents) = finding.path.split_last()?;
        let (Segment::Key(key), false) = (last, finding.kind == Kind::Missing) else {
            return None;
        };
        let mut table = Some(&mut value);
        for segment in parents {
            table = match (table, segment) {
                (Some(Value::Dict(_, dict)), Segment::Key(key)) => dict.get_mut(key),
                (Some(Value::Array(_, values)), Segment::Index(index)) => values.get_mut(*index),
                _ => None,
            };
        }
        if let Some(Value::Dict(_, dict)) = table {
            dict.remove(key);
        }
    }
    Some(value)
}

/// Every key of the schema with the table that it belongs in.
fn places(root: &Json) -> Vec<(String, String)> {
    fn collect(
        root: &Json,
        schema: &Json,
        at: &str,
        depth: usize,
        found: &mut Vec<(String, String)>,
    ) {
        let schema = resolve(root, schema);
        for variant in variants(schema) {
            collect(root, variant, at, depth, found);
        }
        for (key, below) in properties(schema).into_iter().flatten() {
            let place = (key.clone(), at.to_string());
            if !found.contains(&place) {
                found.push(place);
            }
            if depth > 0 {
                let items = &resolve(root, below)["items"];
                let (inner, mark) = if items.is_object() {
                    (items, "[]")
                } else {
                    (below, "")
                };
                let dot = if at.is_empty() { "" } else { "." };
                collect(
                    root,
                    inner,
                    &format!("{at}{dot}{key}{mark}"),
                    depth - 1,
                    found,
                );
            }
        }
    }
    let mut found = Vec::new();
    collect(root, root, "", 4, &mut found);
    found
}

fn resolve<'s>(root: &'s Json, schema: &'s Json) -> &'s Json {
    let mut schema = schema;
    while let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|r| r.strip_prefix("#/$defs/"))
    {
        schema = &root["$defs"][name];
    }
    schema
}

fn variants(schema: &Json) -> &[Json] {
    let list = schema["anyOf"].as_array().or(schema["oneOf"].as_array());
    list.map_or(&[], Vec::as_slice)
}

fn properties(schema: &Json) -> Option<&Map<String, Json>> {
    schema["properties"].as_object()
}

fn required(schema: &Json) -> Vec<&str> {
    let list = schema["required"].as_array().into_iter().flatten();
    list.filter_map(Json::as_str).collect()
}

struct Walk<'s> {
    root: &'s Json,
    places: Vec<(String, String)>,
    findings: Vec<Finding>,
    path: Vec<Segment>,
}

impl<'s> Walk<'s> {
    fn bad_value(&mut self, message: String, help: Option<String>) {
        self.findings.push(Finding {
            path: self.path.clone(),
            at_key: false,
            message,
            help,
            kind: Kind::BadValue,
        });
    }

    fn visit(&mut self, schema: &'s Json, value: &Value) {
        let schema = resolve(self.root, schema);
        let names = names(self.root, schema);
        if let Value::String(_, text) = value
            && !names.is_empty()
            && !accepts_any_string(self.root, schema)
        {
            if !names.contains(&text.as_str()) {
                self.unknown_name(schema, &names, text);
            }
            return;
        }
        let alternatives = self.alternatives(schema);
        if alternatives.is_empty() {
            return self.visit_one(schema, value);
        }
        if let Value::Dict(_, dict) = value {
            let tables: Vec<_> = alternatives
                .into_iter()
                .filter(|v| v["type"] == "object")
                .collect();
            return match tables.as_slice() {
                [] => self.wrong_type(schema, value),
                [only] => self.visit_one(only, value),
                [first, ..] => match tag_of(first) {
                    Some(tag) => self.visit_tagged(&tables, tag, dict, value),
                    None => self.visit_table_of_many(schema, &tables, dict, value),
                },
            };
        }
        match alternatives
            .into_iter()
            .find(|variant| has_type(variant, value))
        {
            Some(variant) => self.visit_one(variant, value),
            None => self.wrong_type(schema, value),
        }
    }

    /// The alternatives of a union, unions within it unfolded.
    fn alternatives(&self, schema: &'s Json) -> Vec<&'s Json> {
        let unfold = |variant| {
            let variant = resolve(self.root, variant);
            let inner = self.alternatives(variant);
            if inner.is_empty() {
                vec![variant]
            } else {
                inner
            }
        };
        variants(schema).iter().flat_map(unfold).collect()
    }

    fn visit_one(&mut self, schema: &'s Json, value: &Value) {
        if !has_type(schema, value) {
            return self.wrong_type(schema, value);
        }
        match value {
            Value::Num(_, number) => self.visit_number(schema, number, value),
            Value::Array(_, values) => {
                let count = |key: &str| schema[key].as_u64();
                let length = values.len() as u64;
                let fits = count("minItems").is_none_or(|min| length >= min)
                    && count("maxItems").is_none_or(|max| length <= max);
                if !fits {
                    let wanted = describe(self.root, schema);
                    let key = path::show(&self.path);
                    self.bad_value(
                        format!("`{key}` must be {wanted}, but it has {length}"),
                        None,
                    );
                }
                for (index, value) in values.iter().enumerate() {
                    self.path.push(Segment::Index(index));
                    self.visit(&schema["items"], value);
                    self.path.pop();
                }
            }
            Value::Dict(_, dict) => self.visit_table(schema, dict),
            _ => {}
        }
    }

    fn visit_number(&mut self, schema: &Json, number: &Num, value: &Value) {
        let number = as_f64(number);
        let bound = |key: &str| schema[key].as_f64();
        let fits = number.is_finite()
            && bound("minimum").is_none_or(|min| number >= min)
            && bound("maximum").is_none_or(|max| number <= max)
            && bound("exclusiveMinimum").is_none_or(|min| number > min)
            && bound("exclusiveMaximum").is_none_or(|max| number < max)
            && (schema["type"] != "integer" || number.abs() <= i64::MAX as f64);
        if !fits {
            let wanted = describe(self.root, schema);
            let (key, found) = (path::show(&self.path), show(value));
            self.bad_value(format!("`{key}` must be {wanted}, but it is {found}"), None);
        }
    }

    fn visit_table(&mut self, schema: &'s Json, dict: &Dict) {
        let known = properties(schema);
        let keys: Vec<&str> = known
            .into_iter()
            .flat_map(Map::keys)
            .map(String::as_str)
            .collect();
        let mut meant = Vec::new();
        for (key, value) in dict {
            self.path.push(Segment::key(key));
            match known.and_then(|known| known.get(key)) {
                Some(schema) => self.visit(schema, value),
                None if schema["additionalProperties"].is_object() => {
                    self.visit(&schema["additionalProperties"], value);
                }
                None => {
                    // A key that is there already was not meant.
                    let free: Vec<_> = keys
                        .iter()
                        .copied()
                        .filter(|k| !dict.contains_key(*k))
                        .collect();
                    meant.extend(self.unknown_key(key, &keys, &free));
                }
            }
            self.path.pop();
        }
        for key in required(schema) {
            if !dict.contains_key(key) && !meant.contains(&key) {
                self.missing(key, &schema["properties"][key]);
            }
        }
    }

    fn missing(&mut self, key: &str, schema: &Json) {
        let at = path::show(&self.path);
        let message = match at.as_str() {
            "" => format!("missing key `{key}`"),
            at => format!("missing key `{key}` in `{at}`"),
        };
        let names = names(self.root, resolve(self.root, schema));
        let description = schema["description"].as_str().map(first_sentence);
        let help = match (names.is_empty(), description) {
            (false, _) => Some(format!("it is one of {}", suggest::list(&names, "and"))),
            (true, Some(text)) => Some(format!("`{key}`: {text}")),
            (true, None) => None,
        };
        let mut path = self.path.clone();
        path.push(Segment::key(key));
        self.findings.push(Finding {
            path,
            at_key: false,
            message,
            help,
            kind: Kind::Missing,
        });
    }

    /// Reports the key at the end of the path; gives the key that was probably meant.
    fn unknown_key<'k>(
        &mut self,
        key: &str,
        known: &[&'k str],
        free: &[&'k str],
    ) -> Option<&'k str> {
        let at = path::show(&self.path[..self.path.len() - 1]);
        let elsewhere: Vec<String> = self
            .places
            .iter()
            .filter(|(name, _)| name == key)
            .map(|(_, place)| match place.as_str() {
                "" => "at the top, before the first `[table]`".into(),
                place => format!("in `{}`", place.replace("phase[]", "phase[0]")),
            })
            .collect();
        let near = suggest::nearest(key, free);
        let help = if let Some(near) = near {
            format!("did you mean `{near}`?")
        } else if (1..=2).contains(&elsewhere.len()) {
            format!("`{key}` stands {}", suggest::join(&elsewhere, "or"))
        } else {
            format!("known keys: {}", suggest::list(known, "and"))
        };
        let shown = path::show(&[Segment::key(key)]);
        let message = match at.as_str() {
            "" => format!("unknown key `{shown}`"),
            at => format!("unknown key `{shown}` in `{at}`"),
        };
        self.findings.push(Finding {
            path: self.path.clone(),
            at_key: true,
            message,
            help: Some(help),
            kind: Kind::UnknownKey,
        });
        near
    }

    fn unknown_name(&mut self, schema: &'s Json, names: &[&str], text: &str) {
        let key = path::show(&self.path);
        let wanted = describe(self.root, schema);
        // A layer or the like that takes settings is written as a table.
        let alternatives = self.alternatives(schema);
        let tables = alternatives.iter().filter(|v| v["type"] == "object");
        let heads: Vec<&str> = tables.flat_map(|table| required(table)).collect();
        let help = match suggest::nearest(text, names) {
            Some(near) => Some(format!("did you mean `\"{near}\"`?")),
            None => {
                suggest::nearest(text, &heads).map(|head| format!("write `{{ {head} = ... }}`"))
            }
        };
        let found = show(&Value::from(text));
        self.bad_value(format!("`{key}` must be {wanted}, but it is {found}"), help);
    }

    /// A table whose variant is named by a key such as `kind`.
    fn visit_tagged(&mut self, tables: &[&'s Json], tag: &str, dict: &Dict, value: &Value) {
        let tag_name = |table: &'s Json| table["properties"][tag]["const"].as_str();
        let names: Vec<&str> = tables.iter().filter_map(|table| tag_name(table)).collect();
        let Some(given) = dict.get(tag) else {
            let schema = json!({ "enum": names });
            return self.missing(tag, &schema);
        };
        let found = tables
            .iter()
            .find(|table| tag_name(table) == given.as_str());
        match found {
            Some(table) => self.visit_one(table, value),
            None => {
                self.path.push(Segment::key(tag));
                let key = path::show(&self.path);
                let (wanted, found) = (suggest::list(&names, "or"), show(given));
                let near = given
                    .as_str()
                    .and_then(|text| suggest::nearest(text, &names));
                let help = near.map(|near| format!("did you mean `\"{near}\"`?"));
                self.bad_value(format!("`{key}` must be {wanted}, but it is {found}"), help);
                self.path.pop();
            }
        }
    }

    /// A table whose variant is told by the key that only that variant has.
    fn visit_table_of_many(
        &mut self,
        schema: &'s Json,
        tables: &[&'s Json],
        dict: &Dict,
        value: &Value,
    ) {
        let has_its_key =
            |table: &&&Json| required(table).iter().any(|key| dict.contains_key(*key));
        if let Some(table) = tables.iter().find(has_its_key) {
            return self.visit_one(table, value);
        }
        let heads: Vec<&str> = tables.iter().flat_map(|table| required(table)).collect();
        let near = dict
            .keys()
            .find_map(|key| Some((key, suggest::nearest(key, &heads)?)));
        match near {
            Some((key, near)) => {
                let at = path::show(&self.path);
                self.path.push(Segment::key(key));
                self.findings.push(Finding {
                    path: self.path.clone(),
                    at_key: true,
                    message: format!("unknown key `{key}` in `{at}`"),
                    help: Some(format!("did you mean `{near}`?")),
                    kind: Kind::UnknownKey,
                });
                self.path.pop();
            }
            None => {
                let (key, wanted) = (path::show(&self.path), describe(self.root, schema));
                self.bad_value(format!("`{key}` must be {wanted}"), None);
            }
        }
    }

    fn wrong_type(&mut self, schema: &Json, value: &Value) {
        let key = path::show(&self.path);
        let wanted = describe(self.root, schema);
        let message = match key.as_str() {
            "" => format!(
                "a configuration must be {wanted}, but it is {}",
                show(value)
            ),
            key => format!("`{key}` must be {wanted}, but it is {}", show(value)),
        };
        let help = match (schema["type"].as_str(), value) {
            (Some("array"), Value::Dict(..)) if schema["items"]["$ref"].is_string() => {
                Some(format!("write `[[{key}]]` instead of `[{key}]`"))
            }
            (Some("number" | "integer"), Value::String(_, text)) if text.parse::<f64>().is_ok() => {
                Some(format!("take the quotes away: {text}"))
            }
            (Some("boolean"), Value::String(_, text)) if text == "true" || text == "false" => {
                Some(format!("take the quotes away: {text}"))
            }
            (Some("integer"), Value::Num(_, Num::F64(number))) if number.fract() == 0.0 => {
                Some(format!("write {number:.0}"))
            }
            (Some("string"), Value::Num(..) | Value::Bool(..)) => {
                Some(format!("put it in quotes: \"{}\"", bare(value)))
            }
            _ => None,
        };
        self.bad_value(message, help);
    }
}

/// The key that names the variant of a tagged table.
fn tag_of(schema: &Json) -> Option<&str> {
    let mut known = properties(schema)?.iter();
    known
        .find(|(_, below)| below["const"].is_string())
        .map(|(key, _)| key.as_str())
}

/// The strings that a schema allows by name.
fn names<'s>(root: &'s Json, schema: &'s Json) -> Vec<&'s str> {
    let schema = resolve(root, schema);
    let listed = schema["enum"].as_array().into_iter().flatten();
    let own = listed.chain([&schema["const"]]).filter_map(Json::as_str);
    let below = variants(schema)
        .iter()
        .flat_map(|variant| names(root, variant));
    own.chain(below).collect()
}

fn accepts_any_string(root: &Json, schema: &Json) -> bool {
    let schema = resolve(root, schema);
    let open = schema["type"] == "string" && schema["const"].is_null() && schema["enum"].is_null();
    open || variants(schema)
        .iter()
        .any(|variant| accepts_any_string(root, variant))
}

fn has_type(schema: &Json, value: &Value) -> bool {
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

fn as_f64(number: &Num) -> f64 {
    match *number {
        Num::F64(number) => number,
        Num::F32(number) => number.into(),
        Num::I64(number) => number as f64,
        Num::I128(number) => number as f64,
        other => other.to_u128().map_or(f64::NAN, |number| number as f64),
    }
}

/// What a schema wants, in words.
fn describe(root: &Json, schema: &Json) -> String {
    let schema = resolve(root, schema);
    let names = names(root, schema);
    let mut phrases: Vec<String> = names.iter().map(|name| format!("`\"{name}\"`")).collect();
    let others = variants(schema)
        .iter()
        .map(|variant| resolve(root, variant));
    for variant in others {
        if !variants(variant).is_empty()
            || variant["const"].is_string()
            || variant["enum"].is_array()
        {
            continue;
        }
        let phrase = describe(root, variant);
        if !phrases.contains(&phrase) {
            phrases.push(phrase);
        }
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
                _ => "values".into(),
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
        (_, Some(low)) => Some((format!("greater than {low}"), format!("greater than {low}"))),
        (Some(low), None) => Some((format!("from {low}"), format!("of at least {low}"))),
        (None, None) => None,
    };
    let high = match (bound("maximum"), bound("exclusiveMaximum")) {
        (_, Some(high)) => Some((format!("and less than {high}"), format!("less than {high}"))),
        (Some(high), None) => Some((format!("to {high}"), format!("of at most {high}"))),
        (None, None) => None,
    };
    match (low, high) {
        (Some((low, _)), Some((high, _))) => format!(" {low} {high}"),
        (Some((_, one)), None) | (None, Some((_, one))) => format!(" {one}"),
        (None, None) => String::new(),
    }
}

/// What was found, in words.
fn show(value: &Value) -> String {
    match value {
        Value::String(..) | Value::Char(..) => format!("the string \"{}\"", bare(value)),
        Value::Num(..) | Value::Bool(..) => bare(value),
        Value::Dict(..) => "a table".into(),
        Value::Array(..) => "an array".into(),
        Value::Empty(..) => "a date".into(),
    }
}

fn bare(value: &Value) -> String {
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

fn first_sentence(text: &str) -> &str {
    let text = text.split("\n\n").next().unwrap_or(text);
    text.split_once(". ")
        .map_or(text.trim_end_matches('.'), |(first, _)| first)
}
