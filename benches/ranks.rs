//! What several processes of one thread compute, exchange and read in a training step, for each backbone
//! and cutoff, and how many it takes until half of their time is lost. `cargo bench --bench ranks`, or
//! with names of backbones behind `--`. The table of docs/ranks.md.
//!
//! Compute is measured here: a chunk of four pictures, and what every process does for itself in each
//! step. Bytes and chunks follow from the graph. Reading is a JPEG of 500 by 375 pixels, decoded and
//! scaled.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use xp::config::{Flavour, ModelConfig, PhaseConfig};
use xp::engine::params::Params;
use xp::graph::Graph;
use xp::train::phase::plan_phases;
use xp::zoo::registry;

/// Pictures of a step.
const BATCH: usize = 32;

/// Pictures of a chunk, the least that a process can have.
const CHUNK: usize = 4;

/// Bytes a second over a link, one way, and seconds of a message: ten gigabits of Ethernet.
const LINK: f64 = 1.1e9;
const LATENCY: f64 = 40e-6;

const BACKBONES: &[(&str, u32)] = &[
    ("mobilenet_v2", 160),
    ("squeezenet1_1", 224),
    ("mobilenet_v3_large", 224),
    ("efficientnet_b0", 224),
    ("resnet18", 224),
    ("resnet50", 224),
    ("densenet121", 224),
    ("xception", 150),
    ("inception_v3", 299),
    ("convnext_tiny", 224),
    ("vit_small_16", 224),
    ("vgg16", 224),
];

/// Shortest time of a call, over about a second and a half.
fn seconds(mut work: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed());
    }
    best.as_secs_f64()
}

/// A step, in seconds, that so many processes take.
struct Step {
    /// Of a picture, forward and back, and of what each process does for itself.
    picture: f64,
    own: f64,
    bytes: f64,
    joins: f64,
}

impl Step {
    fn seconds(&self, ranks: usize) -> f64 {
        let chunks = BATCH.div_ceil(CHUNK).div_ceil(ranks);
        let compute = self.picture * (chunks * CHUNK) as f64;
        let hops = (ranks - 1) as f64;
        // The last chunk's reverse pass, two thirds of it, hides what is exchanged by then; both ways
        // are in use at once.
        let hidden = self.picture * CHUNK as f64 * 2.0 / 3.0;
        let exchange = if ranks > 1 { self.bytes / LINK } else { 0.0 };
        let waits = 2.0 * hops * LATENCY * (2.0 + self.joins);
        compute + self.own + (exchange - hidden).max(0.0) + waits
    }

    fn efficiency(&self, ranks: usize) -> f64 {
        self.seconds(1) / (ranks as f64 * self.seconds(ranks))
    }

    /// The most ranks that lose no more than that share.
    fn ranks(&self, least: f64) -> usize {
        let mut all = (1..=BATCH.div_ceil(CHUNK)).rev();
        all.find(|&ranks| self.efficiency(ranks) >= least)
            .unwrap_or(1)
    }
}

fn measure(name: &str, side: u32, cutoff: &str, bn: &str) -> Option<Step> {
    let model = format!("backbone = \"{name}\"\nweights = \"none\"\nhead = [{{ dense = 10 }}]");
    let model: ModelConfig = toml::from_str(&model).unwrap();
    let graph = Arc::new(Graph::build(&model, [side; 2], Flavour::Torch).unwrap());
    let phase = format!(
        "name = \"p\"\nepochs = 1\noptimizer = {{ kind = \"adam\", lr = 1e-3 }}\nbn = \"{bn}\"\n{cutoff}"
    );
    let phase: PhaseConfig = toml::from_str(&phase).unwrap();
    let phase = plan_phases(&graph, &[phase], true).ok()?.remove(0);
    let suffix = phase.suffix(&graph);
    let params = Params::initialise(&graph, 1, &Device::Cpu).unwrap();
    let stored = &phase.frontier.stored;
    let step = |pictures: usize| {
        let inputs: Vec<Tensor> = stored
            .iter()
            .map(|&id| {
                let dims = graph.nodes()[id].shape.batched(pictures);
                Tensor::randn(0f32, 1.0, dims, &Device::Cpu).unwrap()
            })
            .collect();
        let loss = |logits: &Tensor, _: Range<usize>| logits.affine(1e-3, 0.0);
        seconds(|| {
            suffix.step(&params, &inputs, 0, &loss).unwrap();
        })
    };
    let (one, two) = (step(CHUNK), step(3 * CHUNK));
    let picture = (two - one) / (2 * CHUNK) as f64;
    let values = suffix
        .trained()
        .iter()
        .map(|it| params.value(it).elem_count());
    let values = values.sum::<usize>();
    // Adam reads and writes four times as many values.
    let moments: Vec<Tensor> = (0..4)
        .map(|_| Tensor::zeros(values, DType::F32, &Device::Cpu).unwrap())
        .collect();
    let adam = seconds(|| {
        let sum = (&moments[0] + &moments[1]).unwrap();
        std::hint::black_box((sum + &moments[2]).unwrap());
    });
    Some(Step {
        picture,
        own: (one - picture * CHUNK as f64).max(0.0) + adam,
        bytes: 4.0 * suffix.exchanged() as f64,
        joins: suffix.updated_statistics().len() as f64,
    })
}

/// Seconds to decode and scale a picture.
fn reading(side: u32) -> f64 {
    let picture = image::RgbImage::from_fn(500, 375, |x, y| {
        image::Rgb([x, y, x ^ y].map(|value| (value % 256) as u8))
    });
    let mut jpeg = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut jpeg, image::ImageFormat::Jpeg)
        .unwrap();
    let bytes = jpeg.into_inner();
    seconds(|| {
        let picture = xp::data::decode_guarded(&bytes).unwrap();
        let (width, height) = (side, side);
        let scaled = image::imageops::resize(
            &picture,
            width,
            height,
            image::imageops::FilterType::Triangle,
        );
        std::hint::black_box(scaled);
    })
}

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|it| !it.starts_with('-'))
        .collect();
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global()
        .unwrap();
    println!(
        "| backbone, pixels | cutoff | ms a picture | ms a process and step | MB each way | ranks at 80 % | at 50 % |"
    );
    println!("|---|---|---|---|---|---|---|");
    for &(name, side) in BACKBONES {
        if !wanted.is_empty() && !wanted.iter().any(|it| it == name)
            || registry::find(name).is_err()
        {
            continue;
        }
        for (cutoff, bn, shown) in [
            ("freeze = \"none\"", "train", "none, `bn = \"train\"`"),
            ("freeze = \"none\"", "eval", "none"),
            ("freeze_before = -20", "eval", "-20"),
            ("freeze = \"all\"", "eval", "all"),
        ] {
            let Some(step) = measure(name, side, cutoff, bn) else {
                continue;
            };
            if bn == "train" && step.joins == 0.0 {
                continue;
            }
            println!(
                "| {name}, {side} | {shown} | {:.2} | {:.2} | {:.2} | {} | {} |",
                step.picture * 1e3,
                step.own * 1e3,
                step.bytes / 1e6,
                step.ranks(0.8),
                step.ranks(0.5),
            );
        }
        println!(
            "| {name}, {side} | reading | {:.2} | | | | |",
            reading(side) * 1e3
        );
    }
}
