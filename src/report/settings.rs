//! What settings do: accuracy against each, and against the time that a run takes.

use super::axis::{LABEL, Panel, Range, SMALL, Stroke, accuracy_range};
use super::canvas::{Align, Canvas, Color, Font, INK};
use super::curves::{LEFT, RIGHT, WIDTH};
use super::palette::{BLUE, VERMILION};

/// Runs.
const DOT: Color = BLUE;
/// Their means, and the best for their time.
const LINE: Color = VERMILION;

const TOP: f64 = 88.0;
const PANEL: f64 = 190.0;
/// From one panel to the next.
const PITCH: f64 = PANEL + 74.0;

/// A key and the accuracies of the runs for each of its values.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The key.
    pub key: String,
    /// Its values, in order.
    pub values: Vec<String>,
    /// Index of the value and accuracy, 0 to 1, of each run.
    pub runs: Vec<(usize, f64)>,
}

/// What a configuration takes and gives, on average over its runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Seconds a run.
    pub seconds: f64,
    /// Accuracy, 0 to 1.
    pub accuracy: f64,
}

/// Draws a panel for each setting and one for the time, 800 pixels wide. `measured` names the
/// accuracy. A line joins the means of a setting's values; in the last panel it joins those
/// configurations that no other beats in less time (the Pareto front).
pub fn settings(title: &str, measured: &str, settings: &[Setting], costs: &[Cost]) -> Canvas {
    let panels = settings.len() + 1;
    let height = TOP + panels as f64 * PITCH - 10.0;
    let mut canvas = Canvas::new(WIDTH, height as usize);
    let runs = settings.first().map_or(costs.len(), |it| it.runs.len());
    let subtitle = format!("{measured}: {runs} runs, and their means for each value");
    canvas.head(title, &subtitle);
    let all = settings.iter().flat_map(|it| &it.runs);
    let accuracies = all
        .map(|run| run.1)
        .chain(costs.iter().map(|it| it.accuracy));
    let y = accuracy_range(accuracies);
    for (index, setting) in settings.iter().enumerate() {
        let last = setting.values.len().saturating_sub(1) as f64;
        let panel = panel(
            index,
            y,
            Range {
                low: -0.5,
                high: last + 0.5,
            },
        );
        panel.columns(&mut canvas, &setting.values, measured, true);
        name(&mut canvas, &panel, &setting.key);
        panel.series(&mut canvas, &setting.means(), line());
        for &(value, accuracy) in &setting.runs {
            canvas.disc(panel.at(value as f64, accuracy), 3.2, DOT);
        }
    }
    let everywhere = Range {
        low: 0.0,
        high: f64::MAX,
    };
    let seconds = Range::of(costs.iter().map(|it| it.seconds)).unwrap_or(Range {
        low: 0.0,
        high: 1.0,
    });
    let panel = panel(settings.len(), y, seconds.padded(0.05, 2.0, everywhere));
    panel.frame(&mut canvas, measured, true);
    name(&mut canvas, &panel, "seconds a run");
    let front: Vec<(f64, f64)> = front(costs)
        .iter()
        .map(|it| (it.seconds, it.accuracy))
        .collect();
    panel.series(&mut canvas, &front, line());
    for cost in costs {
        canvas.disc(panel.at(cost.seconds, cost.accuracy), 3.2, DOT);
    }
    canvas
}

fn panel(index: usize, y: Range, x: Range) -> Panel {
    let top = TOP + index as f64 * PITCH;
    Panel {
        left: LEFT,
        top,
        right: RIGHT,
        bottom: top + PANEL,
        x,
        y,
    }
}

fn line() -> Stroke {
    Stroke {
        color: LINE,
        dashes: None,
        marker: None,
    }
}

/// The name of a horizontal axis.
fn name(canvas: &mut Canvas, panel: &Panel, text: &str) {
    let font = Font::new(LABEL, INK).bold();
    let at = ((panel.left + panel.right) / 2.0, panel.bottom + 36.0);
    canvas.text(
        &font.fit(text, panel.right - panel.left),
        at,
        Align::Centre,
        font,
    );
}

impl Setting {
    /// The mean accuracy of each value that has runs.
    fn means(&self) -> Vec<(f64, f64)> {
        let mean = |value: usize| {
            let runs = self.runs.iter().filter(|run| run.0 == value);
            let accuracies: Vec<f64> = runs.map(|run| run.1).collect();
            let sum: f64 = accuracies.iter().sum();
            (!accuracies.is_empty()).then(|| (value as f64, sum / accuracies.len() as f64))
        };
        (0..self.values.len()).filter_map(mean).collect()
    }
}

/// What nothing beats that takes no longer, the fastest first.
pub(super) fn front(costs: &[Cost]) -> Vec<Cost> {
    let mut sorted = costs.to_vec();
    sorted.sort_by(|a, b| {
        let order = a.seconds.total_cmp(&b.seconds);
        order.then(b.accuracy.total_cmp(&a.accuracy))
    });
    let mut front: Vec<Cost> = Vec::new();
    for cost in sorted {
        if front
            .last()
            .is_none_or(|last| cost.accuracy > last.accuracy)
        {
            front.push(cost);
        }
    }
    front
}

impl Panel {
    /// As [`Panel::frame`], with a named column for each whole number below.
    fn columns(&self, canvas: &mut Canvas, names: &[String], name: &str, percent: bool) {
        let font = Font::new(SMALL, INK);
        let room = (self.right - self.left) / names.len().max(1) as f64 - 8.0;
        // Names that would not be read are left out, evenly.
        let every = (34.0 / room.max(1.0)).ceil().max(1.0) as usize;
        for (index, text) in names.iter().enumerate().step_by(every) {
            let (at, _) = self.at(index as f64, self.y.low);
            let text = font.fit(text, room * every as f64);
            canvas.text(&text, (at, self.bottom + 15.0), Align::Centre, font);
        }
        self.sides(canvas, name, percent);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::curves::tests::size;
    use super::*;

    /// A sweep over a learning rate and a backbone.
    pub(in crate::report) fn example() -> (Vec<Setting>, Vec<Cost>) {
        let rates = ["0.0001", "0.001", "0.01", "0.1"]
            .map(str::to_owned)
            .to_vec();
        let names = ["mobilenet_v2", "xception"].map(str::to_owned).to_vec();
        let accuracy = |rate: usize, name: usize, seed: usize| {
            0.8 + [0.02, 0.08, 0.06, -0.1][rate] + 0.03 * name as f64 + 0.004 * seed as f64
        };
        let runs: Vec<_> = (0..24).map(|i| (i % 4, i / 4 % 2, i / 8)).collect();
        let of = |value: fn(&(usize, usize, usize)) -> usize| {
            let points = runs
                .iter()
                .map(|run| (value(run), accuracy(run.0, run.1, run.2)));
            points.collect::<Vec<_>>()
        };
        let settings = vec![
            Setting {
                key: "model.backbone".into(),
                values: names,
                runs: of(|run| run.1),
            },
            Setting {
                key: "phase[0].optimizer.lr".into(),
                values: rates,
                runs: of(|run| run.0),
            },
        ];
        let costs = runs.iter().take(8).map(|run| Cost {
            seconds: 5.0 + 20.0 * run.1 as f64 + run.0 as f64,
            accuracy: accuracy(run.0, run.1, 1),
        });
        (settings, costs.collect())
    }

    #[test]
    fn any_settings_fit() {
        let (mut all, costs) = example();
        let draw = |all: &[Setting]| {
            let drawing = settings("flowers", "test accuracy", all, &costs);
            drawing.png().unwrap()
        };
        let png = draw(&all);
        assert_eq!(size(&png), (800, 88 + 3 * 264 - 10));
        assert_eq!(png, draw(&all));
        all[1].values = (0..200).map(|index| format!("value {index}")).collect();
        draw(&all);
        settings("flowers", "val accuracy", &[], &[]).png().unwrap();
    }

    #[test]
    fn the_front_is_what_nothing_beats_in_less_time() {
        let cost = |seconds: f64, accuracy: f64| Cost { seconds, accuracy };
        let costs = [
            cost(3.0, 0.8),
            cost(1.0, 0.7),
            cost(2.0, 0.6),
            cost(1.0, 0.5),
            cost(4.0, 0.9),
        ];
        assert_eq!(
            front(&costs),
            [cost(1.0, 0.7), cost(3.0, 0.8), cost(4.0, 0.9)]
        );
    }
}
