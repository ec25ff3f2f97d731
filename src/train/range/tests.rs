use candle_core::Device;

use super::*;
use crate::config::{Experiment, Flavour};
use crate::data::Dataset;
use crate::data::preprocess::{IMAGENET, Preprocess};
use crate::train::observer::{Evaluated, FeatureProgress, FeaturesReady, ObserverError};
use crate::train::phase::{LossPlan, plan_phases};
use crate::train::position::Snapshot;

/// Says nothing.
struct Silent;

impl Observer for Silent {
    fn phase_started(&mut self, _: PhaseStarted<'_>) {}
    fn features(&mut self, _: FeatureProgress) {}
    fn features_ready(&mut self, _: FeaturesReady<'_>) {}
    fn warning(&mut self, message: &str) {
        panic!("{message}");
    }
    fn step(&mut self, _: StepTaken<'_>) {}
    fn evaluated(&mut self, _: Evaluated<'_>) -> Result<(), ObserverError> {
        unreachable!("nothing is evaluated")
    }
    fn save(&mut self, _: Snapshot<'_>) -> Result<(), ObserverError> {
        unreachable!("nothing is saved")
    }
    fn stopped_early(&mut self, _: &str, _: usize, _: u64) {}
}

/// Tests a phase; features are kept in so many bytes.
fn tested(phase: &str, sweep: Sweep, memory: usize) -> RangeTest {
    let config = format!(
        "name = \"tested\"\n\
         [data]\ngenerate = {{ kind = \"patterns\", per_class = 8 }}\n\
         split = {{ train = 0.8, val = 0.1, test = 0.1 }}\nimage_size = 32\n\
         [model]\nbackbone = \"mobilenet_v2\"\nwidth = 0.35\nweights = \"none\"\n\
         head = [{{ dropout = 0.2 }}, {{ dense = 5 }}]\n\
         [train]\nbatch_size = 8\n\
         [[phase]]\nname = \"p\"\nepochs = 1\n{phase}"
    );
    let experiment: Experiment = toml::from_str(&config).unwrap();
    let graph = Graph::build(&experiment.model, [32, 32], Flavour::Torch).unwrap();
    let graph = Arc::new(graph);
    let dataset = Arc::new(Dataset::open(&experiment.data, 1).unwrap());
    let loss = || LossPlan::plain(&experiment.train, 5);
    let phases = plan_phases(&graph, &experiment.phase, true).unwrap();
    let plan = Plan::new(phases, loss(), loss(), &experiment.train, 1);
    let preprocess = Preprocess::from_config(&experiment.data, [32; 2], IMAGENET).unwrap();
    let augment = experiment.data.augment;
    let feed = Feed::new(dataset, &preprocess, augment, 8, 1, usize::MAX);
    let params = Params::initialise(&graph, 1, &Device::Cpu).unwrap();
    let before = params.fingerprint().unwrap();
    let mut bank = FeatureBank::new(memory, None);
    let given = (&graph, params.clone());
    let found = range_test(given, (&plan, 0), sweep, &feed, &mut bank, &mut Silent).unwrap();
    assert_eq!(before, params.fingerprint().unwrap());
    found
}

const ADAM: &str = "freeze = \"all\"\noptimizer = { kind = \"adam\", lr = 1e-3 }";

fn sweep(from: f64, to: f64, steps: usize) -> Sweep {
    Sweep { from, to, steps }
}

#[test]
fn rates_rise_by_the_same_factor() {
    let sweep = sweep(1e-4, 1.0, 5);
    let rates: Vec<f64> = (0..5).map(|step| sweep.rate(step)).collect();
    for (rate, expected) in rates.iter().zip([1e-4, 1e-3, 1e-2, 1e-1, 1.0]) {
        assert!((rate / expected - 1.0).abs() < 1e-12, "{rates:?}");
    }
}

#[test]
fn the_smoothed_loss_is_a_mean_that_owes_nothing_to_its_start() {
    let mut curve = Curve::default();
    assert!(!curve.add(1e-3, Some(2.0)));
    assert!(!curve.add(1e-2, None));
    assert!(!curve.add(1e-2, Some(1.0)));
    let smoothed: Vec<f64> = curve.points.iter().map(|point| point.smoothed).collect();
    // (0.98 * 0.02 * 2 + 0.02 * 1) / (1 - 0.98 ^ 2)
    assert!((smoothed[0] - 2.0).abs() < 1e-12);
    assert!((smoothed[1] - 0.0592 / 0.0396).abs() < 1e-12);
    assert!(!curve.add(1e-1, Some(5.0)));
    assert!(curve.add(1.0, Some(100.0)), "more than 4 times the lowest");
    assert_eq!((curve.steps, curve.points.len()), (5, 4));
}

#[test]
fn a_test_is_the_same_with_and_without_cached_features_and_ends_where_it_diverges() {
    let wide = sweep(1e-5, 1e6, 40);
    let cached = tested(ADAM, wide, usize::MAX);
    assert_eq!(cached, tested(ADAM, wide, 0));
    assert_eq!(cached.end, End::Diverged);
    assert!((10..40).contains(&cached.points.len()));
    let short = tested(ADAM, sweep(1e-5, 1e-4, 3), usize::MAX);
    assert_eq!((short.end, short.points.len()), (End::Through, 3));
    assert!((short.points[0].loss - cached.points[0].loss).abs() < 1e-12);
}

#[test]
fn rates_of_layers_keep_their_ratios() {
    let phase = |more: &str| {
        format!("freeze_before = \"Conv_1\"\n{more}\noptimizer = {{ kind = \"sgd\", lr = 1e-3 }}")
    };
    let rates = sweep(1e-3, 0.1, 12);
    let plain = tested(&phase(""), rates, usize::MAX);
    let slower = tested(&phase("lr_decay = 0.1"), rates, usize::MAX);
    assert_eq!(plain.points[0], slower.points[0], "before the first step");
    assert_ne!(plain.points[11], slower.points[11]);
    let head = tested(&phase("lr_decay = 1e-9"), rates, usize::MAX);
    let frozen = "freeze = \"all\"\noptimizer = { kind = \"sgd\", lr = 1e-3 }";
    let frozen = tested(frozen, rates, usize::MAX);
    for (a, b) in head.points.iter().zip(&frozen.points) {
        assert!((a.loss - b.loss).abs() < 1e-3, "{} {}", a.loss, b.loss);
    }
}
