//! Validation curves of several runs in one picture.

use super::axis::{LABEL, Marker, Panel, SMALL, Stroke, Unit, row_range};
use super::canvas::{Align, Canvas, Font, INK};
use super::curves::{LEFT, MARKED_ROWS, Metric, RIGHT, WIDTH, best_row};
use super::palette::distinct;
use crate::records::MetricsRow;

const PANEL: f64 = 290.0;
const TOP: f64 = 80.0;
const LINE: f64 = 24.0;

/// Draws several runs, 800 pixels wide: validation accuracy above, validation loss below,
/// a colour a run, and a legend with each run's best value. Runs without validation show training.
pub fn overlay(runs: &[(String, Vec<MetricsRow>)]) -> Canvas {
    let columns = if runs.len() > 3 { 2 } else { 1 };
    let lines = runs.len().div_ceil(columns);
    let legend = TOP + 2.0 * PANEL + 38.0 + 62.0;
    let height = legend + lines as f64 * LINE + 8.0;
    let mut canvas = Canvas::new(WIDTH, height as usize);
    canvas.head("Comparison of runs", &subtitle(runs));

    let all = || runs.iter().flat_map(|(_, rows)| rows);
    // Epochs only where they are the unit of all.
    let steps = runs.iter().any(|(_, rows)| Unit::of(rows) == Unit::Step);
    let unit = if steps { Unit::Step } else { Unit::Epoch };
    let x = row_range(all().map(|row| unit.at(row)));
    let panels = [
        (TOP, "Accuracy", Metric::Accuracy),
        (TOP + PANEL + 38.0, "Loss", Metric::Loss),
    ];
    for (top, name, metric) in panels {
        let shown = |rows: &[MetricsRow]| -> Vec<(f64, f64)> {
            let validated = validated(rows);
            let value = |row: &MetricsRow| {
                if validated {
                    metric.val(row)
                } else {
                    metric.train(row)
                }
            };
            rows.iter().map(|row| (unit.at(row), value(row))).collect()
        };
        let series: Vec<_> = runs.iter().map(|(_, rows)| shown(rows)).collect();
        let panel = Panel {
            left: LEFT,
            top,
            right: RIGHT,
            bottom: top + PANEL,
            x,
            y: metric.range(series.iter().flatten().map(|value| value.1)),
        };
        panel.frame(&mut canvas, name, metric == Metric::Accuracy);
        if series.iter().flatten().all(|value| !value.1.is_finite()) {
            panel.empty(&mut canvas);
        }
        // The first run is drawn last, over the others.
        for (index, values) in series.iter().enumerate().rev() {
            panel.series(&mut canvas, values, stroke(index, &runs[index].1));
        }
    }
    let font = Font::new(LABEL, INK).bold();
    let below = TOP + 2.0 * PANEL + 38.0 + 35.0;
    canvas.text(
        unit.name(),
        ((LEFT + RIGHT) / 2.0, below),
        Align::Centre,
        font,
    );
    draw_legend(&mut canvas, runs, columns, legend);
    canvas
}

fn validated(rows: &[MetricsRow]) -> bool {
    let values = |row: &MetricsRow| [row.val_accuracy, row.val_loss];
    rows.iter()
        .any(|row| values(row).iter().any(Option::is_some))
}

fn subtitle(runs: &[(String, Vec<MetricsRow>)]) -> String {
    let kind = match runs.iter().filter(|(_, rows)| validated(rows)).count() {
        0 => "training",
        count if count == runs.len() => "validation",
        _ => "validation, or training where there is none",
    };
    format!("{} runs, accuracy and loss in {kind}", runs.len())
}

fn stroke(index: usize, rows: &[MetricsRow]) -> Stroke {
    Stroke {
        marker: (rows.len() <= MARKED_ROWS).then_some(Marker::Disc),
        ..distinct(index)
    }
}

fn draw_legend(canvas: &mut Canvas, runs: &[(String, Vec<MetricsRow>)], columns: usize, top: f64) {
    let font = Font::new(SMALL, INK);
    let lines = runs.len().div_ceil(columns);
    let width = (RIGHT - 20.0) / columns as f64;
    for (index, (name, rows)) in runs.iter().enumerate() {
        let x = 20.0 + (index / lines) as f64 * width;
        let y = top + (index % lines) as f64 * LINE + 6.0;
        stroke(index, rows).sample(canvas, (x, y));
        let best = match best_row(rows) {
            Some(best) => format!("  {:.2}%", 100.0 * Metric::Accuracy.val(best)),
            None if validated(rows) => String::new(),
            None => "  (training)".into(),
        };
        let room = width - 38.0 - 16.0 - font.width(&best);
        let text = font.fit(name, room) + &best;
        canvas.text(&text, (x + 38.0, y), Align::Left, font);
    }
}

#[cfg(test)]
mod tests {
    use super::super::curves::tests::{rows, size};
    use super::*;

    #[test]
    fn any_number_of_runs_fits() {
        for count in [2, 4, 25] {
            let name = |index: usize| format!("flowers_mobilenet_v2_seed_{index}");
            let runs: Vec<_> = (0..count).map(|i| (name(i), rows(10, 2 * i))).collect();
            let png = overlay(&runs).png().unwrap();
            assert_eq!(size(&png).0, 800);
            assert_eq!(png, overlay(&runs).png().unwrap());
        }
    }

    #[test]
    fn runs_without_validation_or_values_are_drawn() {
        let mut without = rows(5, 0);
        for row in &mut without {
            (row.val_loss, row.val_accuracy) = (None, None);
        }
        let runs = [
            ("a".into(), without),
            ("b".into(), rows(3, 3)),
            ("c".into(), vec![]),
        ];
        assert_eq!(size(&overlay(&runs).png().unwrap()).0, 800);
    }
}
