//! `xp data`: what the data holds, before anything trains on it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::blueprint::Blueprint;
use super::{Exit, Failure, Printer};
use crate::cli::DataArgs;
use crate::data::{Augment, Dataset, sheet};
use crate::records::{DataIssueRow, Split};

/// Issues shown in the table; all of them are in the JSON.
const SHOWN: usize = 5;

/// Scans and splits the data of a configuration, prints a table, writes the contact sheet.
pub fn run(args: &DataArgs, printer: &Printer) -> Result<(), Failure> {
    let blueprint = Blueprint::load(&args.config.config, &args.config.sets, printer)?;
    let (experiment, preprocess) = (&blueprint.loaded.experiment, &blueprint.preprocess);

    let dataset = Arc::new(Dataset::open(&experiment.data, experiment.seed)?);
    let augment = Augment {
        config: experiment.data.augment,
        seed: experiment.seed,
    };
    sheet::write(&args.sheet, &dataset, preprocess, augment)?;
    let summary = Summary::new(&dataset, &args.sheet);
    if printer.json {
        let json = serde_json::to_string_pretty(&summary);
        printer.data(json.map_err(|error| Failure::new(Exit::Other, error))?);
    } else {
        printer.data(summary.table());
    }
    Ok(())
}

/// The answer of `xp data --json`.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    pictures: usize,
    classes: Vec<ClassCounts<'a>>,
    total: [usize; 3],
    /// Smallest, median and largest.
    width: [u32; 3],
    height: [u32; 3],
    issue_counts: BTreeMap<&'a str, usize>,
    issues: &'a [DataIssueRow],
    data_fingerprint: &'a str,
    split_fingerprint: &'a str,
    contact_sheet: String,
}

#[derive(Debug, Serialize)]
struct ClassCounts<'a> {
    class: &'a str,
    train: usize,
    val: usize,
    test: usize,
}

impl<'a> Summary<'a> {
    fn new(dataset: &'a Dataset, sheet: &Path) -> Self {
        let counts = dataset.counts();
        let mut issue_counts = BTreeMap::new();
        for issue in &dataset.issues {
            *issue_counts.entry(issue.kind.as_str()).or_default() += 1;
        }
        let mut total = [0; 3];
        for (total, split) in total.iter_mut().zip(0..) {
            *total = counts.iter().map(|counts: &[usize; 3]| counts[split]).sum();
        }
        let classes = dataset.classes.iter().zip(&counts);
        Self {
            pictures: dataset.items.len(),
            classes: classes
                .map(|(class, &[train, val, test])| ClassCounts {
                    class,
                    train,
                    val,
                    test,
                })
                .collect(),
            total,
            width: spread(dataset.items.iter().map(|item| item.width)),
            height: spread(dataset.items.iter().map(|item| item.height)),
            issue_counts,
            issues: &dataset.issues,
            data_fingerprint: &dataset.data_fingerprint,
            split_fingerprint: &dataset.split_fingerprint,
            contact_sheet: sheet.display().to_string(),
        }
    }

    fn table(&self) -> String {
        let longest = self
            .classes
            .iter()
            .map(|row| row.class.chars().count())
            .max()
            .unwrap_or(0);
        let name = longest.max("class".len());
        let row = |class: &str, cells: [String; 4]| {
            let [train, val, test, all] = cells;
            format!("{class:<name$} {train:>8} {val:>8} {test:>8} {all:>8}\n")
        };
        let numbers = |[train, val, test]: [usize; 3]| {
            [train, val, test, train + val + test].map(|count| count.to_string())
        };
        let [train, val, test] = Split::ALL.map(|split| split.name().to_owned());
        let mut text = row("class", [train, val, test, "all".into()]);
        for counts in &self.classes {
            text += &row(
                counts.class,
                numbers([counts.train, counts.val, counts.test]),
            );
        }
        text += &row("total", numbers(self.total));
        let size = |[least, median, most]: [u32; 3]| format!("{least} / {median} / {most}");
        text += &format!(
            "\nwidth  {} px (min / median / max)\nheight {} px\n",
            size(self.width),
            size(self.height)
        );
        if !self.issues.is_empty() {
            let kinds: Vec<String> = self
                .issue_counts
                .iter()
                .map(|(kind, count)| format!("{count} {kind}"))
                .collect();
            text += &format!("\nissues: {}\n", kinds.join(", "));
            for issue in self.issues.iter().take(SHOWN) {
                text += &format!("  {} {}: {}\n", issue.kind, issue.path, issue.reason);
            }
            if self.issues.len() > SHOWN {
                text += &format!(
                    "  and {} more (`--json` lists all)\n",
                    self.issues.len() - SHOWN
                );
            }
        }
        text += &format!(
            "\ndata   {}\nsplit  {}\nsheet  {}",
            self.data_fingerprint, self.split_fingerprint, self.contact_sheet
        );
        text
    }
}

/// Smallest, median (the lower of two) and largest; zeros for nothing.
fn spread(values: impl Iterator<Item = u32>) -> [u32; 3] {
    let mut values: Vec<u32> = values.collect();
    values.sort_unstable();
    match values.as_slice() {
        [] => [0; 3],
        [least, .., most] => [*least, values[(values.len() - 1) / 2], *most],
        [only] => [*only; 3],
    }
}
