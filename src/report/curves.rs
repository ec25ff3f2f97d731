//! Learning curves of one run: accuracy above, loss below, phases and the best row marked.

use super::axis::{
    LABEL, MARKS, Marker, Panel, Range, SMALL, Stroke, Unit, accuracy_range, loss_range, row_range,
};
use super::canvas::{Align, Canvas, Font, GREY, INK, WHITE};
use super::palette::{BLUE, VERMILION};
use crate::records::MetricsRow;

const TRAIN: Stroke = Stroke {
    color: BLUE,
    dashes: None,
    marker: Some(Marker::Disc),
};
const VALIDATION: Stroke = Stroke {
    color: VERMILION,
    dashes: None,
    marker: Some(Marker::Diamond),
};

pub(super) const WIDTH: usize = 800;
const HEIGHT: usize = 780;
pub(super) const LEFT: f64 = 84.0;
pub(super) const RIGHT: f64 = 782.0;
/// Up to this many rows each value of an overlaid run has a dot.
pub(super) const MARKED_ROWS: usize = MARKS;

/// Draws the rows of a run, 800 pixels wide, over epochs where every row is a whole one and
/// over steps otherwise; `title` is the run's name. `best` is the index of the row that the run calls
/// its best; without it, the first with the best validation accuracy is marked. Values that are
/// absent or not finite leave gaps.
pub fn curves(rows: &[MetricsRow], title: &str, best: Option<usize>) -> Canvas {
    let mut canvas = Canvas::new(WIDTH, HEIGHT);
    let best = marked_row(rows, best);
    let unit = Unit::of(rows);
    canvas.head(title, &subtitle(rows, best, unit));

    let x = row_range(rows.iter().map(|row| unit.at(row)));
    let starts = phase_starts(rows, unit);
    let strip = if starts.is_empty() { 0.0 } else { 22.0 };
    let top = 102.0 + strip;
    let height = (728.0 - top - 38.0) / 2.0;
    let panels = [
        (top, "Accuracy", Metric::Accuracy),
        (top + height + 38.0, "Loss", Metric::Loss),
    ];
    for (top, name, metric) in panels {
        let panel = Panel {
            left: LEFT,
            top,
            right: RIGHT,
            bottom: top + height,
            x,
            y: metric.range(
                rows.iter()
                    .flat_map(|row| [metric.train(row), metric.val(row)]),
            ),
        };
        panel.frame(&mut canvas, name, metric == Metric::Accuracy);
        for (start, _) in &starts {
            let (at, _) = panel.at(*start, panel.y.low);
            canvas.dashed(&[(at, top), (at, panel.bottom)], GREY, 1.4, (6.0, 4.0));
        }
        draw_values(&mut canvas, &panel, rows, best, (metric, unit));
        if metric == Metric::Accuracy {
            label_phases(&mut canvas, &panel, &starts);
        }
    }
    let middle = (LEFT + RIGHT) / 2.0;
    let font = Font::new(LABEL, INK).bold();
    canvas.text(unit.name(), (middle, 763.0), Align::Centre, font);
    draw_legend(&mut canvas, rows, best.map(|_| unit));
    canvas
}

/// Which of the two panels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metric {
    Accuracy,
    Loss,
}

impl Metric {
    /// Training value; NaN if absent.
    pub(super) fn train(self, row: &MetricsRow) -> f64 {
        let value = match self {
            Self::Accuracy => row.train_accuracy,
            Self::Loss => row.train_loss,
        };
        value.unwrap_or(f64::NAN)
    }

    /// Validation value; NaN if absent.
    pub(super) fn val(self, row: &MetricsRow) -> f64 {
        let value = match self {
            Self::Accuracy => row.val_accuracy,
            Self::Loss => row.val_loss,
        };
        value.unwrap_or(f64::NAN)
    }

    /// Range of the axis.
    pub(super) fn range(self, values: impl Iterator<Item = f64>) -> Range {
        match self {
            Self::Accuracy => accuracy_range(values),
            Self::Loss => loss_range(values),
        }
    }
}

/// The first row with the best validation accuracy.
pub(super) fn best_row(rows: &[MetricsRow]) -> Option<&MetricsRow> {
    let finite = |row: &&MetricsRow| Metric::Accuracy.val(row).is_finite();
    rows.iter().filter(finite).reduce(|best, row| {
        if row.val_accuracy > best.val_accuracy {
            row
        } else {
            best
        }
    })
}

/// The row to mark: none where the best one has no validation accuracy.
fn marked_row(rows: &[MetricsRow], best: Option<usize>) -> Option<&MetricsRow> {
    let Some(best) = best else {
        return best_row(rows);
    };
    let best = rows.get(best);
    best.filter(|row| Metric::Accuracy.val(row).is_finite())
}

fn subtitle(rows: &[MetricsRow], best: Option<&MetricsRow>, unit: Unit) -> String {
    if let Some(best) = best {
        return format!(
            "Best {} {}: validation accuracy {:.2}%",
            unit.name().to_lowercase(),
            unit.at(best),
            100.0 * Metric::Accuracy.val(best)
        );
    }
    let last = rows.iter().rev().find_map(|row| row.train_accuracy);
    match last {
        Some(accuracy) if accuracy.is_finite() => {
            format!(
                "Last training accuracy {:.2}%, no validation",
                100.0 * accuracy
            )
        }
        _ => "No accuracy recorded".into(),
    }
}

/// Where a phase other than the first starts, with what to call it.
pub(super) fn phase_starts(rows: &[MetricsRow], unit: Unit) -> Vec<(f64, String)> {
    let mut starts: Vec<(f64, String)> = Vec::new();
    for pair in rows.windows(2) {
        let [before, after] = pair else { continue };
        if before.phase == after.phase || before.epoch == 0 {
            continue;
        }
        let plain = after.phase.replace(['_', '-'], " ");
        let fine = plain.to_lowercase().replace(' ', "").starts_with("finetun");
        let name = if fine && starts.is_empty() {
            "Start of fine-tuning".into()
        } else {
            plain
        };
        starts.push((unit.at(before), name));
    }
    starts
}

/// Writes the names of phases above the panel, each centred on its line where there is room.
pub(super) fn label_phases(canvas: &mut Canvas, panel: &Panel, starts: &[(f64, String)]) {
    let font = Font::new(SMALL, GREY);
    let mut free_from = panel.left;
    for (index, (start, name)) in starts.iter().enumerate() {
        let (at, _) = panel.at(*start, panel.y.low);
        // Room up to the next line at least, so that each label stays by its own.
        let next = starts
            .get(index + 1)
            .map(|(start, _)| panel.at(*start, panel.y.low).0);
        let limit = next.map_or(panel.right, |next| ((at + next) / 2.0).max(at + 20.0));
        let name = font.fit(name, (limit.min(panel.right) - free_from).max(0.0));
        let width = font.width(&name);
        let start = (at - width / 2.0).min(limit - width).max(free_from);
        if name == "…" || start > at {
            continue;
        }
        canvas.text(&name, (start, panel.top - 12.0), Align::Left, font);
        free_from = start + width + 10.0;
    }
}

fn draw_values(
    canvas: &mut Canvas,
    panel: &Panel,
    rows: &[MetricsRow],
    best: Option<&MetricsRow>,
    (metric, unit): (Metric, Unit),
) {
    let series = |value: fn(Metric, &MetricsRow) -> f64| -> Vec<(f64, f64)> {
        let points = rows.iter().map(|row| (unit.at(row), value(metric, row)));
        points.collect()
    };
    let (train, val) = (series(Metric::train), series(Metric::val));
    let any = |values: &[(f64, f64)]| values.iter().any(|value| value.1.is_finite());
    if !any(&train) && !any(&val) {
        panel.empty(canvas);
        return;
    }
    panel.series(canvas, &train, TRAIN);
    panel.series(canvas, &val, VALIDATION);
    // The evaluation before training keeps its mark when not all have one.
    if let Some(row) = rows.first().filter(|row| row.epoch == 0) {
        let value = metric.val(row);
        if value.is_finite() {
            Marker::Diamond.draw(canvas, panel.at(0.0, value), VALIDATION.color);
        }
    }
    if let Some(best) = best {
        let value = metric.val(best);
        if value.is_finite() {
            ring(canvas, panel.at(unit.at(best), value));
        }
    }
}

/// The mark of the best row: a dot within a ring.
fn ring(canvas: &mut Canvas, at: (f64, f64)) {
    canvas.disc(at, 8.6, INK);
    canvas.disc(at, 6.8, WHITE);
    Marker::Diamond.draw(canvas, at, VALIDATION.color);
}

fn draw_legend(canvas: &mut Canvas, rows: &[MetricsRow], best: Option<Unit>) {
    let font = Font::new(SMALL, INK);
    let y = 82.0;
    let mut x = LEFT;
    let has = |value: fn(Metric, &MetricsRow) -> f64| {
        let metrics = [Metric::Accuracy, Metric::Loss];
        rows.iter()
            .any(|row| metrics.iter().any(|&metric| value(metric, row).is_finite()))
    };
    let lines = [
        ("Training", TRAIN, has(Metric::train)),
        ("Validation", VALIDATION, has(Metric::val)),
    ];
    for (name, stroke, _) in lines.into_iter().filter(|(_, _, shown)| *shown) {
        stroke.sample(canvas, (x, y));
        canvas.text(name, (x + 38.0, y), Align::Left, font);
        x += 38.0 + font.width(name) + 28.0;
    }
    if let Some(unit) = best {
        ring(canvas, (x + 8.0, y));
        let name = format!("Best {}", unit.name().to_lowercase());
        canvas.text(&name, (x + 24.0, y), Align::Left, font);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A run of two phases that behaves as such runs do.
    pub(in super::super) fn rows(first: usize, second: usize) -> Vec<MetricsRow> {
        let row = |epoch: usize| {
            let fine = epoch > first;
            let t = epoch as f64 / (first + second).max(1) as f64;
            let wiggle = 0.01 * ((epoch * 7919 % 13) as f64 / 13.0 - 0.5);
            let lift = if fine { 0.05 } else { 0.0 };
            let accuracy = 0.9 - 0.65 * (-8.0 * t).exp() + lift;
            MetricsRow {
                phase: if fine {
                    "fine_tune"
                } else {
                    "feature_extraction"
                }
                .into(),
                phase_epoch: if fine { epoch - first } else { epoch },
                epoch,
                step: epoch as u64 * 25,
                lr: 1e-4,
                train_loss: (epoch > 0).then_some(1.4 * (-5.0 * t).exp() + 0.1 - lift),
                train_accuracy: (epoch > 0).then_some((accuracy + 0.02).min(1.0)),
                val_loss: Some(1.5 * (-5.0 * t).exp() + 0.25 + wiggle - 2.0 * lift),
                val_accuracy: Some(accuracy + wiggle),
                images_per_second: 100.0,
                seconds: 1.0,
            }
        };
        (0..=first + second).map(row).collect()
    }

    /// Width and height of a PNG.
    pub(in super::super) fn size(png: &[u8]) -> (u32, u32) {
        let picture = image::load_from_memory(png).unwrap();
        (picture.width(), picture.height())
    }

    fn draw(rows: &[MetricsRow], title: &str) -> Vec<u8> {
        curves(rows, title, None).png().unwrap()
    }

    #[test]
    fn the_best_row_of_the_run_is_marked() {
        let mut log = rows(3, 0);
        for row in &mut log {
            row.val_accuracy = Some(0.5);
        }
        let marked = |log: &[MetricsRow], best| marked_row(log, best).map(|row| row.epoch);
        assert_eq!(marked(&log, None), Some(0));
        assert_eq!(marked(&log, Some(2)), Some(2));
        log[2].val_accuracy = None;
        assert_eq!(marked(&log, Some(2)), None);
    }

    #[test]
    fn the_same_rows_give_the_same_bytes() {
        let png = draw(&rows(10, 10), "flowers");
        assert_eq!(size(&png), (800, 780));
        assert_eq!(png, draw(&rows(10, 10), "flowers"));
        assert_ne!(png, draw(&rows(10, 9), "flowers"));
    }

    #[test]
    fn odd_logs_are_drawn() {
        let mut holes = rows(3, 3);
        holes[2].val_loss = Some(f64::NAN);
        holes[4].train_loss = Some(f64::INFINITY);
        holes[4].val_accuracy = Some(f64::NAN);
        let mut without = rows(5, 0);
        for row in &mut without {
            (row.val_loss, row.val_accuracy) = (None, None);
        }
        let mut nothing = rows(0, 0);
        (nothing[0].val_loss, nothing[0].val_accuracy) = (None, None);
        for odd in [
            holes,
            without,
            nothing,
            rows(0, 0),
            rows(1, 0),
            rows(500, 500),
            vec![],
        ] {
            assert_eq!(size(&draw(&odd, &"long name ".repeat(30))), (800, 780));
        }
    }

    #[test]
    fn phases_are_named_where_they_start() {
        let mut log = rows(2, 2);
        log.extend(rows(2, 2).into_iter().skip(3).map(|row| MetricsRow {
            phase: "all_layers".into(),
            epoch: row.epoch + 2,
            ..row
        }));
        let starts = phase_starts(&log, Unit::of(&log));
        let expected = [(2.0, "Start of fine-tuning"), (4.0, "all layers")];
        assert_eq!(starts.len(), 2);
        for ((epoch, name), expected) in starts.iter().zip(expected) {
            assert_eq!((*epoch, name.as_str()), expected);
        }
    }
}
