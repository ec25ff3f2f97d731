//! The runs of a folder and how each of them stands, read without changing a byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rayon::prelude::*;
use serde::Serialize;

use super::dir::name_in;
use super::{Manifest, RunDir, RunError, Status};
use crate::fsx::{self, FsError};
use crate::records::MetricsRow;

/// How deep below the folder runs are looked for: in it, and in folders of sweeps.
const DEPTH: usize = 2;

/// Far more than any `resolved.toml` has.
const MOST_BYTES: u64 = 16 << 20;

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// At work.
    Running,
    /// Complete.
    Done,
    /// Ended by an error.
    Failed,
    /// Stopped from outside; can go on.
    Interrupted,
    /// Says that it is at work, but its process is gone.
    Dead,
    /// Its manifest cannot be read.
    Broken,
}

impl Condition {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Interrupted,
        Self::Dead,
        Self::Broken,
    ];

    /// `running`, `done`, `failed`, `interrupted`, `dead` or `broken`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Dead => "dead",
            Self::Broken => "broken",
        }
    }

    /// How the run of this manifest stands.
    pub fn of(manifest: &Manifest) -> Self {
        match manifest.status {
            Status::Running if manifest.process.is_alive(manifest.heartbeat) => Self::Running,
            Status::Running => Self::Dead,
            Status::Done => Self::Done,
            Status::Failed => Self::Failed,
            Status::Interrupted => Self::Interrupted,
        }
    }
}

/// A run, in a line.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// The run directory.
    pub run: PathBuf,
    /// The experiment's name.
    pub name: String,
    /// How it stands.
    pub status: Condition,
    /// Why it failed, is dead or is broken.
    pub reason: Option<String>,
    /// Epochs that are over.
    pub epochs: Option<usize>,
    /// Epochs that it is to have at most, over all phases.
    pub epochs_planned: Option<usize>,
    /// The best epoch so far.
    pub best_epoch: Option<usize>,
    /// Its validation accuracy, 0 to 1.
    pub val_accuracy: Option<f64>,
    /// Accuracy of the best epoch on the test split, 0 to 1.
    pub test_accuracy: Option<f64>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// Its last sign of life.
    pub heartbeat: Option<Timestamp>,
    /// Wall time from its beginning to its end, its last sign of life or now.
    pub seconds: Option<f64>,
}

/// The runs in a folder, and in folders of it that are no runs; newest first. The folder may be a
/// run itself.
pub fn list(folder: &Path) -> Result<Vec<Listed>, RunError> {
    if is_run(folder) {
        return Ok(vec![look_at(folder)]);
    }
    let entries = folders_in(folder).map_err(FsError::at("read", folder))?;
    let mut paths = Vec::new();
    collect(entries, DEPTH, &mut paths);
    let mut runs: Vec<(Listed, Timestamp)> = paths
        .par_iter()
        .map(|path| {
            let listed = look_at(path);
            let time = listed.started.or_else(|| time_in(path));
            (listed, time.or_else(|| modified(path)).unwrap_or_default())
        })
        .collect();
    runs.sort_by(|(a, at), (b, bt)| bt.cmp(at).then_with(|| b.run.cmp(&a.run)));
    Ok(runs.into_iter().map(|(listed, _)| listed).collect())
}

fn collect(folders: Vec<PathBuf>, depth: usize, runs: &mut Vec<PathBuf>) {
    for folder in folders {
        if is_run(&folder) {
            runs.push(folder);
        } else if depth > 1 {
            // What may not be read holds no run of ours.
            collect(folders_in(&folder).unwrap_or_default(), depth - 1, runs);
        }
    }
}

fn folders_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.flatten();
    let is_folder = |entry: &fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_symlink() => entry.path().is_dir(),
        kind => kind.is_ok_and(|kind| kind.is_dir()),
    };
    Ok(entries.filter(is_folder).map(|it| it.path()).collect())
}

/// Whether a folder is a run. One may have been killed before it wrote its first file: then it has the
/// name of one.
pub fn is_run(folder: &Path) -> bool {
    RunDir::open(folder).is_ok() || name_of(folder).as_deref().and_then(name_in).is_some()
}

fn name_of(folder: &Path) -> Option<String> {
    Some(folder.file_name()?.to_string_lossy().into_owned())
}

/// How a run stands, whatever is left of it.
pub fn look_at(path: &Path) -> Listed {
    let dir = RunDir::at(path);
    let manifest = dir.manifest();
    let rows = dir.metrics().ok().map(|log| log.rows);
    let test_accuracy = || Some(dir.test().ok()??.accuracy);
    Listed::of(
        path,
        Parts {
            test_accuracy: manifest.is_err().then(test_accuracy).flatten(),
            manifest: manifest.as_ref().map_err(|error| unread(&dir, error)),
            rows: rows.as_deref(),
            epochs_planned: planned(&dir.resolved_toml()),
        },
    )
}

/// What was read of a run's files.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The manifest, or why it cannot be read.
    pub manifest: Result<&'a Manifest, String>,
    /// The rows of the log, if it can be read.
    pub rows: Option<&'a [MetricsRow]>,
    /// Epochs of all phases, if all are counted in epochs.
    pub epochs_planned: Option<usize>,
    /// Accuracy on the test split, for where the manifest cannot say.
    pub test_accuracy: Option<f64>,
}

/// Why there is no manifest to read.
pub fn unread(dir: &RunDir, error: &RunError) -> String {
    match dir.manifest_json().exists() {
        true => short(error),
        false => "there is no `manifest.json`".into(),
    }
}

/// The error without the path, which the listing has already.
fn short(error: &RunError) -> String {
    match error {
        RunError::Damaged { reason, .. } => format!("`manifest.json` is damaged: {reason}"),
        RunError::File(error) => format!("cannot read `manifest.json`: {}", error.source),
        other => other.to_string(),
    }
}

impl Listed {
    /// The run in a line, from what was read of it.
    pub fn of(path: &Path, parts: Parts<'_>) -> Self {
        let rows = parts.rows.unwrap_or_default().iter();
        let mut listed = Self {
            run: path.to_path_buf(),
            name: RunDir::at(path).name(),
            status: Condition::Broken,
            reason: None,
            epochs: rows.clone().map(|row| row.epoch).max(),
            epochs_planned: parts.epochs_planned,
            best_epoch: None,
            val_accuracy: None,
            test_accuracy: parts.test_accuracy,
            started: None,
            heartbeat: None,
            seconds: None,
        };
        match parts.manifest {
            Ok(manifest) => listed.add(manifest),
            Err(reason) => {
                listed.reason = Some(reason);
                let scored = rows.filter_map(|row| Some((row.epoch, row.val_accuracy?)));
                let best = scored.max_by(|(_, a), (_, b)| a.total_cmp(b));
                listed.best_epoch = best.map(|(epoch, _)| epoch);
                listed.val_accuracy = best.map(|(_, accuracy)| accuracy);
            }
        }
        listed
    }

    fn add(&mut self, manifest: &Manifest) {
        self.status = Condition::of(manifest);
        self.reason = match self.status {
            Condition::Dead => Some(format!(
                "process {} on `{}` is gone; its last sign of life was at {}",
                manifest.process.pid,
                manifest.process.host,
                local(manifest.heartbeat)
            )),
            _ => manifest.error.clone(),
        };
        let until = match self.status {
            Condition::Running => Timestamp::now(),
            _ => manifest.ended.unwrap_or(manifest.heartbeat),
        };
        self.best_epoch = manifest.best.map(|best| best.epoch);
        self.val_accuracy = manifest.best.and_then(|best| best.val_accuracy);
        self.test_accuracy = manifest.test_accuracy;
        self.started = Some(manifest.started);
        self.heartbeat = Some(manifest.heartbeat);
        self.seconds = Some(
            until
                .duration_since(manifest.started)
                .as_secs_f64()
                .max(0.0),
        );
    }
}

/// Local time, to the second.
fn local(time: Timestamp) -> String {
    let time = time.to_zoned(TimeZone::system());
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A `resolved.toml` of any version.
pub fn toml_table(path: &Path) -> Result<toml::Table, RunError> {
    let damaged = |reason: String| RunError::Damaged {
        path: path.to_path_buf(),
        reason,
        help: "`config.toml`, as it was written, may still be whole",
    };
    let bytes = fsx::read_small(path, MOST_BYTES)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| damaged(error.to_string()))?;
    toml::from_str(text).map_err(|error: toml::de::Error| damaged(error.message().to_owned()))
}

/// Epochs of all phases.
fn planned(path: &Path) -> Option<usize> {
    let table = toml_table(path).ok()?;
    let phases = table.get("phase")?.as_array()?.iter();
    let mut epochs = phases.map(|phase| usize::try_from(phase.get("epochs")?.as_integer()?).ok());
    epochs.try_fold(0usize, |sum, epochs| sum.checked_add(epochs?))
}

/// The time in the name of a run directory.
fn time_in(path: &Path) -> Option<Timestamp> {
    let name = name_of(path)?;
    name_in(&name)?;
    let time = name.get(..19)?;
    let time = DateTime::strptime("%Y-%m-%dT%H-%M-%S", time).ok()?;
    Some(time.to_zoned(TimeZone::system()).ok()?.timestamp())
}

fn modified(path: &Path) -> Option<Timestamp> {
    let time: SystemTime = fs::metadata(path).ok()?.modified().ok()?;
    Timestamp::try_from(time).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planned_epochs_are_found_in_any_version() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolved.toml");
        let of = |text: &str| {
            fs::write(&path, text).unwrap();
            planned(&path)
        };
        let phases = "energy = 1\n[[phase]]\nepochs = 3\nnew = 1\n[[phase]]\nepochs = 4\n";
        assert_eq!(of(phases), Some(7));
        assert_eq!(of("[[phase]]\nepochs = -3"), None);
        let most = format!("[[phase]]\nepochs = {}\n", i64::MAX).repeat(3);
        assert_eq!(of(&most), None);
        assert_eq!(of("phase = 3"), None);
        assert_eq!(of("[[phase"), None);
    }

    #[test]
    fn names_tell_the_time() {
        let time = time_in(Path::new("runs/2026-11-21T18-03-11_a_ab12cd-2"));
        let zoned = time.unwrap().to_zoned(TimeZone::system());
        assert_eq!(zoned.strftime("%F %T").to_string(), "2026-11-21 18:03:11");
        assert_eq!(time_in(Path::new("2026-11-21T18-03-11")), None);
        assert_eq!(time_in(Path::new("2026-99-21T18-03-11_a_ab12cd")), None);
    }
}
