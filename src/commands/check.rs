//! `xp check`: every problem of every configuration, without touching data.

use std::path::Path;

use super::blueprint::Blueprint;
use super::{Failure, Printer};
use crate::cli::CheckArgs;
use crate::config::{Loaded, Report};

/// Prints one line for each good file; fails with all problems of all others.
pub fn run(args: &CheckArgs, printer: &Printer) -> Result<(), Failure> {
    let mut bad: Option<Report> = None;
    for path in &args.configs {
        match check_one(path, &args.sets, printer) {
            Ok(loaded) => printer.data(good(path, &loaded, printer.json)),
            Err(Failure {
                report: Some(report),
                ..
            }) => match &mut bad {
                Some(all) => all.extend(report),
                None => bad = Some(report),
            },
            Err(failure) => return Err(failure),
        }
    }
    bad.map_or(Ok(()), |report| Err(report.into()))
}

/// Loads one configuration and checks all that can be known without its data.
fn check_one(path: &Path, sets: &[String], printer: &Printer) -> Result<Loaded, Failure> {
    Ok(Blueprint::load(path, sets, printer)?.loaded)
}

fn good(path: &Path, loaded: &Loaded, json: bool) -> String {
    let name = &loaded.experiment.name;
    if json {
        let answer = serde_json::json!({
            "config": path.to_string_lossy(),
            "ok": true,
            "name": name,
            "hash": loaded.hash(),
        });
        return answer.to_string();
    }
    format!("{}: ok", path.display())
}
