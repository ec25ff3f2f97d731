//! Convolutions in a device's memory, depthwise ones by kernels of our own, and their gradients.

use super::args::{self, kernels};
use super::maps::{Channelwise, Input, Reading, number, or_null, outputs, padded, window_args};
use super::queue::Use;
use super::{Address, Convolution, Epilogue, Gpu, GpuError, Matrix, Product, Real, Result};
use crate::activation::Activation;
use crate::geometry::{Padding, Window};

impl Gpu {
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
            return Err(GpuError(message));
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
