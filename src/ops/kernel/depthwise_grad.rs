//! Gradients of the depthwise convolution, for any window.

use super::depthwise::{PackedDepthwise, depthwise, interior, valid_taps};
use super::simd::{Isa, Job, PerChannels, Vector, dispatch, over_channels};
use super::{Epilogue, MapDims};
use crate::geometry::Window;

/// Which (tap, output) pairs reach each input position along one axis.
struct Reach {
    pairs: Vec<[usize; 2]>,
    /// Where the pairs of each position start; one more entry than positions.
    starts: Vec<usize>,
}

impl Reach {
    fn new(window: &Window, axis: usize, size: usize, outputs: usize) -> Self {
        let before = [window.padding.top, window.padding.left][axis];
        let (stride, dilation) = (window.stride[axis], window.dilation[axis]);
        let (mut pairs, mut starts) = (Vec::new(), vec![0]);
        for position in 0..size {
            for tap in 0..window.kernel[axis] {
                let Some(from_corner) = (position + before).checked_sub(tap * dilation) else {
                    break;
                };
                if from_corner % stride == 0 && from_corner / stride < outputs {
                    pairs.push([tap, from_corner / stride]);
                }
            }
            starts.push(pairs.len());
        }
        Self { pairs, starts }
    }

    #[inline(always)]
    fn of(&self, position: usize) -> &[[usize; 2]] {
        &self.pairs[self.starts[position]..self.starts[position + 1]]
    }
}

/// A depthwise kernel packed for [`depthwise_input_grad`].
#[derive(Debug)]
pub(crate) enum PackedDepthwiseGrad {
    /// With stride 1 the gradient is a depthwise convolution with the kernel turned round.
    Turned(PackedDepthwise, Window),
    /// Every position gathers from the outputs that it reached.
    Gathered(PackedDepthwise),
}

impl PackedDepthwiseGrad {
    /// Packs a kernel `[channels, 1, kernel_height, kernel_width]` for maps of this size. `scale`
    /// multiplies each channel.
    pub(crate) fn new(
        kernel: &[f32],
        scale: Option<&[f32]>,
        input: MapDims,
        window: &Window,
    ) -> Self {
        let dims = [input.channels, 1, window.kernel[0], window.kernel[1]];
        let packed = PackedDepthwise::new(kernel, dims, scale);
        match window.transposed([input.height, input.width]) {
            Some(back) => Self::Turned(packed.flipped(), back),
            None => Self::Gathered(packed),
        }
    }
}

/// Gradient to the input `dx [batch, height, width, channels]` from `dy`, or added to `dx`.
pub(crate) fn depthwise_input_grad(
    dy: &[f32],
    batch: usize,
    input: MapDims,
    kernel: &PackedDepthwiseGrad,
    window: &Window,
    accumulate: bool,
    dx: &mut [f32],
) {
    let [height, width] = window.output(input.height, input.width).unwrap_or_default();
    let channels = input.channels;
    let output = MapDims {
        height,
        width,
        channels,
    };
    assert!(dy.len() >= batch * output.elements() && dx.len() >= batch * input.elements());
    let packed = match kernel {
        PackedDepthwiseGrad::Turned(packed, back) => {
            let epilogue = Epilogue {
                accumulate,
                ..Epilogue::default()
            };
            return depthwise(dy, batch, output, packed, back, epilogue, dx);
        }
        PackedDepthwiseGrad::Gathered(packed) => packed,
    };
    assert!(packed.taps().len() >= window.kernel[0] * window.kernel[1] * channels);
    let rows = Reach::new(window, 0, input.height, height);
    let columns = Reach::new(window, 1, input.width, width);
    dispatch(InputGrad {
        dy,
        batch,
        output,
        input,
        taps: packed.taps(),
        kernel_width: window.kernel[1],
        rows: &rows,
        columns: &columns,
        accumulate,
        dx,
    });
}

struct InputGrad<'a> {
    dy: &'a [f32],
    batch: usize,
    output: MapDims,
    input: MapDims,
    taps: &'a [f32],
    kernel_width: usize,
    rows: &'a Reach,
    columns: &'a Reach,
    accumulate: bool,
    dx: &'a mut [f32],
}

/// One position of the input's gradient.
struct InputPixel<'a> {
    dy: *const f32,
    taps: *const f32,
    /// Offsets of taps and outputs that go together.
    pairs: &'a [[usize; 2]],
    accumulate: bool,
    dx: *mut f32,
}

impl PerChannels for InputPixel<'_> {
    #[inline(always)]
    unsafe fn block<V: Vector>(&mut self, channel: usize) {
        // SAFETY: `Reach` holds taps and outputs that exist; lengths were compared.
        unsafe {
            let dx = self.dx.add(channel);
            let mut sum = V::splat(0.0);
            for &[tap, out] in self.pairs {
                let weight = V::load(self.taps.add(tap + channel));
                sum = V::load(self.dy.add(out + channel)).mul_add(weight, sum);
            }
            if self.accumulate {
                sum = sum.add(V::load(dx));
            }
            sum.store(dx);
        }
    }
}

impl Job for InputGrad<'_> {
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let channels = self.input.channels;
        let mut pairs = Vec::new();
        for row in 0..self.input.height {
            for column in 0..self.input.width {
                pairs.clear();
                for &[tap_row, out_row] in self.rows.of(row) {
                    let reached = self.columns.of(column).iter().map(|&[tap, out]| {
                        let tap = tap_row * self.kernel_width + tap;
                        let out = out_row * self.output.width + out;
                        [tap * channels, out * channels]
                    });
                    pairs.extend(reached);
                }
                let at = (row * self.input.width + column) * channels;
                for image in 0..self.batch {
                    let mut pixel = InputPixel {
                        dy: self.dy[image * self.output.elements()..].as_ptr(),
                        taps: self.taps.as_ptr(),
                        pairs: &pairs,
                        accumulate: self.accumulate,
                        dx: self.dx[image * self.input.elements() + at..].as_mut_ptr(),
                    };
                    // SAFETY: handed on to the caller.
                    unsafe { over_channels::<I>(channels, &mut pixel) };
                }
            }
        }
    }
}

/// Adds one map's gradient to the kernel, `dw [kernel_height * kernel_width, channels]`.
pub(crate) fn depthwise_kernel_grad(
    x: &[f32],
    dy: &[f32],
    input: MapDims,
    window: &Window,
    dw: &mut [f32],
) {
    let [height, width] = window.output(input.height, input.width).unwrap_or_default();
    assert!(x.len() >= input.elements() && dy.len() >= height * width * input.channels);
    assert!(dw.len() >= window.kernel[0] * window.kernel[1] * input.channels);
    dispatch(KernelGrad {
        x,
        dy,
        input,
        output: [height, width],
        window,
        dw,
    });
}

struct KernelGrad<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    input: MapDims,
    output: [usize; 2],
    window: &'a Window,
    dw: &'a mut [f32],
}

impl KernelGrad<'_> {
    /// `TAPS` neighbouring taps of one kernel row over one output row's `columns`.
    #[inline(always)]
    unsafe fn taps<V: Vector, const TAPS: usize>(
        &mut self,
        [out_row, row]: [usize; 2],
        [tap_row, tap]: [usize; 2],
        channel: usize,
        columns: [usize; 2],
    ) {
        let channels = self.input.channels;
        let window = self.window;
        let offset = tap * window.dilation[1];
        // SAFETY: the caller gives taps that lie on the map over these columns.
        unsafe {
            let dw = self.dw.as_mut_ptr();
            let dw = dw.add((tap_row * window.kernel[1] + tap) * channels + channel);
            let mut sums = [V::splat(0.0); TAPS];
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(dw.add(i * channels));
            }
            let dy = self
                .dy
                .as_ptr()
                .add(out_row * self.output[1] * channels + channel);
            let x = self
                .x
                .as_ptr()
                .add(row * self.input.width * channels + channel);
            for column in columns[0]..columns[1] {
                let gradient = V::load(dy.add(column * channels));
                let first = column * window.stride[1] + offset - window.padding.left;
                for (i, sum) in sums.iter_mut().enumerate() {
                    let x = V::load(x.add((first + i * window.dilation[1]) * channels));
                    *sum = x.mul_add(gradient, *sum);
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                sum.store(dw.add(i * channels));
            }
        }
    }
}

/// One row of outputs against one row of taps.
struct KernelRow<'a, 'b> {
    all: &'b mut KernelGrad<'a>,
    /// Output row, and the input row under it.
    rows: [usize; 2],
    tap_row: usize,
}

impl PerChannels for KernelRow<'_, '_> {
    #[inline(always)]
    unsafe fn block<V: Vector>(&mut self, channel: usize) {
        let (all, rows, tap_row) = (&mut *self.all, self.rows, self.tap_row);
        let window = all.window;
        let (in_width, out_width) = (all.input.width, all.output[1]);
        let inner = interior(window, in_width, out_width);
        // SAFETY: interior columns have all taps on the map, the others only the valid ones.
        unsafe {
            if window.kernel[1] == 3 {
                all.taps::<V, 3>(rows, [tap_row, 0], channel, inner);
            } else {
                for tap in 0..window.kernel[1] {
                    all.taps::<V, 1>(rows, [tap_row, tap], channel, inner);
                }
            }
            for column in (0..inner[0]).chain(inner[1]..out_width) {
                let corner = column * window.stride[1];
                let [first, end] = valid_taps(window, 1, corner, in_width);
                for tap in first..end {
                    let only = [column, column + 1];
                    all.taps::<V, 1>(rows, [tap_row, tap], channel, only);
                }
            }
        }
    }
}

impl Job for KernelGrad<'_> {
    #[inline(always)]
    unsafe fn run<I: Isa>(mut self) {
        let channels = self.input.channels;
        for out_row in 0..self.output[0] {
            let corner = out_row * self.window.stride[0];
            let [first, end] = valid_taps(self.window, 0, corner, self.input.height);
            for tap_row in first..end {
                let row = corner + tap_row * self.window.dilation[0] - self.window.padding.top;
                let mut work = KernelRow {
                    all: &mut self,
                    rows: [out_row, row],
                    tap_row,
                };
                // SAFETY: handed on to the caller.
                unsafe { over_channels::<I>(channels, &mut work) };
            }
        }
    }
}
