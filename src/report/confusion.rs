//! The confusion matrix of a test report.

use super::axis::{LABEL, SMALL};
use super::canvas::{Align, Canvas, Color, Font, GREY, INK, PALE, WHITE};
use super::scale::scale;
use crate::records::TestReport;

/// Up to this many classes each cell holds its count and share.
const WRITTEN_CLASSES: usize = 20;
/// Widest name of a class, in pixels.
const NAME_WIDTH: f64 = 130.0;
/// Most pixels of a side, whatever the number of classes.
const WIDEST: f64 = 4800.0;
/// Colour of a full row.
const DEEP: (f64, f64, f64) = (8.0, 64.0, 129.0);

/// Draws `confusion[true][predicted]`: counts and percentages of each row, coloured by
/// percentage. Above 20 classes colours alone. `title` is the run's name.
pub fn confusion(report: &TestReport, title: &str) -> Canvas {
    let classes = report.confusion.len();
    let cell = match classes {
        0..=4 => 120.0,
        5..=6 => 96.0,
        7..=10 => 66.0,
        11..=WRITTEN_CLASSES => 44.0,
        21..=40 => 20.0,
        // Not over what a PNG can be looked at, at the price of cells that share a pixel.
        _ => (800.0 / classes as f64)
            .floor()
            .max(4.0)
            .min(WIDEST / classes as f64),
    };
    let font = Font::new(SMALL, INK);
    let names: Vec<String> = report
        .per_class
        .iter()
        .map(|class| font.fit(&class.class, NAME_WIDTH))
        .collect();
    let widest = names
        .iter()
        .map(|name| font.width(name))
        .fold(20.0, f64::max);
    let upward = widest > cell - 8.0;
    let (left, top) = (44.0 + widest + 10.0, 78.0);
    let side = cell * classes as f64;
    let (right, bottom) = (left + side, top + side);
    let below = if upward { widest } else { SMALL } + 22.0;
    let width = (right + 96.0).max(660.0);
    let mut canvas = Canvas::new(width as usize, (bottom + below + 34.0) as usize);

    canvas.head(title, &subtitle(report));
    for (row, counts) in report.confusion.iter().enumerate() {
        let total: u64 = counts.iter().sum();
        for (column, &count) in counts.iter().enumerate() {
            let share = if total == 0 {
                0.0
            } else {
                count as f64 / total as f64
            };
            let corner = (left + column as f64 * cell, top + row as f64 * cell);
            // Nothing is as white as the paper, and mostly there is nothing.
            if count > 0 {
                canvas.rect(corner, (corner.0 + cell, corner.1 + cell), shade(share));
            }
            if classes <= WRITTEN_CLASSES {
                write_cell(&mut canvas, corner, cell, count, share);
            }
        }
    }
    draw_frame(&mut canvas, (left, top), cell, classes);
    // One name for several rows if they are lower than a line of text.
    let every = (17.0 / cell).ceil() as usize;
    for (index, name) in names.iter().enumerate().step_by(every.max(1)) {
        let middle = (index as f64 + 0.5) * cell;
        canvas.text(name, (left - 10.0, top + middle), Align::Right, font);
        if upward {
            canvas.text_upward(name, (left + middle, bottom + 10.0), Align::Right, font);
        } else {
            canvas.text(name, (left + middle, bottom + 16.0), Align::Centre, font);
        }
    }
    let label = Font::new(LABEL, INK).bold();
    let middle = side / 2.0;
    canvas.text_upward("True class", (20.0, top + middle), Align::Centre, label);
    let under = (left + middle, bottom + below + 12.0);
    canvas.text("Predicted class", under, Align::Centre, label);
    let texts = [
        (0.0, "0%"),
        (0.25, "25%"),
        (0.5, "50%"),
        (0.75, "75%"),
        (1.0, "100%"),
    ];
    let place = (right + 22.0, top);
    scale(&mut canvas, place, bottom, (100, shade), &texts);
    canvas
}

/// The accuracy and what it was measured on.
pub(super) fn subtitle(report: &TestReport) -> String {
    let [low, high] = report.accuracy_interval.map(|bound| 100.0 * bound);
    format!(
        "Accuracy {:.2}% of {} pictures in the {} split (95% interval {low:.1} to {high:.1}%)",
        100.0 * report.accuracy,
        report.images,
        report.split.name(),
    )
}

fn write_cell(canvas: &mut Canvas, corner: (f64, f64), cell: f64, count: u64, share: f64) {
    let middle = (corner.0 + cell / 2.0, corner.1 + cell / 2.0);
    let color = match (count, share > 0.5) {
        (0, _) => plotters::style::RGBColor(170, 170, 170),
        (_, true) => WHITE,
        (_, false) => INK,
    };
    let size = if cell > 60.0 { 17.0 } else { 14.0 };
    let (bold, plain) = (Font::new(size, color).bold(), Font::new(SMALL, color));
    if count == 0 {
        // In a large matrix zeros would drown the errors.
        if cell > 60.0 {
            canvas.text("0", middle, Align::Centre, plain);
        }
        return;
    }
    let count = bold.fit(&count.to_string(), cell);
    let gap = if cell > 60.0 { 11.0 } else { 9.0 };
    canvas.text(&count, (middle.0, middle.1 - gap), Align::Centre, bold);
    let decimals = usize::from(cell > 60.0 && share < 0.9995);
    let share = format!("{:.decimals$}%", 100.0 * share);
    canvas.text(&share, (middle.0, middle.1 + gap), Align::Centre, plain);
}

fn draw_frame(canvas: &mut Canvas, (left, top): (f64, f64), cell: f64, classes: usize) {
    let side = cell * classes as f64;
    // Below that, lines would hide the cells.
    if cell >= 10.0 {
        for index in 1..classes {
            let at = index as f64 * cell;
            canvas.line(&[(left, top + at), (left + side, top + at)], PALE, 1.0);
            canvas.line(&[(left + at, top), (left + at, top + side)], PALE, 1.0);
        }
    }
    let (right, bottom) = (left + side, top + side);
    canvas.frame((left, top), (right, bottom), GREY);
}

/// White for none of a row to deep blue for all of it. The root makes single errors visible.
fn shade(share: f64) -> Color {
    let t = if share > 0.0 {
        0.04 + 0.96 * share.powf(0.8)
    } else {
        0.0
    };
    let mix = |deep: f64| (255.0 + (deep - 255.0) * t).round() as u8;
    plotters::style::RGBColor(mix(DEEP.0), mix(DEEP.1), mix(DEEP.2))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::curves::tests::size;
    use super::*;
    use crate::records::Split;

    /// A report in which one in ten pictures of a class is taken for its neighbour.
    pub(in super::super) fn report(classes: usize, name: impl Fn(usize) -> String) -> TestReport {
        let names: Vec<String> = (0..classes).map(name).collect();
        let near = |i: usize| (i % 7 == 3) as usize + 3 * usize::from(i % 31 == 5);
        let guess = |i: usize| (i % classes, (i + near(i)) % classes);
        let pairs = (0..40 * classes + 7).map(guess);
        TestReport::from_predictions(Split::Test, "best", &names, pairs, 0.3)
    }

    #[test]
    fn few_and_many_classes_are_drawn_the_same_each_time() {
        for classes in [1, 2, 5, 10, 20, 37, 300] {
            let report = report(classes, |index| {
                format!("a class with a long name, {index}")
            });
            let png = confusion(&report, "flowers").png().unwrap();
            assert!(size(&png).0 >= 640);
            assert_eq!(png, confusion(&report, "flowers").png().unwrap());
        }
    }
}
