//! Means over seeds, and what may be said of them.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// A mean of independent values, with Student's 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    /// Number of values.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Standard error of the mean; `None` of a single value, and of values that are all the same: of
    /// how they scatter these tell nothing.
    pub standard_error: Option<f64>,
    /// Interval that holds the true mean in 95 of 100 sweeps, for values of about a normal
    /// distribution; `None` where there is no standard error.
    pub interval: Option<[f64; 2]>,
}

impl Mean {
    /// The mean of values; `None` of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        Self::one_of(values, 1)
    }

    /// The same for one of several means whose intervals are to hold all at once (Bonferroni).
    fn one_of(values: &[f64], several: usize) -> Option<Self> {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        if count == 0 || !mean.is_finite() {
            return None;
        }
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let standard_error =
            (count > 1).then(|| (squares / (count - 1) as f64 / count as f64).sqrt());
        let standard_error = standard_error.filter(|error| *error > ROUNDING);
        let interval = standard_error.and_then(|error| {
            let reach = error * quantile(count - 1, several)?;
            Some([mean - reach, mean + reach])
        });
        Some(Self {
            count,
            mean,
            standard_error,
            interval,
        })
    }
}

/// Accuracies that differ by less are the same.
const ROUNDING: f64 = 1e-12;

/// Of Student's distribution with so many degrees of freedom: in 95 of 100 cases so many values all
/// lie within.
fn quantile(freedom: usize, several: usize) -> Option<f64> {
    let student = StudentsT::new(0.0, 1.0, freedom as f64).ok()?;
    Some(student.inverse_cdf(1.0 - 0.025 / several.max(1) as f64))
}

/// What the differences of pairs show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The first is larger.
    Larger,
    /// The first is smaller.
    Smaller,
    /// The interval of the mean difference holds 0.
    NoDifferenceShown,
    /// There are not two pairs, or they do not scatter.
    Unknown,
}

/// The first of two compared with the second, pair by pair.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Paired {
    /// The differences, first less second; `None` without pairs.
    pub difference: Option<Mean>,
    /// What they show.
    pub verdict: Verdict,
}

impl Paired {
    /// Compares pairs, in one of so many comparisons whose verdicts are to be right all at once.
    pub fn of(pairs: &[(f64, f64)], comparisons: usize) -> Self {
        let differences: Vec<f64> = pairs.iter().map(|(a, b)| a - b).collect();
        let difference = Mean::one_of(&differences, comparisons);
        let same = differences.len() > 1 && differences.iter().all(|it| it.abs() <= ROUNDING);
        let verdict = match difference.and_then(|it| it.interval) {
            None if same => Verdict::NoDifferenceShown,
            None => Verdict::Unknown,
            Some([low, _]) if low > 0.0 => Verdict::Larger,
            Some([_, high]) if high < 0.0 => Verdict::Smaller,
            Some(_) => Verdict::NoDifferenceShown,
        };
        Self {
            difference,
            verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    #[test]
    fn known_values_come_out() {
        let mean = Mean::of(&[0.80, 0.82, 0.84]).unwrap();
        let [low, high] = mean.interval.unwrap();
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        // scipy.stats.t.interval(0.95, 2, 0.82, scipy.stats.sem([0.80, 0.82, 0.84]))
        assert!(close(mean.mean, 0.82) && close(mean.standard_error.unwrap(), 0.011547005));
        assert!(
            close(low, 0.7703172) && close(high, 0.8696828),
            "{low} {high}"
        );
        assert_eq!(Mean::of(&[0.5]).unwrap().interval, None);
        assert_eq!(Mean::of(&[]), None);
        assert_eq!(Mean::of(&[f64::NAN]), None);
    }

    #[test]
    fn the_interval_covers_the_true_mean_in_93_to_97_of_100_sweeps() {
        for seeds in [3, 5, 10] {
            let covered = (0..2000).filter(|&sweep| {
                let mut stream = rng::stream(7, "simulated sweeps", &[seeds, sweep]);
                let values = (0..seeds).map(|_| 0.9 + 0.02 * rng::normal(&mut stream));
                let mean = Mean::of(&values.collect::<Vec<_>>()).unwrap();
                let [low, high] = mean.interval.unwrap();
                (low..=high).contains(&0.9)
            });
            let covered = covered.count();
            assert!((1860..=1940).contains(&covered), "{seeds} seeds: {covered}");
        }
    }

    #[test]
    fn pairs_show_what_means_do_not() {
        // Splits differ more than the two do.
        let pairs = [(0.70, 0.69), (0.80, 0.792), (0.90, 0.889), (0.60, 0.591)];
        assert_eq!(Paired::of(&pairs, 1).verdict, Verdict::Larger);
        let turned = pairs.map(|(a, b)| (b, a));
        assert_eq!(Paired::of(&turned, 1).verdict, Verdict::Smaller);
        // What one comparison shows may be chance among many.
        assert_eq!(
            Paired::of(&pairs, 10_000).verdict,
            Verdict::NoDifferenceShown
        );
        assert_eq!(
            Paired::of(&[(0.7, 0.6), (0.6, 0.7)], 1).verdict,
            Verdict::NoDifferenceShown
        );
        assert_eq!(Paired::of(&pairs[..1], 1).verdict, Verdict::Unknown);
        // Twice the same difference: they may have been lucky to the same count of pictures.
        assert_eq!(
            Paired::of(&[(0.7, 0.69), (0.8, 0.79)], 1).verdict,
            Verdict::Unknown
        );
        // Not one of several seeds differs.
        assert_eq!(
            Paired::of(&[(0.7, 0.7); 3], 1).verdict,
            Verdict::NoDifferenceShown
        );
    }
}
