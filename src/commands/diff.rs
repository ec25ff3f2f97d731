//! `xp diff RUN RUN`: why two runs differ, and where.

use std::path::Path;
use std::process::ExitCode;

use super::table::{self, Table};
use super::{Exit, Failure, Printer};
use crate::cli::DiffArgs;
use crate::run::compare::{COMMAND, Fact, FirstDifference, Pictures, Results};
use crate::run::{Comparison, RunDir};

/// Pictures shown of each kind; all of them are in the JSON.
const SHOWN: usize = 3;

/// Prints the answer. With `--exit-code` it is the exit code, too.
pub fn run(args: &DiffArgs, printer: &Printer) -> Result<ExitCode, Failure> {
    let [a, b] = [&args.a, &args.b];
    let compared = Comparison::of(&RunDir::open(a)?, &RunDir::open(b)?);
    if printer.json {
        let mut json =
            serde_json::to_value(&compared).map_err(|error| Failure::new(Exit::Other, error))?;
        json["runs"] = [a, b].map(|run| run.to_string_lossy()).as_slice().into();
        printer.data(format!("{json:#}"));
    } else {
        for line in lines(&compared, a, b, printer.width()) {
            printer.data(line);
        }
    }
    Ok(match args.exit_code && compared.different {
        true => ExitCode::from(Exit::Other as u8),
        false => ExitCode::SUCCESS,
    })
}

fn lines(compared: &Comparison, a: &Path, b: &Path, width: Option<usize>) -> Vec<String> {
    let mut lines = vec![
        format!("a: {}", a.display()),
        format!("b: {}", b.display()),
        String::new(),
        compared.verdict.clone(),
    ];
    for decides in [true, false] {
        let table = differences(compared, decides, width);
        if let Some(table) = table {
            lines.push(String::new());
            if !decides {
                lines.push("without effect on results:".into());
            }
            lines.extend(table.lines(width));
        }
    }
    let commands = compared.facts.iter().find(|fact| fact.what == COMMAND);
    if let Some(Fact { a, b, .. }) = commands.filter(|fact| told_apart(fact)) {
        lines.push(String::new());
        for (name, line) in [("a", a), ("b", b)] {
            let line = line.as_deref().map_or_else(|| "-".into(), table::printable);
            let line = format!("{COMMAND} {name}: {line}");
            lines.push(width.map_or_else(|| line.clone(), |width| table::cut(&line, width)));
        }
    }
    lines.push(String::new());
    if let Some(pictures) = &compared.pictures {
        lines.extend(of_pictures(pictures));
    }
    let same: Vec<&str> = compared
        .facts
        .iter()
        .filter(|fact| fact.decides && fact.same == Some(true))
        .map(|fact| fact.what)
        .collect();
    if !same.is_empty() {
        lines.push(format!("the same: {}", same.join(", ")));
    }
    lines.extend(metrics(compared));
    lines.extend(results(&compared.results));
    for reason in &compared.unknown {
        lines.push(format!("unknown: {}", table::printable(reason)));
    }
    lines
}

/// Values that differ, or are known of one run only. Long ones are cut in a terminal.
fn differences(compared: &Comparison, decides: bool, width: Option<usize>) -> Option<Table> {
    let keys = compared.config.iter().filter(|it| it.decides == decides);
    let keys = keys.map(|it| (it.key.as_str(), it.a.as_deref(), it.b.as_deref()));
    let facts = compared.facts.iter();
    let is_short = |fact: &&Fact| fact.what != COMMAND;
    let facts = facts.filter(|fact| fact.decides == decides && told_apart(fact));
    let facts = facts.filter(is_short);
    let facts = facts.map(|fact| (fact.what, fact.a.as_deref(), fact.b.as_deref()));
    let rows: Vec<_> = keys.chain(facts).collect();
    let longest = rows.iter().map(|(key, ..)| table::length(key)).max()?;
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(longest + 4) / 2);
    let mut table = Table::new(&["", "a", "b"]);
    for (key, a, b) in rows {
        let values = [a, b].map(|value| {
            let value = table::printable(value.unwrap_or("-"));
            table::cut(&value, room.max(8))
        });
        let [a, b] = values;
        table.row([key.to_owned(), a, b]);
    }
    Some(table)
}

fn told_apart(fact: &Fact) -> bool {
    fact.same == Some(false) || fact.a.is_some() != fact.b.is_some()
}

fn of_pictures(pictures: &Pictures) -> Vec<String> {
    let Pictures {
        removed,
        added,
        changed,
        relabelled,
        moved,
    } = pictures;
    let kinds = [
        (removed, "only in a"),
        (added, "only in b"),
        (changed, "with other bytes"),
        (relabelled, "of another class"),
        (moved, "in another split"),
    ];
    let kinds = kinds.into_iter().filter(|(paths, _)| !paths.is_empty());
    kinds
        .map(|(paths, how)| {
            let noun = if paths.len() == 1 {
                "picture"
            } else {
                "pictures"
            };
            let shown: Vec<_> = paths
                .iter()
                .take(SHOWN)
                .map(|it| table::printable(it))
                .collect();
            let more = if paths.len() > SHOWN { ", ..." } else { "" };
            format!("{} {noun} {how}: {}{more}", paths.len(), shown.join(", "))
        })
        .collect()
}

fn metrics(compared: &Comparison) -> Vec<String> {
    if let Some(first) = &compared.metrics {
        let FirstDifference {
            row,
            phase,
            epoch,
            column,
            a,
            b,
        } = first;
        let phase = table::printable(phase);
        return vec![
            format!(
                "metrics: {column} is the first to differ, in row {row} (`{phase}`, epoch {epoch}):"
            ),
            format!("  {} and {}", shown(a), shown(b)),
        ];
    }
    vec![match compared.rows {
        [Some(a), Some(b)] if a == b => format!("metrics: the same, in all {a} rows"),
        [Some(a), Some(b)] => format!(
            "metrics: the same in the {} rows that both have; a has {a}, b has {b}",
            a.min(b)
        ),
        _ => "metrics: not to be compared".into(),
    }]
}

fn shown(value: &str) -> String {
    match value {
        "" => "nothing".into(),
        value => table::printable(value),
    }
}

fn results(results: &Results) -> Vec<String> {
    let mut lines = Vec::new();
    if let ([Some(a), Some(b)], [Some(loss_a), Some(loss_b)]) =
        (results.test_accuracy, results.test_loss)
    {
        let same = a.to_bits() == b.to_bits() && loss_a.to_bits() == loss_b.to_bits();
        lines.push(match same {
            true => format!(
                "test: the same, accuracy {:.1} %, loss {loss_a:.4}",
                100.0 * a
            ),
            false => format!(
                "test: accuracy {:.1} and {:.1} %, loss {loss_a:.4} and {loss_b:.4}",
                100.0 * a,
                100.0 * b
            ),
        });
    }
    if let Some([both, differ]) = results.predictions.filter(|[_, differ]| *differ > 0) {
        lines.push(format!(
            "predictions: {differ} of {both} test pictures are classified differently"
        ));
    }
    lines
}
