//! What classes must be like, and their names in messages.

use std::collections::BTreeMap;
use std::path::Path;

use super::listing::issue;
use super::scan::Scan;
use super::{DataError, folders};
use crate::records::DataIssueRow;

/// The first names of a list, for messages.
pub fn shown(names: &[String]) -> String {
    const SHOWN: usize = 20;
    if names.is_empty() {
        return "none".into();
    }
    let first = &names[..names.len().min(SHOWN)];
    let more = match names.len() - first.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("`{}`{more}", first.join("`, `"))
}

/// Every class has pictures, and there are enough classes. Two that differ in case only are noted:
/// some file systems cannot tell them apart, and few people mean two.
pub(super) fn check_classes(scan: &mut Scan, path: &Path, least: usize) -> Result<(), DataError> {
    let looks_like_split = |class: &String| folders::split_folder(class).is_some();
    if path.is_dir() && !scan.classes.is_empty() && scan.classes.iter().all(looks_like_split) {
        return Err(DataError::SplitsAsClasses {
            root: path.to_owned(),
            classes: scan.classes.join("`, `"),
        });
    }
    let loose = scan
        .issues
        .iter()
        .filter(|row| row.reason == folders::NO_CLASS_FOLDER)
        .count();
    if scan.classes.is_empty() && loose > 0 {
        return Err(DataError::NoClassFolders {
            root: path.to_owned(),
            count: loose,
        });
    }
    if scan.found.is_empty() && !scan.issues.iter().any(was_dropped) {
        return Err(DataError::Empty {
            path: path.to_owned(),
        });
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for found in &scan.found {
        *counts.entry(&found.class).or_default() += 1;
    }
    if let Some(class) = scan
        .classes
        .iter()
        .find(|class| !counts.contains_key(class.as_str()))
    {
        let skipped = scan.issues.iter().filter(|row| was_dropped(row)).count();
        let class = class.clone();
        return Err(match skipped {
            0 => DataError::EmptyClass {
                class,
                root: path.to_owned(),
            },
            _ => DataError::AllSkipped { class, skipped },
        });
    }
    let mut folded: BTreeMap<String, &String> = BTreeMap::new();
    let mut notes = Vec::new();
    for class in &scan.classes {
        if let Some(first) = folded.insert(class.to_lowercase(), class) {
            let reason = format!("class `{class}` differs from `{first}` in case only");
            notes.push(issue(class.clone(), "similar_class", reason));
        }
    }
    notes.retain(|note| !scan.issues.contains(note));
    scan.issues.append(&mut notes);
    match scan.classes.as_slice() {
        [class] if least > 1 => Err(DataError::OneClass {
            path: path.to_owned(),
            class: class.clone(),
        }),
        _ => Ok(()),
    }
}

fn was_dropped(row: &DataIssueRow) -> bool {
    ["corrupt", "bad_name", "missing", "conflicting_label"].contains(&row.kind.as_str())
}
