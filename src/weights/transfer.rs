//! What all downloads share: how far they are, and checksums.

use std::io::{Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::error::WeightsError;
use super::source::unreadable;

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

/// Copies a body, and gives its SHA-256 and length.
pub(super) fn copy(
    body: &mut dyn Read,
    file: &mut dyn Write,
    total: Option<u64>,
    progress: &mut dyn FnMut(Download),
) -> std::io::Result<(String, u64)> {
    let mut sum = Sha256::new();
    let mut done = 0;
    let mut block = vec![0; BLOCK];
    loop {
        let read = body.read(&mut block)?;
        if read == 0 {
            return Ok((hexadecimal(&sum.finalize()), done));
        }
        sum.update(&block[..read]);
        file.write_all(&block[..read])?;
        done += read as u64;
        progress(Download {
            done,
            total: total.unwrap_or(done),
        });
    }
}

/// SHA-256 of a file in hexadecimal.
pub(super) fn sha256_of(path: &Path) -> Result<String, WeightsError> {
    let mut file = std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    let copied = copy(&mut file, &mut std::io::sink(), None, &mut |_| ());
    Ok(copied.map_err(|error| unreadable(path, &error))?.0)
}

/// Whether a text is a SHA-256 in hexadecimal.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
