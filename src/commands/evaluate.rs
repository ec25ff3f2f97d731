//! `xp evaluate RUN`: a trained model on a split of its data, or on other pictures.

use std::sync::Arc;

use super::restored::Restored;
use super::{Exit, Failure, Printer, changes, pictures, results};
use crate::cli::EvaluateArgs;
use crate::config::AugmentConfig;
use crate::data::{self, Dataset, ScanOptions};
use crate::records::{Split, TestReport};
use crate::run::{RunDir, RunError};
use crate::train::evaluate;
use crate::train::feed::Feed;
use crate::train::phase::LossPlan;

/// Runs the command.
pub fn run(args: &EvaluateArgs, printer: &Printer) -> Result<(), Failure> {
    let model = Restored::open_checkpoint(&args.model, &args.checkpoint)?;
    let split = Split::ALL
        .into_iter()
        .find(|split| split.name() == args.split)
        .unwrap_or(Split::Test);
    let (dataset, split) = open_data(args, &model, split, printer)?;
    let plan = LossPlan::plain(&model.experiment.train, model.outputs);
    let feed = Feed::new(
        Arc::new(dataset),
        &model.preprocess,
        AugmentConfig::default(),
        model.experiment.train.batch_size,
        model.experiment.seed,
        0,
    );
    let evaluation = evaluate::evaluate(&model.network()?, &plan, &feed, split)?;
    let (report, _) = results::report(feed.dataset(), split, &args.checkpoint, &evaluation);
    print(&report, printer)
}

/// The data to judge on: the run's own, or a folder of class folders, all of it.
fn open_data(
    args: &EvaluateArgs,
    model: &Restored,
    split: Split,
    printer: &Printer,
) -> Result<(Dataset, Split), Failure> {
    let data = &model.experiment.data;
    let Some(root) = &args.data else {
        return Ok((own_data(args, model, split, printer)?, split));
    };
    let dataset = Dataset::labelled(root, &model.classes, data.on_corrupt)?;
    if let Some(first) = dataset.issues.first() {
        printer.warning(format!(
            "{} files left out; the first: `{}` {}",
            dataset.issues.len(),
            first.path,
            first.reason
        ));
    }
    Ok((dataset, Split::Test))
}

/// The data that the model's configuration names, as it is today.
fn own_data(
    args: &EvaluateArgs,
    model: &Restored,
    split: Split,
    printer: &Printer,
) -> Result<Dataset, Failure> {
    let experiment = &model.experiment;
    pictures::bring(&experiment.data, printer)?;
    let options = ScanOptions::default();
    let dataset = Dataset::preview(&experiment.data, experiment.seed, &options)?;
    if args.model.is_dir() {
        let run = RunDir::open(&args.model)?;
        let warning = warning(&run, &dataset).unwrap_or_else(|error| {
            Some(format!(
                "cannot tell whether the data is still what the run saw: {error}"
            ))
        });
        if let Some(warning) = warning {
            printer.warning(warning);
        }
    }
    let elsewhere = "evaluate on a folder of class folders with `--data`";
    if dataset.classes != model.classes {
        let others = |all: &[String], known: &[String]| -> Vec<String> {
            let others = all.iter().filter(|class| !known.contains(class));
            others.cloned().collect()
        };
        let what = match [
            others(&dataset.classes, &model.classes),
            others(&model.classes, &dataset.classes),
        ] {
            [new, gone] if new.is_empty() && gone.is_empty() => "in another order".into(),
            [new, gone] => format!("{} new, {} gone", data::shown(&new), data::shown(&gone)),
        };
        let message = format!("the data has other classes than the model: {what}");
        return Err(Failure::new(Exit::Data, message).help(elsewhere));
    }
    if dataset.split(split).is_empty() {
        return Err(Failure::new(
            Exit::Data,
            format!("the data of this model has no {} split", split.name()),
        )
        .help(format!("choose another with `--split`, or {elsewhere}")));
    }
    Ok(dataset)
}

/// What is different about the data since the run; `None` if nothing is.
fn warning(run: &RunDir, dataset: &Dataset) -> Result<Option<String>, RunError> {
    let then = run.manifest()?.fingerprints;
    if (&then.data, &then.split) == (&dataset.data_fingerprint, &dataset.split_fingerprint) {
        return Ok(None);
    }
    let what = changes::since(run, dataset)?;
    Ok(Some(format!(
        "the data is not what the run saw: of its pictures, {what}; pictures that the model was \
         trained on may now count as its test"
    )))
}

fn print(report: &TestReport, printer: &Printer) -> Result<(), Failure> {
    if printer.json {
        let json =
            serde_json::to_string(report).map_err(|error| Failure::new(Exit::Other, error))?;
        printer.data(json);
        return Ok(());
    }
    printer.data(results::headline(report));
    let width = report
        .per_class
        .iter()
        .map(|c| c.class.chars().count())
        .max()
        .unwrap_or(0)
        .max(5);
    printer.data(format!(
        "{:width$}  precision  recall     f1  pictures",
        "class"
    ));
    for class in &report.per_class {
        printer.data(format!(
            "{:width$}  {:9.3}  {:6.3}  {:5.3}  {:8}",
            results::one_line(&class.class),
            class.precision,
            class.recall,
            class.f1,
            class.support
        ));
    }
    Ok(())
}
