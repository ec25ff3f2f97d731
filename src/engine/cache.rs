//! Frozen features, computed once a picture and gathered into batches: in main memory, or mapped
//! from the store on disk.

use std::collections::HashMap;

use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::memory;
use super::store::{Entry, PictureHash, StoreError};
use crate::program;

/// Values that wait to be written as one segment, and are lost if the process is killed: 16 MiB.
const SEGMENT_VALUES: usize = 4 << 20;

/// The same in bytes.
pub const SEGMENT_BYTES: usize = SEGMENT_VALUES * size_of::<f32>();

/// The frontier's stored tensors for a set of pictures. Pictures of the same bytes share a row.
#[derive(Debug)]
pub struct FeatureCache {
    parts: Vec<Part>,
    /// Values per row: of all parts.
    elements: usize,
    /// Row of each picture.
    row_of: Vec<usize>,
    /// Picture of each row.
    pictures: Vec<PictureHash>,
    /// `[rows, elements]`; `None` reads from the entry.
    memory: Option<Vec<f32>>,
    filled: Vec<bool>,
    /// Where rows come from and go to on disk.
    entry: Option<Entry>,
    /// Whether this build of xp is known to compute what was there.
    agreed: bool,
    pending: Pending,
    /// Why rows could not be written.
    trouble: Option<StoreError>,
    /// Where batches go.
    device: Device,
}

/// One stored tensor within a row.
#[derive(Debug)]
struct Part {
    dims: Vec<usize>,
    elements: usize,
    offset: usize,
}

/// Rows that wait to be written.
#[derive(Debug, Default)]
struct Pending {
    pictures: Vec<PictureHash>,
    values: Vec<f32>,
}

/// Where a cache holds its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In main memory.
    Memory,
    /// In mapped files; needs an entry of the store.
    Disk,
}

impl FeatureCache {
    /// Bytes that caching `pictures` pictures of these per-picture element counts takes.
    pub fn bytes(pictures: usize, elements: &[usize]) -> usize {
        pictures * elements.iter().sum::<usize>() * size_of::<f32>()
    }

    /// A cache for these pictures, whose stored tensors have these per-picture dimensions. Rows
    /// that the entry has are taken from there, others will be added to it. Batches are made on
    /// `device`.
    pub fn new(
        pictures: &[PictureHash],
        dims: &[Vec<usize>],
        place: Place,
        entry: Option<Entry>,
        device: &Device,
    ) -> Self {
        let mut parts = Vec::with_capacity(dims.len());
        let mut elements = 0;
        for dims in dims {
            let own = dims.iter().product();
            parts.push(Part {
                dims: dims.clone(),
                elements: own,
                offset: elements,
            });
            elements += own;
        }
        let mut rows: HashMap<PictureHash, usize> = HashMap::new();
        let mut distinct = Vec::new();
        let row_of = pictures.iter().map(|picture| {
            *rows.entry(*picture).or_insert_with(|| {
                distinct.push(*picture);
                distinct.len() - 1
            })
        });
        let row_of: Vec<usize> = row_of.collect();
        let is_known = |entry: &Entry| {
            let build = program::installed();
            entry.is_empty() || build.is_some_and(|build| entry.is_agreed(build))
        };
        let mut cache = Self {
            agreed: entry.as_ref().is_some_and(is_known),
            memory: (place == Place::Memory).then(|| vec![0.0; distinct.len() * elements]),
            filled: vec![false; distinct.len()],
            parts,
            elements,
            row_of,
            pictures: distinct,
            entry,
            pending: Pending::default(),
            trouble: None,
            device: device.clone(),
        };
        cache.take_stored();
        cache
    }

    fn take_stored(&mut self) {
        let Some(entry) = &self.entry else {
            return;
        };
        match &mut self.memory {
            Some(memory) => memory
                .par_chunks_mut(self.elements.max(1))
                .zip(&self.pictures)
                .zip(&mut self.filled)
                .for_each(|((row, picture), filled)| *filled = entry.read(picture, 0, row)),
            None => {
                for (picture, filled) in self.pictures.iter().zip(&mut self.filled) {
                    *filled = entry.holds(picture);
                }
            }
        }
    }

    /// Number of pictures.
    pub fn pictures(&self) -> usize {
        self.row_of.len()
    }

    /// Bytes of main memory that rows take.
    pub fn memory_bytes(&self) -> usize {
        self.memory
            .as_ref()
            .map_or(0, |memory| size_of_val(memory.as_slice()))
    }

    /// Where rows are.
    pub fn place(&self) -> Place {
        match self.memory {
            Some(_) => Place::Memory,
            None => Place::Disk,
        }
    }

    /// Number of pictures whose features are there.
    pub fn ready(&self) -> usize {
        self.row_of.iter().filter(|&&row| self.filled[row]).count()
    }

    /// The first picture whose features are there.
    pub fn first_ready(&self) -> Option<usize> {
        self.row_of.iter().position(|&row| self.filled[row])
    }

    /// Pictures whose features are missing, each content once, in order.
    pub fn missing(&self) -> Vec<usize> {
        let mut seen = self.filled.clone();
        let rows = self.row_of.iter().enumerate();
        rows.filter(|&(_, &row)| !std::mem::replace(&mut seen[row], true))
            .map(|(picture, _)| picture)
            .collect()
    }

    /// Pictures whose features are there, each content once, in order.
    pub fn present(&self) -> Vec<usize> {
        let mut seen: Vec<bool> = self.filled.iter().map(|filled| !filled).collect();
        let rows = self.row_of.iter().enumerate();
        rows.filter(|&(_, &row)| !std::mem::replace(&mut seen[row], true))
            .map(|(picture, _)| picture)
            .collect()
    }

    /// Whether this build of xp is known to compute the rows that are on disk.
    pub fn is_agreed(&self) -> bool {
        self.agreed
    }

    /// Takes note that it does: some have been compared.
    pub fn agree(&mut self) {
        self.agreed = true;
    }

    /// Forgets all rows, and removes those on disk: they turned out to be wrong.
    pub fn discard(&mut self) {
        self.filled.fill(false);
        self.agreed = true;
        if let Some(entry) = &mut self.entry
            && let Err(error) = entry.discard()
        {
            self.give_up(error.into());
        }
    }

    /// Stores the features of these pictures, one tensor a stored node.
    pub fn store(&mut self, pictures: &[usize], features: &[Tensor]) -> Result<()> {
        self.check(pictures)?;
        if features.len() != self.parts.len() {
            bail!(
                "the cache stores {} tensors a picture, not {}",
                self.parts.len(),
                features.len()
            );
        }
        let mut hosts = Vec::with_capacity(features.len());
        for (part, tensor) in self.parts.iter().zip(features) {
            if tensor.dims().split_first() != Some((&pictures.len(), part.dims.as_slice())) {
                bail!(
                    "features {:?} do not fit {} pictures of {:?}",
                    tensor.dims(),
                    pictures.len(),
                    part.dims
                );
            }
            hosts.push(memory::to_host(tensor)?);
        }
        let values: Vec<_> = hosts.iter().map(memory::Slice::of).collect::<Result<_>>()?;
        let mut whole = vec![0.0; self.elements];
        if self.entry.is_some() && self.pending.values.capacity() == 0 {
            let all = self.elements * self.filled.len();
            let most = SEGMENT_VALUES + self.elements * pictures.len();
            self.pending.values.reserve_exact(all.min(most));
        }
        for (index, &picture) in pictures.iter().enumerate() {
            let row = self.row_of[picture];
            if self.filled[row] {
                continue;
            }
            for (part, values) in self.parts.iter().zip(&values) {
                let from = &values[index * part.elements..][..part.elements];
                whole[part.offset..][..part.elements].copy_from_slice(from);
            }
            if let Some(memory) = &mut self.memory {
                memory[row * self.elements..][..self.elements].copy_from_slice(&whole);
                self.filled[row] = true;
            }
            if self.entry.is_some() {
                self.pending.pictures.push(self.pictures[row]);
                self.pending.values.extend(&whole);
                if self.pending.values.len() >= SEGMENT_VALUES {
                    self.write_pending();
                }
            }
        }
        Ok(())
    }

    /// Whether nothing that is stored from now on is kept.
    pub fn is_lost(&self) -> bool {
        self.memory.is_none() && self.entry.is_none()
    }

    /// Writes what is left to write. Returns what went wrong in writing, then or before.
    pub fn finish(&mut self) -> Option<StoreError> {
        self.write_pending();
        self.pending = Pending::default();
        if let Some((entry, build)) = self.entry.as_ref().zip(program::installed())
            && self.agreed
        {
            entry.agree(build);
        }
        match self.memory {
            Some(_) => self.entry = None,
            None => self.take_stored(),
        }
        self.trouble.take()
    }

    fn write_pending(&mut self) {
        let Pending { pictures, values } = &mut self.pending;
        let written = match &mut self.entry {
            Some(entry) if !pictures.is_empty() => {
                if !self.agreed {
                    entry.disagree();
                }
                entry.append(pictures, values)
            }
            _ => Ok(()),
        };
        // The memory stays for the next segment.
        pictures.clear();
        values.clear();
        if let Err(error) = written {
            self.give_up(error);
        }
    }

    /// Goes on without the disk. Rows that lie there only are lost.
    fn give_up(&mut self, error: StoreError) {
        self.trouble.get_or_insert(error);
        self.entry = None;
        if self.memory.is_none() {
            self.filled.fill(false);
        }
    }

    /// Features of the given pictures as a batch, one tensor a stored node.
    pub fn gather(&self, pictures: &[usize]) -> Result<Vec<Tensor>> {
        self.check(pictures)?;
        self.parts
            .iter()
            .map(|part| {
                let mut batch = vec![0.0; pictures.len() * part.elements];
                let found = batch
                    .par_chunks_mut(part.elements.max(1))
                    .zip(pictures)
                    .all(|(to, &picture)| self.read(self.row_of[picture], part, to));
                if !found {
                    bail!("features of a picture are not there");
                }
                let mut dims = vec![pictures.len()];
                dims.extend(&part.dims);
                Tensor::from_vec(batch, dims, &self.device)
            })
            .collect()
    }

    fn read(&self, row: usize, part: &Part, to: &mut [f32]) -> bool {
        match (&self.memory, &self.entry) {
            (Some(memory), _) => {
                let start = row * self.elements + part.offset;
                to.copy_from_slice(&memory[start..start + part.elements]);
                self.filled[row]
            }
            (None, Some(entry)) => entry.read(&self.pictures[row], part.offset, to),
            (None, None) => false,
        }
    }

    fn check(&self, pictures: &[usize]) -> Result<()> {
        let count = self.row_of.len();
        match pictures.iter().find(|&&picture| picture >= count) {
            Some(picture) => bail!("picture {picture} is not among the {count} cached ones"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathers_what_was_stored_in_any_order() {
        let dims = [vec![2, 1, 2], vec![3]];
        // The last two have the same bytes.
        let pictures = [[1; 32], [2; 32], [3; 32], [3; 32]];
        let mut cache = FeatureCache::new(&pictures, &dims, Place::Memory, None, &Device::Cpu);
        let maps = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap();
        let maps = maps.reshape((3, 2, 1, 2)).unwrap();
        let vectors = Tensor::arange(0f32, 9.0, &Device::Cpu).unwrap();
        let vectors = vectors.reshape((3, 3)).unwrap();
        assert_eq!(cache.missing(), [0, 1, 2]);
        for positions in [&[0, 1][..], &[2]] {
            let part = |t: &Tensor| t.narrow(0, positions[0], positions.len()).unwrap();
            cache
                .store(positions, &[part(&maps), part(&vectors)])
                .unwrap();
        }
        assert!(cache.finish().is_none());
        assert_eq!((cache.ready(), cache.missing().len()), (4, 0));
        let batch = cache.gather(&[3, 0]).unwrap();
        assert_eq!(batch[0].dims(), [2, 2, 1, 2]);
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(
            values(&batch[0]),
            [8.0, 9.0, 10.0, 11.0, 0.0, 1.0, 2.0, 3.0]
        );
        assert_eq!(values(&batch[1]), [6.0, 7.0, 8.0, 0.0, 1.0, 2.0]);
        assert!(cache.gather(&[4]).is_err());
        assert!(cache.store(&[2], &[maps, vectors]).is_err());
        assert_eq!(FeatureCache::bytes(3, &[4, 3]), 84);
    }
}
