//! `xp compare RUN...`: configurations ranked, with what may be said of their differences.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use super::table::{self, Table};
use super::{Exit, Failure, Printer};
use crate::cli::CompareArgs;
use crate::config::step_into;
use crate::fsx;
use crate::report;
use crate::run::{self, RunDir, RunError, list};
use crate::sweep::condition::EXAMPLE;
use crate::sweep::results::{Group, TrialResult};
use crate::sweep::statistics::{Mean, Paired, Verdict};
use crate::sweep::trial::show;
use crate::sweep::{Condition, Leaderboard};

/// More differing keys than this are too many columns.
const MOST_COLUMNS: usize = 6;

/// Runs the command.
pub fn run(args: &CompareArgs, printer: &Printer) -> Result<(), Failure> {
    let mut results = Vec::new();
    for path in &args.runs {
        results.extend(read(path)?);
    }
    if let Some(text) = &args.condition {
        let condition = condition("--where", text)?;
        let facts: Vec<Value> = results.iter().map(TrialResult::facts).collect();
        check_keys(std::slice::from_ref(&condition), &facts)?;
        results.retain(|result| result.satisfies(&condition));
    }
    let unfinished = results.len();
    results.retain(|result| result.run.status == run::Condition::Done);
    let unfinished = unfinished - results.len();
    if results.is_empty() {
        let message = "there is no complete run to compare";
        let help = "`xp runs` shows how runs stand";
        return Err(Failure::new(Exit::Config, message).help(help));
    }
    if unfinished > 0 {
        printer.note(format!("{} left out: not complete", runs(unfinished)));
    }
    if let Some(output) = &args.curves {
        draw(&results, output, printer)?;
    }
    let mut boards = Leaderboard::of(&results);
    if let Some(output) = &args.plot {
        draw_settings("Comparison of runs", &boards, &results, output)?;
        printer.note(format!("settings in {}", output.display()));
    }
    if let Some(key) = &args.sort {
        sort(&mut boards, key, &results)?;
    }
    if printer.json {
        let text = serde_json::to_string_pretty(&boards);
        printer.data(text.map_err(|error| Failure::new(Exit::Other, error))?);
    } else {
        print(&boards, printer);
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<TrialResult>, Failure> {
    match list::list(path) {
        Ok(listed) if listed.is_empty() => {
            let message = format!("there are no runs in `{}`", path.display());
            Err(Failure::new(Exit::Config, message))
        }
        Ok(listed) => Ok(listed.into_par_iter().map(TrialResult::of).collect()),
        Err(error @ RunError::File(_)) => Err(Failure::new(Exit::Config, error)
            .help("give run directories, or folders of them such as `runs/SWEEP`")),
        Err(error) => Err(error.into()),
    }
}

/// The condition of a flag.
pub fn condition(flag: &str, text: &str) -> Result<Condition, Failure> {
    Condition::parse(text).map_err(|reason| {
        let message = format!("`{flag} {text}` is no condition: {reason}");
        Failure::new(Exit::Config, message).help(EXAMPLE)
    })
}

/// A key that nothing has is a mistake.
pub fn check_keys(conditions: &[Condition], facts: &[Value]) -> Result<(), Failure> {
    let keys = conditions.iter().flat_map(Condition::keys);
    for key in keys {
        if !facts.is_empty() && facts.iter().all(|it| step_into(it, key).is_none()) {
            return Err(unknown_key(key, facts));
        }
    }
    Ok(())
}

fn unknown_key(key: &str, facts: &[Value]) -> Failure {
    let section = key.rsplit_once('.').map(|(section, _)| section);
    let around = facts.first().and_then(|facts| match section {
        Some(section) => step_into(facts, section),
        None => Some(facts),
    });
    let known = around.and_then(Value::as_object).map(|table| {
        let keys: Vec<&str> = table.keys().map(String::as_str).collect();
        keys.join("`, `")
    });
    let help = match (section, known) {
        (Some(section), Some(known)) => format!("`{section}` has `{known}`"),
        (None, Some(known)) => format!("there are `{known}`"),
        _ => "see `resolved.toml` of a run for all keys".into(),
    };
    let message = format!("no run has the key `{key}`");
    Failure::new(Exit::Config, message).help(help)
}

fn sort(boards: &mut [Leaderboard], key: &str, results: &[TrialResult]) -> Result<(), Failure> {
    let facts: Vec<Value> = results.iter().map(TrialResult::facts).collect();
    if facts.iter().all(|it| step_into(it, key).is_none()) {
        return Err(unknown_key(key, &facts));
    }
    let of = |group: &Group| -> Value {
        let mean = |mean: Option<Mean>| mean.map_or(Value::Null, |it| (-it.mean).into());
        match key {
            "test_accuracy" => mean(group.test_accuracy),
            "val_accuracy" => mean(group.val_accuracy),
            "seconds" => group.seconds.map_or(Value::Null, |it| it.mean.into()),
            _ => {
                let run = group.runs.first();
                let at = run.and_then(|run| results.iter().position(|it| it.run.run == *run));
                let value = at.and_then(|at| step_into(&facts[at], key));
                value.cloned().unwrap_or_default()
            }
        }
    };
    for board in boards {
        // Numbers before all else, each in their own order.
        board.groups.sort_by(|a, b| match (of(a), of(b)) {
            (Value::Number(a), Value::Number(b)) => {
                let number = |it: &serde_json::Number| it.as_f64().unwrap_or(f64::NAN);
                number(&a).total_cmp(&number(&b))
            }
            (Value::Number(_), _) => std::cmp::Ordering::Less,
            (_, Value::Number(_)) => std::cmp::Ordering::Greater,
            (a, b) => show(&a).cmp(&show(&b)),
        });
    }
    Ok(())
}

fn draw(results: &[TrialResult], output: &Path, printer: &Printer) -> Result<(), Failure> {
    let drawn = results.iter().map(|result| {
        let dir = RunDir::open(&result.run.run)?;
        Ok((dir.folder_name(), dir.metrics()?.rows))
    });
    let drawn: Vec<_> = drawn.collect::<Result<_, RunError>>()?;
    fsx::write_atomic(output, &report::overlay(&drawn).png()?)?;
    printer.note(format!("curves in {}", output.display()));
    Ok(())
}

/// What the settings of a leaderboard do.
#[derive(Debug)]
pub struct Effects {
    /// What the accuracies are.
    pub measured: &'static str,
    /// The axes, and what runs came to along each.
    pub settings: Vec<report::Setting>,
    /// For each group, what it takes and gives, where that is known.
    pub costs: Vec<Option<report::Cost>>,
    /// For each group, the index of its value on each axis.
    pub values: Vec<Vec<usize>>,
}

impl Effects {
    /// Of a leaderboard of some of these results.
    pub fn of<'a>(board: &Leaderboard, results: impl IntoIterator<Item = &'a TrialResult>) -> Self {
        let by_path: HashMap<&Path, &TrialResult> = results
            .into_iter()
            .map(|it| (it.run.run.as_path(), it))
            .collect();
        let accuracy = |run: &Path| {
            let run = &by_path.get(run)?.run;
            match board.tested {
                true => run.test_accuracy,
                false => run.val_accuracy,
            }
        };
        let keys = board.groups.first().map(|group| group.settings.keys());
        // Unlike experiments differ in dozens of keys, of which pictures tell nothing.
        let keys = keys.filter(|keys| keys.len() <= MOST_COLUMNS);
        let mut values = vec![Vec::new(); board.groups.len()];
        let settings = keys.into_iter().flatten().map(|key| {
            let mut known: Vec<(Option<f64>, String)> = board
                .groups
                .iter()
                .map(|group| {
                    let value = &group.settings[key];
                    (value.as_f64(), setting(value))
                })
                .collect();
            // Numbers before words, each in their own order.
            known.sort_by(|(a, at), (b, bt)| match (a, b) {
                (Some(a), Some(b)) => a.total_cmp(b),
                (None, None) => at.cmp(bt),
                _ => a.is_none().cmp(&b.is_none()),
            });
            known.dedup();
            let known: Vec<String> = known.into_iter().map(|(_, value)| value).collect();
            let mut runs = Vec::new();
            for (group, values) in board.groups.iter().zip(&mut values) {
                let value = setting(&group.settings[key]);
                let at = known.iter().position(|it| *it == value).unwrap_or(0);
                values.push(at);
                let of_group = group.runs.iter();
                runs.extend(of_group.filter_map(|run| Some((at, accuracy(run)?))));
            }
            report::Setting {
                key: key.clone(),
                values: known,
                runs,
            }
        });
        let settings = settings.collect();
        let costs = board.groups.iter().map(|group| {
            Some(report::Cost {
                seconds: group.seconds?.mean,
                accuracy: group.accuracy(board.tested)?.mean,
            })
        });
        Self {
            measured: match board.tested {
                true => "test accuracy",
                false => "validation accuracy",
            },
            settings,
            costs: costs.collect(),
            values,
        }
    }
}

/// Draws accuracy against each setting of the largest leaderboard, and against time.
pub fn draw_settings<'a>(
    title: &str,
    boards: &[Leaderboard],
    results: impl IntoIterator<Item = &'a TrialResult>,
    output: &Path,
) -> Result<(), Failure> {
    let Some(board) = boards.first() else {
        return Ok(());
    };
    let Effects {
        measured,
        settings,
        costs,
        ..
    } = Effects::of(board, results);
    let costs: Vec<report::Cost> = costs.into_iter().flatten().collect();
    let png = report::settings(title, measured, &settings, &costs).png()?;
    Ok(fsx::write_atomic(output, &png)?)
}

/// Prints leaderboards, each of runs on the same pictures.
pub fn print(boards: &[Leaderboard], printer: &Printer) {
    if let Some(warning) = unlike(boards) {
        printer.warning(warning);
    }
    for board in boards {
        if boards.len() > 1 {
            let data = board.data.get(..12).unwrap_or("unknown");
            printer.data(format!("pictures {data}:"));
        }
        let (header, rows) = cells(board);
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let mut table = Table::new(&header);
        for row in rows {
            table.row(row);
        }
        for line in table.lines(printer.width()) {
            printer.data(line);
        }
        for note in notes(board) {
            printer.note(note);
        }
    }
}

/// What to say of leaderboards that are not comparable.
pub fn unlike(boards: &[Leaderboard]) -> Option<String> {
    (boards.len() > 1).then(|| {
        format!(
            "these runs saw {} different sets of pictures, which are not compared with each other",
            boards.len()
        )
    })
}

/// What should be known before a leaderboard is believed.
pub fn notes(board: &Leaderboard) -> Vec<String> {
    let mut notes = Vec::new();
    if board.repeated > 0 {
        notes.push(format!(
            "{} left out: there is a newer one of the same configuration, seed and split",
            runs(board.repeated)
        ));
    }
    let groups = board.groups.len();
    if groups > 1 && !board.tested {
        notes.push(
            "no test pictures: the best is chosen and compared by the same validation pictures, which \
             flatters it"
                .into(),
        );
    }
    let most = board.groups.iter().map(|group| group.runs.len()).max();
    if groups > 1 && most == Some(1) {
        notes.push(
            "one run of each: what differs may be chance; `xp sweep --seeds 5` tells more".into(),
        );
    }
    notes
}

fn runs(count: usize) -> String {
    match count {
        1 => "1 run".into(),
        count => format!("{count} runs"),
    }
}

/// Columns, those of figures with a `>` before their names, and a row a group: below each other, the
/// best by validation accuracy first.
pub fn cells(board: &Leaderboard) -> (Vec<String>, Vec<Vec<String>>) {
    let keys: Vec<&String> = board
        .groups
        .first()
        .map(|group| group.settings.keys().collect())
        .unwrap_or_default();
    // Whole experiments differ in too much for columns: names or all that is set tell them apart.
    let names: HashSet<&str> = board
        .groups
        .iter()
        .map(|group| group.name.as_str())
        .collect();
    let named = names.len() == board.groups.len();
    let columns = !keys.is_empty() && keys.len() <= MOST_COLUMNS;
    let mut header: Vec<String> = match columns {
        true => keys.iter().map(|&key| key.clone()).collect(),
        false if named => vec!["experiment".into()],
        false => vec!["settings".into()],
    };
    let measured = if board.tested { "test" } else { "val" };
    header.extend([">runs", ">val %"].map(str::to_owned));
    if board.tested {
        header.push(">test %".into());
    }
    header.push(format!(">{measured}, 95 % interval"));
    header.push(">took".into());
    header.push(format!("{measured}, to the best by val"));
    let rows = board.groups.iter().map(|group| {
        let percent = |mean: Option<Mean>| table::percent(mean.map(|mean| mean.mean));
        let mut cells: Vec<String> = match columns {
            true => group.settings.values().map(setting).collect(),
            false if named => vec![group.name.clone()],
            false => {
                let set = group.settings.iter().filter(|(_, value)| !value.is_null());
                let set = set.map(|(key, value)| format!("{key}={}", setting(value)));
                vec![set.collect::<Vec<_>>().join(" ")]
            }
        };
        cells.push(group.runs.len().to_string());
        cells.push(percent(group.val_accuracy));
        if board.tested {
            cells.push(percent(group.test_accuracy));
        }
        let interval = group.accuracy(board.tested).and_then(|mean| mean.interval);
        cells.push(interval.map_or("-".into(), |[low, high]| {
            format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high)
        }));
        cells.push(group.seconds.map_or("-".into(), |it| table::span(it.mean)));
        cells.push(group.to_first.map_or("best".into(), |it| verdict(&it)));
        cells
    });
    (header, rows.collect())
}

fn setting(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        value => show(value),
    }
}

/// `worse: -2.1 (-3.0 to -1.2)`, `no difference shown (-0.4, -2.0 to 1.2)`, in points.
fn verdict(paired: &Paired) -> String {
    // Without a sign of what is rounded away.
    let points = |value: f64| format!("{:+.1}", (1000.0 * value).round() / 10.0 + 0.0);
    let Some(difference) = &paired.difference else {
        return "no common split".into();
    };
    let mean = points(difference.mean);
    let Some([low, high]) = difference.interval.map(|it| it.map(points)) else {
        return format!("{mean} in one pair");
    };
    match paired.verdict {
        Verdict::Larger => format!("better: {mean} ({low} to {high})"),
        Verdict::Smaller => format!("worse: {mean} ({low} to {high})"),
        Verdict::NoDifferenceShown | Verdict::Unknown => {
            format!("no difference shown: {mean} ({low} to {high})")
        }
    }
}
