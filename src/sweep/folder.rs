//! A sweep's folder: its trials and their run directories.
//!
//! ```text
//! runs/NAME/sweep.json           the trials
//!           sweep.csv            what they came to
//!           sweep.png            accuracy against each axis, and against time
//!           sweep.html           all that, and the trials, as a page
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

/// A sweep's folder.
#[derive(Debug, Clone)]
pub struct SweepDir {
    path: PathBuf,
}

/// What a reader wants of `sweep.json`.
#[derive(Debug, Deserialize)]
struct Written {
    trials: Vec<Trial>,
}

/// Far more than the trials of any sweep have.
const MOST_BYTES: u64 = 1 << 30;

/// `sweep.json`.
#[derive(Debug, Serialize)]
struct Plan<'a> {
    xp_version: &'static str,
    trials: &'a [Trial],
}

impl SweepDir {
    /// Makes the folder, if it is not there, and writes down the trials.
    pub fn create(path: PathBuf, trials: &[Trial]) -> Result<Self, RunError> {
        let sweep = Self { path };
        let folder = sweep.path.join(TRIALS);
        fs::create_dir_all(&folder).map_err(FsError::at("create", &folder))?;
        let plan = Plan {
            xp_version: env!("CARGO_PKG_VERSION"),
            trials,
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

    /// Whether there is a sweep in a folder.
    pub fn is_one(path: &Path) -> bool {
        path.join(SWEEP).is_file()
    }

    /// `sweep.json`.
    pub fn plan(&self) -> PathBuf {
        self.path.join(SWEEP)
    }

    /// Reads the trials.
    ///
    /// # Errors
    /// If `sweep.json` cannot be read.
    pub fn read_trials(&self) -> Result<Vec<Trial>, RunError> {
        let path = self.plan();
        let bytes = fsx::read_small(&path, MOST_BYTES)?;
        let written: Result<Written, _> = serde_json::from_slice(&bytes);
        let written = written.map_err(|error| RunError::Damaged {
            path,
            reason: error.to_string(),
            help: "the same `xp sweep` writes it again; what is done stays as it is",
        })?;
        Ok(written.trials)
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

    /// `sweep.html`.
    pub fn page(&self) -> PathBuf {
        self.path.join("sweep.html")
    }

    /// Writes `sweep.html`.
    pub fn write_page(&self, html: &str) -> Result<(), RunError> {
        Ok(fsx::write_atomic(&self.page(), html.as_bytes())?)
    }

    /// `trials/ID.log`.
    pub fn log(&self, trial: &Trial) -> PathBuf {
        self.path.join(TRIALS).join(format!("{}.log", trial.id))
    }

    /// Bytes of a trial's log.
    pub(super) fn log_length(&self, trial: &Trial) -> u64 {
        fs::metadata(self.log(trial)).map_or(0, |found| found.len())
    }

    /// The last error in a trial's log behind its first `from` bytes, which are of earlier processes.
    pub(super) fn last_error(&self, trial: &Trial, from: u64) -> Option<String> {
        let bytes = fsx::read(&self.log(trial)).ok()?;
        let new = bytes.get(usize::try_from(from).ok()?..)?;
        let text = String::from_utf8_lossy(new);
        let mut errors = text.lines().filter_map(|line| line.strip_prefix("error: "));
        errors.next_back().map(str::to_owned)
    }

    /// How the last process of a trial ended, in a word or two, where a scheduler's task left it:
    /// `trials/ID.exit`.
    pub(super) fn exit(&self, trial: &Trial) -> Option<String> {
        let text = fsx::read_text(&self.exit_file(trial)).ok()?;
        (!text.trim().is_empty()).then(|| text.trim().to_owned())
    }

    pub(super) fn exit_file(&self, trial: &Trial) -> PathBuf {
        self.trials().join(format!("{}.exit", trial.id))
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
