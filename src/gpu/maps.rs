//! Operations on maps in a device's memory, forward and back: what `ops::kernel` is on the CPU.

use super::args::{self, kernels};
use super::queue::Use;
use super::{Address, Gpu, Kernel, Real, Result};
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
    pub(super) fn bounds(self) -> [f32; 2] {
        let all = [f32::NEG_INFINITY, f32::INFINITY];
        self.clamp.bounds().unwrap_or(all)
    }
}

/// The number of an activation in the kernels.
pub(super) fn number(activation: Activation) -> i32 {
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
pub(super) fn window_args(input: Input, window: &Window) -> args::Window {
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

pub(super) fn outputs(input: Input, window: &Window) -> [usize; 2] {
    window.output(input.height, input.width).unwrap_or([0, 0])
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
        kernel: Kernel,
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
}

/// Height and width of maps with zeros around them.
pub(super) fn padded(input: Input, padding: Padding) -> [usize; 2] {
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
