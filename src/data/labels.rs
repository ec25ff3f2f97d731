//! Label files: classes that come first, whether the data has pictures of them or not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::DataError;
use crate::config::IMAGENET_LABELS;
use crate::zoo::imagenet;

/// The classes of a label file in the order of their indices, or ImageNet's. A name may stand there
/// twice, as in some lists of ImageNet; the data must then not use it.
pub(super) fn read(path: &Path) -> Result<Vec<String>, DataError> {
    if path == Path::new(IMAGENET_LABELS) {
        return Ok(imagenet::classes());
    }
    let bytes = std::fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => DataError::Missing {
            what: "labels",
            path: path.to_owned(),
        },
        _ => DataError::Unreadable {
            path: path.to_owned(),
            source,
        },
    })?;
    let error = |line: usize, what: String| DataError::Labels {
        path: path.to_owned(),
        line,
        what,
    };
    let text = String::from_utf8(bytes).map_err(|fault| {
        let before = &fault.as_bytes()[..fault.utf8_error().valid_up_to()];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        error(line, "not UTF-8".into())
    })?;
    let lines: Vec<&str> = text
        .trim_start_matches('\u{feff}')
        .trim_end()
        .lines()
        .map(str::trim)
        .collect();
    if lines.iter().all(|line| line.is_empty()) {
        return Err(error(1, "there is no class in it".into()));
    }
    if let Some(at) = lines.iter().position(|line| line.is_empty()) {
        return Err(error(at + 1, "the line is empty".into()));
    }
    let numbered: Option<Vec<(usize, &str)>> = lines.iter().map(|line| numbered(line)).collect();
    let Some(numbered) = numbered else {
        return Ok(lines.into_iter().map(str::to_owned).collect());
    };
    let mut classes = vec![None; numbered.len()];
    for (at, (index, name)) in numbered.into_iter().enumerate() {
        match classes.get_mut(index) {
            Some(class @ None) => *class = Some(name.to_owned()),
            Some(Some(_)) => {
                return Err(error(at + 1, format!("the index {index} is there twice")));
            }
            None => {
                let most = lines.len() - 1;
                let what = format!("the index {index} is not from 0 to {most}");
                return Err(error(at + 1, what));
            }
        }
    }
    Ok(classes.into_iter().flatten().collect())
}

/// Index and name of `3,rose` or `3: rose`.
fn numbered(line: &str) -> Option<(usize, &str)> {
    let (index, name) = line.split_once([',', ':'])?;
    let name = name.trim();
    if name.is_empty() || !index.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((index.parse().ok()?, name))
}

/// All classes: those of the label file, then those that only the data has, in byte order.
pub(super) fn order(
    path: &Path,
    listed: Vec<String>,
    found: &[String],
) -> Result<Vec<String>, DataError> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for class in &listed {
        *count.entry(class).or_default() += 1;
    }
    if let Some(class) = found
        .iter()
        .find(|class| count.get(class.as_str()).is_some_and(|&count| count > 1))
    {
        return Err(DataError::AmbiguousLabel {
            path: path.to_owned(),
            class: class.clone(),
        });
    }
    let new: BTreeSet<String> = found
        .iter()
        .filter(|class| !count.contains_key(class.as_str()))
        .cloned()
        .collect();
    Ok(listed.into_iter().chain(new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.txt");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|error| error.to_string().split_once(" line ").unwrap().1.into())
    }

    #[test]
    fn lines_are_classes_with_or_without_their_index() {
        for (text, classes) in [
            ("rose\ntulip\n", vec!["rose", "tulip"]),
            ("\u{feff}rose\r\n tulip \r\n\r\n", vec!["rose", "tulip"]),
            ("0,rose\n1,tulip, red", vec!["rose", "tulip, red"]),
            ("1: tulip\n0: rose", vec!["rose", "tulip"]),
            ("0:rose\ntulip", vec!["0:rose", "tulip"]),
            ("great grey owl\nowl", vec!["great grey owl", "owl"]),
        ] {
            assert_eq!(parse(text).unwrap(), classes, "{text:?}");
        }
        for (text, message) in [
            ("", "1: there is no class in it"),
            ("rose\n\ntulip", "2: the line is empty"),
            ("0,rose\n0,tulip", "2: the index 0 is there twice"),
            ("1,rose\n2,tulip", "2: the index 2 is not from 0 to 1"),
        ] {
            assert_eq!(parse(text).unwrap_err(), message, "{text:?}");
        }
    }

    #[test]
    fn imagenet_comes_first_and_new_classes_behind() {
        let listed = read(Path::new("imagenet")).unwrap();
        let flowers = ["daisy", "dandelion", "roses", "sunflowers", "tulips"].map(String::from);
        let classes = order(Path::new("imagenet"), listed, &flowers).unwrap();
        // ImageNet has daisies.
        assert_eq!(classes.len(), 1004);
        assert_eq!(classes[985], "daisy");
        assert_eq!(&classes[1000..], &flowers[1..]);
        let twice = ["crane", "rose", "crane"].map(String::from).to_vec();
        let roses = ["rose".to_owned()];
        assert_eq!(order(Path::new("x"), twice.clone(), &roses).unwrap(), twice);
        let crane = ["crane".to_owned()];
        let error = order(Path::new("x"), twice, &crane).unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
    }
}
