//! The memory of a run against `memory_limit`, and against what the machine has.

use super::blueprint::Blueprint;
use super::{Exit, Failure, Printer};
use crate::config::{Experiment, Problem, size};
use crate::data::{Dataset, batches};
use crate::engine::params::Params;
use crate::records::{MicroBatch, Split};
use crate::train::features::Room;
use crate::train::memory::{Allowance, Estimate, Given, PhaseMemory};
use crate::train::phase::Plan;

/// Most bytes of decoded pictures that wait between the scan and their first use.
const WAITING: usize = 128 << 20;

/// `memory_limit` in bytes.
pub fn limit(experiment: &Experiment) -> Option<usize> {
    let bytes = size::parse(experiment.memory_limit.as_deref()?)?;
    Some(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Most bytes of decoded pictures that the scan keeps for their first use.
pub fn waiting(experiment: &Experiment) -> usize {
    limit(experiment).map_or(WAITING, |limit| WAITING.min(limit / 8))
}

/// What the configuration allows; `memory_limit` apart.
pub fn allowance(experiment: &Experiment) -> Allowance {
    let cache = &experiment.cache;
    Allowance {
        features: Room {
            memory: if cache.features {
                cache.memory_bytes()
            } else {
                0
            },
            disk: match super::experiment::cache_root(cache) {
                Some(_) => cache.max_bytes(),
                None => 0,
            },
        },
        pictures: cache.memory_bytes(),
        waiting: batches::WAITING,
        micro_batch: MicroBatch::Whole,
    }
}

/// The same for a run of this plan.
fn whole(blueprint: &Blueprint, given: Given<'_>) -> Allowance {
    Allowance {
        micro_batch: given.plan.micro_batch.unwrap_or(MicroBatch::Whole),
        ..allowance(&blueprint.loaded.experiment)
    }
}

/// What the memory of a run depends on.
pub fn given<'a>(
    blueprint: &'a Blueprint,
    dataset: &Dataset,
    plan: &'a Plan,
    params: &'a Params,
    threads: usize,
) -> Given<'a> {
    let items = dataset.items.iter();
    let pixels = items.map(|item| item.width as usize * item.height as usize);
    Given {
        graph: &blueprint.graph,
        params,
        plan,
        pictures: Split::ALL.map(|split| dataset.split(split).len()),
        augment: &blueprint.loaded.experiment.data.augment,
        preprocess: &blueprint.preprocess,
        largest: pixels.max().unwrap_or(0),
        waiting: dataset.waiting(),
        threads,
    }
}

/// Fits a run into `memory_limit`: features and decoded pictures get what the rest leaves. If the
/// rest alone is too much, fewer batches wait and fewer pictures of a batch are computed at a time.
///
/// # Errors
/// If a picture at a time is more than the limit.
pub fn fit(blueprint: &Blueprint, given: Given<'_>) -> Result<(Allowance, Estimate), Failure> {
    let experiment = &blueprint.loaded.experiment;
    let whole = whole(blueprint, given);
    let estimate = Estimate::of(given, whole)?;
    let Some(limit) = limit(experiment) else {
        return Ok((whole, estimate));
    };
    if estimate.peak <= limit {
        return Ok((whole, estimate));
    }
    let mut least = None;
    for bare in frugal(whole, given.plan) {
        let estimate = Estimate::of(given, bare)?;
        if estimate.peak <= limit {
            return share(given, whole, (bare, estimate), limit);
        }
        least = Some(estimate);
    }
    let least = least.unwrap_or(estimate);
    Err(refusal(blueprint, given, &least, limit))
}

/// Without features and decoded pictures in memory, and with ever less of what makes a step fast.
fn frugal(whole: Allowance, plan: &Plan) -> impl Iterator<Item = Allowance> {
    let bare = Allowance {
        features: Room {
            memory: 0,
            ..whole.features
        },
        pictures: 0,
        ..whole
    };
    let unhurried = Allowance { waiting: 0, ..bare };
    let halves = std::iter::successors(Some(plan.batch_size / 2), |pictures| Some(pictures / 2));
    let halves = halves.take_while(|&pictures| pictures > 0);
    let smaller = halves.map(move |pictures| Allowance {
        micro_batch: MicroBatch::Pictures(pictures),
        ..unhurried
    });
    // What the configuration or an earlier part of the run says of it stays.
    let is_open = plan.micro_batch.is_none();
    let smaller = smaller.filter(move |_| is_open);
    [bare, unhurried].into_iter().chain(smaller)
}

/// Gives features, then decoded pictures, what a run without them leaves of the limit.
fn share(
    given: Given<'_>,
    whole: Allowance,
    (bare, least): (Allowance, Estimate),
    limit: usize,
) -> Result<(Allowance, Estimate), Failure> {
    let with = |memory: usize, pictures: usize| Allowance {
        features: Room {
            memory,
            ..whole.features
        },
        pictures,
        ..bare
    };
    let memory = whole.features.memory.min(limit - least.peak);
    let features = Estimate::of(given, with(memory, 0))?;
    let pictures = whole.pictures.min(limit.saturating_sub(features.peak));
    let allowance = with(memory, pictures);
    let estimate = Estimate::of(given, allowance)?;
    match estimate.peak <= limit {
        true => Ok((allowance, estimate)),
        false => Ok((bare, least)),
    }
}

/// As [`fit`], where there is a limit. Says what gives way.
pub fn within_limit(
    blueprint: &Blueprint,
    given: Given<'_>,
    printer: &Printer,
) -> Result<Allowance, Failure> {
    let experiment = &blueprint.loaded.experiment;
    let whole = whole(blueprint, given);
    let Some(limit) = limit(experiment) else {
        return Ok(whole);
    };
    let (allowance, estimate) = fit(blueprint, given)?;
    let show = |bytes: usize| size::show(bytes as u64);
    if allowance != whole {
        let mut note = format!(
            "memory: at most {} for features and {} for decoded pictures",
            show(allowance.features.memory),
            show(allowance.pictures),
        );
        if let MicroBatch::Pictures(pictures) = allowance.micro_batch
            && allowance.micro_batch != whole.micro_batch
        {
            note += &format!(", and {pictures} pictures of a batch computed at a time");
        }
        printer.note(format!("{note}, to stay below {}", show(limit)));
    }
    tracing::info!(peak = estimate.peak, limit, "memory");
    Ok(allowance)
}

fn refusal(blueprint: &Blueprint, given: Given<'_>, estimate: &Estimate, limit: usize) -> Failure {
    let show = |bytes: usize| size::show(bytes as u64);
    let mut message = format!(
        "the run needs about {}, but `memory_limit` is {}",
        show(estimate.peak),
        show(limit)
    );
    let mut help = "raise the limit".to_owned();
    if let Some(phase) = estimate.largest() {
        message += &format!(
            "; most in phase `{}`: {} for parameters, {} for the optimizer, {} for a step of {} \
             pictures",
            phase.phase,
            show(phase.parameters),
            show(phase.optimizer),
            show(phase.step),
            given.plan.batch_size
        );
        help = advice(phase);
    }
    Failure {
        exit: Exit::Memory,
        ..blueprint.problem(Problem::new("memory_limit", message).help(help))
    }
}

fn advice(phase: &PhaseMemory) -> String {
    let how = if phase.step > phase.optimizer + phase.parameters {
        "a smaller `train.batch_size`, a smaller `data.image_size` or fewer `threads`"
    } else if phase.optimizer > phase.parameters {
        "freezing more layers, or an optimizer with fewer moments such as `sgd`"
    } else {
        "a smaller backbone"
    };
    format!("raise the limit, or try {how}")
}

/// Bytes that the machine can still give to this process; `None` where that is not known.
pub fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let bytes = kibibytes << 10;
    Some(of_group().map_or(bytes, |group| bytes.min(group)))
}

/// What the control group, that of a container or a batch job, leaves.
fn of_group() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = format!("/sys/fs/cgroup{}", path.trim());
    let read = |file: &str| -> Option<u64> {
        let text = std::fs::read_to_string(format!("{folder}/{file}")).ok()?;
        text.trim().parse().ok()
    };
    Some(read("memory.max")?.saturating_sub(read("memory.current")?))
}
