//! Curves in the characters of a terminal: eight dots to a character for validation, a bullet a row for
//! training, so that they are told apart without colours, too.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::widgets::Widget;
use ratatui::widgets::canvas::{Canvas, Context, Line, Points};

use crate::records::MetricsRow;
use crate::report::Unit;

/// Characters beside the vertical axis.
const GUTTER: u16 = 8;

/// What is drawn of rows.
#[derive(Debug, Clone, Copy)]
pub struct Series {
    /// What it is called.
    pub name: &'static str,
    /// Its value, if the row has one.
    pub value: fn(&MetricsRow) -> Option<f64>,
    /// Whether it is a line, and not bullets.
    pub line: bool,
    /// Its colour.
    pub color: Color,
}

/// Curves over the rows of a run.
#[derive(Debug, Clone, Copy)]
pub struct Plot<'a> {
    /// What the vertical axis shows.
    pub title: &'static str,
    /// How a value is written.
    pub label: fn(f64) -> String,
    /// The curves.
    pub series: &'a [Series],
    /// The rows, all of them.
    pub rows: &'a [MetricsRow],
    /// Only so many last ones are drawn.
    pub last: Option<usize>,
    /// Index of the row to mark.
    pub best: Option<usize>,
    /// Whether the vertical scale is logarithmic.
    pub log: bool,
}

/// A range with a width.
#[derive(Debug, Clone, Copy)]
struct Range([f64; 2]);

impl Range {
    fn of(values: impl Iterator<Item = f64>, least: f64) -> Option<Self> {
        let found = values.fold(None, |range: Option<[f64; 2]>, value| {
            let [low, high] = range.unwrap_or([value; 2]);
            Some([low.min(value), high.max(value)])
        });
        let [low, high] = found?;
        let missing = (least - (high - low)).max(0.0) / 2.0;
        Some(Self([low - missing, high + missing]))
    }

    /// Where a value lies between the first and the last of so many cells.
    fn cell(self, value: f64, cells: u16) -> u16 {
        let [low, high] = self.0;
        let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
        (share * f64::from(cells.saturating_sub(1))).round() as u16
    }
}

impl Plot<'_> {
    fn shown(&self) -> &[MetricsRow] {
        let skipped = self.rows.len() - self.last.unwrap_or(usize::MAX).min(self.rows.len());
        &self.rows[skipped..]
    }

    /// On the scale, if it can be there.
    fn scaled(&self, value: f64) -> Option<f64> {
        match self.log {
            true => (value > 0.0 && value.is_finite()).then(|| value.log10()),
            false => value.is_finite().then_some(value),
        }
    }

    fn value(&self, scaled: f64) -> f64 {
        match self.log {
            true => 10f64.powf(scaled),
            false => scaled,
        }
    }

    fn y(&self, series: &Series, row: &MetricsRow) -> Option<f64> {
        self.scaled((series.value)(row)?)
    }

    /// Name, the last values and the signs of the curves.
    fn legend(&self, buffer: &mut Buffer, area: Rect) {
        let title = match self.log {
            true => format!("{}, log", self.title),
            false => self.title.to_owned(),
        };
        let bold = Style::default().add_modifier(Modifier::BOLD);
        let room = |x: u16| usize::from(area.right().saturating_sub(x));
        let (mut x, _) = buffer.set_stringn(area.x, area.y, title, room(area.x), bold);
        for series in self.series {
            let rows = self.rows.iter().rev();
            let Some(last) = rows.filter_map(series.value).next() else {
                continue;
            };
            let sign = if series.line { "⠒⠒" } else { "•" };
            let text = format!("  {sign} {} {}", series.name, (self.label)(last));
            if text.chars().count() > room(x) {
                return;
            }
            (x, _) =
                buffer.set_stringn(x, area.y, text, room(x), Style::default().fg(series.color));
        }
        let marks_best = self.best.is_some() && self.series.iter().any(|series| series.line);
        if marks_best && room(x) >= "  * best".len() {
            buffer.set_string(x, area.y, "  * best", Style::default());
        }
    }

    /// Values beside the axis: the highest, the lowest, and between where there is room.
    fn side(&self, buffer: &mut Buffer, area: Rect, y: Range) {
        let [low, high] = y.0;
        let mut labels = vec![(area.y, high), (area.bottom() - 1, low)];
        if area.height >= 5 {
            labels.push((area.y + (area.height - 1) / 2, (low + high) / 2.0));
        }
        for (line, scaled) in labels {
            let text = (self.label)(self.value(scaled));
            let width = usize::from(GUTTER - 1);
            let text = format!("{text:>width$}");
            buffer.set_stringn(area.x - GUTTER, line, text, width, Style::default());
        }
        for line in area.y..area.bottom() {
            buffer.set_string(area.x - 1, line, "│", Style::default());
        }
    }

    /// Below: from where to where, and where phases begin.
    fn foot(&self, buffer: &mut Buffer, area: Rect, x: Range, unit: Unit) {
        let rows = self.shown();
        let line = area.bottom();
        let ends = rows.first().zip(rows.last());
        let Some((first, last)) = ends.map(|(a, b)| (unit.at(a), unit.at(b))) else {
            return;
        };
        let right = format!("{} {last}", unit.name().to_lowercase());
        let end = area.right().saturating_sub(right.len() as u16).max(area.x);
        buffer.set_stringn(end, line, &right, usize::from(area.width), Style::default());
        let (mut free, _) = buffer.set_stringn(
            area.x,
            line,
            format!("{first} "),
            usize::from(end - area.x),
            Style::default(),
        );
        for pair in rows.windows(2) {
            let [before, after] = pair else { continue };
            if before.phase == after.phase {
                continue;
            }
            let at = area.x + x.cell(unit.at(before), area.width);
            for line in area.y..area.bottom() {
                buffer.set_string(at, line, "┊", Style::default());
            }
            let name = format!("┊{} ", crate::commands::table::printable(&after.phase));
            let room = end.saturating_sub(at);
            if at >= free && room >= 3 {
                let (after, _) =
                    buffer.set_stringn(at, line, &name, usize::from(room), Style::default());
                free = after;
            }
        }
    }

    fn curves(&self, buffer: &mut Buffer, area: Rect, x: Range, y: Range, unit: Unit) {
        let rows = self.shown();
        for series in self.series {
            let points: Vec<Option<(f64, f64)>> = rows
                .iter()
                .map(|row| Some((unit.at(row), self.y(series, row)?)))
                .collect();
            let color = series.color;
            if !series.line {
                let coords: Vec<(f64, f64)> = points.iter().flatten().copied().collect();
                let bullets = Points {
                    coords: &coords,
                    color,
                };
                let canvas = canvas(Marker::Dot, x, y, |context| context.draw(&bullets));
                canvas.render(area, buffer);
                continue;
            }
            let canvas = canvas(Marker::Braille, x, y, |context| {
                for pair in points.windows(2) {
                    if let [Some((x1, y1)), Some((x2, y2))] = *pair {
                        context.draw(&Line {
                            x1,
                            y1,
                            x2,
                            y2,
                            color,
                        });
                    }
                }
                let coords: Vec<(f64, f64)> = points.iter().flatten().copied().collect();
                context.draw(&Points {
                    coords: &coords,
                    color,
                });
            });
            canvas.render(area, buffer);
        }
    }

    fn mark_best(&self, buffer: &mut Buffer, area: Rect, x: Range, y: Range, unit: Unit) {
        let skipped = self.rows.len() - self.shown().len();
        let row = self.best.filter(|best| *best >= skipped);
        let series = self.series.iter().find(|series| series.line);
        let Some((row, series)) = row.and_then(|best| self.rows.get(best)).zip(series) else {
            return;
        };
        if let Some(value) = self.y(series, row) {
            let column = area.x + x.cell(unit.at(row), area.width);
            let line = area.bottom() - 1 - y.cell(value, area.height);
            let bold = Style::default().add_modifier(Modifier::BOLD);
            buffer.set_string(column, line, "*", bold);
        }
    }
}

fn canvas<'a, F: Fn(&mut Context<'_>)>(
    marker: Marker,
    x: Range,
    y: Range,
    paint: F,
) -> Canvas<'a, F> {
    Canvas::default()
        .marker(marker)
        .x_bounds(x.0)
        .y_bounds(y.0)
        .paint(paint)
}

impl Widget for Plot<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let area = area.intersection(buffer.area);
        if area.height < 1 || area.width < 1 {
            return;
        }
        self.legend(buffer, Rect { height: 1, ..area });
        if area.height < 4 || area.width < GUTTER + 8 {
            return;
        }
        let inner = Rect {
            x: area.x + GUTTER,
            y: area.y + 1,
            width: area.width - GUTTER,
            height: area.height - 2,
        };
        let unit = Unit::of(self.rows);
        let rows = self.shown();
        let xs = Range::of(rows.iter().map(|row| unit.at(row)), 1.0);
        let values = rows.iter().flat_map(|row| {
            let values = self.series.iter().map(|series| self.y(series, row));
            values.flatten().collect::<Vec<_>>()
        });
        let ys = Range::of(values, if self.log { 1e-3 } else { 1e-6 });
        let Some((x, y)) = xs.zip(ys) else {
            let none = match rows.is_empty() {
                true => "no row yet",
                false => "nothing to draw on this scale",
            };
            let room = usize::from(inner.width);
            buffer.set_stringn(inner.x, inner.y, none, room, Style::default());
            return;
        };
        self.side(buffer, inner, y);
        self.foot(buffer, inner, x, unit);
        self.curves(buffer, inner, x, y, unit);
        self.mark_best(buffer, inner, x, y, unit);
    }
}
