//! Activations that are not a clamp, and their gradients, from polynomials for exp and erfc. A
//! value's bits depend on the value alone, not on where in a vector or slice it lies.

use std::marker::PhantomData;

use super::simd::{Isa, Job, PerChannels, Vector, dispatch, over_channels};
use crate::activation::Activation;

/// The range that a kernel clamps its sums to before [`curve`] takes them over.
pub(super) fn clamp(activation: Activation) -> [f32; 2] {
    activation
        .bounds()
        .unwrap_or([f32::NEG_INFINITY, f32::INFINITY])
}

/// Applies an activation in place. A clamp is left to whoever computes the values.
pub(crate) fn curve(activation: Activation, y: &mut [f32]) {
    match activation {
        Activation::Linear | Activation::Relu | Activation::Relu6 => {}
        Activation::Sigmoid => dispatch(Apply::<Sigmoid>::to(y)),
        Activation::HardSigmoid => dispatch(Apply::<HardSigmoid>::to(y)),
        Activation::Silu => dispatch(Apply::<Silu>::to(y)),
        Activation::HardSwish => dispatch(Apply::<HardSwish>::to(y)),
        Activation::Gelu => dispatch(Apply::<Gelu>::to(y)),
    }
}

/// Multiplies `dy` by the slope of an activation at `x`. A clamp has no part here.
///
/// # Panics
/// If the lengths differ.
pub(crate) fn curve_grad(x: &[f32], activation: Activation, dy: &mut [f32]) {
    assert_eq!(x.len(), dy.len(), "lengths");
    match activation {
        Activation::Linear | Activation::Relu | Activation::Relu6 => {}
        Activation::Sigmoid => dispatch(Slope::<Sigmoid>::at(x, dy)),
        Activation::HardSigmoid => dispatch(Slope::<HardSigmoid>::at(x, dy)),
        Activation::Silu => dispatch(Slope::<Silu>::at(x, dy)),
        Activation::HardSwish => dispatch(Slope::<HardSwish>::at(x, dy)),
        Activation::Gelu => dispatch(Slope::<Gelu>::at(x, dy)),
    }
}

/// A function of one value and its slope.
trait Curve {
    /// # Safety
    /// The processor has the vector's instruction set; so for all functions here.
    unsafe fn value<V: Vector>(x: V) -> V;
    /// # Safety
    /// As for [`Curve::value`].
    unsafe fn slope<V: Vector>(x: V) -> V;
}

struct Apply<'a, C> {
    y: &'a mut [f32],
    curve: PhantomData<C>,
}

impl<'a, C> Apply<'a, C> {
    fn to(y: &'a mut [f32]) -> Self {
        Self {
            y,
            curve: PhantomData,
        }
    }
}

impl<C: Curve> PerChannels for Apply<'_, C> {
    #[inline(always)]
    unsafe fn block<V: Vector>(&mut self, at: usize) {
        // SAFETY: the values lie in the slice.
        unsafe {
            let y = self.y.as_mut_ptr().add(at);
            C::value(V::load(y)).store(y);
        }
    }
}

impl<C: Curve> Job for Apply<'_, C> {
    #[inline(always)]
    unsafe fn run<I: Isa>(mut self) {
        // SAFETY: handed on to the caller.
        unsafe { over_channels::<I>(self.y.len(), &mut self) }
    }
}

struct Slope<'a, C> {
    x: &'a [f32],
    dy: &'a mut [f32],
    curve: PhantomData<C>,
}

impl<'a, C> Slope<'a, C> {
    fn at(x: &'a [f32], dy: &'a mut [f32]) -> Self {
        Self {
            x,
            dy,
            curve: PhantomData,
        }
    }
}

impl<C: Curve> PerChannels for Slope<'_, C> {
    #[inline(always)]
    unsafe fn block<V: Vector>(&mut self, at: usize) {
        // SAFETY: the values lie in both slices, whose lengths were compared.
        unsafe {
            let slope = C::slope(V::load(self.x.as_ptr().add(at)));
            let dy = self.dy.as_mut_ptr().add(at);
            V::load(dy).mul(slope).store(dy);
        }
    }
}

impl<C: Curve> Job for Slope<'_, C> {
    #[inline(always)]
    unsafe fn run<I: Isa>(mut self) {
        // SAFETY: handed on to the caller.
        unsafe { over_channels::<I>(self.dy.len(), &mut self) }
    }
}

/// A polynomial by Horner's rule, highest power first.
#[inline(always)]
unsafe fn polynomial<V: Vector, const N: usize>(x: V, coefficients: [f32; N]) -> V {
    // SAFETY: handed on to the caller.
    unsafe {
        let mut sum = V::splat(coefficients[0]);
        let mut i = 1;
        while i < N {
            sum = sum.mul_add(x, V::splat(coefficients[i]));
            i += 1;
        }
        sum
    }
}

/// Taylor's series of exp; its rest is 5e-9 at log(2) / 2.
const EXP: [f32; 8] = [
    1.0 / 5040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// log(2) as a number of few digits, whose products with small integers are exact, and the rest.
const LOG_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// Added to a small number it leaves that, rounded to an integer and 127 more, in the last bits.
const SHIFT: f32 = 12_582_912.0 + 127.0;

/// exp(x), not below exp(-87) and not above exp(88): a power of 2 times exp of a small rest.
#[inline(always)]
pub(super) unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: handed on to the caller.
    unsafe {
        let x = x.clamp(V::splat(-87.0), V::splat(88.0));
        let shifted = x.mul_add(V::splat(std::f32::consts::LOG2_E), V::splat(SHIFT));
        let power = shifted.sub(V::splat(SHIFT));
        let rest = power.mul_add(V::splat(-LOG_2[0]), x);
        let rest = power.mul_add(V::splat(-LOG_2[1]), rest);
        polynomial(rest, EXP).mul(shifted.as_exponent())
    }
}

#[inline(always)]
unsafe fn negative<V: Vector>(x: V) -> V {
    // SAFETY: handed on to the caller.
    unsafe { V::splat(0.0).sub(x) }
}

/// 1 where x is above 0, else 0.
#[inline(always)]
unsafe fn step<V: Vector>(x: V) -> V {
    // SAFETY: handed on to the caller.
    unsafe {
        x.mul(V::splat(f32::MAX))
            .clamp(V::splat(0.0), V::splat(1.0))
    }
}

struct Sigmoid;

impl Curve for Sigmoid {
    #[inline(always)]
    unsafe fn value<V: Vector>(x: V) -> V {
        // SAFETY: handed on to the caller.
        unsafe {
            let one = V::splat(1.0);
            one.div(exp(negative(x)).add(one))
        }
    }

    #[inline(always)]
    unsafe fn slope<V: Vector>(x: V) -> V {
        // SAFETY: handed on to the caller.
        unsafe {
            let [y, rest] = sigmoid_and_rest(x);
            y.mul(rest)
        }
    }
}

/// sigmoid(x), and what is missing to 1 in all its digits.
#[inline(always)]
unsafe fn sigmoid_and_rest<V: Vector>(x: V) -> [V; 2] {
    // SAFETY: handed on to the caller.
    unsafe {
        let (one, e) = (V::splat(1.0), exp(negative(x)));
        let y = one.div(e.add(one));
        [y, y.mul(e)]
    }
}

struct Silu;

impl Curve for Silu {
    #[inline(always)]
    unsafe fn value<V: Vector>(x: V) -> V {
        // SAFETY: handed on to the caller.
        unsafe { x.div(exp(negative(x)).add(V::splat(1.0))) }
    }

    #[inline(always)]
    unsafe fn slope<V: Vector>(x: V) -> V {
        // SAFETY: handed on to the caller.
        unsafe {
            let [y, rest] = sigmoid_and_rest(x);
            rest.mul_add(x, V::splat(1.0)).mul(y)
        }
    }
}

struct HardSigmoid;

impl Curve for HardSigmoid {
    #[inline(always)]
    unsafe fn value<V: Vector>(x: V) -> V {
        // SAFETY: handed on to the caller.
        unsafe {
            x.add(V::splat(3.0))
                .clamp(V::splat(0.0), V::splat(6.0))
                .mul(V::splat(1.0 / 6.0))
        }
    }

    #[inline(always)]
    unsafe fn slope<V: Vector>(x: V) -> V {
        // SAFETY: handed on to the caller.
        unsafe {
            let three = V::splat(3.0);
            let inside = step(x.add(three)).mul(step(three.sub(x)));
            inside.mul(V::splat(1.0 / 6.0))
        }
    }
}

struct HardSwish;

impl Curve for HardSwish {
    #[inline(always)]
    unsafe fn value<V: Vector>(x: V) -> V {
        // SAFETY: handed on to the caller.
        unsafe { HardSigmoid::value(x).mul(x) }
    }

    /// 0 up to -3, 1 from 3 on, and x / 3 + 1 / 2 between them.
    #[inline(always)]
    unsafe fn slope<V: Vector>(x: V) -> V {
        // SAFETY: handed on to the caller.
        unsafe {
            let three = V::splat(3.0);
            let below = step(three.sub(x));
            let inside = step(x.add(three)).mul(below);
            let slope = x
                .clamp(V::splat(-3.0), three)
                .mul_add(V::splat(1.0 / 3.0), V::splat(0.5));
            inside.mul(slope).add(V::splat(1.0).sub(below))
        }
    }
}

struct Gelu;

/// Fitted to exp(z^2) erfc(z) / (2 t) for t = 1 / (1 + 0.4 z) and all z >= 0, within 3e-9.
const TAIL: [f32; 10] = [
    -0.017_491_99,
    0.113_940_25,
    -0.285_334_2,
    0.322_893_23,
    -0.184_313_11,
    0.159_425_17,
    0.056_434_527,
    0.109_341_904,
    0.112_237_83,
    0.112_866_42,
];

/// |x|, exp(-x^2 / 2), and the share of the normal distribution beyond |x|.
#[inline(always)]
unsafe fn normal_tail<V: Vector>(x: V) -> [V; 3] {
    // SAFETY: handed on to the caller.
    unsafe {
        let size = x.max(negative(x));
        let per_size = V::splat(0.4 * std::f32::consts::FRAC_1_SQRT_2);
        let t = V::splat(1.0).div(size.mul_add(per_size, V::splat(1.0)));
        let bell = exp(x.mul(x).mul(V::splat(-0.5)));
        [size, bell, polynomial(t, TAIL).mul(t).mul(bell)]
    }
}

impl Curve for Gelu {
    #[inline(always)]
    unsafe fn value<V: Vector>(x: V) -> V {
        // SAFETY: handed on to the caller.
        unsafe {
            let [size, _, tail] = normal_tail(x);
            x.max(V::splat(0.0)).sub(size.mul(tail))
        }
    }

    #[inline(always)]
    unsafe fn slope<V: Vector>(x: V) -> V {
        // SAFETY: handed on to the caller.
        unsafe {
            let [_, bell, tail] = normal_tail(x);
            let middle = V::splat(-2.0).mul_add(tail, V::splat(1.0));
            let below = step(x).mul_add(middle, tail);
            /// 1 / sqrt(2 pi).
            const HEIGHT: f32 = 0.398_942_3;
            x.mul(bell).mul_add(V::splat(HEIGHT), below)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernel::simd::tests::at_every_level;

    const CURVES: [Activation; 5] = [
        Activation::Sigmoid,
        Activation::HardSigmoid,
        Activation::Silu,
        Activation::HardSwish,
        Activation::Gelu,
    ];

    /// erfc(z) for z >= 0: its series near 0, its continued fraction farther off.
    fn erfc(z: f64) -> f64 {
        let (mut sum, mut term) = (0.0, z);
        if z < 2.5 {
            for n in 1..100 {
                sum += term / f64::from(2 * n - 1);
                term *= -z * z / f64::from(n);
            }
            return 1.0 - sum * 2.0 / std::f64::consts::PI.sqrt();
        }
        let fraction = (1..200)
            .rev()
            .fold(0.0, |f, k| f64::from(k) / 2.0 / (z + f));
        (-z * z).exp() / (std::f64::consts::PI.sqrt() * (z + fraction))
    }

    /// Value and slope in double precision.
    fn exact(activation: Activation, x: f64) -> [f64; 2] {
        let s = 1.0 / (1.0 + (-x).exp());
        let hard = ((x + 3.0) / 6.0).clamp(0.0, 1.0);
        let inside = f64::from(u8::from(x > -3.0 && x < 3.0));
        match activation {
            Activation::Sigmoid => [s, s * (1.0 - s)],
            Activation::HardSigmoid => [hard, inside / 6.0],
            Activation::Silu => [x * s, s * (1.0 + x * (1.0 - s))],
            Activation::HardSwish => [x * hard, hard + x * inside / 6.0],
            _ => {
                let tail = erfc(x.abs() / 2f64.sqrt()) / 2.0;
                let below = if x > 0.0 { 1.0 - tail } else { tail };
                let bell = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
                [x * below, below + x * bell]
            }
        }
    }

    #[test]
    fn curves_and_slopes_are_exact_to_the_last_digits_at_every_level() {
        // An odd number of points, so that all widths of vectors have some.
        let xs: Vec<f32> = (0..4003).map(|i| (i as f32 - 2001.5) * 0.01).collect();
        for activation in CURVES {
            at_every_level(|level| {
                let mut y = xs.clone();
                curve(activation, &mut y);
                let mut slope = vec![1.0; xs.len()];
                curve_grad(&xs, activation, &mut slope);
                for ((x, y), slope) in xs.iter().zip(y).zip(slope) {
                    let [value, wanted] = exact(activation, f64::from(*x));
                    let gap = (f64::from(y) - value).abs();
                    // Far out on the left GELU is the product of x and next to nothing.
                    let share = if *x > -5.0 { 1e-6 } else { 2e-5 };
                    assert!(
                        gap <= share * value.abs() + 1e-30,
                        "{activation:?} of {x}: {y} for {value} at {level:?}"
                    );
                    let gap = (f64::from(slope) - wanted).abs();
                    assert!(
                        gap < 5e-7,
                        "{activation:?} at {x}: slope {slope} for {wanted} at {level:?}"
                    );
                }
            });
        }
    }

    #[test]
    fn a_value_has_the_same_bits_wherever_it_lies() {
        let xs: Vec<f32> = (0..45).map(|i| (i as f32 - 20.0) * 0.37).collect();
        for activation in CURVES {
            at_every_level(|level| {
                let mut all = xs.clone();
                curve(activation, &mut all);
                for (i, x) in xs.iter().enumerate() {
                    let mut alone = [*x];
                    curve(activation, &mut alone);
                    assert_eq!(all[i].to_bits(), alone[0].to_bits(), "{level:?}");
                }
            });
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        for activation in CURVES {
            at_every_level(|level| {
                let mut y = [f32::NAN; 25];
                curve(activation, &mut y);
                assert!(y.iter().all(|y| y.is_nan()), "{activation:?} {level:?}");
            });
        }
    }
}
