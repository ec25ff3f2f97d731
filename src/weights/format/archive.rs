//! Zip archives as PyTorch and Keras write them: every entry stored as it is. Compressed entries
//! are refused, so nothing in a file can grow.

use std::io::Cursor;
use std::ops::Range;

use zip::{CompressionMethod, ZipArchive};

use super::{Bytes, Fault};

/// Most entries that are listed; PyTorch writes one a tensor.
const MOST_ENTRIES: usize = 200_000;

/// Names of an archive's entries and where they lie.
pub(super) struct Archive {
    bytes: Bytes,
    entries: Vec<(String, Result<Range<usize>, &'static str>)>,
}

impl Archive {
    /// Lists the entries and checks that they lie in the file.
    pub(super) fn open(bytes: &Bytes) -> Result<Self, Fault> {
        let mut zip = ZipArchive::new(Cursor::new(&bytes[..])).map_err(Fault::damaged)?;
        if zip.len() > MOST_ENTRIES {
            return Err(Fault::damaged("it has too many entries"));
        }
        let entries = (0..zip.len())
            .map(|index| {
                let file = zip.by_index_raw(index).map_err(Fault::damaged)?;
                let range = if file.encrypted() {
                    Err("is encrypted")
                } else if file.compression() != CompressionMethod::Stored
                    || file.size() != file.compressed_size()
                {
                    Err("is compressed")
                } else {
                    range(file.data_start(), file.size())
                        .filter(|range| bytes.get(range.clone()).is_some())
                        .ok_or("does not lie in the file")
                };
                let name = String::from_utf8_lossy(file.name_raw()).into_owned();
                Ok((name, range))
            })
            .collect::<Result<_, Fault>>()?;
        Ok(Self {
            bytes: bytes.clone(),
            entries,
        })
    }

    /// Names of all entries.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// Position of the entry of that name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.names().position(|it| it == name)
    }

    /// Content of the entry at `index`.
    pub(super) fn entry(&self, index: usize) -> Result<Bytes, Fault> {
        let (name, range) = &self.entries[index];
        let part = match range {
            Ok(range) => self.bytes.part(range).ok_or("does not lie in the file"),
            Err(reason) => Err(*reason),
        };
        part.map_err(|reason| Fault::damaged(format!("its entry `{name}` {reason}")))
    }
}

fn range(start: Option<u64>, size: u64) -> Option<Range<usize>> {
    let start = usize::try_from(start?).ok()?;
    Some(start..start.checked_add(usize::try_from(size).ok()?)?)
}
