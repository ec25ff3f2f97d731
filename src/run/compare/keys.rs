//! Keys of two configurations whose values differ.

use super::Difference;
use crate::config;

/// Keys that say where pictures are: the same pictures may lie in several places.
const PLACES: [&str; 8] = [
    "data.root",
    "data.manifest",
    "data.url",
    "data.sha256",
    "data.inside",
    "data.preset",
    "data.parquet",
    "data.hf",
];

/// Whether a key says where pictures are.
pub fn is_place(key: &str) -> bool {
    PLACES.contains(&key)
}

/// Keys whose values differ, in the order of the first table.
pub(super) fn differences(a: &toml::Table, b: &toml::Table, same_data: bool) -> Vec<Difference> {
    let mut found = Vec::new();
    in_tables("", a, b, &mut found);
    for difference in &mut found {
        let key = difference.key.as_str();
        difference.decides = config::decides(key) && !(same_data && is_place(key));
    }
    found
}

fn in_tables(path: &str, a: &toml::Table, b: &toml::Table, found: &mut Vec<Difference>) {
    let only_in_b = b.keys().filter(|key| !a.contains_key(*key));
    for key in a.keys().chain(only_in_b) {
        let path = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        in_values(&path, a.get(key), b.get(key), found);
    }
}

fn in_values(
    path: &str,
    a: Option<&toml::Value>,
    b: Option<&toml::Value>,
    found: &mut Vec<Difference>,
) {
    use toml::Value::{Array, Table};
    match (a, b) {
        (Some(Table(a)), Some(Table(b))) => in_tables(path, a, b, found),
        (Some(Array(a)), Some(Array(b))) if has_tables(a) && has_tables(b) => {
            for index in 0..a.len().max(b.len()) {
                let path = format!("{path}[{index}]");
                in_values(&path, a.get(index), b.get(index), found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(Difference {
            key: path.to_owned(),
            a: a.map(toml::Value::to_string),
            b: b.map(toml::Value::to_string),
            decides: true,
        }),
    }
}

fn has_tables(values: &[toml::Value]) -> bool {
    !values.is_empty() && values.iter().all(toml::Value::is_table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(a: &str, b: &str) -> Vec<(String, bool)> {
        let [a, b] = [a, b].map(|text| toml::from_str(text).unwrap());
        let found = differences(&a, &b, true).into_iter();
        found.map(|it| (it.key, it.decides)).collect()
    }

    #[test]
    fn keys_that_differ_are_found_by_path() {
        let a = "threads = 1\n[data]\nroot = 'x'\nimage_size = 32\n[[phase]]\nname = 'x'\nepochs = 2\nlr = 1";
        let b = "threads = 2\n[data]\nroot = 'y'\nimage_size = [32, 32]\n[[phase]]\nname = 'y'\nepochs = 3\nlr = 1\n\
                 [[phase]]\nepochs = 1\n[train]\nbatch_size = 8";
        let of = |key: &str, decides| (key.to_owned(), decides);
        assert_eq!(
            keys(a, b),
            [
                of("threads", false),
                of("data.root", false),
                of("data.image_size", true),
                of("phase[0].name", false),
                of("phase[0].epochs", true),
                of("phase[1]", true),
                of("train", true),
            ]
        );
        assert_eq!(keys(a, a), []);
    }
}
