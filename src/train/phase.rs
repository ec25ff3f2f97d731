//! The plan: every phase resolved against the graph before any data is read.

use std::collections::HashSet;
use std::sync::Arc;

use super::feed::Treatment;
use super::optimizer::Member;
use super::pace::Pace;
use crate::config::{
    BatchNormMode, ClassWeightRule, ClassWeights, DecayExempt, EarlyStopping, EmaConfig, Length,
    Loss, Monitor, OptimizerConfig, PhaseConfig, Problem, Sampling, ScheduleConfig, TrainConfig,
};
use crate::data::mix::Mixing;
use crate::engine::suffix::Suffix;
use crate::graph::cutoff::{Frontier, Trainable};
use crate::graph::rates::Rates;
use crate::graph::{Graph, ParamKind};
use crate::records::MicroBatch;

/// One phase, resolved.
#[derive(Debug, Clone)]
pub struct PhasePlan {
    /// Name in logs and plots.
    pub name: String,
    /// Which nodes train.
    pub trainable: Trainable,
    /// Where frozen prefix and trainable suffix meet.
    pub frontier: Frontier,
    /// Batch norm of trainable backbone layers.
    pub bn: BatchNormMode,
    /// How long it trains.
    pub length: Length,
    /// Steps between two evaluations; an epoch if `None`.
    pub evaluate_every: Option<u64>,
    /// What happens to training pictures.
    pub pictures: Treatment,
    /// How parameters move.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes.
    pub schedule: ScheduleConfig,
    /// Multipliers of the learning rate.
    pub rates: Rates,
    /// What weight decay spares.
    pub weight_decay_exempt: DecayExempt,
    /// Longest gradient.
    pub clip_norm: Option<f64>,
    /// Largest value of a gradient.
    pub clip_value: Option<f64>,
}

impl PhasePlan {
    /// What trains.
    pub fn suffix(&self, graph: &Arc<Graph>) -> Suffix {
        Suffix::new(graph.clone(), &self.trainable, &self.frontier, self.bn)
    }

    /// The trained parameters as the optimizer takes them, in graph order.
    pub fn members(&self, graph: &Graph, trained: &[String]) -> Vec<Member> {
        let trained: HashSet<&str> = trained.iter().map(String::as_str).collect();
        let specs = (0..graph.nodes().len())
            .flat_map(|id| graph.params(id).into_iter().map(move |spec| (id, spec)));
        specs
            .filter(|(_, spec)| trained.contains(spec.name.as_str()))
            .map(|(id, spec)| Member {
                lr_multiplier: self.rates.node(id),
                weight_decay: match self.weight_decay_exempt {
                    DecayExempt::BiasAndNorm => spec.kind == ParamKind::Kernel,
                    DecayExempt::None => true,
                },
                name: spec.name,
            })
            .collect()
    }
}

/// Resolves all phases; reports all problems at once. `pretrained` decides the default of `bn`.
pub fn plan_phases(
    graph: &Graph,
    phases: &[PhaseConfig],
    pretrained: bool,
) -> Result<Vec<PhasePlan>, Vec<Problem>> {
    let mut plans = Vec::with_capacity(phases.len());
    let mut problems = Vec::new();
    for (index, phase) in phases.iter().enumerate() {
        let resolved = Trainable::resolve(graph, phase, index).and_then(|trainable| {
            let rates = Rates::resolve(graph, phase, index, &trainable)?;
            Ok((trainable, rates))
        });
        match resolved {
            Ok((trainable, rates)) => plans.push(PhasePlan {
                name: phase.name.clone(),
                frontier: Frontier::find(graph, &trainable),
                trainable,
                bn: phase.bn.unwrap_or(default_bn(pretrained)),
                length: phase.length(),
                evaluate_every: phase.evaluate_every,
                pictures: Treatment {
                    augment: phase.augment,
                    mixing: Mixing {
                        mixup: phase.mixup,
                        cutmix: phase.cutmix,
                    },
                },
                optimizer: phase.optimizer,
                schedule: phase.schedule,
                rates,
                weight_decay_exempt: phase.weight_decay_exempt,
                clip_norm: phase.clip_norm,
                clip_value: phase.clip_value,
            }),
            Err(error) => problems.push(error.0),
        }
    }
    if problems.is_empty() {
        Ok(plans)
    } else {
        Err(problems)
    }
}

/// Refuses batches of one picture in phases that normalise by the batch's statistics, as one
/// picture has none, and too few pictures for a batch.
pub fn check_batches(
    graph: &Arc<Graph>,
    phases: &[PhasePlan],
    train: &TrainConfig,
    pictures: usize,
) -> Result<(), Problem> {
    let batch_size = train.batch_size;
    if train.drop_last && pictures < batch_size {
        let message = format!(
            "there are {pictures} training pictures, less than the {batch_size} of a batch, and \
             `drop_last` leaves out what is no whole batch"
        );
        return Err(Problem::new("train.drop_last", message)
            .help("take it out, or make `batch_size` smaller"));
    }
    if batch_size != 1 && pictures != 1 {
        return Ok(());
    }
    let by_batch = |phase: &&PhasePlan| !phase.suffix(graph).updated_statistics().is_empty();
    let Some(phase) = phases.iter().find(by_batch) else {
        return Ok(());
    };
    let message = format!(
        "phase `{}` trains batch norm on the batch's statistics, and a batch of 1 picture has none",
        phase.name
    );
    Err(Problem::new("train.batch_size", message).help(
        "use at least 2, or stored statistics (`bn = \"eval\"` and no batch norm in the head)",
    ))
}

/// Random weights have no statistics worth keeping.
fn default_bn(pretrained: bool) -> BatchNormMode {
    if pretrained {
        BatchNormMode::Eval
    } else {
        BatchNormMode::Train
    }
}

/// How the logits become a loss.
#[derive(Debug, Clone, PartialEq)]
pub struct LossPlan {
    /// One sigmoid output instead of a softmax over all.
    pub binary: bool,
    /// Share of the target spread evenly over the classes.
    pub smoothing: f64,
    /// Weight of each class; `None` weighs all 1.
    pub class_weights: Option<Vec<f32>>,
    /// Values of a picture's logits.
    pub outputs: usize,
    /// Weight of the losses of auxiliary classifiers, whose logits come behind the head's.
    pub auxiliary: Option<f64>,
}

impl LossPlan {
    /// Fits loss and head to the classes. `counts` are the training pictures of each class.
    pub fn new(
        train: &TrainConfig,
        outputs: usize,
        classes: &[String],
        counts: &[usize],
    ) -> Result<Self, Problem> {
        let binary = is_binary(train.loss, outputs);
        let wanted = if binary { 2 } else { outputs };
        if wanted != classes.len() {
            return Err(Problem {
                key: "model.head".into(),
                message: format!(
                    "the head has {outputs} output{}, but the data has {} classes: {}",
                    if outputs == 1 { "" } else { "s" },
                    classes.len(),
                    abbreviate(classes)
                ),
                help: Some(format!(
                    "end the head with `{{ dense = {} }}`",
                    classes.len()
                )),
            });
        }
        let class_weights = match &train.class_weights {
            None => None,
            Some(ClassWeights::Rule(ClassWeightRule::Balanced)) => Some(balanced(counts)),
            Some(ClassWeights::ByName(weights)) => {
                if let Some(unknown) = weights.keys().find(|name| !classes.contains(name)) {
                    return Err(Problem {
                        key: format!("train.class_weights.{unknown}"),
                        message: format!("the data has no class `{unknown}`"),
                        help: Some(format!("the classes are {}", abbreviate(classes))),
                    });
                }
                Some(
                    classes
                        .iter()
                        .map(|c| weights.get(c).map_or(1.0, |w| *w as f32))
                        .collect(),
                )
            }
        };
        Ok(Self {
            binary,
            smoothing: train.label_smoothing,
            class_weights,
            outputs,
            auxiliary: None,
        })
    }
}

impl LossPlan {
    /// The same with auxiliary classifiers of this weight.
    pub fn with_auxiliary(self, auxiliary: Option<f64>) -> Self {
        Self { auxiliary, ..self }
    }

    /// The loss that validation and test report: every picture counts the same, and its target
    /// is its class alone.
    pub fn plain(train: &TrainConfig, outputs: usize) -> Self {
        Self {
            binary: is_binary(train.loss, outputs),
            smoothing: 0.0,
            class_weights: None,
            outputs,
            auxiliary: None,
        }
    }
}

fn is_binary(loss: Loss, outputs: usize) -> bool {
    match loss {
        Loss::Auto => outputs == 1,
        Loss::BinaryCrossEntropy => true,
        Loss::CategoricalCrossEntropy => false,
    }
}

/// total / (classes * count), of the classes that have pictures: mean 1 over the pictures.
fn balanced(counts: &[usize]) -> Vec<f32> {
    let total: usize = counts.iter().sum();
    let classes = counts.iter().filter(|&&count| count > 0).count();
    let share = total as f64 / classes.max(1) as f64;
    counts
        .iter()
        .map(|&count| (share / count.max(1) as f64) as f32)
        .collect()
}

fn abbreviate(classes: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = classes
        .iter()
        .take(SHOWN)
        .map(|c| format!("`{c}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if classes.len() > SHOWN {
        text.push_str(&format!(" and {} more", classes.len() - SHOWN));
    }
    text
}

/// Everything that training needs to know besides graph, parameters and pictures.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The phases, in order.
    pub phases: Vec<PhasePlan>,
    /// From logits to the loss that trains.
    pub loss: LossPlan,
    /// From logits to the loss that validation and test report.
    pub plain_loss: LossPlan,
    /// Pictures per step.
    pub batch_size: usize,
    /// Evaluate before the first step.
    pub evaluate_first: bool,
    /// When to end a phase early.
    pub early_stopping: Option<EarlyStopping>,
    /// What makes a checkpoint the best.
    pub best: Monitor,
    /// Batches of a step.
    pub accumulate: usize,
    /// How many pictures of a batch are computed at a time; `None` leaves it open.
    pub micro_batch: Option<MicroBatch>,
    /// Whether an epoch's last batch is left out where it is not whole.
    pub drop_last: bool,
    /// Which training pictures an epoch has.
    pub sampling: Sampling,
    /// How weights are averaged.
    pub ema: Option<EmaConfig>,
    /// Seed of shuffling and dropout.
    pub seed: u64,
}

impl Plan {
    /// What the configuration says of training.
    pub fn new(
        phases: Vec<PhasePlan>,
        loss: LossPlan,
        plain_loss: LossPlan,
        train: &TrainConfig,
        seed: u64,
    ) -> Self {
        Self {
            phases,
            loss,
            plain_loss,
            batch_size: train.batch_size,
            evaluate_first: train.evaluate_first,
            early_stopping: train.early_stopping.clone(),
            best: train.best,
            accumulate: train.accumulate,
            micro_batch: train.micro_batch.map(MicroBatch::Pictures),
            drop_last: train.drop_last,
            sampling: train.sampling,
            ema: train.ema,
            seed,
        }
    }

    /// Epochs of all phases, if all of them are counted in epochs.
    pub fn epochs(&self) -> Option<usize> {
        let epochs = |phase: &PhasePlan| match phase.length {
            Length::Epochs(epochs) => Some(epochs),
            Length::Steps(_) => None,
        };
        self.phases.iter().map(epochs).sum()
    }

    /// Batches of an epoch of so many training pictures. With `statistics`, the phase's batch norms
    /// learn from each batch: a last picture alone has none, and sits the epoch out.
    pub fn batches(&self, pictures: usize, statistics: bool) -> usize {
        let size = self.batch_size.max(1);
        let rest = pictures % size;
        let left_out = self.drop_last || (statistics && rest == 1);
        pictures / size + usize::from(rest > 0 && !left_out)
    }

    /// How a phase's steps fall into epochs of so many batches.
    pub fn pace(&self, phase: &PhasePlan, batches: usize) -> Pace {
        let steps = batches.div_ceil(self.accumulate).max(1) as u64;
        Pace::new(phase.length, phase.evaluate_every, steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flavour;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("class_{i}")).collect()
    }

    #[test]
    fn weight_decay_spares_all_but_kernels_and_rates_follow_layers() {
        let model = "backbone = \"mobilenet_v2\"\nhead = [\"batch_norm\", { dense = 2 }]";
        let model = toml::from_str(model).unwrap();
        let graph = Arc::new(Graph::build(&model, [32, 32], Flavour::Torch).unwrap());
        let members = |more: &str| {
            let optimizer = "optimizer = { kind = \"adamw\", lr = 0.1 }";
            let text = format!("name = \"p\"\nepochs = 1\n{optimizer}\nlr_decay = 0.5\n{more}");
            let phase: PhaseConfig = toml::from_str(&text).unwrap();
            let plan = plan_phases(&graph, &[phase], true).unwrap().remove(0);
            let suffix = plan.suffix(&graph);
            let members = plan.members(&graph, suffix.trained());
            assert!(members.iter().map(|it| &it.name).eq(suffix.trained()));
            let show = |it: Member| (it.name, it.lr_multiplier, it.weight_decay);
            members.into_iter().map(show).collect::<Vec<_>>()
        };
        let of = |name: &str, rate: f64, decays: bool| (name.to_string(), rate, decays);
        let last = "freeze_before = \"Conv_1\"";
        assert_eq!(
            members(last),
            [
                of("Conv_1/kernel", 0.5, true),
                of("Conv_1_bn/gamma", 0.5, false),
                of("Conv_1_bn/beta", 0.5, false),
                of("batch_normalization/gamma", 1.0, false),
                of("batch_normalization/beta", 1.0, false),
                of("dense/kernel", 1.0, true),
                of("dense/bias", 1.0, false),
            ]
        );
        let all = members(&format!("{last}\nweight_decay_exempt = \"none\""));
        assert!(all.iter().all(|(_, _, decays)| *decays));
    }

    #[test]
    fn one_output_is_binary_and_wants_two_classes() {
        let train = TrainConfig::default();
        assert!(LossPlan::new(&train, 1, &names(2), &[1, 1]).unwrap().binary);
        assert!(!LossPlan::new(&train, 2, &names(2), &[1, 1]).unwrap().binary);
        let problem = LossPlan::new(&train, 1, &names(5), &[1; 5]).unwrap_err();
        assert_eq!(
            problem.help.as_deref(),
            Some("end the head with `{ dense = 5 }`")
        );
    }

    #[test]
    fn balanced_weights_average_one_over_pictures() {
        let weights = balanced(&[10, 30]);
        assert_eq!(weights, [2.0, 2.0 / 3.0]);
        let mean = (10.0 * weights[0] + 30.0 * weights[1]) / 40.0;
        assert!((mean - 1.0).abs() < 1e-6);
    }
}
