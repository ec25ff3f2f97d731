//! A device with the memory that its operations need on the way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::args::{Args, Arguments};
use super::memory::{Block, aligned};
use super::{Address, Backend, Kernel, Launch, Real, Result, THREADS};
use crate::precision::Precision;

/// What memory on the way is for: that of one use is free again when the operation is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Partial sums.
    Sums,
    /// A map with zeros around it.
    Padded,
    /// Weights of an attention.
    Weights,
    /// Gradients to those.
    WeightGradients,
}

/// Number of uses.
const USES: usize = 4;

/// A device, and operations on maps in its memory.
#[derive(Debug, Clone)]
pub struct Gpu {
    backend: Arc<dyn Backend>,
    scratch: Arc<[Mutex<Option<Block>>; USES]>,
    /// One program at a time: they share memory on the way.
    turn: Arc<Mutex<()>>,
}

impl Gpu {
    /// On this device.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            scratch: Arc::default(),
            turn: Arc::default(),
        }
    }

    /// The device.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// What it is, for people.
    pub fn describe(&self) -> String {
        self.backend.describe()
    }

    /// How it computes.
    pub fn precision(&self) -> Precision {
        self.backend.precision()
    }

    /// What maps are stored as.
    pub fn real(&self) -> Real {
        self.backend.real()
    }

    /// The right to queue a whole program: programs of several threads wait for one another.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory of so many bytes, holding anything.
    ///
    /// # Errors
    /// If the device has no room for them.
    pub fn block(&self, bytes: usize) -> Result<Block> {
        Block::new(&self.backend, bytes)
    }

    /// Waits for all work and copies values to main memory.
    ///
    /// # Errors
    /// If the device failed.
    pub fn floats(&self, from: Address, count: usize) -> Result<Vec<f32>> {
        let mut values = vec![0f32; count];
        if count > 0 {
            self.backend
                .download(from, bytemuck::cast_slice_mut(&mut values))?;
        }
        Ok(values)
    }

    /// Values of maps, in f32.
    ///
    /// # Errors
    /// If the device failed.
    pub fn download_map(&self, from: Address, count: usize) -> Result<Vec<f32>> {
        if self.real() == Real::Single || count == 0 {
            return self.floats(from, count);
        }
        let mut bits = vec![0u16; count];
        self.backend
            .download(from, bytemuck::cast_slice_mut(&mut bits))?;
        let single = |bits: u16| f32::from_bits(u32::from(bits) << 16);
        Ok(bits.into_iter().map(single).collect())
    }

    /// Memory for one use, of several pieces that begin at aligned places.
    pub(super) fn scratch<const N: usize>(
        &self,
        used_for: Use,
        bytes: [usize; N],
    ) -> Result<[Address; N]> {
        let wanted = bytes.iter().map(|bytes| aligned(*bytes)).sum();
        let slot = &self.scratch[used_for as usize];
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_none_or(|block| block.bytes() < wanted) {
            // Given back first: both might not fit.
            *slot = None;
            *slot = Some(self.block(wanted)?);
        }
        let mut at = slot.as_ref().map_or(0, Block::address);
        Ok(bytes.map(|bytes| {
            at += aligned(bytes) as Address;
            at - aligned(bytes) as Address
        }))
    }

    /// Runs a kernel with a thread for each of `count` values, or vectors of them where `channels`
    /// are whole vectors.
    pub(super) fn each(
        &self,
        kernel: Kernel,
        count: usize,
        channels: usize,
        args: &impl Arguments,
    ) -> Result<()> {
        let vector = self.takes_vectors(channels);
        let step = if vector { self.real().vector() } else { 1 };
        self.blocks(
            kernel,
            vector,
            [(count / step).div_ceil(THREADS), 1, 1],
            args,
        )
    }

    /// As [`Self::each`], one value a thread.
    pub(super) fn singly(&self, kernel: Kernel, count: usize, args: &impl Arguments) -> Result<()> {
        self.blocks(kernel, false, [count.div_ceil(THREADS), 1, 1], args)
    }

    /// Whether kernels take so many channels as vectors.
    pub(super) fn takes_vectors(&self, channels: usize) -> bool {
        channels.is_multiple_of(self.real().vector())
    }

    pub(super) fn blocks(
        &self,
        kernel: Kernel,
        vector: bool,
        grid: [usize; 3],
        args: &impl Arguments,
    ) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        let launch = Launch {
            kernel,
            vector,
            real: self.real(),
            grid: grid.map(|blocks| blocks as u32),
        };
        self.backend.launch(launch, Args::of(args))
    }
}
