//! The screen of what is watched: state in, characters out.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};

use super::left::shown;
use super::plain;
use super::plot::{Plot, Series};
use super::run_state::RunState;
use super::sweep_state::{SweepState, TrialState};
use super::view::{Curves, View};
use crate::commands::table::{self, Table};
use crate::records::MetricsRow;

/// From this width on two plots stand side by side.
const WIDE: u16 = 100;

/// From this height on two plots stand below each other.
const TALL: u16 = 34;

/// Lines below which there is no room for messages.
const ROOMY: u16 = 16;

/// Most lines of messages.
const MESSAGES: u16 = 8;

/// Most lines of a leaderboard, its header and title among them.
const LEADERS: u16 = 7;

/// Draws.
#[derive(Debug, Clone, Copy)]
pub struct Painter {
    /// Whether in colours. Nothing is said by them alone.
    pub coloured: bool,
}

impl Painter {
    /// A run. `back` says where Escape leads, if not out.
    pub fn run(self, frame: &mut Frame<'_>, state: &RunState, view: &View, back: bool) {
        let area = frame.area();
        let facts = flow(&plain::facts(state), area.width);
        let mut notes: Vec<String> = Vec::new();
        let reason = state.run.reason.as_deref().filter(|_| !state.waiting);
        notes.extend(reason.map(table::printable));
        notes.extend(state.damage.iter().map(|it| table::printable(it)));
        let most = usize::from(area.height / 3);
        let head: Vec<String> = facts.into_iter().chain(notes).take(most.max(1)).collect();
        let messages = match area.height {
            ..ROOMY => 0,
            height => (height / 4)
                .min(MESSAGES)
                .min(state.messages.len() as u16 + 1),
        };
        let [title, told, curves, said, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(head.len() as u16),
            Constraint::Min(0),
            Constraint::Length(messages),
            Constraint::Length(1),
        ])
        .areas(area);
        self.title(frame, title, &state.run.name, state.status());
        for (line, text) in head.iter().enumerate() {
            write(frame, told, line as u16, text, Style::default());
        }
        self.curves(frame, curves, state, view);
        self.messages(frame, said, state);
        let leave = if back { "Esc back  q quit" } else { "q quit" };
        let all = format!("{leave}  a accuracy  l loss  r rate  b both  g log  + - 0 zoom");
        self.keys(frame, keys, &all);
    }

    /// A sweep: its trials and who leads.
    pub fn sweep(self, frame: &mut Frame<'_>, state: &SweepState, view: &View) {
        let area = frame.area();
        let (header, rows) = &state.leaderboard;
        let leaders = match (area.height, rows.len()) {
            (..ROOMY, _) | (_, 0) => 0,
            (_, rows) => LEADERS.min(rows as u16 + 2),
        };
        let mut head = flow(&[plain::sweep_line(state)], area.width);
        head.extend(state.damage.iter().map(|it| table::printable(it)));
        head.truncate(usize::from(area.height / 3).max(1));
        let [title, told, trials, best, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(head.len() as u16),
            Constraint::Min(0),
            Constraint::Length(leaders),
            Constraint::Length(1),
        ])
        .areas(area);
        let name = state.sweep.file_name().unwrap_or_default();
        let status = match (state.gone, state.is_over()) {
            (true, _) => "gone",
            (_, true) => "over",
            _ => "sweep",
        };
        self.title(frame, title, &name.to_string_lossy(), status);
        for (line, text) in head.iter().enumerate() {
            write(frame, told, line as u16, text, Style::default());
        }
        self.trials(frame, trials, &state.trials, view.chosen);
        if leaders > 0 {
            let names: Vec<&str> = header.iter().map(String::as_str).collect();
            let mut table = Table::new(&names);
            rows.iter().for_each(|row| table.row(row));
            write(
                frame,
                best,
                0,
                "leaderboard, best by validation first",
                self.bold(),
            );
            let lines = table.lines(Some(usize::from(best.width)));
            for (line, text) in lines.iter().take(usize::from(leaders) - 1).enumerate() {
                write(frame, best, line as u16 + 1, text, Style::default());
            }
        }
        self.keys(frame, keys, "q quit  ↑ ↓ choose  Enter opens a trial");
    }

    fn bold(self) -> Style {
        Style::default().add_modifier(Modifier::BOLD)
    }

    fn colour(self, colour: Color) -> Color {
        if self.coloured { colour } else { Color::Reset }
    }

    /// A colour for a status, which is always there as a word, too.
    fn of_status(self, status: &str) -> Style {
        let colour = match status {
            "running" => Color::Cyan,
            "done" | "over" => Color::Green,
            "failed" | "dead" | "broken" | "gone" => Color::Red,
            "interrupted" | "stopped" => Color::Yellow,
            _ => Color::Reset,
        };
        Style::default().fg(self.colour(colour))
    }

    /// The name, and at the right end the status, which there is always room for.
    fn title(self, frame: &mut Frame<'_>, area: Rect, name: &str, status: &str) {
        let room = usize::from(area.width).saturating_sub(status.len() + 2);
        write(
            frame,
            area,
            0,
            &table::cut(&table::printable(name), room),
            self.bold(),
        );
        let right = area.right().saturating_sub(status.len() as u16);
        let place = Rect {
            x: right.max(area.x),
            ..area
        };
        write(
            frame,
            place,
            0,
            status,
            self.of_status(status).add_modifier(Modifier::BOLD),
        );
    }

    fn keys(self, frame: &mut Frame<'_>, area: Rect, keys: &str) {
        let text = table::cut(keys, usize::from(area.width));
        write(
            frame,
            area,
            0,
            &text,
            Style::default().add_modifier(Modifier::DIM),
        );
    }

    fn curves(self, frame: &mut Frame<'_>, area: Rect, state: &RunState, view: &View) {
        let train = |value| Series {
            name: "train",
            value,
            line: false,
            color: self.colour(Color::Yellow),
        };
        let val = |value| Series {
            name: "val",
            value,
            line: true,
            color: self.colour(Color::Cyan),
        };
        // What comes later is drawn above.
        let accuracy = [
            train(|row: &MetricsRow| row.train_accuracy),
            val(|row: &MetricsRow| row.val_accuracy),
        ];
        let loss = [
            train(|row: &MetricsRow| row.train_loss),
            val(|row: &MetricsRow| row.val_loss),
        ];
        let rate = [Series {
            name: "rate",
            ..val(|row: &MetricsRow| (row.phase_epoch > 0).then_some(row.lr))
        }];
        let plot = |title, label: fn(f64) -> String, series| Plot {
            title,
            label,
            series,
            rows: &state.rows,
            last: view.last,
            best: state.best,
            log: view.log,
        };
        let accuracy = plot(
            "accuracy %",
            |value| format!("{:.1}", 100.0 * value),
            &accuracy,
        );
        let loss = plot("loss", |value| format!("{value:.3}"), &loss);
        let rate = Plot {
            best: None,
            ..plot("learning rate", |value| format!("{value:.1e}"), &rate)
        };
        let halves = [Constraint::Fill(1), Constraint::Fill(1)];
        match view.curves {
            Curves::Both if area.width >= WIDE => {
                let [left, right] = Layout::horizontal(halves).spacing(2).areas(area);
                frame.render_widget(accuracy, left);
                frame.render_widget(loss, right);
            }
            Curves::Both if area.height >= TALL => {
                let [above, below] = Layout::vertical(halves).areas(area);
                frame.render_widget(accuracy, above);
                frame.render_widget(loss, below);
            }
            Curves::Both | Curves::Accuracy => frame.render_widget(accuracy, area),
            Curves::Loss => frame.render_widget(loss, area),
            Curves::Rate => frame.render_widget(rate, area),
        }
    }

    fn messages(self, frame: &mut Frame<'_>, area: Rect, state: &RunState) {
        let Some(room) = area.height.checked_sub(1) else {
            return;
        };
        write(frame, area, 0, "messages", self.bold());
        let skipped = state.messages.len().saturating_sub(usize::from(room));
        for (line, message) in state.messages.iter().skip(skipped).enumerate() {
            let (mark, style) = match message.warning {
                true => ("! ", Style::default().fg(self.colour(Color::Yellow))),
                false => ("  ", Style::default()),
            };
            let text = format!("{mark}{}", message.text);
            let text = table::cut(&text, usize::from(area.width));
            write(frame, area, line as u16 + 1, &text, style);
        }
    }

    fn trials(self, frame: &mut Frame<'_>, area: Rect, trials: &[TrialState], chosen: usize) {
        let Some(room) = area.height.checked_sub(1) else {
            return;
        };
        let room = usize::from(room);
        let header = [
            " ", "trial", "state", ">epoch", ">val %", ">test %", ">left", "settings",
        ];
        let mut table = Table::new(&header);
        for (index, trial) in trials.iter().enumerate() {
            let mark = if index == chosen { ">" } else { " " };
            let left = match trial.status.as_str() {
                "running" => shown(trial.left),
                _ => "-".into(),
            };
            let settings = match &trial.reason {
                Some(reason) => format!("{}  {reason}", trial.settings),
                None => trial.settings.clone(),
            };
            table.row([
                mark.to_owned(),
                trial.trial.clone(),
                trial.status.clone(),
                epochs(trial),
                table::percent(trial.val_accuracy),
                table::percent(trial.test_accuracy),
                left,
                settings,
            ]);
        }
        let lines = table.lines(Some(usize::from(area.width)));
        let Some((head, lines)) = lines.split_first() else {
            return;
        };
        write(frame, area, 0, head, self.bold());
        // The chosen one in the middle, as far as there are others around it.
        let most = lines.len().saturating_sub(room);
        let first = chosen.saturating_sub(room / 2).min(most);
        for (line, (index, text)) in lines.iter().enumerate().skip(first).take(room).enumerate() {
            let mut style = self.of_status(&trials[index].status);
            if index == chosen {
                style = style.add_modifier(Modifier::REVERSED);
            }
            write(frame, area, line as u16 + 1, text, style);
        }
    }
}

fn epochs(trial: &TrialState) -> String {
    match (trial.epoch, trial.epochs) {
        (None, None) => "-".into(),
        (done, Some(all)) => format!("{}/{all}", done.unwrap_or(0)),
        (Some(done), None) => done.to_string(),
    }
}

/// Words that belong together on as few lines as they need, two spaces between them.
fn flow(facts: &[String], width: u16) -> Vec<String> {
    let width = usize::from(width);
    let mut lines: Vec<String> = Vec::new();
    for fact in facts {
        match lines.last_mut() {
            Some(line) if table::length(line) + 2 + table::length(fact) <= width => {
                line.push_str("  ");
                line.push_str(fact);
            }
            _ => lines.push(table::cut(fact, width)),
        }
    }
    lines
}

fn write(frame: &mut Frame<'_>, area: Rect, line: u16, text: &str, style: Style) {
    let area = area.intersection(frame.area());
    if line < area.height {
        let room = usize::from(area.width);
        let buffer = frame.buffer_mut();
        buffer.set_stringn(area.x, area.y + line, text, room, style);
    }
}
