//! What is different about a run's pictures today.

use std::collections::BTreeMap;

use crate::data::Dataset;
use crate::records::Split;
use crate::run::{RunDir, RunError};

/// How the pictures differ from those of the run, which they do: `1 new, 2 gone`.
pub fn since(run: &RunDir, dataset: &Dataset) -> Result<String, RunError> {
    let mut gone: BTreeMap<String, Split> = run
        .split()?
        .into_iter()
        .map(|row| (row.path, row.split))
        .collect();
    let (mut new, mut moved) = (0, 0);
    for item in &dataset.items {
        match gone.remove(&item.path) {
            None => new += 1,
            Some(split) if split != item.split => moved += 1,
            Some(_) => {}
        }
    }
    let mut what: Vec<String> = [
        (new, "new"),
        (gone.len(), "gone"),
        (moved, "in another split"),
    ]
    .into_iter()
    .filter(|&(count, _)| count > 0)
    .map(|(count, how)| format!("{count} {how}"))
    .collect();
    if what.is_empty() {
        what.push("some with other contents or classes".into());
    }
    Ok(what.join(", "))
}
