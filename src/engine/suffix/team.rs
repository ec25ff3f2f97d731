//! A training step shared by several processes: each computes some chunks of the batch, and sums run
//! through all of them in the order of the chunks, while the reverse pass goes on.

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use candle_core::{Error, Result, bail};

use super::sums::{Block, Sums};
use crate::ops::kernel;
use crate::ranks::Ranks;

/// Values that travel together: small enough that all links of a chain are busy at once.
const PIECE: usize = 64 << 10;

/// The processes that share a step. All do the same, in the same order.
pub trait Team: Sync {
    /// Whether there is no other.
    fn is_alone(&self) -> bool;
    /// Which of so many chunks this one computes: parts follow each other.
    fn part(&self, chunks: usize) -> Range<usize>;
    /// The values of all, one after the other.
    fn gather(&self, own: Vec<f32>) -> Result<Vec<f32>>;
    /// The next piece of a sum as those before leave it; `None` for the first.
    fn sum_so_far(&self) -> Result<Option<Vec<f32>>>;
    /// Hands a piece of a sum on.
    fn pass_sum(&self, piece: &[f32]) -> Result<()>;
    /// The next piece of the total.
    fn total(&self) -> Result<Vec<f32>>;
    /// Frees all who wait for this one, which cannot go on.
    fn give_up(&self, why: &str);
}

impl Team for Ranks {
    fn is_alone(&self) -> bool {
        Self::is_alone(self)
    }

    fn part(&self, chunks: usize) -> Range<usize> {
        Self::part(self, chunks)
    }

    fn gather(&self, own: Vec<f32>) -> Result<Vec<f32>> {
        self.gather_values(own).map_err(Error::wrap)
    }

    fn sum_so_far(&self) -> Result<Option<Vec<f32>>> {
        Self::sum_so_far(self).map_err(Error::wrap)
    }

    fn pass_sum(&self, piece: &[f32]) -> Result<()> {
        Self::pass_sum(self, piece).map_err(Error::wrap)
    }

    fn total(&self) -> Result<Vec<f32>> {
        Self::total(self).map_err(Error::wrap)
    }

    fn give_up(&self, why: &str) {
        self.fail(OTHER, why, None);
    }
}

/// Exit code of what has none of its own.
const OTHER: u8 = 1;

/// Keeps a thread that panics in the middle of a step from leaving others waiting, those of its own
/// process included.
struct Pledge<'a> {
    team: &'a dyn Team,
    kept: bool,
}

impl Drop for Pledge<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.team.give_up("a training step panicked");
        }
    }
}

/// Does a part of a step; if it fails, all who wait for it hear why.
pub(super) fn pledged<T>(team: &dyn Team, part: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut pledge = Pledge { team, kept: false };
    let done = part();
    pledge.kept = true;
    done.inspect_err(|error| team.give_up(&error.to_string()))
}

/// Where the chunks of one process leave the blocks of their sums as these become final. What all of
/// them have left goes to the thread that talks to the other processes.
pub(super) struct Desk<'a> {
    blocks: &'a [Block],
    left: Mutex<Left>,
}

struct Left {
    /// By block and chunk.
    values: Vec<Vec<Option<Vec<f32>>>>,
    ready: Sender<Ready>,
}

/// A block of all chunks, in their order.
pub(super) struct Ready {
    block: usize,
    parts: Vec<Vec<f32>>,
}

impl<'a> Desk<'a> {
    /// For so many chunks.
    pub(super) fn new(blocks: &'a [Block], chunks: usize) -> (Self, Receiver<Ready>) {
        let (ready, receiver) = channel();
        if chunks == 0 {
            for block in exchanged(blocks) {
                let parts = Vec::new();
                // The receiver is there still.
                let _ = ready.send(Ready { block, parts });
            }
        }
        let values = blocks.iter().map(|_| vec![None; chunks]).collect();
        let left = Mutex::new(Left { values, ready });
        (Self { blocks, left }, receiver)
    }

    /// Takes from a chunk what is final behind this stage.
    pub(super) fn leave(&self, stage: usize, chunk: usize, sums: &mut Sums) {
        let is_final = |block: &usize| self.blocks[*block].stage == Some(stage);
        for block in (0..self.blocks.len()).filter(is_final) {
            let own = std::mem::take(&mut sums.blocks[block]);
            // Under the lock to the end: blocks are ready in their order.
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.values[block][chunk] = Some(own);
            if left.values[block].iter().all(Option::is_some) {
                let parts = std::mem::take(&mut left.values[block]);
                let parts = parts.into_iter().flatten().collect();
                let _ = left.ready.send(Ready { block, parts });
            }
        }
    }
}

fn exchanged(blocks: &[Block]) -> impl Iterator<Item = usize> {
    let finals = blocks.iter().enumerate();
    finals.filter_map(|(index, block)| block.stage.map(|_| index))
}

fn pieces(block: &Block) -> impl Iterator<Item = Range<usize>> + use<> {
    let values = block.values;
    (0..values)
        .step_by(PIECE)
        .map(move |start| start..(start + PIECE).min(values))
}

/// Adds blocks to what comes from the processes before and hands them on, as they become ready.
/// Returns the memory.
pub(super) fn hand_on(
    team: &dyn Team,
    blocks: &[Block],
    ready: &Receiver<Ready>,
) -> Result<Vec<(usize, Vec<Vec<f32>>)>> {
    let mut memory = Vec::new();
    for _ in exchanged(blocks) {
        // No sender: the step has failed, and says why.
        let Ok(Ready { block, mut parts }) = ready.recv() else {
            break;
        };
        for piece in pieces(&blocks[block]) {
            let mut own = parts.iter_mut().map(|part| &mut part[piece.clone()]);
            let mut below = team.sum_so_far()?;
            let sum = match &mut below {
                Some(sum) => sum.as_mut_slice(),
                None => own.next().unwrap_or_default(),
            };
            for part in own {
                if part.len() != sum.len() {
                    bail!("the processes of a step do not agree on its sums");
                }
                kernel::add_into(part, sum);
            }
            team.pass_sum(sum)?;
        }
        memory.push((block, parts));
    }
    Ok(memory)
}

/// The totals of all blocks, into these.
pub(super) fn take_totals(team: &dyn Team, blocks: &[Block], totals: &mut Sums) -> Result<()> {
    for block in exchanged(blocks) {
        for piece in pieces(&blocks[block]) {
            let total = team.total()?;
            let to = &mut totals.blocks[block][piece];
            if to.len() != total.len() {
                bail!("the processes of a step do not agree on its sums");
            }
            to.copy_from_slice(&total);
        }
    }
    Ok(())
}
