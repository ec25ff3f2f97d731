//! How a run stands, from its files alone.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::files::Kept;
use super::left::Left;
use super::messages::{Message, message};
use super::place::{Patience, PhaseAt, Place, Settings};
use crate::records::MetricsRow;
use crate::run::list::{self, Parts};
use crate::run::{Condition, EventLog, Listed, Manifest, MetricsLog, RunDir};

/// Messages that are kept.
const MESSAGES: usize = 200;

/// A run as it stands.
#[derive(Debug, Clone, Serialize)]
pub struct RunState {
    /// The run in a line, as `xp runs` has it.
    #[serde(flatten)]
    pub run: Listed,
    /// Whether the run directory is not there any more; all else is as it was last.
    pub gone: bool,
    /// Whether there never was one: a trial that has not begun.
    pub waiting: bool,
    /// The phase that it is in.
    pub phase: Option<PhaseAt>,
    /// Training pictures a second of the last row.
    pub images_per_second: Option<f64>,
    /// Seconds left of the phase.
    pub phase_left: Option<Left>,
    /// Seconds left of the training.
    pub left: Option<Left>,
    /// What early stopping will wait for.
    pub patience: Option<Patience>,
    /// The last row.
    pub row: Option<MetricsRow>,
    /// The last messages, the newest last.
    pub messages: VecDeque<Message>,
    /// What cannot be read.
    pub damage: Vec<String>,
    /// All rows.
    #[serde(skip)]
    pub rows: Vec<MetricsRow>,
    /// Index of the best of them.
    #[serde(skip)]
    pub best: Option<usize>,
}

impl RunState {
    /// How it stands, in a word.
    pub fn status(&self) -> &'static str {
        match (self.gone, self.waiting) {
            (true, _) => "gone",
            (_, true) => "waiting",
            _ => self.run.status.name(),
        }
    }

    /// Whether nothing more will come of it unless somebody takes it up again.
    pub fn is_over(&self) -> bool {
        self.gone || !matches!(self.run.status, Condition::Running | Condition::Broken)
    }
}

/// Reads a run directory again and again.
#[derive(Debug)]
pub struct RunReader {
    path: PathBuf,
    manifest: Kept<Manifest>,
    settings: Kept<Settings>,
    rows: Kept<MetricsLog>,
    /// Not read where nobody wants messages.
    log: Option<EventLog>,
    messages: VecDeque<Message>,
    last: Option<RunState>,
}

impl RunReader {
    /// For a run directory.
    pub fn new(path: &Path) -> Self {
        Self {
            log: Some(EventLog::default()),
            ..Self::without_messages(path)
        }
    }

    /// Likewise, one of many.
    pub fn without_messages(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            manifest: Kept::default(),
            settings: Kept::default(),
            rows: Kept::default(),
            log: None,
            messages: VecDeque::new(),
            last: None,
        }
    }

    /// How it stood when it was last looked at.
    pub fn last(&self) -> Option<&RunState> {
        self.last.as_ref()
    }

    /// How the run stands now.
    pub fn look(&mut self) -> &RunState {
        let state = self.read();
        self.last.insert(state)
    }

    /// As [`Self::look`]; of a run that was over, only whether somebody has taken it up again.
    pub fn glance(&mut self) -> &RunState {
        let dir = RunDir::at(&self.path);
        let manifest = dir.manifest_json();
        let changed = self.manifest.look(&manifest, Manifest::read);
        let state = match self.last.take() {
            Some(state) if state.is_over() && !state.gone && !changed && self.path.is_dir() => {
                state
            }
            last => {
                self.last = last;
                self.read()
            }
        };
        self.last.insert(state)
    }

    fn read(&mut self) -> RunState {
        let dir = RunDir::at(&self.path);
        if !self.path.is_dir()
            && let Some(last) = self.last.take_if(|last| !last.waiting)
        {
            return RunState {
                gone: true,
                left: None,
                phase_left: None,
                ..last
            };
        }
        self.manifest.look(&dir.manifest_json(), Manifest::read);
        self.rows.look(&dir.metrics_csv(), MetricsLog::read);
        self.settings.look(&dir.resolved_toml(), |path| {
            // Of another version, what is missing is not known.
            Ok(list::toml_table(path)?.try_into().unwrap_or_default())
        });
        self.read_log(&dir);
        self.state(&dir)
    }

    fn read_log(&mut self, dir: &RunDir) {
        let Some(log) = &mut self.log else { return };
        // A run without a log has no messages.
        let events = log.read_new(&dir.log_jsonl()).unwrap_or_default();
        self.messages.extend(events.iter().filter_map(message));
        let surplus = self.messages.len().saturating_sub(MESSAGES);
        self.messages.drain(..surplus);
    }

    fn state(&self, dir: &RunDir) -> RunState {
        let rows = self.rows.get().map(|log| log.rows.clone());
        let manifest = self.manifest.get();
        let none = Settings::default();
        let settings = self.settings.get().unwrap_or(&none);
        let mut epochs = settings.phase.iter().map(|phase| phase.epochs);
        let epochs = epochs.try_fold(0usize, |sum, epochs| sum.checked_add(epochs?));
        let run = Listed::of(
            &self.path,
            Parts {
                manifest: manifest.ok_or_else(|| {
                    let error = self.manifest.error();
                    error.map_or_else(String::new, |error| list::unread(dir, error))
                }),
                rows: rows.as_deref(),
                epochs_planned: epochs.filter(|_| !settings.phase.is_empty()),
                test_accuracy: None,
            },
        );
        let rows = rows.unwrap_or_default();
        let at_work = run.status == Condition::Running;
        let at = Place::of(settings, &rows);
        let patience = at.as_ref().and_then(|at| at.patience(settings));
        let since = self.rows.age().as_secs_f64();
        let phase_left = at.as_ref().and_then(|at| at.left(patience, since));
        let phase_left = phase_left.filter(|_| at_work);
        let more = at
            .as_ref()
            .is_some_and(|at| at.index + 1 < settings.phase.len());
        let damage = [self.rows.damage(), self.settings.damage()];
        let damage = damage.into_iter().flatten().map(ToString::to_string);
        RunState {
            gone: false,
            waiting: !self.path.is_dir(),
            phase: at.as_ref().map(|at| at.shown(settings.phase.len())),
            images_per_second: rows
                .last()
                .map(|row| row.images_per_second)
                .filter(|speed| *speed > 0.0),
            left: phase_left.map(|left| if more { left.and_more() } else { left }),
            phase_left,
            patience: patience.filter(|_| at_work),
            row: rows.last().cloned(),
            messages: self.messages.clone(),
            damage: damage.collect(),
            best: manifest
                .and_then(|manifest| manifest.best)
                .and_then(|best| best.find(&rows)),
            rows,
            run,
        }
    }
}

#[cfg(test)]
mod tests;
