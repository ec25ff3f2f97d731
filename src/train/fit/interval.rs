//! The end of an interval: validation, its row, and what follows from it.

use std::time::Instant;

use super::{Fit, FitError, SHORTEST, Stage, non_finite};
use crate::config::Monitor;
use crate::engine::params::Params;
use crate::engine::prefix::Prefix;
use crate::records::{MetricsRow, Split};
use crate::train::early_stopping::{Best, Decision};
use crate::train::ema::Ema;
use crate::train::evaluate::{self, Judged};
use crate::train::feed::Pass;
use crate::train::metrics::{Accumulator, Scores};
use crate::train::observer::Evaluated;
use crate::train::position::{BestSoFar, Next, Position, Snapshot};
use crate::train::selfcheck;

impl Fit<'_> {
    /// Ends an interval: validates, decides, tells.
    pub(super) fn evaluate(&mut self, stage: &Stage<'_>) -> Result<(), FitError> {
        self.settle();
        let started = Instant::now();
        stage.trainer.fetch(&mut self.params, self.ema.as_mut())?;
        let val = self.validate(stage);
        let val = self.save_if_interrupted(val, stage)?;
        if val.is_none() {
            self.check_params(stage)?;
        }
        let Position {
            interval,
            interval_seconds,
            phase_step,
            step,
            lr,
            ..
        } = self.position;
        let row = MetricsRow {
            phase: stage.plan.name.clone(),
            phase_epoch: stage.pace.epoch(phase_step),
            epoch: self.position.epoch(&stage.pace),
            step,
            lr,
            train_loss: interval.loss(),
            train_accuracy: interval.accuracy(),
            val_loss: val.map(|scores| scores.loss),
            val_accuracy: val.map(|scores| scores.accuracy),
            images_per_second: interval.seen as f64 / interval_seconds.max(SHORTEST),
            seconds: interval_seconds + started.elapsed().as_secs_f64(),
        };
        let stop = self.position.early_stopping.as_mut().is_some_and(|it| {
            let value = monitored(it.monitor(), &row);
            value.is_some_and(|value| it.update(value) == Decision::Stop)
        });
        let is_best = self.compare(&row);
        self.position.evaluated(&stage.pace, stop);
        self.tell(stage, &row, phase_step, is_best)?;
        if stop {
            let epochs = row.phase_epoch;
            self.observer.stopped_early(&row.phase, epochs, phase_step);
        }
        self.running_since = Instant::now();
        Ok(())
    }

    /// Epoch 0: how good the network is before any step. `None` without a validation split.
    pub(super) fn evaluate_first(&self, stage: &Stage<'_>) -> Result<Option<MetricsRow>, FitError> {
        let started = Instant::now();
        let val = self.validate(stage)?;
        Ok(val.map(|val| MetricsRow {
            phase: stage.plan.name.clone(),
            phase_epoch: 0,
            epoch: 0,
            step: 0,
            lr: 0.0,
            train_loss: None,
            train_accuracy: None,
            val_loss: Some(val.loss),
            val_accuracy: Some(val.accuracy),
            images_per_second: 0.0,
            seconds: started.elapsed().as_secs_f64(),
        }))
    }

    /// Keeps the weights if they are the best so far; whether they are.
    pub(super) fn compare(&mut self, row: &MetricsRow) -> bool {
        let before = self.position.best.as_ref();
        let mut best = before.map_or_else(Best::default, |before| before.best);
        let is_best = match monitored(self.plan.best, row) {
            Some(value) => {
                let loss = row.val_loss.unwrap_or(f64::NAN);
                best.update(self.plan.best, value, loss) || before.is_none()
            }
            // Without validation there is nothing to choose by, and the last is the best.
            None => true,
        };
        if is_best {
            let row = row.clone();
            self.position.best = Some(BestSoFar { best, row });
            self.best = Some(self.evaluated_params().clone());
        }
        is_best
    }

    /// A row is earned, and the state behind it may be kept.
    pub(super) fn tell(
        &mut self,
        stage: &Stage<'_>,
        row: &MetricsRow,
        phase_step: u64,
        is_best: bool,
    ) -> Result<(), FitError> {
        // The next phase begins with an optimizer of its own.
        let goes_on = self.position.phase == stage.index && self.position.next != Next::Begin;
        let trainer = &stage.trainer;
        let optimizer = goes_on.then(|| trainer.optimizer_state()).transpose()?;
        self.observer.evaluated(Evaluated {
            row,
            phase_step,
            pace: stage.pace,
            is_best,
            snapshot: Snapshot {
                position: &self.position,
                params: &self.params,
                ema: self.ema.as_ref(),
                optimizer: optimizer.as_ref(),
            },
        })?;
        Ok(())
    }

    /// The weights that count: averaged where there is an average.
    fn evaluated_params(&self) -> &Params {
        self.ema.as_ref().map_or(&self.params, Ema::params)
    }

    /// Without a validation split no loss tells what the last step did.
    fn check_params(&self, stage: &Stage<'_>) -> Result<(), FitError> {
        match selfcheck::first_non_finite(&self.params)? {
            None => Ok(()),
            Some(name) => {
                let what = format!("`{name}` has infinite or undefined values");
                Err(self.after_last_step(what, stage))
            }
        }
    }

    fn after_last_step(&self, what: String, stage: &Stage<'_>) -> FitError {
        let Position { step, lr, .. } = self.position;
        non_finite(what, stage.plan, self.position.epoch(&stage.pace), step, lr)
    }

    /// Scores on the validation split, if there is one.
    fn validate(&self, stage: &Stage<'_>) -> Result<Option<Scores>, FitError> {
        if self.feed.items(Split::Val).is_empty() {
            return Ok(None);
        }
        let order = self.feed.in_order(Split::Val);
        let network = Prefix::compile(
            self.graph,
            self.evaluated_params(),
            &stage.plan.frontier.stored,
            &[self.graph.output()],
        )?;
        let mut totals = Accumulator::default();
        let pass = Pass::Epoch(self.position.epoch(&stage.pace) as u64);
        let judged = Judged {
            network: &network,
            loss: &self.plan.plain_loss,
            inputs: &stage.inputs,
            feed: self.feed,
            split: Split::Val,
            ranks: &self.ranks,
        };
        let stop = || self.observer.interrupted();
        judged.each(&order, pass, stop, |logits, labels| {
            let loss = evaluate::loss(judged.loss, logits, labels)?;
            totals.add(&loss, labels.len());
            Ok(())
        })?;
        let scores = totals.scores();
        match scores {
            Some(Scores { loss, .. }) if !loss.is_finite() => {
                let what = format!("the validation loss is {loss}");
                Err(self.after_last_step(what, stage))
            }
            _ => Ok(scores),
        }
    }
}

/// The value that a monitor watches; `None` without a validation split.
fn monitored(monitor: Monitor, row: &MetricsRow) -> Option<f64> {
    match monitor {
        Monitor::ValAccuracy => row.val_accuracy,
        Monitor::ValLoss => row.val_loss,
    }
}
