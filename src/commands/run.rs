//! `xp run CONFIG`: one experiment, from TOML to a complete run directory.

use std::path::Path;

use super::blueprint::Blueprint;
use super::experiment::Prepared;
use super::outcome::{self, Outcome};
use super::state::Restored;
use super::tracker::Tracker;
use super::{
    Exit, Failure, Printer, device, experiment, follow, interrupt, logging, network, ranks, resume,
};
use crate::cli::RunArgs;
use crate::config;
use crate::data::Dataset;
use crate::engine::params::Params;
use crate::ops::kernel::instructions;
use crate::ranks::Ranks;
use crate::records::Split;
use crate::run::{Fingerprints, Manifest, ManifestWriter, RunDir};
use crate::train::memory::Allowance;
use crate::train::position::Start;

/// Runs the command.
pub fn run(args: &RunArgs, ranks: &Ranks, printer: &Printer) -> Result<(), Failure> {
    let source = &args.config;
    // First: what axes set may be missing without them.
    if config::load_sweep(&source.config, &source.sets)?
        .sweep
        .is_some()
    {
        let file = source.config.display();
        let message = format!("`{file}` has a `[sweep]`: it stands for many experiments");
        let help = format!("run them with `xp sweep {file}`; `--list` shows them");
        return Err(Failure::new(Exit::Config, message).help(help));
    }
    let blueprint = Blueprint::load(&source.config, &source.sets, printer)?;
    if let Some(dir) = args.run_dir.as_deref().filter(|dir| has_begun(dir, ranks)) {
        if ranks.is_first() {
            check_same(dir, &blueprint)?;
        }
        let set = &source.sets;
        return resume::go_on(dir, set, args.until_epoch, false, ranks, printer);
    }
    let prepared = Prepared {
        until_epoch: args.until_epoch,
        ..Prepared::new(blueprint, ranks, printer)?
    };
    let blueprint = &prepared.blueprint;
    let initial = || network::initial(blueprint, &blueprint.device, printer);
    let initial = experiment::in_turn(ranks, initial)?;
    ranks::compare(&prepared, &initial.fingerprint, ranks)?;
    let allowance = prepared.allowance(&initial.params, printer)?;
    let allowance = ranks::agreed(allowance, ranks)?;
    interrupt::watch()?;
    if !ranks.is_first() {
        let start = Start::fresh(initial.params, prepared.plan.seed);
        return follow::follow(&prepared, start, allowance, ranks, printer);
    }
    let device = device::describe(&initial.params, prepared.gpu.as_ref());
    let begun = (device, initial.fingerprint);
    let (run, manifest) = create_run(&prepared, args.run_dir.as_deref(), begun)?;
    printer.note(format!("run directory: {}", run.path().display()));
    say_data(&prepared.dataset, printer);
    if let Some(note) = initial.note {
        printer.note(note);
    }
    let mut tracker = None;
    let outcome = work(
        &prepared,
        (initial.params, allowance),
        &run,
        &manifest,
        &mut tracker,
        ranks,
        printer,
    );
    let outcome = ranks::judged(outcome, ranks);
    // Who names the directory has many runs to make: their pages get pictures with `xp report`.
    let shown = args.run_dir.is_none().then_some(&*prepared.dataset);
    outcome::conclude(outcome, &run, manifest, shown, tracker, printer)
}

fn work(
    prepared: &Prepared,
    (params, allowance): (Params, Allowance),
    run: &RunDir,
    manifest: &ManifestWriter,
    tracker: &mut Option<Tracker>,
    ranks: &Ranks,
    printer: &Printer,
) -> Result<Outcome, Failure> {
    manifest.update(|manifest| manifest.ranks = ranks.hosts().len())?;
    write_inputs(&prepared.blueprint, &prepared.dataset, run)?;
    let start = Restored::fresh(params, prepared.plan.seed);
    prepared.complete(start, allowance, (run, manifest), tracker, ranks, printer)
}

pub(super) fn say_data(dataset: &Dataset, printer: &Printer) {
    let [train, val, test] = Split::ALL.map(|split| dataset.split(split).len());
    let (filled, all) = (dataset.classes_with_pictures(), dataset.classes.len());
    let classes = match all - filled {
        0 => format!("{all} classes"),
        _ => format!("{filled} of {all} classes"),
    };
    let left_out = match dataset.left_out {
        0 => String::new(),
        count => format!("; {count} left out by `max_per_class`"),
    };
    printer.note(format!(
        "data: {classes}, {train} train, {val} val, {test} test pictures{left_out}"
    ));
    if !dataset.issues.is_empty() {
        printer.warning(format!(
            "{} issues in the data, listed in `data_issues.csv`; the first: `{}` {}",
            dataset.issues.len(),
            dataset.issues[0].path,
            dataset.issues[0].reason
        ));
    }
}

/// Whether there is a run in a folder that can go on, as the first rank sees it.
fn has_begun(dir: &Path, ranks: &Ranks) -> bool {
    let look = || RunDir::open(dir).is_ok_and(|run| run.resolved_toml().exists());
    let seen = ranks.from_first(|| vec![u8::from(look())]);
    // Ranks that are lost are missed at the next step.
    seen.is_ok_and(|seen| seen == [1])
}

/// A run directory holds one experiment.
fn check_same(dir: &Path, blueprint: &Blueprint) -> Result<(), Failure> {
    let there = RunDir::open(dir)?.manifest()?.fingerprints.config;
    if there == blueprint.loaded.hash() {
        return Ok(());
    }
    let message = format!("`{}` holds the run of another configuration", dir.display());
    Err(Failure::new(Exit::Config, message).help("give another `--run-dir`"))
}

fn create_run(
    prepared: &Prepared,
    dir: Option<&Path>,
    (device, weights): (String, String),
) -> Result<(RunDir, ManifestWriter), Failure> {
    let Prepared {
        blueprint,
        dataset,
        threads,
        ..
    } = prepared;
    let (loaded, experiment) = (&blueprint.loaded, &blueprint.loaded.experiment);
    let runs = experiment.runs_dir.clone().unwrap_or_else(|| "runs".into());
    let now = jiff::Zoned::now().datetime();
    let run = match dir {
        Some(dir) => RunDir::create_at(dir)?,
        None => RunDir::create(&runs, &experiment.name, &loaded.hash(), now)?,
    };
    let mut manifest = Manifest::begin(device, *threads, experiment.seed);
    manifest.instructions = Some(instructions().into());
    manifest.fingerprints = Fingerprints {
        data: dataset.data_fingerprint.clone(),
        split: dataset.split_fingerprint.clone(),
        weights,
        config: loaded.hash(),
    };
    let manifest = run.start_manifest(manifest)?;
    Ok((run, manifest))
}

/// What the run starts from, and its log.
fn write_inputs(blueprint: &Blueprint, dataset: &Dataset, run: &RunDir) -> Result<(), Failure> {
    logging::log_to(run.open_log()?);
    let origin = &dataset.origin;
    tracing::info!(
        from = origin.from,
        sha256 = origin.sha256,
        commit = origin.commit,
        "pictures"
    );
    let loaded = &blueprint.loaded;
    run.write_config(&loaded.text, &loaded.resolved())?;
    run.write_split(&dataset.split_rows())?;
    Ok(run.write_data_issues(&dataset.issues)?)
}
