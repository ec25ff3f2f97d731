//! Trained weights on the test split.

use super::blueprint::Blueprint;
use super::{Exit, Failure, drawings, results};
use crate::data::Dataset;
use crate::engine::params::Params;
use crate::engine::prefix::Prefix;
use crate::records::{PredictionRow, Split, TestReport};
use crate::report::{self, Format, Kind};
use crate::run::RunDir;
use crate::train::evaluate::{Evaluation, Judged};
use crate::train::features::{FeatureBank, Network};
use crate::train::feed::Feed;
use crate::train::fit::FitError;
use crate::train::inputs::Inputs;
use crate::train::observer::Observer;
use crate::train::phase::{PhasePlan, Plan};

/// Judges weights on the test split.
pub struct Tester<'a> {
    /// The network.
    pub blueprint: &'a Blueprint,
    /// Its losses.
    pub plan: &'a Plan,
    /// The pictures.
    pub feed: &'a Feed,
    /// Cached features.
    pub bank: &'a mut FeatureBank,
    /// Hears of features, and may end the test.
    pub observer: &'a mut dyn Observer,
}

impl Tester<'_> {
    /// Weights after these phases on the test split, where there is one; from cached features where
    /// layers stayed frozen in all of them.
    pub fn test(
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
        let judged = Judged {
            network: &network,
            loss: &self.plan.plain_loss,
            inputs: &inputs,
            feed,
            split,
            ranks: self.bank.ranks(),
        };
        let stop = || self.observer.interrupted();
        Ok(Some(judged.evaluate(stop)?))
    }
}

/// Judges the best weights: `test.json`, `predictions.csv`, `probabilities.csv`, `confusion.png`.
pub fn write_best(
    blueprint: &Blueprint,
    dataset: &Dataset,
    evaluation: &Evaluation,
    run: &RunDir,
) -> Result<TestReport, Failure> {
    let (report, predictions) = judged(dataset, evaluation, "best")?;
    run.write_test(&report)?;
    run.write_predictions(&predictions)?;
    if let Some(table) = results::probabilities(dataset, &report, evaluation) {
        run.write_probabilities(&table)?;
    }
    let drawing = report::confusion(&report, &blueprint.loaded.experiment.name);
    let name = drawings::file_name(Kind::Confusion, Format::Png);
    run.write_picture(&name, &drawing.png()?)?;
    Ok(report)
}

/// Judges the last weights: `test_last.json`.
pub fn write_last(
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
