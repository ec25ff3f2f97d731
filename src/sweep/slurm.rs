//! Trials as one job array of Slurm, <https://slurm.schedmd.com/job_array.html>.
//!
//! A task is `xp run --run-dir`: whoever starts it again, after a preemption or a lost node, has it go
//! on. The queue is found again by the name of its jobs, so that a sweep outlives the process that
//! submitted it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use jiff::Timestamp;

use super::launcher::{Ended, LaunchError, Launcher, Watcher};
use super::{SweepDir, Trial};
use crate::config::SlurmConfig;
use crate::fsx;
use crate::run::{Condition, Listed, RunDir, RunError};

/// Time between two looks at the queue.
const LOOK: Duration = Duration::from_secs(2);

/// Tasks of one array: Slurm's own limit is 1001 unless its administrator raised it.
const MOST_TASKS: usize = 1000;

/// How often what a lost node took away is submitted again.
const ROUNDS: usize = 3;

/// Seconds before the end of its time at which a task is warned.
const WARNING: u32 = 60;

/// A cluster with Slurm.
#[derive(Debug)]
pub struct Slurm<'a> {
    /// Where the trials lie, on a file system that all nodes share.
    pub sweep: &'a SweepDir,
    /// The program, xp itself, on the same.
    pub program: PathBuf,
    /// What jobs ask for.
    pub settings: SlurmConfig,
    /// Most tasks at a time.
    pub jobs: Option<usize>,
    /// Only follow what is in the queue.
    pub attach: bool,
}

impl Launcher for Slurm<'_> {
    fn run(
        &self,
        trials: &[&Trial],
        until: Option<usize>,
        watcher: &mut dyn Watcher,
    ) -> Result<Vec<Ended>, LaunchError> {
        let mut told: BTreeSet<&str> = BTreeSet::new();
        // What failed before is tried again: a failure is one of now if there was a sign of life since.
        let mut before = BTreeMap::new();
        for trial in trials {
            match self.outcome(trial, until) {
                Ended::Done => drop(told.insert(&trial.id)),
                Ended::Failed(_) => drop(before.insert(trial.id.as_str(), self.sign(trial))),
                _ => {}
            }
        }
        for round in 0..=ROUNDS {
            let queued = self.queue()?;
            if !queued.is_empty() {
                watcher.note(&format!("following Slurm jobs {}", queued.join(", ")));
            } else if self.attach && round == 0 {
                return Err(self.nothing_queued());
            } else {
                let left = trials
                    .iter()
                    .filter(|trial| self.wants_to_run(trial, until));
                let mut left: Vec<&Trial> = left.copied().collect();
                // What failed is tried again by the next sweep, not by this one.
                left.retain(|trial| !told.contains(trial.id.as_str()));
                if left.is_empty() || self.attach || round == ROUNDS {
                    break;
                }
                for part in left.chunks(MOST_TASKS) {
                    let job = self.submit(part, until)?;
                    let count = part.len();
                    watcher.note(&format!("submitted {count} trials as Slurm job {job}"));
                }
            }
            if !self.follow(trials, until, (&mut told, &before), watcher)? {
                watcher.note("the trials go on in Slurm; the same command follows them again");
                break;
            }
        }
        let outcomes = trials.iter().map(|trial| self.outcome(trial, until));
        Ok(outcomes.collect())
    }

    fn sweep(&self) -> &SweepDir {
        self.sweep
    }
}

impl Slurm<'_> {
    /// Follows the queue until it is empty; `false` if told to stop.
    fn follow<'t>(
        &self,
        trials: &[&'t Trial],
        until: Option<usize>,
        (told, before): (&mut BTreeSet<&'t str>, &BTreeMap<&str, Option<Timestamp>>),
        watcher: &mut dyn Watcher,
    ) -> Result<bool, LaunchError> {
        loop {
            // First the queue: what leaves it after this has ended by the time that it is looked at.
            let waiting = self.queue()?;
            let mut running = Vec::new();
            for trial in trials {
                if told.contains(trial.id.as_str()) {
                    continue;
                }
                match self.outcome(trial, until) {
                    Ended::Elsewhere => running.push(*trial),
                    Ended::Failed(_)
                        if before.get(trial.id.as_str()) == Some(&self.sign(trial)) => {}
                    ended @ (Ended::Done | Ended::Failed(_) | Ended::Paused) => {
                        told.insert(&trial.id);
                        watcher.ended(trial, &ended);
                    }
                    Ended::Waiting | Ended::Interrupted => {}
                }
            }
            if waiting.is_empty() {
                return Ok(true);
            }
            if watcher.stop() {
                return Ok(false);
            }
            watcher.passed(&running, waiting.len());
            std::thread::sleep(LOOK);
        }
    }

    /// How a trial stands by its run directory.
    fn outcome(&self, trial: &Trial, until: Option<usize>) -> Ended {
        let Some(run) = self.sweep.look_at(trial) else {
            // A task that could not even begin says so in its log.
            let said = self.sweep.last_error(trial);
            return said.map_or(Ended::Waiting, Ended::Failed);
        };
        let paused = |run: &Listed| {
            until.is_some_and(|until| run.epochs.is_some_and(|epochs| epochs >= until))
        };
        match run.status {
            Condition::Done => Ended::Done,
            Condition::Running => Ended::Elsewhere,
            Condition::Failed => Ended::Failed(run.reason.unwrap_or_default()),
            _ if RunDir::is_held(&run.run) => Ended::Elsewhere,
            _ if paused(&run) => Ended::Paused,
            _ => Ended::Interrupted,
        }
    }

    /// A trial's last sign of life.
    fn sign(&self, trial: &Trial) -> Option<Timestamp> {
        self.sweep.look_at(trial)?.heartbeat
    }

    fn wants_to_run(&self, trial: &Trial, until: Option<usize>) -> bool {
        match self.outcome(trial, until) {
            Ended::Done | Ended::Paused | Ended::Elsewhere => false,
            Ended::Failed(_) | Ended::Interrupted | Ended::Waiting => true,
        }
    }

    /// Name of the jobs of this sweep, and of no other folder's.
    fn name(&self) -> String {
        let path = std::path::absolute(self.sweep.path());
        let path = path.unwrap_or_else(|_| self.sweep.path().to_path_buf());
        let hash = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        format!("xp-{name}-{}", &hash[..8])
    }

    /// Ids of the jobs in the queue, waiting or at work.
    fn queue(&self) -> Result<Vec<String>, LaunchError> {
        let mut command = Command::new("squeue");
        command.args(["--noheader", "--format=%F", "--name", &self.name()]);
        let output = said(&mut command)?;
        let ids: BTreeSet<&str> = output.split_whitespace().collect();
        Ok(ids.into_iter().map(str::to_owned).collect())
    }

    fn nothing_queued(&self) -> LaunchError {
        LaunchError::Scheduler {
            command: format!("squeue --name {}", self.name()),
            reason: "this sweep has no jobs in the queue; without `--attach` it submits some"
                .into(),
        }
    }

    /// Submits an array with a task a trial; gives the id of the job.
    fn submit(&self, trials: &[&Trial], until: Option<usize>) -> Result<String, LaunchError> {
        let script = self.write_script(trials, until)?;
        let mut array = format!("--array=0-{}", trials.len() - 1);
        if let Some(jobs) = self.jobs {
            array.push_str(&format!("%{jobs}"));
        }
        let SlurmConfig {
            partition,
            time,
            memory,
            cpus,
            gpus,
            flags,
        } = &self.settings;
        let mut command = Command::new("sbatch");
        command.args([
            "--parsable",
            "--requeue",
            "--open-mode=append",
            "--output=/dev/null",
        ]);
        command.args([array, format!("--signal=B:USR1@{WARNING}")]);
        command.arg(format!("--job-name={}", self.name()));
        let wanted = [
            ("partition", partition.clone()),
            ("time", time.clone()),
            ("mem", memory.clone()),
            ("cpus-per-task", cpus.map(|cpus| cpus.to_string())),
            ("gpus", gpus.map(|gpus| gpus.to_string())),
        ];
        for (flag, value) in wanted {
            command.args(value.map(|value| format!("--{flag}={value}")));
        }
        command.args(flags).arg(script);
        let output = said(&mut command)?;
        // `JOB` or `JOB;CLUSTER`.
        let id = output.trim().split(';').next().unwrap_or_default();
        Ok(id.to_owned())
    }

    /// Writes what the tasks of an array do, and in which order its trials come.
    fn write_script(&self, trials: &[&Trial], until: Option<usize>) -> Result<PathBuf, RunError> {
        let folder = std::path::absolute(self.sweep.trials())
            .map_err(fsx::FsError::at("find", &self.sweep.trials()))?;
        let mut lines = String::new();
        for trial in trials {
            self.sweep.config(trial)?;
            // A task that cannot begin leaves nothing else: what an earlier one said is over.
            let log = self.sweep.log(trial);
            if self.sweep.look_at(trial).is_none() && log.exists() {
                fsx::write_atomic(&log, b"")?;
            }
            let run = RunDir::named(&trial.name, &trial.id);
            lines.push_str(&format!("{} {run}\n", trial.id));
        }
        // Named for what it holds: an array that waits keeps its own.
        let hash = blake3::hash(lines.as_bytes()).to_hex();
        let list = folder.join(format!("slurm-{}.list", &hash[..8]));
        fsx::write_atomic(&list, lines.as_bytes())?;
        let until = until.map_or_else(String::new, |until| format!(" --until-epoch {until}"));
        let script = format!(
            r#"#!/bin/sh
# A task of the array runs a trial, or goes on with it.
set -u
cd {folder} || exit 1
line=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {list})
id=${{line%% *}}
run=../${{line#* }}
for name in $(env | sed -n 's/^\(XP_[A-Za-z0-9_]*\)=.*/\1/p'); do unset "$name"; done
{program} run "$id.toml" --run-dir "$run"{until} --set "threads=${{SLURM_CPUS_PER_TASK:-0}}" >>"$id.log" 2>&1 &
xp=$!
trap 'kill -USR1 $xp' USR1
trap 'kill -TERM $xp' TERM
while :; do
    wait $xp
    code=$?
    # A signal ends the wait and not the run.
    kill -0 $xp 2>/dev/null || break
done
paused={paused}
if [ "$code" = 75 ] && [ "$paused" = no ]; then
    # Its time was over, or another job more urgent.
    scontrol requeue "$SLURM_JOB_ID" && sleep 60
fi
exit "$code"
"#,
            folder = quoted(&folder),
            list = quoted(&list),
            program = quoted(&self.program),
            paused = if until.is_empty() { "no" } else { "maybe" },
        );
        let path = folder.join(format!("slurm-{}.sh", &hash[..8]));
        fsx::write_atomic(&path, script.as_bytes())?;
        Ok(path)
    }
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// What a program says on stdout.
fn said(command: &mut Command) -> Result<String, LaunchError> {
    let shown = || {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        words.join(" ")
    };
    let shown = shown();
    let failed = |reason: String| LaunchError::Scheduler {
        command: shown.clone(),
        reason,
    };
    let run = command.stdin(Stdio::null()).output();
    let Output {
        status,
        stdout,
        stderr,
    } = run.map_err(|error| failed(error.to_string()))?;
    match status.success() {
        true => Ok(String::from_utf8_lossy(&stdout).into_owned()),
        false => Err(failed(String::from_utf8_lossy(&stderr).trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_word() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
