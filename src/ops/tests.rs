//! The fast paths against the portable ones, against finite differences and against themselves on
//! other numbers of threads.

use candle_core::{Device, Result, Tensor};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::activation::Activation;
use super::loss::Target;
use super::norm::BatchNorm;
use super::*;
use crate::geometry::{Padding, Window};

const ALL: Needs = Needs {
    input: true,
    kernel: true,
    bias: true,
};

pub(super) fn wave(dims: &[usize], phase: f64) -> Tensor {
    let count = dims.iter().product();
    let values = (0..count).map(|i| (phase + 0.7 * i as f64).sin() as f32);
    Tensor::from_vec(values.collect::<Vec<_>>(), dims, &Device::Cpu).unwrap()
}

pub(super) fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference, relative to the largest value. What is compared are sums of terms of size 1;
/// one that cancels to next to nothing keeps the rounding errors of its terms.
fn distance(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (flat(a), flat(b));
    let largest = b.iter().fold(0.1f32, |most, x| most.max(x.abs()));
    a.iter()
        .zip(&b)
        .fold(0f32, |most, (a, b)| most.max((a - b).abs()))
        / largest
}

/// Some convolution: dimensions of the input and its window.
fn convolutions() -> impl Strategy<Value = ([usize; 4], Window)> {
    let axis = || (1..4usize, 1..4usize, 1..3usize, 0..3usize, 0..3usize);
    let dims = (0..3usize, 1..12usize, 1..12usize, 1..36usize);
    (dims, axis(), axis())
        .prop_map(|((batch, height, width, channels), y, x)| {
            let window = Window {
                kernel: [y.0, x.0],
                stride: [y.1, x.1],
                dilation: [y.2, x.2],
                padding: Padding {
                    top: y.3,
                    bottom: y.4,
                    left: x.3,
                    right: x.4,
                },
            };
            ([batch, height, width, channels], window)
        })
        .prop_filter("the window fits", |([_, height, width, _], window)| {
            window.output(*height, *width).is_some()
        })
}

type Forward = fn(&Tensor, &Tensor, Option<&Tensor>, &Window) -> Result<Tensor>;
type Backward = fn(&Tensor, &Tensor, &Tensor, &Window, Needs) -> Result<KernelGrads>;

fn agrees(dims: &[usize; 4], kernel: &[usize], window: &Window, ops: (Forward, Forward, Backward)) {
    let (fast, portable, backward) = ops;
    let (x, kernel) = (wave(dims, 0.1), wave(kernel, 0.5));
    let bias = wave(&[kernel.dims()[0]], 0.3);
    let y = fast(&x, &kernel, Some(&bias), window).unwrap();
    let dy = wave(y.dims(), 0.9);
    let found = backward(&x, &kernel, &dy, window, ALL).unwrap();
    if dims[0] == 0 {
        assert_eq!(found.input.unwrap().dims(), dims);
        assert!(flat(&found.kernel.unwrap()).iter().all(|x| *x == 0.0));
        return;
    }
    let wanted = portable(&x, &kernel, Some(&bias), window).unwrap();
    assert!(distance(&y, &wanted) < 1e-5, "forward");
    let call = |[x, kernel]: [&Tensor; 2]| portable(x, kernel, None, window);
    let wanted = conv::portable_backward(&x, &kernel, &dy, ALL, call).unwrap();
    let pairs = [
        (found.input, wanted.input),
        (found.kernel, wanted.kernel),
        (found.bias, wanted.bias),
    ];
    for (found, wanted) in pairs {
        assert!(
            distance(&found.unwrap(), &wanted.unwrap()) < 2e-5,
            "gradient"
        );
    }
}

proptest! {
    // The same shapes in every run: rounding errors of unlucky sums come close to the bound.
    #![proptest_config(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..Default::default()
    })]

    #[test]
    fn convolution_is_what_stock_operations_say((dims, window) in convolutions(), filters in 1..40usize) {
        let kernel = [filters, dims[3], window.kernel[0], window.kernel[1]];
        agrees(&dims, &kernel, &window, (conv::forward, conv::portable, conv::backward));
    }

    #[test]
    fn grouped_convolution_is_what_stock_operations_say(
        (dims, window) in convolutions(), groups in 2..5usize, filters in 1..9usize,
    ) {
        let [batch, height, width, channels] = dims;
        let share = channels.div_ceil(groups);
        let dims = [batch, height, width, share * groups];
        let kernel = [filters * groups, share, window.kernel[0], window.kernel[1]];
        agrees(&dims, &kernel, &window, (conv::forward, conv::portable, conv::backward));
    }

    #[test]
    fn depthwise_is_what_stock_operations_say((dims, window) in convolutions()) {
        let kernel = [dims[3], 1, window.kernel[0], window.kernel[1]];
        let ops: (Forward, Forward, Backward) =
            (depthwise::forward, depthwise::portable, depthwise::backward);
        agrees(&dims, &kernel, &window, ops);
    }
}

#[test]
fn both_classes_of_one_output_have_their_probability() {
    let logits = Tensor::new(&[[40f32], [-40.0], [0.0], [1e-9]], &Device::Cpu).unwrap();
    let probable = loss::probabilities(&logits).unwrap();
    for pair in &probable {
        assert!(pair.iter().all(|p| *p > 0.0), "{pair:?}");
    }
    assert_eq!(probable[0][0], probable[1][1]);
    // A tie is the first class, for the loss as for whoever reads the probabilities.
    let target = Target {
        labels: &[1, 0, 0, 0],
        others: None,
        smoothing: 0.0,
        class_weights: None,
    };
    assert_eq!(probable[3], [0.5, 0.5]);
    assert_eq!(loss::binary(&logits, target).unwrap().correct, 4);
}

/// Small whole numbers: their sums are exact in any order.
fn integers(dims: &[usize], phase: f64) -> Tensor {
    (wave(dims, phase).affine(3.0, 0.0).unwrap())
        .round()
        .unwrap()
}

#[test]
fn a_kernel_larger_than_the_gathered_patches_convolves() {
    let window = Window {
        kernel: [8, 8],
        stride: [1, 1],
        dilation: [1, 1],
        padding: Padding::default(),
    };
    let x = integers(&[1, 9, 8, 1040], 0.1);
    let kernel = integers(&[3, 1040, 8, 8], 0.5);
    let y = conv::forward(&x, &kernel, None, &window).unwrap();
    let wanted = conv::portable(&x, &kernel, None, &window).unwrap();
    assert_eq!(flat(&y), flat(&wanted));
    let dy = integers(y.dims(), 0.9);
    let found = conv::backward(&x, &kernel, &dy, &window, ALL).unwrap();
    let call = |[x, kernel]: [&Tensor; 2]| conv::portable(x, kernel, None, &window);
    let wanted = conv::portable_backward(&x, &kernel, &dy, ALL, call).unwrap();
    for (found, wanted) in [(found.input, wanted.input), (found.kernel, wanted.kernel)] {
        assert_eq!(flat(&found.unwrap()), flat(&wanted.unwrap()));
    }
}

/// Five parameters of a batch norm over `channels` channels.
struct NormParameters([Tensor; 4]);

impl NormParameters {
    fn new(channels: usize) -> Self {
        let variance = (wave(&[channels], 2.0).affine(0.5, 1.0)).unwrap();
        Self([
            wave(&[channels], 0.2),
            wave(&[channels], 0.4),
            wave(&[channels], 0.6),
            variance,
        ])
    }

    fn get(&self) -> BatchNorm<'_> {
        let [gamma, beta, mean, variance] = &self.0;
        BatchNorm {
            gamma,
            beta,
            mean,
            variance,
            epsilon: 1e-3,
        }
    }
}

#[test]
fn batch_norm_is_what_stock_operations_say() {
    for dims in [vec![2, 5, 3, 24], vec![7, 19], vec![3, 40, 31, 9]] {
        let x = (wave(&dims, 0.0) + 3.0).unwrap();
        let dy = wave(&dims, 0.4);
        let parameters = NormParameters::new(dims[dims.len() - 1]);
        let norm = parameters.get();
        let wanted = norm::portable_eval(&x, norm).unwrap();
        assert!(distance(&norm::forward_eval(&x, norm).unwrap(), &wanted) < 1e-5);
        let trained = norm::forward_train(&x, norm, 0.1).unwrap();
        let [wanted, mean, variance] = norm::portable_train(&x, norm).unwrap();
        assert!(distance(&trained.y, &wanted) < 1e-4);
        assert!(distance(&trained.mean, &mean) < 1e-5);
        assert!(distance(&trained.variance, &variance) < 1e-5);

        let inputs = [&x, norm.gamma, norm.beta];
        let eval = portable::gradients(inputs, &dy, |[x, gamma, beta]| {
            norm::portable_eval(
                x,
                BatchNorm {
                    gamma,
                    beta,
                    ..norm
                },
            )
        });
        let train = portable::gradients(inputs, &dy, |[x, gamma, beta]| {
            let [y, ..] = norm::portable_train(
                x,
                BatchNorm {
                    gamma,
                    beta,
                    ..norm
                },
            )?;
            Ok(y)
        });
        let found = [
            norm::backward_eval(&x, &dy, norm, true, true).unwrap(),
            norm::backward_train(&x, &dy, norm, &mean, &variance, true, true).unwrap(),
        ];
        for (found, wanted) in found.into_iter().zip([eval.unwrap(), train.unwrap()]) {
            let found = [found.input, found.gamma, found.beta];
            for (found, wanted) in found.into_iter().zip(wanted) {
                assert!(distance(&found.unwrap(), &wanted) < 1e-4);
            }
        }
    }
}

/// Compares `gradient` with central differences of `sum(f(x) * weights)`.
fn differences(x: &Tensor, gradient: &Tensor, step: f32, f: impl Fn(&Tensor) -> f64) {
    let values = flat(x);
    let gradient = flat(gradient);
    let largest = gradient.iter().fold(0f32, |most, g| most.max(g.abs()));
    for i in 0..values.len() {
        let moved = |by: f32| {
            let mut values = values.clone();
            values[i] += by;
            f(&Tensor::from_vec(values, x.shape(), &Device::Cpu).unwrap())
        };
        let slope = (moved(step) - moved(-step)) / f64::from(2.0 * step);
        let gap = (slope - f64::from(gradient[i])).abs();
        assert!(
            gap < 2e-3 * f64::from(largest),
            "{i}: {slope} and {}",
            gradient[i]
        );
    }
}

/// Sum of products, in f64.
fn dot(a: &Tensor, b: &Tensor) -> f64 {
    let products = flat(a).into_iter().zip(flat(b));
    products.map(|(a, b)| f64::from(a) * f64::from(b)).sum()
}

#[test]
fn kernel_gradients_are_slopes() {
    let window = Window {
        kernel: [3, 2],
        stride: [2, 1],
        dilation: [1, 2],
        padding: Padding {
            top: 1,
            bottom: 0,
            left: 0,
            right: 2,
        },
    };
    let x = wave(&[2, 5, 4, 3], 0.1);
    let convolution = (conv::forward as Forward, conv::backward as Backward);
    let depth_wise = (
        depthwise::forward as Forward,
        depthwise::backward as Backward,
    );
    for (dims, (forward, backward)) in [([4, 3, 3, 2], convolution), ([3, 1, 3, 2], depth_wise)] {
        let kernel = wave(&dims, 0.5);
        let y = forward(&x, &kernel, None, &window).unwrap();
        let dy = wave(y.dims(), 0.9);
        let found = backward(&x, &kernel, &dy, &window, ALL).unwrap();
        let value =
            |x: &Tensor, kernel: &Tensor| dot(&forward(x, kernel, None, &window).unwrap(), &dy);
        differences(&x, &found.input.unwrap(), 0.1, |x| value(x, &kernel));
        differences(&kernel, &found.kernel.unwrap(), 0.1, |k| value(&x, k));
    }
    let (x, kernel) = (wave(&[3, 7], 0.1), wave(&[5, 7], 0.4));
    let dy = wave(&[3, 5], 0.9);
    let found = dense::backward(&x, &kernel, &dy, ALL).unwrap();
    let value = |x: &Tensor, kernel: &Tensor| dot(&dense::forward(x, kernel, None).unwrap(), &dy);
    differences(&x, &found.input.unwrap(), 0.1, |x| value(x, &kernel));
    differences(&kernel, &found.kernel.unwrap(), 0.1, |k| value(&x, k));
    let bias = Tensor::zeros(5, candle_core::DType::F32, &Device::Cpu).unwrap();
    differences(&bias, &found.bias.unwrap(), 0.1, |bias| {
        dot(&dense::forward(&x, &kernel, Some(bias)).unwrap(), &dy)
    });
}

#[test]
fn other_gradients_are_slopes() {
    let x = wave(&[2, 3, 4, 3], 0.1);
    let dy = wave(&[2, 3, 4, 3], 0.9);
    let parameters = NormParameters::new(3);
    let norm = parameters.get();
    let found = norm::backward_eval(&x, &dy, norm, true, true).unwrap();
    differences(&x, &found.input.unwrap(), 0.1, |x| {
        dot(&norm::forward_eval(x, norm).unwrap(), &dy)
    });
    let trained = norm::forward_train(&x, norm, 0.1).unwrap();
    let (mean, variance) = (&trained.mean, &trained.variance);
    let found = norm::backward_train(&x, &dy, norm, mean, variance, true, true).unwrap();
    let value =
        |x: &Tensor, norm: BatchNorm<'_>| dot(&norm::forward_train(x, norm, 0.1).unwrap().y, &dy);
    differences(&x, &found.input.unwrap(), 0.02, |x| value(x, norm));
    differences(norm.gamma, &found.gamma.unwrap(), 0.1, |gamma| {
        value(&x, BatchNorm { gamma, ..norm })
    });
    differences(norm.beta, &found.beta.unwrap(), 0.1, |beta| {
        value(&x, BatchNorm { beta, ..norm })
    });

    let wide = (&x * 9.0).unwrap();
    for activation in Activation::ALL {
        let forward = |x: &Tensor| activation::forward(x, activation).unwrap();
        let of = match activation.bounds() {
            Some(_) => forward(&wide),
            None => wide.clone(),
        };
        let dx = activation::backward(&of, &dy, activation).unwrap();
        differences(&wide, &dx, 0.005, |x| dot(&forward(x), &dy));
    }
    let small = wave(&[2, 3], 0.9);
    let dx = pool::global_avg_backward(&small, 3, 4).unwrap();
    differences(&x, &dx, 0.1, |x| dot(&pool::global_avg(x).unwrap(), &small));
    // All different, so that no step changes which is the largest.
    let values: Vec<f32> = (0..72).map(|i| (i * 37 % 72) as f32).collect();
    let ranked = Tensor::from_vec(values, x.shape(), &Device::Cpu).unwrap();
    let dx = pool::global_max_backward(&ranked, &small).unwrap();
    differences(&ranked, &dx, 0.1, |x| {
        dot(&pool::global_max(x).unwrap(), &small)
    });
    let padding = Padding {
        top: 1,
        bottom: 0,
        left: 2,
        right: 1,
    };
    let dy = wave(&[2, 4, 7, 3], 0.9);
    let dx = elementwise::pad_backward(&dy, padding).unwrap();
    differences(&x, &dx, 0.1, |x| {
        dot(&elementwise::pad(x, padding).unwrap(), &dy)
    });
}

#[test]
fn gates_are_what_stock_operations_say() {
    for (dims, by) in [
        (vec![3, 40, 31, 21], vec![3, 21]),
        (vec![2, 1, 1, 40], vec![2, 1, 1, 40]),
    ] {
        let (x, factors) = (wave(&dims, 0.1), wave(&by, 0.5));
        let dy = wave(&dims, 0.9);
        let y = gate::forward(&x, &factors).unwrap();
        assert!(distance(&y, &gate::portable(&x, &factors).unwrap()) < 1e-6);
        let found = gate::backward(&x, &factors, &dy, [true, true]).unwrap();
        let wanted = portable::gradients([&x, &factors], &dy, |[x, factors]| {
            gate::portable(x, factors)
        });
        for (found, wanted) in found.into_iter().zip(wanted.unwrap()) {
            assert!(distance(&found.unwrap(), &wanted) < 1e-5);
        }
    }
    let x = wave(&[2, 3, 3, 4], 0.1);
    assert!(gate::forward(&x, &wave(&[2, 3], 0.1)).is_err());
}

#[test]
fn curves_are_what_stock_operations_say() {
    let x = (wave(&[3, 5, 4, 29], 0.1) * 9.0).unwrap();
    let dy = wave(x.dims(), 0.9);
    let double = |x: &Tensor| x.to_dtype(candle_core::DType::F64).unwrap();
    let single = |x: &Tensor| x.to_dtype(candle_core::DType::F32).unwrap();
    for activation in Activation::ALL {
        let y = activation::forward(&x, activation).unwrap();
        let wanted = activation::portable(&double(&x), activation).unwrap();
        assert!(distance(&y, &single(&wanted)) < 1e-6, "{activation:?}");
        let of = match activation.bounds() {
            Some(_) => y,
            None => x.clone(),
        };
        let dx = activation::backward(&of, &dy, activation).unwrap();
        let wanted = activation::backward(&double(&of), &double(&dy), activation).unwrap();
        assert!(distance(&dx, &single(&wanted)) < 1e-6, "{activation:?}");
    }
}

#[test]
fn loss_gradients_are_slopes() {
    let weights = [0.5, 2.0, 1.0];
    for class_weights in [None, Some(&weights[..])] {
        let logits = (wave(&[4, 3], 0.2) * 3.0).unwrap();
        let target = Target {
            labels: &[0, 2, 1, 1],
            others: None,
            smoothing: 0.1,
            class_weights,
        };
        let mean = |logits: &Tensor| {
            let loss = loss::categorical(logits, target).unwrap();
            loss.sum / loss.weight
        };
        let gradient = loss::categorical(&logits, target).unwrap().gradient;
        differences(&logits, &gradient, 0.01, mean);

        let logits = (wave(&[4, 1], 0.2) * 3.0).unwrap();
        let target = Target {
            labels: &[0, 1, 1, 0],
            others: None,
            smoothing: 0.1,
            class_weights: class_weights.map(|weights| &weights[..2]),
        };
        let mean = |logits: &Tensor| {
            let loss = loss::binary(logits, target).unwrap();
            loss.sum / loss.weight
        };
        let gradient = loss::binary(&logits, target).unwrap().gradient;
        differences(&logits, &gradient, 0.01, mean);
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let everything = || {
        let x = wave(&[33, 13, 11, 24], 0.1);
        let window = Window {
            kernel: [3, 3],
            stride: [2, 2],
            dilation: [1, 1],
            padding: Padding::same(1),
        };
        let point = Window {
            kernel: [1, 1],
            stride: [1, 1],
            padding: Padding::same(0),
            ..window
        };
        let mut results = Vec::new();
        let kernels: [(_, _, Forward, Backward); 3] = [
            ([17, 24, 3, 3], window, conv::forward, conv::backward),
            ([70, 24, 1, 1], point, conv::forward, conv::backward),
            (
                [24, 1, 3, 3],
                window,
                depthwise::forward,
                depthwise::backward,
            ),
        ];
        for (dims, window, forward, backward) in kernels {
            let kernel = wave(&dims, 0.5);
            let y = forward(&x, &kernel, None, &window).unwrap();
            let dy = wave(y.dims(), 0.9);
            let grads = backward(&x, &kernel, &dy, &window, ALL).unwrap();
            results.extend([Some(y), grads.input, grads.kernel, grads.bias]);
        }
        let parameters = NormParameters::new(24);
        let norm = parameters.get();
        let dy = wave(x.dims(), 0.7);
        let trained = norm::forward_train(&x, norm, 0.1).unwrap();
        let (mean, variance) = (&trained.mean, &trained.variance);
        let grads = norm::backward_train(&x, &dy, norm, mean, variance, true, true).unwrap();
        results.extend([grads.input, grads.gamma, grads.beta]);
        results.extend([Some(trained.y), Some(trained.running_variance)]);
        results.push(Some(pool::global_avg(&x).unwrap()));
        let all = results.into_iter().flatten().flat_map(|t| flat(&t));
        all.map(f32::to_bits).collect::<Vec<_>>()
    };
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(everything)
    };
    let one = on(1);
    assert!(one == on(2) && one == on(7));
}

#[test]
fn misfits_are_named_with_both_shapes() {
    let x = wave(&[1, 4, 4, 3], 0.1);
    let window = Window {
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        padding: Padding::default(),
    };
    let message = conv::forward(&x, &wave(&[8, 5, 1, 1], 0.0), None, &window).unwrap_err();
    let message = message.to_string();
    assert!(
        message.contains("[1, 4, 4, 3]") && message.contains("[8, 5, 1, 1]"),
        "{message}"
    );
    let wide = Window {
        kernel: [5, 5],
        ..window
    };
    assert!(conv::forward(&x, &wave(&[8, 3, 5, 5], 0.0), None, &wide).is_err());
    assert!(depthwise::forward(&x, &wave(&[4, 1, 1, 1], 0.0), None, &window).is_err());
    assert!(dense::forward(&wave(&[2, 3], 0.0), &wave(&[2, 4], 0.0), None).is_err());
    let target = Target {
        labels: &[3],
        others: None,
        smoothing: 0.0,
        class_weights: None,
    };
    assert!(loss::categorical(&wave(&[1, 3], 0.0), target).is_err());
}
