//! A training step as a list of passes over buffers, and where the buffers lie.

use std::ops::Range;

use crate::geometry::{Padding, Window};
use crate::graph::NodeId;
use crate::ops::activation::Activation;
use crate::ops::kernel::MapDims;

/// Position of a buffer in [`Program::places`].
pub(super) type Buffer = usize;

/// One pass over some pictures. `kernel`, `norm` and `mask` are positions in the program's lists;
/// `add` says that the gradient is added to what the buffer holds.
#[derive(Debug)]
pub(super) enum Pass {
    Kernel {
        kernel: usize,
        x: Buffer,
        residual: Option<Buffer>,
        activation: Activation,
        y: Buffer,
    },
    KernelGrad {
        kernel: usize,
        x: Buffer,
        dy: Buffer,
    },
    BiasGrad {
        kernel: usize,
        dy: Buffer,
    },
    InputGrad {
        kernel: usize,
        dy: Buffer,
        dx: Buffer,
        add: bool,
    },
    Moments {
        norm: usize,
        x: Buffer,
    },
    Norm {
        norm: usize,
        x: Buffer,
        residual: Option<Buffer>,
        activation: Activation,
        y: Buffer,
    },
    NormSums {
        norm: usize,
        x: Buffer,
        dy: Buffer,
    },
    NormGrad {
        norm: usize,
        x: Buffer,
        dy: Buffer,
        dx: Buffer,
    },
    Activate {
        x: Buffer,
        residual: Option<Buffer>,
        activation: Activation,
        y: Buffer,
    },
    ActivateGrad {
        y: Buffer,
        activation: Activation,
        dy: Buffer,
    },
    Dropout {
        mask: usize,
        x: Buffer,
        y: Buffer,
    },
    Pad {
        dims: MapDims,
        padding: Padding,
        x: Buffer,
        y: Buffer,
    },
    PadGrad {
        dims: MapDims,
        padding: Padding,
        dy: Buffer,
        dx: Buffer,
        add: bool,
    },
    /// Channels of `x` into those of the wider `y`.
    Place {
        channels: Channels,
        x: Buffer,
        y: Buffer,
    },
    /// Channels of the wider `dy` out of it.
    PlaceGrad {
        channels: Channels,
        dy: Buffer,
        dx: Buffer,
    },
    Pool {
        pool: Pool,
        x: Buffer,
        y: Buffer,
    },
    PoolGrad {
        pool: Pool,
        x: Buffer,
        dy: Buffer,
        dx: Buffer,
    },
    GlobalAvg {
        dims: MapDims,
        x: Buffer,
        y: Buffer,
    },
    GlobalAvgGrad {
        dims: MapDims,
        dy: Buffer,
        dx: Buffer,
    },
    GlobalMax {
        dims: MapDims,
        x: Buffer,
        y: Buffer,
    },
    GlobalMaxGrad {
        dims: MapDims,
        x: Buffer,
        dy: Buffer,
        dx: Buffer,
    },
    Loss {
        logits: Buffer,
        dlogits: Buffer,
    },
    Copy {
        from: Buffer,
        to: Buffer,
    },
    AddInto {
        from: Buffer,
        to: Buffer,
    },
}

/// Some channels of a wider map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channels {
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) all: usize,
}

/// A pool with a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pool {
    pub(super) dims: MapDims,
    pub(super) window: Window,
    /// `None` for the maximum, else whether padding counts in the mean.
    pub(super) mean: Option<bool>,
}

impl Pass {
    /// The buffer that it writes, if any, and those that it reads.
    fn buffers(&self) -> (Option<Buffer>, [Option<Buffer>; 2]) {
        match *self {
            Self::Kernel { x, residual, y, .. }
            | Self::Norm { x, residual, y, .. }
            | Self::Activate { x, residual, y, .. } => (Some(y), [Some(x), residual]),
            Self::KernelGrad { x, dy, .. } | Self::NormSums { x, dy, .. } => {
                (None, [Some(x), Some(dy)])
            }
            Self::BiasGrad { dy, .. } => (None, [Some(dy), None]),
            Self::Moments { x, .. } => (None, [Some(x), None]),
            Self::NormGrad { x, dy, dx, .. }
            | Self::PoolGrad { x, dy, dx, .. }
            | Self::GlobalMaxGrad { x, dy, dx, .. } => (Some(dx), [Some(x), Some(dy)]),
            Self::ActivateGrad { y, dy, .. } => (Some(dy), [Some(y), None]),
            Self::Dropout { x, y, .. }
            | Self::Pad { x, y, .. }
            | Self::Place { x, y, .. }
            | Self::Pool { x, y, .. }
            | Self::GlobalAvg { x, y, .. }
            | Self::GlobalMax { x, y, .. } => (Some(y), [Some(x), None]),
            Self::InputGrad { dy, dx, .. }
            | Self::PadGrad { dy, dx, .. }
            | Self::PlaceGrad { dy, dx, .. }
            | Self::GlobalAvgGrad { dy, dx, .. } => (Some(dx), [Some(dy), None]),
            Self::Loss { logits, dlogits } => (Some(dlogits), [Some(logits), None]),
            Self::Copy { from, to } | Self::AddInto { from, to } => (Some(to), [Some(from), None]),
        }
    }
}

/// Passes that every chunk of the batch runs by itself, and what joins the chunks behind them.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) passes: Range<usize>,
    pub(super) join: Option<Join>,
}

/// What needs the whole batch: statistics of a batch norm.
#[derive(Debug, Clone, Copy)]
pub(super) enum Join {
    Moments(usize),
    Sums(usize),
}

/// Where a buffer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The n-th stored tensor.
    Input(usize),
    /// In an arena.
    Slot(usize),
}

/// A batch norm that no convolution takes in.
#[derive(Debug)]
pub(super) struct NormSpec {
    pub(super) node: NodeId,
    pub(super) epsilon: f64,
    pub(super) momentum: f64,
    pub(super) channels: usize,
    /// Pixels of a picture.
    pub(super) rows: usize,
    /// Whether the batch's statistics are used.
    pub(super) by_batch: bool,
    /// Whether gamma and beta train.
    pub(super) trains: bool,
    /// Where a chunk's moments, and its sums for the gradients, lie among its sums: `2 * channels`
    /// each.
    pub(super) moments: usize,
    pub(super) sums: usize,
}

/// Memory of one buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Values per picture.
    pub(super) elements: usize,
    /// The stored tensor that it is.
    pub(super) input: Option<usize>,
}

/// Shares slots among buffers that are not in use at the same time. Returns the places, and the
/// values per picture of each slot.
pub(super) fn place(passes: &[Pass], rooms: &[Room]) -> (Vec<Place>, Vec<usize>) {
    let mut lives: Vec<Option<Range<usize>>> = vec![None; rooms.len()];
    for (time, pass) in passes.iter().enumerate() {
        let (written, read) = pass.buffers();
        for buffer in [written].into_iter().chain(read).flatten() {
            let life = lives[buffer].get_or_insert(time..time + 1);
            life.end = time + 1;
        }
    }
    let mut order: Vec<Buffer> = (0..rooms.len()).collect();
    let born = |buffer: Buffer| lives[buffer].as_ref().map_or(0, |life| life.start);
    order.sort_by_key(|&buffer| born(buffer));
    let mut places = vec![Place::Slot(0); rooms.len()];
    // Values per picture, and when the slot is free again.
    let mut slots: Vec<(usize, usize)> = Vec::new();
    for buffer in order {
        if let Some(input) = rooms[buffer].input {
            places[buffer] = Place::Input(input);
            continue;
        }
        let Some(life) = &lives[buffer] else { continue };
        let elements = rooms[buffer].elements;
        let free = || {
            let is_free =
                |(_, (_, busy_until)): &(usize, &(usize, usize))| *busy_until <= life.start;
            slots.iter().enumerate().filter(is_free)
        };
        let best = free()
            .filter(|(_, (size, _))| *size >= elements)
            .min_by_key(|(_, (size, _))| *size)
            .or_else(|| free().max_by_key(|(_, (size, _))| *size))
            .map(|(index, _)| index);
        let index = best.unwrap_or_else(|| {
            slots.push((0, 0));
            slots.len() - 1
        });
        slots[index].0 = slots[index].0.max(elements);
        slots[index].1 = life.end;
        places[buffer] = Place::Slot(index);
    }
    (places, slots.into_iter().map(|(size, _)| size).collect())
}
