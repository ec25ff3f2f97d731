//! How the steps of a phase fall into epochs and evaluation intervals.

use crate::config::Length;

/// The steps of a phase. All of it is arithmetic on the number of steps done, so that a phase can
/// be taken up anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// Steps of the phase.
    pub steps: u64,
    /// Steps between two evaluations.
    pub interval: u64,
}

impl Pace {
    /// Of a phase of this length; `evaluate_every` is an epoch unless it is given. An epoch must
    /// have a step.
    pub fn new(length: Length, evaluate_every: Option<u64>, steps_per_epoch: u64) -> Self {
        let steps = match length {
            Length::Epochs(epochs) => steps_per_epoch * epochs as u64,
            Length::Steps(steps) => steps,
        };
        Self {
            steps_per_epoch,
            steps,
            interval: evaluate_every.unwrap_or(steps_per_epoch),
        }
    }

    /// Epochs begun, the last perhaps cut short.
    pub fn epochs(&self) -> usize {
        self.epoch(self.steps)
    }

    /// Epoch of the phase, from 1, that the last of so many steps belongs to; 0 before the first.
    pub fn epoch(&self, done: u64) -> usize {
        done.div_ceil(self.steps_per_epoch) as usize
    }

    /// Steps of the epoch that the next step belongs to that are done.
    pub fn in_epoch(&self, done: u64) -> u64 {
        done % self.steps_per_epoch
    }

    /// Whether so many steps end an epoch.
    pub fn ends_epoch(&self, done: u64) -> bool {
        self.in_epoch(done) == 0
    }

    /// Whether an evaluation follows after so many steps.
    pub fn evaluates(&self, done: u64) -> bool {
        done.is_multiple_of(self.interval) || self.is_over(done)
    }

    /// Steps of the interval that the last of so many steps belongs to: those done and all.
    pub fn of_interval(&self, done: u64) -> (u64, u64) {
        let start = done.saturating_sub(1) / self.interval * self.interval;
        (done - start, self.interval.min(self.steps - start))
    }

    /// Whether so many steps are all.
    pub fn is_over(&self, done: u64) -> bool {
        done >= self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluated(pace: &Pace) -> Vec<(u64, usize)> {
        let steps = (1..=pace.steps).filter(|&step| pace.evaluates(step));
        steps.map(|step| (step, pace.epoch(step))).collect()
    }

    #[test]
    fn an_epoch_is_an_interval_unless_steps_are_said() {
        let pace = Pace::new(Length::Epochs(3), None, 4);
        assert_eq!(evaluated(&pace), [(4, 1), (8, 2), (12, 3)]);
        let pace = Pace::new(Length::Epochs(2), Some(3), 4);
        assert_eq!(evaluated(&pace), [(3, 1), (6, 2), (8, 2)]);
        assert_eq!(pace.of_interval(3), (3, 3));
        assert_eq!(pace.of_interval(4), (1, 3));
        assert_eq!(pace.of_interval(7), (1, 2), "the phase ends sooner");
    }

    #[test]
    fn a_phase_of_steps_ends_within_an_epoch() {
        let pace = Pace::new(Length::Steps(10), None, 4);
        assert_eq!(evaluated(&pace), [(4, 1), (8, 2), (10, 3)]);
        assert_eq!(pace.epochs(), 3);
        assert_eq!((pace.in_epoch(9), pace.ends_epoch(8)), (1, true));
        let pace = Pace::new(Length::Steps(3), Some(30), 4);
        assert_eq!(evaluated(&pace), [(3, 1)]);
    }
}
