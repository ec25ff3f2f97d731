//! Archives to folders. An archive is a stranger's: nothing of it may land outside its folder, and
//! it may not fill the disk with what its own size does not answer for. It never makes links, so
//! no later entry can go through one.

mod tar;
mod zip;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use super::FetchError;

/// Bytes that any archive may unpack to.
const FREE_BYTES: u64 = 256 << 20;
/// Beyond them, bytes for each of its own: pictures hardly shrink, and text seldom to a hundredth.
const RATIO: u64 = 100;
/// Files that any archive may hold.
const FREE_FILES: u64 = 10_000;
/// Beyond them, its own bytes for each: the smallest picture and its entry have more.
const BYTES_A_FILE: u64 = 128;
/// Deepest folder.
const MOST_PARTS: usize = 64;
/// Longest name that file systems take.
const LONGEST_NAME: usize = 255;

const AGAIN: &str = "download it again, or pack it anew";
const DISTRUST: &str = "do not trust it: take it from elsewhere, or look into it and unpack it by \
                        other means";

/// Why an archive is not unpacked.
#[derive(Debug)]
pub(super) struct Fault {
    reason: String,
    help: &'static str,
    /// Whether the archive may be sound, and this machine is at fault.
    ours: bool,
}

impl Fault {
    /// It breaks the rules of its format.
    fn damaged(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
            help: AGAIN,
            ours: false,
        }
    }

    /// It would do harm.
    fn hostile(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            help: DISTRUST,
            ours: false,
        }
    }

    /// It is something else.
    fn foreign(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            help: "pack it as `.tar.gz`, `.tar` or `.zip`",
            ours: false,
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self {
                reason: error.to_string(),
                help: "free some space, or choose a folder on another disk",
                ours: true,
            },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self {
                reason: error.to_string(),
                help: "see who may write there, or set another `data.download_dir`",
                ours: true,
            },
            // A limit of ours, passed through a decoder.
            _ => match error.downcast::<Exceeded>() {
                Ok(exceeded) => Self::hostile(exceeded.0),
                Err(error) => Self::damaged(error),
            },
        }
    }
}

/// A limit that was met while reading.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Exceeded(String);

/// What something of a size may unpack to.
#[derive(Debug, Clone)]
pub struct Budget {
    most_bytes: u64,
    most_files: u64,
    /// Bytes so far.
    pub bytes: u64,
    /// Files and folders so far.
    pub files: u64,
}

impl Budget {
    /// For an archive of so many bytes.
    pub fn of(size: u64) -> Self {
        Self {
            most_bytes: FREE_BYTES.saturating_add(size.saturating_mul(RATIO)),
            most_files: FREE_FILES + size / BYTES_A_FILE,
            bytes: 0,
            files: 0,
        }
    }

    /// Takes so many bytes out of it.
    pub fn spend(&mut self, bytes: u64) -> Result<(), String> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.most_bytes {
            return Err(format!(
                "it unpacks to more than {} MiB, out of proportion to its size",
                self.most_bytes >> 20
            ));
        }
        Ok(())
    }

    /// Takes a file out of it.
    pub fn spend_file(&mut self) -> Result<(), String> {
        self.files += 1;
        if self.files > self.most_files {
            return Err(format!(
                "it holds more than {} entries, out of proportion to its size",
                self.most_files
            ));
        }
        Ok(())
    }
}

/// Counts what is read against a limit, so that a bomb ends before it is kept anywhere.
struct Counted<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            let reason = "it unpacks to far more than its size answers for";
            io::Error::other(Exceeded(reason.into()))
        })?;
        Ok(read)
    }
}

/// The folder that an archive is unpacked to, and what that has cost.
struct Target<'a> {
    root: &'a Path,
    budget: Budget,
    /// Links by name and by what they lead to, both below the root.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Target<'_> {
    fn folder(&mut self, path: &Path) -> Result<(), Fault> {
        self.budget.spend_file().map_err(Fault::hostile)?;
        std::fs::create_dir_all(self.root.join(path)).map_err(|error| at(path, error))
    }

    /// Writes a file; `size` is what its entry claims.
    fn file(&mut self, path: &Path, size: u64, content: &mut dyn Read) -> Result<(), Fault> {
        self.budget.spend_file().map_err(Fault::hostile)?;
        self.budget.clone().spend(size).map_err(Fault::hostile)?;
        let mut file = self.create(path)?;
        let mut block = vec![0; 1 << 16];
        loop {
            let read = content.read(&mut block)?;
            if read == 0 {
                return Ok(());
            }
            self.budget.spend(read as u64).map_err(Fault::hostile)?;
            io::Write::write_all(&mut file, &block[..read]).map_err(|error| at(path, error))?;
        }
    }

    /// A new file; the later of two of one name stays, as with every other program.
    fn create(&self, path: &Path) -> Result<File, Fault> {
        let full = self.root.join(path);
        let folder = full.parent().unwrap_or(self.root);
        std::fs::create_dir_all(folder).map_err(|error| at(path, error))?;
        if full.is_file() {
            std::fs::remove_file(&full).map_err(|error| at(path, error))?;
        }
        File::create_new(&full).map_err(|error| at(path, error))
    }

    /// Notes a link of the archive, `target` being relative to the folder `base`.
    fn link(&mut self, path: PathBuf, base: &Path, target: &str) -> Result<(), Fault> {
        self.budget.spend_file().map_err(Fault::hostile)?;
        let escapes = || {
            let shown = path.display();
            Fault::hostile(format!("its link `{shown}` leads out of it, to `{target}`"))
        };
        if target.starts_with(['/', '\\']) || target.contains(['\\', '\0', ':']) {
            return Err(escapes());
        }
        let mut below = base.to_owned();
        for part in target.split('/') {
            match part {
                "" | "." => {}
                ".." if below.pop() => {}
                ".." => return Err(escapes()),
                part => below.push(part),
            }
        }
        self.links.push((path, below));
        Ok(())
    }

    /// Makes copies of the files that links lead to; links to folders and to nothing are left out.
    fn finish(mut self) -> Result<(), Fault> {
        for (path, target) in std::mem::take(&mut self.links) {
            let from = self.root.join(&target);
            // Nothing below the root is a link, so this stays below the root.
            if let Ok(kind) = std::fs::metadata(&from)
                && kind.is_file()
                && path != target
            {
                self.budget.spend(kind.len()).map_err(Fault::hostile)?;
                let mut content = File::open(&from).map_err(|error| at(&path, error))?;
                let mut file = self.create(&path)?;
                io::copy(&mut content, &mut file).map_err(|error| at(&path, error))?;
            }
        }
        Ok(())
    }
}

fn at(path: &Path, error: io::Error) -> Fault {
    let fault = Fault::from(error);
    Fault {
        reason: format!("its entry `{}`: {}", path.display(), fault.reason),
        ..fault
    }
}

/// The path of an entry below the target; `None` for the target itself.
fn below(name: &str) -> Result<Option<PathBuf>, Fault> {
    // Windows' programs write both.
    let name = name.replace('\\', "/");
    let hostile = |what: &str| {
        let shown: String = name.chars().take(200).collect();
        Fault::hostile(format!("its entry {shown:?} {what}"))
    };
    if name.starts_with('/') || name.as_bytes().get(1) == Some(&b':') {
        return Err(hostile("has an absolute path"));
    }
    let mut path = PathBuf::new();
    let mut parts = 0;
    for part in name.split('/') {
        match part {
            "" | "." => continue,
            ".." => return Err(hostile("leads out of it")),
            part if part.contains('\0') => return Err(hostile("has an impossible name")),
            part if part.len() > LONGEST_NAME => return Err(hostile("has too long a name")),
            part => path.push(part),
        }
        parts += 1;
        if parts > MOST_PARTS {
            return Err(hostile("lies too deep"));
        }
    }
    Ok((parts > 0).then_some(path))
}

/// Unpacks a tar, compressed by gzip or not, or a zip, told by its content, into an empty folder.
/// `origin` names the archive in messages.
pub fn unpack(archive: &Path, origin: &str, into: &Path) -> Result<(), FetchError> {
    let unpacked = File::open(archive)
        .map_err(Fault::from)
        .and_then(|file| unpack_file(file, into));
    unpacked.map_err(|fault| FetchError::Archive {
        archive: origin.into(),
        reason: fault.reason,
        help: fault.help,
        ours: fault.ours,
    })
}

fn unpack_file(mut file: File, into: &Path) -> Result<(), Fault> {
    let size = file.metadata()?.len();
    let mut start = Vec::with_capacity(512);
    file.by_ref().take(512).read_to_end(&mut start)?;
    file.rewind()?;
    let mut target = Target {
        root: into,
        budget: Budget::of(size),
        links: Vec::new(),
    };
    let tar = start.get(257..262) == Some(b"ustar");
    let mut file = BufReader::with_capacity(1 << 18, file);
    match start.as_slice() {
        [] => return Err(Fault::damaged("it is empty")),
        [0x1f, 0x8b, ..] => {
            let left = target.budget.most_bytes + 2048 * target.budget.most_files;
            let inner = flate2::bufread::MultiGzDecoder::new(file);
            tar::unpack(&mut Counted { inner, left }, &mut target)?;
        }
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => zip::unpack(file, &mut target)?,
        _ if tar => tar::unpack(&mut file, &mut target)?,
        [b'B', b'Z', b'h', ..] => return Err(Fault::foreign("it is a bzip2 file")),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => return Err(Fault::foreign("it is an xz file")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => return Err(Fault::foreign("it is a zstd file")),
        [b'7', b'z', 0xbc, 0xaf, ..] => return Err(Fault::foreign("it is a 7z archive")),
        [b'R', b'a', b'r', b'!', ..] => return Err(Fault::foreign("it is a RAR archive")),
        _ => return Err(Fault::foreign("it is no archive in a known format")),
    }
    target.finish()
}
