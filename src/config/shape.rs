//! The shape of a configuration, checked against the JSON Schema that [`super::schema`] derives:
//! unknown and missing keys, wrong types, values out of range, unknown names.

use std::sync::LazyLock;

use figment::value::{Dict, Num, Value};
use serde_json::{Map, Value as Json, json};

use super::path::{self, Segment};
use super::schema::Experiment;
use super::suggest;
use super::words::{
    accepts_any_string, as_f64, bare, describe, first_sentence, has_type, key_that_takes, names,
    properties, required, resolve, show, stand_in, variants,
};

/// Something wrong with the shape.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) path: Vec<Segment>,
    /// Whether it is the key that is wrong, and not its value.
    pub(super) at_key: bool,
    pub(super) message: String,
    pub(super) help: Option<String>,
    kind: Kind,
    /// A value that would fit; `None` where the key must go.
    stand_in: Option<Value>,
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
        let section = |path: &str| path.split('.').next().unwrap_or_default().to_string();
        section(&path::show(&self.path)) == section(key)
    }
}

/// The JSON Schema of a configuration file.
pub fn json_schema() -> &'static Json {
    static SCHEMA: LazyLock<Json> = LazyLock::new(make_schema);
    &SCHEMA
}

fn make_schema() -> Json {
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
        places: places(root),
        root,
        findings: Vec::new(),
        path: Vec::new(),
    };
    walk.visit(root, value);
    let keep = |finding: &Finding| if_whole || finding.kind != Kind::Missing;
    walk.findings.into_iter().filter(keep).collect()
}

/// The value with unknown keys left out and stand-ins for what is missing or wrong.
pub(super) fn repair(mut value: Value, findings: &[Finding]) -> Value {
    for Finding { path, stand_in, .. } in findings {
        let Some((last, parents)) = path.split_last() else {
            continue;
        };
        let parent = parents
            .iter()
            .try_fold(&mut value, |value, segment| match (value, segment) {
                (Value::Dict(_, dict), Segment::Key(key)) => dict.get_mut(key),
                (Value::Array(_, values), Segment::Index(index)) => values.get_mut(*index),
                _ => None,
            });
        match (parent, last, stand_in) {
            (Some(Value::Dict(_, dict)), Segment::Key(key), Some(fitting)) => {
                dict.insert(key.clone(), fitting.clone());
            }
            (Some(Value::Dict(_, dict)), Segment::Key(key), None) => {
                dict.remove(key);
            }
            (Some(Value::Array(_, values)), Segment::Index(index), Some(fitting)) => {
                if let Some(entry) = values.get_mut(*index) {
                    *entry = fitting.clone();
                }
            }
            _ => {}
        }
    }
    value
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

struct Walk<'s> {
    root: &'s Json,
    places: Vec<(String, String)>,
    findings: Vec<Finding>,
    path: Vec<Segment>,
}

impl<'s> Walk<'s> {
    fn bad_value(&mut self, schema: &Json, message: String, help: Option<String>) {
        self.findings.push(Finding {
            stand_in: stand_in(self.root, schema),
            path: self.path.clone(),
            at_key: false,
            message,
            help,
            kind: Kind::BadValue,
        });
    }

    fn visit(&mut self, schema: &'s Json, value: &Value) {
        let schema = resolve(self.root, schema);
        // Anything will do.
        if schema.as_object().is_some_and(Map::is_empty) {
            return;
        }
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
                        schema,
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
            let largest = format!("the largest integer is {}", i64::MAX);
            let help = (schema["type"] == "integer" && number > i64::MAX as f64).then_some(largest);
            self.bad_value(
                schema,
                format!("`{key}` must be {wanted}, but it is {found}"),
                help,
            );
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
                None => meant.extend(self.unknown_key(key, &keys)),
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
        let names = names(self.root, schema);
        let description = schema["description"].as_str().map(first_sentence);
        let help = match (names.is_empty(), description) {
            (false, _) => Some(format!("it is {}", describe(self.root, schema))),
            (true, Some(text)) => Some(format!("`{key}`: {text}")),
            (true, None) => None,
        };
        let mut path = self.path.clone();
        path.push(Segment::key(key));
        self.findings.push(Finding {
            stand_in: stand_in(self.root, schema),
            path,
            at_key: false,
            message,
            help,
            kind: Kind::Missing,
        });
    }

    /// Reports the key at the end of the path; gives the key that was probably meant.
    fn unknown_key<'k>(&mut self, key: &str, known: &[&'k str]) -> Option<&'k str> {
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
        let near = suggest::nearest(key, known);
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
            stand_in: None,
        });
        near
    }

    fn unknown_name(&mut self, schema: &'s Json, names: &[&str], text: &str) {
        // A layer or the like that takes settings is written as a table.
        let alternatives = self.alternatives(schema);
        let tables = alternatives.iter().filter(|v| v["type"] == "object");
        let heads: Vec<&str> = tables.flat_map(|table| required(table)).collect();
        let near = match suggest::nearest(text, names) {
            Some(near) => Some(format!("did you mean `\"{near}\"`?\n")),
            None => {
                suggest::nearest(text, &heads).map(|head| format!("write `{{ {head} = ... }}`\n"))
            }
        };
        let known = format!("known values: {}", describe(self.root, schema));
        let (key, found) = (path::show(&self.path), bare(&Value::from(text)));
        let help = near.unwrap_or_default() + &known;
        self.bad_value(
            schema,
            format!("unknown value \"{found}\" for `{key}`"),
            Some(help),
        );
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
                let names = json!({ "enum": names });
                match given {
                    Value::String(_, text) => self.unknown_tag(&names, text),
                    other => self.wrong_type(&names, other),
                }
                self.path.pop();
            }
        }
    }

    fn unknown_tag(&mut self, schema: &Json, text: &str) {
        let names = names(self.root, schema);
        let near = suggest::nearest(text, &names).map(|n| format!("did you mean `\"{n}\"`?\n"));
        let known = format!("known values: {}", describe(self.root, schema));
        let (key, found) = (path::show(&self.path), bare(&Value::from(text)));
        let help = near.unwrap_or_default() + &known;
        self.bad_value(
            schema,
            format!("unknown value \"{found}\" for `{key}`"),
            Some(help),
        );
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
                    stand_in: None,
                });
                self.path.pop();
            }
            None => {
                let (key, wanted) = (path::show(&self.path), describe(self.root, schema));
                self.bad_value(schema, format!("`{key}` must be {wanted}"), None);
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
                let items = resolve(self.root, &schema["items"]);
                Some(match items["type"].as_str() {
                    Some("object") if !key.contains('[') => {
                        format!("write `[[{key}]]` instead of `[{key}]`")
                    }
                    _ => {
                        // Below an entry of an array, the whole path is no TOML.
                        let inner = key.rsplit(['.', ']']).next().filter(|_| key.contains('['));
                        format!("put it in brackets: `{} = [...]`", inner.unwrap_or(&key))
                    }
                })
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
            (_, Value::String(_, text)) => {
                let inner = key.rsplit(['.', ']']).next().unwrap_or(&key);
                key_that_takes(self.root, schema, text)
                    .map(|kind| format!("write `{inner} = {{ {kind} = \"{text}\" }}`"))
            }
            _ => None,
        };
        self.bad_value(schema, message, help);
    }
}

/// The key that names the variant of a tagged table.
fn tag_of(schema: &Json) -> Option<&str> {
    let mut known = properties(schema)?.iter();
    known
        .find(|(_, below)| below["const"].is_string())
        .map(|(key, _)| key.as_str())
}
