//! Convolution with any kernel, stride, dilation and padding; 1x1 without a copy.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::cpu::{self, Values};
use super::kernel::{self, Epilogue, PackedConv, PackedConvGrad, PackedMatrix};
use super::shape::{self, Maps};
use super::{KernelGrads, Needs, portable};
use crate::geometry::Window;

/// Pixels whose share of a kernel gradient one task sums, at least.
const GRADIENT_PIXELS: usize = 2048;

/// Shares of a kernel gradient, at most.
const GRADIENT_SHARES: usize = 16;

/// Filters of a kernel gradient that one task handles: a few register tiles.
const GRADIENT_FILTERS: usize = 56;

/// The meaning, in stock Candle operations.
pub(super) fn portable(
    x: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    window: &Window,
) -> Result<Tensor> {
    let maps = Maps::of(x, kernel, window, false)?;
    let output = maps.output_dims();
    let groups = maps.groups();
    let (channels, filters) = (maps.input.channels / groups, maps.output.channels / groups);
    let y = portable::sum_over_taps(x, window, [output[1], output[2]], |x, [row, column]| {
        let tap = kernel.narrow(2, row, 1)?.narrow(3, column, 1)?;
        let tap = tap.flatten_from(1)?;
        let x = x.flatten_to(2)?;
        let mut products = Vec::with_capacity(groups);
        for group in 0..groups {
            let tap = tap.narrow(0, group * filters, filters)?.t()?.contiguous()?;
            let x = x.narrow(1, group * channels, channels)?.contiguous()?;
            products.push(x.matmul(&tap)?);
        }
        Tensor::cat(&products, 1)?.reshape(&output)
    })?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// `x [batch, height, width, in]`, `kernel [out, in / groups, kernel_height, kernel_width]`,
/// `bias [out]`; the kernel says how many groups there are.
///
/// # Errors
/// If the shapes or the window do not fit together.
pub fn forward(
    x: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    window: &Window,
) -> Result<Tensor> {
    let maps = Maps::of(x, kernel, window, false)?;
    if let Some(bias) = bias {
        shape::expect_dims("bias", bias, &[maps.output.channels])?;
    }
    if !cpu::fits(&[x, kernel]) {
        return portable(x, kernel, bias, window);
    }
    let (x, kernel) = (x.contiguous()?, kernel.contiguous()?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let bias = bias.as_ref().map(Values::of).transpose()?;
    let (x, kernel) = (Values::of(&x)?, Values::of(&kernel)?);
    let x: &[f32] = &x;
    let epilogue = Epilogue {
        bias: bias.as_deref(),
        ..Epilogue::default()
    };
    let mut y = vec![0.0; maps.output_dims().iter().product()];
    if window.is_point() && maps.groups() == 1 {
        let matrix = PackedMatrix::of_columns(&kernel, maps.input.channels, None);
        pointwise(x, &matrix, epilogue, &mut y);
    } else {
        let packed = PackedConv::grouped(&kernel, kernel_dims(&maps, window), None, maps.groups());
        let scratch = kernel::conv_scratch(maps.input, &packed, window);
        y.par_chunks_mut(maps.output.elements().max(1))
            .zip(x.par_chunks(maps.input.elements().max(1)))
            .for_each_init(
                || vec![0.0; scratch],
                |scratch, (y, x)| {
                    kernel::conv(x, 1, maps.input, &packed, window, epilogue, y, scratch);
                },
            );
    }
    cpu::tensor(y, &maps.output_dims())
}

/// Gradients from `dy [batch, out_height, out_width, out]`.
///
/// # Errors
/// If the shapes or the window do not fit together.
pub fn backward(
    x: &Tensor,
    kernel: &Tensor,
    dy: &Tensor,
    window: &Window,
    needs: Needs,
) -> Result<KernelGrads> {
    let maps = Maps::of(x, kernel, window, false)?;
    shape::expect_dims("gradient of the convolution", dy, &maps.output_dims())?;
    if !cpu::fits(&[x, kernel, dy]) {
        return portable_backward(x, kernel, dy, needs, |[x, kernel]| {
            portable(x, kernel, None, window)
        });
    }
    let (x, kernel, dy) = (x.contiguous()?, kernel.contiguous()?, dy.contiguous()?);
    let (x, kernel, dy) = (Values::of(&x)?, Values::of(&kernel)?, Values::of(&dy)?);
    let mut gradients = KernelGrads::default();
    if needs.input {
        let dx = input_gradient(&dy, &kernel, &maps, window);
        gradients.input = Some(cpu::tensor(dx, &maps.input_dims())?);
    }
    if needs.kernel {
        let dw = kernel_gradient(&x, &dy, &maps, window);
        gradients.kernel = Some(cpu::tensor(dw, &kernel_dims(&maps, window))?);
    }
    if needs.bias {
        let filters = maps.output.channels;
        gradients.bias = Some(cpu::tensor(cpu::sum_of_rows(&dy, filters), &[filters])?);
    }
    Ok(gradients)
}

/// Gradients through Candle's autograd of an op `f([x, kernel])` to which a bias may be added.
pub(super) fn portable_backward(
    x: &Tensor,
    kernel: &Tensor,
    dy: &Tensor,
    needs: Needs,
    f: impl Fn([&Tensor; 2]) -> Result<Tensor>,
) -> Result<KernelGrads> {
    let [dx, dw] = portable::gradients([x, kernel], dy, f)?;
    let last = dy.rank() - 1;
    let bias = needs.bias.then(|| dy.flatten_to(last - 1)?.sum(0));
    Ok(KernelGrads {
        input: needs.input.then_some(dx),
        kernel: needs.kernel.then_some(dw),
        bias: bias.transpose()?,
    })
}

fn kernel_dims(maps: &Maps, window: &Window) -> [usize; 4] {
    let [height, width] = window.kernel;
    let channels = maps.input.channels / maps.groups();
    [maps.output.channels, channels, height, width]
}

/// `y = epilogue(x * matrix)` over chunks of rows in parallel.
pub(super) fn pointwise(x: &[f32], matrix: &PackedMatrix, epilogue: Epilogue<'_>, y: &mut [f32]) {
    /// Floats of `x` and `y` of a task.
    const TASK: usize = 128 * 1024;
    let (depth, columns) = (matrix.depth(), matrix.columns());
    let rows = (TASK / (depth + columns).max(1))
        .next_multiple_of(14)
        .max(14);
    y.par_chunks_mut((rows * columns).max(1))
        .zip(x.par_chunks((rows * depth).max(1)))
        .for_each(|(y, x)| kernel::product(x, matrix, epilogue, y));
}

fn input_gradient(dy: &[f32], kernel: &[f32], maps: &Maps, window: &Window) -> Vec<f32> {
    let packed = PackedConvGrad::new(kernel, kernel_dims(maps, window), None, maps.input, window);
    let scratch = packed.scratch(maps.input, window);
    let mut dx = vec![0.0; maps.input_dims().iter().product()];
    dx.par_chunks_mut(maps.input.elements().max(1))
        .zip(dy.par_chunks(maps.output.elements().max(1)))
        .for_each_init(
            || vec![0.0; scratch],
            |scratch, (dx, dy)| {
                kernel::conv_input_grad(dy, 1, maps.input, &packed, window, false, dx, scratch);
            },
        );
    dx
}

/// `[out, in / groups, kernel_height, kernel_width]`.
fn kernel_gradient(x: &[f32], dy: &[f32], maps: &Maps, window: &Window) -> Vec<f32> {
    let groups = maps.groups();
    let (channels, filters) = (maps.input.channels / groups, maps.output.channels);
    if window.is_point() && groups == 1 {
        return transposed_product(dy, filters, x, channels);
    }
    let area = window.kernel[0] * window.kernel[1];
    let size = filters * area * channels;
    let images = cpu::chunk_length(maps.batch, 1, GRADIENT_SHARES);
    let mut shares = vec![0.0; maps.batch.div_ceil(images) * size];
    shares
        .par_chunks_mut(size.max(1))
        .zip(x.par_chunks((images * maps.input.elements()).max(1)))
        .zip(dy.par_chunks((images * maps.output.elements()).max(1)))
        .for_each_init(Default::default, |scratch, ((share, x), dy)| {
            let shares = [filters, groups];
            let input = maps.input;
            kernel::conv_kernel_grad(x, dy, input, window, shares, false, false, share, scratch);
        });
    by_channel(&cpu::sum_in_order(&shares, size), channels, area)
}

/// From `[out, kernel_height * kernel_width, in]` to `[out, in, kernel_height, kernel_width]`.
pub(crate) fn by_channel(by_tap: &[f32], channels: usize, area: usize) -> Vec<f32> {
    let depth = area * channels;
    (0..by_tap.len())
        .map(|i| {
            let (filter, channel, tap) = (i / depth, i % depth / area, i % area);
            by_tap[filter * depth + tap * channels + channel]
        })
        .collect()
}

/// `a^T b` for `a [rows, a_columns]` and `b [rows, b_columns]`, in shares summed in order.
pub(super) fn transposed_product(
    a: &[f32],
    a_columns: usize,
    b: &[f32],
    b_columns: usize,
) -> Vec<f32> {
    let size = a_columns * b_columns;
    let rows = a.len() / a_columns.max(1);
    let share = cpu::chunk_length(rows, GRADIENT_PIXELS, GRADIENT_SHARES);
    let mut shares = vec![0.0; rows.div_ceil(share) * size];
    shares
        .par_chunks_mut(size.max(1))
        .zip(a.par_chunks((share * a_columns).max(1)))
        .zip(b.par_chunks((share * b_columns).max(1)))
        .for_each(|((sums, a), b)| {
            sums.par_chunks_mut(GRADIENT_FILTERS * b_columns)
                .enumerate()
                .for_each_init(Vec::new, |scratch, (i, sums)| {
                    let first = i * GRADIENT_FILTERS;
                    kernel::transposed_product(
                        a, a_columns, first, b, b_columns, false, sums, scratch,
                    );
                });
        });
    cpu::sum_in_order(&shares, size)
}
