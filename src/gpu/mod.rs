//! Computing on a GPU: memory, kernels of our own, and products and convolutions of libraries,
//! behind one trait that a device and, in tests, an emulation of one on the CPU implement.
//!
//! Nothing here knows of graphs. Maps are channels-last as on the CPU; addresses are numbers, as a
//! device has them. Work is queued in order and runs on its own; only a download waits for it.

pub mod args;
mod attention;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(test)]
pub(crate) mod host;
mod maps;
mod memory;
mod norms;
mod queue;
mod weights;
mod windows;

use std::fmt::Debug;

pub use args::Args;
pub use attention::Heads;
pub use maps::{Channelwise, Input, Reading};
pub use memory::{Block, Life, aligned, plan};
pub use queue::Gpu;
pub use weights::BLOCK;

use crate::geometry::Window;
use crate::precision::Precision;

/// A failure of a device or of one of its libraries.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct GpuError(pub String);

impl From<GpuError> for candle_core::Error {
    fn from(error: GpuError) -> Self {
        Self::Msg(error.0)
    }
}

/// Result of work on a device.
pub type Result<T> = std::result::Result<T, GpuError>;

/// Place in a device's memory.
pub type Address = u64;

/// How maps are stored; they are computed in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Real {
    /// 32 bits.
    Single,
    /// The upper 16 of those.
    Brain,
}

impl Real {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::Single => 4,
            Self::Brain => 2,
        }
    }

    /// Channels that a thread of a kernel takes together.
    pub fn vector(self) -> usize {
        16 / self.bytes()
    }

    /// What maps are stored as at a precision.
    pub fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 | Precision::Tf32 => Self::Single,
            Precision::Bf16 => Self::Brain,
        }
    }

    /// The type's name in the kernels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "float",
            Self::Brain => "bf16",
        }
    }
}

/// A kernel of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// The file of [`SOURCES`] that has it.
    pub file: &'static str,
    /// Its name there, less the suffix for vectors or single values.
    pub name: &'static str,
}

/// What all kernels share.
pub const PRELUDE: &str = include_str!("kernels/device.h");

/// Files of kernels by name.
pub const SOURCES: [(&str, &str); 7] = [
    ("map", include_str!("kernels/map.cu")),
    ("columns", include_str!("kernels/columns.cu")),
    ("depthwise", include_str!("kernels/depthwise.cu")),
    ("pool", include_str!("kernels/pool.cu")),
    ("tokens", include_str!("kernels/tokens.cu")),
    ("weights", include_str!("kernels/weights.cu")),
    ("optimizer", include_str!("kernels/optimizer.cu")),
];

/// Threads of every block.
pub const THREADS: usize = 256;

/// A kernel to run: blocks of [`THREADS`] threads.
#[derive(Debug, Clone, Copy)]
pub struct Launch {
    /// The kernel.
    pub kernel: Kernel,
    /// Whether the one for vectors of channels.
    pub vector: bool,
    /// What its maps are stored as.
    pub real: Real,
    /// Blocks.
    pub grid: [u32; 3],
}

/// What is done to an output before it is stored: `y = activation(y + bias + residual)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue {
    /// One value a column or filter, in f32 and as maps are stored.
    pub bias: Option<Bias>,
    /// As large as the output, stored as it is.
    pub residual: Option<Address>,
    /// Whether values below 0 become 0.
    pub relu: bool,
}

/// One value a filter, in both precisions.
#[derive(Debug, Clone, Copy)]
pub struct Bias {
    /// In f32.
    pub single: Address,
    /// As maps are stored.
    pub real: Address,
}

/// One matrix of a product, of rows that lie `row` values apart; of several products the next one
/// `stride` values further on.
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    /// Of the first value.
    pub address: Address,
    /// Values from row to row.
    pub row: usize,
    /// Whether its transpose is meant.
    pub transposed: bool,
    /// Values from product to product.
    pub stride: usize,
}

impl Matrix {
    /// A single matrix whose rows lie side by side.
    pub fn of(address: Address, row: usize) -> Self {
        Self {
            address,
            row,
            transposed: false,
            stride: 0,
        }
    }

    /// Its transpose.
    pub fn turned(self) -> Self {
        Self {
            transposed: !self.transposed,
            ..self
        }
    }
}

/// `c = alpha * a b`, `[rows, inner] x [inner, columns]`, added to what is there or not.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Rows, columns and what is summed over.
    pub size: [usize; 3],
    /// `[rows, inner]`.
    pub a: Matrix,
    /// `[inner, columns]`.
    pub b: Matrix,
    /// `[rows, columns]`.
    pub c: Matrix,
    /// Number of products.
    pub count: usize,
    /// Factor.
    pub alpha: f32,
    /// Whether it is added to `c`.
    pub add: bool,
    /// What `a` and `b` are stored as.
    pub real: Real,
    /// What `c` is stored as; the epilogue wants that of `a`.
    pub output: Real,
}

/// A convolution over channels-last maps with a kernel `[filters, height, width, channels / groups]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Pictures.
    pub pictures: usize,
    /// Height, width and channels of the input.
    pub input: [usize; 3],
    /// Filters.
    pub filters: usize,
    /// Groups of channels that see only their filters.
    pub groups: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Vertical and horizontal dilation.
    pub dilation: [usize; 2],
    /// Rows and columns of zeros on both sides.
    pub padding: [usize; 2],
    /// What everything is stored as.
    pub real: Real,
}

impl Convolution {
    /// Height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        let [height, width, _] = self.input;
        let window = Window {
            kernel: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            padding: crate::geometry::Padding {
                top: self.padding[0],
                bottom: self.padding[0],
                left: self.padding[1],
                right: self.padding[1],
            },
        };
        window.output(height, width).unwrap_or([0, 0])
    }

    /// Values of the kernel.
    pub fn kernel_elements(&self) -> usize {
        self.filters * self.kernel[0] * self.kernel[1] * self.input[2] / self.groups.max(1)
    }
}

/// A device and its libraries. Everything but [`Backend::download`] may return before it is done.
pub trait Backend: Send + Sync + Debug {
    /// What it is, for people.
    fn describe(&self) -> String;

    /// How it computes.
    fn precision(&self) -> Precision;

    /// What maps are stored as.
    fn real(&self) -> Real {
        Real::of(self.precision())
    }

    /// Blocks that keep all of it busy.
    fn blocks(&self) -> usize;

    /// Bytes of its memory that are free.
    fn free_bytes(&self) -> Result<usize>;

    /// Memory of so many bytes, aligned to 256, holding anything.
    fn allocate(&self, bytes: usize) -> Result<Address>;

    /// Gives memory back.
    fn free(&self, address: Address, bytes: usize);

    /// Copies from main memory, which may change once this returns.
    fn upload(&self, bytes: &[u8], to: Address) -> Result<()>;

    /// Waits for all work, and copies to main memory.
    fn download(&self, from: Address, to: &mut [u8]) -> Result<()>;

    /// Copies within the device.
    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()>;

    /// Sets bytes to 0.
    fn zero(&self, address: Address, bytes: usize) -> Result<()>;

    /// Runs a kernel on one struct of [`args`].
    fn launch(&self, launch: Launch, args: Args<'_>) -> Result<()>;

    /// A product, and its epilogue.
    fn product(&self, product: &Product, epilogue: Epilogue) -> Result<()>;

    /// A convolution, and its epilogue.
    fn convolve(
        &self,
        convolution: &Convolution,
        x: Address,
        kernel: Address,
        epilogue: Epilogue,
        y: Address,
    ) -> Result<()>;

    /// Gradient to a convolution's input, added to what is there or not.
    fn convolve_input_grad(
        &self,
        convolution: &Convolution,
        dy: Address,
        kernel: Address,
        add: bool,
        dx: Address,
    ) -> Result<()>;

    /// Gradient to a convolution's kernel.
    fn convolve_kernel_grad(
        &self,
        convolution: &Convolution,
        x: Address,
        dy: Address,
        to: Address,
    ) -> Result<()>;
}
