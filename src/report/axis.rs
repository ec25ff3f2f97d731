//! Ranges, ticks and framed panels.

use super::canvas::{Align, Canvas, Color, Font, GREY, INK, PALE, Point};
use crate::records::MetricsRow;

/// Text beside ticks and in legends.
pub(super) const SMALL: f64 = 14.0;
/// Names of axes.
pub(super) const LABEL: f64 = 15.0;

/// A closed range of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Range {
    /// No bounds at all.
    pub(super) const EVERYTHING: Self = Self {
        low: f64::MIN,
        high: f64::MAX,
    };

    /// The range of finite values; `None` if there are none.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let finite = values.filter(|value| value.is_finite());
        finite.fold(None, |range: Option<Self>, value| {
            let Self { low, high } = range.unwrap_or(Self {
                low: value,
                high: value,
            });
            Some(Self {
                low: low.min(value),
                high: high.max(value),
            })
        })
    }

    /// Wider by a share of its width on both sides, at least `least` wide, kept within `bounds`.
    pub(super) fn padded(self, share: f64, least: f64, bounds: Self) -> Self {
        let missing = (least - (self.high - self.low)).max(0.0) / 2.0;
        let (low, high) = (self.low - missing, self.high + missing);
        let pad = (high - low) * share;
        Self {
            low: (low - pad).max(bounds.low),
            high: (high + pad).min(bounds.high),
        }
    }
}

/// Round values within a range, at most `most` of them, at a step of 1, 2 or 5 times a power of
/// ten that is at least `least_step`; and the decimals that tell them apart.
pub(super) fn ticks(range: Range, most: usize, least_step: f64) -> (Vec<f64>, usize) {
    let width = (range.high - range.low).max(f64::MIN_POSITIVE);
    let raw = (width / most as f64).max(least_step);
    let power = raw.log10().floor();
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * 10f64.powf(power));
    let fits = |step: &f64| {
        *step >= least_step * 0.999
            && (range.high / step).floor() - (range.low / step).ceil() < most as f64
    };
    let step = steps.into_iter().find(fits).unwrap_or(steps[3]);
    let slack = 1e-9 * width;
    let first = ((range.low - slack) / step).ceil() as i64;
    let last = ((range.high + slack) / step).floor() as i64;
    let values = (first..=last).map(|index| index as f64 * step).collect();
    let decimals = (-step.log10() - 1e-9).ceil().max(0.0) as usize;
    (values, decimals)
}

/// A framed area with its two ranges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
    pub(super) x: Range,
    pub(super) y: Range,
}

impl Panel {
    /// Where a pair of values lies.
    pub(super) fn at(&self, x: f64, y: f64) -> Point {
        let share = |value: f64, range: Range| (value - range.low) / (range.high - range.low);
        (
            self.left + share(x, self.x) * (self.right - self.left),
            self.bottom - share(y, self.y) * (self.bottom - self.top),
        )
    }

    /// Grid, frame, ticks and the name of the vertical axis. Whole numbers below; `percent` writes
    /// 0.93 as 93%.
    pub(super) fn frame(&self, canvas: &mut Canvas, name: &str, percent: bool) {
        self.whole_numbers(canvas);
        self.sides(canvas, name, percent);
    }

    /// Grid and ticks of whole numbers below.
    pub(super) fn whole_numbers(&self, canvas: &mut Canvas) {
        for x in ticks(self.x, 10, 1.0).0 {
            self.tick_below(canvas, x, &format!("{x}"));
        }
    }

    /// A line of the grid upward from a value below, and the tick with its text.
    pub(super) fn tick_below(&self, canvas: &mut Canvas, x: f64, text: &str) {
        let (at, _) = self.at(x, self.y.low);
        canvas.line(&[(at, self.top), (at, self.bottom)], PALE, 1.0);
        canvas.line(&[(at, self.bottom), (at, self.bottom + 4.0)], INK, 1.0);
        let place = (at, self.bottom + 15.0);
        canvas.text(text, place, Align::Centre, Font::new(SMALL, INK));
    }

    /// A line of the grid from a value at the left, and the tick with its text.
    pub(super) fn tick_beside(&self, canvas: &mut Canvas, y: f64, text: &str) {
        let (_, at) = self.at(self.x.low, y);
        canvas.line(&[(self.left, at), (self.right, at)], PALE, 1.0);
        canvas.line(&[(self.left - 4.0, at), (self.left, at)], INK, 1.0);
        let place = (self.left - 8.0, at);
        canvas.text(text, place, Align::Right, Font::new(SMALL, INK));
    }

    /// The rectangle around, and the name of the vertical axis.
    pub(super) fn border(&self, canvas: &mut Canvas, name: &str) {
        let corners = ((self.left, self.top), (self.right, self.bottom));
        canvas.frame(corners.0, corners.1, GREY);
        let middle = (16.0, (self.top + self.bottom) / 2.0);
        canvas.text_upward(name, middle, Align::Centre, Font::new(LABEL, INK).bold());
    }

    /// The frame but for what stands below it.
    pub(super) fn sides(&self, canvas: &mut Canvas, name: &str, percent: bool) {
        let (ys, decimals) = ticks(self.y, 7, 0.0);
        for &y in &ys {
            let text = if percent {
                format!("{:.*}%", decimals.saturating_sub(2), 100.0 * y)
            } else if decimals > 4 || y.abs() >= 1e5 {
                format!("{y:.1e}")
            } else {
                format!("{y:.decimals$}")
            };
            self.tick_beside(canvas, y, &text);
        }
        self.border(canvas, name);
    }

    /// Says in the middle that there is nothing to show.
    pub(super) fn empty(&self, canvas: &mut Canvas) {
        let middle = (
            (self.left + self.right) / 2.0,
            (self.top + self.bottom) / 2.0,
        );
        canvas.text("no values", middle, Align::Centre, Font::new(LABEL, GREY));
    }

    /// A line through the finite values; the others leave a gap. With `markers`, a dot at each.
    pub(super) fn series(&self, canvas: &mut Canvas, values: &[(f64, f64)], stroke: Stroke) {
        let finite = |value: &(f64, f64)| value.1.is_finite();
        for piece in values.split(|value| !finite(value)) {
            // What a damaged table says must not lead far out of the picture.
            let inside = |y: f64| y.max(self.y.low).min(self.y.high);
            let points = piece.iter().map(|&(x, y)| self.at(x, inside(y)));
            let points: Vec<Point> = points.collect();
            match stroke.dashes {
                Some(dashes) => canvas.dashed(&points, stroke.color, 2.2, dashes),
                None => canvas.line(&points, stroke.color, 2.2),
            }
            if let Some(marker) = stroke.marker {
                // Of many points some, so that the mark stays one.
                let every = values.len().div_ceil(MARKS).max(1);
                for &point in points.iter().step_by(every) {
                    marker.draw(canvas, point, stroke.color);
                }
            } else if let [lone] = points.as_slice() {
                // It would not be seen at all.
                canvas.disc(*lone, 3.6, stroke.color);
            }
        }
    }
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stroke {
    pub(super) color: Color,
    /// Lengths of dash and gap; a full line if none.
    pub(super) dashes: Option<(f64, f64)>,
    /// What its points are marked with.
    pub(super) marker: Option<Marker>,
}

/// Most points of a series that are marked.
pub(super) const MARKS: usize = 45;

/// What marks a point, so that series differ in more than their colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    Disc,
    /// A square on its corner.
    Diamond,
}

impl Marker {
    pub(super) fn draw(self, canvas: &mut Canvas, (x, y): Point, color: Color) {
        match self {
            Self::Disc => canvas.disc((x, y), 3.6, color),
            Self::Diamond => {
                let side = 5.2;
                let corners = [(x - side, y), (x, y - side), (x + side, y), (x, y + side)];
                canvas.polygon(&corners, color);
            }
        }
    }
}

impl Stroke {
    /// A sample for a legend, 30 pixels from `at` on.
    pub(super) fn sample(&self, canvas: &mut Canvas, (x, y): Point) {
        let ends = [(x, y), (x + 30.0, y)];
        match self.dashes {
            Some(dashes) => canvas.dashed(&ends, self.color, 2.2, dashes),
            None => canvas.line(&ends, self.color, 2.2),
        }
        if let Some(marker) = self.marker {
            marker.draw(canvas, (x + 15.0, y), self.color);
        }
    }
}

/// Ranges of the vertical axes from what is drawn.
pub(super) fn accuracy_range(values: impl Iterator<Item = f64>) -> Range {
    let whole = Range {
        low: 0.0,
        high: 1.0,
    };
    Range::of(values).map_or(whole, |range| range.padded(0.05, 0.04, whole))
}

/// As [`accuracy_range`], for losses.
pub(super) fn loss_range(values: impl Iterator<Item = f64>) -> Range {
    let bounds = Range {
        low: 0.0,
        high: f64::MAX,
    };
    let range = Range::of(values).unwrap_or(Range {
        low: 0.0,
        high: 1.0,
    });
    range.padded(0.05, 0.05 * range.high.abs().max(1e-3), bounds)
}

/// What the horizontal axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Epochs: every row is one.
    Epoch,
    /// Steps.
    Step,
}

impl Unit {
    /// The unit of a log. Steps where rows are no whole epochs: then epochs do not go up by one, or
    /// the steps of a row differ within a phase. Logs without steps are in epochs.
    pub fn of(rows: &[MetricsRow]) -> Self {
        let mut phase: Option<(&str, u64)> = None;
        let mut before = (0, 0);
        let mut whole = true;
        for row in rows.iter().filter(|row| row.epoch > 0) {
            let at = (row.epoch, row.step);
            let Some(steps) = at.1.checked_sub(before.1) else {
                // Not a log of ours.
                return Self::Epoch;
            };
            let as_before = match phase {
                Some((name, before)) if name == row.phase => steps == before,
                _ => true,
            };
            whole &= at.0.checked_sub(before.0) == Some(1) && as_before;
            phase = Some((&row.phase, steps));
            before = at;
        }
        match whole || before.1 == 0 {
            true => Self::Epoch,
            false => Self::Step,
        }
    }

    /// Name of the axis.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epoch => "Epoch",
            Self::Step => "Step",
        }
    }

    /// Where a row lies.
    pub fn at(self, row: &MetricsRow) -> f64 {
        match self {
            Self::Epoch => row.epoch as f64,
            Self::Step => row.step as f64,
        }
    }
}

/// Range of the horizontal axis: from the first to the last row with room at both ends.
pub(super) fn row_range(places: impl Iterator<Item = f64>) -> Range {
    let range = Range::of(places).unwrap_or(Range {
        low: 0.0,
        high: 1.0,
    });
    range.padded(0.02, 1.0, Range::EVERYTHING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_follows_from_the_rows() {
        let row = |phase: &str, epoch: usize, step: u64| {
            let text = format!("{{\"phase\":\"{phase}\",\"epoch\":{epoch},\"step\":{step}}}");
            serde_json::from_str::<MetricsRow>(&text).unwrap()
        };
        let unit = |rows: &[(&str, usize, u64)]| {
            let rows = rows
                .iter()
                .map(|&(phase, epoch, step)| row(phase, epoch, step));
            Unit::of(&rows.collect::<Vec<_>>())
        };
        assert_eq!(unit(&[]), Unit::Epoch);
        let whole = [
            ("a", 0, 0),
            ("a", 1, 25),
            ("a", 2, 50),
            ("b", 3, 76),
            ("b", 4, 102),
        ];
        assert_eq!(unit(&whole), Unit::Epoch);
        assert_eq!(unit(&[("a", 1, 0), ("a", 2, 0), ("b", 7, 0)]), Unit::Epoch);
        assert_eq!(unit(&[("a", 1, 30), ("a", 1, 60)]), Unit::Step);
        assert_eq!(unit(&[("a", 2, 30), ("a", 3, 60)]), Unit::Step);
        let cut_short = [("a", 1, 25), ("a", 2, 50), ("a", 3, 60), ("b", 4, 85)];
        assert_eq!(unit(&cut_short), Unit::Step);
    }

    #[test]
    fn ticks_are_round_within_the_range_and_few() {
        let at = |low, high, most, least| ticks(Range { low, high }, most, least);
        assert_eq!(
            at(0.0, 1.0, 7, 0.0),
            (vec![0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0], 1)
        );
        assert_eq!(
            at(0.8, 20.2, 10, 1.0).0,
            [2., 4., 6., 8., 10., 12., 14., 16., 18., 20.]
        );
        assert_eq!(at(0.5, 1.5, 10, 1.0), (vec![1.0], 0));
        for (low, high) in [
            (0.871, 0.998),
            (0.0, 1e-4),
            (0.3, 0.301),
            (0.0, 3e5),
            (-0.2, 1020.0),
        ] {
            let (values, _) = at(low, high, 7, 0.0);
            assert!(
                (2..=8).contains(&values.len()),
                "{low} to {high}: {values:?}"
            );
            assert!(
                values
                    .iter()
                    .all(|v| (low - 1e-9..=high + 1e-9).contains(v))
            );
        }
    }
}
