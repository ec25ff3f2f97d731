//! `xp verify-resume CONFIG`: the proof, on the user's machine, that a killed run resumes exactly.
//!
//! The experiment runs once undisturbed, then again and again in processes that are killed at
//! random moments and resumed; what the runs leave is compared byte by byte.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::Rng;

use super::{Exit, Failure, Printer, state};
use crate::cli::VerifyResumeArgs;
use crate::config;
use crate::fsx::{self, FsError};
use crate::rng;
use crate::run::RunDir;

/// What must be equal; `metrics.csv` without its times.
const COMPARED: [&str; 8] = [
    "metrics.csv",
    "model.safetensors",
    "predictions.csv",
    "probabilities.csv",
    "test.json",
    "test_last.json",
    "checkpoints/last/weights.safetensors",
    "checkpoints/best/weights.safetensors",
];

/// Columns of `metrics.csv` before those that hold times.
const TIMELESS: usize = 9;

/// How often a child is looked after.
const PATIENCE: Duration = Duration::from_millis(1);

/// Runs the command.
pub fn run(args: &VerifyResumeArgs, printer: &Printer) -> Result<(), Failure> {
    let loaded = config::load(&args.config.config, &args.config.sets)?;
    printer.config_warnings(&loaded.warnings);
    let runs = loaded.experiment.runs_dir.clone();
    let runs = runs.unwrap_or_else(|| "runs".into());
    fs::create_dir_all(&runs).map_err(FsError::at("create", &runs))?;
    let folder = tempfile::Builder::new()
        .prefix("verify-resume-")
        .tempdir_in(&runs)
        .map_err(FsError::at("create a folder in", &runs))?;
    let prover = Prover {
        args,
        folder: folder.path().to_owned(),
        caches: loaded.experiment.cache.disk,
        tracked: loaded.experiment.tracking.mlflow.is_some(),
        seed: loaded.experiment.seed,
    };
    let made = fs::create_dir(prover.runs_dir());
    made.map_err(FsError::at("create", &prover.runs_dir()))?;

    let started = Instant::now();
    let whole = prover.undisturbed()?;
    let mut took = started.elapsed();
    printer.note(format!("undisturbed: {:.1} s", took.as_secs_f64()));
    let (mut kills, mut trials) = (Vec::new(), Vec::new());
    while kills.len() < args.kills {
        let first = kills.len();
        let run = prover.killed(&mut took, &mut kills, printer)?;
        trials.push(Trial {
            kills: kills.len() - first,
            differing: differing(&whole, &run)?,
            run,
        });
    }
    let equal = trials.iter().all(|trial| trial.differing.is_empty());
    say(&kills, &trials, printer);
    if equal {
        return Ok(());
    }
    let kept = folder.keep();
    let message = format!("resumed runs differ; they are kept in `{}`", kept.display());
    Err(Failure::new(Exit::Other, message).help("please report this with the configuration"))
}

/// A process that was killed.
#[derive(Debug)]
struct Kill {
    after: Duration,
    resumed: bool,
    /// What it had done, in words.
    at: String,
}

/// A run that was killed and resumed until it was done.
#[derive(Debug)]
struct Trial {
    run: PathBuf,
    kills: usize,
    differing: Vec<&'static str>,
}

/// Starts processes and kills them.
#[derive(Debug)]
struct Prover<'a> {
    args: &'a VerifyResumeArgs,
    folder: PathBuf,
    /// Whether features go to disk.
    caches: bool,
    /// Whether MLflow is told of runs.
    tracked: bool,
    seed: u64,
}

impl Prover<'_> {
    fn runs_dir(&self) -> PathBuf {
        self.folder.join("runs")
    }

    fn undisturbed(&self) -> Result<PathBuf, Failure> {
        let before = self.runs()?;
        let mut process = self.start(None)?;
        self.finish(&mut process)?;
        self.new_run(&before)?
            .ok_or_else(|| Failure::new(Exit::Other, "the run left no directory"))
    }

    /// A run that is killed until it comes through, or until there have been enough kills. `took`
    /// is what a whole run takes: the first one may have been slower than the others.
    fn killed(
        &self,
        took: &mut Duration,
        kills: &mut Vec<Kill>,
        printer: &Printer,
    ) -> Result<PathBuf, Failure> {
        let mut before = self.runs()?;
        let mut run: Option<PathBuf> = None;
        loop {
            let mut process = self.start(run.as_deref())?;
            if kills.len() == self.args.kills {
                self.finish(&mut process)?;
                break;
            }
            let number = kills.len() as u64;
            let share: f64 = rng::stream(self.seed, "kill", &[number]).random();
            let after = took.mul_f64(share);
            let started = Instant::now();
            if ended_within(&mut process, after)? {
                self.finish(&mut process)?;
                if run.is_none() {
                    *took = started.elapsed().min(*took);
                }
                break;
            }
            process.kill()?;
            process.wait()?;
            let resumed = run.is_some();
            if run.is_none() {
                run = self.new_run(&before)?;
            }
            // Killed before it had begun: there is nothing to go on from.
            if let Some(path) = run.take_if(|path| !path.join("resolved.toml").exists()) {
                before.insert(path);
            }
            let at = match &run {
                None => "before its configuration was written".into(),
                Some(run) => state::whereabouts(&RunDir::open(run)?),
            };
            printer.note(format!(
                "kill {} of {}: {at}",
                kills.len() + 1,
                self.args.kills
            ));
            kills.push(Kill { after, resumed, at });
        }
        match run {
            Some(run) => Ok(run),
            None => self
                .new_run(&before)?
                .ok_or_else(|| Failure::new(Exit::Other, "the run left no directory")),
        }
    }

    /// Begins a run, or goes on with one. Every run begins without cached features, so that they are
    /// computed, and it is killed at it, as those of the undisturbed run were.
    fn start(&self, run: Option<&Path>) -> Result<Child, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        match run {
            Some(run) => {
                command.arg("resume").arg(run);
            }
            None => {
                command.arg("run").arg(&self.args.config.config);
                for set in &self.args.config.sets {
                    command.args(["--set", set]);
                }
                let runs = format!("runs_dir={}", self.runs_dir().display());
                command.args(["--set", &runs]);
                // Nobody is to hear of these runs.
                if self.tracked {
                    let nobody = self.folder.join("mlruns");
                    command.args(["--set", &format!("tracking.mlflow={}", nobody.display())]);
                }
                if self.caches {
                    // The same place always: a model's configuration names it.
                    let features = self.folder.join("features");
                    if features.exists() {
                        fs::remove_dir_all(&features).map_err(FsError::at("remove", &features))?;
                    }
                    command.args(["--set", &format!("cache.dir={}", features.display())]);
                }
            }
        }
        let said = self.said();
        let said = File::create(&said).map_err(FsError::at("create", &said))?;
        command.arg("--quiet").stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(said);
        Ok(command.spawn()?)
    }

    /// What the process says on its stderr.
    fn said(&self) -> PathBuf {
        self.folder.join("stderr")
    }

    fn finish(&self, process: &mut Child) -> Result<(), Failure> {
        let status = process.wait()?;
        if status.success() {
            return Ok(());
        }
        let said = fsx::read_text(&self.said())?;
        let message = format!("a run ended with {status}:\n{}", said.trim_end());
        Err(Failure::new(Exit::of(status.code()), message))
    }

    fn runs(&self) -> Result<BTreeSet<PathBuf>, Failure> {
        let runs = self.runs_dir();
        let entries = fs::read_dir(&runs).map_err(FsError::at("read", &runs))?;
        let folders = entries.flatten().map(|entry| entry.path());
        Ok(folders.filter(|path| path.is_dir()).collect())
    }

    /// The run directory that has come since.
    fn new_run(&self, before: &BTreeSet<PathBuf>) -> Result<Option<PathBuf>, Failure> {
        Ok(self.runs()?.difference(before).next().cloned())
    }
}

/// Whether a process ends by itself in this time.
fn ended_within(process: &mut Child, time: Duration) -> Result<bool, Failure> {
    let started = Instant::now();
    while started.elapsed() < time {
        if process.try_wait()?.is_some() {
            return Ok(true);
        }
        std::thread::sleep(PATIENCE.min(time.saturating_sub(started.elapsed())));
    }
    Ok(process.try_wait()?.is_some())
}

/// The files of two runs that are not equal.
fn differing(whole: &Path, run: &Path) -> Result<Vec<&'static str>, Failure> {
    let mut found = Vec::new();
    for file in COMPARED {
        let content = |run: &Path| {
            let path = run.join(file);
            match path.exists() {
                true => fsx::read(&path).map(|bytes| Some(timeless(file, bytes))),
                false => Ok(None),
            }
        };
        if content(whole)? != content(run)? {
            found.push(file);
        }
    }
    if names(whole)? != names(run)? {
        found.push("the names of its files");
    }
    Ok(found)
}

/// What lies in a run directory and in its checkpoints.
fn names(run: &Path) -> Result<BTreeSet<PathBuf>, Failure> {
    let mut found = BTreeSet::new();
    for folder in ["", "checkpoints", "checkpoints/last", "checkpoints/best"] {
        let path = run.join(folder);
        let entries = fs::read_dir(&path).map_err(FsError::at("read", &path))?;
        let names = entries.flatten().map(|entry| entry.file_name());
        found.extend(names.map(|name| Path::new(folder).join(name)));
    }
    Ok(found)
}

/// The content of a file without what depends on the clock.
fn timeless(file: &str, bytes: Vec<u8>) -> Vec<u8> {
    if file != "metrics.csv" {
        return bytes;
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().map(|line| {
        let columns: Vec<&str> = line.split(',').take(TIMELESS).collect();
        columns.join(",")
    });
    lines.collect::<Vec<_>>().join("\n").into_bytes()
}

fn say(kills: &[Kill], trials: &[Trial], printer: &Printer) {
    if printer.json {
        let kills = kills.iter().map(|kill| {
            serde_json::json!({
                "seconds": kill.after.as_secs_f64(),
                "resumed": kill.resumed,
                "at": kill.at,
            })
        });
        let runs = trials.iter().map(|trial| {
            serde_json::json!({
                "run": trial.run,
                "kills": trial.kills,
                "differing": trial.differing,
            })
        });
        let answer = serde_json::json!({
            "kills": kills.collect::<Vec<_>>(),
            "runs": runs.collect::<Vec<_>>(),
        });
        printer.data(answer.to_string());
        return;
    }
    printer.data("kill    after  of             where");
    for (index, kill) in kills.iter().enumerate() {
        let process = if kill.resumed {
            "a resumed run"
        } else {
            "a run"
        };
        printer.data(format!(
            "{:>4}  {:>5.2} s  {process:13}  {}",
            index + 1,
            kill.after.as_secs_f64(),
            kill.at
        ));
    }
    let equal = trials.iter().filter(|trial| trial.differing.is_empty());
    printer.data(format!(
        "{} kills, {} runs, {} of them equal to the undisturbed one",
        kills.len(),
        trials.len(),
        equal.count()
    ));
    for trial in trials.iter().filter(|trial| !trial.differing.is_empty()) {
        printer.data(format!(
            "`{}` differs in {}",
            trial.run.display(),
            trial.differing.join(", ")
        ));
    }
}
