//! What all downloads share: how far they are, and checksums.

use std::io::{Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::FetchError;

/// Bytes that are read at a time.
const BLOCK: usize = 1 << 18;

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Download {
    /// Bytes that are here, those of an earlier attempt included.
    pub done: u64,
    /// Size of the file in bytes.
    pub total: u64,
}

/// SHA-256 and number of the bytes that have passed.
#[derive(Debug, Clone, Default)]
pub(super) struct Passed {
    sum: Sha256,
    pub(super) bytes: u64,
}

/// Which side of a copy failed.
#[derive(Debug)]
pub(super) enum Side {
    Read(std::io::Error),
    Write(std::io::Error),
}

impl Passed {
    /// Copies all of a body, adding to what has passed before.
    pub(super) fn copy(
        &mut self,
        body: &mut dyn Read,
        file: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Side> {
        let mut block = vec![0; BLOCK];
        loop {
            let read = body.read(&mut block).map_err(Side::Read)?;
            if read == 0 {
                return Ok(());
            }
            self.sum.update(&block[..read]);
            file.write_all(&block[..read]).map_err(Side::Write)?;
            self.bytes += read as u64;
            progress(self.bytes);
        }
    }

    /// SHA-256 in hexadecimal.
    pub(super) fn sha256(self) -> String {
        let sum = self.sum.finalize();
        sum.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// SHA-256 of a file in hexadecimal.
pub fn sha256_of(path: &Path) -> Result<String, FetchError> {
    let mut file = std::fs::File::open(path).map_err(FetchError::unreadable(path))?;
    let mut passed = Passed::default();
    match passed.copy(&mut file, &mut std::io::sink(), &mut |_| ()) {
        Ok(()) => Ok(passed.sha256()),
        Err(Side::Read(error) | Side::Write(error)) => Err(FetchError::unreadable(path)(error)),
    }
}

/// Whether a text is a SHA-256 in hexadecimal.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
