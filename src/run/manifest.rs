//! `manifest.json`: what a run is, where it ran and how it went.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Process, RunError};
use crate::records::{MetricsRow, MicroBatch};
use crate::{fsx, program};

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// At work, or killed without a word: see the heartbeat.
    Running,
    /// Complete.
    Done,
    /// Ended by an error.
    Failed,
    /// Stopped from outside; can go on.
    Interrupted,
}

/// BLAKE3 sums of what decides a run's result, in hex.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fingerprints {
    /// Content of all pictures with their labels.
    pub data: String,
    /// Which picture is in which split.
    pub split: String,
    /// The initial weights.
    pub weights: String,
    /// The resolved configuration.
    pub config: String,
}

/// The best epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestMetrics {
    /// Epoch over all phases.
    pub epoch: usize,
    /// Steps so far; not in old manifests.
    #[serde(default)]
    pub step: Option<u64>,
    /// Validation accuracy, 0 to 1.
    pub val_accuracy: Option<f64>,
    /// Validation loss.
    pub val_loss: Option<f64>,
}

impl BestMetrics {
    /// Index of the row that this tells of; `None` if it is not there.
    pub fn find(&self, rows: &[MetricsRow]) -> Option<usize> {
        rows.iter().position(|row| {
            row.epoch == self.epoch && self.step.is_none_or(|step| step == row.step)
        })
    }
}

impl From<&MetricsRow> for BestMetrics {
    fn from(row: &MetricsRow) -> Self {
        Self {
            epoch: row.epoch,
            step: Some(row.step),
            val_accuracy: row.val_accuracy,
            val_loss: row.val_loss,
        }
    }
}

/// A run in one page. Fields that a reader does not know are passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// How far it is.
    pub status: Status,
    /// The process that works or worked on it.
    #[serde(flatten)]
    pub process: Process,
    /// Last sign of life.
    pub heartbeat: Timestamp,
    /// When it began.
    pub started: Timestamp,
    /// When it ended, however it ended.
    #[serde(default)]
    pub ended: Option<Timestamp>,
    /// Version of xp.
    pub xp_version: String,
    /// Commit of the git checkout that the working directory belongs to, if it does.
    #[serde(default)]
    pub git_commit: Option<String>,
    /// The command as typed.
    pub command_line: Vec<String>,
    /// Which build of xp: two of one version may differ.
    #[serde(default)]
    pub xp_build: Option<String>,
    /// `cpu`, `cuda:0`...
    pub device: String,
    /// Instruction set of the kernels: `avx512`, `avx2` or `portable`. Their bits differ.
    #[serde(default)]
    pub instructions: Option<String>,
    /// Threads used, by each process.
    pub threads: usize,
    /// Processes that train together; 0 for one alone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ranks: usize,
    /// The experiment's seed.
    pub seed: u64,
    /// Sums of what decides the result.
    #[serde(default)]
    pub fingerprints: Fingerprints,
    /// How many pictures of a batch are computed at a time; `None` until that is decided.
    #[serde(default)]
    pub micro_batch: Option<MicroBatch>,
    /// Seconds by what they were spent on. `recording` is a part of `train`: what it takes to be
    /// able to go on, checkpoints and rows. `work` is all the time of all processes that ended in good
    /// order.
    #[serde(default)]
    pub timings: IndexMap<String, f64>,
    /// The best epoch so far.
    #[serde(default)]
    pub best: Option<BestMetrics>,
    /// Accuracy of the best checkpoint on the test split, 0 to 1.
    #[serde(default)]
    pub test_accuracy: Option<f64>,
    /// Accuracy of the last checkpoint on the test split, where it is not the best one.
    #[serde(default)]
    pub test_last_accuracy: Option<f64>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Far more than any manifest has.
const MOST_BYTES: u64 = 16 << 20;

impl Manifest {
    /// The manifest of a run that begins now, in this process.
    pub fn begin(device: impl Into<String>, threads: usize, seed: u64) -> Self {
        let now = Timestamp::now();
        let folder = std::env::current_dir().ok();
        Self {
            status: Status::Running,
            process: Process::current(),
            heartbeat: now,
            started: now,
            ended: None,
            xp_version: env!("CARGO_PKG_VERSION").into(),
            git_commit: folder.and_then(|folder| git_commit(&folder)),
            command_line: std::env::args_os()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect(),
            xp_build: program::fingerprint().map(str::to_owned),
            device: device.into(),
            instructions: None,
            threads,
            ranks: 0,
            seed,
            fingerprints: Fingerprints::default(),
            micro_batch: None,
            timings: IndexMap::new(),
            best: None,
            test_accuracy: None,
            test_last_accuracy: None,
            error: None,
        }
    }

    /// The same run, gone on with in this process.
    pub fn taken_over(self) -> Self {
        let now = Self::begin(self.device.clone(), self.threads, self.seed);
        Self {
            status: Status::Running,
            process: now.process,
            heartbeat: now.heartbeat,
            ended: None,
            xp_version: now.xp_version,
            xp_build: now.xp_build,
            error: None,
            ..self
        }
    }

    /// Reads `manifest.json`.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        serde_json::from_slice(&fsx::read_small(path, MOST_BYTES)?).map_err(|error| RunError::Damaged {
            path: path.to_path_buf(),
            reason: error.to_string(),
            help: "the run's other files can still be used; delete this one to be rid of the message",
        })
    }

    fn write(&self, path: &Path) -> Result<(), RunError> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| RunError::Unstorable {
            what: "the manifest".into(),
            path: path.to_path_buf(),
            reason: error.to_string(),
        })?;
        Ok(fsx::write_atomic(path, &text)?)
    }
}

/// Keeps `manifest.json` true: rewrites it on every update, and every 30 seconds with a new
/// heartbeat until it is dropped. A run that was not [ended](Self::end) by then has failed.
#[derive(Debug)]
pub struct ManifestWriter {
    path: PathBuf,
    manifest: Arc<Mutex<Manifest>>,
    begun: Instant,
    beat: Option<(Sender<()>, JoinHandle<()>)>,
}

/// Time between two signs of life; see [`super::process::SILENCE`].
const HEARTBEAT: Duration = Duration::from_secs(30);

impl ManifestWriter {
    /// Writes the manifest and starts its heartbeat.
    pub fn start(path: &Path, manifest: Manifest) -> Result<Self, RunError> {
        manifest.write(path)?;
        let manifest = Arc::new(Mutex::new(manifest));
        let (stop, stopped) = mpsc::channel();
        let shared = Arc::clone(&manifest);
        let own_path = path.to_path_buf();
        let thread = std::thread::Builder::new().name("heartbeat".into());
        let beat = thread.spawn(move || {
            while stopped.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
                // A heartbeat that cannot be written must not end the run; the next update will
                // report it.
                if let Err(error) = rewrite(&own_path, &shared, |_| {}) {
                    tracing::warn!(%error, "no heartbeat");
                }
            }
        });
        let beat = beat.map_err(fsx::FsError::at("start the heartbeat of", path))?;
        Ok(Self {
            path: path.to_path_buf(),
            begun: Instant::now(),
            manifest,
            beat: Some((stop, beat)),
        })
    }

    /// Changes the manifest and rewrites it as one step.
    pub fn update(&self, change: impl FnOnce(&mut Manifest)) -> Result<(), RunError> {
        rewrite(&self.path, &self.manifest, change)
    }

    /// Adds seconds to a timing.
    pub fn add_seconds(&self, what: &str, seconds: f64) -> Result<(), RunError> {
        self.update(|manifest| *manifest.timings.entry(what.into()).or_default() += seconds)
    }

    /// Ends the run: status, end time and, if it failed, why.
    pub fn end(self, status: Status, error: Option<String>) -> Result<(), RunError> {
        self.update(|manifest| {
            manifest.status = status;
            manifest.ended = Some(Timestamp::now());
            manifest.error = error;
            let work = manifest.timings.entry("work".into()).or_default();
            *work += self.begun.elapsed().as_secs_f64();
        })
    }
}

impl Drop for ManifestWriter {
    fn drop(&mut self) {
        if let Some((stop, beat)) = self.beat.take() {
            drop(stop);
            // The thread writes a file and never panics; if it did, there is nothing left to save.
            let _ = beat.join();
        }
        let ended = |manifest: &Manifest| manifest.status != Status::Running;
        if ended(&self.manifest.lock().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let error = match std::thread::panicking() {
            true => "xp panicked; please report this",
            false => "the run was given up without a word; see `log.jsonl`",
        };
        let marked = self.update(|manifest| {
            manifest.status = Status::Failed;
            manifest.ended = Some(Timestamp::now());
            manifest.error = Some(error.into());
        });
        if let Err(error) = marked {
            tracing::error!(%error, "the manifest still says that the run is at work");
        }
    }
}

fn rewrite(
    path: &Path,
    manifest: &Mutex<Manifest>,
    change: impl FnOnce(&mut Manifest),
) -> Result<(), RunError> {
    let mut manifest = manifest.lock().unwrap_or_else(PoisonError::into_inner);
    change(&mut manifest);
    manifest.heartbeat = Timestamp::now();
    // The lock is held while writing, so that an older state never overwrites a newer one.
    manifest.write(path)
}

/// The commit checked out in the git repository that holds `folder`, read without git.
fn git_commit(folder: &Path) -> Option<String> {
    let read = |path: PathBuf| std::fs::read_to_string(path).ok();
    let dot_git = folder
        .ancestors()
        .map(|f| f.join(".git"))
        .find(|f| f.exists())?;
    let git = if dot_git.is_dir() {
        dot_git
    } else {
        // A worktree or submodule: `gitdir: PATH`, relative to the file.
        let link = read(dot_git.clone())?;
        dot_git.parent()?.join(link.strip_prefix("gitdir:")?.trim())
    };
    let head = read(git.join("HEAD"))?;
    let Some(reference) = head.trim().strip_prefix("ref: ") else {
        return Some(head.trim().to_owned());
    };
    let common = read(git.join("commondir")).map(|common| git.join(common.trim()));
    let common = common.unwrap_or_else(|| git.clone());
    let loose = [&git, &common]
        .into_iter()
        .find_map(|git| read(git.join(reference)));
    if let Some(commit) = loose {
        return Some(commit.trim().to_owned());
    }
    let packed = read(common.join("packed-refs"))?;
    let mut lines = packed.lines().filter_map(|line| line.split_once(' '));
    let (commit, _) = lines.find(|(_, name)| *name == reference)?;
    Some(commit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn manifest_is_rewritten_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.json");
        let writer = ManifestWriter::start(&path, Manifest::begin("cpu", 2, 42)).unwrap();
        assert_eq!(Manifest::read(&path).unwrap().status, Status::Running);
        writer.add_seconds("train", 1.0).unwrap();
        writer.add_seconds("train", 0.5).unwrap();
        writer
            .end(Status::Failed, Some("the loss is NaN".into()))
            .unwrap();
        let manifest = Manifest::read(&path).unwrap();
        assert_eq!(manifest.status, Status::Failed);
        assert_eq!(manifest.timings["train"], 1.5);
        assert!(manifest.ended.unwrap() >= manifest.started);
        assert!(manifest.error.unwrap().contains("NaN"));
    }

    #[test]
    fn a_panic_leaves_a_failed_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.json");
        let own_path = path.clone();
        let work = std::thread::spawn(move || {
            let _writer = ManifestWriter::start(&own_path, Manifest::begin("cpu", 2, 42)).unwrap();
            panic!("a defect");
        });
        assert!(work.join().is_err());
        let manifest = Manifest::read(&path).unwrap();
        assert_eq!(manifest.status, Status::Failed);
        assert!(manifest.ended.is_some());
        assert!(manifest.error.unwrap().contains("panicked"));
    }

    #[test]
    fn a_newer_manifest_is_read_and_a_cut_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.json");
        Manifest::begin("cpu", 2, 42).write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let newer = text.replacen('{', "{ \"energy\": { \"joules\": 1 },", 1);
        fs::write(&path, newer).unwrap();
        assert_eq!(Manifest::read(&path).unwrap().seed, 42);
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        let error = Manifest::read(&path).unwrap_err().to_string();
        assert!(error.contains("manifest.json` is damaged"), "{error}");
    }

    #[test]
    fn git_commit_is_found_loose_packed_detached_and_in_a_worktree() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let commit = |path: &str| git_commit(&folder.path().join(path));
        put("a/sub/file", "");
        put("a/.git/HEAD", "ref: refs/heads/main\n");
        assert_eq!(commit("a/sub"), None);
        put("a/.git/packed-refs", "# pack-refs\n11aa refs/heads/main\n");
        assert_eq!(commit("a/sub").as_deref(), Some("11aa"));
        put("a/.git/refs/heads/main", "22bb\n");
        assert_eq!(commit("a/sub").as_deref(), Some("22bb"));
        put("b/.git", "gitdir: ../a/.git/worktrees/b\n");
        put("a/.git/worktrees/b/HEAD", "ref: refs/heads/main\n");
        put("a/.git/worktrees/b/commondir", "../..\n");
        assert_eq!(commit("b").as_deref(), Some("22bb"));
        put("a/.git/HEAD", "33cc\n");
        assert_eq!(commit("a").as_deref(), Some("33cc"));
    }
}
