//! `xp resume RUN`: goes on where a run was interrupted or killed, to the same bytes.

use std::path::Path;

use super::blueprint::Blueprint;
use super::experiment::Prepared;
use super::outcome::{self, Outcome};
use super::state::Restored;
use super::tracker::Tracker;
use super::{
    Exit, Failure, Printer, changes, follow, handed, interrupt, logging, network, ranks, run,
};
use crate::cli::ResumeArgs;
use crate::config;
use crate::ops::kernel::instructions;
use crate::ranks::Ranks;
use crate::run::{Manifest, ManifestWriter, RunDir, Slot, Status};

/// Runs the command.
pub fn run(args: &ResumeArgs, ranks: &Ranks, printer: &Printer) -> Result<(), Failure> {
    go_on(&args.run, &[], None, true, ranks, printer)
}

/// Goes on with the run of a directory, to its end or until an epoch is over. Of `sets` those count
/// that decide nothing, such as threads. `pictures` go into its page.
pub fn go_on(
    path: &Path,
    sets: &[String],
    until_epoch: Option<usize>,
    pictures: bool,
    ranks: &Ranks,
    printer: &Printer,
) -> Result<(), Failure> {
    if !ranks.is_first() {
        return follow(sets, ranks, printer);
    }
    let run = RunDir::open_to_write(path)?;
    let before = begun(&run)?;
    if before.status == Status::Done {
        ranks.from_first(Vec::new)?;
        outcome::make_good(&run, pictures, printer);
        tell_of_end(&run, printer);
        return say_done(&run, &before, printer);
    }
    let resolved = run.resolved_toml();
    let loaded = config::load_with(&resolved, &idle(sets), [])?;
    check_config(&run, &before, &loaded.hash(), printer)?;
    let text = std::fs::read(&resolved)?;
    ranks.from_first(|| text)?;
    let mut prepared = Prepared::new(Blueprint::from_loaded(loaded)?, ranks, printer)?;
    prepared.until_epoch = until_epoch;
    ranks::compare(&prepared, "", ranks)?;
    check_data(&run, &before, &prepared)?;
    // What was decided stays so, on whatever machine: sums are rounded by it.
    prepared.plan.micro_batch = before.micro_batch.or(prepared.plan.micro_batch);
    let now = taken_over(before.clone(), &prepared);
    warn_of_changes(&before, &now, printer);
    // Weights may have to be fetched, which a signal should end at once.
    let from = match run.newest_checkpoint() {
        Some(slot) => Begin::Checkpoint(slot),
        None => {
            let fresh = from_the_beginning(&prepared, &before, printer)?;
            Begin::Beginning(Box::new(fresh))
        }
    };
    interrupt::watch()?;
    let manifest = run.start_manifest(now)?;
    printer.note(format!("run directory: {}", run.path().display()));
    run::say_data(&prepared.dataset, printer);
    let mut tracker = None;
    let kept = (&run, &manifest);
    let outcome = work(&prepared, from, kept, &mut tracker, ranks, printer);
    let outcome = ranks::judged(outcome, ranks);
    let shown = pictures.then_some(&*prepared.dataset);
    outcome::conclude(outcome, &run, manifest, shown, tracker, printer)
}

/// Tells whoever was not told how a run ended, because it was killed before; nobody of anything twice.
fn tell_of_end(run: &RunDir, printer: &Printer) {
    let (Ok(loaded), Ok(log)) = (
        config::load_with(&run.resolved_toml(), &[], []),
        run.metrics(),
    ) else {
        return;
    };
    if let Ok(Some(tracker)) = Tracker::new(run, &loaded.experiment.tracking) {
        tracker.begin(run, &log.rows);
        tracker.end(run, printer);
    }
}

/// Where a run is taken up.
enum Begin {
    Checkpoint(Slot),
    Beginning(Box<Restored>),
}

fn work(
    prepared: &Prepared,
    from: Begin,
    (run, manifest): (&RunDir, &ManifestWriter),
    tracker: &mut Option<Tracker>,
    ranks: &Ranks,
    printer: &Printer,
) -> Result<Outcome, Failure> {
    manifest.update(|manifest| manifest.ranks = ranks.hosts().len())?;
    logging::log_to(run.open_log()?);
    // A kill may have come before these were written.
    if !run.split_csv().exists() || !run.data_issues_csv().exists() {
        run.write_split(&prepared.dataset.split_rows())?;
        run.write_data_issues(&prepared.dataset.issues)?;
    }
    let restored = match from {
        Begin::Checkpoint(slot) => {
            let restored = Restored::from_checkpoint(run, slot, &prepared.blueprint.graph)?;
            let position = &restored.start.position;
            if position.seed != prepared.plan.seed {
                return Err(Failure::new(
                    Exit::Other,
                    "the checkpoint is of a run with another seed",
                ));
            }
            printer.note(said(position.step, restored.rows.len()));
            restored
        }
        Begin::Beginning(restored) => {
            printer.note("there is no checkpoint yet: from the beginning");
            *restored
        }
    };
    manifest.update(|manifest| {
        let best = restored.start.position.best.as_ref();
        manifest.best = best.map(|best| (&best.row).into());
    })?;
    let graph = &prepared.blueprint.graph;
    let restored = Restored {
        start: handed::start(Some(restored.start), graph, ranks)?,
        ..restored
    };
    let allowance = prepared.allowance(&restored.start.params, printer)?;
    let allowance = ranks::agreed(allowance, ranks)?;
    prepared.complete(
        restored,
        allowance,
        (run, manifest),
        tracker,
        ranks,
        printer,
    )
}

/// What ranks other than the first do: with its configuration and from its state, as they may not see
/// its run directory.
fn follow(sets: &[String], ranks: &Ranks, printer: &Printer) -> Result<(), Failure> {
    let text = ranks.from_first(Vec::new)?;
    if text.is_empty() {
        return Ok(());
    }
    let file = tempfile::Builder::new().suffix(".toml").tempfile()?;
    std::fs::write(file.path(), text)?;
    let loaded = config::load_with(file.path(), &idle(sets), [])?;
    let prepared = Prepared::new(Blueprint::from_loaded(loaded)?, ranks, printer)?;
    ranks::compare(&prepared, "", ranks)?;
    interrupt::watch()?;
    let start = handed::start(None, &prepared.blueprint.graph, ranks)?;
    let allowance = prepared.allowance(&start.params, printer)?;
    let allowance = ranks::agreed(allowance, ranks)?;
    follow::follow(&prepared, start, allowance, ranks, printer)
}

/// Of what the command line sets, that which decides nothing, such as threads.
fn idle(sets: &[String]) -> Vec<String> {
    let decides = |set: &&String| set.split('=').next().is_none_or(config::decides);
    sets.iter().filter(|set| !decides(set)).cloned().collect()
}

fn said(step: u64, rows: usize) -> String {
    format!("going on after step {step}, with {rows} rows of `metrics.csv`")
}

/// The manifest of a run that has something to go on from.
fn begun(run: &RunDir) -> Result<Manifest, Failure> {
    if run.resolved_toml().exists() {
        return Ok(run.manifest()?);
    }
    let message = format!(
        "`{}` ended before its configuration was written: there is nothing to go on from",
        run.path().display()
    );
    Err(Failure::new(Exit::Other, message).help("start it again with `xp run`"))
}

fn say_done(run: &RunDir, manifest: &Manifest, printer: &Printer) -> Result<(), Failure> {
    let path = run.path().display();
    if printer.json {
        let answer = serde_json::json!({
            "run": path.to_string(),
            "status": Status::Done,
            "test_accuracy": manifest.test_accuracy,
        });
        printer.data(answer.to_string());
    } else {
        printer.data(format!("`{path}` is done: there is nothing left to do"));
    }
    Ok(())
}

/// Another configuration would make another experiment of it.
fn check_config(
    run: &RunDir,
    before: &Manifest,
    hash: &str,
    printer: &Printer,
) -> Result<(), Failure> {
    if before.fingerprints.config == hash {
        return Ok(());
    }
    let file = run.resolved_toml();
    let message = format!("`{}` is not what the run began with", file.display());
    if before.xp_version == env!("CARGO_PKG_VERSION") {
        let help = "undo the change, or start anew with `xp run`";
        return Err(Failure::new(Exit::Config, message).help(help));
    }
    // Another version may know other keys.
    printer.warning(message);
    Ok(())
}

/// Other pictures would make another experiment of it.
fn check_data(run: &RunDir, before: &Manifest, prepared: &Prepared) -> Result<(), Failure> {
    let fingerprints = &before.fingerprints;
    let dataset = &prepared.dataset;
    let then = (&fingerprints.data, &fingerprints.split);
    if then == (&dataset.data_fingerprint, &dataset.split_fingerprint) {
        return Ok(());
    }
    // A run that was killed early has no list to tell more by.
    let what = match run.split_csv().exists() {
        true => format!(": of its pictures, {}", changes::since(run, dataset)?),
        false => String::new(),
    };
    let message =
        format!("the data is not what the run saw{what}; going on would mix two experiments");
    let help = "bring the pictures back (`split.csv` lists them), or start anew with `xp run`";
    Err(Failure::new(Exit::Data, message).help(help))
}

/// What may make the rest differ in its last bits.
fn warn_of_changes(before: &Manifest, now: &Manifest, printer: &Printer) {
    let version = |manifest: &Manifest| format!("xp {}", manifest.xp_version);
    let kernels = |manifest: &Manifest| {
        let instructions = manifest.instructions.as_deref().unwrap_or("unknown");
        format!("{instructions} instructions")
    };
    for [then, now] in [
        [version(before), version(now)],
        [kernels(before), kernels(now)],
    ] {
        if then != now {
            printer.warning(format!(
                "the run was begun with {then} and goes on with {now}: the rest may differ in its \
                 last bits"
            ));
        }
    }
}

/// The manifest of a run that goes on in this process.
fn taken_over(before: Manifest, prepared: &Prepared) -> Manifest {
    Manifest {
        threads: prepared.threads,
        device: match &prepared.gpu {
            Some(gpu) => format!("{}, {}", gpu.describe(), gpu.precision().name()),
            None => "cpu".into(),
        },
        instructions: Some(instructions().into()),
        ..before.taken_over()
    }
}

fn from_the_beginning(
    prepared: &Prepared,
    before: &Manifest,
    printer: &Printer,
) -> Result<Restored, Failure> {
    let blueprint = &prepared.blueprint;
    let initial = network::initial(blueprint, &blueprint.device, printer)?;
    if initial.fingerprint != before.fingerprints.weights {
        let message = "the weights are not those that the run began with";
        let help = "bring the weights file back, or start anew with `xp run`";
        return Err(Failure::new(Exit::Other, message).help(help));
    }
    Ok(Restored::fresh(initial.params, prepared.plan.seed))
}
