//! Evaluations as reports, rows and sentences.

use crate::data::Dataset;
use crate::records::{PredictionRow, ProbabilityRow, ProbabilityTable, Split, TestReport};
use crate::train::evaluate::Evaluation;

/// Report and predictions of a checkpoint (`best` or `last`) on a split.
pub fn report(
    dataset: &Dataset,
    split: Split,
    checkpoint: &str,
    evaluation: &Evaluation,
) -> (TestReport, Vec<PredictionRow>) {
    let mut pairs = Vec::new();
    let mut rows = Vec::new();
    // A class that only a label file names says something only where it was predicted.
    let counts = dataset.counts();
    let mut told: Vec<bool> = counts.iter().map(|counts| *counts != [0; 3]).collect();
    for (&item, probabilities) in dataset.split(split).iter().zip(&evaluation.probabilities) {
        let item = &dataset.items[item];
        let best = top(probabilities);
        rows.push(PredictionRow {
            path: item.path.clone(),
            class: dataset.classes[item.label].clone(),
            predicted: dataset.classes[best].clone(),
            correct: best == item.label,
            confidence: f64::from(probabilities[best]),
        });
        pairs.push((item.label, best));
        told[best] = true;
    }
    let mut place = vec![0; told.len()];
    let mut classes = Vec::new();
    for label in (0..told.len()).filter(|&label| told[label]) {
        place[label] = classes.len();
        classes.push(dataset.classes[label].clone());
    }
    let pairs = pairs
        .into_iter()
        .map(|(label, best)| (place[label], place[best]));
    let loss = evaluation.scores.map_or(f64::NAN, |scores| scores.loss);
    let report = TestReport::from_predictions(split, checkpoint, &classes, pairs, loss);
    (report, rows)
}

/// The probabilities of a report's classes; `None` where they are too many to be kept.
pub fn probabilities(
    dataset: &Dataset,
    report: &TestReport,
    evaluation: &Evaluation,
) -> Option<ProbabilityTable> {
    let classes: Vec<String> = report.per_class.iter().map(|it| it.class.clone()).collect();
    if classes.len().saturating_mul(report.images) > ProbabilityTable::MOST {
        return None;
    }
    let label = |name: &String| dataset.classes.iter().position(|class| class == name);
    let labels: Vec<usize> = classes.iter().filter_map(label).collect();
    let items = dataset.split(report.split).into_iter();
    let rows = items
        .zip(&evaluation.probabilities)
        .filter_map(|(item, given)| {
            let item = &dataset.items[item];
            Some(ProbabilityRow {
                path: item.path.clone(),
                label: labels.iter().position(|label| *label == item.label)?,
                probabilities: labels.iter().map(|label| given[*label]).collect(),
            })
        });
    Some(ProbabilityTable {
        rows: rows.collect(),
        classes,
    })
}

/// Index of the most probable class; the first of equals.
pub fn top(probabilities: &[f32]) -> usize {
    let mut best = 0;
    for (index, probability) in probabilities.iter().enumerate() {
        if *probability > probabilities[best] {
            best = index;
        }
    }
    best
}

/// A name in a table: one line, whatever it holds.
pub fn one_line(name: &str) -> String {
    name.replace(char::is_control, " ")
}

/// `test accuracy 87.0 % of 100 pictures (95 % interval 79.0 to 92.2)`; of the last checkpoint,
/// `test accuracy of the last checkpoint 87.0 % ...`.
pub fn headline(report: &TestReport) -> String {
    let [low, high] = report.accuracy_interval;
    let whose = match report.checkpoint.as_str() {
        "last" => " of the last checkpoint",
        _ => "",
    };
    format!(
        "{} accuracy{whose} {:.1} % of {} pictures (95 % interval {:.1} to {:.1}), loss {:.4}",
        report.split.name(),
        100.0 * report.accuracy,
        report.images,
        100.0 * low,
        100.0 * high,
        report.loss
    )
}
