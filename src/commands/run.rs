//! `xp run CONFIG`: one experiment, from TOML to a complete run directory.

use super::blueprint::Blueprint;
use super::experiment::Prepared;
use super::outcome::{self, Outcome};
use super::state::Restored;
use super::{Failure, Printer, interrupt, logging, network};
use crate::cli::ConfigArgs;
use crate::data::Dataset;
use crate::engine::params::Params;
use crate::ops::kernel::instructions;
use crate::records::Split;
use crate::run::{Fingerprints, Manifest, ManifestWriter, RunDir};
use crate::train::memory::Allowance;

/// Runs the command.
pub fn run(args: &ConfigArgs, printer: &Printer) -> Result<(), Failure> {
    let blueprint = Blueprint::load(&args.config, &args.sets, printer)?;
    let prepared = Prepared::new(blueprint, printer)?;
    let initial = network::initial(&prepared.blueprint, &prepared.blueprint.device, printer)?;
    let allowance = prepared.allowance(&initial.params, printer)?;
    interrupt::watch()?;
    let (run, manifest) = create_run(&prepared, initial.fingerprint)?;
    printer.note(format!("run directory: {}", run.path().display()));
    say_data(&prepared.dataset, printer);
    if let Some(note) = initial.note {
        printer.note(note);
    }
    let outcome = work(
        &prepared,
        (initial.params, allowance),
        &run,
        &manifest,
        printer,
    );
    outcome::conclude(outcome, &run, manifest, printer)
}

fn work(
    prepared: &Prepared,
    (params, allowance): (Params, Allowance),
    run: &RunDir,
    manifest: &ManifestWriter,
    printer: &Printer,
) -> Result<Outcome, Failure> {
    write_inputs(&prepared.blueprint, &prepared.dataset, run)?;
    let start = Restored::fresh(params, prepared.plan.seed);
    prepared.complete(start, allowance, run, manifest, printer)
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

fn create_run(prepared: &Prepared, weights: String) -> Result<(RunDir, ManifestWriter), Failure> {
    let Prepared {
        blueprint,
        dataset,
        threads,
        ..
    } = prepared;
    let (loaded, experiment) = (&blueprint.loaded, &blueprint.loaded.experiment);
    let runs = experiment.runs_dir.clone().unwrap_or_else(|| "runs".into());
    let now = jiff::Zoned::now().datetime();
    let run = RunDir::create(&runs, &experiment.name, &loaded.hash(), now)?;
    let mut manifest = Manifest::begin("cpu", *threads, experiment.seed);
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
