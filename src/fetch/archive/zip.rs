//! Zip archives.

use std::io::{Read, Seek};

use zip::{CompressionMethod, ZipArchive};

use super::{Fault, Target, below};

/// Longest target of a link.
const LONGEST_LINK: u64 = 4096;

/// Kind of file in the mode that Unix' programs write.
const KIND: u32 = 0o170_000;
const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// Unpacks everything that `content` holds.
pub(super) fn unpack(content: impl Read + Seek, target: &mut Target) -> Result<(), Fault> {
    let mut archive = ZipArchive::new(content).map_err(Fault::damaged)?;
    if archive.is_empty() {
        return Err(Fault::damaged("it holds nothing"));
    }
    // What it claims is checked before any of it is unpacked, and again as it is.
    let mut claimed = target.budget.clone();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(Fault::damaged)?;
        claimed.spend_file().map_err(Fault::hostile)?;
        claimed.spend(entry.size()).map_err(Fault::hostile)?;
        let name = entry.name().map_err(Fault::damaged)?;
        if entry.encrypted() {
            return Err(Fault::foreign(format!("its entry `{name}` is encrypted")));
        }
        let method = entry.compression();
        if !matches!(
            method,
            CompressionMethod::Stored | CompressionMethod::Deflated
        ) {
            let reason = format!("its entry `{name}` is compressed by {method}");
            return Err(Fault::foreign(reason));
        }
        below(&name)?;
    }
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(Fault::damaged)?;
        let name = entry.name().map_err(Fault::damaged)?.into_owned();
        let Some(path) = below(&name)? else {
            continue;
        };
        match entry.unix_mode().map_or(0, |mode| mode & KIND) {
            _ if name.ends_with(['/', '\\']) => target.folder(&path)?,
            0 | FILE => target.file(&path, entry.size(), &mut entry)?,
            FOLDER => target.folder(&path)?,
            LINK => {
                let mut link = String::new();
                let read = entry.by_ref().take(LONGEST_LINK).read_to_string(&mut link);
                read.map_err(Fault::damaged)?;
                let folder = path.parent().map(ToOwned::to_owned);
                target.link(path, &folder.unwrap_or_default(), &link)?;
            }
            _ => {
                let reason = format!("its entry `{name}` is neither a file, a folder nor a link");
                return Err(Fault::hostile(reason));
            }
        }
    }
    Ok(())
}
