//! `report.html` of a run, and `xp report RUN`, which makes it again with more pictures.

use std::collections::BTreeMap;

use image::RgbImage;
use rayon::prelude::*;

use super::overlays::overlays;
use super::{Exit, Failure, Printer, summary, thumbnails};
use crate::cli::ReportArgs;
use crate::config::Experiment;
use crate::data::Dataset;
use crate::fsx;
use crate::records::PredictionRow;
use crate::report::{self, Page, Table};
use crate::run::{Condition, Manifest, MetricsLog, RunDir};

/// Longest side of a small picture, in pixels.
const SIDE: u32 = 112;
const QUALITY: u8 = 75;

/// Most small pictures of a page, which is to stay well below 5 MB; less than a tenth as many are
/// shown under heat, too.
const MOST: usize = 500;

/// Small pictures by path, as `data:` addresses: as they are, and under heat.
type Pictures = [BTreeMap<String, String>; 2];

/// Makes a run's page again, with small pictures of its test split where its data is still there.
pub fn run(args: &ReportArgs, printer: &Printer) -> Result<(), Failure> {
    let run = RunDir::open(&args.run).map_err(|error| Failure {
        exit: Exit::Config,
        ..error.into()
    })?;
    let predictions = run.predictions().unwrap_or_default();
    let pictures = match thumbnails::dataset(&run, printer) {
        Ok(dataset) => {
            let shown = report::surest_right(&predictions).into_iter();
            let others = predictions.iter().filter(|row| row.correct);
            let wrong = report::surest_wrong(&predictions).into_iter();
            let all = shown.chain(wrong).chain(others);
            [
                plain(&dataset, all.take(MOST)),
                heated(&run, &dataset, &predictions),
            ]
        }
        Err(failure) => {
            printer.warning(format!("the page has no pictures: {}", failure.reason()));
            Pictures::default()
        }
    };
    let html = page(&run, &predictions, &pictures);
    let path = args.output.clone().unwrap_or_else(|| run.report_html());
    match &args.output {
        Some(path) => fsx::write_atomic(path, html.as_bytes())?,
        None => run.write_page(&html)?,
    }
    match printer.json {
        true => printer.data(serde_json::json!({ "page": path }).to_string()),
        false => printer.data(path.display().to_string()),
    }
    Ok(())
}

/// Writes the page of a run that has come so far; with small pictures of the surest mistakes and some
/// others, if `dataset` is given.
pub fn write(run: &RunDir, dataset: Option<&Dataset>) -> Result<(), Failure> {
    let predictions = run.predictions().unwrap_or_default();
    let pictures = dataset.map(|dataset| {
        [
            plain(dataset, shown(&predictions)),
            heated(run, dataset, &predictions),
        ]
    });
    let html = page(run, &predictions, &pictures.unwrap_or_default());
    Ok(run.write_page(&html)?)
}

/// The pictures that have places of their own.
fn shown(predictions: &[PredictionRow]) -> impl Iterator<Item = &PredictionRow> {
    let wrong = report::surest_wrong(predictions).into_iter();
    let right = report::surest_right(predictions).into_iter();
    wrong.take(report::WRONG_SHOWN).chain(right)
}

/// Those under heat; none where the model is gone.
fn heated(
    run: &RunDir,
    dataset: &Dataset,
    predictions: &[PredictionRow],
) -> BTreeMap<String, String> {
    let heated = overlays(run, dataset, shown(predictions), SIDE).unwrap_or_else(|failure| {
        tracing::info!(reason = %failure.message, "no pictures under heat");
        BTreeMap::new()
    });
    addresses(heated)
}

/// Small pictures as they are.
fn plain<'a>(
    dataset: &Dataset,
    rows: impl Iterator<Item = &'a PredictionRow>,
) -> BTreeMap<String, String> {
    addresses(thumbnails::of_rows(dataset, rows, SIDE))
}

/// Pictures as `data:` addresses.
fn addresses(pictures: BTreeMap<String, RgbImage>) -> BTreeMap<String, String> {
    let encoded = pictures.into_par_iter().filter_map(|(path, picture)| {
        Some((path, report::picture_address(&picture, QUALITY).ok()?))
    });
    encoded.collect()
}

/// The page of what a run directory holds. What is not there, or cannot be read, is left out.
fn page(run: &RunDir, predictions: &[PredictionRow], [thumbnails, overlays]: &Pictures) -> String {
    let manifest = run.manifest().ok();
    let rows = run
        .metrics()
        .map_or_else(|_| Vec::new(), |MetricsLog { rows, .. }| rows);
    let best = manifest.as_ref().and_then(|manifest| manifest.best);
    let best = best.and_then(|best| best.find(&rows));
    let test = run.test().ok().flatten();
    let split = run.split().unwrap_or_default();
    let issues = run.data_issues().unwrap_or_default();
    let config = fsx::read_text(&run.resolved_toml()).unwrap_or_default();
    let condition = manifest.as_ref().map(Condition::of);
    let status = condition.map_or("unknown", Condition::name);
    let facts = manifest.as_ref().map(facts).unwrap_or_default();
    let experiment: Option<Experiment> = toml::from_str(&config).ok();
    let name = experiment
        .as_ref()
        .map(|experiment| experiment.name.clone());
    let layers = experiment.and_then(|it| summary::of_experiment(&it).ok());
    let (header, layers) = layers.map(|it| (it.header(), it.rows())).unzip();
    report::page(&Page {
        title: &name.unwrap_or(run.name()),
        status: &format!("{}: {status}", run.folder_name()),
        rows: &rows,
        best,
        test: test.as_ref(),
        predictions,
        thumbnails,
        overlays,
        split: &split,
        issues: &issues,
        layers: Table {
            header: &header.unwrap_or_default(),
            rows: &layers.unwrap_or_default(),
        },
        facts: &facts,
        config: &config,
    })
}

/// What the manifest tells, in words.
fn facts(manifest: &Manifest) -> Vec<(String, String)> {
    let fingerprints = &manifest.fingerprints;
    let mut facts = vec![
        ("command", manifest.command_line.join(" ")),
        ("started", manifest.started.to_string()),
        ("host", manifest.process.host.clone()),
        ("device", manifest.device.clone()),
        ("threads", manifest.threads.to_string()),
        ("seed", manifest.seed.to_string()),
        ("xp", manifest.xp_version.clone()),
        ("data", fingerprints.data.clone()),
        ("split", fingerprints.split.clone()),
        ("weights", fingerprints.weights.clone()),
        ("configuration", fingerprints.config.clone()),
    ];
    facts.extend(manifest.xp_build.clone().map(|it| ("build", it)));
    facts.extend(manifest.instructions.clone().map(|it| ("instructions", it)));
    facts.extend(manifest.git_commit.clone().map(|it| ("git commit", it)));
    facts.extend(manifest.error.clone().map(|it| ("error", it)));
    let seconds = manifest.timings.iter();
    let facts = facts
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    facts
        .chain(
            seconds.map(|(name, seconds)| (format!("seconds of {name}"), format!("{seconds:.1}"))),
        )
        .collect()
}
