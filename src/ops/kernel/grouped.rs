//! Grouped convolution: each group's channels are gathered, convolved as a map of their own, and
//! put back.

use super::conv::{self, PackedConv};
use super::conv_grad::{PackedConvGrad, conv_input_grad, conv_kernel_grad};
use super::curve::{clamp, curve};
use super::pool::{place, take};
use super::{Epilogue, MapDims};
use crate::geometry::Window;

/// A group's kernel, its dimensions and its scale.
pub(super) type Part<'a> = (&'a [f32], [usize; 4], Option<&'a [f32]>);

/// Cuts a kernel `[out, in / groups, kernel_height, kernel_width]` into its groups.
pub(super) fn parts<'a>(
    kernel: &'a [f32],
    [filters, channels, height, width]: [usize; 4],
    scale: Option<&'a [f32]>,
    groups: usize,
) -> impl Iterator<Item = Part<'a>> {
    let filters = filters / groups;
    let size = filters * channels * height * width;
    (0..groups).map(move |group| {
        let scale = scale.map(|scale| &scale[group * filters..][..filters]);
        let kernel = &kernel[group * size..][..size];
        (kernel, [filters, channels, height, width], scale)
    })
}

/// Values of the output map of a window with so many channels.
fn output(input: MapDims, window: &Window, channels: usize) -> usize {
    let [height, width] = window.output(input.height, input.width).unwrap_or_default();
    height * width * channels
}

fn share(input: MapDims, groups: usize) -> MapDims {
    MapDims {
        channels: input.channels / groups.max(1),
        ..input
    }
}

/// Floats of scratch that [`conv`] wants.
pub(super) fn conv_scratch(input: MapDims, groups: &[PackedConv], window: &Window) -> usize {
    let input = share(input, groups.len());
    let of_group = |group: &PackedConv| {
        input.elements()
            + output(input, window, group.filters())
            + conv::conv_scratch(input, group, window)
    };
    groups.iter().map(of_group).max().unwrap_or(0)
}

/// Convolution of `batch` maps.
#[allow(clippy::too_many_arguments)]
pub(super) fn conv(
    x: &[f32],
    batch: usize,
    input: MapDims,
    groups: &[PackedConv],
    window: &Window,
    epilogue: Epilogue<'_>,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let own = share(input, groups.len());
    let filters: usize = groups.iter().map(PackedConv::filters).sum();
    let outputs = output(input, window, filters);
    let [low, high] = clamp(epilogue.activation);
    for image in 0..batch {
        let x = &x[image * input.elements()..][..input.elements()];
        let y = &mut y[image * outputs..][..outputs];
        let residual = epilogue.residual.map(|r| &r[image * outputs..][..outputs]);
        let mut first = 0;
        for (index, group) in groups.iter().enumerate() {
            let count = group.filters();
            let (channels, rest) = scratch.split_at_mut(own.elements());
            let (sums, rest) = rest.split_at_mut(outputs / filters * count);
            take(
                x,
                input.channels,
                index * own.channels,
                channels,
                own.channels,
            );
            let part = Epilogue {
                bias: epilogue.bias.map(|bias| &bias[first..][..count]),
                ..Epilogue::default()
            };
            conv::conv(channels, 1, own, group, window, part, sums, rest);
            let rows = y.chunks_exact_mut(filters).zip(sums.chunks_exact(count));
            for (row, (y, sums)) in rows.enumerate() {
                let y = &mut y[first..][..count];
                let residual = residual.map(|r| &r[row * filters + first..][..count]);
                for (i, (y, sum)) in y.iter_mut().zip(sums).enumerate() {
                    let mut value = *sum;
                    if epilogue.accumulate {
                        value += *y;
                    }
                    if let Some(residual) = residual {
                        value += residual[i];
                    }
                    // Written out, as `clamp` would turn NaN into a bound.
                    let value = if value < low { low } else { value };
                    *y = if value > high { high } else { value };
                }
            }
            first += count;
        }
        curve(epilogue.activation, y);
    }
}

/// Floats of scratch that [`input_grad`] wants.
pub(super) fn input_grad_scratch(
    input: MapDims,
    groups: &[PackedConvGrad],
    window: &Window,
) -> usize {
    let own = share(input, groups.len());
    let of_group = |group: &PackedConvGrad| {
        own.elements() + output(own, window, group.filters()) + group.scratch(own, window)
    };
    groups.iter().map(of_group).max().unwrap_or(0)
}

/// Gradient to the input, or that added to `dx`.
#[allow(clippy::too_many_arguments)]
pub(super) fn input_grad(
    dy: &[f32],
    batch: usize,
    input: MapDims,
    groups: &[PackedConvGrad],
    window: &Window,
    accumulate: bool,
    dx: &mut [f32],
    scratch: &mut [f32],
) {
    let own = share(input, groups.len());
    let filters: usize = groups.iter().map(PackedConvGrad::filters).sum();
    let outputs = output(input, window, filters);
    for image in 0..batch {
        let dy = &dy[image * outputs..][..outputs];
        let dx = &mut dx[image * input.elements()..][..input.elements()];
        let mut first = 0;
        for (index, group) in groups.iter().enumerate() {
            let count = group.filters();
            let (channels, rest) = scratch.split_at_mut(own.elements());
            let (part, rest) = rest.split_at_mut(outputs / filters * count);
            take(dy, filters, first, part, count);
            let at = index * own.channels;
            if accumulate {
                take(dx, input.channels, at, channels, own.channels);
            }
            conv_input_grad(part, 1, own, group, window, accumulate, channels, rest);
            place(channels, own.channels, dx, at, input.channels);
            first += count;
        }
    }
}

/// Gradient to the kernel, `dw [filters, kernel_height * kernel_width * in_channels / groups]`, or
/// that added to `dw`.
#[allow(clippy::too_many_arguments)]
pub(super) fn kernel_grad(
    x: &[f32],
    dy: &[f32],
    input: MapDims,
    window: &Window,
    [filters, groups]: [usize; 2],
    accumulate: bool,
    dw: &mut [f32],
    scratch: &mut [Vec<f32>; 2],
) {
    let own = share(input, groups);
    let count = filters / groups.max(1);
    let mut channels = vec![0.0; x.len() / groups.max(1)];
    let mut part = vec![0.0; dy.len() / groups.max(1)];
    let size = count * window.kernel[0] * window.kernel[1] * own.channels;
    for (group, dw) in dw.chunks_exact_mut(size.max(1)).enumerate() {
        take(
            x,
            input.channels,
            group * own.channels,
            &mut channels,
            own.channels,
        );
        take(dy, filters, group * count, &mut part, count);
        conv_kernel_grad(
            &channels,
            &part,
            own,
            window,
            [count, 1],
            false,
            accumulate,
            dw,
            scratch,
        );
    }
}
