//! How training went: the place of the curves, and all rows.

use std::fmt::Write;

use super::Page;
use crate::report::html::{self, Table};

pub(super) fn charts(body: &mut String, page: &Page<'_>) {
    body.push_str("<section aria-labelledby=\"curves\">\n<h2 id=\"curves\">Learning curves</h2>\n");
    if page.rows.is_empty() {
        body.push_str("<p>No epoch is over yet.</p>\n</section>\n");
        return;
    }
    body.push_str(
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
        body.push_str(&html::chart(id, name));
    }
    body.push_str("</div>\n</section>\n");
}

/// All rows of `metrics.csv`.
pub(super) fn epochs(html: &mut String, page: &Page<'_>) {
    if page.rows.is_empty() {
        return;
    }
    let header = [
        "phase",
        "epoch",
        "step",
        "learning rate",
        "loss",
        "accuracy",
        "val loss",
        "val accuracy",
        "seconds",
    ];
    let shown = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
    let rows = page.rows.iter().map(|row| {
        vec![
            row.phase.clone(),
            row.epoch.to_string(),
            row.step.to_string(),
            format!("{:e}", row.lr),
            shown(row.train_loss),
            shown(row.train_accuracy),
            shown(row.val_loss),
            shown(row.val_accuracy),
            format!("{:.1}", row.seconds),
        ]
    });
    let table = Table {
        header: &header.map(str::to_owned),
        rows: &rows.collect::<Vec<_>>(),
    };
    let _ = writeln!(
        html,
        "<section aria-labelledby=\"epochs\">\n<h2 id=\"epochs\">Epochs</h2>\n<details><summary>All \
         rows</summary>\n{}</details>\n</section>",
        table.html("table of epochs", "")
    );
}
