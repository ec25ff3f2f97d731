//! xp on an NVIDIA GPU: `gpu parity [NETWORK...]` compares logits and gradients with the CPU,
//! `gpu layers NETWORK` every layer's output, `gpu same` two runs in deterministic mode bit by bit,
//! and `gpu race` times what `benches/gpu/torch_race.py` times, a line of JSON each. `just bench-gpu`
//! runs all of it.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor};
use xp::config::{BatchNormMode, Flavour, PhaseConfig};
use xp::engine::params::Params;
use xp::engine::prefix::Prefix;
use xp::engine::suffix::{OptimizerNumbers, Rule, RuleKind, Suffix};
use xp::gpu::{Gpu, cuda};
use xp::graph::cutoff::{Frontier, Trainable};
use xp::graph::{Graph, NodeId};
use xp::precision::Precision;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Largest difference to the CPU as a share of the largest value.
const BAR: f32 = 1e-3;

/// Networks with a side that the CPU computes in reasonable time.
const NETWORKS: [(&str, u32); 14] = [
    ("mobilenet_v2", 96),
    ("resnet18", 96),
    ("resnet50", 96),
    ("xception", 96),
    ("vgg16", 64),
    ("vgg16_bn", 64),
    ("vit_small_16", 64),
    ("convnext_tiny", 64),
    ("efficientnet_b0", 96),
    ("mobilenet_v3_large", 96),
    ("densenet121", 96),
    ("inception_v3", 107),
    ("googlenet", 96),
    ("squeezenet1_1", 96),
];

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Tf32, Precision::Bf16];

/// Rounds of a race; the fastest counts.
const ROUNDS: usize = 5;

#[expect(clippy::print_stderr, reason = "the runner quotes it")]
fn main() -> ExitCode {
    xp::allocator::keep_freed_memory();
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn say(line: &str) {
    println!("{line}");
}

fn run() -> Outcome<bool> {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|it| it != "--bench")
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        [] => Ok(parity(&[])? & same()?),
        ["parity", names @ ..] => parity(names),
        ["layers", name] => layers(name),
        ["same"] => same(),
        ["race", names @ ..] => race(names).map(|()| true),
        _ => Err(format!("cannot run `{}`", args.join(" ")).into()),
    }
}

fn network(backbone: &str, side: u32) -> Outcome<(Arc<Graph>, Params)> {
    let model = format!("backbone = \"{backbone}\"\nhead = [{{ dense = 5 }}]");
    let graph = Graph::build(&toml::from_str(&model)?, [side; 2], Flavour::Torch)?;
    let params = Params::initialise(&graph, 0, &Device::Cpu)?;
    Ok((Arc::new(graph), params))
}

/// Pictures by formula, so that every machine has the same.
fn pictures(count: usize, side: u32) -> Outcome<Tensor> {
    let side = side as usize;
    let value = |i: usize| ((i * 7919) % 2003) as f32 / 1001.5 - 1.0;
    let values: Vec<f32> = (0..count * side * side * 3).map(value).collect();
    Ok(Tensor::from_vec(
        values,
        (count, side, side, 3),
        &Device::Cpu,
    )?)
}

fn suffix(graph: &Arc<Graph>, freezing: &str, bn: BatchNormMode) -> Outcome<(Suffix, Vec<NodeId>)> {
    let phase: PhaseConfig = toml::from_str(&format!(
        "name = \"race\"\nepochs = 1\noptimizer = {{ kind = \"adam\", lr = 1e-4 }}\n{freezing}"
    ))?;
    let trainable = Trainable::resolve(graph, &phase, 0).map_err(|error| format!("{error:?}"))?;
    let frontier = Frontier::find(graph, &trainable);
    let stored = frontier.stored.clone();
    Ok((
        Suffix::new(graph.clone(), &trainable, &frontier, bn),
        stored,
    ))
}

fn largest(tensor: &Tensor) -> Outcome<f32> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    let most = |most: f32, value: f32| match value.is_nan() {
        true => f32::INFINITY,
        false => most.max(value.abs()),
    };
    Ok(values.into_iter().fold(0.0, most))
}

fn gap(there: &Tensor, here: &Tensor, beside: f32) -> Outcome<f32> {
    Ok(largest(&(there - here)?)? / largest(here)?.max(beside).max(f32::MIN_POSITIVE))
}

/// Logits of inference, and logits and gradients of training, on both.
fn parity(names: &[&str]) -> Outcome<bool> {
    say("| network | precision | inference | logits | gradients | worst of them | |");
    say("|---|---|---|---|---|---|---|");
    let mut all = true;
    let mut gpus = Vec::new();
    for precision in PRECISIONS {
        gpus.push(cuda::open(0, precision, true)?);
    }
    let wanted = NETWORKS.iter();
    let wanted = wanted.filter(|(name, _)| names.is_empty() || names.contains(name));
    for &(name, side) in wanted {
        let (graph, params) = network(name, side)?;
        let pictures = pictures(4, side)?;
        for bn in [BatchNormMode::Eval, BatchNormMode::Train] {
            let (suffix, stored) = suffix(&graph, "freeze = \"none\"", bn)?;
            let weights = Tensor::randn(0f32, 1.0, (4, 5), &Device::Cpu)?;
            let loss = |_: &Tensor, part: Range<usize>| weights.narrow(0, part.start, part.len());
            let inputs = match stored == [0] {
                true => vec![pictures.clone()],
                false => Prefix::compile(&graph, &params, &[0], &stored)?
                    .run(std::slice::from_ref(&pictures))?,
            };
            let infer = |params: &Params| -> Outcome<Tensor> {
                let prefix = Prefix::compile(&graph, params, &[0], &[graph.output()])?;
                Ok(prefix.run(std::slice::from_ref(&pictures))?.swap_remove(0))
            };
            let here = suffix.step(&params, &inputs, 0, &loss)?;
            let inferred = infer(&params)?;
            let most = here
                .gradients
                .values()
                .map(largest)
                .collect::<Outcome<Vec<f32>>>()?;
            let most = most.into_iter().fold(0.0, f32::max);
            for gpu in &gpus {
                let precision = gpu.precision();
                let label = format!("{name} (bn {bn:?})");
                let params = params.clone().on(Some(gpu.clone()));
                let judged = || -> Outcome<(f32, f32, f32, String)> {
                    let inference = gap(&infer(&params)?, &inferred, 0.0)?;
                    let there = suffix.step(&params, &inputs, 0, &loss)?;
                    let logits = gap(&there.logits, &here.logits, 0.0)?;
                    let mut worst = (0.0, String::new());
                    for (name, gradient) in &there.gradients {
                        let gap = gap(gradient, &here.gradients[name], 1e-2 * most)?;
                        if gap > worst.0 {
                            worst = (gap, name.clone());
                        }
                    }
                    Ok((inference, logits, worst.0, worst.1))
                };
                let precise = precision == Precision::F32;
                match judged() {
                    Ok((inference, logits, gradients, worst)) => {
                        let fits = inference <= BAR && logits <= BAR && gradients <= BAR;
                        all &= fits || !precise;
                        let verdict = match (precise, fits) {
                            (true, true) => "ok",
                            (true, false) => "FAILED",
                            _ => "",
                        };
                        say(&format!(
                            "| {label} | {} | {inference:.1e} | {logits:.1e} | {gradients:.1e} | {worst} | {verdict} |",
                            precision.name()
                        ));
                    }
                    Err(error) => {
                        all = false;
                        say(&format!(
                            "| {label} | {} | FAILED: {error} |",
                            precision.name()
                        ));
                    }
                }
            }
        }
    }
    Ok(all)
}

/// Where inference begins to differ.
fn layers(name: &str) -> Outcome<bool> {
    let side = NETWORKS.iter().find(|(known, _)| *known == name);
    let (graph, params) = network(name, side.map_or(96, |(_, side)| *side))?;
    let pictures = pictures(2, side.map_or(96, |(_, side)| *side))?;
    let there = params
        .clone()
        .on(Some(cuda::open(0, Precision::F32, true)?));
    let mut all = true;
    for id in 1..graph.nodes().len() {
        let infer = |params: &Params| -> Outcome<Tensor> {
            let prefix = Prefix::compile(&graph, params, &[0], &[id])?;
            Ok(prefix.run(std::slice::from_ref(&pictures))?.swap_remove(0))
        };
        let gap = gap(&infer(&there)?, &infer(&params)?, 0.0)?;
        let verdict = if gap <= BAR { "" } else { "FAILED" };
        all &= gap <= BAR;
        let node = &graph.nodes()[id];
        say(&format!(
            "{id:4} {:40} {:?} {gap:.1e} {verdict}",
            node.name, node.op
        ));
    }
    Ok(all)
}

/// Ten steps from the same start, twice: the bits must be the same.
fn same() -> Outcome<bool> {
    let (graph, params) = network("resnet18", 96)?;
    let (suffix, _) = suffix(&graph, "freeze = \"none\"", BatchNormMode::Train)?;
    let pictures = pictures(16, 96)?;
    let mut prints = Vec::new();
    let brain = cuda::open(0, Precision::Bf16, true)?;
    let single = cuda::open(0, Precision::F32, true)?;
    for gpu in [&brain, &brain, &single, &single] {
        let mut params = params.clone().on(Some(gpu.clone()));
        let mut training = Training::new(&suffix, &params)?;
        training.session.put(std::slice::from_ref(&pictures), 0)?;
        for _ in 0..10 {
            training.step()?;
        }
        training.session.store(&mut params)?;
        prints.push(params.fingerprint()?);
    }
    let same = prints[0] == prints[1] && prints[2] == prints[3];
    say(&format!(
        "ten deterministic steps, twice: the same bits: {same}"
    ));
    Ok(same)
}

/// A session with Adam and cross entropy.
struct Training {
    session: xp::engine::suffix::Session,
    numbers: OptimizerNumbers,
}

impl Training {
    fn new(suffix: &Suffix, params: &Params) -> Outcome<Self> {
        let session = suffix.session(params)?.ok_or("no GPU")?;
        let rule = Rule {
            kind: RuleKind::Adam as i32,
            moments: 2,
            lr: 1e-4,
            share1: 0.1,
            rho: 0.999,
            share: 0.001,
            epsilon: 1e-7,
            correction: 1.0,
            keep: 1.0,
            ..Rule::default()
        };
        let numbers = OptimizerNumbers {
            rule_of: vec![0; session.trained().len()],
            rules: vec![rule],
            moments: 2,
        };
        Ok(Self { session, numbers })
    }

    fn step(&mut self) -> Outcome<()> {
        let softmax = |logits: &Tensor, _: Range<usize>| -> candle_core::Result<Tensor> {
            let (pictures, classes) = logits.dims2()?;
            let mut values: Vec<f32> = logits.flatten_all()?.to_vec1()?;
            for (picture, row) in values.chunks_mut(classes).enumerate() {
                let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                row.iter_mut()
                    .for_each(|value| *value = (*value - most).exp());
                let sum: f32 = row.iter().sum();
                row.iter_mut().for_each(|value| *value /= sum);
                row[picture % classes] -= 1.0;
                row.iter_mut().for_each(|value| *value /= pictures as f32);
            }
            Tensor::from_vec(values, (pictures, classes), &Device::Cpu)
        };
        self.session.again(&softmax)?;
        self.session.optimize(&self.numbers)?;
        Ok(())
    }
}

/// Pictures a second of frozen forward passes and of training steps, inputs on the device.
fn race(names: &[&str]) -> Outcome<()> {
    let gpu = cuda::open(0, Precision::Bf16, false)?;
    let wanted = |name: &str| names.is_empty() || names.iter().any(|it| name.contains(it));
    for (backbone, side) in [
        ("mobilenet_v2", 224),
        ("resnet50", 224),
        ("xception", 299),
        ("vit_small_16", 224),
    ] {
        let name = format!("forward {backbone}");
        if wanted(&name) {
            told(&name, 256, forward(&gpu, backbone, side, 256));
        }
    }
    for (backbone, freezing, batch) in [
        ("mobilenet_v2", "freeze_before = 100", 256),
        ("mobilenet_v2", "freeze = \"none\"", 256),
        ("resnet50", "freeze = \"none\"", 128),
        ("vit_small_16", "freeze = \"none\"", 128),
    ] {
        for bn in [BatchNormMode::Eval, BatchNormMode::Train] {
            let part = if freezing.contains("100") {
                "100"
            } else {
                "all"
            };
            let mode = if bn == BatchNormMode::Eval {
                "eval"
            } else {
                "train"
            };
            let name = format!("step {backbone} {part} {mode}");
            if wanted(&name) {
                told(&name, batch, step(&gpu, backbone, freezing, bn, batch));
            }
        }
    }
    Ok(())
}

fn told(name: &str, batch: usize, seconds: Outcome<f64>) {
    let line = match seconds {
        Ok(seconds) => serde_json::json!({
            "name": name,
            "milliseconds": seconds * 1e3,
            "images_per_second": batch as f64 / seconds,
        }),
        Err(error) => serde_json::json!({ "name": name, "error": error.to_string() }),
    };
    say(&line.to_string());
}

fn forward(gpu: &Gpu, backbone: &str, side: u32, batch: usize) -> Outcome<f64> {
    let (graph, params) = network(backbone, side)?;
    let params = params.on(Some(gpu.clone()));
    let features = graph.nodes()[graph.output()].inputs[0];
    let prefix = Prefix::compile(&graph, &params, &[0], &[features])?;
    prefix.run(&[pictures(batch, side)?])?;
    prefix.repeat(3)?;
    const TIMES: usize = 20;
    fastest(|| {
        prefix.repeat(TIMES)?;
        Ok(TIMES)
    })
}

fn step(
    gpu: &Gpu,
    backbone: &str,
    freezing: &str,
    bn: BatchNormMode,
    batch: usize,
) -> Outcome<f64> {
    let side = 224;
    let (graph, params) = network(backbone, side)?;
    let params = params.on(Some(gpu.clone()));
    let (suffix, stored) = suffix(&graph, freezing, bn)?;
    let inputs = match stored == [0] {
        true => vec![pictures(batch, side)?],
        false => Prefix::compile(&graph, &params, &[0], &stored)?.run(&[pictures(batch, side)?])?,
    };
    let mut training = Training::new(&suffix, &params)?;
    training.session.put(&inputs, 0)?;
    for _ in 0..3 {
        training.step()?;
    }
    const TIMES: usize = 20;
    fastest(|| {
        for _ in 0..TIMES {
            training.step()?;
        }
        training.session.gradient_norm()?;
        Ok(TIMES)
    })
}

/// Seconds of one of the fastest round.
fn fastest(mut round: impl FnMut() -> Outcome<usize>) -> Outcome<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let times = round()?;
        least = least.min(started.elapsed().as_secs_f64() / times as f64);
    }
    Ok(least)
}
