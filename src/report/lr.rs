//! The learning rate over a run.

use super::axis::{LABEL, Marker, Panel, Range, Stroke, Unit, row_range};
use super::canvas::{Align, Canvas, Font, GREY, INK};
use super::curves::{LEFT, MARKED_ROWS, RIGHT, WIDTH, label_phases, phase_starts};
use super::palette::BLUE;
use crate::records::MetricsRow;

const HEIGHT: usize = 460;
const TOP: f64 = 104.0;
const BOTTOM: f64 = 396.0;
/// Where the rates of phases differ by that factor, a linear axis would show one of them as 0.
const FAR_APART: f64 = 8.0;
/// How far below the lowest phase's highest rate a logarithmic axis reaches at most.
const DEPTH: f64 = 1e2;

/// Rates by step, a line a phase.
pub type Schedule = Vec<Vec<(u64, f64)>>;

/// Draws the learning rate of each row, which is that of its last step; between them the `schedule`,
/// where it is known. Logarithmic where phases lie far apart.
pub fn lr(rows: &[MetricsRow], title: &str, schedule: Option<&Schedule>) -> Canvas {
    let mut canvas = Canvas::new(WIDTH, HEIGHT);
    let unit = Unit::of(rows);
    let known: Vec<Vec<(f64, f64)>> = phases(rows)
        .into_iter()
        .map(|rows| rows.iter().map(|row| (unit.at(row), row.lr)).collect())
        .collect();
    let lines = schedule.map(|schedule| {
        let place = |&(step, rate): &(u64, f64)| (place(rows, unit, step), rate);
        let line = |phase: &Vec<(u64, f64)>| phase.iter().map(place).collect();
        schedule.iter().map(line).collect::<Vec<Vec<(f64, f64)>>>()
    });
    canvas.head(title, &subtitle(rows, lines.as_ref().unwrap_or(&known)));
    let all = || known.iter().chain(lines.iter().flatten());
    let scale = Scale::of(all());
    // A schedule begins before the first row.
    let scheduled = lines.iter().flatten().flatten().map(|point| point.0);
    let places = rows.iter().map(|row| unit.at(row)).chain(scheduled);
    let panel = Panel {
        left: LEFT,
        top: TOP,
        right: RIGHT,
        bottom: BOTTOM,
        x: row_range(places),
        y: scale.range(),
    };
    match scale {
        Scale::Linear(_) => panel.frame(&mut canvas, "Learning rate", false),
        Scale::Logarithmic(_) => panel.logarithmic(&mut canvas, "Learning rate"),
    }
    let starts = phase_starts(rows, unit);
    for (start, _) in &starts {
        let (at, _) = panel.at(*start, panel.y.low);
        canvas.dashed(&[(at, TOP), (at, BOTTOM)], GREY, 1.4, (6.0, 4.0));
    }
    if all().flatten().all(|point| !scale.at(point.1).is_finite()) {
        panel.empty(&mut canvas);
    }
    let scaled = |line: &Vec<(f64, f64)>| -> Vec<(f64, f64)> {
        line.iter().map(|&(x, rate)| (x, scale.at(rate))).collect()
    };
    let stroke = |marked: bool| Stroke {
        color: BLUE,
        dashes: None,
        marker: marked.then_some(Marker::Disc),
    };
    let markers = rows.len() <= MARKED_ROWS;
    for line in lines.as_ref().unwrap_or(&known) {
        panel.series(
            &mut canvas,
            &scaled(line),
            stroke(markers && lines.is_none()),
        );
    }
    if lines.is_some() && markers {
        for (x, rate) in known.iter().flat_map(scaled) {
            if rate.is_finite() {
                canvas.disc(panel.at(x, rate.max(panel.y.low)), 3.6, BLUE);
            }
        }
    }
    label_phases(&mut canvas, &panel, &starts);
    let middle = ((LEFT + RIGHT) / 2.0, BOTTOM + 37.0);
    let font = Font::new(LABEL, INK).bold();
    canvas.text(unit.name(), middle, Align::Centre, font);
    canvas
}

/// The highest rate of each phase.
fn subtitle(rows: &[MetricsRow], lines: &[Vec<(f64, f64)>]) -> String {
    let phases = phases(rows);
    let highest = phases.iter().zip(lines).filter_map(|(rows, line)| {
        let rates = line.iter().map(|point| point.1);
        let highest = rates.filter(|rate| rate.is_finite()).reduce(f64::max)?;
        let name = rows.first()?.phase.replace(['_', '-'], " ");
        Some(format!("{name} up to {}", number(highest)))
    });
    let highest: Vec<String> = highest.collect();
    match highest.as_slice() {
        [] => "No learning rate recorded".into(),
        highest => format!("Learning rate: {}", highest.join(", ")),
    }
}

/// A rate as people write it.
fn number(rate: f64) -> String {
    let text = format!("{rate:.3e}");
    let Some((digits, power)) = text.split_once('e') else {
        return text;
    };
    let digits = match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    };
    match power {
        "0" => digits.into(),
        _ => format!("{digits}e{power}"),
    }
}

/// The rows of each phase, without those before training.
fn phases(rows: &[MetricsRow]) -> Vec<&[MetricsRow]> {
    let untrained = rows.iter().take_while(|row| row.epoch == 0).count();
    let phases = rows[untrained..].chunk_by(|a, b| a.phase == b.phase);
    phases.collect()
}

/// Where a step lies: between the rows around it.
fn place(rows: &[MetricsRow], unit: Unit, step: u64) -> f64 {
    if unit == Unit::Step {
        return step as f64;
    }
    let behind = rows.partition_point(|row| row.step < step);
    let (Some(row), before) = (rows.get(behind), behind.checked_sub(1)) else {
        return rows.last().map_or(0.0, |row| unit.at(row));
    };
    let (from, at) = before.map_or((0, 0.0), |before| {
        (rows[before].step, unit.at(&rows[before]))
    });
    let share = (step.saturating_sub(from)) as f64 / row.step.saturating_sub(from).max(1) as f64;
    at + (unit.at(row) - at) * share
}

/// How rates become heights.
#[derive(Debug, Clone, Copy)]
enum Scale {
    Linear(Range),
    /// Of decimal logarithms.
    Logarithmic(Range),
}

impl Scale {
    fn of<'a>(lines: impl Iterator<Item = &'a Vec<(f64, f64)>>) -> Self {
        let positive = |rate: &f64| rate.is_finite() && *rate > 0.0;
        let rates: Vec<Vec<f64>> = lines
            .map(|line| line.iter().map(|point| point.1).filter(positive).collect())
            .collect();
        let peaks = rates
            .iter()
            .filter_map(|line: &Vec<f64>| line.iter().copied().reduce(f64::max));
        let peaks = Range::of(peaks);
        if let Some(peaks) = peaks.filter(|peaks| peaks.high > FAR_APART * peaks.low) {
            let lowest = rates.iter().flatten().copied().fold(peaks.low, f64::min);
            let low = lowest.max(peaks.low / DEPTH);
            let range = Range {
                low: low.log10(),
                high: peaks.high.log10(),
            };
            return Self::Logarithmic(range.padded(0.06, 0.5, Range::EVERYTHING));
        }
        let high = peaks.map_or(1.0, |peaks| peaks.high);
        Self::Linear(Range {
            low: 0.0,
            high: 1.06 * high,
        })
    }

    fn range(self) -> Range {
        match self {
            Self::Linear(range) | Self::Logarithmic(range) => range,
        }
    }

    fn at(self, rate: f64) -> f64 {
        match self {
            Self::Linear(_) => rate,
            Self::Logarithmic(_) if !rate.is_finite() => f64::NAN,
            // A rate of 0 lies below what is shown.
            Self::Logarithmic(range) => rate.max(0.0).log10().max(range.low),
        }
    }
}

impl Panel {
    /// As [`Panel::frame`], of decimal logarithms.
    fn logarithmic(&self, canvas: &mut Canvas, name: &str) {
        let (first, last) = (self.y.low.floor() as i32, self.y.high.ceil() as i32);
        // Powers of ten alone, where they are enough.
        let factors: &[u32] = if last - first > 3 { &[1] } else { &[1, 2, 5] };
        let every = ((last - first) / 10).max(1) as usize;
        for power in (first..=last).step_by(every) {
            for factor in factors {
                let y = f64::from(*factor).log10() + f64::from(power);
                if !(self.y.low..=self.y.high).contains(&y) {
                    continue;
                }
                let text = number(f64::from(*factor) * 10f64.powi(power));
                self.tick_beside(canvas, y, &text);
            }
        }
        self.whole_numbers(canvas);
        self.border(canvas, name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::canvas::tests::check_svg;
    use super::super::curves::tests::{rows, size};
    use super::*;

    #[test]
    fn rates_of_any_size_are_drawn() {
        let mut far = rows(4, 4);
        for row in &mut far[5..] {
            row.lr = 1e-6;
        }
        let mut odd = far.clone();
        (odd[3].lr, odd[6].lr, odd[7].lr) = (f64::NAN, 0.0, -1.0);
        for log in [rows(4, 4), far, odd, rows(0, 0), vec![]] {
            let drawing = lr(&log, "flowers", None);
            assert_eq!(size(&drawing.png().unwrap()), (800, 460));
            check_svg(&drawing.svg().unwrap());
        }
    }

    #[test]
    fn steps_lie_between_their_rows() {
        let log = rows(2, 2);
        assert_eq!(place(&log, Unit::Epoch, 0), 0.0);
        assert_eq!(place(&log, Unit::Epoch, 30), 1.2);
        assert_eq!(place(&log, Unit::Epoch, 100), 4.0);
        assert_eq!(place(&log, Unit::Epoch, 1000), 4.0);
        assert_eq!(place(&log, Unit::Step, 30), 30.0);
        let schedule = vec![vec![(1, 1e-3), (50, 1e-4)], vec![(51, 1e-5), (100, 0.0)]];
        check_svg(&lr(&log, "flowers", Some(&schedule)).svg().unwrap());
    }

    #[test]
    fn rates_are_written_as_people_do() {
        assert_eq!(
            [1e-3, 0.03, 1.0, 5e-5].map(number),
            ["1e-3", "3e-2", "1", "5e-5"]
        );
        assert_eq!(number(1.0 / 3.0), "3.333e-1");
    }
}
