//! How well a network's probabilities tell classes apart: receiver operating characteristics, and
//! precision by recall.

use super::axis::{LABEL, Panel, Range, SMALL, Stroke};
use super::canvas::{Align, Canvas, Color, Font, GREY, INK, Point};
use super::palette::distinct;
use super::scores::{Curve, Scores};
use crate::records::{ProbabilityRow, ProbabilityTable};

/// Up to this many classes each has a line of its own in the legend.
const NAMED: usize = 12;
/// Of more classes, so many that are told apart worst.
const WORST: usize = 8;
/// Most classes that are drawn at all, those that are told apart worst.
const DRAWN: usize = 100;
const FAINT: Color = plotters::style::RGBColor(200, 200, 200);

const WIDTH: usize = 860;
const HEIGHT: usize = 568;
const SIDE: f64 = 430.0;
const LEFT: f64 = 84.0;
const TOP: f64 = 80.0;
/// Where the legend is.
const LEGEND: (f64, f64) = (LEFT + SIDE + 26.0, WIDTH as f64 - 22.0);

/// Draws the receiver operating characteristic of each class against the rest, their mean and that
/// over all pairs of picture and class; of two classes, that of the second. `split` says which
/// pictures those are.
pub fn roc(table: &ProbabilityTable, split: &str, title: &str) -> Canvas {
    let scores = Scores::roc(table);
    let mut canvas = Canvas::new(WIDTH, HEIGHT);
    canvas.head(
        title,
        &subtitle("Receiver operating characteristic", table, split),
    );
    let panel = panel();
    let names = ["False positive rate", "True positive rate"];
    panel.shares(&mut canvas, names);
    let chance = [panel.at(0.0, 0.0), panel.at(1.0, 1.0)];
    canvas.dashed(&chance, GREY, 1.2, CHANCE);
    let mean = scores.mean_roc();
    let averages = [
        Average {
            name: "Mean of classes (macro)",
            curve: mean.as_ref(),
            area: scores.macro_area,
        },
        Average::micro(&scores),
    ];
    let chart = Chart {
        table,
        scores: &scores,
        area: "AUC",
        panel,
        path: |panel, curve| curve.points.iter().map(|&(x, y)| panel.at(x, y)).collect(),
    };
    chart.draw(&mut canvas, &averages, Some(("Chance", 0.5)));
    canvas
}

/// Draws precision by recall of each class against the rest, and over all pairs of picture and
/// class; of two classes, that of the second.
pub fn precision_recall(table: &ProbabilityTable, split: &str, title: &str) -> Canvas {
    let scores = Scores::precision_recall(table);
    let mut canvas = Canvas::new(WIDTH, HEIGHT);
    canvas.head(title, &subtitle("Precision by recall", table, split));
    let panel = panel();
    panel.shares(&mut canvas, ["Recall", "Precision"]);
    // Who guesses is right as often as the class is there.
    let chance = (is_binary(table) && !table.rows.is_empty()).then(|| {
        let hits = table.rows.iter().filter(|row| row.label == 1).count();
        let share = hits as f64 / table.rows.len() as f64;
        let ends = [panel.at(0.0, share), panel.at(1.0, share)];
        canvas.dashed(&ends, GREY, 1.2, CHANCE);
        ("Chance", share)
    });
    let averages = [
        Average {
            name: "Mean of classes (macro)",
            curve: None,
            area: scores.macro_area,
        },
        Average::micro(&scores),
    ];
    let chart = Chart {
        table,
        scores: &scores,
        area: "AP",
        panel,
        // A precision holds until the recall of the next.
        path: |panel, curve| {
            let steps = curve.points.windows(2).flat_map(|pair| {
                let (at, to) = (pair[0], pair[1]);
                [panel.at(at.0, at.1), panel.at(to.0, at.1)]
            });
            let last = curve.points.last().map(|&(x, y)| panel.at(x, y));
            steps.chain(last).collect()
        },
    };
    chart.draw(&mut canvas, &averages, chance);
    canvas
}

const CHANCE: (f64, f64) = (5.0, 4.0);
/// Pixels of a curve from mark to mark.
const MARKED: f64 = 70.0;

fn panel() -> Panel {
    // Room for lines along the edges.
    let range = Range {
        low: -0.015,
        high: 1.015,
    };
    Panel {
        left: LEFT,
        top: TOP,
        right: LEFT + SIDE,
        bottom: TOP + SIDE,
        x: range,
        y: range,
    }
}

fn subtitle(what: &str, table: &ProbabilityTable, split: &str) -> String {
    let pictures = table.rows.len();
    match table.classes.as_slice() {
        [_, positive] if is_binary(table) => {
            let hits = table.rows.iter().filter(|row| row.label == 1).count();
            format!("{what} of {positive}: {hits} of {pictures} pictures in the {split} split")
        }
        classes => format!(
            "{what}, each of {} classes against the rest: {pictures} pictures in the {split} split",
            classes.len()
        ),
    }
}

/// Whether one class is what the other is not. Of more classes two may be all that there are pictures of.
fn is_binary(table: &ProbabilityTable) -> bool {
    let sums_to_one = |row: &ProbabilityRow| {
        let sum: f32 = row.probabilities.iter().sum();
        (sum - 1.0).abs() < 1e-3
    };
    table.classes.len() == 2 && table.rows.iter().all(sums_to_one)
}

/// What is drawn in a panel.
struct Chart<'a> {
    table: &'a ProbabilityTable,
    scores: &'a Scores,
    /// What the area under a curve is called.
    area: &'static str,
    panel: Panel,
    /// Where a curve runs.
    path: fn(&Panel, &Curve) -> Vec<Point>,
}

impl Chart<'_> {
    fn draw(&self, canvas: &mut Canvas, averages: &[Average<'_>], chance: Option<(&str, f64)>) {
        let mut curves: Vec<(&str, &Curve)> = self
            .table
            .classes
            .iter()
            .zip(&self.scores.classes)
            .filter_map(|(name, curve)| Some((name.as_str(), curve.as_ref()?)))
            .collect();
        let without = self.table.classes.len() - curves.len();
        let two = is_binary(self.table);
        if two {
            // The other is its mirror image.
            curves = curves.split_off(1.min(curves.len()));
        }
        let mut legend = Legend { at: TOP + 10.0 };
        if curves.is_empty() {
            self.panel.empty(canvas);
            legend.note(canvas, "Nothing to tell apart: these");
            legend.note(canvas, "pictures are of one class");
            return;
        }
        legend.header(canvas, self.area);
        let all = curves.len();
        if all > NAMED {
            curves.sort_by(|a, b| a.1.area.total_cmp(&b.1.area));
            curves.truncate(DRAWN);
            for (_, curve) in curves.drain(WORST..).rev() {
                canvas.line(&self.path(curve), FAINT, 1.0);
            }
            legend.note(canvas, &format!("Worst of {all} classes"));
        }
        // Below the classes, which they would hide.
        let lines = averages.iter().zip(AVERAGES).filter(|_| !two);
        for (average, stroke) in lines {
            if let Some(curve) = average.curve {
                self.stroke(canvas, curve, stroke, 3.0);
            }
        }
        for (index, (_, curve)) in curves.iter().enumerate().rev() {
            self.stroke(canvas, curve, distinct(index), 2.0);
        }
        for (index, (name, curve)) in curves.iter().enumerate() {
            legend.line(canvas, name, curve.area, Some(distinct(index)));
        }
        if all > NAMED {
            legend.others(canvas, all - WORST);
        }
        if !two {
            legend.gap();
        }
        for (index, average) in averages.iter().enumerate().filter(|_| !two) {
            let Some(area) = average.area else { continue };
            let stroke = average.curve.map(|_| AVERAGES[index % AVERAGES.len()]);
            legend.line(canvas, average.name, area, stroke);
        }
        if let Some((name, area)) = chance {
            let stroke = Stroke {
                color: GREY,
                dashes: Some(CHANCE),
                marker: None,
            };
            legend.line(canvas, name, area, Some(stroke));
        }
        if without > 0 && !two {
            legend.note(canvas, &format!("{without} without pictures to judge"));
        }
    }

    fn path(&self, curve: &Curve) -> Vec<Point> {
        thinned((self.path)(&self.panel, curve))
    }

    fn stroke(&self, canvas: &mut Canvas, curve: &Curve, stroke: Stroke, width: f64) {
        let path = self.path(curve);
        match stroke.dashes {
            Some(dashes) => canvas.dashed(&path, stroke.color, width, dashes),
            None => canvas.line(&path, stroke.color, width),
        }
        let Some(marker) = stroke.marker else { return };
        let mut since = MARKED / 2.0;
        for pair in path.windows(2) {
            since += (pair[1].0 - pair[0].0).hypot(pair[1].1 - pair[0].1);
            if since >= MARKED {
                marker.draw(canvas, pair[1], stroke.color);
                since = 0.0;
            }
        }
    }
}

/// A curve over all classes.
struct Average<'a> {
    name: &'static str,
    /// Not of averages of which only the area is known.
    curve: Option<&'a Curve>,
    area: Option<f64>,
}

impl<'a> Average<'a> {
    fn micro(scores: &'a Scores) -> Self {
        Self {
            name: "All at once (micro)",
            curve: scores.micro.as_ref(),
            area: scores.micro.as_ref().map(|curve| curve.area),
        }
    }
}

const AVERAGES: [Stroke; 2] = [
    Stroke {
        color: INK,
        dashes: None,
        marker: None,
    },
    Stroke {
        color: INK,
        dashes: Some((3.0, 4.5)),
        marker: None,
    },
];

/// Points that can be told apart, the last one always.
fn thinned(points: Vec<Point>) -> Vec<Point> {
    let mut kept: Vec<Point> = Vec::new();
    let last = points.len().saturating_sub(1);
    for (index, point) in points.into_iter().enumerate() {
        let near =
            |before: &Point| (point.0 - before.0).abs() < 0.3 && (point.1 - before.1).abs() < 0.3;
        if index == last || !kept.last().is_some_and(near) {
            kept.push(point);
        }
    }
    kept
}

/// The list beside the panel, written from above.
struct Legend {
    at: f64,
}

impl Legend {
    const LINE: f64 = 24.0;

    fn header(&mut self, canvas: &mut Canvas, area: &str) {
        let font = Font::new(SMALL, INK).bold();
        canvas.text(area, (LEGEND.1, self.at), Align::Right, font);
        self.at += Self::LINE;
    }

    fn line(&mut self, canvas: &mut Canvas, name: &str, area: f64, stroke: Option<Stroke>) {
        let font = Font::new(SMALL, INK);
        let value = format!("{area:.3}");
        if let Some(stroke) = stroke {
            stroke.sample(canvas, (LEGEND.0, self.at));
        }
        let left = LEGEND.0 + 38.0;
        let room = LEGEND.1 - left - font.width(&value) - 10.0;
        canvas.text(&font.fit(name, room), (left, self.at), Align::Left, font);
        canvas.text(&value, (LEGEND.1, self.at), Align::Right, font);
        self.at += Self::LINE;
    }

    fn others(&mut self, canvas: &mut Canvas, count: usize) {
        let font = Font::new(SMALL, INK);
        let ends = [(LEGEND.0, self.at), (LEGEND.0 + 30.0, self.at)];
        canvas.line(&ends, FAINT, 1.0);
        let text = match count + WORST > DRAWN {
            true => format!("the next {} of them", DRAWN - WORST),
            false => format!("the other {count}"),
        };
        canvas.text(&text, (LEGEND.0 + 38.0, self.at), Align::Left, font);
        self.at += Self::LINE;
    }

    fn note(&mut self, canvas: &mut Canvas, text: &str) {
        let font = Font::new(SMALL, GREY);
        let text = font.fit(text, LEGEND.1 - LEGEND.0);
        canvas.text(&text, (LEGEND.0, self.at), Align::Left, font);
        self.at += Self::LINE;
    }

    fn gap(&mut self) {
        self.at += 10.0;
    }
}

impl Panel {
    /// Frame and grid of two shares, from 0 to 1, with their names.
    fn shares(&self, canvas: &mut Canvas, [below, beside]: [&str; 2]) {
        for tick in [0.0, 0.2, 0.4, 0.6, 0.8, 1.0] {
            self.tick_below(canvas, tick, &format!("{tick:.1}"));
        }
        self.sides(canvas, beside, false);
        let middle = (self.left + self.right) / 2.0;
        let bold = Font::new(LABEL, INK).bold();
        canvas.text(below, (middle, self.bottom + 37.0), Align::Centre, bold);
    }
}

#[cfg(test)]
mod tests {
    use super::super::canvas::tests::check_svg;
    use super::super::curves::tests::size;
    use super::super::scores::tests::table;
    use super::*;

    #[test]
    fn one_two_and_many_classes_are_drawn() {
        for classes in [1, 2, 3, 12, 13, 150] {
            let mut table = table(classes, 3 * classes + 2);
            table.classes[0] = "a class with a name that is much too long".into();
            for draw in [roc, precision_recall] {
                let drawing = draw(&table, "test", "flowers");
                let png = drawing.png().unwrap();
                assert_eq!(size(&png), (860, 568));
                assert_eq!(png, drawing.png().unwrap());
                check_svg(&drawing.svg().unwrap());
            }
        }
        for draw in [roc, precision_recall] {
            let nothing = ProbabilityTable {
                classes: vec![],
                rows: vec![],
            };
            draw(&nothing, "test", "flowers").png().unwrap();
        }
    }

    #[test]
    fn two_classes_have_one_curve_and_more_their_averages() {
        let svg = |classes| roc(&table(classes, 60), "test", "flowers").svg().unwrap();
        let two = svg(2);
        assert!(two.contains("Receiver operating characteristic of class no. 1: 30 of 60"));
        assert!(two.contains("\"class no. 1\"") && !two.contains("\"class no. 0\""));
        assert!(!two.contains("micro") && two.contains("\"Chance\""));
        let five = svg(5);
        for name in [
            "class no. 0",
            "Mean of classes (macro)",
            "All at once (micro)",
            "AUC",
        ] {
            assert!(five.contains(&format!("aria-label=\"{name}\"")), "{name}");
        }
        let many = svg(30);
        assert!(many.contains("Worst of 30 classes") && many.contains("the other 22"));
    }

    #[test]
    fn points_that_cannot_be_told_apart_are_left_out() {
        let line: Vec<Point> = (0..10_000).map(|i| (f64::from(i) / 100.0, 5.0)).collect();
        let kept = thinned(line.clone());
        assert!(kept.len() < 400 && kept.first() == line.first() && kept.last() == line.last());
    }
}
