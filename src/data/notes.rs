//! Notes on pictures that a scan has decoded: content hash and size. A later scan of the same files
//! reads and hashes them, and decodes only what it finds no note on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::listing::Listing;
use crate::fsx::{self, FsError};

/// Another version may decode otherwise, and trusts its own notes alone.
const VERSION: &str = concat!("xp ", env!("CARGO_PKG_VERSION"));
/// Hash, width, height.
const RECORD: usize = 40;

/// Upright width and height by content hash.
type Sizes = HashMap<[u8; 32], [u32; 2]>;

/// The notes on one listing.
#[derive(Debug)]
pub(super) struct Notes {
    file: PathBuf,
    sizes: Sizes,
}

impl Notes {
    /// Reads the notes in `folder` on the files of a listing. Missing or damaged ones are none.
    pub(super) fn open(folder: &Path, listing: &Listing) -> Self {
        let name = blake3::hash(common_folder(listing).as_os_str().as_encoded_bytes());
        let file = folder.join(&name.to_hex()[..32]);
        let sizes = std::fs::read(&file).ok().and_then(|bytes| parse(&bytes));
        Self {
            sizes: sizes.unwrap_or_default(),
            file,
        }
    }

    /// Width and height of a picture that was decoded before.
    pub(super) fn size(&self, hash: &[u8; 32]) -> Option<[u32; 2]> {
        self.sizes.get(hash).copied()
    }

    /// Replaces the notes if these pictures are others. That they cannot be written costs the next
    /// scan its time and nothing else.
    pub(super) fn replace(self, pictures: impl Iterator<Item = ([u8; 32], [u32; 2])>) {
        let sizes: Sizes = pictures.collect();
        if sizes == self.sizes {
            return;
        }
        let mut bytes = Vec::with_capacity(32 + sizes.len() * RECORD);
        for (hash, [width, height]) in &sizes {
            bytes.extend(hash);
            bytes.extend(width.to_le_bytes());
            bytes.extend(height.to_le_bytes());
        }
        bytes.extend(checksum(&bytes).as_bytes());
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let made = std::fs::create_dir_all(folder).map_err(FsError::at("create", folder));
        if let Err(error) = made.and_then(|()| fsx::write_atomic(&self.file, &bytes)) {
            tracing::debug!("no notes on pictures: {error}");
        }
    }
}

/// The innermost folder that holds all pictures: it stays when pictures come and go.
fn common_folder(listing: &Listing) -> PathBuf {
    let mut files = listing.pictures.iter().map(|listed| listed.file.as_path());
    let first = files.next().and_then(Path::parent).unwrap_or(Path::new(""));
    let common = |folder: &'_ Path, file: &Path| -> PathBuf {
        let mut ancestors = folder.ancestors();
        let holds = ancestors.find(|folder| file.starts_with(folder));
        holds.unwrap_or(Path::new("")).to_owned()
    };
    files.fold(first.to_owned(), |folder, file| common(&folder, file))
}

fn checksum(records: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(VERSION.as_bytes());
    hasher.update(records);
    hasher.finalize()
}

fn parse(bytes: &[u8]) -> Option<Sizes> {
    let (records, sum) = bytes.split_last_chunk::<32>()?;
    if checksum(records).as_bytes() != sum {
        return None;
    }
    let number = |bytes: &[u8]| Some(u32::from_le_bytes(bytes.try_into().ok()?));
    records
        .chunks(RECORD)
        .map(|record| {
            let (hash, size) = record.split_first_chunk::<32>()?;
            Some((*hash, [number(size.get(..4)?)?, number(size.get(4..)?)?]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let (notes, listing) = (folder.path().join("notes"), Listing::default());
        let pictures = [([1; 32], [2, 3]), ([4; 32], [5, 6])];
        Notes::open(&notes, &listing).replace(pictures.into_iter());
        let read = Notes::open(&notes, &listing);
        assert_eq!(read.size(&[4; 32]), Some([5, 6]));
        assert_eq!(read.size(&[9; 32]), None);
        let mut bytes = std::fs::read(&read.file).unwrap();
        for (at, by) in [(7, 1), (40, 1), (bytes.len() - 1, 1)] {
            bytes[at] ^= by;
            std::fs::write(&read.file, &bytes).unwrap();
            assert_eq!(Notes::open(&notes, &listing).size(&[4; 32]), None);
            bytes[at] ^= by;
        }
        std::fs::write(&read.file, &bytes[..bytes.len() - 10]).unwrap();
        assert_eq!(Notes::open(&notes, &listing).size(&[4; 32]), None);
    }
}
