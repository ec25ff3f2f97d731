//! What the page's script draws from.

use serde_json::{Value, json};

use super::Page;
use crate::report::axis::Unit;

/// The curves, and which pictures are in which cell of the confusion matrix.
pub(super) fn embedded(page: &Page<'_>) -> Value {
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
    json!({
        "unit": unit.name().to_lowercase(),
        "rows": rows.collect::<Vec<_>>(),
        "classes": classes,
        "pictures": pictures.collect::<Vec<_>>(),
        "thumbnails": page.thumbnails,
    })
}
