//! Memory planned once: values that are not in use at the same time share it.

use std::ops::Range;
use std::sync::Arc;

use super::{Address, Backend, Result};

/// Memory that is given back when it is dropped.
#[derive(Debug)]
pub struct Block {
    backend: Arc<dyn Backend>,
    address: Address,
    bytes: usize,
}

impl Block {
    /// So many bytes holding anything.
    ///
    /// # Errors
    /// If the device has no room for them.
    pub fn new(backend: &Arc<dyn Backend>, bytes: usize) -> Result<Self> {
        // An address for nothing would be none.
        let bytes = bytes.max(1);
        Ok(Self {
            address: backend.allocate(bytes)?,
            backend: Arc::clone(backend),
            bytes,
        })
    }

    /// So many bytes of 0.
    ///
    /// # Errors
    /// As for [`Block::new`].
    pub fn zeros(backend: &Arc<dyn Backend>, bytes: usize) -> Result<Self> {
        let block = Self::new(backend, bytes)?;
        backend.zero(block.address, block.bytes)?;
        Ok(block)
    }

    /// These values.
    ///
    /// # Errors
    /// As for [`Block::new`].
    pub fn of<T: bytemuck::NoUninit>(backend: &Arc<dyn Backend>, values: &[T]) -> Result<Self> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let block = Self::new(backend, bytes.len())?;
        backend.upload(bytes, block.address)?;
        Ok(block)
    }

    /// Where it begins.
    pub fn address(&self) -> Address {
        self.address
    }

    /// How large it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.backend.free(self.address, self.bytes);
    }
}

/// What addresses and vectors of values are aligned to.
const ALIGNMENT: usize = 256;

/// Bytes that something takes in an arena.
pub fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// A value of so many bytes, and the passes during which it must keep its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// The first pass that writes it to behind the last one that reads it.
    pub passes: Range<usize>,
    /// Its size.
    pub bytes: usize,
}

/// Offsets of values in one arena, and the bytes of that: the largest values are placed first, each
/// as low as those that live at the same time let it.
pub fn plan(lives: &[Option<Life>]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    let bytes = |index: usize| lives[index].as_ref().map_or(0, |life| life.bytes);
    order.sort_by_key(|&index| std::cmp::Reverse(bytes(index)));
    let mut offsets = vec![0; lives.len()];
    let mut placed: Vec<(usize, usize, Range<usize>)> = Vec::new();
    let mut all = 0;
    for index in order {
        let Some(life) = &lives[index] else { continue };
        let size = aligned(life.bytes);
        let overlaps = |passes: &Range<usize>| {
            passes.start < life.passes.end && life.passes.start < passes.end
        };
        let mut offset = 0;
        // Sorted by offset: the first gap that is large enough.
        for (start, end, passes) in &placed {
            if overlaps(passes) && offset + size > *start && offset < *end {
                offset = *end;
            }
        }
        offsets[index] = offset;
        let at = placed.partition_point(|(start, ..)| *start <= offset);
        placed.insert(at, (offset, offset + size, life.passes.clone()));
        all = all.max(offset + size);
    }
    (offsets, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_share_memory_only_when_their_times_differ() {
        let life = |start: usize, end: usize, bytes| {
            Some(Life {
                passes: start..end,
                bytes,
            })
        };
        let lives: Vec<Option<Life>> = (0..40)
            .map(|i| match i % 7 {
                3 => None,
                _ => life(i * 5 % 23, i * 5 % 23 + 1 + i % 4, 1 + i * 337 % 5000),
            })
            .collect();
        let (offsets, all) = plan(&lives);
        let mut shared = 0;
        for (i, a) in lives.iter().enumerate() {
            for (j, b) in lives.iter().enumerate().filter(|(j, _)| *j > i) {
                let (Some(a), Some(b)) = (a, b) else { continue };
                let apart =
                    offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i];
                let (p, q) = (&a.passes, &b.passes);
                let together = p.start < q.end && q.start < p.end;
                assert!(apart || !together, "{i} and {j}");
                shared += usize::from(!apart);
            }
        }
        assert!(shared > 10);
        let total: usize = lives.iter().flatten().map(|life| aligned(life.bytes)).sum();
        assert!(all < total / 2);
    }
}
