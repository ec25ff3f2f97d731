//! Trials in processes of their own on this machine: some at a time, each with its share of the cores
//! and of the memory.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::launcher::{Ended, LaunchError, Launcher, Watcher};
use super::{SweepDir, Trial};
use crate::fsx;
use crate::run::{Condition, RunDir, RunError};

/// Processes of this machine.
#[derive(Debug)]
pub struct Pool<'a> {
    /// Where they lie.
    pub sweep: &'a SweepDir,
    /// The program, xp itself.
    pub program: PathBuf,
    /// Trials at a time.
    pub jobs: usize,
    /// Cores of the machine.
    pub cores: usize,
    /// Bytes of memory that all trials together may take; `None` without a limit.
    pub memory: Option<u64>,
    /// Whether the first failure ends all.
    pub fail_fast: bool,
}

/// A process at work.
struct Running {
    waiting: Waiting,
    child: Child,
    asked: bool,
    /// Bytes of its log that are not its own.
    log_from: u64,
}

/// What waits in line.
#[derive(Clone, Copy)]
struct Waiting {
    index: usize,
    /// Whether it was interrupted before, by something else than us: twice is enough.
    again: bool,
    /// Whether another process was at work on it when it was last looked at.
    elsewhere: bool,
}

/// Time between two looks at processes, and between two at trials that others work on.
const LOOK: Duration = Duration::from_millis(5);
const LOOK_ELSEWHERE: Duration = Duration::from_millis(500);

impl Launcher for Pool<'_> {
    /// Trials at work are waited for even when another cannot be started.
    fn run(
        &self,
        trials: &[&Trial],
        until: Option<usize>,
        watcher: &mut dyn Watcher,
    ) -> Result<Vec<Ended>, LaunchError> {
        let mut outcomes = vec![Ended::Waiting; trials.len()];
        let mut waiting: VecDeque<Waiting> = (0..trials.len())
            .map(|index| Waiting {
                index,
                again: false,
                elsewhere: false,
            })
            .collect();
        let mut running: Vec<Running> = Vec::new();
        // Features that are there, or that no trial is computing any more.
        let mut ready: HashSet<&str> = HashSet::new();
        let mut looked_elsewhere = None;
        let mut failed = None;
        let mut stopping = false;
        loop {
            stopping |= watcher.stop() || failed.is_some();
            if stopping {
                running.iter_mut().for_each(Running::ask_to_stop);
            }
            let mut at = 0;
            while at < running.len() {
                let Some(status) = running[at].status() else {
                    at += 1;
                    continue;
                };
                let Running {
                    waiting: Waiting { index, again, .. },
                    log_from,
                    ..
                } = running.swap_remove(at);
                let trial = trials[index];
                let ended = self.ended(trial, status, until, log_from);
                if matches!(ended, Ended::Done | Ended::Paused) {
                    ready.extend(trial.features.as_deref());
                }
                let once_more = ended == Ended::Elsewhere || ended == Ended::Interrupted && !again;
                if once_more && !stopping {
                    let again = again || ended == Ended::Interrupted;
                    waiting.push_back(Waiting {
                        index,
                        again,
                        elsewhere: ended == Ended::Elsewhere,
                    });
                    continue;
                }
                watcher.ended(trial, &ended);
                stopping |= self.fail_fast && matches!(ended, Ended::Failed(_));
                outcomes[index] = ended;
            }
            if !stopping {
                let started = self.start_some(
                    trials,
                    until,
                    (&mut waiting, &mut running),
                    &mut ready,
                    &mut looked_elsewhere,
                );
                match started {
                    Ok(settled) => {
                        for (index, ended) in settled {
                            watcher.ended(trials[index], &ended);
                            outcomes[index] = ended;
                        }
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if running.is_empty() && (waiting.is_empty() || stopping || failed.is_some()) {
                break;
            }
            let now: Vec<&Trial> = running.iter().map(|it| trials[it.waiting.index]).collect();
            watcher.passed(&now, waiting.len());
            let pause = match running.is_empty() {
                true => LOOK_ELSEWHERE,
                false => LOOK,
            };
            std::thread::sleep(pause);
        }
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(outcomes),
        }
    }

    fn sweep(&self) -> &SweepDir {
        self.sweep
    }
}

impl Pool<'_> {
    /// Starts what there is room for. Of trials that need the same features, one computes them
    /// first, on all cores if it is alone.
    fn start_some<'t>(
        &self,
        trials: &[&'t Trial],
        until: Option<usize>,
        (waiting, running): (&mut VecDeque<Waiting>, &mut Vec<Running>),
        ready: &mut HashSet<&'t str>,
        looked_elsewhere: &mut Option<Instant>,
    ) -> Result<Vec<(usize, Ended)>, RunError> {
        for it in running.iter() {
            let trial = trials[it.waiting.index];
            if let Some(features) = &trial.features
                && !ready.contains(features.as_str())
                && self.has_rows(trial)
            {
                ready.insert(features);
            }
        }
        let look_elsewhere =
            looked_elsewhere.is_none_or(|looked: Instant| looked.elapsed() >= LOOK_ELSEWHERE);
        let mut settled = Vec::new();
        let mut looked = 0;
        while running.len() < self.jobs && looked < waiting.len() {
            let next = waiting[looked];
            let trial = trials[next.index];
            // Others' trials are not looked at all the time.
            if next.elsewhere && !look_elsewhere {
                looked += 1;
                continue;
            }
            let computed = |features: &String| {
                ready.contains(features.as_str())
                    || running
                        .iter()
                        .all(|it| trials[it.waiting.index].features.as_ref() != Some(features))
            };
            if !trial.features.as_ref().is_none_or(computed) {
                looked += 1;
                continue;
            }
            let standing = self.sweep.look_at(trial);
            let epochs = standing.as_ref().and_then(|run| run.epochs).unwrap_or(0);
            let outcome = match standing.map(|run| run.status) {
                Some(Condition::Done) => Some(Ended::Done),
                Some(Condition::Running) => Some(Ended::Elsewhere),
                Some(_) if RunDir::is_held(&self.sweep.run(trial)) => Some(Ended::Elsewhere),
                Some(_) if until.is_some_and(|until| epochs >= until) => Some(Ended::Paused),
                _ => None,
            };
            match outcome {
                Some(Ended::Elsewhere) => {
                    waiting[looked].elsewhere = true;
                    *looked_elsewhere = Some(Instant::now());
                    looked += 1;
                }
                Some(outcome) => {
                    waiting.remove(looked);
                    ready.extend(trial.features.as_deref());
                    settled.push((next.index, outcome));
                }
                None => {
                    waiting.remove(looked);
                    let leads = |features: &String| {
                        !ready.contains(features.as_str())
                            && waiting
                                .iter()
                                .all(|it| trials[it.index].features.as_ref() == Some(features))
                    };
                    let alone = running.is_empty() && trial.features.as_ref().is_some_and(leads);
                    let log_from = self.sweep.log_length(trial);
                    let child = self.start(trial, until, alone)?;
                    running.push(Running {
                        waiting: next,
                        child,
                        asked: false,
                        log_from,
                    });
                }
            }
        }
        Ok(settled)
    }

    fn start(&self, trial: &Trial, until: Option<usize>, alone: bool) -> Result<Child, RunError> {
        let mut command = command(&self.program, &self.sweep.config(trial)?);
        command.arg("--run-dir").arg(self.sweep.run(trial));
        if let Some(until) = until {
            command.args(["--until-epoch", &until.to_string()]);
        }
        let table: toml::Table = toml::from_str(&trial.resolved).unwrap_or_default();
        let threads = table.get("threads").and_then(toml::Value::as_integer);
        if threads.is_none_or(|threads| threads == 0) {
            let share = match alone {
                true => self.cores,
                false => (self.cores / self.jobs).max(1),
            };
            command.args(["--set", &format!("threads={share}")]);
        }
        if let Some(memory) = self.memory
            && !table.contains_key("memory_limit")
        {
            let share = memory / self.jobs as u64;
            command.args(["--set", &format!("memory_limit={share}B")]);
        }
        let log = self.sweep.open_log(trial)?;
        let also = log
            .try_clone()
            .map_err(fsx::FsError::at("open", &self.sweep.log(trial)))?;
        command.stdin(Stdio::null()).stdout(log).stderr(also);
        let started = command.spawn();
        Ok(started.map_err(fsx::FsError::at("start", &self.program))?)
    }

    fn ended(
        &self,
        trial: &Trial,
        status: ExitStatus,
        until: Option<usize>,
        log_from: u64,
    ) -> Ended {
        let standing = self.sweep.look_at(trial);
        if standing
            .as_ref()
            .is_some_and(|run| run.status == Condition::Done)
        {
            return Ended::Done;
        }
        match status.code() {
            Some(0) => return Ended::Done,
            // Asked to stop before it listened.
            None if is_asked_by(status) => return Ended::Interrupted,
            Some(75) => {
                let epochs = standing.and_then(|run| run.epochs).unwrap_or(0);
                return match until.is_some_and(|until| epochs >= until) {
                    true => Ended::Paused,
                    false => Ended::Interrupted,
                };
            }
            _ => {}
        }
        // Somebody else was quicker.
        if RunDir::is_held(&self.sweep.run(trial)) {
            return Ended::Elsewhere;
        }
        Ended::Failed(match status.code() {
            None => ended_by(status),
            Some(code) => {
                let said = self.sweep.last_error(trial, log_from);
                said.unwrap_or_else(|| format!("exit code {code}"))
            }
        })
    }

    /// Whether a trial has come to its first epoch, and so has all features of its first phase.
    fn has_rows(&self, trial: &Trial) -> bool {
        let run = RunDir::open(&self.sweep.run(trial));
        let log = run.and_then(|run| run.metrics());
        log.is_ok_and(|log| !log.rows.is_empty())
    }
}

impl Running {
    /// The status of a process that has ended. One that cannot be asked is taken to be at work.
    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks a process that has not ended to keep its state and end.
    fn ask_to_stop(&mut self) {
        if self.status().is_none() && !std::mem::replace(&mut self.asked, true) {
            #[cfg(unix)]
            // SAFETY: the child has been seen at work and was not waited for since, so that its
            // number is still its own.
            unsafe {
                libc::kill(self.child.id().cast_signed(), libc::SIGTERM);
            }
            #[cfg(not(unix))]
            let _ = self.child.kill();
        }
    }
}

impl Drop for Running {
    /// Nothing is left at work without anybody who knows of it.
    fn drop(&mut self) {
        let started = Instant::now();
        self.ask_to_stop();
        while self.status().is_none() && started.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(LOOK);
        }
    }
}

/// `xp run` of a trial's configuration, which is complete: nothing of this process' environment may
/// set it once more.
pub fn command(program: &Path, config: &Path) -> Command {
    let mut command = Command::new(program);
    // Variables of a launcher, too, are of this process.
    command.arg("run").arg(config).arg("--alone");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("XP_") {
            command.env_remove(name);
        }
    }
    command
}

/// Whether a signal ended a process that only asks for an end.
#[cfg(unix)]
fn is_asked_by(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    let asking = [libc::SIGINT, libc::SIGTERM, libc::SIGUSR1, libc::SIGHUP];
    status
        .signal()
        .is_some_and(|signal| asking.contains(&signal))
}

#[cfg(not(unix))]
fn is_asked_by(_: ExitStatus) -> bool {
    false
}

#[cfg(unix)]
fn ended_by(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(libc::SIGKILL) => "killed, perhaps for want of memory (signal 9)".into(),
        Some(signal) => format!("ended by signal {signal}"),
        None => "ended".into(),
    }
}

#[cfg(not(unix))]
fn ended_by(_: ExitStatus) -> String {
    "ended from outside".into()
}
