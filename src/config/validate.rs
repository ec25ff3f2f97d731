//! What the values of a configuration must mean together, beyond the shape of each.

use super::diagnose::{Problem, Severity};
use super::schema::*;
use super::size;
use super::suggest;
use super::validate_head::logits;
use crate::precision::Precision;

/// Names become part of file names.
const LONGEST_NAME: usize = 100;

/// What to do about a key that needs validation pictures.
const GIVE_VALIDATION: &str = "take it out, or give `data.split.val` a share";

/// A problem and how bad it is.
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) problem: Problem,
}

/// All contradictions; `level` tells how high the layer is in which the user set a key.
pub(super) fn check<L: PartialOrd>(
    experiment: &Experiment,
    level: impl Fn(&str) -> Option<L>,
) -> Vec<Finding> {
    let mut found = Findings::default();
    found.top(experiment);
    found.data(&experiment.data);
    found.model(&experiment.model);
    found.train(experiment, |key| level(key).is_some());
    found.phases(experiment);
    found.augment_in_phases(experiment);
    found.cache(&experiment.cache);
    found.tracking(&experiment.tracking);
    for Idle {
        key,
        because,
        message,
        help,
    } in idle(experiment)
    {
        // What a lower layer says is overruled; only beside the cause or above it is it a mistake.
        if level(key).is_some() && level(key) >= level(because) {
            found.error(key, message, help);
        }
    }
    found.0
}

/// Takes out what a higher layer overrules by another key than its own.
pub(super) fn overrule<L: PartialOrd>(
    experiment: &mut Experiment,
    level: impl Fn(&str) -> Option<L>,
) {
    super::validate_data::overrule(&mut experiment.data, level);
}

/// A key that has no effect.
pub(super) struct Idle {
    pub(super) key: &'static str,
    /// The key that takes the effect away.
    pub(super) because: &'static str,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// The keys that other keys leave without effect, whether the user set them or not.
pub(super) fn idle(experiment: &Experiment) -> Vec<Idle> {
    let data = &experiment.data;
    let mut found = Vec::new();
    found.extend(super::validate_data::idle(data));
    if no_validation(&data.split) {
        found.push(Idle {
            key: "train.best",
            because: "data.split.val",
            message: needs_validation("train.best"),
            help: GIVE_VALIDATION,
        });
    }
    found
}

fn no_validation(split: &SplitConfig) -> bool {
    matches!(split.by, SplitBy::Ratio | SplitBy::Hash) && split.val == 0.0
}

fn needs_validation(key: &str) -> String {
    format!("`{key}` needs validation pictures, but `data.split.val` is 0")
}

#[derive(Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn error(&mut self, key: impl Into<String>, message: impl Into<String>, help: &str) {
        self.push(Severity::Error, key.into(), message.into(), help);
    }

    pub(super) fn warning(
        &mut self,
        key: impl Into<String>,
        message: impl Into<String>,
        help: &str,
    ) {
        self.push(Severity::Warning, key.into(), message.into(), help);
    }

    fn push(&mut self, severity: Severity, key: String, message: String, help: &str) {
        let problem = Problem::new(key, message).help(help);
        self.0.push(Finding { severity, problem });
    }

    fn top(&mut self, experiment: &Experiment) {
        self.name("name", &experiment.name);
        let device = experiment.device.as_str();
        let number = device.strip_prefix("cuda:").map(str::parse::<u16>);
        let known = ["auto", "cpu", "cuda", "metal"];
        if !known.contains(&device) && !matches!(number, Some(Ok(_))) {
            let help = match suggest::nearest(device, &known) {
                Some(near) => format!("did you mean `\"{near}\"`?"),
                None => {
                    "write `\"auto\"`, `\"cpu\"`, `\"cuda\"`, `\"cuda:0\"` or `\"metal\"`".into()
                }
            };
            self.error("device", format!("there is no device `{device}`"), &help);
        }
        let rounded = experiment.precision.filter(|it| *it != Precision::F32);
        if let (Some(precision), "cpu") = (rounded, device) {
            let message = format!("the CPU does not compute in `{}`", precision.name());
            let help = "leave `precision` out, or name a GPU as `device`";
            self.error("precision", message, help);
        }
        if let Some(limit) = &experiment.memory_limit {
            self.size("memory_limit", limit);
        }
        if experiment
            .runs_dir
            .as_ref()
            .is_some_and(|dir| dir.as_os_str().is_empty())
        {
            let help = "leave it out for `runs` in the current directory";
            self.error("runs_dir", "`runs_dir` is empty", help);
        }
    }

    fn size(&mut self, key: &str, text: &str) {
        if size::parse(text).is_none() {
            let message = format!("`{key}` is no size: `{text}`");
            self.error(key, message, size::EXAMPLES);
        }
    }

    fn cache(&mut self, cache: &CacheConfig) {
        self.size("cache.memory", &cache.memory);
        self.size("cache.max_size", &cache.max_size);
        if cache
            .dir
            .as_ref()
            .is_some_and(|dir| dir.as_os_str().is_empty())
        {
            let help = "leave it out for the user's cache directory, or set `disk = false`";
            self.error("cache.dir", "`cache.dir` is empty", help);
        }
    }

    fn tracking(&mut self, tracking: &TrackingConfig) {
        const EXAMPLE: &str =
            "write `\"http://localhost:5000\"` for a tracking server, or `\"mlruns\"` for a folder";
        match tracking.mlflow.as_deref() {
            Some("") => self.error("tracking.mlflow", "`tracking.mlflow` is empty", EXAMPLE),
            Some(text) if text.contains("://") && !is_server(text) => {
                let message = format!("`{text}` is no address that runs can be sent to");
                self.error("tracking.mlflow", message, EXAMPLE);
            }
            _ => {}
        }
        match tracking.experiment.as_deref() {
            Some("") => {
                let help = "leave it out to take the experiment's name";
                self.error(
                    "tracking.experiment",
                    "`tracking.experiment` is empty",
                    help,
                );
            }
            Some(_) if tracking.mlflow.is_none() => {
                let message = "`tracking.experiment` does nothing without `tracking.mlflow`";
                self.warning("tracking.experiment", message, EXAMPLE);
            }
            _ => {}
        }
    }

    pub(super) fn name(&mut self, key: impl Into<String>, name: &str) {
        let key = key.into();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() {
            self.error(&key, format!("`{key}` is empty"), "give it a name");
        } else if let Some(c) = name.chars().find(|&c| !allowed(c)) {
            let message = format!("`{key}` contains {c:?}");
            self.error(&key, message, "use letters, digits, `_`, `-` and `.`");
        } else if name.starts_with(['.', '-']) {
            let message = format!("`{key}` starts with `{}`", &name[..1]);
            self.error(&key, message, "start with a letter or a digit");
        } else if name.len() > LONGEST_NAME {
            let message = format!("`{key}` has {} characters", name.len());
            self.error(&key, message, &format!("use at most {LONGEST_NAME}"));
        }
    }

    fn train(&mut self, experiment: &Experiment, given: impl Fn(&str) -> bool) {
        let train = &experiment.train;
        let outputs = logits(&experiment.model.head).map(|at| match experiment.model.head[at] {
            HeadLayer::Dense(layer) => layer.dense,
            HeadLayer::Conv2d(layer) => layer.conv2d,
            _ => 0,
        });
        match (train.loss, outputs) {
            (Loss::BinaryCrossEntropy, Some(outputs)) if outputs > 1 => {
                let message =
                    format!("binary cross entropy needs one output, but the head has {outputs}");
                let help = "set `{ dense = 1 }`, or `loss = \"auto\"`";
                self.error("train.loss", message, help);
            }
            (Loss::CategoricalCrossEntropy, Some(1)) => {
                let message =
                    "categorical cross entropy needs one output a class, but the head has 1";
                self.error(
                    "train.loss",
                    message,
                    "set `dense` to the number of classes, or `loss = \"auto\"`",
                );
            }
            _ => {}
        }
        if let Some(ClassWeights::ByName(weights)) = &train.class_weights {
            for (class, weight) in weights {
                let key = super::path::show(&[
                    super::path::Segment::key("train"),
                    super::path::Segment::key("class_weights"),
                    super::path::Segment::key(class),
                ]);
                if *weight < 0.0 {
                    let message = format!("`{key}` must not be negative, but it is {weight}");
                    self.error(key, message, "a class of weight 0 does not count at all");
                }
            }
        }
        for key in ["train.early_stopping", "train.eval_batches"] {
            if no_validation(&experiment.data.split) && given(key) {
                self.error(key, needs_validation(key), GIVE_VALIDATION);
            }
        }
        let balanced = ClassWeights::Rule(ClassWeightRule::Balanced);
        if train.sampling == Sampling::Balanced && train.class_weights == Some(balanced) {
            let message =
                "rare classes are made up for twice: by `sampling` and by `class_weights`";
            self.warning("train.sampling", message, "keep one of the two");
        }
        let trains_norms = |phase: &PhaseConfig| phase.bn == Some(BatchNormMode::Train);
        if train
            .micro_batch
            .is_some_and(|pictures| pictures >= train.batch_size)
        {
            let message = format!(
                "`train.micro_batch` does nothing: a batch has {} pictures",
                train.batch_size
            );
            self.warning(
                "train.micro_batch",
                message,
                "make it smaller, or leave it out",
            );
        } else if train.micro_batch.is_some() && experiment.phase.iter().all(trains_norms) {
            let message = "`train.micro_batch` does nothing: batch norm in training mode joins the \
                           whole batch";
            let help = "take a smaller `train.batch_size`, or `bn = \"eval\"`";
            self.warning("train.micro_batch", message, help);
        }
    }
}
