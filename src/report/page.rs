//! A run as one HTML page that needs nothing else: no network, no other file.

mod calibration;
mod curves;
mod embedded;
mod provenance;
mod results;

use std::collections::BTreeMap;
use std::fmt::Write;

use super::html::{self, Table, escape, percent};
use crate::records::{DataIssueRow, MetricsRow, PredictionRow, SplitRow, TestReport};

/// Most confidently wrong pictures that have a place of their own.
pub const WRONG_SHOWN: usize = 24;

/// Most right pictures that have one.
const RIGHT_SHOWN: usize = 8;

/// What a page tells of a run.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// Name of the experiment.
    pub title: &'a str,
    /// How the run stands, in words.
    pub status: &'a str,
    /// `metrics.csv`.
    pub rows: &'a [MetricsRow],
    /// Index of the best row.
    pub best: Option<usize>,
    /// `test.json`.
    pub test: Option<&'a TestReport>,
    /// `predictions.csv`.
    pub predictions: &'a [PredictionRow],
    /// Small pictures as `data:` addresses, by path.
    pub thumbnails: &'a BTreeMap<String, String>,
    /// Some of them under the heat of what spoke for the predicted class.
    pub overlays: &'a BTreeMap<String, String>,
    /// `split.csv`.
    pub split: &'a [SplitRow],
    /// `data_issues.csv`.
    pub issues: &'a [DataIssueRow],
    /// The layers and what trained in which phase.
    pub layers: Table<'a>,
    /// What the run is and where it ran, by name.
    pub facts: &'a [(String, String)],
    /// `resolved.toml`.
    pub config: &'a str,
}

/// The wrong pictures, those of which the network was surest first.
pub fn surest_wrong(predictions: &[PredictionRow]) -> Vec<&PredictionRow> {
    let mut wrong: Vec<&PredictionRow> = predictions.iter().filter(|row| !row.correct).collect();
    // One that is not a number comes last.
    let sure = |row: &PredictionRow| match row.confidence.is_nan() {
        true => f64::NEG_INFINITY,
        false => row.confidence,
    };
    wrong.sort_by(|a, b| {
        let order = sure(b).total_cmp(&sure(a));
        order.then(a.path.cmp(&b.path))
    });
    wrong
}

/// Some right pictures: of each class in turn the one that the network was surest of.
pub fn surest_right(predictions: &[PredictionRow]) -> Vec<&PredictionRow> {
    let mut classes: BTreeMap<&str, Vec<&PredictionRow>> = BTreeMap::new();
    for row in predictions.iter().filter(|row| row.correct) {
        classes.entry(&row.class).or_default().push(row);
    }
    let mut chosen: Vec<(usize, &str, &PredictionRow)> = Vec::new();
    for (class, mut rows) in classes {
        rows.sort_by(|a, b| {
            b.confidence
                .total_cmp(&a.confidence)
                .then(a.path.cmp(&b.path))
        });
        let rows = rows.into_iter().take(RIGHT_SHOWN).enumerate();
        chosen.extend(rows.map(|(rank, row)| (rank, class, row)));
    }
    chosen.sort_by_key(|&(rank, class, _)| (rank, class));
    let rows = chosen.into_iter().map(|(_, _, row)| row);
    rows.take(RIGHT_SHOWN).collect()
}

/// The page as UTF-8 text.
pub fn page(page: &Page<'_>) -> String {
    let mut head = String::new();
    headline(&mut head, page);
    let mut html = String::new();
    curves::charts(&mut html, page);
    if let Some(test) = page.test {
        results::classes(&mut html, test);
        results::matrix(&mut html, test);
    }
    results::wrong(&mut html, page);
    results::right(&mut html, page);
    results::calibration(&mut html, page);
    provenance::data(&mut html, page);
    curves::epochs(&mut html, page);
    provenance::layers(&mut html, page.layers);
    provenance::provenance(&mut html, page);
    html::document(
        (page.title, page.status),
        &head,
        &html,
        &embedded::embedded(page),
        include_str!("page/page.js"),
    )
}

fn headline(html: &mut String, page: &Page<'_>) {
    if let Some(test) = page.test {
        let [low, high] = test.accuracy_interval.map(percent);
        let _ = writeln!(
            html,
            "<p class=\"headline\">Test accuracy {}</p>\n<p>of {} pictures that training never saw; 95 % \
             interval {low} to {high}. Loss {:.4}.</p>",
            percent(test.accuracy),
            test.images,
            test.loss
        );
    }
    let best = page.best.and_then(|best| page.rows.get(best));
    if let Some(row) = best
        && let Some(accuracy) = row.val_accuracy
    {
        let _ = writeln!(
            html,
            "<p>Best validation accuracy {} in epoch {}, phase {}.</p>",
            percent(accuracy),
            row.epoch,
            escape(&row.phase)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::confusion::tests::report;
    use super::super::curves::tests::rows;
    use super::*;
    use crate::records::Split;

    fn prediction(path: &str, class: &str, predicted: &str, confidence: f64) -> PredictionRow {
        PredictionRow {
            path: path.into(),
            class: class.into(),
            predicted: predicted.into(),
            correct: class == predicted,
            confidence,
        }
    }

    #[test]
    fn what_files_say_cannot_leave_its_place() {
        let evil = "</script><script>alert(1)</script>\"'&";
        let test = report(3, |index| format!("{evil}{index}"));
        let predictions = [prediction(
            evil,
            &format!("{evil}0"),
            &format!("{evil}1"),
            0.9,
        )];
        let split = [SplitRow {
            path: evil.into(),
            class: evil.into(),
            label: 0,
            split: Split::Train,
            blake3: String::new(),
        }];
        let issues = [DataIssueRow {
            path: evil.into(),
            kind: evil.into(),
            reason: evil.into(),
        }];
        let mut log = rows(3, 2);
        log[0].phase = evil.into();
        log[1].val_loss = Some(f64::NAN);
        let thumbnails =
            BTreeMap::from([(evil.to_owned(), "data:image/jpeg;base64,AAAA".to_owned())]);
        let html = page(&Page {
            title: evil,
            status: evil,
            rows: &log,
            best: Some(1),
            test: Some(&test),
            predictions: &predictions,
            thumbnails: &thumbnails,
            overlays: &thumbnails,
            split: &split,
            issues: &issues,
            layers: Table {
                header: &[evil.to_owned()],
                rows: &[vec![evil.to_owned()]],
            },
            facts: &[(evil.to_owned(), evil.to_owned())],
            config: evil,
        });
        assert!(!html.contains("alert(1)</script>"), "{html}");
        assert!(!html.contains("<script>alert"));
        // The data and the script, and nothing else.
        assert_eq!(html.matches("<script").count(), 2);
        assert_eq!(html.matches("</script>").count(), 2);
        for address in ["http://", "https://"] {
            let own = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!own.contains(address), "{address}");
        }
    }

    #[test]
    fn a_run_without_results_has_a_page() {
        let html = page(&Page {
            title: "a",
            status: "running",
            rows: &[],
            best: None,
            test: None,
            predictions: &[],
            thumbnails: &BTreeMap::new(),
            overlays: &BTreeMap::new(),
            split: &[],
            issues: &[],
            layers: Table::default(),
            facts: &[],
            config: "",
        });
        assert!(html.contains("No epoch is over yet"));
        assert!(html.ends_with("</html>\n"));
    }

    #[test]
    fn the_surest_mistakes_come_first() {
        let rows = [
            prediction("a", "x", "y", 0.6),
            prediction("b", "x", "x", 0.99),
            prediction("c", "y", "x", 0.9),
            prediction("d", "y", "x", f64::NAN),
        ];
        let paths: Vec<&str> = surest_wrong(&rows)
            .iter()
            .map(|row| row.path.as_str())
            .collect();
        assert_eq!(paths, ["c", "a", "d"]);
    }

    #[test]
    fn the_surest_of_each_class_in_turn_are_shown() {
        let mut rows: Vec<PredictionRow> = (0..20)
            .map(|index| {
                prediction(
                    &format!("x{index:02}"),
                    "x",
                    "x",
                    0.5 + 0.01 * f64::from(index),
                )
            })
            .collect();
        rows.push(prediction("y", "y", "y", 0.4));
        rows.push(prediction("wrong", "y", "x", 0.9));
        let paths: Vec<&str> = surest_right(&rows)
            .iter()
            .map(|row| row.path.as_str())
            .collect();
        assert_eq!(
            paths,
            ["x19", "y", "x18", "x17", "x16", "x15", "x14", "x13"]
        );
    }
}
