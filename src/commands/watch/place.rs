//! Where a run stands among its phases, from its rows and its configuration.

use serde::{Deserialize, Serialize};

use super::left::{Left, Phase, PhaseLength};
use crate::config::{EarlyStopping as EarlyStoppingConfig, Monitor};
use crate::records::MetricsRow;
use crate::train::early_stopping::EarlyStopping;

/// What is wanted of `resolved.toml`, of any version.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Settings {
    /// The phases.
    #[serde(default)]
    pub(super) phase: Vec<PhaseLength>,
    #[serde(default)]
    train: TrainSettings,
}

#[derive(Debug, Default, Deserialize)]
struct TrainSettings {
    #[serde(default)]
    early_stopping: Option<EarlyStoppingConfig>,
}

/// The phase that a run is in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseAt {
    /// Its name.
    pub name: String,
    /// Which, counted from 1.
    pub index: usize,
    /// Of how many.
    pub of: usize,
    /// Its epochs that are over.
    pub epoch: usize,
    /// Its epochs at most, if it is counted in them.
    pub epochs: Option<usize>,
    /// Its steps that are over.
    pub step: u64,
    /// Its steps, if it is counted in them.
    pub steps: Option<u64>,
}

/// How much longer early stopping will wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Patience {
    /// Rows without improvement that it will wait for still.
    pub left: usize,
    /// Of how many.
    pub of: usize,
}

/// Where the rows of a run stand among its phases.
pub(super) struct Place<'a> {
    /// Index of the phase.
    pub(super) index: usize,
    phase: &'a PhaseLength,
    /// Those of the phase, the evaluation before training aside.
    rows: &'a [MetricsRow],
    /// Steps before it.
    begin: u64,
}

impl<'a> Place<'a> {
    /// The phase of the last row; the first one before there is any. The next one where that is over,
    /// by its length or by early stopping.
    pub(super) fn of(settings: &'a Settings, rows: &'a [MetricsRow]) -> Option<Self> {
        let name = rows.last().map(|row| row.phase.as_str());
        let index = match name {
            None => 0,
            Some(name) => settings.phase.iter().position(|it| it.name == name)?,
        };
        let phase = settings.phase.get(index)?;
        let first = rows.iter().position(|row| row.phase == phase.name);
        let first = first.unwrap_or(rows.len());
        let earlier = &rows[..first];
        let rows = &rows[first..];
        let untrained = rows.iter().take_while(|row| row.phase_epoch == 0).count();
        let at = Self {
            index,
            phase,
            rows: &rows[untrained..],
            begin: earlier.last().map_or(0, |row| row.step),
        };
        let stopped = at.patience(settings).is_some_and(|it| it.left == 0);
        match (stopped || at.is_over(), settings.phase.get(index + 1)) {
            (true, Some(next)) => Some(Self {
                index: index + 1,
                phase: next,
                begin: rows.last().map_or(0, |row| row.step),
                rows: &[],
            }),
            _ => Some(at),
        }
    }

    fn step(&self) -> u64 {
        let last = self.rows.last();
        last.map_or(0, |row| row.step.saturating_sub(self.begin))
    }

    fn epoch(&self) -> usize {
        self.rows.last().map_or(0, |row| row.phase_epoch)
    }

    /// Whether it has all its rows, as far as can be told from them.
    fn is_over(&self) -> bool {
        match (
            self.phase.steps,
            self.phase.epochs,
            self.phase.evaluate_every,
        ) {
            (Some(steps), ..) => self.step() >= steps,
            (None, Some(epochs), None) => self.epoch() >= epochs,
            _ => false,
        }
    }

    /// What early stopping will wait for, if there is any.
    pub(super) fn patience(&self, settings: &Settings) -> Option<Patience> {
        let config = settings.train.early_stopping.as_ref()?;
        let mut stopping = EarlyStopping::new(config);
        for row in self.rows {
            let value = match stopping.monitor() {
                Monitor::ValAccuracy => row.val_accuracy,
                Monitor::ValLoss => row.val_loss,
            };
            stopping.update(value?);
        }
        Some(Patience {
            left: config.patience.saturating_sub(stopping.waited()),
            of: config.patience,
        })
    }

    /// What is left of the phase.
    pub(super) fn left(&self, patience: Option<Patience>, since: f64) -> Option<Left> {
        let phase = Phase {
            length: self.phase,
            rows: self.rows,
            begin: self.begin,
            patience: patience.map(|patience| patience.left),
            since,
        };
        phase.left()
    }

    /// Of so many phases.
    pub(super) fn shown(&self, of: usize) -> PhaseAt {
        PhaseAt {
            name: self.phase.name.clone(),
            index: self.index + 1,
            of,
            epoch: self.epoch(),
            epochs: self.phase.epochs,
            step: self.step(),
            steps: self.phase.steps,
        }
    }
}
