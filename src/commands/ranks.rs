//! Several processes of one command, started by mpirun, srun or torchrun: who takes part, what they must
//! have in common, and how they end together.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::experiment::Prepared;
use super::{Exit, Failure, Printer};
use crate::cli::Command;
use crate::ops::kernel::instructions;
use crate::program;
use crate::ranks::{Identity, RankError, Ranks, identity};
use crate::train::memory::Allowance;

/// After the loss of another, a process that does not come to its end by itself is ended.
const GRACE: Duration = Duration::from_secs(12);

/// What a process does of a command.
pub enum Role {
    /// All of it, alone or with others.
    Takes(Ranks),
    /// Nothing: the first rank does it.
    Leaves,
}

/// Finds out which rank this process is, and the others if the command is for several.
pub fn role(command: &Command) -> Result<Role, Failure> {
    let env = |name: &str| std::env::var(name).ok();
    let (timeout, shared) = match command {
        Command::Run(args) if !args.dry_run => (args.peer_timeout, true),
        Command::Resume(args) => (args.peer_timeout, true),
        _ => (0, false),
    };
    let found = match identity(&env) {
        Ok(found) => found,
        // What has nothing to do with others need not know.
        Err(_) if !shared => None,
        Err(error) => return Err(error.into()),
    };
    let Some(identity) = found else {
        return Ok(Role::Takes(Ranks::alone()));
    };
    if shared {
        return together(&identity, Duration::from_secs(timeout)).map(Role::Takes);
    }
    if !matches!(command, Command::Sweep(_) | Command::VerifyResume(_)) {
        return Ok(match identity.rank {
            0 => Role::Takes(Ranks::alone()),
            _ => Role::Leaves,
        });
    }
    let name = match command {
        Command::Sweep(_) => "sweep",
        _ => "verify-resume",
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

fn together(identity: &Identity, timeout: Duration) -> Result<Ranks, Failure> {
    let joined = Ranks::join(identity, timeout);
    let ranks = joined.map_err(|error| muted(error.into(), identity.rank))?;
    let watched = ranks.clone();
    std::thread::spawn(move || {
        if let Some(error) = watched.wait_for_failure() {
            std::thread::sleep(GRACE);
            give_up(&error, watched.rank());
        }
    });
    Ok(ranks)
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
pub fn compare(
    prepared: &Prepared,
    weights: &str,
    ranks: &Ranks,
    printer: &Printer,
) -> Result<(), Failure> {
    if ranks.is_alone() {
        return Ok(());
    }
    let own = Facts {
        config: prepared.blueprint.loaded.hash(),
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
            let help = "let all ranks read the same file, in the same environment";
            ("another configuration", Exit::Config, help)
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
    for other in &all {
        if (&other.build, &other.instructions) != (&first.build, &first.instructions) {
            printer.warning(format!(
                "not all ranks run the same program on processors of the same kind ({}, {}): the \
                 last bits depend on which computes what",
                first.instructions, other.instructions
            ));
            break;
        }
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
