//! `xp check`: every problem of every configuration, without touching data.

use std::path::Path;

use super::blueprint::Blueprint;
use super::failure::Reports;
use super::{Failure, Printer, trials};
use crate::cli::CheckArgs;

/// Prints one line for each good file; fails with all problems of all others.
pub fn run(args: &CheckArgs, printer: &Printer) -> Result<(), Failure> {
    let mut problems = Reports::default();
    let checked = args
        .configs
        .iter()
        .map(|path| check_one(path, &args.sets, printer).map(|good| printer.data(good)));
    problems.sift(checked)?;
    problems.conclude()
}

/// Checks all that can be known of one file without its data; what is said of a good one.
fn check_one(path: &Path, sets: &[String], printer: &Printer) -> Result<String, Failure> {
    let file = path.to_string_lossy();
    if let Some(count) = trials::checked(path, sets)? {
        let answer = serde_json::json!({ "config": file, "ok": true, "trials": count });
        return Ok(match printer.json {
            true => answer.to_string(),
            false => format!("{file}: ok, {}", trials::shown_count(count)),
        });
    }
    let loaded = Blueprint::load(path, sets, printer)?.loaded;
    let answer = serde_json::json!({
        "config": file,
        "ok": true,
        "name": loaded.experiment.name,
        "hash": loaded.hash(),
    });
    Ok(match printer.json {
        true => answer.to_string(),
        false => format!("{file}: ok"),
    })
}
