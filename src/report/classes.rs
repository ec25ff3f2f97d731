//! Precision, recall and F1 of each class.

use super::axis::SMALL;
use super::canvas::{Align, Canvas, Color, Font, GREY, INK, PALE, WHITE};
use super::confusion::subtitle;
use super::palette::{BLUE, ORANGE};
use crate::records::{ClassReport, TestReport, wilson};

const WIDTH: usize = 860;
/// Of more classes the worst are drawn.
const MOST: usize = 100;
const TOP: f64 = 134.0;
/// Where the bars end at 100 %.
const RIGHT: f64 = 744.0;

/// Draws three bars for each class, the lowest F1 first, the recall with its 95 % interval.
pub fn classes(report: &TestReport, title: &str) -> Canvas {
    let mut classes: Vec<(usize, &ClassReport)> = report.per_class.iter().enumerate().collect();
    // Classes without pictures have nothing to be judged by: they come last.
    classes.sort_by(|(_, a), (_, b)| {
        let empty = |class: &ClassReport| class.support == 0;
        let order = empty(a).cmp(&empty(b)).then(a.f1.total_cmp(&b.f1));
        order.then(a.recall.total_cmp(&b.recall))
    });
    classes.truncate(MOST);
    let (bar, row) = match classes.len() {
        0..=12 => (10.0, 44.0),
        13..=40 => (6.0, 27.0),
        _ => (4.0, 19.0),
    };
    let font = Font::new(SMALL, INK);
    let names = classes.iter().map(|(_, class)| font.width(&class.class));
    let left = 34.0 + names.fold(60.0, f64::max).min(190.0);
    let bottom = TOP + row * classes.len().max(1) as f64;
    let mut canvas = Canvas::new(WIDTH, (bottom + 58.0) as usize);
    canvas.head(title, &subtitle(report));
    legend(&mut canvas, left, report.per_class.len());

    let at = |share: f64| left + share.clamp(0.0, 1.0) * (RIGHT - left);
    for percent in (0..=100).step_by(20) {
        let x = at(f64::from(percent) / 100.0);
        canvas.line(&[(x, TOP), (x, bottom)], PALE, 1.0);
        for (from, to, text) in [
            (TOP - 4.0, TOP, TOP - 14.0),
            (bottom, bottom + 4.0, bottom + 15.0),
        ] {
            canvas.line(&[(x, from), (x, to)], INK, 1.0);
            canvas.text(&format!("{percent}%"), (x, text), Align::Centre, font);
        }
    }
    let pictures = Font::new(SMALL, INK).bold();
    let side = WIDTH as f64 - 18.0;
    canvas.text("Pictures", (side, TOP - 14.0), Align::Right, pictures);
    for (index, (label, class)) in classes.iter().enumerate() {
        let middle = TOP + row * (index as f64 + 0.5);
        if index > 0 && bar > 4.0 {
            let y = TOP + row * index as f64;
            canvas.line(&[(left, y), (RIGHT, y)], PALE, 1.0);
        }
        let name = font.fit(&class.class, left - 28.0);
        canvas.text(&name, (left - 8.0, middle), Align::Right, font);
        let support = class.support.to_string();
        canvas.text(&support, (side, middle), Align::Right, font);
        if class.support == 0 {
            let grey = Font::new(SMALL, GREY);
            canvas.text("no pictures", (left + 8.0, middle), Align::Left, grey);
            continue;
        }
        let values = [class.recall, class.precision, class.f1];
        for (place, (value, kind)) in values.into_iter().zip(Bar::ALL).enumerate() {
            let top = middle + bar * (place as f64 - 1.5);
            // A sliver also where the value is 0, so that its bar is not missed.
            let end = at(value).max(left + 1.5);
            kind.draw(&mut canvas, (left, top), (end, top + bar - 1.0));
        }
        let hits = report.confusion.get(*label).and_then(|row| row.get(*label));
        let [low, high] = wilson(hits.copied().unwrap_or(0), class.support).map(at);
        whisker(&mut canvas, (low, high), middle - bar - 0.5, bar);
    }
    canvas.frame((left, TOP), (RIGHT, bottom), GREY);
    canvas
}

/// What a bar shows; they differ in lightness and have their order.
#[derive(Clone, Copy)]
enum Bar {
    Recall,
    Precision,
    F1,
}

impl Bar {
    const ALL: [Self; 3] = [Self::Recall, Self::Precision, Self::F1];

    fn fill(self) -> Color {
        match self {
            Self::Recall => BLUE,
            Self::Precision => ORANGE,
            Self::F1 => WHITE,
        }
    }

    fn draw(self, canvas: &mut Canvas, top_left: (f64, f64), bottom_right: (f64, f64)) {
        let edge = match self {
            Self::F1 => INK,
            _ => self.fill(),
        };
        canvas.rect(top_left, bottom_right, edge);
        if let Self::F1 = self {
            let inner = |(x, y): (f64, f64), by: f64| (x + by, y + by);
            let (from, to) = (inner(top_left, 1.0), inner(bottom_right, -1.0));
            if to.0 > from.0 && to.1 > from.1 {
                canvas.rect(from, to, self.fill());
            }
        }
    }
}

/// An interval on a bar, dark with a light edge, to be seen on it and beside it.
fn whisker(canvas: &mut Canvas, (low, high): (f64, f64), y: f64, bar: f64) {
    let cap = (0.4 * bar).min(4.0);
    for (color, width) in [(WHITE, 3.4), (INK, 1.4)] {
        canvas.line(&[(low, y), (high, y)], color, width);
        for x in [low, high] {
            canvas.line(&[(x, y - cap), (x, y + cap)], color, width);
        }
    }
}

fn legend(canvas: &mut Canvas, left: f64, all: usize) {
    let font = Font::new(SMALL, INK);
    let y = 84.0;
    let mut x = left;
    for (bar, name) in Bar::ALL.into_iter().zip(["Recall", "Precision", "F1"]) {
        bar.draw(canvas, (x, y - 5.0), (x + 28.0, y + 5.0));
        canvas.text(name, (x + 36.0, y), Align::Left, font);
        x += 36.0 + font.width(name) + 24.0;
    }
    whisker(canvas, (x, x + 28.0), y, 10.0);
    let text = match all > MOST {
        true => format!("95% interval; the lowest {MOST} of {all}"),
        false => "95% interval of the recall".to_owned(),
    };
    canvas.text(&text, (x + 38.0, y), Align::Left, font);
}

#[cfg(test)]
mod tests {
    use super::super::canvas::tests::check_svg;
    use super::super::confusion::tests::report;
    use super::*;

    #[test]
    fn any_number_of_classes_fits() {
        for count in [0, 1, 2, 12, 37, 100, 300] {
            let mut report = report(count.max(1), |index| {
                format!("a class of long name {index}")
            });
            report.per_class[0].support = 0;
            report.per_class.truncate(count);
            let drawing = classes(&report, "flowers");
            let png = drawing.png().unwrap();
            let (width, height) = super::super::curves::tests::size(&png);
            assert!(width == 860 && height < 2200, "{height}");
            assert_eq!(png, drawing.png().unwrap());
            check_svg(&drawing.svg().unwrap());
        }
    }
}
