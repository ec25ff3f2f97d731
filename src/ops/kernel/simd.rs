//! Vectors of f32 and the choice of instruction set at run time.
//!
//! A kernel is a [`Job`] written once over [`Isa`]; [`dispatch`] compiles it for every instruction
//! set of this architecture and runs the best one that the processor has.

use super::gemm::Tiles;

/// A vector of f32 in a register.
pub(super) trait Vector: Copy {
    /// Number of values.
    const LANES: usize;

    /// # Safety
    /// The processor has this vector's instruction set; so for all methods.
    unsafe fn splat(value: f32) -> Self;
    /// # Safety
    /// `LANES` values can be read.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `LANES` values can be written.
    unsafe fn store(self, to: *mut f32);
    /// `self + other`.
    ///
    /// # Safety
    /// As for [`Vector::splat`].
    unsafe fn add(self, other: Self) -> Self;
    /// `self - other`.
    ///
    /// # Safety
    /// As for [`Vector::splat`].
    unsafe fn sub(self, other: Self) -> Self;
    /// `self * other`.
    ///
    /// # Safety
    /// As for [`Vector::splat`].
    unsafe fn mul(self, other: Self) -> Self;
    /// `self / other`.
    ///
    /// # Safety
    /// As for [`Vector::splat`].
    unsafe fn div(self, other: Self) -> Self;
    /// The float whose exponent field is made of the last bits of the values' patterns.
    ///
    /// # Safety
    /// As for [`Vector::splat`].
    unsafe fn as_exponent(self) -> Self;
    /// `self * factor + other`.
    ///
    /// # Safety
    /// As for [`Vector::splat`].
    unsafe fn mul_add(self, factor: Self, other: Self) -> Self;
    /// The values brought into `low..=high`; NaN stays NaN.
    ///
    /// # Safety
    /// As for [`Vector::splat`].
    unsafe fn clamp(self, low: Self, high: Self) -> Self;
    /// The larger of each pair; NaN in `self` wins.
    ///
    /// # Safety
    /// As for [`Vector::splat`].
    unsafe fn max(self, other: Self) -> Self;
    /// The values where `of` lies between the bounds and is neither; 0 elsewhere, NaN included.
    ///
    /// # Safety
    /// As for [`Vector::splat`].
    unsafe fn where_inside(self, of: Self, low: Self, high: Self) -> Self;
}

/// Values in a line of the cache.
pub(super) const LINE: usize = 16;

/// Asks for the line at an address, which need not be one, to be in the cache soon.
#[inline(always)]
pub(super) fn prefetch(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every processor of the architecture has the instruction, which never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// The same for the second-level cache.
#[inline(always)]
pub(super) fn prefetch_far(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: as in `prefetch`.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// `N` values that the compiler may put where it likes. `FMA` says that a fused multiply-add is an
/// instruction and not a slow call.
#[derive(Clone, Copy)]
pub(super) struct Lanes<const N: usize, const FMA: bool>([f32; N]);

impl<const N: usize, const FMA: bool> Lanes<N, FMA> {
    #[inline(always)]
    fn zip(mut self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        // Plain indices: iterators here are inlined thousands of times and cost the compiler minutes.
        let mut i = 0;
        while i < N {
            self.0[i] = f(self.0[i], other.0[i]);
            i += 1;
        }
        self
    }
}

impl<const N: usize, const FMA: bool> Vector for Lanes<N, FMA> {
    const LANES: usize = N;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; N])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for N readable values.
        Self(unsafe { from.cast::<[f32; N]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for N writable values.
        unsafe { to.cast::<[f32; N]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    unsafe fn as_exponent(self) -> Self {
        self.zip(self, |a, _| f32::from_bits(a.to_bits() << 23))
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, mut other: Self) -> Self {
        let mut i = 0;
        while i < N {
            let (a, b, c) = (self.0[i], factor.0[i], other.0[i]);
            other.0[i] = if FMA { a.mul_add(b, c) } else { a * b + c };
            i += 1;
        }
        other
    }

    #[inline(always)]
    unsafe fn clamp(self, low: Self, high: Self) -> Self {
        self.zip(low, |x, low| if low > x { low } else { x })
            .zip(high, |x, high| if high < x { high } else { x })
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |x, other| if other > x { other } else { x })
    }

    #[inline(always)]
    unsafe fn where_inside(mut self, of: Self, low: Self, high: Self) -> Self {
        let mut i = 0;
        while i < N {
            let inside = of.0[i] > low.0[i] && of.0[i] < high.0[i];
            self.0[i] = if inside { self.0[i] } else { 0.0 };
            i += 1;
        }
        self
    }
}

/// The vectors of an instruction set, widest first.
pub(super) trait Isa: Tiles {
    /// The widest.
    type Wide: Vector;
    /// For the rest of a row, or the same again.
    type Half: Vector;
    /// A single value.
    type One: Vector;
}

/// Work to be compiled for every instruction set. `run` and all it calls are `#[inline(always)]`.
pub(super) trait Job {
    /// Does the work.
    ///
    /// # Safety
    /// The processor has the instruction set `I`.
    unsafe fn run<I: Isa>(self);
}

/// Work on a block of neighbouring channels, as many as the vector has lanes.
pub(super) trait PerChannels {
    /// Does the work for the block that starts at `channel`.
    ///
    /// # Safety
    /// The processor has the vector's instruction set and the channels exist.
    unsafe fn block<V: Vector>(&mut self, channel: usize);
}

/// Cuts `channels` channels into blocks, widest first.
///
/// # Safety
/// The processor has the instruction set `I`.
#[inline(always)]
pub(super) unsafe fn over_channels<I: Isa>(channels: usize, work: &mut impl PerChannels) {
    let mut channel = 0;
    // SAFETY: the caller vouches for the instruction set, the conditions for the channels.
    unsafe {
        while channel + I::Wide::LANES <= channels {
            work.block::<I::Wide>(channel);
            channel += I::Wide::LANES;
        }
        while channel + I::Half::LANES <= channels {
            work.block::<I::Half>(channel);
            channel += I::Half::LANES;
        }
        while channel < channels {
            work.block::<I::One>(channel);
            channel += 1;
        }
    }
}

/// What any processor of the architecture has.
pub(super) struct Baseline;

/// Fused multiply-add belongs to the 64-bit Arm baseline, not to the x86 one.
const BASELINE_FMA: bool = cfg!(target_arch = "aarch64");

impl Isa for Baseline {
    type Wide = Lanes<8, BASELINE_FMA>;
    type Half = Lanes<8, BASELINE_FMA>;
    type One = Lanes<1, BASELINE_FMA>;
}

/// Instruction sets that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// AVX-512 F and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// What every processor of the architecture has.
    Baseline,
}

impl Level {
    /// The levels that this processor has, best first.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let fast = {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 =
                avx2 && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
            [avx512.then_some(Self::Avx512), avx2.then_some(Self::Avx2)]
        };
        #[cfg(target_arch = "aarch64")]
        let fast = [Some(Self::Neon)];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let fast: [Option<Self>; 0] = [];
        fast.into_iter().flatten().chain([Self::Baseline])
    }

    /// `avx512`, `avx2` or `portable`.
    pub(super) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            Self::Baseline => "portable",
        }
    }

    /// Runs a job; `self` comes from [`Level::available`].
    fn run(self, job: impl Job) {
        match self {
            // SAFETY: the level is available, so the processor has the features.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::with_avx512(job) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::with_avx2(job) },
            // SAFETY: every 64-bit Arm processor that Rust compiles for has NEON.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { job.run::<arm::Neon>() },
            // SAFETY: the baseline is always there.
            Self::Baseline => unsafe { job.run::<Baseline>() },
        }
    }
}

/// Runs a job with the best instruction set there is.
pub(super) fn dispatch(job: impl Job) {
    #[cfg(test)]
    if let Some(level) = tests::FORCED.get() {
        return level.run(job);
    }
    if let Some(best) = Level::available().next() {
        best.run(job);
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use super::{Isa, Job, Lanes, Vector};

    /// AVX-512 F and VL.
    pub(crate) struct Avx512;
    /// AVX2 and FMA.
    pub(crate) struct Avx2;

    impl Isa for Avx512 {
        type Wide = __m512;
        type Half = __m256;
        type One = Lanes<1, true>;
    }

    impl Isa for Avx2 {
        type Wide = __m256;
        type Half = __m256;
        type One = Lanes<1, true>;
    }

    #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
    pub(super) fn with_avx512(job: impl Job) {
        // SAFETY: this function is only called where the features are.
        unsafe { job.run::<Avx512>() }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn with_avx2(job: impl Job) {
        // SAFETY: this function is only called where the features are.
        unsafe { job.run::<Avx2>() }
    }

    #[inline(always)]
    unsafe fn inside_512(x: __m512, of: __m512, low: __m512, high: __m512) -> __m512 {
        // SAFETY: the caller vouches for the instruction set.
        unsafe {
            let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(of, low);
            let inside = _mm512_mask_cmp_ps_mask::<_CMP_LT_OQ>(above, of, high);
            _mm512_maskz_mov_ps(inside, x)
        }
    }

    #[inline(always)]
    unsafe fn inside_256(x: __m256, of: __m256, low: __m256, high: __m256) -> __m256 {
        // SAFETY: the caller vouches for the instruction set.
        unsafe {
            let above = _mm256_cmp_ps::<_CMP_GT_OQ>(of, low);
            let below = _mm256_cmp_ps::<_CMP_LT_OQ>(of, high);
            _mm256_and_ps(x, _mm256_and_ps(above, below))
        }
    }

    macro_rules! vector {
        ($vector:ty, $lanes:literal, $splat:ident, $load:ident, $store:ident, $add:ident,
         $sub:ident, $mul:ident, $div:ident, $fma:ident, $max:ident, $min:ident,
         $bits:ident, $shift:ident, $floats:ident, $inside:ident) => {
            impl Vector for $vector {
                const LANES: usize = $lanes;

                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    // SAFETY: the caller vouches for the instruction set.
                    unsafe { $splat(value) }
                }

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: the caller vouches for the instruction set and the values.
                    unsafe { $load(from) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: the caller vouches for the instruction set and the room.
                    unsafe { $store(to, self) }
                }

                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    // SAFETY: the caller vouches for the instruction set.
                    unsafe { $add(self, other) }
                }

                #[inline(always)]
                unsafe fn sub(self, other: Self) -> Self {
                    // SAFETY: the caller vouches for the instruction set.
                    unsafe { $sub(self, other) }
                }

                #[inline(always)]
                unsafe fn mul(self, other: Self) -> Self {
                    // SAFETY: the caller vouches for the instruction set.
                    unsafe { $mul(self, other) }
                }

                #[inline(always)]
                unsafe fn div(self, other: Self) -> Self {
                    // SAFETY: the caller vouches for the instruction set.
                    unsafe { $div(self, other) }
                }

                #[inline(always)]
                unsafe fn as_exponent(self) -> Self {
                    // SAFETY: the caller vouches for the instruction set.
                    unsafe { $floats($shift::<23>($bits(self))) }
                }

                #[inline(always)]
                unsafe fn mul_add(self, factor: Self, other: Self) -> Self {
                    // SAFETY: the caller vouches for the instruction set.
                    unsafe { $fma(self, factor, other) }
                }

                #[inline(always)]
                unsafe fn clamp(self, low: Self, high: Self) -> Self {
                    // SAFETY: the caller vouches for the instruction set. The instructions return
                    // their second operand where one is NaN.
                    unsafe { $min(high, $max(low, self)) }
                }

                #[inline(always)]
                unsafe fn max(self, other: Self) -> Self {
                    // SAFETY: the caller vouches for the instruction set.
                    unsafe { $max(other, self) }
                }

                #[inline(always)]
                unsafe fn where_inside(self, of: Self, low: Self, high: Self) -> Self {
                    // SAFETY: the caller vouches for the instruction set.
                    unsafe { $inside(self, of, low, high) }
                }
            }
        };
    }

    vector!(
        __m512,
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_div_ps,
        _mm512_fmadd_ps,
        _mm512_max_ps,
        _mm512_min_ps,
        _mm512_castps_si512,
        _mm512_slli_epi32,
        _mm512_castsi512_ps,
        inside_512
    );
    vector!(
        __m256,
        8,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_div_ps,
        _mm256_fmadd_ps,
        _mm256_max_ps,
        _mm256_min_ps,
        _mm256_castps_si256,
        _mm256_slli_epi32,
        _mm256_castsi256_ps,
        inside_256
    );
}

#[cfg(target_arch = "aarch64")]
pub(super) mod arm {
    use std::arch::aarch64::*;

    use super::{Isa, Lanes, Vector};

    /// NEON.
    pub(crate) struct Neon;

    /// Two registers.
    #[derive(Clone, Copy)]
    pub(crate) struct Pair(float32x4_t, float32x4_t);

    impl Isa for Neon {
        type Wide = Pair;
        type Half = Pair;
        type One = Lanes<1, true>;
    }

    impl Pair {
        #[inline(always)]
        fn zip(self, other: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
            Self(f(self.0, other.0), f(self.1, other.1))
        }
    }

    #[inline(always)]
    fn exponent(x: float32x4_t) -> float32x4_t {
        // SAFETY: the processor has NEON; so in all functions here.
        unsafe { vreinterpretq_f32_s32(vshlq_n_s32::<23>(vreinterpretq_s32_f32(x))) }
    }

    #[inline(always)]
    fn inside(x: float32x4_t, of: float32x4_t, low: float32x4_t, high: float32x4_t) -> float32x4_t {
        // SAFETY: as in `exponent`.
        unsafe {
            let inside = vandq_u32(vcgtq_f32(of, low), vcltq_f32(of, high));
            vreinterpretq_f32_u32(vandq_u32(inside, vreinterpretq_u32_f32(x)))
        }
    }

    impl Vector for Pair {
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: as in `exponent`.
            unsafe { Self(vdupq_n_f32(value), vdupq_n_f32(value)) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller vouches for the values.
            unsafe { Self(vld1q_f32(from), vld1q_f32(from.add(4))) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller vouches for the room.
            unsafe {
                vst1q_f32(to, self.0);
                vst1q_f32(to.add(4), self.1);
            }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: as in `exponent`.
            self.zip(other, |a, b| unsafe { vaddq_f32(a, b) })
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: as in `exponent`.
            self.zip(other, |a, b| unsafe { vsubq_f32(a, b) })
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: as in `exponent`.
            self.zip(other, |a, b| unsafe { vmulq_f32(a, b) })
        }

        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            // SAFETY: as in `exponent`.
            self.zip(other, |a, b| unsafe { vdivq_f32(a, b) })
        }

        #[inline(always)]
        unsafe fn as_exponent(self) -> Self {
            Self(exponent(self.0), exponent(self.1))
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, other: Self) -> Self {
            // SAFETY: as in `exponent`.
            unsafe {
                Self(
                    vfmaq_f32(other.0, self.0, factor.0),
                    vfmaq_f32(other.1, self.1, factor.1),
                )
            }
        }

        #[inline(always)]
        unsafe fn clamp(self, low: Self, high: Self) -> Self {
            // SAFETY: as in `exponent`. The instructions return NaN where one operand is NaN.
            self.zip(low, |x, low| unsafe { vmaxq_f32(x, low) })
                .zip(high, |x, high| unsafe { vminq_f32(x, high) })
        }

        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            // SAFETY: as in `exponent`.
            self.zip(other, |x, other| unsafe {
                vbslq_f32(vcgtq_f32(other, x), other, x)
            })
        }

        #[inline(always)]
        unsafe fn where_inside(self, of: Self, low: Self, high: Self) -> Self {
            Self(
                inside(self.0, of.0, low.0, high.0),
                inside(self.1, of.1, low.1, high.1),
            )
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use super::Level;

    thread_local! {
        /// The level that this thread's kernels run on, for tests.
        pub(super) static FORCED: Cell<Option<Level>> = const { Cell::new(None) };
    }

    /// Runs `f` once per level of this processor, on this thread.
    pub(crate) fn at_every_level(mut f: impl FnMut(Level)) {
        for level in Level::available() {
            FORCED.set(Some(level));
            f(level);
        }
        FORCED.set(None);
    }
}
