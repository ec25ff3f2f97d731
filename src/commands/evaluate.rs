//! `xp evaluate RUN`: a trained model on a split of its data, or on other pictures.

use std::sync::Arc;

use super::restored::Restored;
use super::{Exit, Failure, Printer, results};
use crate::cli::EvaluateArgs;
use crate::config::{AugmentConfig, DataConfig, SplitBy, SplitConfig};
use crate::data::Dataset;
use crate::records::{Split, TestReport};
use crate::train::evaluate;
use crate::train::feed::Feed;
use crate::train::phase::LossPlan;

/// Runs the command.
pub fn run(args: &EvaluateArgs, printer: &Printer) -> Result<(), Failure> {
    let model = Restored::open(&args.model)?;
    let split = Split::ALL
        .into_iter()
        .find(|split| split.name() == args.split)
        .unwrap_or(Split::Test);
    let (dataset, split) = open_data(args, &model, split)?;
    let plan = LossPlan::plain(&model.experiment.train, model.outputs);
    let feed = Feed::new(
        Arc::new(dataset),
        &model.preprocess,
        AugmentConfig::default(),
        model.experiment.train.batch_size,
        model.experiment.seed,
        0,
    );
    let evaluation = evaluate::evaluate(&model.network, &plan, &feed, split)?;
    let (report, _) = results::report(feed.dataset(), split, &evaluation);
    print(&report, printer)
}

/// The data to judge on: the run's own, or a folder of class folders, all of it.
fn open_data(
    args: &EvaluateArgs,
    model: &Restored,
    split: Split,
) -> Result<(Dataset, Split), Failure> {
    let experiment = &model.experiment;
    let Some(root) = &args.data else {
        let dataset = Dataset::open(&experiment.data, experiment.seed)?;
        if dataset.split(split).is_empty() {
            return Err(Failure::new(
                Exit::Data,
                format!("the data of this model has no {} split", split.name()),
            )
            .help("choose another with `--split`, or give pictures with `--data`"));
        }
        return Ok((adopt_classes(dataset, model)?, split));
    };
    let everything = SplitConfig {
        by: SplitBy::Ratio,
        train: 0.0,
        val: 0.0,
        test: 1.0,
    };
    let config = DataConfig {
        root: Some(root.clone()),
        manifest: None,
        generate: None,
        split: everything,
        ..experiment.data.clone()
    };
    let dataset = Dataset::open(&config, experiment.seed)?;
    Ok((adopt_classes(dataset, model)?, Split::Test))
}

/// Gives the data the model's labels; the data may lack some of its classes, but have no others.
fn adopt_classes(mut dataset: Dataset, model: &Restored) -> Result<Dataset, Failure> {
    let mut labels = Vec::with_capacity(dataset.classes.len());
    for class in &dataset.classes {
        let label = model
            .classes
            .iter()
            .position(|known| known == class)
            .ok_or_else(|| {
                Failure::new(
                    Exit::Data,
                    format!("the model does not know the class `{class}`"),
                )
                .help(format!("its classes are {}", model.classes.join(", ")))
            })?;
        labels.push(label);
    }
    for item in &mut dataset.items {
        item.label = labels[item.label];
    }
    dataset.classes.clone_from(&model.classes);
    Ok(dataset)
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
            class.class, class.precision, class.recall, class.f1, class.support
        ));
    }
    Ok(())
}
