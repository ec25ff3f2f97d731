//! What the test split says: classes, confusions, mistakes, calibration.

use std::fmt::Write;

use super::calibration::Calibration;
use super::{Page, WRONG_SHOWN, surest_right, surest_wrong};
use crate::records::{PredictionRow, TestReport};
use crate::report::heat;
use crate::report::html::{escape, percent, scrolled};

/// Up to this many classes the confusion matrix is a table.
const MATRIX_CLASSES: usize = 40;

pub(super) fn classes(html: &mut String, test: &TestReport) {
    html.push_str("<section aria-labelledby=\"classes\">\n<h2 id=\"classes\">Classes</h2>\n");
    html.push_str(&scrolled("table of classes"));
    html.push_str(
        "<table>\n<thead><tr><th scope=\"col\">class</th><th scope=\"col\">pictures</th><th \
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

pub(super) fn matrix(html: &mut String, test: &TestReport) {
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
         pictures.</p>\n",
    );
    html.push_str(&scrolled("table of confusions"));
    html.push_str("<table class=\"confusion\">\n<thead><tr><td></td>");
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
            // Dark enough to see, light enough to read on.
            let shade = 0.45 * share;
            let other = test
                .per_class
                .get(predicted)
                .map_or("", |class| class.class.as_str());
            let _ = write!(
                html,
                "<td style=\"background:rgba(var(--heat),{shade:.3})\"><button type=\"button\" \
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

pub(super) fn wrong(html: &mut String, page: &Page<'_>) {
    let wrong = surest_wrong(page.predictions);
    if wrong.is_empty() {
        return;
    }
    html.push_str(
        "<section aria-labelledby=\"wrong\">\n<h2 id=\"wrong\">Most confidently wrong</h2>\n",
    );
    let wrong: Vec<&PredictionRow> = wrong.into_iter().take(WRONG_SHOWN).collect();
    explain_heat(html, page, &wrong);
    pictures(html, page, &wrong);
}

/// What the network saw in some pictures that it was right about; nothing where that is not known.
pub(super) fn right(html: &mut String, page: &Page<'_>) {
    let mut right = surest_right(page.predictions);
    right.retain(|row| page.overlays.contains_key(&row.path));
    if right.is_empty() {
        return;
    }
    html.push_str("<section aria-labelledby=\"right\">\n<h2 id=\"right\">Right, and why</h2>\n");
    explain_heat(html, page, &right);
    pictures(html, page, &right);
}

/// What the colours say, where there are any.
fn explain_heat(html: &mut String, page: &Page<'_>, rows: &[&PredictionRow]) {
    if !rows.iter().any(|row| page.overlays.contains_key(&row.path)) {
        return;
    }
    let _ = writeln!(
        html,
        "<p>Beside a picture, as the network saw it, where it found what spoke for its answer (Grad-CAM; \
         Selvaraju et al., 2017): <span class=\"nobreak\">nothing <span class=\"heat\" \
         style=\"background:{}\"></span> most.</span></p>",
        heat::css()
    );
}

/// The end of a section: pictures and what they were taken for.
fn pictures(html: &mut String, page: &Page<'_>, rows: &[&PredictionRow]) {
    let paired = rows.iter().any(|row| page.overlays.contains_key(&row.path));
    let class = if paired { "pictures pairs" } else { "pictures" };
    let _ = writeln!(html, "<ul class=\"{class}\">");
    for row in rows {
        html.push_str("<li>");
        let overlay = page.overlays.get(&row.path);
        if overlay.is_some() {
            html.push_str("<div class=\"pair\">");
        }
        if let Some(thumbnail) = page.thumbnails.get(&row.path) {
            let _ = write!(html, "<img alt=\"\" src=\"{}\">", escape(thumbnail));
        }
        if let Some(overlay) = overlay {
            let _ = write!(
                html,
                "<img alt=\"the same under heat: where it looked like {}\" src=\"{}\"></div>",
                escape(&row.predicted),
                escape(overlay)
            );
        }
        let (class, truth) = match row.correct {
            true => ("", String::new()),
            false => (" class=\"wrong\"", format!("is {}<br>", escape(&row.class))),
        };
        let _ = writeln!(
            html,
            "<strong{class}>{}, {}</strong><br>{truth}<span class=\"soft\">{}</span></li>",
            escape(&row.predicted),
            percent(row.confidence),
            escape(&row.path)
        );
    }
    html.push_str("</ul>\n</section>\n");
}

pub(super) fn calibration(html: &mut String, page: &Page<'_>) {
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
