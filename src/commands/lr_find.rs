//! `xp lr-find CONFIG`: the learning-rate range test of a phase, and the rate that it suggests.

use std::path::Path;

use serde_json::{Value, json};

use super::blueprint::Blueprint;
use super::experiment::{self, Prepared};
use super::progress::Progress;
use super::restored::Restored;
use super::table::Table;
use super::{Exit, Failure, Printer, network, run};
use crate::cli::LrFindArgs;
use crate::engine::params::Params;
use crate::fsx;
use crate::graph::nearest::did_you_mean;
use crate::ranks::Ranks;
use crate::report::{self, RateMark};
use crate::train::observer::{
    Evaluated, FeatureProgress, FeaturesReady, Observer, ObserverError, PhaseStarted, StepTaken,
};
use crate::train::phase::Plan;
use crate::train::position::Snapshot;
use crate::train::range::{End, RangeTest, Sweep, range_test};
use crate::train::suggest::{Nothing, Rule, Suggestion, Suggestions, suggest};

/// Runs the command.
pub fn run(args: &LrFindArgs, printer: &Printer) -> Result<(), Failure> {
    let sweep = sweep(args)?;
    let blueprint = Blueprint::load(&args.config.config, &args.config.sets, printer)?;
    let phase = phase(&blueprint, &args.phase)?;
    let prepared = Prepared::new(blueprint, &Ranks::alone(), printer)?;
    let params = weights(&prepared, phase, args.from_run.as_deref(), printer)?;
    run::say_data(&prepared.dataset, printer);
    let test = test(&prepared, phase, params, sweep, printer)?;
    let answer = Answer {
        args,
        name: &prepared.blueprint.loaded.experiment.name,
        phase: (phase, prepared.plan.phases[phase].name.as_str()),
        suggestions: suggest(&test, sweep),
        test,
        sweep,
    };
    if printer.json {
        printer.data(format!("{:#}", answer.json()));
    } else {
        for line in answer.lines() {
            printer.data(line);
        }
    }
    // Last, as this alone may fail of a mistyped folder.
    fsx::write_atomic(&args.out, &answer.drawn()?)?;
    answer.conclude()
}

fn sweep(args: &LrFindArgs) -> Result<Sweep, Failure> {
    if args.from < args.to {
        return Ok(Sweep {
            from: args.from,
            to: args.to,
            steps: args.steps,
        });
    }
    let message = format!(
        "the rates rise from `--from` to `--to`, and {} is not below {}",
        exact(args.from),
        exact(args.to)
    );
    Err(Failure::new(Exit::Config, message).help("give a lower `--from` or a higher `--to`"))
}

/// The phase of that name, or with that number.
fn phase(blueprint: &Blueprint, wanted: &str) -> Result<usize, Failure> {
    let names: Vec<&str> = blueprint.phases.iter().map(|it| it.name.as_str()).collect();
    let by_name = names.iter().position(|name| *name == wanted);
    let by_number = || {
        wanted
            .parse::<usize>()
            .ok()
            .filter(|index| *index < names.len())
    };
    by_name.or_else(by_number).ok_or_else(|| {
        let help = did_you_mean(wanted, names.iter().copied()).unwrap_or_else(|| {
            let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("the phases are {}, numbered from 0", quoted.join(", "))
        });
        Failure::new(Exit::Config, format!("there is no phase `{wanted}`")).help(help)
    })
}

/// What the test starts from: a run's weights, or those that a run of the configuration begins with.
fn weights(
    prepared: &Prepared,
    phase: usize,
    from: Option<&Path>,
    printer: &Printer,
) -> Result<Params, Failure> {
    let blueprint = &prepared.blueprint;
    let Some(run) = from else {
        let initial = network::initial(blueprint, &blueprint.device, printer)?;
        if let Some(note) = initial.note {
            printer.note(note);
        }
        if phase > 0 {
            printer.note(format!(
                "phase `{}` is tested from the pretrained weights and a new head, not from where \
                 the phases before it leave them; `--from-run RUN` starts from a run's",
                prepared.plan.phases[phase].name
            ));
        }
        return Ok(initial.params);
    };
    let model = Restored::open(run)?;
    if model.flavour != blueprint.flavour {
        let message = format!(
            "`{}` has another convention of padding and batch norm than this configuration's weights",
            model.path.display()
        );
        let help = "give a run that began with the same weights";
        return Err(Failure::new(Exit::Config, message).help(help));
    }
    let mut params = Params::initialise(&blueprint.graph, prepared.plan.seed, &blueprint.device)?;
    let names: Vec<String> = params.iter().map(|(name, _)| name.to_owned()).collect();
    for name in names {
        let value = model.params.get(&name).map(|param| param.value.clone());
        let fits = value.is_some_and(|value| params.set(&name, value).is_ok());
        if !fits {
            let message = format!(
                "`{}` is the model of another network: it has no `{name}` of these dimensions",
                model.path.display()
            );
            let help = "give a run of this configuration, or of one with the same `[model]`";
            return Err(Failure::new(Exit::Config, message).help(help));
        }
    }
    printer.note(format!("weights: {}", model.path.display()));
    Ok(params)
}

fn test(
    prepared: &Prepared,
    phase: usize,
    params: Params,
    sweep: Sweep,
    printer: &Printer,
) -> Result<RangeTest, Failure> {
    let blueprint = &prepared.blueprint;
    let params = params.on(prepared.gpu.clone());
    let allowance = prepared.allowance(&params, printer)?;
    let plan = Plan {
        micro_batch: Some(allowance.micro_batch),
        ..prepared.plan.clone()
    };
    let feed = experiment::feed(blueprint, &prepared.dataset, allowance.pictures);
    let feed = feed.with_waiting(allowance.waiting);
    let mut bank = experiment::bank(
        blueprint,
        allowance.features.memory,
        &Ranks::alone(),
        printer,
    );
    let mut shown = Shown(Progress::new(*printer, None));
    let (network, plan) = ((&blueprint.graph, params), (&plan, phase));
    let test = range_test(network, plan, sweep, &feed, &mut bank, &mut shown);
    shown.0.clear();
    Ok(test?)
}

/// Shows where the test stands. A signal ends it at once: it leaves nothing to go on from.
struct Shown(Progress);

impl Observer for Shown {
    fn phase_started(&mut self, event: PhaseStarted<'_>) {
        self.0.phase_started(event);
    }

    fn features(&mut self, event: FeatureProgress) {
        self.0.features(event);
    }

    fn features_ready(&mut self, event: FeaturesReady<'_>) {
        self.0.features_ready(event);
    }

    fn warning(&mut self, message: &str) {
        self.0.warning(message);
    }

    fn step(&mut self, event: StepTaken<'_>) {
        self.0.step(event);
    }

    fn evaluated(&mut self, _: Evaluated<'_>) -> Result<(), ObserverError> {
        Ok(())
    }

    fn save(&mut self, _: Snapshot<'_>) -> Result<(), ObserverError> {
        Ok(())
    }

    fn stopped_early(&mut self, _: &str, _: usize, _: u64) {}
}

struct Answer<'a> {
    args: &'a LrFindArgs,
    /// The experiment's.
    name: &'a str,
    phase: (usize, &'a str),
    sweep: Sweep,
    test: RangeTest,
    suggestions: Result<Suggestions, Nothing>,
}

impl Answer<'_> {
    fn lines(&self) -> Vec<String> {
        let out = self.args.out.display();
        let Ok(found) = &self.suggestions else {
            return vec![format!("{out}: {}", self.steps())];
        };
        let mut table = Table::new(&["suggestion", ">rate", ">loss", "what it is"]);
        for Suggestion { rule, lr, loss } in found.all {
            let (rule, meaning) = (rule.name().to_owned(), rule.meaning().to_owned());
            table.row([rule, short(lr), format!("{loss:.3}"), meaning]);
        }
        let mut lines = table.lines(None);
        lines.extend([String::new(), self.recommendation(found)]);
        if found.still_falling {
            lines.push(format!(
                "the loss still falls at {}: a higher `--to` may suggest a higher rate",
                exact(self.sweep.to)
            ));
        }
        lines.push(format!("    --set {}", self.set(found)));
        lines.push(format!("{out}: {}", self.steps()));
        lines
    }

    /// What was tried, and how it ended.
    fn steps(&self) -> String {
        let Sweep { from, to, steps } = self.sweep;
        let last = self.test.points.last().map_or(from, |point| point.lr);
        let end = match self.test.end {
            End::Through => String::new(),
            End::Diverged => format!(", diverged at {}", short(last)),
            End::NonFinite => format!(", no finite number after {}", short(last)),
        };
        format!("{steps} steps from {} to {}{end}", exact(from), exact(to))
    }

    fn recommendation(&self, found: &Suggestions) -> String {
        let why = match found.recommended {
            Rule::TenthOfMinimum => {
                "the middle of the descent is closer to where the loss goes up again"
            }
            _ => "the loss falls all around it, and what makes it diverge is far away",
        };
        let lr = found.by(found.recommended).lr;
        format!(
            "recommended: {} ({}), as {why}",
            short(lr),
            found.recommended.name()
        )
    }

    fn set(&self, found: &Suggestions) -> String {
        let lr = short(found.by(found.recommended).lr);
        format!("phase[{}].optimizer.lr={lr}", self.phase.0)
    }

    fn json(&self) -> Value {
        let found = self.suggestions.as_ref().ok();
        let (index, name) = self.phase;
        json!({
            "phase": { "index": index, "name": name },
            "from": self.sweep.from,
            "to": self.sweep.to,
            "steps": self.sweep.steps,
            "end": self.test.end,
            "suggestions": found.map_or_else(Vec::new, |found| found.all.to_vec()),
            "recommended": found.map(|found| found.by(found.recommended)),
            "still_falling": found.map(|found| found.still_falling),
            "set": found.map(|found| self.set(found)),
            "points": self.test.points,
            "picture": self.args.out.display().to_string(),
        })
    }

    fn drawn(&self) -> Result<Vec<u8>, Failure> {
        let points = self.test.points.iter();
        let points: Vec<_> = points
            .map(|point| [point.lr, point.loss, point.smoothed])
            .collect();
        let found = self.suggestions.as_ref().ok();
        let marks = found.into_iter().flat_map(|found| {
            found.all.iter().map(move |it| RateMark {
                name: format!("{} {}", it.rule.name(), short(it.lr)),
                lr: it.lr,
                loss: it.loss,
                recommended: it.rule == found.recommended,
            })
        });
        let title = format!("{}, phase `{}`", self.name, self.phase.1);
        let marks: Vec<RateMark> = marks.collect();
        let titles = (title.as_str(), self.steps());
        Ok(report::rates((titles.0, &titles.1), &points, &marks).png()?)
    }

    /// A curve that suggests nothing is a failure that says what to do.
    fn conclude(self) -> Result<(), Failure> {
        let nothing = match self.suggestions {
            Ok(_) => return Ok(()),
            Err(nothing) => nothing,
        };
        let [from, to] = [self.sweep.from, self.sweep.to].map(exact);
        let (message, help) = match nothing {
            Nothing::TooShort(last) => (
                format!(
                    "nothing can be suggested: the test ended at {}",
                    short(last)
                ),
                format!(
                    "start lower than {from} with `--from`, or take smaller steps with `--steps`; \
                     `clip_norm` in the phase tames gradients"
                ),
            ),
            Nothing::Rises(last) => (
                format!(
                    "nothing can be suggested: the loss does not fall before it rises at {}",
                    short(last)
                ),
                format!(
                    "start lower than {from} with `--from`, or take more `--steps`; if that \
                     changes nothing, see that pictures and labels belong together (`xp data`)"
                ),
            ),
            Nothing::Flat(fall) => (
                format!(
                    "nothing can be suggested: from {from} to {to} the loss falls by {:.1} % at \
                     most",
                    100.0 * fall
                ),
                "go higher with `--to`, or take more `--steps`; if that changes nothing, see what \
                 the phase trains (`xp summary`) and that pictures and labels belong together \
                 (`xp data`)"
                    .into(),
            ),
        };
        Err(Failure::new(Exit::Other, message).help(help))
    }
}

/// A rate that was found: two digits are what it is worth.
fn short(rate: f64) -> String {
    format!("{rate:.1e}")
}

/// A rate that was given.
fn exact(rate: f64) -> String {
    match (1e-3..1e4).contains(&rate) {
        true => rate.to_string(),
        false => format!("{rate:e}"),
    }
}
