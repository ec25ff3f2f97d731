//! Graphs, weights and comparisons that the tests of the engine share.

use candle_core::{Device, Tensor};

use super::forward;
use super::memory::values;
use super::params::Params;
use crate::config::{Flavour, PhaseConfig};
use crate::graph::cutoff::{Frontier, Trainable};
use crate::graph::{Graph, NodeId, ParamKind};

/// Numbers in [-1, 1) from a hash of a name and a position; `parity_formula.py` has the
/// same.
pub(super) fn uniform(name: &str, count: usize) -> Vec<f64> {
    let seed = name.bytes().fold(2_166_136_261u32, |seed, byte| {
        (seed ^ u32::from(byte)).wrapping_mul(16_777_619)
    });
    (0..count as u32)
        .map(|index| {
            let mut x = index.wrapping_mul(0x9E37_79B9).wrapping_add(seed);
            x ^= x >> 16;
            x = x.wrapping_mul(0x85EB_CA6B);
            x ^= x >> 13;
            x = x.wrapping_mul(0xC2B2_AE35);
            x ^= x >> 16;
            f64::from(x) / 2f64.powi(31) - 1.0
        })
        .collect()
}

/// A tensor of such numbers.
pub(crate) fn noise(name: &str, dims: &[usize]) -> Tensor {
    let values = uniform(name, dims.iter().product());
    let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

/// Weights by formula.
pub(crate) fn formula(graph: &Graph) -> Params {
    let mut params = Params::initialise(graph, 0, &Device::Cpu).unwrap();
    for id in 0..graph.nodes().len() {
        for spec in graph.params(id) {
            let (centre, spread) = match spec.kind {
                ParamKind::Kernel => {
                    let fan_in: usize = spec.dims[1..].iter().product();
                    (0.0, (6.0 / fan_in as f64).sqrt())
                }
                ParamKind::Bias => (0.0, 0.1),
                ParamKind::Gamma => (1.0, 0.2),
                ParamKind::Beta => (0.0, 0.2),
                ParamKind::Token | ParamKind::Position => (0.0, 0.5),
                ParamKind::MovingMean => (0.0, 0.1),
                ParamKind::MovingVariance => (1.0, 0.3),
            };
            let values: Vec<f32> = uniform(&spec.name, spec.elements())
                .into_iter()
                .map(|value| (centre + spread * value) as f32)
                .collect();
            let value = Tensor::from_vec(values, spec.dims.as_slice(), &Device::Cpu).unwrap();
            params.set(&spec.name, value).unwrap();
        }
    }
    params
}

/// MobileNetV2 for square pictures, with the given head.
pub(crate) fn mobilenet(width: f64, side: u32, head: &str) -> Graph {
    let text = format!("backbone = \"mobilenet_v2\"\nwidth = {width:?}\nhead = {head}");
    let model = toml::from_str(&text).unwrap();
    Graph::build(&model, [side, side], Flavour::Torch).unwrap()
}

/// What trains under `freeze = ...` or `freeze_before = ...`, and where the frontier runs.
pub(super) fn freezing(graph: &Graph, freezing: &str) -> (Trainable, Frontier) {
    let text =
        format!("name = \"p\"\nepochs = 1\noptimizer = {{ kind = \"sgd\", lr = 0.1 }}\n{freezing}");
    let phase: PhaseConfig = toml::from_str(&text).unwrap();
    let trainable = Trainable::resolve(graph, &phase, 0).unwrap();
    let frontier = Frontier::find(graph, &trainable);
    (trainable, frontier)
}

/// Outputs of all nodes by the tensor operations, from a picture.
pub(crate) fn node_by_node(graph: &Graph, params: &Params, picture: &Tensor) -> Vec<Tensor> {
    let mut outputs: Vec<Tensor> = vec![picture.clone()];
    for id in 1..graph.nodes().len() {
        let inputs: Vec<&Tensor> = graph.nodes()[id]
            .inputs
            .iter()
            .map(|&input: &NodeId| &outputs[input])
            .collect();
        outputs.push(forward::infer(graph, params, id, &inputs).unwrap());
    }
    outputs
}

/// Largest difference, as a share of the largest expected value.
pub(super) fn difference(actual: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(actual.dims(), expected.dims());
    let (actual, expected) = (values(actual).unwrap(), values(expected).unwrap());
    let largest = expected
        .iter()
        .fold(0f32, |max, value| max.max(value.abs()));
    let pairs = actual.iter().zip(&expected);
    let difference = pairs.fold(0f32, |max, (a, b)| {
        // `max` would drop a NaN.
        if (a - b).is_nan() {
            f32::NAN
        } else {
            max.max((a - b).abs())
        }
    });
    f64::from(difference) / f64::from(largest)
}

/// Fails if two tensors differ by more than a share of the largest expected value.
#[track_caller]
pub(super) fn assert_close(what: &str, actual: &Tensor, expected: &Tensor, tolerance: f64) {
    let difference = difference(actual, expected);
    assert!(
        difference <= tolerance,
        "`{what}` differs by {difference:.2e} of its largest value"
    );
}

/// Runs with that many threads.
pub(super) fn with_threads<R: Send>(threads: usize, run: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(run)
}
