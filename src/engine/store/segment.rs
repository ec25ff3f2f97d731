//! One file of feature rows: written once, renamed into place, then only mapped.
//!
//! | bytes | hold |
//! |---|---|
//! | 8 | `MAGIC` |
//! | 8 | values per row |
//! | 8 | rows |
//! | 32 a row | hash of the picture |
//! | 4 x values a row | the features, little-endian f32 |
//! | 32 | BLAKE3 of all of the above |

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::{PictureHash, StoreError};
use crate::fsx::{self, FsError};

/// Extension of segment files.
pub(super) const EXTENSION: &str = "rows";

const MAGIC: &[u8; 8] = b"xprows\x01\n";
const HEADER: usize = 24;
const SUM: usize = 32;

/// A mapped segment.
#[derive(Debug)]
pub(super) struct Segment {
    map: Mmap,
    elements: usize,
    rows: usize,
}

/// What the first bytes of a segment say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) elements: usize,
    pub(super) rows: usize,
}

impl Header {
    /// Reads the header alone. `None` if it is none.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let mut bytes = [0; HEADER];
        File::open(path).ok()?.read_exact(&mut bytes).ok()?;
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| -> Option<usize> {
            let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
            usize::try_from(u64::from_le_bytes(bytes)).ok()
        };
        let header = Self {
            elements: number(8)?,
            rows: number(16)?,
        };
        bytes.starts_with(MAGIC).then_some(header)
    }

    fn bytes(self) -> Option<usize> {
        let row = self.elements.checked_mul(size_of::<f32>())?;
        let row = row.checked_add(size_of::<PictureHash>())?;
        row.checked_mul(self.rows)?.checked_add(HEADER + SUM)
    }
}

impl Segment {
    /// Maps a segment and checks its length, and with `whole` its sum, too.
    pub(super) fn open(path: &Path, elements: usize, whole: bool) -> Result<Self, StoreError> {
        let damaged = |reason: &'static str| StoreError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let file = File::open(path).map_err(FsError::at("open", path))?;
        // SAFETY: segments are renamed into place when complete and never written or cut after
        // that; one that is removed while mapped stays readable.
        let map = unsafe { Mmap::map(&file) }.map_err(FsError::at("map", path))?;
        let header = Header::parse(&map).ok_or_else(|| damaged("its header is broken"))?;
        if header.elements != elements {
            return Err(damaged("its rows have another length"));
        }
        if header.bytes() != Some(map.len()) {
            return Err(damaged("it is cut off"));
        }
        let (content, sum) = map.split_at(map.len() - SUM);
        if whole && blake3::hash(content).as_bytes() != sum {
            return Err(damaged("its content has changed"));
        }
        if whole {
            forget(&map);
        }
        Ok(Self {
            map,
            elements,
            rows: header.rows,
        })
    }

    /// The pictures, by row.
    pub(super) fn pictures(&self) -> impl Iterator<Item = PictureHash> + '_ {
        let index = &self.map[HEADER..HEADER + self.rows * size_of::<PictureHash>()];
        let (hashes, _) = index.as_chunks::<32>();
        hashes.iter().copied()
    }

    /// Copies the values of a row from `offset` on.
    pub(super) fn read(&self, row: usize, offset: usize, to: &mut [f32]) {
        let first = HEADER + self.rows * size_of::<PictureHash>();
        let start = first + (row * self.elements + offset) * size_of::<f32>();
        let (values, _) = self.map[start..start + size_of_val(to)].as_chunks::<4>();
        for (to, value) in to.iter_mut().zip(values) {
            *to = f32::from_le_bytes(*value);
        }
    }
}

/// Lets go of the pages of a map that was read once: they count as memory of this process, and come
/// back from the system's cache when they are read again.
fn forget(map: &Mmap) {
    #[cfg(unix)]
    {
        // SAFETY: nothing is ever written to the map, so that no page differs from the file.
        let forgotten = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        // Advice that is not taken changes nothing.
        let _ = forgotten;
    }
    #[cfg(not(unix))]
    let _ = map;
}

/// Writes the rows of these pictures, `values.len() / pictures.len()` values each, and returns
/// the file. Its name follows from the pictures: two writers of the same rows write the same file.
pub(super) fn write(
    folder: &Path,
    pictures: &[PictureHash],
    values: &[f32],
) -> Result<PathBuf, FsError> {
    let mut names = blake3::Hasher::new();
    pictures.iter().for_each(|picture| {
        names.update(picture);
    });
    let name = &names.finalize().to_hex()[..32];
    let path = folder.join(name).with_extension(EXTENSION);
    let elements = values.len() / pictures.len().max(1);
    fsx::write_atomic_with(&path, |file| {
        let mut file = Summing {
            file,
            sum: blake3::Hasher::new(),
        };
        file.write_all(MAGIC)?;
        file.write_all(&(elements as u64).to_le_bytes())?;
        file.write_all(&(pictures.len() as u64).to_le_bytes())?;
        file.write_all(pictures.as_flattened())?;
        let mut bytes = Vec::with_capacity(1 << 16);
        for values in values.chunks(1 << 14) {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            file.write_all(&bytes)?;
        }
        let sum = file.sum.finalize();
        file.file.write_all(sum.as_bytes())
    })?;
    Ok(path)
}

/// Sums what it passes on.
struct Summing<'a> {
    file: &'a mut dyn Write,
    sum: blake3::Hasher,
}

impl Write for Summing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_any_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let pictures = [[1; 32], [2; 32], [3; 32]];
        let values: Vec<f32> = (0u8..12).map(f32::from).collect();
        let path = write(folder.path(), &pictures, &values).unwrap();
        assert_eq!(write(folder.path(), &pictures, &values).unwrap(), path);
        let segment = Segment::open(&path, 4, true).unwrap();
        assert_eq!(segment.pictures().collect::<Vec<_>>(), pictures);
        let mut row = [0.0; 3];
        segment.read(2, 1, &mut row);
        assert_eq!(row, [9.0, 10.0, 11.0]);
        let header = Header::read(&path).unwrap();
        assert_eq!((header.elements, header.rows), (4, 3));
        assert!(Segment::open(&path, 5, true).is_err());

        let good = fs::read(&path).unwrap();
        for at in [0, 9, 17, 30, good.len() - 40, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(&path, bad).unwrap();
            assert!(Segment::open(&path, 4, true).is_err(), "byte {at} flipped");
        }
        for length in [0, 7, HEADER, good.len() - 1] {
            fs::write(&path, &good[..length]).unwrap();
            assert!(Segment::open(&path, 4, false).is_err(), "{length} bytes");
        }
    }
}
