//! Operations on maps in a device's memory, forward and back: what `ops::kernel` is on the CPU.

use super::args::{self, kernels};
use super::queue::Use;
use super::{Address, Convolution, Epilogue, Gpu, Matrix, Product, Real, Result, THREADS};
use crate::activation::Activation;
use crate::geometry::{Padding, Window};

/// Maps of some pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// Pictures.
    pub pictures: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl Input {
    /// Number of values.
    pub fn elements(self) -> usize {
        self.rows() * self.channels
    }

    /// Pixels of all pictures.
    pub fn rows(self) -> usize {
        self.pictures * self.height * self.width
    }

    fn pixels(self) -> usize {
        self.height * self.width
    }
}

/// One value a channel, as a norm or a bias has them; what is `None` is left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Channelwise {
    /// Taken off first.
    pub mean: Option<Address>,
    /// Factor.
    pub scale: Option<Address>,
    /// Added last.
    pub offset: Option<Address>,
}

/// A norm taken of what a depthwise convolution reads, on the way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    /// The norm; one with a scale has all three.
    pub norm: Channelwise,
    /// A clamp of it, or of what is read.
    pub clamp: Activation,
}

impl Reading {
    fn bounds(self) -> [f32; 2] {
        let all = [f32::NEG_INFINITY, f32::INFINITY];
        self.clamp.bounds().unwrap_or(all)
    }
}

/// The number of an activation in the kernels.
fn number(activation: Activation) -> i32 {
    match activation {
        Activation::Linear => 0,
        Activation::Relu => 1,
        Activation::Relu6 => 2,
        Activation::Sigmoid => 3,
        Activation::HardSigmoid => 4,
        Activation::Silu => 5,
        Activation::HardSwish => 6,
        Activation::Gelu => 7,
    }
}

/// An address, or 0 for none.
pub(super) fn or_null(address: Option<Address>) -> Address {
    address.unwrap_or(0)
}

/// A window over maps, as kernels take it.
fn window_args(input: Input, window: &Window) -> args::Window {
    let [out_height, out_width] = outputs(input, window);
    args::Window {
        height: input.height as i32,
        width: input.width as i32,
        channels: input.channels as i32,
        out_height: out_height as i32,
        out_width: out_width as i32,
        kernel_height: window.kernel[0] as i32,
        kernel_width: window.kernel[1] as i32,
        stride_height: window.stride[0] as i32,
        stride_width: window.stride[1] as i32,
        dilation_height: window.dilation[0] as i32,
        dilation_width: window.dilation[1] as i32,
        top: window.padding.top as i32,
        left: window.padding.left as i32,
    }
}

fn outputs(input: Input, window: &Window) -> [usize; 2] {
    window.output(input.height, input.width).unwrap_or([0, 0])
}

/// How rows are cut into blocks to be summed.
struct Cut {
    grid: [usize; 2],
    rows_per_block: usize,
    lanes: usize,
}

impl Gpu {
    /// `y = activation((x - mean) * scale + offset + residual)`.
    ///
    /// # Errors
    /// If the device failed; so for all operations here.
    pub fn affine(
        &self,
        x: Address,
        [count, channels]: [usize; 2],
        by: Channelwise,
        residual: Option<Address>,
        activation: Activation,
        y: Address,
    ) -> Result<()> {
        let args = args::Affine {
            x,
            residual: or_null(residual),
            mean: or_null(by.mean),
            scale: or_null(by.scale),
            offset: or_null(by.offset),
            y,
            count: count as i64,
            channels: channels as i32,
            activation: number(activation),
        };
        self.each(kernels::AFFINE, count, channels, &args)
    }

    /// Turns gradients to the output of an activation into those to its input.
    pub fn activate_grad(
        &self,
        of: Address,
        count: usize,
        activation: Activation,
        dy: Address,
    ) -> Result<()> {
        let args = args::ActivateGrad {
            of,
            dy,
            count: count as i64,
            activation: number(activation),
        };
        self.each(kernels::ACTIVATE_GRAD, count, count, &args)
    }

    /// `to += from`.
    pub fn add_into(&self, from: Address, to: Address, count: usize) -> Result<()> {
        let args = args::AddInto {
            from,
            to,
            count: count as i64,
        };
        self.each(kernels::ADD_INTO, count, count, &args)
    }

    /// `y = x * mask`, the mask in f32.
    pub fn mask(&self, x: Address, mask: Address, y: Address, count: usize) -> Result<()> {
        let args = args::Mask {
            x,
            mask,
            y,
            count: count as i64,
        };
        self.singly(kernels::MASK, count, &args)
    }

    /// Values in f32 from main memory as a map.
    pub fn upload_map(&self, values: &[f32], to: Address) -> Result<()> {
        let bytes = bytemuck::cast_slice(values);
        if self.real() == Real::Single {
            return self.backend().upload(bytes, to);
        }
        let [room] = self.scratch(Use::Padded, [bytes.len()])?;
        self.backend().upload(bytes, room)?;
        let args = args::Convert {
            from: room,
            to,
            count: values.len() as i64,
        };
        self.singly(kernels::TO_REAL, values.len(), &args)
    }

    /// `y = x * factors`, one factor a picture and channel.
    pub fn gate(&self, x: Address, factors: Address, input: Input, y: Address) -> Result<()> {
        let args = args::Gate {
            x,
            factors,
            y,
            count: input.elements() as i64,
            channels: input.channels as i32,
            pixels: input.pixels() as i32,
        };
        self.each(kernels::GATE, input.elements(), input.channels, &args)
    }

    /// Gradient of [`Self::gate`] to the factors.
    pub fn gate_grad(&self, x: Address, dy: Address, input: Input, to: Address) -> Result<()> {
        self.by_picture(kernels::PRODUCT_COLUMNS, [x, dy], input, 1.0, to)
    }

    /// Mean of each map.
    pub fn global_avg(&self, x: Address, input: Input, y: Address) -> Result<()> {
        let share = 1.0 / input.pixels() as f32;
        self.by_picture(kernels::SUM_COLUMNS, [x, 0], input, share, y)
    }

    /// Sums over each picture's pixels, times a factor.
    fn by_picture(
        &self,
        kernel: super::Kernel,
        [x, dy]: [Address; 2],
        input: Input,
        factor: f32,
        to: Address,
    ) -> Result<()> {
        let Input {
            pictures, channels, ..
        } = input;
        let count = pictures * channels;
        let [partial] = self.scratch(Use::Sums, [count * 4])?;
        let lanes = self.lanes(channels);
        let args = args::Columns {
            x,
            dy,
            partial,
            rows: input.rows() as i64,
            rows_per_block: input.pixels() as i32,
            channels: channels as i32,
            lanes: lanes as i32,
            ..args::Columns::default()
        };
        let vector = self.takes_vectors(channels);
        let columns = self.vectors(channels).div_ceil(lanes);
        self.blocks(kernel, vector, [columns, pictures, 1], &args)?;
        let args = args::Scaled {
            from: partial,
            to,
            count: count as i64,
            factor,
        };
        self.singly(kernels::SCALED, count, &args)
    }

    /// Gradient of [`Self::global_avg`].
    pub fn global_avg_grad(&self, dy: Address, input: Input, dx: Address) -> Result<()> {
        let args = args::Spread {
            dy,
            dx,
            count: input.elements() as i64,
            channels: input.channels as i32,
            pixels: input.pixels() as i32,
        };
        let count = input.elements();
        self.each(kernels::GLOBAL_AVG_GRAD, count, input.channels, &args)
    }

    /// Maximum of each map.
    pub fn global_max(&self, x: Address, input: Input, y: Address) -> Result<()> {
        let count = input.pictures * input.channels;
        let args = global_max(x, 0, y, input);
        self.singly(kernels::GLOBAL_MAX, count, &args)
    }

    /// Gradient of [`Self::global_max`]: to the first maximum.
    pub fn global_max_grad(
        &self,
        x: Address,
        dy: Address,
        input: Input,
        dx: Address,
    ) -> Result<()> {
        let count = input.pictures * input.channels;
        let args = global_max(x, dy, dx, input);
        self.singly(kernels::GLOBAL_MAX_GRAD, count, &args)
    }

    /// Zeros around every map.
    pub fn pad(&self, x: Address, input: Input, padding: Padding, y: Address) -> Result<()> {
        let [height, width] = padded(input, padding);
        let values = input.pictures * height * width * input.channels;
        self.backend().zero(y, values * self.real().bytes())?;
        let args = args::Box {
            from: x,
            to: y,
            to_height: height as i32,
            to_width: width as i32,
            to_row: padding.top as i32,
            to_column: padding.left as i32,
            ..whole(input)
        };
        self.copy_box(input, input.channels, &args)
    }

    /// Gradient of [`Self::pad`]: the inner part, or that added to `dx`.
    pub fn pad_grad(
        &self,
        dy: Address,
        input: Input,
        padding: Padding,
        add: bool,
        dx: Address,
    ) -> Result<()> {
        let [height, width] = padded(input, padding);
        let args = args::Box {
            from: dy,
            to: dx,
            from_height: height as i32,
            from_width: width as i32,
            from_row: padding.top as i32,
            from_column: padding.left as i32,
            add: i32::from(add),
            ..whole(input)
        };
        self.copy_box(input, input.channels, &args)
    }

    /// All channels of `x` into those of the wider `y` from `first` on; `input` is `x`.
    pub fn place(
        &self,
        x: Address,
        input: Input,
        [first, all]: [usize; 2],
        y: Address,
    ) -> Result<()> {
        let args = args::Box {
            from: x,
            to: y,
            to_channels: all as i32,
            to_channel: first as i32,
            ..whole(input)
        };
        self.copy_box(input, self.common(input.channels, first, all), &args)
    }

    /// Channels of the wider `dy` from `first` on; `input` is `dx`.
    pub fn take(
        &self,
        dy: Address,
        input: Input,
        [first, all]: [usize; 2],
        dx: Address,
    ) -> Result<()> {
        let args = args::Box {
            from: dy,
            to: dx,
            from_channels: all as i32,
            from_channel: first as i32,
            ..whole(input)
        };
        self.copy_box(input, self.common(input.channels, first, all), &args)
    }

    /// Channels, or 1 where vectors would not begin at whole vectors on both sides.
    fn common(&self, channels: usize, first: usize, all: usize) -> usize {
        let whole = [channels, first, all]
            .iter()
            .all(|it| self.takes_vectors(*it));
        if whole { channels } else { 1 }
    }

    fn copy_box(&self, input: Input, channels: usize, args: &args::Box) -> Result<()> {
        self.each(kernels::COPY_BOX, input.elements(), channels, args)
    }

    /// Maximum over windows, or the mean where it is said whether padding counts.
    pub fn pool(
        &self,
        x: Address,
        input: Input,
        window: &Window,
        mean: Option<bool>,
        y: Address,
    ) -> Result<()> {
        let [height, width] = outputs(input, window);
        let count = input.pictures * height * width * input.channels;
        let args = pool([x, 0, y], input, window, mean);
        let kernel = match mean {
            None => kernels::MAX_POOL,
            Some(_) => kernels::AVG_POOL,
        };
        self.each(kernel, count, input.channels, &args)
    }

    /// Gradient of [`Self::pool`].
    pub fn pool_grad(
        &self,
        [x, dy]: [Address; 2],
        input: Input,
        window: &Window,
        mean: Option<bool>,
        dx: Address,
    ) -> Result<()> {
        let args = pool([x, dy, dx], input, window, mean);
        let kernel = match mean {
            None => kernels::MAX_POOL_GRAD,
            Some(_) => kernels::AVG_POOL_GRAD,
        };
        self.each(kernel, input.elements(), input.channels, &args)
    }

    /// A depthwise convolution with a kernel by tap, in f32.
    #[expect(clippy::too_many_arguments, reason = "as the convolution on the CPU")]
    pub fn depthwise(
        &self,
        x: Address,
        input: Input,
        reading: Reading,
        (kernel, bias): (Address, Option<Address>),
        window: &Window,
        (residual, activation): (Option<Address>, Activation),
        y: Address,
    ) -> Result<()> {
        let [low, high] = reading.bounds();
        let args = args::Depthwise {
            x,
            kernel,
            bias: or_null(bias),
            residual: or_null(residual),
            in_mean: or_null(reading.norm.mean),
            in_scale: or_null(reading.norm.scale),
            in_offset: or_null(reading.norm.offset),
            y,
            window: window_args(input, window),
            pictures: input.pictures as i32,
            in_low: low,
            in_high: high,
            activation: number(activation),
            turned: 0,
        };
        self.run_depthwise(input, window, &args)
    }

    fn run_depthwise(&self, input: Input, window: &Window, args: &args::Depthwise) -> Result<()> {
        let [height, width] = outputs(input, window);
        // Kernels of their own for the common windows, with how many pixels a thread computes.
        let (kernel, pixels) = match (window.kernel, window.stride, window.dilation) {
            ([3, 3], [1, 1], [1, 1]) => (kernels::DEPTHWISE_3X3, 4),
            ([3, 3], [2, 2], [1, 1]) => (kernels::DEPTHWISE_3X3_BY_2, 2),
            ([5, 5], [1, 1], [1, 1]) => (kernels::DEPTHWISE_5X5, 4),
            _ => (kernels::DEPTHWISE, 1),
        };
        let count = input.pictures * height * width.div_ceil(pixels) * input.channels;
        self.each(kernel, count, input.channels, args)
    }

    /// Gradient of [`Self::depthwise`] to its input, added to what is there or not.
    pub fn depthwise_input_grad(
        &self,
        dy: Address,
        input: Input,
        kernel: Address,
        window: &Window,
        add: bool,
        dx: Address,
    ) -> Result<()> {
        // With strides of 1 it is a convolution with the kernel turned around.
        if let Some(turned) = window.transposed([input.height, input.width]) {
            let [height, width] = outputs(input, window);
            let outer = Input {
                height,
                width,
                ..input
            };
            let args = args::Depthwise {
                x: dy,
                kernel,
                residual: if add { dx } else { 0 },
                y: dx,
                window: window_args(outer, &turned),
                pictures: input.pictures as i32,
                in_low: f32::NEG_INFINITY,
                in_high: f32::INFINITY,
                turned: 1,
                ..args::Depthwise::default()
            };
            return self.run_depthwise(outer, &turned, &args);
        }
        let args = args::DepthwiseGrad {
            dy,
            kernel,
            dx,
            window: window_args(input, window),
            pictures: input.pictures as i32,
            add: i32::from(add),
        };
        let count = input.elements();
        self.each(kernels::DEPTHWISE_INPUT_GRAD, count, input.channels, &args)
    }

    /// Gradient of [`Self::depthwise`] to its kernel, by tap, in f32.
    ///
    /// # Errors
    /// If the kernel is wider than 7.
    pub fn depthwise_kernel_grad(
        &self,
        [x, dy]: [Address; 2],
        input: Input,
        reading: Reading,
        window: &Window,
        to: Address,
    ) -> Result<()> {
        let [area_height, area_width] = window.kernel;
        if area_width > 7 {
            let message = format!("no gradient to depthwise kernels {area_width} wide on a GPU");
            return Err(super::GpuError(message));
        }
        let [height, width] = outputs(input, window);
        let rows = input.pictures * height * width;
        let count = area_height * area_width * input.channels;
        let cut = self.cut(rows, input.channels, area_height);
        let blocks = cut.grid[1];
        let [partial] = self.scratch(Use::Sums, [blocks * count * 4])?;
        let [low, high] = reading.bounds();
        let args = args::DepthwiseKernelGrad {
            x,
            dy,
            in_mean: or_null(reading.norm.mean),
            in_scale: or_null(reading.norm.scale),
            in_offset: or_null(reading.norm.offset),
            partial,
            window: window_args(input, window),
            rows: rows as i64,
            rows_per_block: cut.rows_per_block as i32,
            lanes: cut.lanes as i32,
            in_low: low,
            in_high: high,
        };
        let vector = self.takes_vectors(input.channels);
        let grid = [cut.grid[0], blocks, area_height];
        self.blocks(kernels::DEPTHWISE_KERNEL_GRAD, vector, grid, &args)?;
        self.finish_sums(partial, blocks, count, to)
    }

    fn finish_sums(
        &self,
        partial: Address,
        blocks: usize,
        count: usize,
        to: Address,
    ) -> Result<()> {
        let args = args::Finish {
            partial,
            to,
            count: count as i64,
            blocks: blocks as i32,
            add: 0,
            factor: 1.0,
        };
        self.singly(kernels::FINISH_SUMS, count, &args)
    }

    fn vectors(&self, channels: usize) -> usize {
        match self.takes_vectors(channels) {
            true => channels / self.real().vector(),
            false => channels,
        }
    }

    /// Vectors of channels that a block takes: a power of two.
    fn lanes(&self, channels: usize) -> usize {
        self.vectors(channels).next_power_of_two().min(32)
    }

    /// Cuts rows into blocks: enough to keep the device busy, `others` times as many in all, and each
    /// with a few rows for every thread.
    fn cut(&self, rows: usize, channels: usize, others: usize) -> Cut {
        let lanes = self.lanes(channels);
        let columns = self.vectors(channels).div_ceil(lanes);
        let lines = THREADS / lanes;
        let wanted = (4 * self.backend().blocks()).div_ceil(columns * others.max(1));
        let rows_per_block = rows.div_ceil(wanted.max(1)).max(8 * lines);
        Cut {
            grid: [columns, rows.div_ceil(rows_per_block).max(1)],
            rows_per_block,
            lanes,
        }
    }

    /// Partial sums over rows by one of the kernels, `sums` values a channel: where they lie, and how
    /// many blocks of them.
    fn columns(
        &self,
        kernel: super::Kernel,
        [rows, channels]: [usize; 2],
        sums: usize,
        args: args::Columns,
    ) -> Result<(Address, usize)> {
        let cut = self.cut(rows, channels, 1);
        let blocks = cut.grid[1];
        let [partial] = self.scratch(Use::Sums, [blocks * sums * channels * 4])?;
        let args = args::Columns {
            partial,
            rows: rows as i64,
            rows_per_block: cut.rows_per_block as i32,
            channels: channels as i32,
            lanes: cut.lanes as i32,
            ..args
        };
        let vector = self.takes_vectors(channels);
        self.blocks(kernel, vector, [cut.grid[0], blocks, 1], &args)?;
        Ok((partial, blocks))
    }

    /// Sum over rows, in f32.
    pub fn sum_of_rows(&self, x: Address, rows: [usize; 2], to: Address) -> Result<()> {
        let args = args::Columns {
            x,
            ..args::Columns::default()
        };
        let (partial, blocks) = self.columns(kernels::SUM_COLUMNS, rows, 1, args)?;
        self.finish_sums(partial, blocks, rows[1], to)
    }

    /// Mean, inverse deviation and scale of a norm from the rows of a batch, and running statistics
    /// moved by them. `finish` has all but what the sums give.
    pub fn moments(&self, x: Address, rows: [usize; 2], finish: args::FinishMoments) -> Result<()> {
        let args = args::Columns {
            x,
            ..args::Columns::default()
        };
        let (partial, blocks) = self.columns(kernels::MOMENTS_COLUMNS, rows, 2, args)?;
        let args = args::FinishMoments {
            partial,
            x,
            rows: rows[0] as f64,
            blocks: blocks as i32,
            channels: rows[1] as i32,
            ..finish
        };
        self.singly(kernels::FINISH_MOMENTS, rows[1], &args)
    }

    /// What passes of a norm with stored statistics read.
    pub fn stored_norm(&self, channels: usize, args: args::StoredNorm) -> Result<()> {
        let args = args::StoredNorm {
            channels: channels as i32,
            ..args
        };
        self.singly(kernels::STORED_NORM, channels, &args)
    }

    /// Sums of `dy` and of `dy (x - mean)` over rows, `[2, channels]`, behind a clamp of the norm.
    pub fn norm_sums(
        &self,
        [x, dy]: [Address; 2],
        rows: [usize; 2],
        norm: Channelwise,
        clamp: Activation,
        to: Address,
    ) -> Result<()> {
        let (scale, offset, [low, high]) = clamped(norm, clamp);
        let args = args::Columns {
            x,
            dy,
            mean: or_null(norm.mean),
            scale,
            offset,
            low,
            high,
            ..args::Columns::default()
        };
        let (partial, blocks) = self.columns(kernels::NORM_COLUMNS, rows, 2, args)?;
        self.finish_sums(partial, blocks, 2 * rows[1], to)
    }

    /// Coefficients of a norm's gradient to its input and gradients to its parameters.
    pub fn finish_norm(&self, channels: usize, args: args::FinishNorm) -> Result<()> {
        let args = args::FinishNorm {
            channels: channels as i32,
            ..args
        };
        self.singly(kernels::FINISH_NORM, channels, &args)
    }

    /// Gradient of a norm to its input.
    pub fn norm_grad(
        &self,
        [x, dy]: [Address; 2],
        [rows, channels]: [usize; 2],
        (norm, clamp): (Channelwise, Activation),
        coefficients: Address,
        dx: Address,
    ) -> Result<()> {
        let (scale, offset, [low, high]) = clamped(norm, clamp);
        let count = rows * channels;
        let args = args::NormGrad {
            x,
            dy,
            mean: or_null(norm.mean),
            scale,
            offset,
            coefficients,
            dx,
            count: count as i64,
            channels: channels as i32,
            low,
            high,
        };
        self.each(kernels::NORM_GRAD, count, channels, &args)
    }

    /// `(x - mean) / deviation * gamma + beta` of each row.
    pub fn layer_norm(
        &self,
        x: Address,
        rows: [usize; 2],
        epsilon: f32,
        [gamma, beta]: [Address; 2],
        y: Address,
    ) -> Result<()> {
        let args = args::LayerNorm {
            x,
            gamma,
            beta,
            to: y,
            ..layer_norm(rows, epsilon)
        };
        self.rows(kernels::LAYER_NORM, rows, &args)
    }

    /// Gradient of [`Self::layer_norm`] to its input.
    pub fn layer_norm_grad(
        &self,
        [x, dy]: [Address; 2],
        rows: [usize; 2],
        epsilon: f32,
        gamma: Address,
        dx: Address,
    ) -> Result<()> {
        let args = args::LayerNorm {
            x,
            dy,
            gamma,
            to: dx,
            ..layer_norm(rows, epsilon)
        };
        self.rows(kernels::LAYER_NORM_GRAD, rows, &args)
    }

    /// Gradients of [`Self::layer_norm`] to gamma and beta, `[2, channels]`.
    pub fn layer_norm_sums(
        &self,
        [x, dy]: [Address; 2],
        rows: [usize; 2],
        epsilon: f32,
        to: Address,
    ) -> Result<()> {
        let [moments] = self.scratch(Use::Padded, [rows[0] * 8])?;
        let args = args::LayerNorm {
            x,
            moments,
            ..layer_norm(rows, epsilon)
        };
        self.rows(kernels::LAYER_NORM_MOMENTS, rows, &args)?;
        let args = args::Columns {
            x,
            dy,
            moments,
            ..args::Columns::default()
        };
        let (partial, blocks) = self.columns(kernels::LAYER_NORM_COLUMNS, rows, 2, args)?;
        self.finish_sums(partial, blocks, 2 * rows[1], to)
    }

    /// A kernel whose warps take a row each.
    pub(super) fn rows(
        &self,
        kernel: super::Kernel,
        [rows, channels]: [usize; 2],
        args: &impl args::Arguments,
    ) -> Result<()> {
        let vector = self.takes_vectors(channels);
        self.blocks(kernel, vector, [rows.div_ceil(THREADS / 32), 1, 1], args)
    }

    /// Tokens before, behind or added to those of each picture; see the kernel.
    pub fn tokens(&self, count: usize, args: args::Tokens) -> Result<()> {
        let args = args::Tokens {
            count: count as i64,
            ..args
        };
        self.singly(kernels::TOKENS, count, &args)
    }

    /// Sums over pictures of the first `values` of each `stride`.
    pub fn picture_sums(
        &self,
        dy: Address,
        pictures: usize,
        [values, stride]: [usize; 2],
        to: Address,
    ) -> Result<()> {
        let args = args::PictureSums {
            dy,
            to,
            pictures: pictures as i32,
            values: values as i32,
            stride: stride as i32,
        };
        self.singly(kernels::PICTURE_SUMS, values, &args)
    }

    /// A convolution with a kernel `[filters, height, width, channels / groups]`: a product where it
    /// looks at each pixel by itself.
    #[expect(clippy::too_many_arguments, reason = "as the convolution on the CPU")]
    pub fn convolve(
        &self,
        x: Address,
        input: Input,
        kernel: Address,
        (filters, groups): (usize, usize),
        window: &Window,
        (epilogue, activation): (Epilogue, Activation),
        y: Address,
    ) -> Result<()> {
        let epilogue = Epilogue {
            relu: activation == Activation::Relu,
            ..epilogue
        };
        let [height, width] = outputs(input, window);
        if window.is_point() && groups == 1 {
            let product = Product {
                size: [input.rows(), filters, input.channels],
                a: Matrix::of(x, input.channels),
                b: Matrix::of(kernel, input.channels).turned(),
                c: Matrix::of(y, filters),
                count: 1,
                alpha: 1.0,
                add: false,
                real: self.real(),
                output: self.real(),
            };
            self.backend().product(&product, epilogue)?;
        } else {
            let (x, input, padding) = self.symmetric(x, input, window)?;
            let convolution = self.convolution(input, (filters, groups), window, padding);
            self.backend()
                .convolve(&convolution, x, kernel, epilogue, y)?;
        }
        match activation {
            Activation::Linear | Activation::Relu => Ok(()),
            _ => {
                let sizes = [input.pictures * height * width * filters, filters];
                self.affine(y, sizes, Channelwise::default(), None, activation, y)
            }
        }
    }

    /// Gradient of [`Self::convolve`] to its input, added to what is there or not.
    #[expect(clippy::too_many_arguments, reason = "as the convolution on the CPU")]
    pub fn convolve_input_grad(
        &self,
        dy: Address,
        input: Input,
        kernel: Address,
        (filters, groups): (usize, usize),
        window: &Window,
        add: bool,
        dx: Address,
    ) -> Result<()> {
        if window.is_point() && groups == 1 {
            let product = Product {
                size: [input.rows(), input.channels, filters],
                a: Matrix::of(dy, filters),
                b: Matrix::of(kernel, input.channels),
                c: Matrix::of(dx, input.channels),
                count: 1,
                alpha: 1.0,
                add,
                real: self.real(),
                output: self.real(),
            };
            return self.backend().product(&product, Epilogue::default());
        }
        let Some(padding) = uneven(window) else {
            let padding = [window.padding.top, window.padding.left];
            let convolution = self.convolution(input, (filters, groups), window, padding);
            let backend = self.backend();
            return backend.convolve_input_grad(&convolution, dy, kernel, add, dx);
        };
        let [height, width] = padded(input, padding);
        let outer = Input {
            height,
            width,
            ..input
        };
        let [room] = self.scratch(Use::Padded, [outer.elements() * self.real().bytes()])?;
        let convolution = self.convolution(outer, (filters, groups), window, [0, 0]);
        let backend = self.backend();
        backend.convolve_input_grad(&convolution, dy, kernel, false, room)?;
        self.pad_grad(room, input, padding, add, dx)
    }

    /// Gradient of [`Self::convolve`] to its kernel: in f32 if that is said to be what comes of it,
    /// else as maps are stored.
    pub fn convolve_kernel_grad(
        &self,
        [x, dy]: [Address; 2],
        input: Input,
        (filters, groups): (usize, usize),
        window: &Window,
        to: Address,
    ) -> Result<()> {
        if Self::kernel_grad_is_single(window, groups) {
            let product = Product {
                size: [filters, input.channels, input.rows()],
                a: Matrix::of(dy, filters).turned(),
                b: Matrix::of(x, input.channels),
                c: Matrix::of(to, input.channels),
                count: 1,
                alpha: 1.0,
                add: false,
                real: self.real(),
                output: Real::Single,
            };
            return self.backend().product(&product, Epilogue::default());
        }
        let (x, input, padding) = self.symmetric(x, input, window)?;
        let convolution = self.convolution(input, (filters, groups), window, padding);
        self.backend().convolve_kernel_grad(&convolution, x, dy, to)
    }

    /// Whether [`Self::convolve_kernel_grad`] gives f32 whatever maps are stored as.
    pub fn kernel_grad_is_single(window: &Window, groups: usize) -> bool {
        window.is_point() && groups == 1
    }

    fn convolution(
        &self,
        input: Input,
        (filters, groups): (usize, usize),
        window: &Window,
        padding: [usize; 2],
    ) -> Convolution {
        Convolution {
            pictures: input.pictures,
            input: [input.height, input.width, input.channels],
            filters,
            groups,
            kernel: window.kernel,
            stride: window.stride,
            dilation: window.dilation,
            padding,
            real: self.real(),
        }
    }

    /// Maps with as much padding on opposite sides: themselves, or a copy with all of it.
    fn symmetric(
        &self,
        x: Address,
        input: Input,
        window: &Window,
    ) -> Result<(Address, Input, [usize; 2])> {
        let Some(padding) = uneven(window) else {
            return Ok((x, input, [window.padding.top, window.padding.left]));
        };
        let [height, width] = padded(input, padding);
        let outer = Input {
            height,
            width,
            ..input
        };
        let [room] = self.scratch(Use::Padded, [outer.elements() * self.real().bytes()])?;
        self.pad(x, input, padding, room)?;
        Ok((room, outer, [0, 0]))
    }
}

/// The padding of a window that differs on opposite sides, which libraries do not know.
fn uneven(window: &Window) -> Option<Padding> {
    let padding = window.padding;
    (padding.top != padding.bottom || padding.left != padding.right).then_some(padding)
}

/// Height and width of maps with zeros around them.
fn padded(input: Input, padding: Padding) -> [usize; 2] {
    [
        input.height + padding.top + padding.bottom,
        input.width + padding.left + padding.right,
    ]
}

/// A box that is a map whole, on both sides.
fn whole(input: Input) -> args::Box {
    let (height, width) = (input.height as i32, input.width as i32);
    let channels = input.channels as i32;
    args::Box {
        count: input.elements() as i64,
        height,
        width,
        channels,
        from_height: height,
        from_width: width,
        from_channels: channels,
        to_height: height,
        to_width: width,
        to_channels: channels,
        ..args::Box::default()
    }
}

fn global_max(x: Address, dy: Address, to: Address, input: Input) -> args::GlobalMax {
    args::GlobalMax {
        x,
        dy,
        to,
        count: (input.pictures * input.channels) as i64,
        channels: input.channels as i32,
        pixels: input.pixels() as i32,
    }
}

fn pool(
    [x, dy, to]: [Address; 3],
    input: Input,
    window: &Window,
    mean: Option<bool>,
) -> args::Pool {
    args::Pool {
        x,
        dy,
        to,
        window: window_args(input, window),
        pictures: input.pictures as i32,
        count_pad: i32::from(mean == Some(true)),
    }
}

fn layer_norm([rows, channels]: [usize; 2], epsilon: f32) -> args::LayerNorm {
    args::LayerNorm {
        rows: rows as i64,
        channels: channels as i32,
        epsilon,
        ..args::LayerNorm::default()
    }
}

/// Scale, offset and bounds of a norm whose clamp gradients lie behind; nothing without a clamp.
fn clamped(norm: Channelwise, clamp: Activation) -> (Address, Address, [f32; 2]) {
    match clamp.bounds() {
        Some(bounds) if clamp != Activation::Linear => {
            (or_null(norm.scale), or_null(norm.offset), bounds)
        }
        _ => (0, 0, [f32::NEG_INFINITY, f32::INFINITY]),
    }
}
