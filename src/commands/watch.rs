//! `xp watch RUN`: how a run or a sweep fares, live. Reads its folder and changes nothing.

pub mod files;
pub mod left;
pub mod messages;
pub mod place;
pub mod plain;
pub mod plot;
pub mod run_state;
pub mod screen;
pub mod sweep_state;
pub mod view;

use std::path::Path;
use std::time::{Duration, Instant};

use self::plain::Teller;
use self::run_state::RunReader;
use self::screen::Painter;
use self::sweep_state::SweepReader;
use self::view::{View, Watched};
use super::terminal::{self, Screen};
use super::{Exit, Failure, Printer, interrupt};
use crate::cli::WatchArgs;
use crate::run::{Condition, RunDir, list};
use crate::sweep::SweepDir;

/// Keys are answered, and signals, within this time.
const PATIENCE: Duration = Duration::from_millis(100);

/// A run whose manifest is not there is looked for so many times before it counts as over: it may be
/// about to begin.
const LOOKS: usize = 5;

/// Runs the command.
pub fn run(args: &WatchArgs, printer: &Printer) -> Result<(), Failure> {
    let source = Source::open(&args.run)?;
    interrupt::watch()?;
    let pause = Duration::from_secs_f64(args.interval);
    if args.once || printer.json || !terminal::is_there() {
        return print(source, args.once, pause, printer);
    }
    show(source, pause, printer)
}

/// What is watched.
enum Source {
    Run(Box<RunReader>),
    Sweep(Box<SweepReader>),
}

impl Source {
    fn open(path: &Path) -> Result<Self, Failure> {
        if SweepDir::is_one(path) {
            return Ok(Self::Sweep(Box::new(SweepReader::new(path))));
        }
        if path.is_dir() && list::is_run(path) {
            return Ok(Self::Run(Box::new(RunReader::new(path))));
        }
        match RunDir::open(path) {
            Ok(_) => Ok(Self::Run(Box::new(RunReader::new(path)))),
            Err(error) => Err(Failure::from(error).help(
                "give a folder made by `xp run` or `xp sweep`; `xp runs` lists those in a folder",
            )),
        }
    }
}

/// A line a change, to the end of what is watched or, with `once`, how it stands now.
fn print(
    mut source: Source,
    once: bool,
    pause: Duration,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut teller = Teller::new(printer.json);
    let mut broken = 0;
    loop {
        let begun = Instant::now();
        let (lines, over, gone) = match &mut source {
            Source::Run(reader) => {
                let state = reader.look();
                broken = match state.run.status {
                    Condition::Broken => broken + 1,
                    _ => 0,
                };
                let over = state.is_over() || broken == LOOKS;
                (teller.run(state), over, state.gone)
            }
            Source::Sweep(reader) => {
                let state = reader.look();
                (teller.sweep(state), state.is_over(), state.gone)
            }
        };
        if !lines.iter().all(|line| printer.line(line)) || once {
            return Ok(());
        }
        if gone {
            let message = "what was watched is not there any more";
            return Err(Failure::new(Exit::Other, message));
        }
        if over {
            return Ok(());
        }
        while begun.elapsed() < pause {
            if interrupt::asked() {
                return Ok(());
            }
            std::thread::sleep(PATIENCE.min(pause));
        }
    }
}

/// The screen, until somebody has seen enough.
fn show(mut source: Source, pause: Duration, printer: &Printer) -> Result<(), Failure> {
    let painter = Painter {
        coloured: printer.coloured_data(),
    };
    let mut view = View::default();
    let mut opened: Option<RunReader> = None;
    let mut screen = Screen::take()?;
    let mut looked: Option<Instant> = None;
    loop {
        let due = looked.is_none_or(|looked| looked.elapsed() >= pause);
        if due {
            looked = Some(Instant::now());
            match (&mut source, &mut opened) {
                (_, Some(reader)) => {
                    reader.look();
                }
                (Source::Run(reader), None) => {
                    reader.look();
                }
                (Source::Sweep(reader), None) => {
                    reader.look();
                }
            }
        }
        let mut watched = Watched {
            rows: 0,
            trials: None,
            height: 0,
        };
        let mut chosen = None;
        screen.draw(|frame| {
            watched.height = usize::from(frame.area().height);
            match (&source, &opened) {
                (Source::Run(reader), _) => {
                    draw_run(painter, frame, reader, &view, &mut watched);
                }
                (Source::Sweep(sweep), opened) => {
                    let Some(state) = sweep.last() else { return };
                    watched.trials = Some(state.trials.len());
                    chosen = state.trials.get(view.chosen).map(|it| it.run.clone());
                    match opened {
                        Some(reader) => draw_run(painter, frame, reader, &view, &mut watched),
                        None => painter.sweep(frame, state, &view),
                    }
                }
            }
        })?;
        let rest = looked.map_or(Duration::ZERO, |looked| {
            pause.saturating_sub(looked.elapsed())
        });
        let key = screen.key(rest.min(PATIENCE))?;
        if interrupt::asked() || key.is_some_and(|key| view.press(key, watched)) {
            return Ok(());
        }
        if view.opened != opened.is_some() {
            opened = chosen
                .filter(|_| view.opened)
                .map(|run| RunReader::new(&run));
            looked = None;
        }
    }
}

fn draw_run(
    painter: Painter,
    frame: &mut ratatui::Frame<'_>,
    reader: &RunReader,
    view: &View,
    watched: &mut Watched,
) {
    if let Some(state) = reader.last() {
        watched.rows = state.rows.len();
        painter.run(frame, state, view, watched.trials.is_some());
    }
}
