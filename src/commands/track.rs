//! `xp track RUN...`: runs that are over, in formats that other programs read.

use std::path::{Path, PathBuf};

use super::card::Gathered;
use super::{Exit, Failure, Printer, tracked};
use crate::cli::TrackArgs;
use crate::config::TrackingConfig;
use crate::fsx;
use crate::run::{Condition, EventsWriter, Manifest, RunDir, list};
use crate::tracking::mlflow::Mlflow;
use crate::tracking::{Story, points, tensorboard};

/// Runs the command.
pub fn run(args: &TrackArgs, printer: &Printer) -> Result<(), Failure> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for folder in &args.runs {
        let listed = list::list(folder).map_err(|error| Failure {
            exit: Exit::Config,
            ..error.into()
        })?;
        if listed.is_empty() {
            let message = format!("there are no runs in `{}`", folder.display());
            return Err(Failure::new(Exit::Config, message));
        }
        // Oldest first, as they would have come.
        paths.extend(listed.into_iter().rev().map(|listed| listed.run));
    }
    let mut told = Vec::new();
    let mut failed = 0;
    for path in &paths {
        match track(path, args, printer) {
            Ok(places) => {
                if !printer.json {
                    let places = places.join(", ");
                    printer.data(format!("{} -> {places}", path.display()));
                }
                told.push(serde_json::json!({ "run": path, "places": places }));
            }
            Err(failure) if paths.len() == 1 => return Err(failure),
            Err(failure) => {
                printer.warning(format!("`{}`: {}", path.display(), failure.message));
                failed += 1;
            }
        }
    }
    if printer.json {
        printer.data(serde_json::json!({ "runs": told }).to_string());
    }
    match failed {
        0 => Ok(()),
        _ => {
            let message = format!("{failed} of {} runs could not be told of", paths.len());
            Err(Failure::new(Exit::Other, message))
        }
    }
}

/// Tells of one run, and says where.
fn track(path: &Path, args: &TrackArgs, printer: &Printer) -> Result<Vec<String>, Failure> {
    let run = RunDir::open(path)?;
    let manifest = run.manifest()?;
    if RunDir::is_held(path) || Condition::of(&manifest) == Condition::Running {
        let message = format!("`{}` is at work, and tells of itself", path.display());
        return Err(Failure::new(Exit::Other, message).help("wait until it is over"));
    }
    let gathered = Gathered::of(&run);
    let own = gathered.config.get("tracking").cloned().unwrap_or_default();
    let own: TrackingConfig = serde_json::from_value(own).unwrap_or_default();
    let asked = args.tensorboard.is_some() || args.mlflow.is_some();
    let mlflow = match asked {
        true => args.mlflow.as_ref(),
        false => own.mlflow.as_ref(),
    };
    let beside = !asked && own.tensorboard;
    if mlflow.is_none() && args.tensorboard.is_none() && !beside {
        let message = format!("`{}` says nothing of who is to be told", path.display());
        let help = "give `--tensorboard DIR` or `--mlflow URL`; `[tracking]` of a configuration says it for good";
        return Err(Failure::new(Exit::Config, message).help(help));
    }
    let experiment = args.experiment.as_ref().or(own.experiment.as_ref());
    let story = tracked::story(&run, &manifest, experiment.map(String::as_str));
    let mut places = Vec::new();
    if beside || args.tensorboard.is_some() {
        let file = event_file(&run, &gathered, &manifest, &story);
        let host = &manifest.process.host;
        let events = match &args.tensorboard {
            // Runs of the same name elsewhere have folders of their own.
            Some(folder) => {
                let name = format!("{}-{}", story.name, &story.id[..6]);
                EventsWriter::create(&folder.join(name), host, &file)?
            }
            None => RunDir::open_to_write(path)?.start_events(host, &file)?,
        };
        places.push(events.path().display().to_string());
    }
    if let Some(mlflow) = mlflow {
        let mut ending = tracked::ending(&run, &gathered, &manifest);
        if args.model {
            let model = fsx::read(&run.model_safetensors())?;
            ending.files.push(("model.safetensors".into(), model));
        }
        let points = points(&gathered.rows, story.started);
        let mut told = Mlflow::new(mlflow, tracked::authorization());
        told.tell(&story, &points, Some(&ending))
            .map_err(|reason| {
                Failure::new(Exit::Other, format!("MLflow (`{mlflow}`): {reason}"))
                    .help("give the same command again: nothing is told twice")
            })?;
        if let Some(left_out) = told.left_out() {
            printer.warning(format!("MLflow (`{mlflow}`): {left_out}"));
        }
        places.push(mlflow.clone());
    }
    Ok(places)
}

/// The whole event file.
fn event_file(run: &RunDir, gathered: &Gathered, manifest: &Manifest, story: &Story) -> Vec<u8> {
    let points = points(&gathered.rows, story.started);
    let mut file = tensorboard::head(story);
    file.extend(points.iter().flat_map(tensorboard::point));
    let ending = tracked::ending(run, gathered, manifest);
    let step = points.last().map_or(0, |point| point.step);
    file.extend(tensorboard::ending(&ending, step));
    file
}
