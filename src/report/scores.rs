//! How well probabilities tell classes apart: receiver operating characteristics and precision by
//! recall, a class against the rest, as scikit-learn computes them.

use crate::records::ProbabilityTable;

/// Pictures by probability: what is counted from the most probable on.
#[derive(Debug, Clone)]
struct Counts {
    /// Of each distinct probability, from the highest: wrong and right ones that are as probable or
    /// more.
    steps: Vec<(u64, u64)>,
}

impl Counts {
    /// Of pairs of a probability and whether it is one of the class. Equal probabilities are one step.
    fn of(mut scored: Vec<(f32, bool)>) -> Self {
        scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let mut steps = Vec::new();
        let (mut wrong, mut right) = (0, 0);
        for (index, &(score, hit)) in scored.iter().enumerate() {
            match hit {
                true => right += 1,
                false => wrong += 1,
            }
            if scored.get(index + 1).is_none_or(|next| next.0 != score) {
                steps.push((wrong, right));
            }
        }
        Self { steps }
    }

    fn totals(&self) -> (u64, u64) {
        self.steps.last().copied().unwrap_or((0, 0))
    }

    /// False and true positive rates from (0, 0) to (1, 1); `None` where there is nothing to tell
    /// apart. Points on a straight line between others are left out.
    fn roc(&self) -> Option<Curve> {
        let (wrong, right) = self.totals();
        if wrong == 0 || right == 0 {
            return None;
        }
        let bends = |index: usize| {
            let around = index.checked_sub(1).zip(Some(index + 1));
            let around = around.and_then(|(before, after)| {
                Some((self.steps.get(before)?, self.steps.get(after)?))
            });
            let Some((before, after)) = around else {
                return true;
            };
            // Whether a second difference is not 0, as `drop_intermediate` has it.
            let at = self.steps[index];
            before.0 + after.0 != 2 * at.0 || before.1 + after.1 != 2 * at.1
        };
        let kept = (0..self.steps.len()).filter(|&index| bends(index));
        let share =
            |(misses, hits): (u64, u64)| (misses as f64 / wrong as f64, hits as f64 / right as f64);
        let mut points = vec![(0.0, 0.0)];
        points.extend(kept.map(|index| share(self.steps[index])));
        Some(Curve {
            area: area(&points),
            points,
        })
    }

    /// Recalls and precisions, from the least probable on to (0, 1); `None` without pictures of the
    /// class. The area is the average precision: the precision of each step times what recall it
    /// gains.
    fn precision_recall(&self) -> Option<Curve> {
        let (_, right) = self.totals();
        if right == 0 {
            return None;
        }
        let point = |&(wrong, hits): &(u64, u64)| {
            (
                hits as f64 / right as f64,
                hits as f64 / (wrong + hits) as f64,
            )
        };
        let mut points: Vec<(f64, f64)> = self.steps.iter().rev().map(point).collect();
        points.push((0.0, 1.0));
        let gained = points
            .windows(2)
            .map(|pair| (pair[0].0 - pair[1].0) * pair[0].1);
        Some(Curve {
            area: gained.sum(),
            points,
        })
    }
}

/// A curve and what lies under it.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Its points, in order.
    pub points: Vec<(f64, f64)>,
    /// Area under it, or average precision.
    pub area: f64,
}

/// By the trapezoidal rule.
fn area(points: &[(f64, f64)]) -> f64 {
    let pieces = points
        .windows(2)
        .map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0);
    pieces.sum()
}

/// The curves of all classes and over all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Of each class; `None` of those without pictures, or without others.
    pub classes: Vec<Option<Curve>>,
    /// Over all pairs of picture and class at once.
    pub micro: Option<Curve>,
    /// Mean of the areas of the classes that have one.
    pub macro_area: Option<f64>,
}

impl Scores {
    /// Receiver operating characteristics.
    pub fn roc(table: &ProbabilityTable) -> Self {
        Self::of(table, Counts::roc)
    }

    /// Precision by recall.
    pub fn precision_recall(table: &ProbabilityTable) -> Self {
        Self::of(table, Counts::precision_recall)
    }

    fn of(table: &ProbabilityTable, curve: fn(&Counts) -> Option<Curve>) -> Self {
        let scored = |class: usize| {
            let rows = table.rows.iter();
            rows.map(move |row| (row.probabilities[class], row.label == class))
        };
        let classes: Vec<Option<Curve>> = (0..table.classes.len())
            .map(|class| curve(&Counts::of(scored(class).collect())))
            .collect();
        let all = (0..table.classes.len()).flat_map(scored).collect();
        let areas: Vec<f64> = classes.iter().flatten().map(|curve| curve.area).collect();
        Self {
            micro: curve(&Counts::of(all)),
            macro_area: mean(&areas),
            classes,
        }
    }

    /// The mean of the classes' receiver operating characteristics, whose area is the mean of theirs.
    pub fn mean_roc(&self) -> Option<Curve> {
        let curves: Vec<&Curve> = self.classes.iter().flatten().collect();
        let mut rates: Vec<f64> = curves
            .iter()
            .flat_map(|curve| curve.points.iter().map(|point| point.0))
            .collect();
        rates.sort_unstable_by(f64::total_cmp);
        rates.dedup();
        let count = curves.len() as f64;
        let mut lows = vec![0.0; rates.len()];
        let mut highs = vec![0.0; rates.len()];
        for curve in &curves {
            // The first point that is not before a rate, and the first that is behind it.
            let (mut first, mut behind) = (0, 0);
            for (index, &rate) in rates.iter().enumerate() {
                let points = &curve.points;
                while points.get(first).is_some_and(|point| point.0 < rate) {
                    first += 1;
                }
                behind = behind.max(first);
                while points.get(behind).is_some_and(|point| point.0 <= rate) {
                    behind += 1;
                }
                let (low, high) = match behind > first {
                    // Where it rises straight up, both ends count.
                    true => (points[first].1, points[behind - 1].1),
                    false => {
                        let between = first.checked_sub(1).map(|before| points[before]);
                        let value = between
                            .zip(points.get(first).copied())
                            .map_or(1.0, |((x0, y0), (x1, y1))| {
                                y0 + (y1 - y0) * (rate - x0) / (x1 - x0)
                            });
                        (value, value)
                    }
                };
                lows[index] += low / count;
                highs[index] += high / count;
            }
        }
        let mut points = Vec::with_capacity(2 * rates.len());
        for ((&rate, low), high) in rates.iter().zip(lows).zip(highs) {
            points.push((rate, low));
            if high > low {
                points.push((rate, high));
            }
        }
        (!curves.is_empty()).then(|| Curve {
            area: area(&points),
            points,
        })
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
pub(super) mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::records::ProbabilityRow;

    /// Probabilities of pictures that are mostly told apart.
    pub(in super::super) fn table(classes: usize, pictures: usize) -> ProbabilityTable {
        let row = |index: usize| {
            let label = index % classes;
            let score = |class: usize| {
                let noise = (index * 7919 + class * 104_729) % 1009;
                let own = if class == label {
                    0.25 + 0.3 * (class % 7) as f64 / 7.0
                } else {
                    0.0
                };
                (6.0 * (noise as f64 / 1009.0 + own)).exp()
            };
            let scores: Vec<f64> = (0..classes).map(score).collect();
            let sum: f64 = scores.iter().sum();
            ProbabilityRow {
                path: format!("{index}.jpg"),
                label,
                probabilities: scores.iter().map(|score| (score / sum) as f32).collect(),
            }
        };
        let name = |class: usize| format!("class no. {class}");
        ProbabilityTable {
            classes: (0..classes).map(name).collect(),
            rows: (0..pictures).map(row).collect(),
        }
    }

    #[derive(Deserialize)]
    struct Known {
        roc: Vec<(f64, f64)>,
        auc: f64,
        pr: Vec<(f64, f64)>,
        ap: f64,
    }

    #[derive(Deserialize)]
    struct Case {
        labels: Vec<usize>,
        probabilities: Vec<Vec<f32>>,
        classes: Vec<Known>,
        micro: Known,
        macro_auc: f64,
        macro_ap: f64,
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    fn same(curve: &Curve, points: &[(f64, f64)], area: f64) {
        assert_eq!(
            curve.points.len(),
            points.len(),
            "{:?} {points:?}",
            curve.points
        );
        for (ours, theirs) in curve.points.iter().zip(points) {
            close(ours.0, theirs.0);
            close(ours.1, theirs.1);
        }
        close(curve.area, area);
    }

    /// tests/fixtures/make_scores.py, with ties, two classes and more.
    #[test]
    fn curves_and_areas_are_those_of_scikit_learn() {
        let cases = include_str!("../../tests/fixtures/scores.json");
        let cases: Vec<Case> = serde_json::from_str(cases).unwrap();
        for case in cases {
            let rows = case.labels.into_iter().zip(case.probabilities);
            let row = |(label, probabilities)| ProbabilityRow {
                path: String::new(),
                label,
                probabilities,
            };
            let table = ProbabilityTable {
                classes: (0..case.classes.len()).map(|it| it.to_string()).collect(),
                rows: rows.map(row).collect(),
            };
            let (roc, pr) = (Scores::roc(&table), Scores::precision_recall(&table));
            for (class, known) in case.classes.iter().enumerate() {
                same(roc.classes[class].as_ref().unwrap(), &known.roc, known.auc);
                same(pr.classes[class].as_ref().unwrap(), &known.pr, known.ap);
            }
            same(roc.micro.as_ref().unwrap(), &case.micro.roc, case.micro.auc);
            same(pr.micro.as_ref().unwrap(), &case.micro.pr, case.micro.ap);
            close(roc.macro_area.unwrap(), case.macro_auc);
            close(roc.mean_roc().unwrap().area, case.macro_auc);
            close(pr.macro_area.unwrap(), case.macro_ap);
        }
    }

    #[test]
    fn classes_that_are_alone_or_absent_have_no_curve() {
        let mut all = table(3, 30);
        all.rows.retain(|row| row.label != 1);
        let scores = Scores::roc(&all);
        let there: Vec<bool> = scores.classes.iter().map(Option::is_some).collect();
        assert_eq!(there, [true, false, true]);
        all.rows.retain(|row| row.label == 0);
        let scores = Scores::roc(&all);
        assert!(scores.classes.iter().all(Option::is_none) && scores.macro_area.is_none());
        assert_eq!(scores.mean_roc(), None);
        all.rows.clear();
        let scores = Scores::precision_recall(&all);
        assert!(scores.micro.is_none());
        // What is no number is refused where it is read; here it must only do no harm.
        let mut odd = table(3, 30);
        odd.rows[4].probabilities = vec![f32::NAN; 3];
        Scores::roc(&odd).mean_roc().unwrap();
    }
}
