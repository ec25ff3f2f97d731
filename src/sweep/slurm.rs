//! Trials as one job array of Slurm, <https://slurm.schedmd.com/job_array.html>.
//!
//! A task is `xp run --run-dir`: whoever starts it again, after a preemption or a lost node, has it go
//! on. The queue is found again by the name of its jobs, so that a sweep outlives the process that
//! submitted it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

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

/// Looks at the queue that may fail one after the other.
const MOST_FAILURES: usize = 60;

/// What a task says of its end beside the exit code if it was cancelled.
const CANCELLED: &str = "cancelled";

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
        for trial in trials {
            let ended = self.outcome(trial, until);
            if matches!(ended, Ended::Done | Ended::Paused) {
                told.insert(&trial.id);
                watcher.ended(trial, &ended);
            }
        }
        for round in 0..=ROUNDS {
            let queued = self.queue()?;
            if !queued.jobs.is_empty() {
                let jobs: Vec<&str> = queued.jobs.iter().map(String::as_str).collect();
                watcher.note(&format!("following Slurm jobs {}", jobs.join(", ")));
            } else if self.attach || round == ROUNDS {
                break;
            } else {
                let wanted = |trial: &&&Trial| match round {
                    // What failed before is tried again, once.
                    0 => !matches!(
                        self.outcome(trial, until),
                        Ended::Done | Ended::Paused | Ended::Elsewhere
                    ),
                    _ => self.was_lost(trial, until),
                };
                let left: Vec<&Trial> = trials.iter().filter(wanted).copied().collect();
                if left.is_empty() {
                    break;
                }
                for part in left.chunks(MOST_TASKS) {
                    let job = self.submit(part, until)?;
                    let count = part.len();
                    watcher.note(&format!("submitted {count} trials as Slurm job {job}"));
                }
            }
            if !self.follow(trials, until, &mut told, watcher)? {
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

/// What of a sweep is in the queue, waiting or at work.
struct Queue {
    jobs: BTreeSet<String>,
    tasks: usize,
}

impl Slurm<'_> {
    /// Follows the queue until it is empty; `false` if told to stop.
    fn follow<'t>(
        &self,
        trials: &[&'t Trial],
        until: Option<usize>,
        told: &mut BTreeSet<&'t str>,
        watcher: &mut dyn Watcher,
    ) -> Result<bool, LaunchError> {
        let mut failures = 0;
        loop {
            // First the queue: what has left it by now has ended before it is looked at.
            let queue = match self.queue() {
                Ok(queue) => queue,
                // The controller may be busy, or just starting again.
                Err(_) if failures < MOST_FAILURES => {
                    failures += 1;
                    std::thread::sleep(LOOK);
                    continue;
                }
                Err(error) => return Err(error),
            };
            failures = 0;
            let mut running = Vec::new();
            for trial in trials {
                if told.contains(trial.id.as_str()) {
                    continue;
                }
                match self.outcome(trial, until) {
                    Ended::Elsewhere => running.push(*trial),
                    ended @ (Ended::Done | Ended::Failed(_) | Ended::Paused) => {
                        told.insert(&trial.id);
                        watcher.ended(trial, &ended);
                    }
                    Ended::Waiting | Ended::Interrupted => {}
                }
            }
            // A heartbeat may outlive its process, on a node that was lost, for a while.
            if queue.jobs.is_empty() && running.is_empty() {
                return Ok(true);
            }
            if watcher.stop() {
                return Ok(false);
            }
            watcher.passed(&running, queue.tasks.saturating_sub(running.len()));
            std::thread::sleep(LOOK);
        }
    }

    /// How a trial stands, by its run directory and by what its last task said in the end.
    fn outcome(&self, trial: &Trial, until: Option<usize>) -> Ended {
        let run = self.sweep.look_at(trial);
        if run
            .as_ref()
            .is_some_and(|run| run.status == Condition::Done)
        {
            return Ended::Done;
        }
        let exit = self.sweep.exit(trial);
        let exit = exit.as_deref().and_then(|text| text.split(' ').next());
        let paused = |run: &Listed| {
            until.is_some_and(|until| run.epochs.is_some_and(|epochs| epochs >= until))
        };
        match (exit, run) {
            (None | Some("75"), Some(run))
                if run.status == Condition::Interrupted && paused(&run) =>
            {
                Ended::Paused
            }
            (Some("75"), _) => Ended::Interrupted,
            (Some(code), _) => {
                let said = self.sweep.last_error(trial, 0);
                Ended::Failed(match (code, said) {
                    ("137", _) => "killed, perhaps for want of memory (exit code 137)".into(),
                    (_, Some(said)) => said,
                    (code, None) => format!("exit code {code}"),
                })
            }
            (None, Some(run)) if run.status == Condition::Running || RunDir::is_held(&run.run) => {
                Ended::Elsewhere
            }
            (None, Some(run)) if run.status == Condition::Failed => {
                Ended::Failed(run.reason.unwrap_or_default())
            }
            (None, Some(_)) => Ended::Interrupted,
            (None, None) => Ended::Waiting,
        }
    }

    /// Whether a trial has ended in the middle without anybody asking for it: its node was lost, or
    /// its time was over and it could not be queued again. What was cancelled stays so.
    fn was_lost(&self, trial: &Trial, until: Option<usize>) -> bool {
        let exit = self.sweep.exit(trial);
        self.outcome(trial, until) == Ended::Interrupted
            && exit.is_none_or(|exit| !exit.contains(CANCELLED))
    }

    /// Name of the jobs of this sweep, and of no other folder's.
    fn name(&self) -> String {
        let path = std::path::absolute(self.sweep.path());
        let path = path.unwrap_or_else(|_| self.sweep.path().to_path_buf());
        let hash = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        RunDir::named(&format!("xp-{name}"), &hash[..8])
    }

    fn queue(&self) -> Result<Queue, LaunchError> {
        let mut command = Command::new("squeue");
        command.args([
            "--noheader",
            "--array",
            "--format=%F",
            "--name",
            &self.name(),
        ]);
        let output = said(&mut command)?;
        Ok(Queue {
            jobs: output.split_whitespace().map(str::to_owned).collect(),
            tasks: output.split_whitespace().count(),
        })
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
            ranks,
            gpus,
            flags,
        } = &self.settings;
        let mut command = Command::new("sbatch");
        command.args(["--parsable", "--requeue", "--open-mode=append"]);
        // Of all tasks: what keeps them from even beginning.
        let folder = std::path::absolute(self.sweep.trials());
        let output = folder.unwrap_or_else(|_| self.sweep.trials());
        command.arg(format!(
            "--output={}",
            output.join("slurm-%A.out").display()
        ));
        command.args([array, format!("--signal=B:USR1@{WARNING}")]);
        command.arg(format!("--job-name={}", self.name()));
        let wanted = [
            ("partition", partition.clone()),
            ("time", time.clone()),
            ("mem", memory.clone()),
            ("cpus-per-task", cpus.map(|cpus| cpus.to_string())),
            ("ntasks", ranks.map(|ranks| ranks.to_string())),
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
            // What earlier tasks came to is over.
            for file in [self.sweep.log(trial), self.sweep.exit_file(trial)] {
                if file.exists() {
                    fsx::write_atomic(&file, b"")?;
                }
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
# A task of the array runs a trial, or goes on with it, and says in ID.exit how that ended.
set -u
cd {folder} || exit 1
line=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {list})
id=${{line%% *}}
run=../${{line#* }}
: >"$id.exit"
for name in $(env | sed -n 's/^\(XP_[A-Za-z0-9_]*\)=.*/\1/p'); do unset "$name"; done
unset RANK WORLD_SIZE MASTER_ADDR MASTER_PORT
threads=${{SLURM_CPUS_PER_TASK:+--set threads=$SLURM_CPUS_PER_TASK}}
{srun}{program} run "$id.toml" --run-dir "$run"{until}{alone} $threads >>"$id.log" 2>&1 &
xp=$!
asked=
trap 'asked=yes; kill -USR1 $xp' USR1
trap 'asked=yes; kill -TERM $xp' TERM
while :; do
    wait $xp
    code=$?
    # A signal ends the wait and not the run.
    kill -0 $xp 2>/dev/null || break
done
if [ -n "$asked" ]; then
    case $code in
    75 | 138 | 143)
        code=75
        if scontrol show job "$SLURM_JOB_ID" | grep -q JobState=CANCELLED; then
            echo "75 {CANCELLED}" >"$id.exit"
            exit 75
        fi
        # Its time was over, or another job more urgent: it goes on later.
        scontrol requeue "$SLURM_JOB_ID" && sleep 60
        ;;
    esac
fi
echo "$code" >"$id.exit"
exit "$code"
"#,
            folder = quoted(&folder),
            list = quoted(&list),
            srun = srun(self.settings.ranks),
            // What a shell of the submitter had belongs to another step.
            alone = if self.settings.ranks.is_some_and(|ranks| ranks > 1) {
                ""
            } else {
                " --alone"
            },
            program = quoted(&self.program),
        );
        let path = folder.join(format!("slurm-{}.sh", &hash[..8]));
        fsx::write_atomic(&path, script.as_bytes())?;
        Ok(path)
    }
}

/// What starts a trial of several ranks, as words of a shell: a step that ends with its first rank that
/// fails, and that takes as many processors as the job.
fn srun(ranks: Option<usize>) -> String {
    let Some(ranks) = ranks.filter(|&ranks| ranks > 1) else {
        return String::new();
    };
    format!(
        "srun --quiet --kill-on-bad-exit=1 --ntasks={ranks} \
         ${{SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK}} "
    )
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
    fn only_several_ranks_want_a_step_of_their_own() {
        assert_eq!(srun(None), "");
        assert_eq!(srun(Some(1)), "");
        let words = "srun --quiet --kill-on-bad-exit=1 --ntasks=4 \
                     ${SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK} ";
        assert_eq!(srun(Some(4)), words);
    }

    #[test]
    fn paths_are_one_word() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
