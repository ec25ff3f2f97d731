//! From configurations to the trials of a sweep, every one of them loaded and checked.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use rayon::prelude::*;

use super::blueprint::Blueprint;
use super::failure::Reports;
use super::{Exit, Failure, Printer, compare};
use crate::cli::SweepArgs;
use crate::config::{
    self, Diagnostic, Halving, LauncherConfig, Loaded, Located, Problem, SweepConfig, SweepFile,
};
use crate::sweep::axes::{self, Setting};
use crate::sweep::condition::EXAMPLE;
use crate::sweep::{Condition, Trial};

/// The trials that the arguments stand for.
#[derive(Debug)]
pub struct SweepPlan {
    /// Name of the sweep's folder.
    pub name: String,
    /// Where that lies.
    pub runs_dir: PathBuf,
    /// The trials, each of them once.
    pub trials: Vec<Trial>,
    /// Whether weaker ones are given up.
    pub halving: Option<Halving>,
    /// What may run them.
    pub launcher: LauncherConfig,
}

impl SweepPlan {
    /// Loads and checks every experiment.
    ///
    /// # Errors
    /// With all problems of all of them.
    pub fn new(args: &SweepArgs, printer: &Printer) -> Result<Self, Failure> {
        let mut found: IndexMap<String, Trial> = IndexMap::new();
        let mut problems = Reports::default();
        let mut runs_dir = None;
        let mut halving = None;
        let mut launcher = LauncherConfig::default();
        let mut twice = 0;
        for path in &args.configs {
            let changes = Changes {
                sets: &args.sets,
                axes: &args.axes,
                seeds: args.seeds,
                skip: &args.skip,
            };
            let (source, _) = Source::read(path, changes)?;
            halving = halving.or(source.sweep.halving);
            launcher.slurm = launcher.slurm.or(source.launcher.slurm.clone());
            let loaded = problems.sift([source.load()])?;
            for (trial, its_runs_dir, warnings) in loaded.into_iter().flatten() {
                if found.is_empty() {
                    printer.config_warnings(&warnings);
                    runs_dir = its_runs_dir;
                }
                twice += usize::from(found.insert(trial.id.clone(), trial).is_some());
            }
        }
        problems.conclude()?;
        if twice > 0 {
            printer.note(format!(
                "{} would be the same as another",
                shown_count(twice)
            ));
        }
        let trials: Vec<Trial> = found.into_values().collect();
        let Some(first) = trials.first() else {
            let message = "the conditions of `skip` leave no experiment";
            return Err(Failure::new(Exit::Config, message));
        };
        let name = match (&args.name, args.configs.as_slice()) {
            (Some(name), _) => name.clone(),
            (None, [_]) => first.name.clone(),
            (None, _) => "sweep".into(),
        };
        if name.is_empty() || Path::new(&name).components().count() != 1 || name.starts_with('.') {
            let message = format!("`{name}` is not the name of a folder");
            return Err(Failure::new(Exit::Config, message).help("give another `--name`"));
        }
        Ok(Self {
            name,
            runs_dir: runs_dir.unwrap_or_else(|| "runs".into()),
            trials,
            halving,
            launcher,
        })
    }
}

/// What the command line changes about the files of a sweep.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changes<'a> {
    /// `--set`.
    pub sets: &'a [String],
    /// `--axis`.
    pub axes: &'a [String],
    /// `--seeds`.
    pub seeds: Option<u64>,
    /// `--skip`.
    pub skip: &'a [String],
}

/// The number of experiments that a file with a `[sweep]` stands for, all of them checked; `None` of
/// one without.
///
/// # Errors
/// With all problems of all of them.
pub fn checked(path: &Path, sets: &[String]) -> Result<Option<usize>, Failure> {
    let changes = Changes {
        sets,
        ..Changes::default()
    };
    let (source, has_sweep) = Source::read(path, changes)?;
    has_sweep.then(|| Ok(source.load()?.len())).transpose()
}

/// A file, with its axes and those of the command line.
struct Source<'a> {
    path: &'a Path,
    sets: &'a [String],
    sweep: SweepConfig,
    launcher: LauncherConfig,
    located: Located,
    skip: Vec<Condition>,
}

type LoadedTrial = (Trial, Option<PathBuf>, Vec<Diagnostic>);

impl<'a> Source<'a> {
    /// Reads a file's `[sweep]`, and says whether it has one.
    fn read(path: &'a Path, changes: Changes<'a>) -> Result<(Self, bool), Failure> {
        let SweepFile {
            sweep,
            launcher,
            located,
        } = config::load_sweep(path, changes.sets)?;
        let has_sweep = sweep.is_some();
        let mut sweep = sweep.unwrap_or_default();
        let flat = axes::flat(&sweep.axes);
        sweep.axes = flat.map_err(|problem| located.report(&[problem]))?;
        for axis in changes.axes {
            let (key, values) = parse_axis(axis).map_err(|reason| {
                let message = format!("`--axis {axis}`: {reason}");
                Failure::new(Exit::Config, message)
                    .help("for example `--axis 'train.batch_size=[16, 32]'`")
            })?;
            sweep.axes.insert(key, values);
        }
        sweep.seeds = changes.seeds.or(sweep.seeds);
        let mut skip = Vec::new();
        for (index, text) in sweep.skip.iter().enumerate() {
            let key = format!("sweep.skip[{index}]");
            let condition = Condition::parse(text).map_err(|reason| {
                let problem = Problem::new(key, format!("this is no condition: {reason}"));
                located.report(&[problem.help(EXAMPLE)])
            })?;
            skip.push(condition);
        }
        for text in changes.skip {
            skip.push(compare::condition("--skip", text)?);
        }
        let source = Self {
            path,
            sets: changes.sets,
            sweep,
            launcher,
            located,
            skip,
        };
        Ok((source, has_sweep))
    }

    /// Loads and checks every experiment; fails with all problems.
    fn load(&self) -> Result<Vec<LoadedTrial>, Failure> {
        let combinations = axes::combinations(&self.sweep);
        let combinations = combinations.map_err(|problem| self.located.report(&[problem]))?;
        let seeds: Vec<u64> = match self.sweep.seeds {
            None => Vec::new(),
            Some(count) => {
                // Axes do not set it. Where nothing loads, that is the problem.
                let mut loaded = combinations.iter().map(|it| self.load_one(it));
                let first = loaded.find_map(|it| Some(it.ok()?.experiment.seed));
                let first = first.unwrap_or_default();
                (0..count).map(|index| first.wrapping_add(index)).collect()
            }
        };
        axes::check_count(combinations.len(), seeds.len().max(1))
            .map_err(|problem| self.located.report(&[problem]))?;
        let all: Vec<Vec<Setting>> = combinations
            .into_iter()
            .flat_map(|settings| {
                let seeded = seeds.iter().map(|&seed| {
                    let mut settings = settings.clone();
                    settings.push(Setting {
                        key: "seed".into(),
                        value: toml::Value::Integer(seed.cast_signed()),
                    });
                    settings
                });
                let seeded: Vec<Vec<Setting>> = seeded.collect();
                match seeded.is_empty() {
                    true => vec![settings],
                    false => seeded,
                }
            })
            .collect();
        let loaded: Vec<(Result<Loaded, Failure>, Vec<Setting>)> = all
            .into_par_iter()
            .map(|settings| (self.load_one(&settings), settings))
            .collect();
        let mut problems = Reports::default();
        // Combinations that make no sense are what conditions are for.
        let wanted = loaded
            .into_iter()
            .filter(|(loaded, settings)| loaded.is_ok() || !self.is_skipped(settings));
        let good = problems.sift(wanted.map(|(loaded, settings)| Ok((loaded?, settings))))?;
        let checked: Vec<Result<LoadedTrial, Failure>> = self
            .without_skipped(good)?
            .into_par_iter()
            .map(|(loaded, settings)| {
                let trial = Trial::new(self.path.to_path_buf(), &loaded, &settings);
                let (runs_dir, warnings) =
                    (loaded.experiment.runs_dir.clone(), loaded.warnings.clone());
                Blueprint::from_loaded(loaded)?;
                Ok((trial, runs_dir, warnings))
            })
            .collect();
        let trials = problems.sift(checked)?;
        problems.conclude()?;
        Ok(trials)
    }

    fn load_one(&self, settings: &[Setting]) -> Result<Loaded, Failure> {
        Ok(config::load_trial(self.path, self.sets, &values(settings))?)
    }

    /// Whether a condition holds of values that need not fit.
    fn is_skipped(&self, settings: &[Setting]) -> bool {
        let raw = config::raw_trial(self.path, self.sets, &values(settings));
        raw.is_some_and(|raw| self.skip.iter().any(|condition| condition.holds(&raw)))
    }

    /// What no condition leaves out. A key that no experiment has is a mistake.
    fn without_skipped(
        &self,
        loaded: Vec<(Loaded, Vec<Setting>)>,
    ) -> Result<Vec<(Loaded, Vec<Setting>)>, Failure> {
        if self.skip.is_empty() {
            return Ok(loaded);
        }
        let facts: Vec<serde_json::Value> = loaded
            .iter()
            .map(|(loaded, _)| serde_json::to_value(&loaded.experiment).unwrap_or_default())
            .collect();
        compare::check_keys(&self.skip, &facts)?;
        let kept = loaded
            .into_iter()
            .zip(&facts)
            .filter_map(|(loaded, facts)| {
                let skipped = self.skip.iter().any(|condition| condition.holds(facts));
                (!skipped).then_some(loaded)
            });
        Ok(kept.collect())
    }
}

/// Settings as a configuration takes them, `key=value` each.
fn values(settings: &[Setting]) -> Vec<String> {
    let values = settings.iter();
    let values = values.map(|Setting { key, value }| format!("{key}={value}"));
    values.collect()
}

/// `KEY=VALUES` of `--axis`.
fn parse_axis(text: &str) -> Result<(String, toml::Value), String> {
    // The first `=` outside of quotes; keys rarely have any.
    let (key, values) = text.split_once('=').ok_or("it has no `=`")?;
    let key = config::canonical(key)?;
    let table: toml::Table = toml::from_str(&format!("values = {}", values.trim()))
        .map_err(|error| error.message().to_owned())?;
    let values = table.into_iter().next().map(|(_, values)| values);
    Ok((key, values.ok_or("it has no values")?))
}

/// `12 trials`.
pub fn shown_count(trials: usize) -> String {
    match trials {
        1 => "1 trial".into(),
        trials => format!("{trials} trials"),
    }
}
