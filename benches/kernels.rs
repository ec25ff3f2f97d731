//! Speed of the CPU kernels on one thread, on shapes of MobileNetV2 and its relatives: GFLOP/s, best
//! of many runs, and the share of what fused multiply-adds on registers alone reach.
//! `cargo bench --bench kernels`.

#![allow(clippy::print_stdout, missing_docs)]

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use xp::geometry::{Padding, Window};
use xp::ops::activation::Activation;
use xp::ops::kernel::{self, Epilogue, MapDims, PackedConv, PackedDepthwise};

fn wave(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.7).sin()).collect()
}

/// Shortest time of a call, over about half a second.
fn time(mut f: impl FnMut()) -> Duration {
    let start = Instant::now();
    let mut best = Duration::MAX;
    while start.elapsed() < Duration::from_millis(500) {
        let start = Instant::now();
        f();
        best = best.min(start.elapsed());
    }
    best
}

/// Operations per nanosecond.
fn rate(operations: usize, duration: Duration) -> f64 {
    operations as f64 / duration.as_nanos() as f64
}

fn report(name: &str, operations: usize, duration: Duration) {
    static PEAK: LazyLock<f64> = LazyLock::new(peak::measure);
    let rate = rate(operations, duration);
    let share = 100.0 * rate / *PEAK;
    let micros = duration.as_secs_f64() * 1e6;
    println!("{name:44} {rate:6.1} GFLOP/s {share:5.1} % {micros:9.1} us");
}

/// The most that this machine's arithmetic does: independent chains of fused multiply-adds, no
/// memory.
mod peak {
    /// Chains: more than latency times units of any processor.
    const CHAINS: usize = 16;
    const LINKS: usize = 100_000;

    /// Defines a loop over vectors of one instruction set.
    macro_rules! chains {
        ($name:ident, $lanes:literal, $splat:expr, $fma:expr $(, $feature:literal)?) => {
            $(#[target_feature(enable = $feature)])?
            fn $name() -> usize {
                let (factor, term) = ($splat(black_box(0.5)), $splat(black_box(1.0)));
                let mut sums = [$splat(black_box(0.0)); CHAINS];
                for _ in 0..LINKS {
                    for sum in &mut sums {
                        *sum = $fma(*sum, factor, term);
                    }
                }
                black_box(sums);
                2 * $lanes * CHAINS * LINKS
            }
        };
    }

    #[cfg(target_arch = "x86_64")]
    mod arch {
        use super::{CHAINS, LINKS};
        use std::arch::x86_64::*;
        use std::hint::black_box;

        chains!(avx512, 16, _mm512_set1_ps, _mm512_fmadd_ps, "avx512f");
        chains!(avx2, 8, _mm256_set1_ps, _mm256_fmadd_ps, "avx2,fma");
        chains!(
            sse,
            4,
            _mm_set1_ps,
            |a, b, c| _mm_add_ps(_mm_mul_ps(a, b), c),
            "sse"
        );

        pub(super) fn run() -> usize {
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor has the instructions.
                unsafe { avx512() }
            } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: as above.
                unsafe { avx2() }
            } else {
                // SAFETY: as above.
                unsafe { sse() }
            }
        }
    }

    #[cfg(target_arch = "aarch64")]
    mod arch {
        use super::{CHAINS, LINKS};
        use std::arch::aarch64::*;
        use std::hint::black_box;

        chains!(neon, 4, vdupq_n_f32, |a, b, c| vfmaq_f32(c, a, b), "neon");

        pub(super) fn run() -> usize {
            // SAFETY: every aarch64 processor has NEON.
            unsafe { neon() }
        }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    mod arch {
        use super::{CHAINS, LINKS};
        use std::hint::black_box;

        chains!(portable, 1, |x: f32| x, |a, b, c| a * b + c);

        pub(super) fn run() -> usize {
            portable()
        }
    }

    /// GFLOP/s of one thread.
    pub(super) fn measure() -> f64 {
        let mut operations = 0;
        let duration = super::time(|| operations = arch::run());
        let peak = super::rate(operations, duration);
        println!("{:44} {peak:6.1} GFLOP/s", "peak of one thread");
        peak
    }
}

fn window(kernel: usize, stride: usize) -> Window {
    Window {
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [1; 2],
        padding: Padding::same(kernel / 2),
    }
}

fn conv(size: usize, channels: usize, filters: usize, kernel: usize, stride: usize) {
    let input = MapDims {
        height: size,
        width: size,
        channels,
    };
    let window = window(kernel, stride);
    let dims = [filters, channels, kernel, kernel];
    let packed = PackedConv::new(&wave(dims.iter().product()), dims, None);
    let bias = wave(filters);
    let epilogue = Epilogue {
        bias: Some(&bias),
        residual: None,
        accumulate: false,
        activation: Activation::Relu6,
    };
    let Some([height, width]) = window.output(size, size) else {
        return;
    };
    let x = wave(input.elements());
    let mut y = vec![0.0; height * width * filters];
    let mut scratch = vec![0.0; kernel::conv_scratch(input, &packed, &window)];
    let duration = time(|| {
        let x = black_box(&x);
        kernel::conv(
            x,
            1,
            input,
            &packed,
            &window,
            epilogue,
            &mut y,
            &mut scratch,
        );
    });
    let operations = 2 * height * width * filters * channels * kernel * kernel;
    let name = format!("conv {kernel}x{kernel}/{stride} {size}x{size} {channels} -> {filters}");
    report(&name, operations, duration);
}

fn depthwise(size: usize, channels: usize, stride: usize) {
    let input = MapDims {
        height: size,
        width: size,
        channels,
    };
    let window = window(3, stride);
    let packed = PackedDepthwise::new(&wave(9 * channels), [channels, 1, 3, 3], None);
    let bias = wave(channels);
    let epilogue = Epilogue {
        bias: Some(&bias),
        residual: None,
        accumulate: false,
        activation: Activation::Relu6,
    };
    let Some([height, width]) = window.output(size, size) else {
        return;
    };
    let x = wave(input.elements());
    let mut y = vec![0.0; height * width * channels];
    let duration = time(|| {
        kernel::depthwise(black_box(&x), 1, input, &packed, &window, epilogue, &mut y);
    });
    let name = format!("depthwise 3x3/{stride} {size}x{size} {channels}");
    report(&name, 18 * height * width * channels, duration);
}

fn main() {
    for (size, channels, filters) in [
        (40, 96, 24),
        (40, 144, 24),
        (40, 24, 144),
        (10, 96, 576),
        (10, 576, 96),
        (80, 16, 96),
        (80, 32, 16),
        (20, 192, 32),
        (5, 960, 320),
        (5, 320, 1280),
        (32, 256, 256),
    ] {
        conv(size, channels, filters, 1, 1);
    }
    conv(160, 3, 32, 3, 2);
    conv(56, 64, 64, 3, 1);
    for (size, channels, stride) in [
        (80, 32, 1),
        (80, 96, 1),
        (80, 96, 2),
        (40, 144, 1),
        (10, 576, 1),
        (5, 960, 1),
    ] {
        depthwise(size, channels, stride);
    }
}
