//! A run as one HTML page that needs nothing else: no network, no other file.

mod calibration;

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::json;

use super::axis::Unit;
use crate::records::{DataIssueRow, MetricsRow, PredictionRow, Split, SplitRow, TestReport};
use calibration::Calibration;

/// Most confidently wrong pictures shown.
const WRONG: usize = 24;

/// Up to this many classes the confusion matrix is a table.
const MATRIX_CLASSES: usize = 40;

/// Issues of the data listed in full.
const ISSUES: usize = 100;

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
    /// `split.csv`.
    pub split: &'a [SplitRow],
    /// `data_issues.csv`.
    pub issues: &'a [DataIssueRow],
    /// What the run is and where it ran, by name.
    pub facts: &'a [(String, String)],
    /// `resolved.toml`.
    pub config: &'a str,
}

/// The wrong pictures of which the network was surest.
pub fn surest_wrong(predictions: &[PredictionRow]) -> Vec<&PredictionRow> {
    let mut wrong: Vec<&PredictionRow> = predictions.iter().filter(|row| !row.correct).collect();
    wrong.sort_by(|a, b| {
        b.confidence
            .total_cmp(&a.confidence)
            .then(a.path.cmp(&b.path))
    });
    wrong.truncate(WRONG);
    wrong
}

/// The page as UTF-8 text.
pub fn page(page: &Page<'_>) -> String {
    let mut html = String::new();
    let title = escape(page.title);
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{}</style>\n</head>\n\
         <body>\n<header>\n<h1>{title}</h1>\n<p class=\"soft\">{}</p>\n",
        include_str!("page/page.css"),
        escape(page.status),
    );
    headline(&mut html, page);
    html.push_str("</header>\n<main>\n");
    charts(&mut html, page);
    if let Some(test) = page.test {
        classes(&mut html, test);
        matrix(&mut html, test);
    }
    wrong(&mut html, page);
    calibration(&mut html, page);
    data(&mut html, page);
    epochs(&mut html, page);
    provenance(&mut html, page);
    html.push_str("</main>\n");
    let _ = writeln!(
        html,
        "<script type=\"application/json\" id=\"data\">{}</script>\n<script>\n{}</script>\n</body>\n</html>",
        embedded(page),
        include_str!("page/page.js")
    );
    html
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

fn charts(html: &mut String, page: &Page<'_>) {
    html.push_str("<section aria-labelledby=\"curves\">\n<h2 id=\"curves\">Learning curves</h2>\n");
    if page.rows.is_empty() {
        html.push_str("<p>No epoch is over yet.</p>\n</section>\n");
        return;
    }
    html.push_str(
        "<p><span class=\"key\"></span> training &nbsp; <span class=\"key dashed\"></span> validation</p>\n\
         <div class=\"controls\">\n\
         <label><input type=\"checkbox\" id=\"log\"> logarithmic loss and learning rate</label>\n\
         <label>smoothing <input type=\"range\" id=\"smoothing\" min=\"0\" max=\"0.95\" step=\"0.05\" \
         value=\"0\"></label>\n</div>\n<div class=\"charts\">\n",
    );
    for (id, name) in [
        ("accuracy", "Accuracy"),
        ("loss", "Loss"),
        ("lr", "Learning rate"),
    ] {
        let _ = writeln!(
            html,
            "<figure>\n<figcaption id=\"{id}-name\">{name}</figcaption>\n\
             <svg id=\"{id}\" viewBox=\"0 0 520 280\" role=\"img\" tabindex=\"0\" \
             aria-labelledby=\"{id}-name\" aria-describedby=\"{id}-readout\"></svg>\n\
             <p class=\"readout\" id=\"{id}-readout\" aria-live=\"polite\">Point at the curve, or use the \
             arrow keys.</p>\n</figure>"
        );
    }
    html.push_str("</div>\n</section>\n");
}

fn classes(html: &mut String, test: &TestReport) {
    html.push_str(
        "<section aria-labelledby=\"classes\">\n<h2 id=\"classes\">Classes</h2>\n<div class=\"scroll\" \
         tabindex=\"0\" role=\"region\" aria-labelledby=\"classes\">\n<table>\n\
         <thead><tr><th scope=\"col\">class</th><th scope=\"col\">pictures</th><th \
         scope=\"col\">precision</th><th scope=\"col\">recall</th><th scope=\"col\">F1</th></tr></thead>\n\
         <tbody>\n",
    );
    for class in &test.per_class {
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{:.3}</td></tr>",
            escape(&class.class),
            class.support,
            percent(class.precision),
            percent(class.recall),
            class.f1
        );
    }
    html.push_str("</tbody>\n</table>\n</div>\n</section>\n");
}

fn matrix(html: &mut String, test: &TestReport) {
    html.push_str(
        "<section aria-labelledby=\"matrix\">\n<h2 id=\"matrix\">Confusion matrix</h2>\n",
    );
    if test.confusion.len() > MATRIX_CLASSES {
        let _ = writeln!(
            html,
            "<p>{} classes are too many for a table; see confusion.png.</p>\n</section>",
            test.confusion.len()
        );
        return;
    }
    html.push_str(
        "<p>A row is a class, a column what the network took its pictures for. A cell shows its \
         pictures.</p>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
         aria-labelledby=\"matrix\">\n<table class=\"confusion\">\n<thead><tr><td></td>",
    );
    for class in &test.per_class {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escape(&class.class));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for (truth, counts) in test.confusion.iter().enumerate() {
        let name = test
            .per_class
            .get(truth)
            .map_or("", |class| class.class.as_str());
        let total: u64 = counts.iter().sum();
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escape(name));
        for (predicted, &count) in counts.iter().enumerate() {
            let share = if total == 0 {
                0.0
            } else {
                count as f64 / total as f64
            };
            let full = if share > 0.5 { " class=\"full\"" } else { "" };
            let other = test
                .per_class
                .get(predicted)
                .map_or("", |class| class.class.as_str());
            let _ = write!(
                html,
                "<td{full} style=\"background:rgba(var(--heat),{share:.3})\"><button type=\"button\" \
                 aria-pressed=\"false\" data-truth=\"{truth}\" data-predicted=\"{predicted}\" \
                 aria-label=\"{count} of {} taken for {}\">{count}</button></td>",
                escape(name),
                escape(other)
            );
        }
        html.push_str("</tr>\n");
    }
    html.push_str(
        "</tbody>\n</table>\n</div>\n<p id=\"cell-title\" aria-live=\"polite\"></p>\n\
         <ul class=\"pictures\" id=\"cell-pictures\"></ul>\n</section>\n",
    );
}

fn wrong(html: &mut String, page: &Page<'_>) {
    let wrong = surest_wrong(page.predictions);
    if wrong.is_empty() {
        return;
    }
    html.push_str(
        "<section aria-labelledby=\"wrong\">\n<h2 id=\"wrong\">Most confidently wrong</h2>\n\
         <ul class=\"pictures\">\n",
    );
    for row in wrong {
        html.push_str("<li>");
        if let Some(thumbnail) = page.thumbnails.get(&row.path) {
            let _ = write!(html, "<img alt=\"\" src=\"{}\">", escape(thumbnail));
        }
        let _ = writeln!(
            html,
            "<strong class=\"wrong\">{}, {}</strong><br>is {}<br><span class=\"soft\">{}</span></li>",
            escape(&row.predicted),
            percent(row.confidence),
            escape(&row.class),
            escape(&row.path)
        );
    }
    html.push_str("</ul>\n</section>\n");
}

fn calibration(html: &mut String, page: &Page<'_>) {
    let Some(calibration) = Calibration::of(page.predictions) else {
        return;
    };
    let _ = writeln!(
        html,
        "<section aria-labelledby=\"calibration\">\n<h2 id=\"calibration\">Calibration</h2>\n\
         <p>Expected calibration error {} (15 bins; Guo et al., 2017): how far confidence and accuracy lie \
         apart, on average. On the dashed line they would be the same.</p>\n<figure \
         style=\"max-width:26rem\">\n{}</figure>\n</section>",
        percent(calibration.error),
        calibration.svg()
    );
}

fn data(html: &mut String, page: &Page<'_>) {
    if page.split.is_empty() && page.issues.is_empty() {
        return;
    }
    let mut counts: BTreeMap<(usize, &str), [usize; 3]> = BTreeMap::new();
    for row in page.split {
        let place = Split::ALL.iter().position(|split| *split == row.split);
        if let Some(place) = place {
            counts.entry((row.label, row.class.as_str())).or_default()[place] += 1;
        }
    }
    html.push_str(
        "<section aria-labelledby=\"pictures\">\n<h2 id=\"pictures\">Pictures</h2>\n<div class=\"scroll\" \
         tabindex=\"0\" role=\"region\" aria-labelledby=\"pictures\">\n<table>\n<thead><tr><th \
         scope=\"col\">class</th><th scope=\"col\">train</th><th scope=\"col\">val</th><th \
         scope=\"col\">test</th></tr></thead>\n<tbody>\n",
    );
    for ((_, class), [train, val, test]) in counts {
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{train}</td><td>{val}</td><td>{test}</td></tr>",
            escape(class)
        );
    }
    html.push_str("</tbody>\n</table>\n</div>\n");
    if !page.issues.is_empty() {
        let _ = writeln!(
            html,
            "<details><summary>{} issues in the data</summary>\n<ul>",
            page.issues.len()
        );
        for issue in page.issues.iter().take(ISSUES) {
            let _ = writeln!(
                html,
                "<li>{} {}: {}</li>",
                escape(&issue.path),
                escape(&issue.kind),
                escape(&issue.reason)
            );
        }
        if page.issues.len() > ISSUES {
            html.push_str("<li>more in data_issues.csv</li>\n");
        }
        html.push_str("</ul>\n</details>\n");
    }
    html.push_str("</section>\n");
}

fn epochs(html: &mut String, page: &Page<'_>) {
    if page.rows.is_empty() {
        return;
    }
    html.push_str(
        "<section aria-labelledby=\"epochs\">\n<h2 id=\"epochs\">Epochs</h2>\n<details><summary>All \
         rows</summary>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
         aria-labelledby=\"epochs\">\n<table>\n<thead><tr>",
    );
    for name in [
        "phase",
        "epoch",
        "step",
        "learning rate",
        "loss",
        "accuracy",
        "val loss",
        "val accuracy",
        "seconds",
    ] {
        let _ = write!(html, "<th scope=\"col\">{name}</th>");
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    let shown = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
    for row in page.rows {
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:e}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{:.1}</td></tr>",
            escape(&row.phase),
            row.epoch,
            row.step,
            row.lr,
            shown(row.train_loss),
            shown(row.train_accuracy),
            shown(row.val_loss),
            shown(row.val_accuracy),
            row.seconds
        );
    }
    html.push_str("</tbody>\n</table>\n</div>\n</details>\n</section>\n");
}

fn provenance(html: &mut String, page: &Page<'_>) {
    html.push_str(
        "<section aria-labelledby=\"run\">\n<h2 id=\"run\">The run</h2>\n<table \
         class=\"facts\">\n<tbody>\n",
    );
    for (name, value) in page.facts {
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
            escape(name),
            escape(value)
        );
    }
    let _ = writeln!(
        html,
        "</tbody>\n</table>\n<details><summary>Configuration, every value in force</summary>\n\
         <pre tabindex=\"0\">{}</pre>\n</details>\n</section>",
        escape(page.config)
    );
}

/// What the script draws from, as JSON that cannot end its element.
fn embedded(page: &Page<'_>) -> String {
    let unit = Unit::of(page.rows);
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    let rows = page.rows.iter().map(|row| {
        json!({
            "x": unit.at(row),
            "phase": row.phase,
            "lr": finite(Some(row.lr)),
            "train_loss": finite(row.train_loss),
            "train_accuracy": finite(row.train_accuracy),
            "val_loss": finite(row.val_loss),
            "val_accuracy": finite(row.val_accuracy),
        })
    });
    let classes: Vec<&str> = page
        .test
        .iter()
        .flat_map(|test| &test.per_class)
        .map(|class| class.class.as_str())
        .collect();
    let index = |name: &str| classes.iter().position(|class| *class == name);
    let pictures = page.predictions.iter().filter_map(|row| {
        let (truth, predicted) = (index(&row.class)?, index(&row.predicted)?);
        Some(json!([
            row.path,
            truth,
            predicted,
            finite(Some(row.confidence))
        ]))
    });
    let text = json!({
        "unit": unit.name().to_lowercase(),
        "rows": rows.collect::<Vec<_>>(),
        "classes": classes,
        "pictures": pictures.collect::<Vec<_>>(),
        "thumbnails": page.thumbnails,
    });
    text.to_string().replace('<', "\\u003c")
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Text within elements and attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::confusion::tests::report;
    use super::super::curves::tests::rows;
    use super::*;

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
            split: &split,
            issues: &issues,
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
            split: &[],
            issues: &[],
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
        ];
        let paths: Vec<&str> = surest_wrong(&rows)
            .iter()
            .map(|row| row.path.as_str())
            .collect();
        assert_eq!(paths, ["c", "a"]);
    }
}
