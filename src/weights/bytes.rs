//! The bytes of a weight file, mapped rather than read: only tensors that are asked for come into
//! memory, and a file that is large or claims to be costs nothing by itself.

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::error::WeightsError;
use super::source::unreadable;

/// Bytes that may be shared with a reader.
#[derive(Debug, Clone)]
pub(super) struct Bytes {
    content: Content,
    range: Range<usize>,
}

#[derive(Debug, Clone)]
enum Content {
    Static(&'static [u8]),
    Mapped(Arc<Mmap>),
    #[cfg(test)]
    Owned(Arc<Vec<u8>>),
}

impl Bytes {
    /// Maps a file; a folder, pipe or device is an error.
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if !metadata.is_file() {
            let reason = match metadata.is_dir() {
                true => "it is a folder",
                false => "it is not a regular file",
            };
            return Err(unreadable(path, &std::io::Error::other(reason)));
        }
        if metadata.len() == 0 {
            return Ok(Self::fixed(&[]));
        }
        let map = File::open(path).and_then(|file| {
            // SAFETY: the map is only read. A file that someone cuts off while it is being loaded
            // ends the program, as it would with every other reader of the hub's cache.
            unsafe { Mmap::map(&file) }
        });
        let map = map.map_err(|error| unreadable(path, &error))?;
        Ok(Self {
            range: 0..map.len(),
            content: Content::Mapped(Arc::new(map)),
        })
    }

    /// Bytes of the program itself.
    pub(super) fn fixed(bytes: &'static [u8]) -> Self {
        Self {
            content: Content::Static(bytes),
            range: 0..bytes.len(),
        }
    }

    /// Bytes of a test.
    #[cfg(test)]
    pub(super) fn owned(bytes: Vec<u8>) -> Self {
        Self {
            range: 0..bytes.len(),
            content: Content::Owned(Arc::new(bytes)),
        }
    }

    /// A part of these bytes; `None` beyond their end.
    pub(super) fn part(&self, range: &Range<usize>) -> Option<Self> {
        self.get(range.clone())?;
        Some(Self {
            content: self.content.clone(),
            range: self.range.start + range.start..self.range.start + range.end,
        })
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all = match &self.content {
            Content::Static(bytes) => bytes,
            Content::Mapped(map) => &map[..],
            #[cfg(test)]
            Content::Owned(bytes) => bytes,
        };
        &all[self.range.clone()]
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
