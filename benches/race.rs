//! Speed of xp itself on the work that it races its peers in: `just bench` runs this beside them.
//!
//! `race forward BACKBONE SIDE`, `race step BACKBONE SIDE finetune|all|all-bn-train` and
//! `race load FOLDER SIDE` speak the protocol of `benches/peers/protocol.py`, and so does `race augment
//! FOLDER SIDE 'CHANGES'`: pictures that lie decoded in memory, changed as `[data.augment]` says, for
//! example `'crop = true; rotate = 15'`. Without arguments, `cargo bench --bench race`, it prints
//! MobileNetV2's own numbers.

use std::io::BufRead;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use xp::config::{
    AugmentConfig, BatchNormMode, DataConfig, Flavour, ImageSize, OnCorrupt, PhaseConfig,
};
use xp::data::batches::{Loader, PictureCache, Plan, Shot, WAITING};
use xp::data::preprocess::IMAGENET;
use xp::data::{Augment, Dataset, Preprocess};
use xp::engine::params::Params;
use xp::engine::prefix::Prefix;
use xp::engine::suffix::{Stepped, Suffix};
use xp::graph::cutoff::{Frontier, Trainable};
use xp::graph::{Graph, ParamKind};
use xp::records::Split;
use xp::train::evaluate::loss_gradient;
use xp::train::feed::{Feed, Pass, TensorBatch};
use xp::train::optimizer::Optimizer;
use xp::train::phase::LossPlan;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const BATCH: usize = 32;
/// Of drawn pictures per class, five classes: what the peers' workers hold too.
const PICTURES: usize = 128;
const OPTIMIZER: &str = "optimizer = { kind = \"adam\", lr = 1e-4 }";

/// One kind of work.
struct Work {
    /// Of a batch's output.
    shape: Vec<usize>,
    /// Trainable parameters of the backbone.
    parameters: usize,
    /// Works for about this long, one batch at least; returns the number of pictures done.
    round: Box<dyn FnMut(Duration) -> Outcome<usize>>,
}

#[expect(clippy::print_stderr, reason = "the runner quotes it")]
fn main() -> ExitCode {
    // As the program does.
    xp::allocator::keep_freed_memory();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let threads = match std::env::var("RACE_THREADS") {
        Ok(threads) => threads.parse()?,
        Err(_) => 0,
    };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        [] | ["--bench"] => report(),
        args => serve(work(args)?),
    }
}

fn work(args: &[&str]) -> Outcome<Work> {
    match *args {
        ["forward", backbone, side] => forward(backbone, side.parse()?),
        ["step", backbone, side, what] => step(backbone, side.parse()?, what),
        ["load", folder, side] => load(folder, side.parse()?, None),
        ["augment", folder, side, changes] => {
            let changes = toml::from_str(&changes.replace(';', "\n"))?;
            load(folder, side.parse()?, Some(changes))
        }
        _ => Err(format!("cannot race `{}`", args.join(" ")).into()),
    }
}

/// MobileNetV2 with its global pooling, every parameter initialised.
fn network(backbone: &str, side: u32) -> Outcome<(Arc<Graph>, Params)> {
    let model = format!("backbone = \"{backbone}\"\nhead = [{{ dense = 5 }}]");
    let graph = Graph::build(&toml::from_str(&model)?, [side; 2], Flavour::Torch)?;
    let params = Params::initialise(&graph, 0, &Device::Cpu)?;
    Ok((Arc::new(graph), params))
}

fn parameters(graph: &Graph) -> usize {
    (0..graph.backbone_len())
        .flat_map(|id| graph.params(id))
        .filter(|spec| !matches!(spec.kind, ParamKind::MovingMean | ParamKind::MovingVariance))
        .map(|spec| spec.dims.iter().product::<usize>())
        .sum()
}

/// The frozen backbone and its global average pooling.
fn forward(backbone: &str, side: u32) -> Outcome<Work> {
    let (graph, params) = network(backbone, side)?;
    let pooled = graph
        .find("global_average_pooling2d")
        .ok_or("the graph has no global average pooling")?;
    let prefix = Prefix::compile(&graph, &params, &[0], &[pooled])?;
    let dims = (BATCH, side as usize, side as usize, 3);
    let pictures = [Tensor::rand(-1f32, 1.0, dims, &Device::Cpu)?];
    let shape = prefix.run(&pictures)?[0].dims().to_vec();
    let round = move |time| {
        batches(time, || {
            prefix.run(&pictures)?;
            Ok(BATCH)
        })
    };
    Ok(Work {
        shape,
        parameters: parameters(&graph),
        round: Box::new(round),
    })
}

/// A training step on crops and flips of pictures that lie decoded in memory.
fn step(backbone: &str, side: u32, what: &str) -> Outcome<Work> {
    let (freezing, bn) = match what {
        "finetune" => (
            "freeze_before = \"block_11_expand_BN\"",
            BatchNormMode::Eval,
        ),
        "all" => ("freeze = \"none\"", BatchNormMode::Eval),
        "all-bn-train" => ("freeze = \"none\"", BatchNormMode::Train),
        _ => return Err(format!("there is no step `{what}`").into()),
    };
    let (graph, mut params) = network(backbone, side)?;
    let phase = format!("name = \"p\"\nepochs = 1\n{OPTIMIZER}\n{freezing}");
    let phase: PhaseConfig = toml::from_str(&phase)?;
    let trainable = Trainable::resolve(&graph, &phase, 0)?;
    let frontier = Frontier::find(&graph, &trainable);
    let prefix = Prefix::compile(&graph, &params, &[0], &frontier.stored)?;
    let suffix = Suffix::new(graph.clone(), &trainable, &frontier, bn);
    let mut optimizer = Optimizer::new(&phase.optimizer, suffix.trained());
    let feed = feed(side)?;
    let order = feed.in_order(Split::Train);
    let plan = LossPlan {
        binary: false,
        smoothing: 0.0,
        class_weights: None,
        outputs: graph.nodes()[graph.output()].shape.elements(),
        auxiliary: None,
    };
    let mut train = move |batch: TensorBatch| -> Outcome<Vec<usize>> {
        let features = prefix.run(&[batch.images])?;
        let gradient = loss_gradient(&plan, &batch.labels);
        let Stepped {
            logits,
            statistics,
            gradients,
        } = suffix.step(&params, &features, 0, &gradient)?;
        for (name, value) in statistics {
            params.set(&name, value)?;
        }
        optimizer.step(&mut params, &gradients, phase.optimizer.learning_rate())?;
        Ok(logits.dims().to_vec())
    };
    let mut shape = Vec::new();
    // The first pass draws the pictures; later ones find them in memory.
    for batch in feed.batches(Split::Train, &order, Pass::Epoch(0))? {
        let batch = batch?;
        if shape.is_empty() {
            shape = train(batch)?;
        }
    }
    let mut epoch = 0;
    let round = move |time| {
        let start = Instant::now();
        let mut done = 0;
        loop {
            epoch += 1;
            for batch in feed.batches(Split::Train, &order, Pass::Epoch(epoch))? {
                train(batch?)?;
                done += BATCH;
                if start.elapsed() >= time {
                    return Ok(done);
                }
            }
        }
    };
    Ok(Work {
        shape,
        parameters: parameters(&graph),
        round: Box::new(round),
    })
}

/// Pictures drawn 1.15 times as large as the network's input, cropped and flipped at random.
fn feed(side: u32) -> Outcome<Feed> {
    let large = side * 115 / 100;
    let config: DataConfig = toml::from_str(&format!(
        "generate = {{ kind = \"patterns\", per_class = {PICTURES} }}\n\
         split = {{ train = 1.0, val = 0.0, test = 0.0 }}\nimage_size = {side}\nresize = {large}"
    ))?;
    let preprocess = Preprocess::from_config(&config, [side; 2], IMAGENET)?;
    let augment = AugmentConfig {
        flip_horizontal: true,
        crop: true,
        ..AugmentConfig::default()
    };
    let dataset = Arc::new(Dataset::open(&config, 0)?);
    Ok(Feed::new(
        dataset,
        &preprocess,
        augment,
        BATCH,
        0,
        usize::MAX,
    ))
}

/// From files to normalised batches; a round is one pass over the folder. With changes the first
/// round decodes, and later ones change what it has left in memory.
fn load(folder: &str, side: u32, changes: Option<AugmentConfig>) -> Outcome<Work> {
    let classes: Vec<String> = std::fs::read_dir(folder)?
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let dataset = Dataset::labelled(folder.as_ref(), &classes, OnCorrupt::Error)?;
    let dataset = Arc::new(dataset);
    let mut config: DataConfig = toml::from_str(&format!("root = \"{folder}\""))?;
    if changes.is_some_and(|changes| changes.crop) {
        config.resize = Some(ImageSize::Square(side * 115 / 100));
    }
    let mut plan = Plan {
        parts: None,
        shots: (0..dataset.items.len()).map(Shot::plain).collect(),
        preprocess: Preprocess::from_config(&config, [side; 2], IMAGENET)?,
        augment: changes.map(|config| Augment { config, seed: 0 }),
        mix: None,
        batch_size: BATCH,
        threads: rayon::current_num_threads(),
        waiting: WAITING,
        cache: changes.map(|_| Arc::new(PictureCache::new(&dataset, usize::MAX))),
    };
    let mut epoch = 0;
    let round = move |_| {
        epoch += 1;
        for shot in &mut plan.shots {
            shot.draw = plan.augment.map(|augment| augment.in_epoch(epoch));
        }
        let mut done = 0;
        for batch in Loader::start(&dataset, plan.clone())? {
            done += batch?.items.len();
        }
        Ok(done)
    };
    Ok(Work {
        shape: vec![BATCH, side as usize, side as usize, 3],
        parameters: 0,
        round: Box::new(round),
    })
}

/// Batches one after the other, for about `time`; `batch` returns its number of pictures.
fn batches(time: Duration, mut batch: impl FnMut() -> Outcome<usize>) -> Outcome<usize> {
    let start = Instant::now();
    let mut done = batch()?;
    while start.elapsed() < time {
        done += batch()?;
    }
    Ok(done)
}

#[expect(clippy::print_stdout, reason = "the runner reads it")]
fn serve(mut work: Work) -> Outcome<()> {
    let dims: Vec<String> = work.shape.iter().map(ToString::to_string).collect();
    let (dims, parameters) = (dims.join("x"), work.parameters);
    (work.round)(Duration::ZERO)?;
    println!(
        "ready\txp {}\t{dims}\t{parameters}",
        env!("CARGO_PKG_VERSION")
    );
    for line in std::io::stdin().lock().lines() {
        let time = Duration::from_secs_f64(line?.trim().parse()?);
        println!("{}", rate(&mut work, time)?);
    }
    Ok(())
}

fn rate(work: &mut Work, time: Duration) -> Outcome<f64> {
    let start = Instant::now();
    let pictures = (work.round)(time)?;
    Ok(pictures as f64 / start.elapsed().as_secs_f64())
}

#[expect(clippy::print_stdout, reason = "a benchmark's output")]
fn report() -> Outcome<()> {
    for line in [
        "forward mobilenet_v2 160",
        "forward mobilenet_v2 224",
        "step mobilenet_v2 160 finetune",
        "step mobilenet_v2 160 all",
        "step mobilenet_v2 160 all-bn-train",
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        let mut work = work(&args)?;
        (work.round)(Duration::ZERO)?;
        let rate = rate(&mut work, Duration::from_secs(3))?;
        println!("{line}: {rate:.0} pictures/s");
    }
    Ok(())
}
