//! `sweep.html`: a sweep as a page.

use std::collections::BTreeMap;
use std::path::Path;

use super::Failure;
use super::compare::{self, Effects};
use super::table;
use crate::report::{self, SweepPage, Table};
use crate::run::RunDir;
use crate::sweep::results::{TrialResult, standing};
use crate::sweep::trial::{keys, show};
use crate::sweep::{Ended, Leaderboard, SweepDir, Trial};

/// Writes the page of a sweep as far as it has come; `results` are those of its trials, in their
/// order, `unfinished` as for its table.
pub fn write(
    sweep: &SweepDir,
    trials: &[Trial],
    results: &[Option<TrialResult>],
    unfinished: &BTreeMap<String, Ended>,
    boards: &[Leaderboard],
) -> Result<(), Failure> {
    let title = sweep.path().file_name().unwrap_or_default();
    let title = title.to_string_lossy();
    let board = boards.first();
    let effects = board.map(|board| Effects::of(board, results.iter().flatten()));
    let (header, rows) = board.map(compare::cells).unwrap_or_default();
    let header: Vec<String> = header
        .iter()
        .map(|name| name.trim_start_matches('>').to_owned())
        .collect();
    let mut notes: Vec<String> = compare::unlike(boards).into_iter().collect();
    notes.extend(board.map(compare::notes).unwrap_or_default());
    let (names, all) = listed(trials, results, unfinished);
    let (cells, links): (Vec<Vec<String>>, Vec<String>) = all.into_iter().unzip();
    let done = boards.iter().flat_map(|board| &board.groups);
    let done: usize = done.map(|group| group.runs.len()).sum();
    let html = report::sweep_page(&SweepPage {
        title: &title,
        status: &format!("{done} of {} trials complete", trials.len()),
        measured: effects.as_ref().map_or("accuracy", |it| it.measured),
        leaderboard: Table {
            header: &header,
            rows: &rows,
        },
        notes: &notes,
        settings: effects.as_ref().map_or(&[], |it| &it.settings),
        costs: effects.as_ref().map_or(&[], |it| &it.costs),
        values: effects.as_ref().map_or(&[], |it| &it.values),
        trials: Table {
            header: &names,
            rows: &cells,
        },
        links: &links,
    });
    Ok(sweep.write_page(&html)?)
}

/// Columns, and a row a trial with the address of its page; empty where there is none.
fn listed(
    trials: &[Trial],
    results: &[Option<TrialResult>],
    unfinished: &BTreeMap<String, Ended>,
) -> (Vec<String>, Vec<(Vec<String>, String)>) {
    let keys = keys(trials);
    let mut names: Vec<String> = vec!["trial".into(), "status".into()];
    names.extend(keys.iter().map(|&key| key.clone()));
    names.extend(["val %", "test %", "epochs", "took"].map(str::to_owned));
    let rows = trials.iter().zip(results).map(|(trial, found)| {
        let run = found.as_ref().map(|it| &it.run);
        let (status, reason) = standing(trial, run, unfinished);
        let status = match reason.is_empty() {
            true => status,
            false => format!("{status}: {reason}"),
        };
        let mut cells = vec![trial.id.clone(), status];
        let value = |key: &&String| trial.settings.get(*key).map_or_else(String::new, show);
        cells.extend(keys.iter().map(value));
        cells.push(table::percent(run.and_then(|run| run.val_accuracy)));
        cells.push(table::percent(run.and_then(|run| run.test_accuracy)));
        let epochs = run.and_then(|run| run.epochs);
        cells.push(epochs.map_or_else(|| "-".into(), |epochs| epochs.to_string()));
        let work = found.as_ref().and_then(|it| it.work);
        cells.push(work.map_or_else(|| "-".into(), table::span));
        (cells, run.map(|run| link(&run.run)).unwrap_or_default())
    });
    (names, rows.collect())
}

/// The address of a run's page from the sweep's folder.
fn link(run: &Path) -> String {
    let page = RunDir::open(run).ok().map(|dir| dir.report_html());
    if !page.is_some_and(|page| page.exists()) {
        return String::new();
    }
    let folder = run.file_name().unwrap_or_default().to_string_lossy();
    // What is no plain letter in a folder's name is a byte with its number in an address.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let folder: String = folder
        .bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect();
    format!("{folder}/report.html")
}
