//! What ranks other than the first do of a run: the same work, and nothing is written.

use super::experiment::{self, Prepared};
use super::testing::Tester;
use super::{Failure, Printer, interrupt};
use crate::ranks::Ranks;
use crate::train::fit;
use crate::train::memory::Allowance;
use crate::train::observer::{
    Evaluated, FeatureProgress, FeaturesReady, Observer, ObserverError, PhaseStarted, StepTaken,
};
use crate::train::position::{Snapshot, Start};

/// Trains and tests with the first rank, from the same start.
pub fn follow(
    prepared: &Prepared,
    start: Start,
    allowance: Allowance,
    ranks: &Ranks,
    printer: &Printer,
) -> Result<(), Failure> {
    let blueprint = &prepared.blueprint;
    let plan = &prepared.plan_within(allowance);
    let feed = experiment::feed(blueprint, &prepared.dataset, allowance.pictures);
    let feed = feed.with_waiting(allowance.waiting);
    let mut bank = experiment::bank(blueprint, allowance.features.memory, ranks, printer);
    let mut listener = Listener;
    let graph = &blueprint.graph;
    let fitted = fit::fit(graph, start, plan, &feed, &mut bank, &mut listener)?;
    let mut tester = Tester {
        blueprint,
        plan,
        feed: &feed,
        bank: &mut bank,
        observer: &mut listener,
    };
    let (phases, also_last) = prepared.tested(plan, &fitted);
    tester.test(&fitted.best.0, phases)?;
    if also_last {
        tester.test(&fitted.last, &plan.phases)?;
    }
    Ok(())
}

/// Hears everything and keeps nothing.
struct Listener;

impl Observer for Listener {
    fn phase_started(&mut self, _: PhaseStarted<'_>) {}
    fn features(&mut self, _: FeatureProgress) {}
    fn features_ready(&mut self, _: FeaturesReady<'_>) {}
    fn warning(&mut self, _: &str) {}
    fn step(&mut self, _: StepTaken<'_>) {}
    fn evaluated(&mut self, _: Evaluated<'_>) -> Result<(), ObserverError> {
        Ok(())
    }
    fn save(&mut self, _: Snapshot<'_>) -> Result<(), ObserverError> {
        Ok(())
    }
    fn interrupted(&self) -> bool {
        interrupt::asked()
    }
    fn stopped_early(&mut self, _: &str, _: usize, _: u64) {}
}
