//! Decisions after an evaluation: is it the best so far, and is it time to stop.
//!
//! Both are pure: they look at numbers, keep a small state that a checkpoint can hold, and leave
//! the acting to the loop. A value that is not a number never improves anything.

use serde::{Deserialize, Serialize};

use crate::config::{EarlyStopping as EarlyStoppingConfig, Monitor};

/// Whether `value` beats `reference` by more than `margin`.
fn improves(monitor: Monitor, value: f64, reference: Option<f64>, margin: f64) -> bool {
    let Some(reference) = reference else {
        return !value.is_nan();
    };
    match monitor {
        Monitor::ValAccuracy => value - margin > reference,
        Monitor::ValLoss => value + margin < reference,
    }
}

/// The best epoch so far, by a metric and, between equals, by validation loss: on a few hundred
/// pictures many epochs share the best accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Best {
    /// Value of the metric; `None` before the first.
    pub value: Option<f64>,
    /// Validation loss of that epoch.
    pub loss: Option<f64>,
}

impl Best {
    /// Takes in an epoch's value and validation loss; whether it is the best so far. The first of
    /// equals stays.
    pub fn update(&mut self, monitor: Monitor, value: f64, loss: f64) -> bool {
        let tie = self.value == Some(value);
        let better = improves(monitor, value, self.value, 0.0)
            || (tie && improves(Monitor::ValLoss, loss, self.loss, 0.0));
        if better {
            *self = Self {
                value: Some(value),
                loss: (!loss.is_nan()).then_some(loss),
            };
        }
        better
    }
}

/// What to do after an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Continue,
    /// End the phase.
    Stop,
}

/// Keras' early stopping: an improvement must exceed `min_delta`, and the phase ends after
/// `patience` epochs without one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    monitor: Monitor,
    min_delta: f64,
    patience: usize,
    best: Option<f64>,
    waited: usize,
}

impl EarlyStopping {
    /// The state before a phase's first epoch.
    pub fn new(config: &EarlyStoppingConfig) -> Self {
        Self {
            monitor: config.monitor,
            min_delta: config.min_delta,
            patience: config.patience,
            best: None,
            waited: 0,
        }
    }

    /// The metric it watches.
    pub fn monitor(&self) -> Monitor {
        self.monitor
    }

    /// Takes in the value of an epoch.
    pub fn update(&mut self, value: f64) -> Decision {
        if improves(self.monitor, value, self.best, self.min_delta) {
            self.best = Some(value);
            self.waited = 0;
            return Decision::Continue;
        }
        self.waited += 1;
        if self.waited >= self.patience {
            Decision::Stop
        } else {
            Decision::Continue
        }
    }

    /// Epochs since the last improvement.
    pub fn waited(&self) -> usize {
        self.waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopping(monitor: Monitor, min_delta: f64, patience: usize) -> EarlyStopping {
        EarlyStopping::new(&EarlyStoppingConfig {
            monitor,
            min_delta,
            patience,
        })
    }

    /// Number of epochs run before the decision to stop.
    fn epochs(mut state: EarlyStopping, values: &[f64]) -> Option<usize> {
        values
            .iter()
            .position(|&value| state.update(value) == Decision::Stop)
            .map(|index| index + 1)
    }

    #[test]
    fn the_best_is_strictly_better_and_a_number() {
        let mut best = Best::default();
        let kept: Vec<bool> = [f64::NAN, 0.5, 0.5, 0.4, f64::NAN, 0.6]
            .iter()
            .map(|&value| best.update(Monitor::ValAccuracy, value, 1.0))
            .collect();
        assert_eq!(kept, [false, true, false, false, false, true]);
        let mut best = Best::default();
        assert!(best.update(Monitor::ValLoss, 1.0, 1.0));
        assert!(!best.update(Monitor::ValLoss, 1.1, 1.1));
        assert!(best.update(Monitor::ValLoss, 0.9, 0.9));
    }

    #[test]
    fn between_equals_the_lower_loss_is_better() {
        let mut best = Best::default();
        assert!(best.update(Monitor::ValAccuracy, 0.9, 0.5));
        assert!(!best.update(Monitor::ValAccuracy, 0.9, 0.5));
        assert!(!best.update(Monitor::ValAccuracy, 0.9, f64::NAN));
        assert!(best.update(Monitor::ValAccuracy, 0.9, 0.4));
        assert!(!best.update(Monitor::ValAccuracy, 0.8, 0.1));
    }

    #[test]
    fn stops_after_patience_epochs_without_improvement() {
        let state = stopping(Monitor::ValAccuracy, 0.0, 2);
        assert_eq!(epochs(state.clone(), &[0.5, 0.4, 0.6, 0.6, 0.6]), Some(5));
        assert_eq!(epochs(state.clone(), &[0.1, 0.2, 0.3, 0.4]), None);
        assert_eq!(epochs(state, &[f64::NAN, f64::NAN]), Some(2));
    }

    #[test]
    fn small_changes_count_as_none() {
        let state = stopping(Monitor::ValLoss, 0.125, 2);
        assert_eq!(epochs(state.clone(), &[1.0, 0.875, 0.9]), Some(3));
        assert_eq!(epochs(state, &[1.0, 0.86, 0.8, 0.73]), None);
    }

    #[test]
    fn a_restored_state_decides_alike() {
        let mut state = stopping(Monitor::ValAccuracy, 0.001, 3);
        state.update(0.9);
        state.update(0.8);
        let text = serde_json::to_string(&state).unwrap();
        let restored: EarlyStopping = serde_json::from_str(&text).unwrap();
        assert_eq!(restored, state);
    }
}
