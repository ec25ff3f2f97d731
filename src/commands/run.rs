//! `xp run CONFIG`: one experiment, from TOML to a complete run directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::blueprint::{self, Blueprint};
use super::progress::Progress;
use super::recorder::Recorder;
use super::{Exit, Failure, Printer, logging, network, pictures, results};
use crate::cli::ConfigArgs;
use crate::config::CacheConfig;
use crate::data::{Dataset, Keep, ScanOptions};
use crate::engine::params::Params;
use crate::engine::prefix::Prefix;
use crate::engine::store::FeatureStore;
use crate::records::{MetricsRow, Split, TestReport};
use crate::report;
use crate::run::{Fingerprints, Manifest, ManifestWriter, RunDir, Status};
use crate::train::evaluate::{self, Evaluation};
use crate::train::features::{Disk, FeatureBank, Network};
use crate::train::feed::{Feed, Pass};
use crate::train::fit::{self, FitError, Fitted};
use crate::train::inputs::Inputs;
use crate::train::observer::Observer;
use crate::train::phase::{LossPlan, Plan, check_batch_size};

/// Most bytes of decoded pictures that wait between the scan and their first use.
const KEPT: usize = 128 << 20;

/// Runs the command.
pub fn run(args: &ConfigArgs, printer: &Printer) -> Result<(), Failure> {
    let blueprint = Blueprint::load(&args.config, &args.sets, printer)?;
    let threads = blueprint::set_threads(blueprint.loaded.experiment.threads)?;
    let experiment = &blueprint.loaded.experiment;
    let options = ScanOptions {
        keep: Some(Keep {
            preprocess: blueprint.preprocess,
            budget: KEPT,
        }),
        notes: cache_root(&experiment.cache).map(|root| root.join("pictures")),
    };
    pictures::bring(&experiment.data, printer)?;
    let dataset = Dataset::open_with(&experiment.data, experiment.seed, &options)?;
    let plan = plan(&blueprint, &dataset)?;
    let initial = network::initial(&blueprint, &blueprint.device, printer)?;
    let (run, manifest) = create_run(&blueprint, &dataset, initial.fingerprint, threads)?;
    printer.note(format!("run directory: {}", run.path().display()));
    say_data(&dataset, printer);
    if let Some(note) = initial.note {
        printer.note(note);
    }

    let outcome = write_inputs(&blueprint, &dataset, &run).and_then(|()| {
        train(
            &blueprint,
            &plan,
            initial.params,
            &Arc::new(dataset),
            &run,
            &manifest,
            printer,
        )
    });
    // Whatever happened is in the manifest before the process ends.
    match outcome {
        Ok(outcome) => {
            manifest.end(Status::Done, None)?;
            outcome.print(&run, printer);
            Ok(())
        }
        Err(failure) => {
            // What it failed of matters more than that this cannot be written down.
            if let Err(error) = manifest.end(Status::Failed, Some(failure.message.clone())) {
                printer.warning(error.to_string());
            }
            printer.note(format!("`{}` keeps what was done", run.path().display()));
            Err(failure)
        }
    }
}

fn say_data(dataset: &Dataset, printer: &Printer) {
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

fn plan(blueprint: &Blueprint, dataset: &Dataset) -> Result<Plan, Failure> {
    let experiment = &blueprint.loaded.experiment;
    let graph = &blueprint.graph;
    let outputs = graph.nodes()[graph.output()].shape.elements();
    let mut counts = vec![0; dataset.classes.len()];
    for item in dataset.split(Split::Train) {
        counts[dataset.items[item].label] += 1;
    }
    let loss = LossPlan::new(&experiment.train, outputs, &dataset.classes, &counts)
        .map_err(|problem| blueprint.problem(problem))?
        .with_auxiliary(experiment.model.auxiliary);
    check_batch_size(graph, &blueprint.phases, experiment.train.batch_size)
        .map_err(|problem| blueprint.problem(problem))?;
    Ok(Plan {
        phases: blueprint.phases.clone(),
        loss,
        plain_loss: LossPlan::plain(&experiment.train, outputs),
        batch_size: experiment.train.batch_size,
        evaluate_first: experiment.train.evaluate_first,
        early_stopping: experiment.train.early_stopping.clone(),
        best: experiment.train.best,
        seed: experiment.seed,
    })
}

fn create_run(
    blueprint: &Blueprint,
    dataset: &Dataset,
    weights: String,
    threads: usize,
) -> Result<(RunDir, ManifestWriter), Failure> {
    let (loaded, experiment) = (&blueprint.loaded, &blueprint.loaded.experiment);
    let runs = experiment.runs_dir.clone().unwrap_or_else(|| "runs".into());
    let now = jiff::Zoned::now().datetime();
    let run = RunDir::create(&runs, &experiment.name, &loaded.hash(), now)?;
    let mut manifest = Manifest::begin("cpu", threads, experiment.seed);
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

/// What a finished run says.
struct Outcome {
    best: MetricsRow,
    test: Option<TestReport>,
    seconds: f64,
}

fn train(
    blueprint: &Blueprint,
    plan: &Plan,
    params: Params,
    dataset: &Arc<Dataset>,
    run: &RunDir,
    manifest: &ManifestWriter,
    printer: &Printer,
) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let experiment = &blueprint.loaded.experiment;
    let feed = Feed::new(
        dataset.clone(),
        &blueprint.preprocess,
        experiment.data.augment,
        experiment.train.batch_size,
        experiment.seed,
        experiment.cache.memory_bytes(),
    );
    let epochs = plan.phases.iter().map(|phase| phase.epochs).sum();
    let mut recorder = Recorder::new(
        run,
        manifest,
        Progress::new(*printer, epochs),
        &experiment.name,
    )?;
    let mut bank = bank(blueprint, printer);
    let fitted = fit::fit(
        &blueprint.graph,
        params,
        plan,
        &feed,
        &mut bank,
        &mut recorder,
    );
    let drawn = recorder.draw_curves();
    let fitted = fitted?;
    drawn.map_err(FitError::from)?;
    let (best, row) = &fitted.best;
    run.write_model(&network::model_file(blueprint, best, &dataset.classes)?)?;
    let fitted_in = started.elapsed().as_secs_f64();
    let evaluation = evaluate_test(blueprint, plan, &fitted, &feed, &mut bank, &mut recorder)?;
    let test = match evaluation {
        Some(evaluation) => Some(write_test(blueprint, dataset, &evaluation, run)?),
        None => None,
    };
    manifest.update(|manifest| {
        manifest.test_accuracy = test.as_ref().map(|test| test.accuracy);
        manifest.timings.insert("train".into(), fitted_in);
        manifest
            .timings
            .insert("test".into(), started.elapsed().as_secs_f64() - fitted_in);
    })?;
    Ok(Outcome {
        best: row.clone(),
        test,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Folder of what runs keep on disk for others; `None` where they keep nothing.
fn cache_root(cache: &CacheConfig) -> Option<PathBuf> {
    let root = || cache.dir.clone().or_else(FeatureStore::default_root);
    (cache.features && cache.disk).then(root)?
}

/// Cached features as the configuration wants them.
fn bank(blueprint: &Blueprint, printer: &Printer) -> FeatureBank {
    let cache = &blueprint.loaded.experiment.cache;
    if !cache.features {
        return FeatureBank::new(0, None);
    }
    let root = cache_root(cache);
    if cache.disk && root.is_none() {
        printer
            .warning("features are not kept on disk: there is no home directory; set `cache.dir`");
    }
    let disk = root.map(|root| Disk {
        store: FeatureStore::new(root, cache.max_bytes()),
        backbone: blueprint.family.name.into(),
    });
    FeatureBank::new(cache.memory_bytes(), disk)
}

/// The best checkpoint on the test split, where there is one; from cached features where layers
/// stayed frozen up to its epoch.
fn evaluate_test(
    blueprint: &Blueprint,
    plan: &Plan,
    fitted: &Fitted,
    feed: &Feed,
    bank: &mut FeatureBank,
    observer: &mut dyn Observer,
) -> Result<Option<Evaluation>, Failure> {
    let split = Split::Test;
    if feed.items(split).is_empty() {
        return Ok(None);
    }
    let graph = &blueprint.graph;
    let (params, row) = &fitted.best;
    let phase = plan.phases.iter().position(|phase| phase.name == row.phase);
    let trained = &plan.phases[..phase.map_or(plan.phases.len(), |index| index + 1)];
    let network = Network { graph, params };
    let stored = bank
        .prepare_test(network, trained, feed, observer)
        .map_err(FitError::from)?;
    let inputs = Inputs::open(bank, feed, graph, params, &stored, &[split])?;
    let network = Prefix::compile(graph, params, &stored, &[graph.output()])?;
    let order = feed.in_order(split);
    let batches = inputs
        .batches(split, &order, Pass::Once)
        .map_err(FitError::from)?;
    let evaluation = evaluate::evaluate_batches(&network, &plan.plain_loss, split, batches)?;
    Ok(Some(evaluation))
}

fn write_test(
    blueprint: &Blueprint,
    dataset: &Dataset,
    evaluation: &Evaluation,
    run: &RunDir,
) -> Result<TestReport, Failure> {
    let (report, predictions) = results::report(dataset, Split::Test, evaluation);
    if !report.loss.is_finite() {
        return Err(Failure::new(
            Exit::NonFinite,
            format!("the loss on the test split is {}", report.loss),
        )
        .help("lower the learning rates, or look for broken pictures with `xp data`"));
    }
    run.write_test(&report)?;
    run.write_predictions(&predictions)?;
    run.write_confusion(&report::confusion(
        &report,
        &blueprint.loaded.experiment.name,
    )?)?;
    Ok(report)
}

impl Outcome {
    fn print(&self, run: &RunDir, printer: &Printer) {
        let path = run.path().display();
        if printer.json {
            printer.data(
                serde_json::json!({
                    "run": path.to_string(),
                    "best_epoch": self.best.epoch,
                    "val_accuracy": self.best.val_accuracy,
                    "val_loss": self.best.val_loss,
                    "test_accuracy": self.test.as_ref().map(|test| test.accuracy),
                    "test_loss": self.test.as_ref().map(|test| test.loss),
                    "seconds": self.seconds,
                })
                .to_string(),
            );
            return;
        }
        if let Some(accuracy) = self.best.val_accuracy {
            printer.data(format!(
                "best epoch {}: validation accuracy {:.1} %",
                self.best.epoch,
                100.0 * accuracy
            ));
        }
        if let Some(test) = &self.test {
            printer.data(results::headline(test));
        }
        printer.note(format!(
            "done in {:.1} s; curves in {path}/curves.png\nnext: xp predict {path} PICTURE...",
            self.seconds
        ));
    }
}
