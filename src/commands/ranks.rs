//! Several processes of one command, started by mpirun, srun or torchrun: who takes part, what they must
//! have in common, and how they end together.

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::experiment::Prepared;
use super::{Exit, Failure, Printer};
use crate::cli::{Command, ResumeArgs, RunArgs};
use crate::ops::kernel::instructions;
use crate::program;
use crate::ranks::{Identity, RankError, Ranks, identity};
use crate::train::memory::Allowance;

/// After the loss of another, a process that does not come to its end by itself is ended.
const GRACE: Duration = Duration::from_secs(12);

/// Who waits for others for so long says so.
const PATIENCE: Duration = Duration::from_secs(5);

/// The processes that share a command: this one alone, unless a launcher has started several of a run.
/// Other commands are done by each process for itself, as `srun` starts them on files of its own.
pub fn of(command: &Command, printer: &Printer) -> Result<Ranks, Failure> {
    let env = |name: &str| std::env::var(name).ok();
    match command {
        Command::Run(RunArgs { dry_run: true, .. }) => Ok(Ranks::alone()),
        Command::Run(RunArgs { peers, .. }) | Command::Resume(ResumeArgs { peers, .. }) => {
            match peers.alone {
                true => Ok(Ranks::alone()),
                false => match identity(&env)? {
                    None => Ok(Ranks::alone()),
                    Some(identity) => together(&identity, peers.timeout(), printer),
                },
            }
        }
        Command::Sweep(_) => starts_others("sweep", &env),
        Command::VerifyResume(_) => starts_others("verify-resume", &env),
        _ => Ok(Ranks::alone()),
    }
}

/// What starts processes of its own is started once.
fn starts_others(name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Ranks, Failure> {
    // What has nothing to do with others need not know that variables contradict each other.
    let Ok(Some(identity)) = identity(env) else {
        return Ok(Ranks::alone());
    };
    let message = format!(
        "`xp {name}` starts processes of its own, and was started {} times",
        identity.count
    );
    let failure = Failure::new(Exit::Config, message).help(
        "start it once, without mpirun, srun or torchrun; `ranks` under `[launcher.slurm]` gives \
         each trial of a sweep several processes",
    );
    Err(muted(failure, identity.rank))
}

fn together(identity: &Identity, timeout: Duration, printer: &Printer) -> Result<Ranks, Failure> {
    let (joined, waiting) = std::sync::mpsc::channel::<()>();
    let (own, copy) = (identity.clone(), *printer);
    let watch = std::thread::spawn(move || {
        if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            copy.note(waits(&own));
        }
    });
    let ranks = Ranks::join(identity, timeout);
    drop(joined);
    // It has nothing left to wait for.
    let _ = watch.join();
    let ranks = ranks.map_err(|error| {
        // Of what all hear of the first, the first tells.
        let untold = identity.rank > 0 && matches!(error, RankError::Apart { .. });
        let failure = match &error {
            RankError::Lost { .. } => Failure::new(Exit::Other, &error)
                .help("nothing has begun; see whether it has started, and its output"),
            _ => Failure::from(error),
        };
        Failure { untold, ..failure }
    })?;
    let watched = ranks.clone();
    std::thread::spawn(move || {
        if let Some(error) = watched.wait_for_failure() {
            // The first may be at work on a checkpoint.
            let extra = if watched.is_first() {
                GRACE / 2
            } else {
                Duration::ZERO
            };
            std::thread::sleep(GRACE + extra);
            give_up(&error, watched.rank());
        }
    });
    Ok(ranks)
}

fn waits(identity: &Identity) -> String {
    let Identity {
        rank,
        count,
        address,
        ports,
        ..
    } = identity;
    let whom = if *rank == 0 { "the others" } else { "rank 0" };
    format!(
        "rank {rank} of {count} waits for {whom} at `{address}`, port {}; `--alone` runs without \
         others, whatever the launcher says",
        ports[0]
    )
}

#[expect(
    clippy::exit,
    reason = "whatever this process waits for or computes, nobody needs it"
)]
fn give_up(error: &RankError, rank: usize) {
    let failure = Failure::from(error.clone());
    let exit = failure.exit as i32;
    if tells(error, rank) {
        let printer = Printer {
            quiet: false,
            json: false,
            mute: false,
        };
        printer.failure(&failure);
    }
    std::process::exit(exit);
}

/// Of failures that all have, the first rank tells; of its own end, its neighbour.
fn tells(error: &RankError, rank: usize) -> bool {
    match error.rank() {
        Some(0) if matches!(error, RankError::Lost { .. }) => rank <= 1,
        _ => rank == 0,
    }
}

fn muted(failure: Failure, rank: usize) -> Failure {
    Failure {
        untold: rank > 0,
        ..failure
    }
}

/// What a command came to, given what others came to: a failure that follows from theirs is told as
/// theirs.
pub fn judged<T>(result: Result<T, Failure>, ranks: &Ranks) -> Result<T, Failure> {
    let failure = match result {
        Ok(value) => return Ok(value),
        Err(failure) => failure,
    };
    let rank = ranks.rank();
    match ranks.failure() {
        Some(error) if failure.message.contains(&error.to_string()) => {
            let untold = !tells(&error, rank);
            Err(Failure {
                untold,
                ..Failure::from(error)
            })
        }
        _ => Err(muted(failure, rank)),
    }
}

/// Ends the command on all ranks: they hear of what this one has failed of, or that it is done.
pub fn conclude<T>(result: Result<T, Failure>, ranks: &Ranks) -> Result<T, Failure> {
    let result = judged(result, ranks);
    if let Err(failure) = &result
        && failure.exit != Exit::Interrupted
    {
        let message = match &failure.report {
            Some(report) => {
                let text = report.render(false);
                let text = text.strip_prefix("error: ").unwrap_or(&text);
                text.trim_end().to_owned()
            }
            None => failure.message.clone(),
        };
        ranks.fail(failure.exit as u8, &message, failure.help.as_deref());
    }
    ranks.leave();
    result
}

/// What decides the result, as one rank has it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Facts {
    config: String,
    data: String,
    split: String,
    weights: String,
    build: Option<String>,
    instructions: String,
}

/// Refuses ranks that would not train the same: with other pictures, weights or settings than the
/// first has.
pub fn compare(prepared: &Prepared, weights: &str, ranks: &Ranks) -> Result<(), Failure> {
    if ranks.is_alone() {
        return Ok(());
    }
    let own = Facts {
        // The cache is no part of the experiment, but decides who computes what when.
        config: format!(
            "{}, cache.features = {}",
            prepared.blueprint.loaded.hash(),
            prepared.blueprint.loaded.experiment.cache.features
        ),
        data: prepared.dataset.data_fingerprint.clone(),
        split: prepared.dataset.split_fingerprint.clone(),
        weights: weights.into(),
        build: program::fingerprint().map(str::to_owned),
        instructions: instructions().into(),
    };
    let text = serde_json::to_vec(&own).map_err(|error| Failure::new(Exit::Other, error))?;
    let all = ranks.gather(text)?;
    let all = all.iter().map(|text| serde_json::from_slice(text));
    let all: Vec<Facts> = all
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::new(Exit::Other, error))?;
    let first = &all[0];
    for (other, host) in all
        .iter()
        .zip(ranks.hosts())
        .enumerate()
        .map(|(rank, (it, host))| (it, format!("rank {rank} on `{host}`")))
    {
        let (what, exit, help) = if other.config != first.config {
            let help = "let all ranks read the same file, in the same environment; \
                        `--alone` makes each a run of its own";
            ("another configuration", Exit::Config, help)
        } else if other.build != first.build {
            (
                "another build of xp",
                Exit::Other,
                "give all machines the same program",
            )
        } else if other.instructions != first.instructions {
            // Sums of other widths: their weights would drift apart.
            (
                "a processor with other instructions",
                Exit::Other,
                "start all ranks on machines of one kind",
            )
        } else if other.data != first.data {
            (
                "other pictures",
                Exit::Data,
                "give all machines the same files",
            )
        } else if other.split != first.split {
            (
                "another split of the pictures",
                Exit::Data,
                "give all machines the same files",
            )
        } else if other.weights != first.weights {
            (
                "other weights",
                Exit::Other,
                "give all machines the same file",
            )
        } else {
            continue;
        };
        return Err(Failure::new(exit, format!("{host} has {what} than rank 0")).help(help));
    }
    Ok(())
}

/// What the first rank may use of memory goes for all: what they exchange depends on it.
pub fn agreed(allowance: Allowance, ranks: &Ranks) -> Result<Allowance, Failure> {
    if ranks.is_alone() {
        return Ok(allowance);
    }
    let text = ranks.from_first(|| serde_json::to_vec(&allowance).unwrap_or_default())?;
    serde_json::from_slice(&text).map_err(|error| Failure::new(Exit::Other, error))
}

/// Threads of this process, where the configuration leaves it open: ranks that share a machine, and that
/// nobody has given processors of their own, divide it.
pub fn threads(wanted: usize, ranks: &Ranks) -> usize {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    match wanted {
        0 if !ranks.is_alone() && !is_bound(available) => (available / ranks.on_this_host()).max(1),
        wanted => wanted,
    }
}

/// Whether the launcher has given this process some of the machine's processors.
#[cfg(unix)]
fn is_bound(available: usize) -> bool {
    // SAFETY: it takes a number and gives a number.
    let all = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(all).is_ok_and(|all| available < all)
}

#[cfg(not(unix))]
fn is_bound(_: usize) -> bool {
    false
}

impl From<RankError> for Failure {
    fn from(error: RankError) -> Self {
        let help = error.help().map(str::to_owned);
        let failure = match &error {
            RankError::Lost { .. } => Self::new(
                Exit::Interrupted,
                format!("{error}; everything up to the last checkpoint is kept"),
            ),
            RankError::Failed { exit, .. } => Self::new(Exit::of(Some(i32::from(*exit))), &error),
            RankError::Apart { .. } => Self::new(Exit::Other, &error),
        };
        Self { help, ..failure }
    }
}
