//! Checks of dimensions, with messages that name both sides.

use candle_core::{Result, Tensor, bail};

use super::kernel::MapDims;
use crate::geometry::Window;

/// # Errors
/// If the shapes differ.
pub(super) fn same_shape(what: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dims() != b.dims() {
        bail!("{what}: shapes {:?} and {:?} differ", a.dims(), b.dims())
    }
    Ok(())
}

/// # Errors
/// If the tensor does not have these dimensions.
pub(super) fn expect_dims(what: &str, tensor: &Tensor, dims: &[usize]) -> Result<()> {
    if tensor.dims() != dims {
        bail!("{what} has shape {:?}, expected {dims:?}", tensor.dims())
    }
    Ok(())
}

/// Dimensions of a convolution.
pub(super) struct Maps {
    /// Number of maps.
    pub(super) batch: usize,
    /// One input map.
    pub(super) input: MapDims,
    /// One output map.
    pub(super) output: MapDims,
    /// Input channels that a filter reads.
    group: usize,
}

impl Maps {
    /// Dimensions for `x [batch, height, width, in]` and a kernel `[out, group, kernel_height,
    /// kernel_width]`, where `group` is a share of `in`, or 1 for a depthwise convolution, whose
    /// `out` is `in`.
    ///
    /// # Errors
    /// If they do not fit each other or the window.
    pub(super) fn of(
        x: &Tensor,
        kernel: &Tensor,
        window: &Window,
        depthwise: bool,
    ) -> Result<Self> {
        let misfit = || {
            let (x, kernel) = (x.dims(), kernel.dims());
            candle_core::Error::Msg(format!(
                "convolution: input {x:?}, kernel {kernel:?} and {window:?} do not fit together"
            ))
            .bt()
        };
        let &[batch, height, width, channels] = x.dims() else {
            return Err(misfit());
        };
        let &[filters, group, kernel_height, kernel_width] = kernel.dims() else {
            return Err(misfit());
        };
        let shared_out = || {
            let even = channels.is_multiple_of(group);
            even && filters.is_multiple_of(channels / group)
        };
        let fits = || match depthwise {
            true => [filters, group] == [channels, 1],
            false => shared_out(),
        };
        let sizes = [kernel_height, kernel_width];
        let steps = [window.stride, window.dilation, window.kernel].concat();
        let extents = [height, width, channels, filters, group];
        if extents.contains(&0) || steps.contains(&0) || sizes != window.kernel || !fits() {
            return Err(misfit());
        }
        let [out_height, out_width] = window.output(height, width).ok_or_else(misfit)?;
        Ok(Self {
            batch,
            input: MapDims {
                height,
                width,
                channels,
            },
            output: MapDims {
                height: out_height,
                width: out_width,
                channels: filters,
            },
            group,
        })
    }

    /// Groups of channels.
    pub(super) fn groups(&self) -> usize {
        self.input.channels / self.group
    }

    /// `[batch, height, width, channels]` of the input.
    pub(super) fn input_dims(&self) -> [usize; 4] {
        let input = self.input;
        [self.batch, input.height, input.width, input.channels]
    }

    /// `[batch, height, width, channels]` of the output.
    pub(super) fn output_dims(&self) -> [usize; 4] {
        let output = self.output;
        [self.batch, output.height, output.width, output.channels]
    }
}
