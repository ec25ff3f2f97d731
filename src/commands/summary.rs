//! `xp summary`: the layers of a configuration's network, or of a backbone.

use std::path::Path;

use super::{Exit, Failure, Printer};
use crate::cli::SummaryArgs;
use crate::config::{self, Experiment, Flavour, Problem};
use crate::graph::summary::Summary;
use crate::graph::{Graph, GraphError};
use crate::train::phase::plan_phases;
use crate::weights;
use crate::zoo::registry;

/// Prints the table, or JSON.
pub fn run(args: &SummaryArgs, printer: &Printer) -> Result<(), Failure> {
    let flavour = args.flavour.as_deref();
    let summary = if names_a_file(&args.target) {
        if flavour.is_some() {
            let message = "`--flavour` goes with the name of a backbone, not with a file";
            let help = "set the file's own: `--set model.flavour=tf`";
            return Err(Failure::new(Exit::Config, message).help(help));
        }
        of_config(Path::new(&args.target), &args.sets)?
    } else {
        of_backbone(&args.target, named(flavour)).map_err(|error| Failure::from(error.0))?
    };
    if printer.json {
        let json = serde_json::to_string_pretty(&summary)
            .map_err(|error| Failure::new(Exit::Other, error))?;
        printer.data(json);
    } else {
        printer.data(summary.text().trim_end());
    }
    Ok(())
}

fn names_a_file(target: &str) -> bool {
    let path = Path::new(target);
    path.exists() || path.extension().is_some() || path.components().count() > 1
}

fn of_config(path: &Path, sets: &[String]) -> Result<Summary, Failure> {
    let loaded = config::load(path, sets)?;
    of_experiment(&loaded.experiment).map_err(|problems| loaded.report(&problems).into())
}

/// The layers of an experiment's network; weights need not be at hand.
pub(super) fn of_experiment(experiment: &Experiment) -> Result<Summary, Vec<Problem>> {
    let model = &experiment.model;
    let family = registry::find(&model.backbone).map_err(|problem| vec![problem])?;
    let size = experiment
        .data
        .image_size
        .map_or([family.default_size; 2], |size| size.height_width());
    let graph = Graph::build(model, size, flavour(experiment)).map_err(|error| vec![error.0])?;
    // What batch norm does in a phase changes nothing here, so neither does where weights come from.
    let plans = plan_phases(&graph, &experiment.phase, true)?;
    let (phases, rates): (Vec<_>, Vec<_>) = plans
        .into_iter()
        .map(|plan| ((plan.name, plan.trainable), plan.rates))
        .unzip();
    Ok(Summary::new(&graph, &phases).with_rates(&graph, &rates))
}

/// The table needs no weights, so weights that are not at hand are no obstacle.
fn flavour(experiment: &Experiment) -> Flavour {
    let model = &experiment.model;
    model
        .flavour
        .or_else(|| weights::flavour_of(model.weights.as_deref()?).ok())
        .unwrap_or(Flavour::Torch)
}

/// A backbone's layers bear Keras' names, so its table is Keras' unless asked otherwise.
fn named(flavour: Option<&str>) -> Flavour {
    match flavour {
        Some("torch") => Flavour::Torch,
        _ => Flavour::Tf,
    }
}

fn of_backbone(name: &str, flavour: Flavour) -> Result<Summary, GraphError> {
    let family = registry::find(name).map_err(GraphError)?;
    let size = [family.default_size; 2];
    let graph = Graph::build_backbone(name, 1.0, size, flavour)?;
    Ok(Summary::new(&graph, &[]))
}
