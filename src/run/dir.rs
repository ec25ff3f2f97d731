//! A run directory: its name, its files, and who may write.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::lock::RunLock;
use super::{
    Checkpoint, EventsWriter, Manifest, ManifestWriter, MetricsLog, MetricsWriter, ModelFile,
    RunError,
};
use crate::fsx::{self, FsError};
use crate::records::{DataIssueRow, MetricsRow, PredictionRow, SplitRow, TestReport};

/// Which checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The newest state.
    Last,
    /// The best state so far.
    Best,
}

impl Slot {
    /// `last` or `best`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Best => "best",
        }
    }
}

const MANIFEST: &str = "manifest.json";
const LOCK: &str = ".lock";

/// A run directory.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held while this process works in the directory; `None` for a reader.
    _lock: Option<RunLock>,
}

/// BLAKE3 of a resolved configuration, in hex: what [`RunDir::create`] and the manifest take.
pub fn config_hash(resolved: &str) -> String {
    blake3::hash(resolved.as_bytes()).to_hex().to_string()
}

impl RunDir {
    /// Makes `RUNS/2026-11-21T18-03-11_NAME_ab12cd`, local time `now`, first six digits of
    /// `config_hash`; never one that is there already: a second run in the same second gets `-2`.
    /// Held by this process until dropped.
    pub fn create(
        runs: &Path,
        name: &str,
        config_hash: &str,
        now: DateTime,
    ) -> Result<Self, RunError> {
        fs::create_dir_all(runs).map_err(FsError::at("create", runs))?;
        let time = now.strftime("%Y-%m-%dT%H-%M-%S");
        let hash: String = config_hash.chars().take(6).collect();
        let base = format!("{time}_{}_{hash}", file_name(name));
        let mut path = runs.join(&base);
        let mut next = 2;
        // `create_dir` fails if the folder exists, whoever made it: that decides between two runs.
        while let Err(error) = fs::create_dir(&path) {
            if error.kind() != ErrorKind::AlreadyExists {
                return Err(FsError::at("create", &path)(error).into());
            }
            path = runs.join(format!("{base}-{next}"));
            next += 1;
        }
        fsx::sync_dir(runs)?;
        Self::hold(path)
    }

    /// What the run directory of a trial is called: `NAME_0123456789`, with the trial's id.
    pub fn named(name: &str, id: &str) -> String {
        format!("{}_{id}", file_name(name))
    }

    /// Makes a run directory at a path of the caller's choice, or takes one over that was left
    /// before its configuration was written. Held by this process until dropped.
    ///
    /// # Errors
    /// If there is something else at the path, or another process works in it.
    pub fn create_at(path: &Path) -> Result<Self, RunError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(FsError::at("create", folder))?;
        }
        match fs::create_dir(path) {
            Ok(()) => {
                if let Some(folder) = path.parent().filter(|it| *it != Path::new("")) {
                    fsx::sync_dir(folder)?;
                }
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists && Self::is_unbegun(path) => {}
            Err(error) => return Err(FsError::at("create", path)(error).into()),
        }
        let run = Self::hold(path.to_path_buf())?;
        // Somebody else may have been quicker.
        match run.resolved_toml().exists() {
            true => Err(RunError::Locked {
                path: path.to_path_buf(),
                by: None,
            }),
            false => Ok(run),
        }
    }

    /// Whether a folder holds nothing but what a run leaves that was killed before its configuration
    /// was written. Such a run has left its lock; without one, files are somebody's own.
    fn is_unbegun(path: &Path) -> bool {
        let Ok(entries) = fs::read_dir(path) else {
            return false;
        };
        let names = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        let names: Vec<String> = names.collect();
        let early = [MANIFEST, LOCK, "log.jsonl", "config.toml"];
        let is_early = |name: &String| early.contains(&name.as_str()) || fsx::is_staged(name);
        let is_ours = names.is_empty() || names.iter().any(|name| name == LOCK);
        is_ours && names.iter().all(is_early)
    }

    /// Whether a process is at work in a run directory, as far as can be told without disturbing it.
    pub fn is_held(path: &Path) -> bool {
        RunLock::holder(&path.join(LOCK)).is_some()
    }

    /// Opens a run directory to read it. What it holds is checked as it is read.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        let reason = match fs::metadata(path) {
            Ok(found) if !found.is_dir() => "it is a file",
            Ok(_) => {
                let run = Self::at(path);
                let known = [run.metrics_csv(), run.manifest_json(), run.resolved_toml()];
                if known.iter().any(|file| file.exists()) {
                    return Ok(run);
                }
                "it has no `metrics.csv`, `manifest.json` or `resolved.toml`"
            }
            Err(error) if error.kind() == ErrorKind::NotFound => "there is no such folder",
            Err(error) => return Err(FsError::at("open", path)(error).into()),
        };
        Err(RunError::NotARun {
            path: path.to_path_buf(),
            reason,
        })
    }

    /// The files of a folder that may be a run directory, for readers who judge for themselves.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            _lock: None,
        }
    }

    /// Opens a run directory to work in it; fails if another process does.
    pub fn open_to_write(path: &Path) -> Result<Self, RunError> {
        Self::open(path)?;
        let run = Self::hold(path.to_path_buf())?;
        for slot in [Slot::Last, Slot::Best] {
            fsx::recover_dir(&run.checkpoint_dir(slot))?;
        }
        fsx::sweep(path)?;
        Ok(run)
    }

    fn hold(path: PathBuf) -> Result<Self, RunError> {
        let lock = RunLock::take(&path, &path.join(LOCK), &path.join(MANIFEST))?;
        Ok(Self {
            path,
            _lock: Some(lock),
        })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory's own name, without the folders it lies in.
    pub fn folder_name(&self) -> String {
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// The experiment's name as the directory's name has it; the whole name if it is not of
    /// our form.
    pub fn name(&self) -> String {
        let whole = self.folder_name();
        let name = name_in(&whole).or_else(|| trial_in(&whole));
        name.unwrap_or(&whole).to_owned()
    }

    /// `config.toml`: the configuration as written.
    pub fn config_toml(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// `resolved.toml`: every value in force.
    pub fn resolved_toml(&self) -> PathBuf {
        self.path.join("resolved.toml")
    }

    /// `manifest.json`.
    pub fn manifest_json(&self) -> PathBuf {
        self.path.join(MANIFEST)
    }

    /// `split.csv`: where every picture belongs.
    pub fn split_csv(&self) -> PathBuf {
        self.path.join("split.csv")
    }

    /// `data_issues.csv`: what was skipped and why.
    pub fn data_issues_csv(&self) -> PathBuf {
        self.path.join("data_issues.csv")
    }

    /// `metrics.csv`: a row an epoch.
    pub fn metrics_csv(&self) -> PathBuf {
        self.path.join("metrics.csv")
    }

    /// `test.json`: the best checkpoint on the test split.
    pub fn test_json(&self) -> PathBuf {
        self.path.join("test.json")
    }

    /// `test_last.json`: the last checkpoint on the test split, where it is not the best one.
    pub fn test_last_json(&self) -> PathBuf {
        self.path.join("test_last.json")
    }

    /// `predictions.csv`: a row a test picture.
    pub fn predictions_csv(&self) -> PathBuf {
        self.path.join("predictions.csv")
    }

    /// `probabilities.csv`: of all classes, for every test picture.
    pub fn probabilities_csv(&self) -> PathBuf {
        self.path.join("probabilities.csv")
    }

    /// `report.html`: the run as a page.
    pub fn report_html(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// `model.safetensors`: all that prediction needs.
    pub fn model_safetensors(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }

    /// `log.jsonl`: tracing events, appended by the subscriber.
    pub fn log_jsonl(&self) -> PathBuf {
        self.path.join("log.jsonl")
    }

    /// Opens `log.jsonl` to append to it.
    pub fn open_log(&self) -> Result<File, RunError> {
        let path = self.log_jsonl();
        let file = File::options().create(true).append(true).open(&path);
        Ok(file.map_err(FsError::at("open", &path))?)
    }

    /// `checkpoints/last` or `checkpoints/best`.
    pub fn checkpoint_dir(&self, slot: Slot) -> PathBuf {
        self.path.join("checkpoints").join(slot.name())
    }

    /// Writes `config.toml` and `resolved.toml`.
    pub fn write_config(&self, written: &str, resolved: &str) -> Result<(), RunError> {
        fsx::write_atomic(&self.config_toml(), written.as_bytes())?;
        Ok(fsx::write_atomic(
            &self.resolved_toml(),
            resolved.as_bytes(),
        )?)
    }

    /// Writes `manifest.json` and keeps it up to date.
    pub fn start_manifest(&self, manifest: Manifest) -> Result<ManifestWriter, RunError> {
        ManifestWriter::start(&self.manifest_json(), manifest)
    }

    /// Reads `manifest.json`.
    pub fn manifest(&self) -> Result<Manifest, RunError> {
        Manifest::read(&self.manifest_json())
    }

    /// Writes `split.csv`.
    pub fn write_split(&self, rows: &[SplitRow]) -> Result<(), RunError> {
        write_csv(
            &self.split_csv(),
            &["path", "class", "label", "split", "blake3"],
            rows,
        )
    }

    /// Reads `split.csv`.
    pub fn split(&self) -> Result<Vec<SplitRow>, RunError> {
        let help = "without it the run's split is lost; evaluate on a folder of your own instead";
        read_csv(self.split_csv(), help)
    }

    /// Writes `data_issues.csv`.
    pub fn write_data_issues(&self, rows: &[DataIssueRow]) -> Result<(), RunError> {
        write_csv(&self.data_issues_csv(), &["path", "kind", "reason"], rows)
    }

    /// Starts `metrics.csv` with `rows`.
    pub fn start_metrics(&self, rows: &[MetricsRow]) -> Result<MetricsWriter, RunError> {
        MetricsWriter::create(&self.metrics_csv(), rows)
    }

    /// Reads `metrics.csv`.
    pub fn metrics(&self) -> Result<MetricsLog, RunError> {
        MetricsLog::read(&self.metrics_csv())
    }

    /// A picture of the run, by the name of its file.
    pub fn picture(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }

    /// Writes a picture of the run, and tells where.
    pub fn write_picture(&self, file: &str, bytes: &[u8]) -> Result<PathBuf, RunError> {
        let path = self.picture(file);
        fsx::write_atomic(&path, bytes)?;
        Ok(path)
    }

    /// Writes `report.html`.
    pub fn write_page(&self, html: &str) -> Result<(), RunError> {
        Ok(fsx::write_atomic(&self.report_html(), html.as_bytes())?)
    }

    /// Reads `data_issues.csv`.
    pub fn data_issues(&self) -> Result<Vec<DataIssueRow>, RunError> {
        let help = "`xp data` with the run's configuration lists the issues again";
        read_csv(self.data_issues_csv(), help)
    }

    /// Writes `test.json`.
    pub fn write_test(&self, report: &TestReport) -> Result<(), RunError> {
        write_report(&self.test_json(), report)
    }

    /// Writes `test_last.json`.
    pub fn write_test_last(&self, report: &TestReport) -> Result<(), RunError> {
        write_report(&self.test_last_json(), report)
    }

    /// Reads `test.json`; `None` if there is none.
    pub fn test(&self) -> Result<Option<TestReport>, RunError> {
        let path = self.test_json();
        if !path.exists() {
            return Ok(None);
        }
        let report = serde_json::from_slice(&fsx::read(&path)?);
        report.map(Some).map_err(|error| RunError::Damaged {
            path,
            reason: error.to_string(),
            help: "delete it, or write it again with `xp evaluate`",
        })
    }

    /// Writes `predictions.csv`.
    pub fn write_predictions(&self, rows: &[PredictionRow]) -> Result<(), RunError> {
        let header = ["path", "class", "predicted", "correct", "confidence"];
        write_csv(&self.predictions_csv(), &header, rows)
    }

    /// Reads `predictions.csv`.
    pub fn predictions(&self) -> Result<Vec<PredictionRow>, RunError> {
        let help = "the run's figures are in `test.json`; `xp evaluate` judges its model again";
        read_csv(self.predictions_csv(), help)
    }

    /// Writes the newest checkpoint as one transaction; if it is the best so far, it becomes that
    /// one too.
    pub fn write_checkpoint(&self, checkpoint: &Checkpoint, is_best: bool) -> Result<(), RunError> {
        checkpoint.write(&self.checkpoint_dir(Slot::Last))?;
        match is_best {
            true => self.mark_best(),
            false => Ok(()),
        }
    }

    /// Makes the newest checkpoint the best one, too.
    pub fn mark_best(&self) -> Result<(), RunError> {
        let [last, best] = [Slot::Last, Slot::Best].map(|slot| self.checkpoint_dir(slot));
        Ok(fsx::link_dir(&last, &best)?)
    }

    /// The newest checkpoint that there is.
    pub fn newest_checkpoint(&self) -> Option<Slot> {
        let slots = [Slot::Last, Slot::Best];
        slots.into_iter().find(|&slot| self.has_checkpoint(slot))
    }

    /// Whether there is such a checkpoint.
    pub fn has_checkpoint(&self, slot: Slot) -> bool {
        Checkpoint::exists(&self.checkpoint_dir(slot))
    }

    /// Reads and verifies a checkpoint.
    pub fn checkpoint(&self, slot: Slot) -> Result<Checkpoint, RunError> {
        Checkpoint::read(&self.checkpoint_dir(slot))
    }

    /// Writes a file for other programs under a name of its own, and tells where.
    pub fn write_export(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, RunError> {
        let path = self.path.join(name);
        fsx::write_atomic(&path, bytes)?;
        Ok(path)
    }

    /// `metrics.json`: the run's figures in one flat table.
    pub fn metrics_json(&self) -> PathBuf {
        self.path.join("metrics.json")
    }

    /// `model_card.md`: what the model is, for people.
    pub fn model_card_md(&self) -> PathBuf {
        self.path.join("model_card.md")
    }

    /// Writes `metrics.json` and `model_card.md`.
    pub fn write_card(&self, figures: &str, card: &str) -> Result<(), RunError> {
        fsx::write_atomic(&self.metrics_json(), figures.as_bytes())?;
        Ok(fsx::write_atomic(&self.model_card_md(), card.as_bytes())?)
    }

    /// Starts the event file anew with `bytes`.
    pub fn start_events(&self, host: &str, bytes: &[u8]) -> Result<EventsWriter, RunError> {
        EventsWriter::create(&self.path, host, bytes)
    }

    /// Writes `model.safetensors`.
    pub fn write_model(&self, model: &ModelFile) -> Result<(), RunError> {
        model.write(&self.model_safetensors())
    }
}

fn write_report(path: &Path, report: &TestReport) -> Result<(), RunError> {
    let text = serde_json::to_vec_pretty(report).map_err(|error| RunError::Unstorable {
        what: "the test report".into(),
        path: path.to_path_buf(),
        reason: error.to_string(),
    })?;
    Ok(fsx::write_atomic(path, &text)?)
}

/// Writes a table as one step; the header is there even without rows.
fn write_csv<T: Serialize>(path: &Path, header: &[&str], rows: &[T]) -> Result<(), RunError> {
    fsx::write_atomic_with(path, |file| {
        let mut writer = csv::WriterBuilder::new()
            .has_headers(false)
            .from_writer(file);
        writer.write_record(header).map_err(io::Error::from)?;
        for row in rows {
            writer.serialize(row).map_err(io::Error::from)?;
        }
        writer.flush()
    })?;
    Ok(())
}

fn read_csv<T: DeserializeOwned>(path: PathBuf, help: &'static str) -> Result<Vec<T>, RunError> {
    let bytes = fsx::read(&path)?;
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let rows: Result<_, csv::Error> = reader.deserialize().collect();
    rows.map_err(|error| RunError::Damaged {
        path,
        reason: error.to_string(),
        help,
    })
}

/// A name as part of a folder's name: letters, digits, `-`, `_` and `.`, at most 80 characters.
fn file_name(name: &str) -> String {
    let safe = |c: char| {
        if c.is_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    let name: String = name.trim().chars().take(80).map(safe).collect();
    if name.is_empty() { "run".into() } else { name }
}

/// NAME of `NAME_0123456789`, the run directory of a trial.
fn trial_in(whole: &str) -> Option<&str> {
    let (name, id) = whole.rsplit_once('_')?;
    (id.len() == 10 && id.chars().all(|c| c.is_ascii_hexdigit())).then_some(name)
}

/// NAME of `2026-11-21T18-03-11_NAME_ab12cd`, with or without `-2` behind it.
pub(super) fn name_in(whole: &str) -> Option<&str> {
    let (time, rest) = whole.split_at_checked("2026-11-21T18-03-11".len())?;
    let timed = time.chars().zip("dddd-dd-ddTdd-dd-dd".chars());
    let mut timed = timed.map(|(c, form)| {
        if form == 'd' {
            c.is_ascii_digit()
        } else {
            c == form
        }
    });
    let (name, hash) = rest.strip_prefix('_')?.rsplit_once('_')?;
    let hash = hash.split_once('-').map_or(hash, |(hash, _)| hash);
    let hashed = hash.len() == 6 && hash.chars().all(|c| c.is_ascii_hexdigit());
    (timed.all(|fits| fits) && hashed).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Split;

    #[test]
    fn names_hold_time_name_and_hash_and_never_repeat() {
        let runs = tempfile::tempdir().unwrap();
        let runs = runs.path().join("deep/runs");
        let now = jiff::civil::date(2026, 11, 21).at(8, 3, 1, 999);
        let create = |name: &str| RunDir::create(&runs, name, "ab12cd34ef", now).unwrap();
        let shown = |run: &RunDir| run.path().file_name().unwrap().to_str().unwrap().to_owned();
        let first = create("cats vs/dogs_v2");
        assert_eq!(shown(&first), "2026-11-21T08-03-01_cats-vs-dogs_v2_ab12cd");
        assert_eq!(first.name(), "cats-vs-dogs_v2");
        let second = create("cats vs/dogs_v2");
        assert_eq!(
            shown(&second),
            "2026-11-21T08-03-01_cats-vs-dogs_v2_ab12cd-2"
        );
        assert_eq!(second.name(), "cats-vs-dogs_v2");
        assert_eq!(create(" ").name(), "run");
        assert_eq!(name_in("my_old_run"), None);
    }

    #[test]
    fn one_process_writes_and_others_read() {
        let runs = tempfile::tempdir().unwrap();
        let now = jiff::civil::date(2026, 11, 21).at(8, 3, 1, 0);
        let run = RunDir::create(runs.path(), "a", &config_hash("x = 1"), now).unwrap();
        let path = run.path().to_path_buf();
        let error = RunDir::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("is not a run directory: it has no"),
            "{error}"
        );
        run.write_config("x=1", "x = 1").unwrap();
        assert!(RunDir::open(&path).is_ok());
        let error = RunDir::open_to_write(&path).unwrap_err().to_string();
        assert!(error.contains("another process is working in"), "{error}");
        drop(run);
        assert!(RunDir::open_to_write(&path).is_ok());
    }

    #[test]
    fn tables_have_a_header_without_rows_and_come_back() {
        let runs = tempfile::tempdir().unwrap();
        let now = jiff::civil::date(2026, 11, 21).at(8, 3, 1, 0);
        let run = RunDir::create(runs.path(), "a", "ab12cd", now).unwrap();
        run.write_data_issues(&[]).unwrap();
        assert_eq!(
            fs::read_to_string(run.data_issues_csv()).unwrap(),
            "path,kind,reason\n"
        );
        let rows = [SplitRow {
            path: "a, b/\"c\".jpg".into(),
            class: "ä".into(),
            label: 1,
            split: Split::Val,
            blake3: "0123456789abcdef".into(),
        }];
        run.write_split(&rows).unwrap();
        assert_eq!(run.split().unwrap(), rows);
        assert_eq!(run.test().unwrap(), None);
    }
}
