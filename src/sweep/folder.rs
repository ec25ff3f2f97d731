//! A sweep's folder: its trials and their run directories.
//!
//! ```text
//! runs/NAME/sweep.json           the trials
//!           sweep.csv            what they came to
//!           sweep.png            accuracy against each axis, and against time
//!           EXPERIMENT_ID/       run directory of a trial
//!           trials/ID.toml       its configuration
//!           trials/ID.log        what its processes said
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Trial;
use crate::fsx::{self, FsError};
use crate::run::{Listed, RunDir, RunError, list};

const SWEEP: &str = "sweep.json";
const TRIALS: &str = "trials";

/// Far more than any `sweep.json` has.
const MOST_BYTES: u64 = 1 << 30;

/// A sweep's folder.
#[derive(Debug, Clone)]
pub struct SweepDir {
    path: PathBuf,
}

/// `sweep.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    xp_version: String,
    trials: Vec<Trial>,
}

impl SweepDir {
    /// Makes the folder, if it is not there, and writes down the trials.
    pub fn create(path: PathBuf, trials: &[Trial]) -> Result<Self, RunError> {
        let sweep = Self { path };
        let folder = sweep.path.join(TRIALS);
        fs::create_dir_all(&folder).map_err(FsError::at("create", &folder))?;
        let plan = Plan {
            xp_version: env!("CARGO_PKG_VERSION").into(),
            trials: trials.to_vec(),
        };
        let path = sweep.path.join(SWEEP);
        let text = serde_json::to_vec_pretty(&plan).map_err(|error| RunError::Unstorable {
            what: "the trials".into(),
            path: path.clone(),
            reason: error.to_string(),
        })?;
        if fsx::read(&path).ok().as_ref() != Some(&text) {
            fsx::write_atomic(&path, &text)?;
        }
        Ok(sweep)
    }

    /// The folder that a sweep has, or would have.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The folder of a sweep, and its trials; `None` if it is not one.
    pub fn open(path: &Path) -> Result<Option<(Self, Vec<Trial>)>, RunError> {
        let file = path.join(SWEEP);
        if !file.exists() {
            return Ok(None);
        }
        let plan: Plan =
            serde_json::from_slice(&fsx::read_small(&file, MOST_BYTES)?).map_err(|error| {
                RunError::Damaged {
                    path: file,
                    reason: error.to_string(),
                    help: "`xp sweep` with the same configurations writes it again",
                }
            })?;
        let path = path.to_path_buf();
        Ok(Some((Self { path }, plan.trials)))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run directory of a trial.
    pub fn run(&self, trial: &Trial) -> PathBuf {
        self.path.join(RunDir::named(&trial.name, &trial.id))
    }

    /// How the run of a trial stands; `None` if there is none yet.
    pub fn look_at(&self, trial: &Trial) -> Option<Listed> {
        let run = self.run(trial);
        run.is_dir().then(|| list::look_at(&run))
    }

    /// `sweep.csv`.
    pub fn table(&self) -> PathBuf {
        self.path.join("sweep.csv")
    }

    /// `sweep.png`.
    pub fn picture(&self) -> PathBuf {
        self.path.join("sweep.png")
    }

    /// `trials/ID.log`.
    pub fn log(&self, trial: &Trial) -> PathBuf {
        self.path.join(TRIALS).join(format!("{}.log", trial.id))
    }

    /// The last error in a trial's log.
    pub(super) fn last_error(&self, trial: &Trial) -> Option<String> {
        let text = fsx::read_text(&self.log(trial)).ok()?;
        let mut errors = text.lines().filter_map(|line| line.strip_prefix("error: "));
        errors.next_back().map(str::to_owned)
    }

    /// Opens the log of a trial to append to it.
    pub(super) fn open_log(&self, trial: &Trial) -> Result<File, RunError> {
        let path = self.log(trial);
        let file = File::options().create(true).append(true).open(&path);
        Ok(file.map_err(FsError::at("open", &path))?)
    }

    /// The folder of configurations and logs.
    pub(super) fn trials(&self) -> PathBuf {
        self.path.join(TRIALS)
    }

    /// `trials/ID.toml`, written if it is not there.
    pub(super) fn config(&self, trial: &Trial) -> Result<PathBuf, RunError> {
        let path = self.path.join(TRIALS).join(format!("{}.toml", trial.id));
        if fsx::read_text(&path).ok().as_ref() != Some(&trial.resolved) {
            fsx::write_atomic(&path, trial.resolved.as_bytes())?;
        }
        Ok(path)
    }
}
