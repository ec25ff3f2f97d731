//! Parameters and pictures by formula; `tests/fixtures/make_parity.py` computes the same.
//!
//! Channels come in classes by their number: behind a norm most lie above zero, every fourth below
//! it and, where bounded activations want it, every sixteenth far above. A few deviations keep them
//! there, so that rounding seldom carries an activation across a kink, where gradients jump, and yet
//! no activation can be left out unnoticed. Kernels sum to nothing over the inputs of a class: what
//! reaches the next layer is what differs between pictures and places, whatever the depth.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use crate::engine::params::Params;
use crate::engine::test_support::uniform;
use crate::graph::{Graph, ParamKind, ParamSpec};

/// Numbers of a layer that the formula goes by, found by the script: `[scale]` of a kernel;
/// `[mean of each class, variance]` of a norm's input.
pub(crate) type Levels = HashMap<String, Vec<f64>>;

/// Class of a channel: 0 above zero, 1 below, 2 far above.
fn class(channel: usize, channels: usize, saturate: bool) -> usize {
    if channel % 4 == 3 {
        1
    } else if saturate && channels >= 32 && channel % 16 == 5 {
        2
    } else {
        0
    }
}

/// Where a class lies.
const CENTRES: [f64; 3] = [1.5, -1.5, 8.0];

/// Scale of norms, and the deviation that kernels' scales aim at.
const SPREAD: f64 = 0.4;

/// Every parameter and statistic of a graph.
pub(super) fn params(graph: &Graph, levels: &Levels, saturate: bool, smooth: bool) -> Params {
    Params::filled(graph, &Device::Cpu, |spec, _| {
        fill(spec, levels, saturate, smooth)
    })
    .unwrap()
}

fn fill(spec: &ParamSpec, levels: &Levels, saturate: bool, smooth: bool) -> Vec<f32> {
    let (layer, _) = spec.name.split_once('/').unwrap();
    let level = |at: usize, otherwise: f64| levels.get(layer).map_or(otherwise, |found| found[at]);
    let mut values = uniform(&spec.name, spec.elements());
    let channels = spec.dims[0];
    let class = |channel: usize| class(channel, channels, saturate);
    let each = |values: &mut [f64], value: &dyn Fn(usize, f64) -> f64| {
        for (channel, number) in values.iter_mut().enumerate() {
            *number = value(channel, *number);
        }
    };
    match spec.kind {
        ParamKind::Kernel => kernel(&mut values, &spec.dims, saturate, level(0, 1.0)),
        ParamKind::Bias | ParamKind::Beta => {
            let share = if smooth { 0.0 } else { 1.0 };
            each(&mut values, &|channel, u| {
                share * CENTRES[class(channel)] + 0.1 * u
            });
        }
        ParamKind::Token | ParamKind::Position => each(&mut values, &|_, u| 0.1 * u),
        ParamKind::Gamma => each(&mut values, &|_, u| SPREAD * (1.0 + 0.3 * u)),
        ParamKind::MovingMean => {
            let deviation = level(3, 1.0).sqrt();
            each(&mut values, &|channel, u| {
                level(class(channel), 0.0) + 0.1 * deviation * u
            });
        }
        ParamKind::MovingVariance => {
            each(&mut values, &|_, u| level(3, 1.0) * (1.0 + 0.3 * u));
        }
    }
    values.into_iter().map(|value| value as f32).collect()
}

/// Turns numbers in [-1, 1) into a kernel whose outputs vary as much as its inputs, times `scale`.
fn kernel(values: &mut [f64], dims: &[usize], saturate: bool, scale: f64) {
    let window: usize = dims[2..].iter().product();
    let inputs = dims[1];
    let spread = (3.0 / (inputs * window) as f64).sqrt();
    for value in values.iter_mut() {
        *value *= spread;
    }
    if inputs == 1 && dims.len() == 4 {
        // A depthwise filter passes a constant as it is, and at borders almost so.
        let centre = dims[2] / 2 * dims[3] + dims[3] / 2;
        for filter in values.chunks_mut(window) {
            let mean = filter.iter().sum::<f64>() / window as f64;
            for value in filter.iter_mut() {
                *value = 0.1 * (*value - mean);
            }
            filter[centre] += 1.0;
        }
    } else if inputs >= 8 {
        let classes: Vec<usize> = (0..inputs).map(|i| class(i, inputs, saturate)).collect();
        let mut members = [0usize; CENTRES.len()];
        classes.iter().for_each(|&class| members[class] += 1);
        let mut means = vec![0.0; CENTRES.len() * window];
        for filter in values.chunks_mut(inputs * window) {
            means.fill(0.0);
            for (taps, &class) in filter.chunks(window).zip(&classes) {
                for (mean, tap) in means[class * window..].iter_mut().zip(taps) {
                    *mean += tap / members[class] as f64;
                }
            }
            for (taps, &class) in filter.chunks_mut(window).zip(&classes) {
                if members[class] >= 2 {
                    for (mean, tap) in means[class * window..].iter().zip(taps) {
                        *tap -= mean;
                    }
                }
            }
        }
    }
    for value in values {
        *value *= scale;
    }
}

/// Coarse squares under fine noise, so that pictures differ: `[batch, side, side, 3]`.
pub(super) fn pictures(number: u64, batch: usize, side: usize) -> Tensor {
    const BLOCKS: usize = 4;
    let coarse = uniform(&format!("squares {number}"), batch * BLOCKS * BLOCKS * 3);
    let fine = uniform(&format!("noise {number}"), batch * side * side * 3);
    let value = |index: usize| {
        let (channel, x) = (index % 3, index / 3 % side);
        let (y, picture) = (index / 3 / side % side, index / 3 / side / side);
        let block = (picture * BLOCKS + y * BLOCKS / side) * BLOCKS + x * BLOCKS / side;
        (0.7 * coarse[block * 3 + channel] + 0.3 * fine[index]) as f32
    };
    let values: Vec<f32> = (0..fine.len()).map(value).collect();
    Tensor::from_vec(values, (batch, side, side, 3), &Device::Cpu).unwrap()
}
