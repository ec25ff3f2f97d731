//! Training taken up anywhere ends in the same bits.

use candle_core::Device;

use super::*;
use crate::config::{Experiment, Flavour};
use crate::data::Dataset;
use crate::data::preprocess::{IMAGENET, Preprocess};
use crate::train::observer::{Evaluated, FeatureProgress, FeaturesReady};
use crate::train::phase::{LossPlan, plan_phases};

/// Two phases, one in steps that ends within an epoch, with all that has a state.
const CONFIG: &str = r#"
name = "resumed"
[data]
generate = { kind = "patterns", per_class = 8 }
split = { train = 0.6, val = 0.2, test = 0.2 }
image_size = 32
[data.augment]
flip_horizontal = true
[model]
backbone = "mobilenet_v2"
width = 0.35
weights = "none"
head = [{ dropout = 0.2 }, { dense = 5 }]
[train]
batch_size = 4
accumulate = 2
evaluate_first = true
early_stopping = { patience = 4 }
ema = { decay = 0.8, warmup = true }
sampling = "balanced"
[[phase]]
name = "head"
freeze = "all"
steps = 7
evaluate_every = 2
optimizer = { kind = "rmsprop", lr = 1e-3, momentum = 0.5 }
[[phase]]
name = "fine"
freeze_before = "block_15_expand"
bn = "train"
epochs = 2
clip_norm = 0.5
optimizer = { kind = "adam", lr = 1e-3 }
schedule = { kind = "cosine", warmup_steps = 2 }
"#;

struct Setting {
    graph: Arc<Graph>,
    plan: Plan,
    feed: Feed,
}

fn setting() -> Setting {
    let experiment: Experiment = toml::from_str(CONFIG).unwrap();
    let graph = Graph::build(&experiment.model, [32, 32], Flavour::Torch).unwrap();
    let graph = Arc::new(graph);
    let dataset = Arc::new(Dataset::open(&experiment.data, 1).unwrap());
    let train = &experiment.train;
    let loss = || LossPlan::plain(train, 5);
    let phases = plan_phases(&graph, &experiment.phase, true).unwrap();
    let preprocess = Preprocess::from_config(&experiment.data, [32; 2], IMAGENET).unwrap();
    Setting {
        plan: Plan::new(phases, loss(), loss(), train, 1),
        feed: Feed::new(
            dataset,
            &preprocess,
            experiment.data.augment,
            train.batch_size,
            1,
            usize::MAX,
        ),
        graph,
    }
}

/// What a checkpoint would keep.
struct Kept {
    position: String,
    params: Params,
    averaged: Option<(Params, u64)>,
    optimizer: OptimizerState,
}

impl Kept {
    fn of(snapshot: Snapshot<'_>) -> Self {
        Self {
            position: serde_json::to_string(snapshot.position).unwrap(),
            params: snapshot.params.clone(),
            averaged: snapshot.ema.map(|ema| (ema.params().clone(), ema.steps())),
            optimizer: snapshot.optimizer.cloned().unwrap_or_default(),
        }
    }
}

/// Ends training when it has been asked `until` times whether to, or never.
#[derive(Default)]
struct Listener {
    asked: std::cell::Cell<usize>,
    until: Option<usize>,
    rows: Vec<MetricsRow>,
    kept: Option<Kept>,
    best: Option<Params>,
    phases: Vec<(String, u64)>,
}

impl Observer for Listener {
    fn phase_started(&mut self, event: PhaseStarted<'_>) {
        self.phases.push((event.name.to_owned(), event.done));
    }
    fn features(&mut self, _: FeatureProgress) {}
    fn features_ready(&mut self, _: FeaturesReady<'_>) {}
    fn warning(&mut self, message: &str) {
        panic!("{message}");
    }
    fn step(&mut self, _: StepTaken<'_>) {}
    fn evaluated(&mut self, event: Evaluated<'_>) -> Result<(), ObserverError> {
        let row = MetricsRow {
            images_per_second: 0.0,
            seconds: 0.0,
            ..event.row.clone()
        };
        self.rows.push(row);
        let kept = Kept::of(event.snapshot);
        if event.is_best {
            let averaged = kept.averaged.as_ref().map(|(params, _)| params.clone());
            self.best = averaged;
        }
        self.kept = Some(kept);
        Ok(())
    }
    fn save(&mut self, snapshot: Snapshot<'_>) -> Result<(), ObserverError> {
        self.kept = Some(Kept::of(snapshot));
        Ok(())
    }
    fn interrupted(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        Some(self.asked.get()) == self.until
    }
    fn stopped_early(&mut self, _: &str, _: usize, _: u64) {}
}

fn run(setting: &Setting, start: Start, listener: &mut Listener) -> Result<Fitted, FitError> {
    // Without room: every batch is computed anew.
    let mut bank = FeatureBank::new(0, None);
    fit(
        &setting.graph,
        start,
        &setting.plan,
        &setting.feed,
        &mut bank,
        listener,
    )
}

fn prints(fitted: &Fitted) -> [String; 2] {
    [&fitted.last, &fitted.best.0].map(|params| params.fingerprint().unwrap().to_string())
}

#[test]
fn training_ended_anywhere_goes_on_to_the_same_bits() {
    let setting = setting();
    let initial = Params::initialise(&setting.graph, 1, &Device::Cpu).unwrap();
    let fresh = || Start::fresh(initial.clone(), 1);
    let mut whole = Listener::default();
    let fitted = run(&setting, fresh(), &mut whole).unwrap();
    let expected = prints(&fitted);
    assert_eq!(
        whole.phases,
        [("head".to_owned(), 0), ("fine".to_owned(), 0)]
    );
    // 24 pictures: 3 steps an epoch. Epoch 0; steps 2, 4, 6, 7; two epochs.
    assert_eq!(whole.rows.len(), 1 + 4 + 2);

    let mut places = std::collections::BTreeSet::new();
    for until in 1..=whole.asked.get() {
        let mut listener = Listener {
            until: Some(until),
            ..Listener::default()
        };
        let ended = run(&setting, fresh(), &mut listener);
        assert!(
            matches!(ended, Err(FitError::Feed(FeedError::Interrupted))),
            "{until}"
        );
        let start = match listener.kept.take() {
            None => fresh(),
            Some(kept) => {
                let position: Position = serde_json::from_str(&kept.position).unwrap();
                places.insert((position.phase, position.next as u8, position.phase_step));
                Start {
                    position,
                    params: kept.params,
                    averaged: kept.averaged,
                    optimizer: kept.optimizer,
                    best: listener.best.take(),
                }
            }
        };
        listener.until = None;
        let fitted = run(&setting, start, &mut listener).unwrap();
        assert_eq!(prints(&fitted), expected, "after {until}");
        assert_eq!(listener.rows, whole.rows, "after {until}");
    }
    assert!(places.len() >= 13, "after every step: {places:?}");
}

#[test]
fn a_gpu_trains_alike_and_goes_on_from_anywhere_to_the_same_bits() {
    let Some(gpu) = crate::gpu::host::gpu(crate::precision::Precision::F32) else {
        return;
    };
    let setting = setting();
    let initial = Params::initialise(&setting.graph, 1, &Device::Cpu).unwrap();
    let mut here = Listener::default();
    run(&setting, Start::fresh(initial.clone(), 1), &mut here).unwrap();

    let fresh = || Start::fresh(initial.clone(), 1).on(Some(&gpu));
    let mut there = Listener::default();
    let fitted = run(&setting, fresh(), &mut there).unwrap();
    let expected = prints(&fitted);
    assert_eq!(there.rows.len(), here.rows.len());
    for (there, here) in there.rows.iter().zip(&here.rows) {
        let close = |there: Option<f64>, here: Option<f64>| match (there, here) {
            (Some(there), Some(here)) => (there - here).abs() < 1e-2 * here.abs().max(1.0),
            (there, here) => there == here,
        };
        assert_eq!((there.epoch, there.step), (here.epoch, here.step));
        assert!(
            close(there.train_loss, here.train_loss),
            "{there:?} {here:?}"
        );
        assert!(close(there.val_loss, here.val_loss), "{there:?} {here:?}");
    }
    let asked = there.asked.get();
    for until in [asked / 5, asked / 2, asked - 2] {
        let mut listener = Listener {
            until: Some(until),
            ..Listener::default()
        };
        assert!(run(&setting, fresh(), &mut listener).is_err());
        let kept = listener.kept.take().unwrap();
        let start = Start {
            position: serde_json::from_str(&kept.position).unwrap(),
            params: kept.params,
            averaged: kept.averaged,
            optimizer: kept.optimizer,
            best: listener.best.take(),
        };
        listener.until = None;
        let fitted = run(&setting, start.on(Some(&gpu)), &mut listener).unwrap();
        assert_eq!(prints(&fitted), expected, "after {until}");
    }
}
