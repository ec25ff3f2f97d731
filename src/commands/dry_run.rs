//! `xp run --dry-run`: everything that can be wrong and everything that will be done, short of
//! doing it.

use serde_json::{Value, json};

use super::blueprint::{self, Blueprint};
use super::table::Table;
use super::{Failure, Printer, experiment, memory, network, pictures};
use crate::cli::ConfigArgs;
use crate::config::size;
use crate::data::{Dataset, Keep, ScanOptions};
use crate::graph::summary::thousands;
use crate::records::Split;
use crate::train::features::Room;
use crate::train::memory::Estimate;

/// Checks configuration, data, weights and phases, and prints the plan. Leaves no run directory.
pub fn run(args: &ConfigArgs, printer: &Printer) -> Result<(), Failure> {
    let blueprint = Blueprint::load(&args.config, &args.sets, printer)?;
    let experiment = &blueprint.loaded.experiment;
    let threads = blueprint::set_threads(experiment.threads)?;
    let notes = experiment::cache_root(&experiment.cache).map(|root| root.join("pictures"));
    // With notes on all pictures, which this scan leaves, a run decodes none before their first use.
    let keep = notes.is_none().then_some(Keep {
        preprocess: blueprint.preprocess,
        budget: memory::waiting(experiment),
    });
    let options = ScanOptions { keep, notes };
    pictures::bring(&experiment.data, printer)?;
    let dataset = Dataset::preview(&experiment.data, experiment.seed, &options)?;
    let plan = experiment::plan(&blueprint, &dataset)?;
    let initial = network::initial(&blueprint, &blueprint.device, printer)?;
    let given = memory::given(&blueprint, &dataset, &plan, &initial.params, threads);
    let (_, estimate) = memory::fit(&blueprint, given)?;
    let answer = Answer {
        blueprint: &blueprint,
        dataset: &dataset,
        weights: initial
            .note
            .as_deref()
            .unwrap_or("weights: none, all are random"),
        estimate: &estimate,
        threads,
    };
    if printer.json {
        printer.data(format!("{:#}", answer.json(&initial.fingerprint)));
    } else {
        for line in answer.lines(printer.width()) {
            printer.data(line);
        }
    }
    Ok(())
}

struct Answer<'a> {
    blueprint: &'a Blueprint,
    dataset: &'a Dataset,
    weights: &'a str,
    estimate: &'a Estimate,
    threads: usize,
}

impl Answer<'_> {
    fn pictures(&self) -> [usize; 3] {
        Split::ALL.map(|split| self.dataset.split(split).len())
    }

    fn lines(&self, width: Option<usize>) -> Vec<String> {
        let experiment = &self.blueprint.loaded.experiment;
        let [train, val, test] = self.pictures();
        let mut lines = vec![
            format!("{}: nothing is wrong", experiment.name),
            format!(
                "data: {} classes, {train} train, {val} val, {test} test pictures",
                self.dataset.classes.len()
            ),
            self.weights.to_owned(),
            String::new(),
        ];
        let mut plan = Table::new(&["phase", ">epochs", ">steps", ">trainable", "starts from"]);
        for memory in &self.estimate.phases {
            let from = memory.from.join(", ");
            plan.row([
                memory.phase.clone(),
                memory.epochs.to_string(),
                memory.steps.to_string(),
                thousands(memory.trainable),
                match memory.cached {
                    true => format!("{from} (cached)"),
                    false => from,
                },
            ]);
        }
        lines.extend(plan.lines(width));
        lines.push(String::new());
        let header = [
            "memory",
            ">weights",
            ">optimizer",
            ">step",
            ">features",
            ">pictures",
            ">in all",
        ];
        let mut table = Table::new(&header);
        for it in &self.estimate.phases {
            let bytes = [
                it.parameters,
                it.optimizer,
                it.step,
                it.features,
                it.pictures,
                it.total,
            ];
            let bytes = bytes.map(|bytes| size::show(bytes as u64));
            table.row([it.phase.clone()].into_iter().chain(bytes));
        }
        lines.extend(table.lines(width));
        lines.push(String::new());
        lines.push(self.peak());
        if let Some(disk) = self.disk() {
            lines.push(disk);
        }
        lines
    }

    /// `at most 310 MB on 2 threads, of 22.4 GB that are free`
    fn peak(&self) -> String {
        let threads = match self.threads {
            1 => "1 thread".to_owned(),
            threads => format!("{threads} threads"),
        };
        let peak = self.estimate.peak as u64;
        let mut line = format!("about {} at most, on {threads}", size::show(peak));
        let experiment = &self.blueprint.loaded.experiment;
        if let Some(limit) = memory::limit(experiment) {
            line += &format!("; `memory_limit` is {}", size::show(limit as u64));
        }
        match memory::available() {
            Some(free) if free < peak => {
                line += &format!(": more than the {} that are free", size::show(free));
            }
            Some(free) => line += &format!("; {} are free", size::show(free)),
            None => {}
        }
        line
    }

    fn disk(&self) -> Option<String> {
        let root = experiment::cache_root(&self.blueprint.loaded.experiment.cache)?;
        let bytes = size::show(self.estimate.disk);
        Some(format!(
            "features on disk: {bytes} at most, in `{}`",
            root.display()
        ))
    }

    fn json(&self, weights: &str) -> Value {
        let experiment = &self.blueprint.loaded.experiment;
        let [train, val, test] = self.pictures();
        let phases = &self.estimate.phases;
        let Room { memory, disk } = memory::allowance(experiment).features;
        json!({
            "name": experiment.name,
            "hash": self.blueprint.loaded.hash(),
            "classes": self.dataset.classes,
            "pictures": { "train": train, "val": val, "test": test },
            "issues": self.dataset.issues.len(),
            "fingerprints": {
                "data": self.dataset.data_fingerprint,
                "split": self.dataset.split_fingerprint,
                "weights": weights,
            },
            "phases": phases,
            "threads": self.threads,
            "memory": {
                "peak": self.estimate.peak,
                "limit": memory::limit(experiment),
                "available": memory::available(),
                "features_allowed": memory,
            },
            "disk": { "features": self.estimate.disk, "features_allowed": disk },
        })
    }
}
