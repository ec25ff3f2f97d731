//! How much time is left, as far as rows and configuration tell: a range, or nothing.

use serde::{Deserialize, Serialize};

use crate::commands::table;
use crate::records::MetricsRow;

/// Seconds that are left.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Left {
    /// At least so many.
    pub least: f64,
    /// At most so many, if all that is left is known.
    pub most: Option<f64>,
}

/// A phase of `resolved.toml`, of any version.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct PhaseLength {
    /// Its name.
    pub name: String,
    /// Epochs, unless it is counted in steps.
    #[serde(default)]
    pub epochs: Option<usize>,
    /// Steps, unless it is counted in epochs.
    #[serde(default)]
    pub steps: Option<u64>,
    /// Steps between two rows, unless that is an epoch.
    #[serde(default)]
    pub evaluate_every: Option<u64>,
}

/// Rows whose pace counts: what was long ago tells less.
const RECENT: usize = 8;

/// Of fewer rows the spread is not known, and is taken to be as large as this.
const FEW: usize = 3;
const FASTER: f64 = 0.75;
const SLOWER: f64 = 1.5;

/// Where the rows of a phase stand.
#[derive(Debug, Clone, Copy)]
pub struct Phase<'a> {
    /// How long it is to be.
    pub length: &'a PhaseLength,
    /// Its rows, the evaluation before training aside.
    pub rows: &'a [MetricsRow],
    /// Steps before it.
    pub begin: u64,
    /// Rows without improvement after which it will stop.
    pub patience: Option<usize>,
    /// Seconds since its last row.
    pub since: f64,
}

impl Phase<'_> {
    /// What is left of the phase; `None` before its first row.
    pub fn left(&self) -> Option<Left> {
        let last = self.rows.last()?;
        // Epochs where rows are epochs, steps elsewhere.
        let in_steps = self.length.steps.is_some() || self.length.evaluate_every.is_some();
        let done = |row: &MetricsRow| match in_steps {
            true => row.step.saturating_sub(self.begin) as f64,
            false => row.phase_epoch as f64,
        };
        let (fewest, most) = match (self.length.steps, self.length.epochs) {
            (Some(steps), _) => (steps as f64, Some(steps as f64)),
            (None, Some(epochs)) if in_steps => self.steps_of(epochs),
            (None, Some(epochs)) => (epochs as f64, Some(epochs as f64)),
            (None, None) => return None,
        };
        let mut before = 0.0;
        let mut paces = Vec::new();
        for row in self.rows {
            let units = done(row) - before;
            if units > 0.0 && row.seconds.is_finite() {
                paces.push((row.seconds.max(0.0) / units, units));
            }
            before = done(row);
        }
        let recent = &paces[paces.len().saturating_sub(RECENT)..];
        let (_, units) = *recent.last()?;
        let paces = recent.iter().map(|(pace, _)| *pace);
        let mut fast = paces.clone().fold(f64::INFINITY, f64::min);
        let mut slow = paces.fold(0.0, f64::max);
        if recent.len() < FEW {
            (fast, slow) = (fast * FASTER, slow * SLOWER);
        }
        let rest = |units_left: f64, pace: f64, row: f64| {
            // Of the row under way some is over, but never more than all of it.
            let first = row.min(units_left) * pace;
            units_left * pace - self.since.clamp(0.0, first)
        };
        let fewest = (fewest - done(last)).max(0.0);
        // Early stopping may come before the end.
        let sooner = self.patience.map(|rows| rows as f64 * units);
        let fewest = sooner.map_or(fewest, |sooner| fewest.min(sooner));
        Some(Left {
            least: rest(fewest, fast, units),
            most: most.map(|most| rest((most - done(last)).max(0.0), slow, units)),
        })
    }

    /// The fewest and the most steps that so many epochs can have, going by rows within epochs: where
    /// a row says epoch 3, its steps are more than two epochs and at most three.
    fn steps_of(&self, epochs: usize) -> (f64, Option<f64>) {
        let (mut fewest, mut most) = (0.0f64, None::<f64>);
        for row in self.rows.iter().filter(|row| row.phase_epoch > 0) {
            let steps = row.step.saturating_sub(self.begin) as f64;
            let epoch = row.phase_epoch as f64;
            fewest = fewest.max(steps / epoch);
            if epoch > 1.0 {
                let bound = steps / (epoch - 1.0);
                most = Some(most.map_or(bound, |most| most.min(bound)));
            }
        }
        let epochs = epochs as f64;
        (epochs * fewest, most.map(|most| epochs * most))
    }
}

impl Left {
    /// Nothing.
    pub const NOTHING: Self = Self {
        least: 0.0,
        most: Some(0.0),
    };

    /// The same, with more behind it of which nothing is known.
    pub fn and_more(self) -> Self {
        Self { most: None, ..self }
    }
}

/// `12 s`, `12 s to 15 s`, `over 12 s`, or `?`.
pub fn shown(left: Option<Left>) -> String {
    let Some(Left { least, most }) = left else {
        return "?".into();
    };
    let low = table::span(least.max(0.0));
    match most.map(|most| table::span(most.max(0.0))) {
        None if least < 1.0 => "?".into(),
        None => format!("over {low}"),
        Some(high) if high == low => low,
        Some(high) => format!("{low} to {high}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: usize, step: u64, seconds: f64) -> MetricsRow {
        MetricsRow {
            phase: "a".into(),
            phase_epoch: epoch,
            epoch,
            step,
            lr: 0.1,
            train_loss: None,
            train_accuracy: None,
            val_loss: None,
            val_accuracy: None,
            images_per_second: 1.0,
            seconds,
        }
    }

    fn length(epochs: Option<usize>, steps: Option<u64>, every: Option<u64>) -> PhaseLength {
        PhaseLength {
            name: "a".into(),
            epochs,
            steps,
            evaluate_every: every,
        }
    }

    fn left(length: &PhaseLength, rows: &[MetricsRow], since: f64) -> Option<Left> {
        let phase = Phase {
            length,
            rows,
            begin: 100,
            patience: None,
            since,
        };
        phase.left()
    }

    fn between(least: f64, most: f64) -> Option<Left> {
        Some(Left {
            least,
            most: Some(most),
        })
    }

    #[test]
    fn epochs_take_as_long_as_the_fastest_to_the_slowest() {
        let ten = length(Some(10), None, None);
        assert_eq!(left(&ten, &[], 0.0), None);
        assert_eq!(left(&ten, &[row(1, 110, 4.0)], 0.0), between(27.0, 54.0));
        let rows = [row(1, 110, 4.0), row(2, 120, 2.0), row(3, 130, 3.0)];
        assert_eq!(left(&ten, &rows, 0.0), between(14.0, 28.0));
        assert_eq!(left(&ten, &rows, 1.0), between(13.0, 27.0));
        // A row that takes long takes no more off than itself.
        assert_eq!(left(&ten, &rows, 50.0), between(12.0, 24.0));
        let old = [row(1, 110, 99.0)];
        let rows: Vec<MetricsRow> = (2..10)
            .map(|epoch| row(epoch, 10 * epoch as u64, 1.0))
            .collect();
        assert_eq!(
            left(&ten, &[&old[..], &rows].concat(), 0.0),
            between(1.0, 1.0)
        );
    }

    #[test]
    fn early_stopping_may_end_it_sooner() {
        let ten = length(Some(10), None, None);
        let rows = [row(1, 110, 2.0), row(2, 120, 2.0), row(3, 130, 2.0)];
        let phase = Phase {
            length: &ten,
            rows: &rows,
            begin: 100,
            patience: Some(2),
            since: 0.0,
        };
        assert_eq!(phase.left(), between(4.0, 14.0));
    }

    #[test]
    fn steps_of_epochs_are_known_within_bounds() {
        let rows = [row(1, 110, 1.0), row(1, 120, 1.0), row(1, 130, 1.0)];
        let every = length(Some(4), None, Some(10));
        // An epoch has 30 steps at least, and perhaps many more.
        let found = left(&every, &rows, 0.0).unwrap();
        assert!((found.least - 9.0).abs() < 1e-9 && found.most.is_none());
        let rows = [&rows[..], &[row(2, 140, 1.0)]].concat();
        let found = left(&every, &rows, 0.0).unwrap();
        assert!((found.least - 8.0).abs() < 1e-9, "{found:?}");
        assert!((found.most.unwrap() - 12.0).abs() < 1e-9, "{found:?}");
        let steps = length(None, Some(100), Some(10));
        assert_eq!(left(&steps, &rows, 0.0), between(6.0, 6.0));
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        assert_eq!(shown(None), "?");
        assert_eq!(shown(between(12.0, 15.2)), "12 s to 15 s");
        assert_eq!(shown(between(12.0, 12.1)), "12 s");
        assert_eq!(shown(between(12.0, 15.0).map(Left::and_more)), "over 12 s");
        assert_eq!(shown(Some(Left::NOTHING.and_more())), "?");
    }
}
