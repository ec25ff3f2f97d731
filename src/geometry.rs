//! Sizes and windows of maps: what the graph describes and the kernels compute.

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
