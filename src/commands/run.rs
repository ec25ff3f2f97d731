//! `xp run CONFIG`: one experiment, from TOML to a complete run directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::blueprint::{self, Blueprint};
use super::progress::Progress;
use super::recorder::Recorder;
use super::{Exit, Failure, Printer, logging, memory, network, results};
use crate::cli::ConfigArgs;
use crate::config::CacheConfig;
use crate::data::{Dataset, Keep, ScanOptions};
use crate::engine::params::Params;
use crate::engine::prefix::Prefix;
use crate::engine::store::FeatureStore;
use crate::ops::kernel::instructions;
use crate::records::{MetricsRow, PredictionRow, Split, TestReport};
use crate::report;
use crate::run::{Fingerprints, Manifest, ManifestWriter, RunDir, Status};
use crate::train::evaluate::{self, Evaluation};
use crate::train::features::{Disk, FeatureBank, Network};
use crate::train::feed::{Feed, Pass};
use crate::train::fit::{self, FitError};
use crate::train::inputs::Inputs;
use crate::train::memory::Allowance;
use crate::train::observer::Observer;
use crate::train::phase::{LossPlan, PhasePlan, Plan, check_batches};
use crate::train::position::Start;
use crate::train::sampler;

/// Runs the command.
pub fn run(args: &ConfigArgs, printer: &Printer) -> Result<(), Failure> {
    let blueprint = Blueprint::load(&args.config, &args.sets, printer)?;
    let threads = blueprint::set_threads(blueprint.loaded.experiment.threads)?;
    let experiment = &blueprint.loaded.experiment;
    let options = ScanOptions {
        keep: Some(Keep {
            preprocess: blueprint.preprocess,
            budget: memory::waiting(experiment),
        }),
        notes: cache_root(&experiment.cache).map(|root| root.join("pictures")),
    };
    let dataset = Dataset::open_with(&experiment.data, experiment.seed, &options)?;
    let plan = plan(&blueprint, &dataset)?;
    let initial = network::initial(&blueprint, &blueprint.device, printer)?;
    let given = memory::given(&blueprint, &dataset, &plan, &initial.params, threads);
    let allowance = memory::within_limit(&blueprint, given, printer)?;
    let (run, manifest) = create_run(&blueprint, &dataset, initial.fingerprint, threads)?;
    printer.note(format!("run directory: {}", run.path().display()));
    say_data(&dataset, printer);
    if let Some(note) = initial.note {
        printer.note(note);
    }

    let outcome = write_inputs(&blueprint, &dataset, &run).and_then(|()| {
        train(
            &blueprint,
            (&plan, allowance),
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
    printer.note(format!(
        "data: {} classes, {train} train, {val} val, {test} test pictures",
        dataset.classes.len()
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

pub(super) fn plan(blueprint: &Blueprint, dataset: &Dataset) -> Result<Plan, Failure> {
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
    let pictures = counts.iter().sum();
    check_batches(graph, &blueprint.phases, &experiment.train, pictures)
        .map_err(|problem| blueprint.problem(problem))?;
    Ok(Plan::new(
        blueprint.phases.clone(),
        loss,
        LossPlan::plain(&experiment.train, outputs),
        &experiment.train,
        experiment.seed,
    ))
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
    let loaded = &blueprint.loaded;
    run.write_config(&loaded.text, &loaded.resolved())?;
    run.write_split(&dataset.split_rows())?;
    Ok(run.write_data_issues(&dataset.issues)?)
}

/// What a finished run says.
struct Outcome {
    best: MetricsRow,
    /// Whether a phase was counted in steps.
    in_steps: bool,
    test: Option<TestReport>,
    /// Of the last checkpoint, where it is not the best one.
    test_last: Option<TestReport>,
    seconds: f64,
}

fn train(
    blueprint: &Blueprint,
    (plan, allowance): (&Plan, Allowance),
    params: Params,
    dataset: &Arc<Dataset>,
    run: &RunDir,
    manifest: &ManifestWriter,
    printer: &Printer,
) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let experiment = &blueprint.loaded.experiment;
    let feed = feed(blueprint, dataset, allowance.pictures);
    let mut recorder = Recorder::new(
        run,
        manifest,
        Progress::new(*printer, plan.epochs()),
        &experiment.name,
    )?;
    let mut bank = bank(blueprint, allowance.features.memory, printer);
    let fitted = fit::fit(
        &blueprint.graph,
        Start::fresh(params, plan.seed),
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
    let mut tester = Tester {
        blueprint,
        plan,
        feed: &feed,
        bank: &mut bank,
        observer: &mut recorder,
    };
    let phase = plan.phases.iter().position(|phase| phase.name == row.phase);
    let phases = &plan.phases[..phase.map_or(plan.phases.len(), |index| index + 1)];
    let test = match tester.test(best, phases)? {
        Some(evaluation) => Some(write_test(blueprint, dataset, &evaluation, run)?),
        None => None,
    };
    let also_last = experiment.train.test_last && !fitted.best_is_last;
    let last = match also_last.then(|| tester.test(&fitted.last, &plan.phases)) {
        Some(evaluation) => evaluation?,
        None => None,
    };
    let test_last = match last {
        Some(evaluation) => Some(write_test_last(dataset, &evaluation, run)?),
        None => None,
    };
    manifest.update(|manifest| {
        manifest.test_accuracy = test.as_ref().map(|test| test.accuracy);
        manifest.test_last_accuracy = test_last.as_ref().map(|test| test.accuracy);
        manifest.timings.insert("train".into(), fitted_in);
        manifest
            .timings
            .insert("test".into(), started.elapsed().as_secs_f64() - fitted_in);
    })?;
    Ok(Outcome {
        best: row.clone(),
        in_steps: plan.epochs().is_none(),
        test,
        test_last,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Folder of what runs keep on disk for others; `None` where they keep nothing.
pub(super) fn cache_root(cache: &CacheConfig) -> Option<PathBuf> {
    let root = || cache.dir.clone().or_else(FeatureStore::default_root);
    (cache.features && cache.disk).then(root)?
}

/// Cached features as the configuration wants them.
fn bank(blueprint: &Blueprint, memory: usize, printer: &Printer) -> FeatureBank {
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
    FeatureBank::new(memory, disk)
}

/// The pictures as training sees them.
fn feed(blueprint: &Blueprint, dataset: &Arc<Dataset>, memory: usize) -> Feed {
    let experiment = &blueprint.loaded.experiment;
    let train = &experiment.train;
    let feed = Feed::new(
        dataset.clone(),
        &blueprint.preprocess,
        experiment.data.augment,
        train.batch_size,
        experiment.seed,
        memory,
    );
    match train.eval_batches {
        None => feed,
        Some(batches) => {
            let labels = feed.classes(Split::Val);
            let count = batches.saturating_mul(train.batch_size);
            let part = sampler::stratified(&labels, count, experiment.seed);
            feed.only(Split::Val, &part)
        }
    }
}

/// Judges weights on the test split.
struct Tester<'a> {
    blueprint: &'a Blueprint,
    plan: &'a Plan,
    feed: &'a Feed,
    bank: &'a mut FeatureBank,
    observer: &'a mut dyn Observer,
}

impl Tester<'_> {
    /// Weights after these phases on the test split, where there is one; from cached features where
    /// layers stayed frozen in all of them.
    fn test(
        &mut self,
        params: &Params,
        phases: &[PhasePlan],
    ) -> Result<Option<Evaluation>, Failure> {
        let (split, feed) = (Split::Test, self.feed);
        if feed.items(split).is_empty() {
            return Ok(None);
        }
        let graph = &self.blueprint.graph;
        let network = Network { graph, params };
        let stored = self
            .bank
            .prepare_test(network, phases, feed, self.observer)
            .map_err(FitError::from)?;
        let inputs = Inputs::open(self.bank, feed, graph, params, &stored, &[split])?;
        let network = Prefix::compile(graph, params, &stored, &[graph.output()])?;
        let order = feed.in_order(split);
        let batches = inputs
            .batches(split, &order, Pass::Once)
            .map_err(FitError::from)?;
        let loss = &self.plan.plain_loss;
        Ok(Some(evaluate::evaluate_batches(
            &network, loss, split, batches,
        )?))
    }
}

fn write_test(
    blueprint: &Blueprint,
    dataset: &Dataset,
    evaluation: &Evaluation,
    run: &RunDir,
) -> Result<TestReport, Failure> {
    let (report, predictions) = judged(dataset, evaluation, "best")?;
    run.write_test(&report)?;
    run.write_predictions(&predictions)?;
    run.write_confusion(&report::confusion(
        &report,
        &blueprint.loaded.experiment.name,
    )?)?;
    Ok(report)
}

fn write_test_last(
    dataset: &Dataset,
    evaluation: &Evaluation,
    run: &RunDir,
) -> Result<TestReport, Failure> {
    let (report, _) = judged(dataset, evaluation, "last")?;
    run.write_test_last(&report)?;
    Ok(report)
}

fn judged(
    dataset: &Dataset,
    evaluation: &Evaluation,
    checkpoint: &str,
) -> Result<(TestReport, Vec<PredictionRow>), Failure> {
    let (report, predictions) = results::report(dataset, Split::Test, checkpoint, evaluation);
    if !report.loss.is_finite() {
        return Err(Failure::new(
            Exit::NonFinite,
            format!("the loss on the test split is {}", report.loss),
        )
        .help("lower the learning rates, or look for broken pictures with `xp data`"));
    }
    Ok((report, predictions))
}

impl Outcome {
    fn print(&self, run: &RunDir, printer: &Printer) {
        let path = run.path().display();
        if printer.json {
            printer.data(
                serde_json::json!({
                    "run": path.to_string(),
                    "best_epoch": self.best.epoch,
                    "best_step": self.best.step,
                    "val_accuracy": self.best.val_accuracy,
                    "val_loss": self.best.val_loss,
                    "test_accuracy": self.test.as_ref().map(|test| test.accuracy),
                    "test_loss": self.test.as_ref().map(|test| test.loss),
                    "test_last_accuracy": self.test_last.as_ref().map(|test| test.accuracy),
                    "test_last_loss": self.test_last.as_ref().map(|test| test.loss),
                    "seconds": self.seconds,
                })
                .to_string(),
            );
            return;
        }
        if let Some(accuracy) = self.best.val_accuracy {
            let at = match self.in_steps {
                true => format!("step {}", self.best.step),
                false => format!("epoch {}", self.best.epoch),
            };
            let percent = 100.0 * accuracy;
            printer.data(format!("best {at}: validation accuracy {percent:.1} %"));
        }
        for test in self.test.iter().chain(&self.test_last) {
            printer.data(results::headline(test));
        }
        printer.note(format!(
            "done in {:.1} s; curves in {path}/curves.png\nnext: xp predict {path} PICTURE...",
            self.seconds
        ));
    }
}
