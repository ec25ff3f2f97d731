//! A training step as a list of passes over buffers, and where the buffers lie.

use std::ops::Range;

use super::sums::Spot;
use crate::activation::Activation;
use crate::engine::tokens::TokenLayer;
use crate::geometry::{Padding, Window};
use crate::graph::NodeId;
use crate::ops::kernel::MapDims;

/// Position of a buffer in [`Program::places`].
pub(super) type Buffer = usize;

/// One pass over some pictures. `kernel`, `norm` and `mask` are positions in the program's lists;
/// `add` says that the gradient is added to what the buffer holds.
#[derive(Debug)]
pub(super) enum Pass {
    /// `norm` is taken, with its activation, of what a depthwise kernel reads.
    Kernel {
        kernel: usize,
        norm: Option<(usize, Activation)>,
        x: Buffer,
        residual: Option<Buffer>,
        activation: Activation,
        y: Buffer,
    },
    KernelGrad {
        kernel: usize,
        norm: Option<(usize, Activation)>,
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
    /// `activation` is a clamp that `dy` is the gradient behind.
    NormSums {
        norm: usize,
        x: Buffer,
        activation: Activation,
        dy: Buffer,
    },
    NormGrad {
        norm: usize,
        x: Buffer,
        activation: Activation,
        dy: Buffer,
        dx: Buffer,
    },
    Activate {
        x: Buffer,
        residual: Option<Buffer>,
        activation: Activation,
        y: Buffer,
    },
    /// `of` is the output of a clamp, the input of a curve.
    ActivateGrad {
        of: Buffer,
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
    /// Times one value a picture and channel; its own gradient to `x`, too.
    Gate {
        dims: MapDims,
        x: Buffer,
        factors: Buffer,
        y: Buffer,
    },
    /// Gradient to the factors.
    GateGrad {
        dims: MapDims,
        x: Buffer,
        dy: Buffer,
        to: Buffer,
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
    /// A layer of tokens, by its position in the program's list.
    Token {
        token: usize,
        x: Buffer,
        y: Buffer,
    },
    TokenSums {
        token: usize,
        x: Buffer,
        dy: Buffer,
    },
    TokenGrad {
        token: usize,
        /// Where the gradient depends on it.
        x: Option<Buffer>,
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
    pub(super) fn buffers(&self) -> impl Iterator<Item = Buffer> {
        let (written, read) = match *self {
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
            Self::Gate { x, factors, y, .. } => (Some(y), [Some(x), Some(factors)]),
            Self::GateGrad { x, dy, to, .. } => (Some(to), [Some(x), Some(dy)]),
            Self::ActivateGrad { of, dy, .. } => (Some(dy), [Some(of), None]),
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
            Self::Token { x, y, .. } => (Some(y), [Some(x), None]),
            Self::TokenSums { x, dy, .. } => (None, [Some(x), Some(dy)]),
            Self::TokenGrad { x, dy, dx, .. } => (Some(dx), [x, Some(dy)]),
            Self::Loss { logits, dlogits } => (Some(dlogits), [Some(logits), None]),
            Self::Copy { from, to } | Self::AddInto { from, to } => (Some(to), [Some(from), None]),
        };
        [written].into_iter().chain(read).flatten()
    }
}

/// Passes that every chunk of the batch runs by itself, depth-first, and what joins the chunks behind
/// them.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) passes: Range<usize>,
    pub(super) step: Step,
    pub(super) join: Option<Join>,
}

/// How much of a chunk runs through a stage at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Pictures(usize),
    /// Rows of pixels of maps of one size, regardless of where a picture ends.
    Rows(usize),
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
    Slot {
        index: usize,
        /// Whether it holds all pictures of the chunk: passes of several stages use it. Else it
        /// holds those of a stage's step.
        whole: bool,
    },
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
    pub(super) moments: Spot,
    pub(super) sums: Spot,
}

/// A layer of tokens.
#[derive(Debug)]
pub(super) struct TokenSpec {
    pub(super) node: NodeId,
    pub(super) layer: TokenLayer,
    pub(super) trains: bool,
    /// Where a chunk's sums for its gradients lie among the chunk's sums.
    pub(super) sums: Spot,
}

/// Memory of one buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Values per picture, and of one pixel.
    pub(super) elements: usize,
    pub(super) channels: usize,
    /// The stored tensor that it is.
    pub(super) input: Option<usize>,
}

impl Room {
    /// Pixels of a picture.
    pub(super) fn pixels(self) -> usize {
        self.elements / self.channels.max(1)
    }
}

/// Memory that buffers share: values per picture of the chunk, and values in all.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    per_picture: usize,
    values: usize,
}

impl Slot {
    /// Values for chunks of so many pictures.
    pub(super) fn values(self, pictures: usize) -> usize {
        (self.per_picture * pictures).max(self.values)
    }
}

/// Bytes of a pass's buffers that should stay in cache until the next pass.
const CACHE_BYTES: usize = 1 << 20;

/// Values that the passes of a stage of rows may touch in a step, and the granularity of its rows: a
/// multiple of what a tile of a product takes.
const ROW_VALUES: usize = 64 << 10;
const ROWS: usize = 112;

/// Cuts the passes into stages. Between joins, passes that look at one pixel at a time go through all
/// of them in a few rows of pixels. Others are cut where another number of pictures fits the cache:
/// maps shrink on the way up to the loss, and grow on the way back.
pub(super) fn stages(
    passes: &[Pass],
    joins: &[(usize, Join)],
    rooms: &[Room],
    by_pixel: impl Fn(&Pass) -> bool,
    most: usize,
) -> Vec<Stage> {
    let rows = |passes: &[Pass]| -> Option<usize> {
        let mut all: Vec<Buffer> = passes.iter().flat_map(Pass::buffers).collect();
        all.sort_unstable();
        all.dedup();
        let pixels = |buffer: &Buffer| rooms[*buffer].pixels();
        let first = all.first().map(pixels)?;
        let alike = first > 1 && all.iter().map(pixels).all(|it| it == first);
        let channels: usize = all.iter().map(|&buffer| rooms[buffer].channels).sum();
        let rows = ROW_VALUES / channels.max(1) / ROWS;
        (alike && passes.iter().all(&by_pixel)).then_some(ROWS * rows.max(1))
    };
    let mut steps: Vec<Option<Step>> = vec![None; passes.len()];
    let mut start = 0;
    for end in joins.iter().map(|(behind, _)| *behind) {
        steps[start..end].fill(rows(&passes[start..end]).map(Step::Rows));
        start = end;
    }
    let is_loss = |pass: &Pass| matches!(pass, Pass::Loss { .. });
    let loss = passes.iter().position(is_loss).unwrap_or(passes.len());
    let narrow = |limit: &mut usize, (step, pass): (&mut Option<Step>, &Pass)| {
        if step.is_none() {
            let values: usize = pass.buffers().map(|buffer| rooms[buffer].elements).sum();
            let fit = CACHE_BYTES / (values * size_of::<f32>()).max(1);
            *limit = (*limit).min(1 << fit.max(1).ilog2());
            *step = Some(Step::Pictures(*limit));
        }
    };
    let mut each: Vec<_> = steps.iter_mut().zip(passes).collect();
    let backward = each.split_off(loss);
    let mut limit = most;
    each.into_iter().rev().for_each(|it| narrow(&mut limit, it));
    limit = most;
    backward.into_iter().for_each(|it| narrow(&mut limit, it));
    let mut stages: Vec<Stage> = Vec::new();
    let mut joins = joins.iter().peekable();
    for (index, step) in steps.into_iter().enumerate() {
        let step = step.unwrap_or(Step::Pictures(1));
        match stages.last_mut() {
            Some(stage) if stage.step == step && stage.join.is_none() => {
                stage.passes.end = index + 1;
            }
            _ => stages.push(Stage {
                passes: index..index + 1,
                step,
                join: None,
            }),
        }
        while let Some((_, join)) = joins.next_if(|(behind, _)| *behind == index + 1) {
            if let Some(stage) = stages.last_mut() {
                stage.join = Some(*join);
            }
        }
    }
    stages
}

/// Shares slots among buffers that are not in use at the same time. Returns the places, and the
/// slots.
pub(super) fn place(
    passes: &[Pass],
    stages: &[Stage],
    rooms: &[Room],
    most: usize,
) -> (Vec<Place>, Vec<Slot>) {
    let mut lives: Vec<Option<Range<usize>>> = vec![None; rooms.len()];
    for (time, pass) in passes.iter().enumerate() {
        for buffer in pass.buffers() {
            let life = lives[buffer].get_or_insert(time..time + 1);
            life.end = time + 1;
        }
    }
    let stage = |time: usize| {
        let holds = |stage: &&Stage| stage.passes.contains(&time);
        stages.iter().find(holds)
    };
    // A stage runs several times for one chunk: what crosses stages lives through all of them.
    let mut wholes = vec![false; rooms.len()];
    for (life, whole) in lives.iter_mut().zip(&mut wholes) {
        let Some(life) = life else { continue };
        if let (Some(first), Some(last)) = (stage(life.start), stage(life.end - 1))
            && first.passes != last.passes
        {
            *life = first.passes.start..last.passes.end;
            *whole = true;
        }
    }
    let mut order: Vec<Buffer> = (0..rooms.len()).collect();
    let born = |buffer: Buffer| lives[buffer].as_ref().map_or(0, |life| life.start);
    order.sort_by_key(|&buffer| born(buffer));
    let nowhere = Place::Slot {
        index: 0,
        whole: false,
    };
    let mut places = vec![nowhere; rooms.len()];
    // With the time when each slot is free again.
    let mut slots: Vec<(Slot, usize)> = Vec::new();
    for buffer in order {
        let room = rooms[buffer];
        if let Some(input) = room.input {
            places[buffer] = Place::Input(input);
            continue;
        }
        let Some(life) = &lives[buffer] else { continue };
        let whole = wholes[buffer];
        let wanted = match stage(life.start).map(|stage| stage.step) {
            _ if whole => room.elements * most,
            None => room.elements * most,
            Some(Step::Pictures(pictures)) => room.elements * pictures,
            Some(Step::Rows(rows)) => room.channels * rows,
        };
        let free = || {
            let is_free =
                |(_, (_, busy_until)): &(usize, &(Slot, usize))| *busy_until <= life.start;
            slots.iter().enumerate().filter(is_free)
        };
        let best = free()
            .filter(|(_, (slot, _))| slot.values(most) >= wanted)
            .min_by_key(|(_, (slot, _))| slot.values(most))
            .or_else(|| free().max_by_key(|(_, (slot, _))| slot.values(most)))
            .map(|(index, _)| index);
        let index = best.unwrap_or_else(|| {
            slots.push((Slot::default(), 0));
            slots.len() - 1
        });
        let (slot, busy_until) = &mut slots[index];
        match whole {
            true => slot.per_picture = slot.per_picture.max(room.elements),
            false => slot.values = slot.values.max(wanted),
        }
        *busy_until = life.end;
        places[buffer] = Place::Slot { index, whole };
    }
    (places, slots.into_iter().map(|(slot, _)| slot).collect())
}
