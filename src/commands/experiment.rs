//! The part that `xp run` and `xp resume` share: from a configuration's pictures to a trained and
//! tested network.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::blueprint::{self, Blueprint};
use super::outcome::Outcome;
use super::progress::Progress;
use super::recorder::{Recorder, Target};
use super::state::Restored;
use super::testing::{self, Tester};
use super::tracker::Tracker;
use super::{Failure, Printer, device, memory, network, pictures, ranks};
use crate::config::CacheConfig;
use crate::data::{Dataset, Keep, ScanOptions};
use crate::engine::params::Params;
use crate::engine::store::FeatureStore;
use crate::gpu::Gpu;
use crate::ranks::Ranks;
use crate::records::Split;
use crate::run::{ManifestWriter, RunDir};
use crate::train::features::{Disk, FeatureBank};
use crate::train::feed::Feed;
use crate::train::fit::{self, FitError, Fitted};
use crate::train::memory::Allowance;
use crate::train::phase::{LossPlan, PhasePlan, Plan, check_batches};
use crate::train::sampler;

/// An experiment before its run directory is touched.
#[derive(Debug)]
pub struct Prepared {
    /// The configuration and its network.
    pub blueprint: Blueprint,
    /// The GPU that computes, if one does.
    pub gpu: Option<Gpu>,
    /// Threads that compute.
    pub threads: usize,
    /// The pictures.
    pub dataset: Arc<Dataset>,
    /// The phases.
    pub plan: Plan,
    /// The epoch after which training stops as if interrupted.
    pub until_epoch: Option<usize>,
}

impl Prepared {
    /// Brings and scans the pictures and plans the phases.
    pub fn new(blueprint: Blueprint, ranks: &Ranks, printer: &Printer) -> Result<Self, Failure> {
        let experiment = &blueprint.loaded.experiment;
        let threads = blueprint::set_threads(ranks::threads(experiment.threads, ranks))?;
        let gpu = device::open(experiment, ranks, printer)
            .map_err(|problem| blueprint.problem(problem))?;
        let options = ScanOptions {
            keep: Some(Keep {
                preprocess: blueprint.preprocess,
                budget: memory::waiting(experiment),
            }),
            notes: cache_root(&experiment.cache).map(|root| root.join("pictures")),
        };
        in_turn(ranks, || pictures::bring(&experiment.data, printer))?;
        let dataset = Dataset::open_with(&experiment.data, experiment.seed, &options)?;
        let plan = plan(&blueprint, &dataset)?;
        Ok(Self {
            blueprint,
            gpu,
            threads,
            dataset: Arc::new(dataset),
            plan,
            until_epoch: None,
        })
    }

    /// What `memory_limit` leaves for features, decoded pictures and a step.
    ///
    /// # Errors
    /// If the run does not fit into the limit.
    pub fn allowance(&self, params: &Params, printer: &Printer) -> Result<Allowance, Failure> {
        let (blueprint, dataset, plan) = (&self.blueprint, &self.dataset, &self.plan);
        let given = memory::given(blueprint, dataset, plan, params, self.threads);
        memory::within_limit(blueprint, given, printer)
    }

    /// The plan within what memory allows.
    pub(super) fn plan_within(&self, allowance: Allowance) -> Plan {
        Plan {
            micro_batch: Some(allowance.micro_batch),
            ..self.plan.clone()
        }
    }

    /// The phases behind the best weights, from whose features they are tested, and whether the last
    /// weights are tested, too.
    pub(super) fn tested<'a>(&self, plan: &'a Plan, fitted: &Fitted) -> (&'a [PhasePlan], bool) {
        let train = &self.blueprint.loaded.experiment.train;
        let also_last = train.test_last && !fitted.best_is_last;
        let mut phases = plan.phases.iter();
        let phases = match phases.position(|phase| phase.name == fitted.best.1.phase) {
            Some(index) if !also_last => &plan.phases[..=index],
            // Features from which both weights can be tested.
            _ => &plan.phases,
        };
        (phases, also_last)
    }

    /// Trains from where `restored` stands, tests, and leaves a complete run directory; `tracker` gets
    /// who else is told.
    pub fn complete(
        &self,
        restored: Restored,
        allowance: Allowance,
        (run, manifest): (&RunDir, &ManifestWriter),
        tracker: &mut Option<Tracker>,
        ranks: &Ranks,
        printer: &Printer,
    ) -> Result<Outcome, Failure> {
        let started = Instant::now();
        let (blueprint, dataset) = (&self.blueprint, &self.dataset);
        let plan = &self.plan_within(allowance);
        manifest.update(|manifest| manifest.micro_batch = Some(allowance.micro_batch))?;
        let experiment = &blueprint.loaded.experiment;
        *tracker = Tracker::new(run, &experiment.tracking)?;
        let feed = feed(blueprint, dataset, allowance.pictures).with_waiting(allowance.waiting);
        let [part, all] = [
            feed.items(Split::Val).len(),
            dataset.split(Split::Val).len(),
        ];
        if part < all {
            printer.note(format!("validation on {part} of {all} pictures"));
        }
        let mut recorder = Recorder::new(
            Target {
                run,
                manifest,
                title: &experiment.name,
                every: experiment.checkpoint.every,
                until_epoch: self.until_epoch,
                tracker: tracker.as_ref(),
            },
            Progress::new(*printer, plan.epochs()),
            restored.rows,
            restored.best,
        )?;
        let mut bank = bank(blueprint, allowance.features.memory, ranks, printer);
        let fitted = fit::fit(
            &blueprint.graph,
            restored.start.on(self.gpu.as_ref()),
            plan,
            &feed,
            &mut bank,
            &mut recorder,
        );
        let kept = recorder.keep_pending();
        let drawn = recorder.draw_curves();
        let fitted = fitted?;
        kept.and(drawn).map_err(FitError::from)?;
        recorder.trained();
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
        let (phases, also_last) = self.tested(plan, &fitted);
        let test = match tester.test(best, phases)? {
            Some(evaluation) => Some(testing::write_best(blueprint, dataset, &evaluation, run)?),
            None => None,
        };
        let last = match also_last.then(|| tester.test(&fitted.last, &plan.phases)) {
            Some(evaluation) => evaluation?,
            None => None,
        };
        let test_last = match last {
            Some(evaluation) => Some(testing::write_last(dataset, &evaluation, run)?),
            None => None,
        };
        manifest.update(|manifest| {
            manifest.test_accuracy = test.as_ref().map(|test| test.accuracy);
            manifest.test_last_accuracy = test_last.as_ref().map(|test| test.accuracy);
        })?;
        manifest.add_seconds("train", fitted_in)?;
        manifest.add_seconds("recording", recorder.took().as_secs_f64())?;
        manifest.add_seconds("test", started.elapsed().as_secs_f64() - fitted_in)?;
        Ok(Outcome {
            best: row.clone(),
            in_steps: plan.epochs().is_none(),
            test,
            test_last,
            seconds: started.elapsed().as_secs_f64(),
        })
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

/// Folder of what runs keep on disk for others; `None` where they keep nothing.
pub(super) fn cache_root(cache: &CacheConfig) -> Option<PathBuf> {
    let root = || cache.dir.clone().or_else(FeatureStore::default_root);
    (cache.features && cache.disk).then(root)?
}

/// Cached features as the configuration wants them.
pub(super) fn bank(
    blueprint: &Blueprint,
    memory: usize,
    ranks: &Ranks,
    printer: &Printer,
) -> FeatureBank {
    let cache = &blueprint.loaded.experiment.cache;
    if !cache.features {
        return FeatureBank::new(0, None).of_ranks(ranks);
    }
    if !ranks.is_first() {
        return FeatureBank::new(memory, None).of_ranks(ranks);
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
    FeatureBank::new(memory, disk).of_ranks(ranks)
}

/// What fetches files is done by the first rank first, so that others on its machine find them there.
pub(super) fn in_turn<T>(
    ranks: &Ranks,
    fetch: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    if ranks.is_first() {
        let fetched = fetch()?;
        ranks.gather(Vec::new())?;
        return Ok(fetched);
    }
    ranks.gather(Vec::new())?;
    fetch()
}

/// The pictures as training sees them.
pub(super) fn feed(blueprint: &Blueprint, dataset: &Arc<Dataset>, memory: usize) -> Feed {
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
