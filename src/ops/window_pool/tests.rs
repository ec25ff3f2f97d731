//! Against double precision, against finite differences, and against themselves on other numbers
//! of threads.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::ops::concat;
use crate::ops::tests::{flat, wave};

/// All different, in an order that looks random.
fn ranked(dims: &[usize]) -> Tensor {
    let count: usize = dims.iter().product();
    // A prime larger than any count here, so that no value comes twice.
    let value = |i: usize| (i * 7919 % 99_991) as f32 / 5000.0 - 10.0;
    Tensor::from_vec(
        (0..count).map(value).collect(),
        dims,
        &candle_core::Device::Cpu,
    )
    .unwrap()
}

/// Whole numbers from 0 to 2, so that windows hold several maxima.
fn tied(dims: &[usize]) -> Tensor {
    let wave = wave(dims, 0.1).affine(1.2, 1.0).unwrap();
    wave.round().unwrap()
}

fn double(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::F64).unwrap()
}

#[track_caller]
fn close(what: &str, found: &Tensor, wanted: &Tensor) {
    assert_eq!(found.dims(), wanted.dims(), "{what}");
    let wanted = flat(&wanted.to_dtype(DType::F32).unwrap());
    let largest = wanted.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
    for (found, wanted) in flat(found).iter().zip(&wanted) {
        assert!(
            (found - wanted).abs() <= 1e-5 * largest,
            "{what}: {found} for {wanted}"
        );
    }
}

fn windows() -> impl Strategy<Value = ([usize; 4], Window)> {
    let axis = || (1..5usize, 1..4usize, 0..4usize, 0..4usize);
    let dims = (0..3usize, 1..12usize, 1..12usize, 1..90usize);
    (dims, axis(), axis())
        .prop_map(|((batch, height, width, channels), y, x)| {
            let window = Window {
                kernel: [y.0, x.0],
                stride: [y.1, x.1],
                dilation: [1, 1],
                padding: Padding {
                    top: y.2 % y.0,
                    bottom: y.3 % y.0,
                    left: x.2 % x.0,
                    right: x.3 % x.0,
                },
            };
            ([batch, height, width, channels], window)
        })
        .prop_filter("the window fits", |([_, height, width, _], window)| {
            window.output(*height, *width).is_some()
        })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 80,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..Default::default()
    })]

    #[test]
    fn pools_are_what_double_precision_says((dims, window) in windows(), ties: bool) {
        let x = if ties { tied(&dims) } else { ranked(&dims) };
        let y = max(&x, &window).unwrap();
        let dy = wave(y.dims(), 0.9);
        // A batch of none is nothing to compare, yet has the right dimensions.
        let dx = max_backward(&x, &dy, &window).unwrap();
        assert_eq!(dx.dims(), dims);
        if dims[0] > 0 {
            close("maximum", &y, &max(&double(&x), &window).unwrap());
            let wanted = max_backward(&double(&x), &double(&dy), &window).unwrap();
            close("gradient of the maximum", &dx, &wanted);
        }
        for padded in [false, true] {
            let y = avg(&x, &window, padded).unwrap();
            let dx = avg_backward(&dims, &dy, &window, padded).unwrap();
            assert_eq!(dx.dims(), dims);
            if dims[0] > 0 {
                close("mean", &y, &avg(&double(&x), &window, padded).unwrap());
                let wanted = avg_backward(&dims, &double(&dy), &window, padded).unwrap();
                close("gradient of the mean", &dx, &wanted);
            }
        }
    }

    #[test]
    fn concatenation_is_that_of_stock_operations(
        batch in 0..3usize, height in 1..9usize, width in 1..9usize,
        channels in prop::collection::vec(1..40usize, 1..5),
    ) {
        let inputs: Vec<Tensor> = (channels.iter().enumerate())
            .map(|(i, &channels)| wave(&[batch, height, width, channels], i as f64))
            .collect();
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let y = concat::forward(&inputs).unwrap();
        if batch > 0 {
            assert_eq!(flat(&y), flat(&concat::portable(&inputs).unwrap()));
        }
        let mut first = 0;
        for input in inputs {
            let channels = input.dims()[3];
            let back = concat::backward(&y, first, channels).unwrap();
            assert_eq!(back.dims(), input.dims());
            assert_eq!(flat(&back), flat(input));
            first += channels;
        }
        assert_eq!(y.dims(), [batch, height, width, first]);
    }
}

const UNEVEN: Window = Window {
    kernel: [3, 2],
    stride: [2, 1],
    dilation: [1, 1],
    padding: Padding {
        top: 0,
        bottom: 2,
        left: 1,
        right: 0,
    },
};

#[test]
fn gradients_are_slopes() {
    let dot = |a: &Tensor, b: &Tensor| -> f64 {
        let products = flat(a).into_iter().zip(flat(b));
        products.map(|(a, b)| f64::from(a) * f64::from(b)).sum()
    };
    let x = ranked(&[2, 5, 4, 3]);
    type Forward<'a> = &'a dyn Fn(&Tensor) -> Tensor;
    let compare = |dx: Tensor, dy: &Tensor, f: Forward<'_>| {
        for (i, slope) in flat(&dx).into_iter().enumerate() {
            let moved = |by: f32| {
                let mut values = flat(&x);
                values[i] += by;
                let x = Tensor::from_vec(values, x.shape(), x.device()).unwrap();
                dot(&f(&x), dy)
            };
            // Shorter than the gap between any two values.
            let step = 1e-4;
            let numeric = (moved(step) - moved(-step)) / f64::from(2.0 * step);
            assert!(
                (numeric - f64::from(slope)).abs() < 0.05,
                "{i}: {numeric} and {slope}"
            );
        }
    };
    let y = max(&x, &UNEVEN).unwrap();
    let dy = wave(y.dims(), 0.9);
    let dx = max_backward(&x, &dy, &UNEVEN).unwrap();
    compare(dx, &dy, &|x| max(x, &UNEVEN).unwrap());
    for padded in [false, true] {
        let dx = avg_backward(x.dims(), &dy, &UNEVEN, padded).unwrap();
        compare(dx, &dy, &|x| avg(x, &UNEVEN, padded).unwrap());
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let everything = || {
        let x = wave(&[17, 13, 11, 24], 0.1);
        let y = max(&x, &UNEVEN).unwrap();
        let dy = wave(y.dims(), 0.9);
        let results = [
            max_backward(&x, &dy, &UNEVEN).unwrap(),
            avg(&x, &UNEVEN, false).unwrap(),
            avg_backward(x.dims(), &dy, &UNEVEN, true).unwrap(),
            concat::forward(&[&x, &x]).unwrap(),
            y,
        ];
        let values = results.iter().flat_map(flat);
        values.map(f32::to_bits).collect::<Vec<_>>()
    };
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(everything)
    };
    let one = on(1);
    assert!(one == on(2) && one == on(7));
}

#[test]
fn windows_that_make_no_sense_are_errors() {
    let x = wave(&[1, 4, 4, 3], 0.1);
    let wide = Window {
        kernel: [7, 7],
        ..UNEVEN
    };
    let dilated = Window {
        dilation: [2, 2],
        ..UNEVEN
    };
    let padded = Window {
        padding: Padding::same(3),
        ..UNEVEN
    };
    for window in [wide, dilated, padded] {
        assert!(max(&x, &window).is_err());
        assert!(avg(&x, &window, false).is_err());
    }
    let small = wave(&[1, 3, 4, 3], 0.1);
    assert!(concat::forward(&[&x, &small]).is_err());
    assert!(concat::forward(&[]).is_err());
}
