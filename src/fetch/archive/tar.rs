//! Tar archives. Entries are taken raw, so that the long names in front of them, which the crate
//! would read whole whatever they claim to be, are read with a limit.

use std::io::Read;

use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::{Fault, Target, below};

/// Longest header in front of an entry.
const LONGEST_HEADER: u64 = 1 << 20;

/// What headers in front of an entry say of it.
#[derive(Default)]
struct Ahead {
    path: Option<String>,
    link: Option<String>,
}

/// Unpacks everything that `content` holds.
pub(super) fn unpack(content: &mut dyn Read, target: &mut Target) -> Result<(), Fault> {
    let mut archive = Archive::new(content);
    let mut ahead = Ahead::default();
    let mut entries = 0;
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        entries += 1;
        match entry.header().entry_type() {
            EntryType::GNULongName => ahead.path = Some(text(&mut entry)?),
            EntryType::GNULongLink => ahead.link = Some(text(&mut entry)?),
            EntryType::XHeader => extensions(&header(&mut entry)?, &mut ahead)?,
            EntryType::XGlobalHeader => {}
            kind => place(&mut entry, kind, std::mem::take(&mut ahead), target)?,
        }
    }
    // To the end, where a compressed file has its checksum.
    std::io::copy(archive.into_inner(), &mut std::io::sink())?;
    match entries {
        0 => Err(Fault::damaged("it holds nothing")),
        _ => Ok(()),
    }
}

fn place(
    entry: &mut Entry<impl Read>,
    kind: EntryType,
    ahead: Ahead,
    target: &mut Target,
) -> Result<(), Fault> {
    let own = || String::from_utf8_lossy(&entry.header().path_bytes()).into_owned();
    let name = ahead.path.unwrap_or_else(own);
    let Some(path) = below(&name)? else {
        return Ok(());
    };
    let link = || {
        let own = entry.header().link_name_bytes();
        let own = || own.map(|name| String::from_utf8_lossy(&name).into_owned());
        ahead.link.clone().or_else(own).unwrap_or_default()
    };
    match kind {
        EntryType::Directory => target.folder(&path),
        // Before tar knew folders, a slash at the end told them.
        EntryType::Regular | EntryType::Continuous if name.ends_with('/') => target.folder(&path),
        EntryType::Regular | EntryType::Continuous => target.file(&path, entry.size(), entry),
        EntryType::Link => {
            let link = link();
            target.link(path, std::path::Path::new(""), &link)
        }
        EntryType::Symlink => {
            let (link, folder) = (link(), path.parent().map(ToOwned::to_owned));
            target.link(path, &folder.unwrap_or_default(), &link)
        }
        EntryType::GNUSparse => Err(Fault::hostile(format!("its entry `{name}` is sparse"))),
        _ => {
            let reason = format!("its entry `{name}` is neither a file, a folder nor a link");
            Err(Fault::hostile(reason))
        }
    }
}

fn header(entry: &mut Entry<impl Read>) -> Result<Vec<u8>, Fault> {
    if entry.size() > LONGEST_HEADER {
        return Err(Fault::hostile("one of its headers is too long"));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn text(entry: &mut Entry<impl Read>) -> Result<String, Fault> {
    let bytes = header(entry)?;
    let end = bytes.iter().position(|&byte| byte == 0);
    let name = &bytes[..end.unwrap_or(bytes.len())];
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn extensions(bytes: &[u8], ahead: &mut Ahead) -> Result<(), Fault> {
    for extension in PaxExtensions::new(bytes) {
        let extension = extension?;
        let value = || String::from_utf8_lossy(extension.value_bytes()).into_owned();
        match extension.key_bytes() {
            b"path" => ahead.path = Some(value()),
            b"linkpath" => ahead.link = Some(value()),
            // The header's own size would then be wrong, and what follows be misread.
            b"size" => return Err(Fault::foreign("it holds a file of over 8 GB")),
            key if key.starts_with(b"GNU.sparse") => {
                return Err(Fault::hostile("one of its entries is sparse"));
            }
            _ => {}
        }
    }
    Ok(())
}
