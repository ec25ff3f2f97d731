//! Files with the same bytes: under two labels they contradict each other, in two splits they leak.

use std::collections::{BTreeMap, HashSet};

use super::DataError;
use super::error::first_ten;
use super::listing::issue;
use super::scan::{Found, Scan};
use crate::config::OnCorrupt;
use crate::records::Split;

/// Drops copies that contradict each other (or fails) and copies that leak from a held-out split
/// into an earlier one; notes the harmless ones.
pub(super) fn resolve(scan: &mut Scan, on_corrupt: OnCorrupt) -> Result<(), DataError> {
    let mut groups: BTreeMap<[u8; 32], Vec<&Found>> = BTreeMap::new();
    for found in &scan.found {
        groups.entry(found.item.hash).or_default().push(found);
    }
    let mut dropped: HashSet<String> = HashSet::new();
    let mut conflicts = Vec::new();
    let mut issues = Vec::new();
    for copies in groups.values().filter(|copies| copies.len() > 1) {
        let first = copies[0];
        if let Some(other) = copies.iter().find(|copy| copy.class != first.class) {
            for copy in copies {
                let against = if copy.class == first.class {
                    other
                } else {
                    &first
                };
                let reason = format!(
                    "class `{}`, but `{}` is class `{}`",
                    copy.class, against.item.path, against.class
                );
                conflicts.push(issue(copy.item.path.clone(), "conflicting_label", reason));
                dropped.insert(copy.item.path.clone());
            }
            continue;
        }
        // The last split among the copies is the most held out.
        let Some(keep) = copies.iter().max_by_key(|copy| copy.given) else {
            continue;
        };
        for copy in copies
            .iter()
            .filter(|copy| copy.item.path != keep.item.path)
        {
            let reason = if copy.given == keep.given {
                format!(
                    "same bytes as `{}`; both kept, in one split",
                    keep.item.path
                )
            } else {
                dropped.insert(copy.item.path.clone());
                format!(
                    "same bytes as `{}` in {}; dropped from {}",
                    keep.item.path,
                    keep.given.map_or("", Split::name),
                    copy.given.map_or("", Split::name),
                )
            };
            issues.push(issue(copy.item.path.clone(), "duplicate", reason));
        }
    }
    conflicts.sort_by(|a, b| a.path.cmp(&b.path));
    if !conflicts.is_empty() && on_corrupt == OnCorrupt::Error {
        return Err(DataError::Conflicting {
            count: conflicts.len(),
            list: first_ten(&conflicts),
            fetched: false,
        });
    }
    for conflict in &mut conflicts {
        conflict.reason.push_str("; all copies dropped");
    }
    scan.issues.append(&mut conflicts);
    scan.issues.append(&mut issues);
    scan.found
        .retain(|found| !dropped.contains(&found.item.path));
    Ok(())
}
