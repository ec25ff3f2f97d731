//! Speed of the frozen prefix and of a training step: `cargo bench --bench engine`.
//!
//! MobileNetV2 at 160 px, batches of 32, pictures per second, for one thread and for all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Result, Tensor};
use xp::config::{BatchNormMode, Flavour, PhaseConfig};
use xp::engine::params::Params;
use xp::engine::prefix::Prefix;
use xp::engine::suffix::Suffix;
use xp::graph::Graph;
use xp::graph::cutoff::{Frontier, Trainable};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

const BATCH: usize = 32;
const SIDE: usize = 160;
const ENOUGH: Duration = Duration::from_secs(3);

fn main() -> Outcome {
    let model = toml::from_str("backbone = \"mobilenet_v2\"\nhead = [{ dense = 5 }]")?;
    let side = u32::try_from(SIDE)?;
    let graph = Arc::new(Graph::build(&model, [side, side], Flavour::Torch)?);
    let params = Params::initialise(&graph, 0, &Device::Cpu)?;
    let picture = Tensor::rand(-1f32, 1.0, (BATCH, SIDE, SIDE, 3), &Device::Cpu)?;
    let all = std::thread::available_parallelism()?.get();
    for threads in if all == 1 { vec![1] } else { vec![1, all] } {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()?;
        pool.install(|| -> Outcome {
            let whole = Prefix::compile(&graph, &params, &[0], &[graph.output()])?;
            report(threads, "inference", || {
                whole.run(std::slice::from_ref(&picture)).map(drop)
            })?;
            step(threads, &graph, &params, &picture, "freeze = \"all\"")?;
            let cutoff = "freeze_before = \"block_11_expand_BN\"";
            step(threads, &graph, &params, &picture, cutoff)?;
            step(threads, &graph, &params, &picture, "freeze = \"none\"")
        })?;
    }
    Ok(())
}

/// A training step with the frozen part cached, and with it run anew.
fn step(
    threads: usize,
    graph: &Arc<Graph>,
    params: &Params,
    picture: &Tensor,
    freezing: &str,
) -> Outcome {
    let optimizer = "optimizer = { kind = \"sgd\", lr = 0.1 }";
    let phase: PhaseConfig = toml::from_str(&format!(
        "name = \"p\"\nepochs = 1\n{optimizer}\n{freezing}"
    ))?;
    let trainable = Trainable::resolve(graph, &phase, 0)?;
    let frontier = Frontier::find(graph, &trainable);
    let prefix = Prefix::compile(graph, params, &[0], &frontier.stored)?;
    let suffix = Suffix::new(graph.clone(), &trainable, &frontier, BatchNormMode::Eval);
    let pictures = std::slice::from_ref(picture);
    let train = |stored: &[Tensor]| -> Result<()> {
        let gradient = |logits: &Tensor, _| Ok(logits.clone());
        suffix.step(params, stored, 0, &gradient).map(drop)
    };
    let stored = prefix.run(pictures)?;
    report(threads, &format!("step on features, {freezing}"), || {
        train(&stored)
    })?;
    report(threads, &format!("step on pictures, {freezing}"), || {
        train(&prefix.run(pictures)?)
    })?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a benchmark's output")]
fn report(threads: usize, what: &str, mut batch: impl FnMut() -> Result<()>) -> Result<()> {
    batch()?;
    let mut best = Duration::MAX;
    let start = Instant::now();
    while start.elapsed() < ENOUGH {
        let begin = Instant::now();
        batch()?;
        best = best.min(begin.elapsed());
    }
    let rate = BATCH as f64 / best.as_secs_f64();
    println!("{threads} threads, {what}: {rate:.0} pictures/s");
    Ok(())
}
