//! The curve of a learning-rate range test.

use super::axis::{LABEL, Panel, Range, SMALL, Stroke, loss_range};
use super::canvas::{Align, Canvas, Color, Font, GREY, INK, WHITE};
use super::curves::{LEFT, RIGHT, WIDTH};
use super::palette;
use plotters::style::RGBColor;

/// Losses of batches, and their mean.
const RAW: Color = RGBColor(166, 200, 224);
const SMOOTHED: Color = palette::BLUE;
/// Marks, in their order.
const MARKS: [Color; 3] = [palette::COLORS[2], palette::VERMILION, palette::COLORS[3]];

const HEIGHT: usize = 500;
const TOP: f64 = 130.0;
const BOTTOM: f64 = 444.0;
/// How far above the start of the descent the picture reaches, in parts of the descent.
const ABOVE: f64 = 0.5;
/// With fewer decades than this, 2 and 5 times their powers have lines, too.
const FEW_DECADES: f64 = 2.5;
/// Of more decades, not each has a line.
const MOST_DECADES: f64 = 12.0;

/// A step: rate, loss and smoothed loss.
pub type RatePoint = [f64; 3];

/// A rate to be marked.
#[derive(Debug, Clone, PartialEq)]
pub struct RateMark {
    /// What stands in the legend.
    pub name: String,
    /// The rate.
    pub lr: f64,
    /// Where on the curve.
    pub loss: f64,
    /// Whether it is the one to take.
    pub recommended: bool,
}

/// Draws losses over the logarithm of the rate, 800 pixels wide. What lies far above the curve's
/// beginning is out of the picture.
pub fn rates((title, subtitle): (&str, &str), points: &[RatePoint], marks: &[RateMark]) -> Canvas {
    let mut canvas = Canvas::new(WIDTH, HEIGHT);
    canvas.head(title, subtitle);
    let logs = points.iter().map(|point| point[0].log10());
    let x = Range::of(logs).unwrap_or(Range {
        low: -7.0,
        high: 1.0,
    });
    let panel = Panel {
        left: LEFT,
        top: TOP,
        right: RIGHT,
        bottom: BOTTOM,
        x: x.padded(0.02, 0.1, Range::EVERYTHING),
        y: losses(points),
    };
    frame(&mut canvas, &panel);
    if points.is_empty() {
        panel.empty(&mut canvas);
    }
    for (column, color) in [(1, RAW), (2, SMOOTHED)] {
        let values = points.iter().map(|point| (point[0].log10(), point[column]));
        let shown = inside(&values.collect::<Vec<_>>(), panel.y);
        panel.series(&mut canvas, &shown, line(color));
    }
    for (mark, color) in marks.iter().zip(MARKS) {
        let (at, height) = panel.at(mark.lr.log10(), mark.loss);
        if !(panel.left..=panel.right).contains(&at) {
            continue;
        }
        let foot = [(at, height), (at, panel.bottom)];
        canvas.dashed(&foot, color, 1.6, (5.0, 4.0));
        dot(&mut canvas, (at, height), color, mark.recommended);
    }
    let middle = ((LEFT + RIGHT) / 2.0, 483.0);
    let font = Font::new(LABEL, INK).bold();
    canvas.text("Learning rate", middle, Align::Centre, font);
    legend(&mut canvas, marks);
    canvas
}

/// What the vertical axis shows: the lowest loss, and a little more than the curve begins with.
fn losses(points: &[RatePoint]) -> Range {
    let smoothed = points.iter().map(|point| point[2]);
    let lowest = smoothed.clone().fold(f64::INFINITY, f64::min);
    let descent = smoothed.take_while(|&loss| loss > lowest).chain([lowest]);
    let highest = descent.fold(f64::NEG_INFINITY, f64::max);
    let low = points
        .iter()
        .map(|point| point[1])
        .filter(|it| it.is_finite());
    let low = low.fold(lowest, f64::min);
    let high = highest + ABOVE * (highest - low);
    loss_range([low, high].into_iter())
}

/// The values, those out of the picture left out but for the first on the way out and the last on
/// the way in, so that the line leads to the edge.
fn inside(values: &[(f64, f64)], range: Range) -> Vec<(f64, f64)> {
    let is_out = |index: Option<usize>| {
        let value = index.and_then(|index| values.get(index));
        value.is_none_or(|value| !(range.low..=range.high).contains(&value.1))
    };
    let shown = values.iter().enumerate().map(|(index, &(x, y))| {
        let lost = [index.checked_sub(1), Some(index), Some(index + 1)];
        match lost.into_iter().all(is_out) {
            true => (x, f64::NAN),
            false => (x, y),
        }
    });
    shown.collect()
}

/// Frame, decades and losses.
fn frame(canvas: &mut Canvas, panel: &Panel) {
    let Range { low, high } = panel.x;
    let factors: &[u32] = match high - low < FEW_DECADES {
        true => &[1, 2, 5],
        false => &[1],
    };
    let every = ((high - low) / MOST_DECADES).ceil().max(1.0) as usize;
    for decade in (low.floor() as i32..=high.ceil() as i32).step_by(every) {
        for &factor in factors {
            let log = f64::from(decade) + f64::from(factor).log10();
            if !(low..=high).contains(&log) {
                continue;
            }
            let text = match u32::try_from(decade) {
                Ok(power @ 0..=2) => (factor * 10u32.pow(power)).to_string(),
                _ => format!("{factor}e{decade}"),
            };
            panel.tick_below(canvas, log, &text);
        }
    }
    panel.sides(canvas, "Loss", false);
}

fn legend(canvas: &mut Canvas, marks: &[RateMark]) {
    let font = Font::new(SMALL, INK);
    let mut x = LEFT;
    for (name, color) in [("Loss of a step", RAW), ("Smoothed", SMOOTHED)] {
        line(color).sample(canvas, (x, 80.0));
        canvas.text(name, (x + 38.0, 80.0), Align::Left, font);
        x += 38.0 + font.width(name) + 28.0;
    }
    let mut x = LEFT;
    for (mark, color) in marks.iter().zip(MARKS) {
        let font = match mark.recommended {
            true => font.bold(),
            false => font,
        };
        dot(canvas, (x + 8.0, 106.0), color, mark.recommended);
        canvas.text(&mark.name, (x + 24.0, 106.0), Align::Left, font);
        x += 24.0 + font.width(&mark.name) + 28.0;
    }
}

/// A mark; the recommended one has a ring.
fn dot(canvas: &mut Canvas, at: (f64, f64), color: Color, recommended: bool) {
    if recommended {
        canvas.disc(at, 8.0, INK);
    } else {
        canvas.disc(at, 6.4, GREY);
    }
    canvas.disc(at, if recommended { 6.2 } else { 5.4 }, WHITE);
    canvas.disc(at, 4.2, color);
}

fn line(color: Color) -> Stroke {
    Stroke {
        color,
        dashes: None,
        marker: None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::curves::tests::size;
    use super::*;

    /// A test of a hundred steps that ends by diverging, and what it suggests.
    pub(in crate::report) fn example() -> (Vec<RatePoint>, Vec<RateMark>) {
        let smoothed =
            |at: f64| 1.7 - 1.1 / (1.0 + (-3.0 * (at + 3.0)).exp()) + (2.5 * (at + 0.3)).exp();
        let points = (0..92).map(|step| {
            let at = -7.0 + 8.0 * f64::from(step) / 99.0;
            let noise = 0.16 * (f64::from(step * 7919 % 13) / 13.0 - 0.5);
            [10f64.powf(at), smoothed(at + 0.3) + noise, smoothed(at)]
        });
        let mark = |name: &str, at: f64, recommended: bool| RateMark {
            name: format!("{name} {:.1e}", 10f64.powf(at)),
            lr: 10f64.powf(at),
            loss: smoothed(at),
            recommended,
        };
        let marks = vec![
            mark("steepest", -3.0, false),
            mark("valley", -3.7, true),
            mark("minimum / 10", -2.7, false),
        ];
        (points.collect(), marks)
    }

    #[test]
    fn any_curve_is_drawn() {
        let (points, marks) = example();
        let titles = ("flowers", "phase `head`");
        let png = rates(titles, &points, &marks).png().unwrap();
        assert_eq!(size(&png), (800, 500));
        assert_eq!(png, rates(titles, &points, &marks).png().unwrap());
        rates(titles, &points[..3], &marks).png().unwrap();
        rates(titles, &[], &[]).png().unwrap();
        let odd = [
            [1e-3, f64::NAN, 1.0],
            [1e-2, 1e300, 1e300],
            [0.1, f64::INFINITY, f64::NAN],
        ];
        rates(titles, &odd, &[]).png().unwrap();
    }

    #[test]
    fn the_picture_shows_the_descent_and_the_way_out() {
        let (points, _) = example();
        let range = losses(&points);
        assert!(
            range.low < 0.7 && (1.7..2.6).contains(&range.high),
            "{range:?}"
        );
        let values = [1.0, 5.0, 6.0, 7.0, 1.5].map(|y| (0.0, y));
        let shown = inside(
            &values,
            Range {
                low: 0.0,
                high: 2.0,
            },
        );
        let shown: Vec<bool> = shown.iter().map(|value| value.1.is_finite()).collect();
        assert_eq!(shown, [true, true, false, true, true]);
    }
}
