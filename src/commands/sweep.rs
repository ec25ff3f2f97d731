//! `xp sweep CONFIG...`: many experiments, each in a process of its own, as `make` would: what is done
//! is skipped, what died goes on, what changed is new.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use rayon::prelude::*;

use super::progress::SweepProgress;
use super::table::{self, Table};
use super::trials::{SweepPlan, shown_count};
use super::{Exit, Failure, Printer, compare, interrupt, memory, sweep_page};
use crate::cli::{LauncherName, Shard, SweepArgs};
use crate::config::LauncherConfig;
use crate::fsx::FsError;
use crate::run::{self, RunDir};
use crate::sweep::results::{self, TrialResult};
use crate::sweep::{
    Ended, Launcher, Leaderboard, Pool, Slurm, SweepDir, Trial, Watcher, halving, pool,
};

/// The table of results is written again so often at most, and at the end.
const TABLE_PAUSE: Duration = Duration::from_secs(5);

/// Writing it, and the page, takes one part of so many at most.
const WRITING: u32 = 50;

/// Of the machine's memory, what trials may share.
const MEMORY_SHARE: f64 = 0.9;

/// Runs the command.
pub fn run(args: &SweepArgs, printer: &Printer) -> Result<(), Failure> {
    let plan = SweepPlan::new(args, printer)?;
    check(args, &plan)?;
    let path = plan.runs_dir.join(&plan.name);
    if args.list {
        return list(&SweepDir::at(path), &plan.trials, printer);
    }
    if args.dry_run {
        return dry_run(&plan.trials, printer);
    }
    let sweep = SweepDir::create(path, &plan.trials)?;
    let chosen = share(&plan.trials, args.shard);
    let launcher = launcher(args, &sweep, plan.launcher)?;
    interrupt::watch()?;
    printer.note(format!(
        "sweep directory: {}; {}",
        sweep.path().display(),
        shown_count(chosen.len()),
    ));
    let started = Instant::now();
    let mut live = Live {
        sweep: &sweep,
        trials: &plan.trials,
        progress: SweepProgress::new(*printer, chosen.len()),
        unfinished: BTreeMap::new(),
        written: (Instant::now(), Duration::ZERO),
    };
    let outcomes = match plan.halving {
        Some(halving) => halving::run(&*launcher, halving, &chosen, args.fail_fast, &mut live),
        None => launcher.run(&chosen, None, &mut live),
    };
    live.progress.clear();
    if let Ok(outcomes) = &outcomes {
        for (trial, ended) in chosen.iter().zip(outcomes) {
            live.keep(trial, ended);
        }
    }
    let found = results::read(&sweep, &plan.trials);
    results::write_table(&sweep, &plan.trials, &found, &live.unfinished)?;
    let outcomes = outcomes?;
    printer.note(format!(
        "{}: {} in {}",
        summary(&outcomes),
        sweep.table().display(),
        table::span(started.elapsed().as_secs_f64())
    ));
    say(&live, &found, &chosen, &outcomes, printer)?;
    conclude(&sweep, &chosen, &outcomes)
}

/// Refuses what does not go together.
fn check(args: &SweepArgs, plan: &SweepPlan) -> Result<(), Failure> {
    let (message, help) = match args.launcher {
        _ if plan.halving.is_some() && args.shard.is_some() => (
            "`halving` compares all trials, and `--shard` leaves some of them to others",
            "take one of the two out",
        ),
        LauncherName::Slurm if args.fail_fast => (
            "`--fail-fast` does not reach the jobs of a cluster",
            "leave it out",
        ),
        LauncherName::Local if args.attach => (
            "`--attach` follows jobs of a cluster",
            "name it with `--launcher`",
        ),
        _ => return Ok(()),
    };
    Err(Failure::new(Exit::Config, message).help(help))
}

fn launcher<'a>(
    args: &SweepArgs,
    sweep: &'a SweepDir,
    settings: LauncherConfig,
) -> Result<Box<dyn Launcher + 'a>, Failure> {
    let program = std::env::current_exe()?;
    let jobs = args.jobs.unwrap_or(1);
    Ok(match args.launcher {
        LauncherName::Slurm => Box::new(Slurm {
            sweep,
            program,
            settings: settings.slurm.unwrap_or_default(),
            jobs: args.jobs,
            attach: args.attach,
        }),
        LauncherName::Local => Box::new(Pool {
            sweep,
            program,
            jobs,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: match jobs {
                1 => None,
                _ => memory::available().map(|bytes| (bytes as f64 * MEMORY_SHARE) as u64),
            },
            fail_fast: args.fail_fast,
        }),
    })
}

/// The trials of one machine of several.
fn share(trials: &[Trial], shard: Option<Shard>) -> Vec<&Trial> {
    let Shard { index, count } = shard.unwrap_or(Shard { index: 1, count: 1 });
    trials.iter().skip(index - 1).step_by(count).collect()
}

fn list(sweep: &SweepDir, trials: &[Trial], printer: &Printer) -> Result<(), Failure> {
    let standing: Vec<_> = trials.par_iter().map(|it| sweep.look_at(it)).collect();
    let status = |run: &Option<run::Listed>| match run {
        Some(run) => run.status.name(),
        None => "waiting",
    };
    if printer.json {
        let trials = trials.iter().zip(&standing).map(|(trial, run)| {
            serde_json::json!({
                "trial": trial.id,
                "experiment": trial.name,
                "config": trial.config,
                "settings": trial.settings,
                "status": status(run),
                "run": sweep.run(trial),
            })
        });
        printer.data(serde_json::Value::Array(trials.collect()).to_string());
        return Ok(());
    }
    let mut table = Table::new(&["trial", "status", ">val %", ">test %", "settings"]);
    for (trial, run) in trials.iter().zip(&standing) {
        let run_or =
            |value: fn(&run::Listed) -> Option<f64>| table::percent(run.as_ref().and_then(value));
        table.row([
            trial.id.clone(),
            status(run).to_owned(),
            run_or(|run| run.val_accuracy),
            run_or(|run| run.test_accuracy),
            trial.shown(),
        ]);
    }
    for line in table.lines(printer.width()) {
        printer.data(line);
    }
    Ok(())
}

/// Checks every trial as `xp run --dry-run` does, in a process of its own.
fn dry_run(trials: &[Trial], printer: &Printer) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let mut bad = 0;
    for trial in trials {
        let path = folder.path().join(format!("{}.toml", trial.id));
        std::fs::write(&path, &trial.resolved).map_err(FsError::at("write", &path))?;
        let mut command = pool::command(&std::env::current_exe()?, &path);
        let output = command
            .args(["--dry-run", "--json"])
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let answer: serde_json::Value = match output.status.success() {
            true => serde_json::from_slice(&output.stdout).unwrap_or_default(),
            false => {
                bad += 1;
                let last = said.lines().next_back().unwrap_or_default();
                serde_json::from_str(last).unwrap_or_else(|_| serde_json::json!({ "error": said }))
            }
        };
        if printer.json {
            let answer = serde_json::json!({
                "trial": trial.id,
                "settings": trial.settings,
                "ok": output.status.success(),
                "answer": answer,
            });
            printer.data(answer.to_string());
            continue;
        }
        let verdict = match answer["error"].as_str() {
            Some(error) => format!("error: {error}"),
            None => "ok".into(),
        };
        printer.data(format!("{}  {}  {verdict}", trial.id, trial.shown()));
    }
    match bad {
        0 => Ok(()),
        bad => Err(Failure::new(
            Exit::Trials,
            format!("{} of {} would not run", bad, shown_count(trials.len())),
        )),
    }
}

/// Keeps the terminal and the table up to date.
struct Live<'a> {
    sweep: &'a SweepDir,
    trials: &'a [Trial],
    progress: SweepProgress,
    unfinished: BTreeMap<String, Ended>,
    /// When table and page were written last (at first, when the sweep began), and how long that took.
    written: (Instant, Duration),
}

impl Live<'_> {
    /// Writes table and page.
    fn write(&self) -> Result<(), Failure> {
        let found = results::read(self.sweep, self.trials);
        results::write_table(self.sweep, self.trials, &found, &self.unfinished)?;
        let boards = Leaderboard::of(found.iter().flatten());
        sweep_page::write(self.sweep, self.trials, &found, &self.unfinished, &boards)
    }

    /// Keeps for the table how a trial stands.
    fn keep(&mut self, trial: &Trial, ended: &Ended) {
        self.unfinished.remove(&trial.id);
        // Of what has not begun or goes on somewhere the run directory tells.
        if matches!(ended, Ended::Failed(_) | Ended::Paused | Ended::Interrupted) {
            self.unfinished.insert(trial.id.clone(), ended.clone());
        }
    }
}

impl Watcher for Live<'_> {
    fn ended(&mut self, trial: &Trial, ended: &Ended) {
        let run = self.sweep.look_at(trial);
        self.keep(trial, ended);
        self.progress.trial_ended(trial, ended, run.as_ref());
        let (written, took) = self.written;
        if written.elapsed() > TABLE_PAUSE.max(WRITING * took) {
            let started = Instant::now();
            if let Err(failure) = self.write() {
                self.progress.warning(&failure.message);
            }
            self.written = (Instant::now(), started.elapsed());
        }
    }

    fn passed(&mut self, running: &[&Trial], waiting: usize) {
        self.progress.passed(running, waiting, |trial| {
            RunDir::open(&self.sweep.run(trial))
                .and_then(|run| run.metrics())
                .ok()
                .and_then(|log| log.rows.last().cloned())
        });
    }

    fn note(&mut self, message: &str) {
        self.progress.note(message);
    }

    fn stop(&self) -> bool {
        interrupt::asked()
    }
}

/// `10 done, 2 failed`.
fn summary(outcomes: &[Ended]) -> String {
    let mut counts: IndexMap<&str, usize> = IndexMap::new();
    for ended in outcomes {
        *counts.entry(ended.name()).or_default() += 1;
    }
    let parts = counts.iter().map(|(name, count)| format!("{count} {name}"));
    parts.collect::<Vec<_>>().join(", ")
}

/// The leaderboard, or with `--json` all there is to say.
fn say(
    live: &Live<'_>,
    found: &[Option<TrialResult>],
    chosen: &[&Trial],
    outcomes: &[Ended],
    printer: &Printer,
) -> Result<(), Failure> {
    let sweep = live.sweep;
    let boards = Leaderboard::of(found.iter().flatten());
    let title = sweep.path().file_name().unwrap_or_default();
    let drawn = compare::draw_settings(
        &title.to_string_lossy(),
        &boards,
        found.iter().flatten(),
        &sweep.picture(),
    );
    let drawn = drawn
        .and_then(|()| sweep_page::write(sweep, live.trials, found, &live.unfinished, &boards));
    if let Err(failure) = drawn {
        printer.warning(failure.message);
    }
    if !printer.json {
        compare::print(&boards, printer);
        return Ok(());
    }
    let trials = chosen.iter().zip(outcomes).map(|(trial, ended)| {
        serde_json::json!({
            "trial": trial.id,
            "settings": trial.settings,
            "status": ended.name(),
            "reason": ended.reason(),
            "run": sweep.run(trial),
        })
    });
    let answer = serde_json::json!({
        "sweep": sweep.path(),
        "table": sweep.table(),
        "trials": trials.collect::<Vec<_>>(),
        "leaderboards": boards,
    });
    printer.data(answer.to_string());
    Ok(())
}

fn conclude(sweep: &SweepDir, chosen: &[&Trial], outcomes: &[Ended]) -> Result<(), Failure> {
    let failed = outcomes.iter().zip(chosen).filter_map(|it| match it {
        (Ended::Failed(reason), trial) => Some((reason, trial)),
        _ => None,
    });
    let failed: Vec<_> = failed.collect();
    if let Some((reason, trial)) = failed.first() {
        let message = format!(
            "{} of {} failed; the first: {} ({}): {reason}",
            failed.len(),
            shown_count(outcomes.len()),
            trial.id,
            trial.shown()
        );
        let log = sweep.log(trial);
        let help = format!(
            "see `{}`; the same command tries again what is not done",
            log.display()
        );
        return Err(Failure::new(Exit::Trials, message).help(help));
    }
    let stopped =
        |it: &&Ended| matches!(it, Ended::Interrupted | Ended::Waiting | Ended::Elsewhere);
    match outcomes.iter().filter(stopped).count() {
        0 => Ok(()),
        count => {
            let message = format!("interrupted; {} not done yet", shown_count(count));
            Err(Failure::new(Exit::Interrupted, message).help("the same command goes on"))
        }
    }
}
