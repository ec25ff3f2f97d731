//! A step on a GPU: parameters, moments and averages stay in its memory until they are asked for.

use super::ema::Ema;
use super::evaluate;
use super::feed::FeedError;
use super::fit::FitError;
use super::inputs::SuffixBatch;
use super::metrics::Accumulator;
use super::optimizer::OptimizerState;
use super::selfcheck::SelfCheck;
use super::step::{StepError, Stride, Trainer};
use crate::engine::params::Params;
use crate::engine::suffix::Session;
use crate::ranks::RankError;

impl Trainer<'_> {
    /// Moves to the GPU that the parameters are meant for, if they are meant for one: parameters,
    /// moments as the optimizer has them, and averages.
    pub(super) fn open(&mut self, params: &Params, ema: Option<&Ema>) -> Result<(), FitError> {
        let Some(mut session) = self.suffix.session(params)? else {
            return Ok(());
        };
        let OptimizerState { tensors, .. } = self.optimizer.state()?;
        for (index, kind) in self.optimizer.moments().iter().enumerate() {
            let end = format!("/{kind}");
            let of_kind = tensors.iter();
            let of_kind =
                of_kind.filter_map(|(name, value)| Some((name.strip_suffix(&end)?, value)));
            session.set_moment(index, of_kind)?;
        }
        if let Some(ema) = ema {
            let names = ema.names().iter();
            let averages = names.map(|name| (name.as_str(), ema.params().value(name)));
            session.begin_average(averages)?;
        }
        self.there = Some(session);
        Ok(())
    }

    /// Brings to main memory what has moved since.
    pub(super) fn fetch(&self, params: &mut Params, ema: Option<&mut Ema>) -> Result<(), FitError> {
        if let Some(session) = &self.there {
            session.store(params)?;
            if let Some(ema) = ema {
                ema.replace(session.averages()?)?;
            }
        }
        Ok(())
    }

    /// A copy of the optimizer's state, wherever it is.
    pub(super) fn optimizer_state(&self) -> Result<OptimizerState, FitError> {
        let Some(session) = &self.there else {
            return Ok(self.optimizer.state()?);
        };
        let mut state = OptimizerState {
            step: self.optimizer.steps(),
            ..OptimizerState::default()
        };
        if state.step == 0 {
            return Ok(state);
        }
        let kinds = self.optimizer.moments();
        let mut moments = Vec::with_capacity(kinds.len());
        for index in 0..kinds.len() {
            moments.push(session.moment(index)?.unwrap_or_default().into_iter());
        }
        // By parameter and then kind, as in main memory.
        for _ in session.trained() {
            for (kind, moments) in kinds.iter().zip(&mut moments) {
                if let Some((name, value)) = moments.next() {
                    state.tensors.insert(format!("{name}/{kind}"), value);
                }
            }
        }
        Ok(state)
    }

    /// Takes the weights after a step into the average.
    pub(super) fn average(&self, params: &Params, ema: &mut Ema) -> Result<(), FitError> {
        match &self.there {
            Some(session) => session.average(ema.count_step())?,
            None => ema.update(params)?,
        }
        Ok(())
    }

    /// [`Trainer::step`] in a session.
    pub(super) fn step_there(
        &mut self,
        session: &mut Session,
        params: &mut Params,
        stride: Stride,
        batches: impl Iterator<Item = Result<SuffixBatch, FeedError>>,
        totals: &mut Accumulator,
        interrupted: impl Fn() -> Result<bool, RankError>,
    ) -> Result<bool, StepError> {
        let before = *totals;
        session.remember()?;
        let check = match stride.check {
            true => {
                session.store(params)?;
                let trained = self.suffix.trained();
                Some(SelfCheck::before(
                    params,
                    trained,
                    &self.updated_statistics,
                )?)
            }
            false => None,
        };
        // Weights of the batches so far, and whether their gradients are in the mean yet.
        let (mut weight, mut gathered) = (0.0, false);
        for (index, batch) in batches.enumerate() {
            let stops = if index > 0 { interrupted() } else { Ok(false) };
            let stopped: Option<StepError> = match stops {
                Ok(false) => None,
                Ok(true) => Some(FeedError::Interrupted.into()),
                Err(error) => Some(error.into()),
            };
            if let Some(stopped) = stopped {
                *totals = before;
                session.forget()?;
                return Err(stopped);
            }
            if weight > 0.0 && !gathered {
                session.accumulate(weight, true)?;
                gathered = true;
            }
            let own = self.batch_there(session, stride, index, batch?, totals)?;
            if own > 0.0 && gathered {
                session.accumulate(own, false)?;
            }
            weight += own;
        }
        if weight == 0.0 {
            return Ok(false);
        }
        if gathered {
            session.finish(weight)?;
        }
        let unclipped = check.is_some().then(|| session.gradients()).transpose()?;
        self.clip_there(session)?;
        let numbers = self.optimizer.numbers(&session.trained(), stride.lr)?;
        session.optimize(&numbers)?;
        self.optimizer.count_step();
        if let (Some(check), Some(unclipped)) = (check, unclipped) {
            session.store(params)?;
            check.after(&self.phase.name, params, self.suffix.trained(), &unclipped)?;
        }
        Ok(true)
    }

    /// Leaves the gradients of one batch's mean loss in the session; the weight of its pictures.
    fn batch_there(
        &self,
        session: &mut Session,
        stride: Stride,
        index: usize,
        (features, labels): SuffixBatch,
        totals: &mut Accumulator,
    ) -> Result<f64, StepError> {
        // Pictures of no weight leave no trace in the running statistics.
        let weighs = evaluate::weight(self.loss, &labels) > 0.0;
        let kept = (!weighs).then(|| session.statistics()).transpose()?;
        let gradient = evaluate::loss_gradient(self.loss, &labels);
        let logits = session.run(&features, self.dropout(stride, index), &gradient)?;
        let loss = evaluate::loss(self.loss, &logits, &labels)?;
        if !loss.sum.is_finite() {
            return Err(StepError::NonFinite(format!("the loss is {}", loss.sum)));
        }
        totals.add(&loss, labels.len());
        if let Some(kept) = kept {
            session.set_statistics(&kept)?;
        }
        Ok(loss.weight)
    }

    /// Clips as `gradients::clip_norm` and `clip_value` do.
    fn clip_there(&self, session: &Session) -> Result<(), StepError> {
        if let Some(most) = self.phase.clip_norm {
            let norm = session.gradient_norm()?;
            if !norm.is_finite() {
                let what = format!("the norm of the gradient is {norm}");
                return Err(StepError::NonFinite(what));
            }
            let factor = most / (norm + 1e-6);
            if factor < 1.0 {
                session.scale_gradients(factor)?;
            }
        }
        if let Some(most) = self.phase.clip_value {
            session.limit_gradients(most)?;
        }
        Ok(())
    }
}
