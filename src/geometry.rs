//! Sizes and windows of maps: what the graph describes and the kernels compute.

use std::ops::Range;

/// Rows and columns added around a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// The same on all four sides.
    pub fn same(amount: usize) -> Self {
        Self {
            top: amount,
            bottom: amount,
            left: amount,
            right: amount,
        }
    }

    /// Side by side, for two paddings applied one after the other.
    pub fn plus(self, other: Self) -> Self {
        Self {
            top: self.top + other.top,
            bottom: self.bottom + other.bottom,
            left: self.left + other.left,
            right: self.right + other.right,
        }
    }
}

/// Some rows of a convolution's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Band {
    /// Rows of the input that they are computed from.
    pub(crate) rows: Range<usize>,
    /// Rows of the output.
    pub(crate) outputs: Range<usize>,
    /// The window over these rows.
    pub(crate) window: Window,
}

/// Geometry of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Vertical and horizontal dilation.
    pub dilation: [usize; 2],
    /// Padding with zeros.
    pub padding: Padding,
}

impl Window {
    /// One pixel at a time: a dense layer is the convolution of a single pixel.
    pub const POINT: Self = Self {
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        padding: Padding {
            top: 0,
            bottom: 0,
            left: 0,
            right: 0,
        },
    };

    /// Whether every output is computed from the one pixel in its place.
    pub fn is_point(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == Padding::default()
    }

    /// Height and width of the output for an input of the given size; `None` if nothing fits.
    pub fn output(&self, height: usize, width: usize) -> Option<[usize; 2]> {
        let along = |size: usize, axis: usize, before: usize, after: usize| {
            let reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            (size + before + after)
                .checked_sub(reach)
                .map(|room| room / self.stride[axis] + 1)
        };
        let Padding {
            top,
            bottom,
            left,
            right,
        } = self.padding;
        Some([
            along(height, 0, top, bottom)?,
            along(width, 1, left, right)?,
        ])
    }

    /// Cuts a map of the given height and width into bands of outputs that read about `rows` rows.
    pub(crate) fn bands(
        &self,
        height: usize,
        width: usize,
        rows: usize,
    ) -> impl Iterator<Item = Band> {
        let outputs = self.output(height, width).map_or(0, |[outputs, _]| outputs);
        let reach = self.dilation[0] * (self.kernel[0] - 1) + 1;
        let Padding { top, bottom, .. } = self.padding;
        let (stride, window) = (self.stride[0], *self);
        // A window wholly in the padding has no rows of its own.
        let each = match top < reach && bottom < reach {
            true => (rows.saturating_sub(reach) / stride + 1).max(2),
            false => outputs.max(1),
        };
        (0..outputs).step_by(each).map(move |first| {
            let end = (first + each).min(outputs);
            let (above, below) = (first * stride, (end - 1) * stride + reach);
            let is_last = end == outputs;
            let padding = Padding {
                top: top.saturating_sub(above),
                bottom: match is_last {
                    true => bottom,
                    false => below.saturating_sub(height + top),
                },
                ..window.padding
            };
            let last = match is_last {
                // The stride may leave the last rows out.
                true => height,
                false => (below - top).min(height),
            };
            Band {
                rows: above.saturating_sub(top)..last,
                outputs: first..end,
                window: Window { padding, ..window },
            }
        })
    }

    /// The window of the convolution that takes gradients of the output back to an input of the
    /// given height and width; `None` if the stride is not 1 or the padding wider than the kernel.
    pub fn transposed(&self, size: [usize; 2]) -> Option<Self> {
        let output = self.output(size[0], size[1])?;
        if self.stride != [1, 1] {
            return None;
        }
        let along = |axis: usize, before: usize| {
            let reach = (self.kernel[axis] - 1) * self.dilation[axis];
            let before = reach.checked_sub(before)?;
            let after = (size[axis] + reach).checked_sub(output[axis] + before)?;
            Some([before, after])
        };
        let [top, bottom] = along(0, self.padding.top)?;
        let [left, right] = along(1, self.padding.left)?;
        let padding = Padding {
            top,
            bottom,
            left,
            right,
        };
        Some(Self { padding, ..*self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_make_up_the_map() {
        let padding = |top, bottom| Padding {
            top,
            bottom,
            left: 0,
            right: 0,
        };
        for (kernel, stride, dilation, padding) in [
            (3, 1, 1, padding(1, 1)),
            (3, 2, 1, padding(1, 1)),
            (3, 2, 1, padding(0, 1)),
            (5, 3, 1, padding(2, 2)),
            (3, 1, 2, padding(2, 2)),
            (1, 2, 1, padding(0, 0)),
            (3, 1, 1, padding(4, 4)),
        ] {
            let window = Window {
                kernel: [kernel, 1],
                stride: [stride, 1],
                dilation: [dilation, 1],
                padding,
            };
            for (height, rows) in [(11, 4), (12, 1), (7, 100), (24, 6)] {
                let outputs = window.output(height, 1).map_or(0, |[outputs, _]| outputs);
                let mut done = 0;
                for band in window.bands(height, 1, rows) {
                    assert_eq!(band.outputs.start, done);
                    done = band.outputs.end;
                    let made = band.window.output(band.rows.len(), 1);
                    assert_eq!(made, Some([band.outputs.len(), 1]), "{window:?} {height}");
                    // The same row under the window's first tap.
                    let before = band.window.padding.top as isize - band.rows.start as isize;
                    let whole = padding.top as isize - (band.outputs.start * stride) as isize;
                    assert_eq!(before, whole, "{window:?} {height}");
                }
                assert_eq!(done, outputs);
            }
        }
    }
}
