//! Every operation against PyTorch's outputs and gradients, written by
//! `tests/fixtures/make_op_fixtures.py`.

use candle_core::Tensor;
use serde::Deserialize;

use super::activation::Activation;
use super::loss::{LossOutput, Others, Target};
use super::norm::BatchNorm;
use super::tests::{flat, wave};
use super::*;
use crate::geometry::{Padding, Window};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Case {
    op: String,
    x: Vec<usize>,
    kernel: Vec<usize>,
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: [usize; 4],
    scale: f64,
    heads: usize,
    labels: Vec<u32>,
    others: Option<Vec<u32>>,
    own: f64,
    smoothing: f64,
    weights: Option<Vec<f32>>,
    y: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    running_mean: Vec<f32>,
    running_variance: Vec<f32>,
}

fn close(what: &str, found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let largest = wanted.iter().fold(1e-6f32, |most, x| most.max(x.abs()));
    for (found, wanted) in found.iter().zip(wanted) {
        let gap = (found - wanted).abs() / largest;
        assert!(gap < 1e-5, "{what}: {found} for {wanted}");
    }
}

/// Output and gradients in the order of the fixture.
fn run(case: &Case) -> Vec<Vec<f32>> {
    let needs = Needs {
        input: true,
        kernel: true,
        bias: true,
    };
    let of_kernel = |y: Tensor, found: KernelGrads| {
        let found = [found.input, found.kernel, found.bias];
        let mut results = vec![flat(&y)];
        results.extend(found.map(|gradient| flat(&gradient.unwrap())));
        results
    };
    let of_loss = |loss: LossOutput| {
        let mean = (loss.sum / loss.weight) as f32;
        vec![vec![mean], flat(&loss.gradient)]
    };
    let x = wave(&case.x, 0.1);
    let target = Target {
        labels: &case.labels,
        others: case.others.as_ref().map(|labels| Others {
            labels,
            own: case.own,
        }),
        smoothing: case.smoothing,
        class_weights: case.weights.as_deref(),
    };
    match case.op.as_str() {
        "conv" | "depthwise" | "dense" => {
            let (kernel, bias) = (wave(&case.kernel, 0.5), wave(&case.kernel[..1], 0.3));
            if case.op == "dense" {
                let y = dense::forward(&x, &kernel, Some(&bias)).unwrap();
                let dy = wave(y.dims(), 0.9);
                return of_kernel(y, dense::backward(&x, &kernel, &dy, needs).unwrap());
            }
            let window = window(case);
            let (y, dy);
            let found = if case.op == "conv" {
                y = conv::forward(&x, &kernel, Some(&bias), &window).unwrap();
                dy = wave(y.dims(), 0.9);
                conv::backward(&x, &kernel, &dy, &window, needs)
            } else {
                y = depthwise::forward(&x, &kernel, Some(&bias), &window).unwrap();
                dy = wave(y.dims(), 0.9);
                depthwise::backward(&x, &kernel, &dy, &window, needs)
            };
            of_kernel(y, found.unwrap())
        }
        "gate" => {
            let factors = wave(&[case.x[0], case.x[3]], 0.5);
            let y = gate::forward(&x, &factors).unwrap();
            let dy = wave(y.dims(), 0.9);
            let found = gate::backward(&x, &factors, &dy, [true, true]).unwrap();
            let mut results = vec![flat(&y)];
            results.extend(found.map(|gradient| flat(&gradient.unwrap())));
            results
        }
        "norm_eval" | "norm_train" => batch_norm(case, &x),
        "max_pool" | "avg_pool" | "avg_pool_padded" => window_pool(case, &x),
        "layer_norm" => {
            let channels = &case.x[case.x.len() - 1..];
            let (gamma, beta) = (wave(channels, 0.2), wave(channels, 0.4));
            let y = layer_norm::forward(&x, &gamma, &beta, 1e-3).unwrap();
            let dy = wave(y.dims(), 0.9);
            let found = layer_norm::backward(&x, &dy, &gamma, 1e-3, true, true).unwrap();
            let found = [found.input, found.gamma, found.beta];
            std::iter::once(flat(&y))
                .chain(found.map(|gradient| flat(&gradient.unwrap())))
                .collect()
        }
        "attention" => {
            let y = attention::forward(&x, case.heads).unwrap();
            let dy = wave(y.dims(), 0.9);
            let dx = attention::backward(&x, &dy, case.heads).unwrap();
            vec![flat(&y), flat(&dx)]
        }
        "categorical" => of_loss(loss::categorical(&(x * 4.0).unwrap(), target).unwrap()),
        "binary" => of_loss(loss::binary(&(x * 4.0).unwrap(), target).unwrap()),
        op => {
            let x = (x * case.scale).unwrap();
            let named = |activation: &Activation| activation.name() == op;
            let activation = Activation::ALL.into_iter().find(named);
            let activation = activation.unwrap_or_default();
            let y = match op {
                "global_avg" => pool::global_avg(&x),
                "global_max" => pool::global_max(&x),
                _ => activation::forward(&x, activation),
            };
            let y = y.unwrap();
            let dy = wave(y.dims(), 0.9);
            let dx = match op {
                "global_avg" => pool::global_avg_backward(&dy, case.x[1], case.x[2]),
                "global_max" => pool::global_max_backward(&x, &dy),
                _ => match activation.bounds() {
                    Some(_) => activation::backward(&y, &dy, activation),
                    None => activation::backward(&x, &dy, activation),
                },
            };
            vec![flat(&y), flat(&dx.unwrap())]
        }
    }
}

fn window(case: &Case) -> Window {
    let [top, bottom, left, right] = case.padding;
    Window {
        kernel: [case.kernel[2], case.kernel[3]],
        stride: case.stride,
        dilation: case.dilation.map(|dilation| dilation.max(1)),
        padding: Padding {
            top,
            bottom,
            left,
            right,
        },
    }
}

fn window_pool(case: &Case, x: &Tensor) -> Vec<Vec<f32>> {
    let window = window(case);
    let padded = case.op == "avg_pool_padded";
    let max = case.op == "max_pool";
    let y = match max {
        true => window_pool::max(x, &window),
        false => window_pool::avg(x, &window, padded),
    };
    let y = y.unwrap();
    let dy = wave(y.dims(), 0.9);
    let dx = match max {
        true => window_pool::max_backward(x, &dy, &window),
        false => window_pool::avg_backward(x.dims(), &dy, &window, padded),
    };
    vec![flat(&y), flat(&dx.unwrap())]
}

fn batch_norm(case: &Case, x: &Tensor) -> Vec<Vec<f32>> {
    let channels = *case.x.last().unwrap();
    let parameter = |phase| wave(&[channels], phase);
    let (gamma, beta, mean) = (parameter(0.2), parameter(0.4), parameter(0.6));
    let variance = parameter(2.0).affine(0.5, 1.0).unwrap();
    let norm = BatchNorm {
        gamma: &gamma,
        beta: &beta,
        mean: &mean,
        variance: &variance,
        epsilon: 1e-3,
    };
    let dy = wave(&case.x, 0.9);
    let (y, found) = if case.op == "norm_eval" {
        let y = norm::forward_eval(x, norm).unwrap();
        (y, norm::backward_eval(x, &dy, norm, true, true))
    } else {
        let trained = norm::forward_train(x, norm, 0.1).unwrap();
        close(
            "running mean",
            &flat(&trained.running_mean),
            &case.running_mean,
        );
        let running = flat(&trained.running_variance);
        close("running variance", &running, &case.running_variance);
        let (mean, variance) = (&trained.mean, &trained.variance);
        let found = norm::backward_train(x, &dy, norm, mean, variance, true, true);
        (trained.y, found)
    };
    let found = found.unwrap();
    let mut results = vec![flat(&y)];
    results.extend([found.input, found.gamma, found.beta].map(|g| flat(&g.unwrap())));
    results
}

#[test]
fn operations_are_what_pytorch_says() {
    let text = include_str!("../../tests/fixtures/ops.json");
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    assert!(cases.len() > 25);
    for case in cases {
        let what = format!("{} of {:?} with {:?}", case.op, case.x, case.kernel);
        let wanted = std::iter::once(&case.y).chain(&case.gradients);
        let found = run(&case);
        assert_eq!(found.len(), 1 + case.gradients.len());
        for (found, wanted) in found.iter().zip(wanted) {
            close(&what, found, wanted);
        }
    }
}
