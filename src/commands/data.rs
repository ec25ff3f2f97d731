//! `xp data`: what the data holds, before anything trains on it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::blueprint::Blueprint;
use super::{Exit, Failure, Printer, pictures, results};
use crate::cli::DataArgs;
use crate::data::{Augment, Dataset, Origin, sheet};
use crate::records::{DataIssueRow, Split};

/// Issues shown in the table; all of them are in the JSON.
const SHOWN: usize = 5;

/// Scans and splits the data of a configuration, prints a table, writes the contact sheet.
pub fn run(args: &DataArgs, printer: &Printer) -> Result<(), Failure> {
    let blueprint = Blueprint::load(&args.config.config, &args.config.sets, printer)?;
    let (experiment, preprocess) = (&blueprint.loaded.experiment, &blueprint.preprocess);

    pictures::bring(&experiment.data, printer)?;
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
    origin: &'a Origin,
    pictures: usize,
    /// Those with pictures.
    classes: Vec<ClassCounts<'a>>,
    /// Classes that stand in `data.labels` only.
    empty_classes: usize,
    /// Pictures that `max_per_class` has left out.
    left_out: usize,
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
    label: usize,
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
        let all = dataset.classes.iter().zip(&counts).enumerate();
        let classes: Vec<ClassCounts> = all
            .filter(|(_, (_, counts))| **counts != [0; 3])
            .map(|(label, (class, &[train, val, test]))| ClassCounts {
                class,
                label,
                train,
                val,
                test,
            })
            .collect();
        Self {
            origin: &dataset.origin,
            pictures: dataset.items.len(),
            empty_classes: dataset.classes.len() - classes.len(),
            left_out: dataset.left_out,
            classes,
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
        let with_labels = self.empty_classes > 0;
        let row = |class: &str, label: Option<usize>, cells: [String; 4]| {
            let [train, val, test, all] = cells;
            // Labels are what the order of lines says, unless classes are left out of it.
            let label = match (with_labels, label) {
                (false, _) => String::new(),
                (true, Some(label)) => format!("{label:>7} "),
                (true, None) => " ".repeat(8),
            };
            format!("{class:<name$} {label}{train:>8} {val:>8} {test:>8} {all:>8}\n")
        };
        let numbers = |[train, val, test]: [usize; 3]| {
            [train, val, test, train + val + test].map(|count| count.to_string())
        };
        let [train, val, test] = Split::ALL.map(|split| split.name().to_owned());
        let mut text = row("class", None, [train, val, test, "all".into()]);
        for counts in &self.classes {
            text += &row(
                &results::one_line(counts.class),
                Some(counts.label),
                numbers([counts.train, counts.val, counts.test]),
            );
        }
        text += &row("total", None, numbers(self.total));
        if with_labels {
            text += &format!("and {} classes without pictures\n", self.empty_classes);
        }
        if self.left_out > 0 {
            text += &format!("{} pictures left out by `max_per_class`\n", self.left_out);
        }
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
        text.push('\n');
        for (word, line) in self.origin.lines() {
            text += &format!("{word:<6} {line}\n");
        }
        text += &format!(
            "data   {}\nsplit  {}\nsheet  {}",
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
