//! Pictures that appear in folders, each version of a file once.
//!
//! Looks again and again instead of asking the system to tell: that works on network folders, too,
//! whose other machines tell nobody here. What is kept of a file that is done with are a few
//! dozen bytes, whatever its name.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::decode::{self, Kind};
use super::scan;
use crate::fsx;

/// A file counts as whole once size and times have not changed for so long.
const REST: Duration = Duration::from_millis(900);

/// One that cannot be read is tried again until it has rested for so long: a slow copy pauses, and
/// network folders tell late.
const LONG_REST: Duration = Duration::from_secs(5);

/// Pictures handed over together, at most.
const BATCH: usize = 32;

/// Ends of names that programs give to files that are not there yet.
const UNFINISHED: [&str; 6] = [
    "part",
    "partial",
    "crdownload",
    "download",
    "filepart",
    "tmp",
];

/// What became of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Done with.
    Done,
    /// It cannot be read.
    Unreadable,
}

/// A picture whose turn has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The file.
    pub path: PathBuf,
    /// Whether it will not be tried again as it is.
    pub last: bool,
    key: u64,
    version: u64,
}

/// A file that is not done with.
#[derive(Debug)]
struct Pending {
    version: u64,
    /// Since when it has had this version.
    since: Instant,
    /// Whether it was tried, and could not be read.
    tried: bool,
    seen: u64,
}

/// Watches folders, and files by themselves.
#[derive(Debug)]
pub struct Arrivals {
    roots: Vec<PathBuf>,
    /// Version of each file that is done with, and the look that saw it last, by a hash of its path.
    done: HashMap<u64, (u64, u32)>,
    pending: HashMap<u64, Pending>,
    looks: u64,
    /// Folders that could not be read, told once.
    unreadable: HashMap<PathBuf, String>,
    due: Vec<Arrival>,
    /// Whether what is there counts as done with.
    skip: bool,
}

/// Who takes arrivals: one fate each, in their order. `None` ends the look.
pub type Taker<'a, E> = dyn FnMut(&[Arrival]) -> Result<Option<Vec<Fate>>, E> + 'a;

impl Arrivals {
    /// For these files and folders. With `skip`, what the first look finds counts as done with.
    pub fn of(roots: &[PathBuf], skip: bool) -> Self {
        Self {
            roots: roots.to_vec(),
            done: HashMap::new(),
            pending: HashMap::new(),
            looks: 0,
            unreadable: HashMap::new(),
            due: Vec::new(),
            skip,
        }
    }

    /// Files that are known.
    #[cfg(test)]
    fn known(&self) -> usize {
        self.done.len() + self.pending.len()
    }

    /// Looks once, and hands over what is whole. Returns what to warn of.
    ///
    /// # Errors
    /// Those of `take`.
    pub fn look<E>(&mut self, now: Instant, take: &mut Taker<'_, E>) -> Result<Vec<String>, E> {
        self.looks += 1;
        let mut warnings = Vec::new();
        let mut walk = Walk {
            now,
            complete: true,
            open: true,
            above: Vec::new(),
            warnings: &mut warnings,
        };
        for root in self.roots.clone() {
            self.enter(&root, &mut walk, take)?;
        }
        let open = walk.open && self.hand_over(take)?;
        let complete = walk.complete && open;
        self.due.clear();
        if complete {
            // What is gone is forgotten. A folder that cannot be read just now is not gone.
            let (look, short) = (self.looks, self.looks as u32);
            self.done.retain(|_, (_, seen)| *seen == short);
            self.pending.retain(|_, pending| pending.seen == look);
            self.done.shrink_to(2 * self.done.len());
        }
        self.skip = false;
        Ok(warnings)
    }

    fn enter<E>(
        &mut self,
        path: &Path,
        walk: &mut Walk<'_>,
        take: &mut Taker<'_, E>,
    ) -> Result<(), E> {
        let found = match fs::metadata(path) {
            Ok(found) => found,
            // Gone between two system calls, or a link to nowhere.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && !self.roots.iter().any(|it| it == path) =>
            {
                return Ok(());
            }
            Err(error) => {
                self.warn(path, &error, walk);
                return Ok(());
            }
        };
        if found.is_file() {
            self.file(path, &found, walk.now);
            if self.due.len() >= BATCH {
                walk.open &= self.hand_over(take)?;
            }
            return Ok(());
        }
        if !found.is_dir() {
            return Ok(());
        }
        let Ok(real) = path.canonicalize() else {
            walk.complete = false;
            return Ok(());
        };
        if walk.above.contains(&real) {
            return Ok(());
        }
        let names = fs::read_dir(path).and_then(|entries| {
            let names = entries.map(|entry| Ok(entry?.file_name()));
            names.collect::<io::Result<Vec<_>>>()
        });
        let mut names = match names {
            Ok(names) => names,
            Err(error) => {
                self.warn(path, &error, walk);
                return Ok(());
            }
        };
        self.unreadable.remove(path);
        names.sort_unstable();
        walk.above.push(real);
        for name in names {
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if hidden || name == "__MACOSX" || !walk.open {
                continue;
            }
            self.enter(&path.join(name), walk, take)?;
        }
        walk.above.pop();
        Ok(())
    }

    /// Says once that something cannot be read, until it can or the reason is another.
    fn warn(&mut self, path: &Path, error: &io::Error, walk: &mut Walk<'_>) {
        // What was known there is not forgotten.
        walk.complete = false;
        let reason = error.to_string();
        let before = self.unreadable.insert(path.to_path_buf(), reason.clone());
        if before.as_ref() != Some(&reason) {
            let path = path.display();
            walk.warnings.push(format!(
                "`{path}` cannot be read: {reason}; it is looked for on"
            ));
        }
    }

    fn file(&mut self, path: &Path, found: &Metadata, now: Instant) {
        let key = hash(&[path.as_os_str().as_encoded_bytes()]);
        let version = version(found);
        if let Some((done, seen)) = self.done.get_mut(&key) {
            if *done == version {
                *seen = self.looks as u32;
                return;
            }
            self.done.remove(&key);
        }
        let unfinished = path.extension().and_then(|it| it.to_str());
        let unfinished =
            unfinished.is_some_and(|it| UNFINISHED.contains(&it.to_ascii_lowercase().as_str()));
        if self.skip || unfinished {
            self.done.insert(key, (version, self.looks as u32));
            return;
        }
        let pending = self.pending.entry(key).or_insert(Pending {
            version,
            since: now,
            tried: false,
            seen: self.looks,
        });
        pending.seen = self.looks;
        if pending.version != version {
            (pending.version, pending.since, pending.tried) = (version, now, false);
        }
        // By its own times or by ours.
        let rest = now.duration_since(pending.since).max(age(found));
        let last = rest >= LONG_REST;
        let whole = !pending.tried && (rest >= REST || is_moved(found));
        if last || whole {
            self.due.push(Arrival {
                path: path.to_path_buf(),
                last,
                key,
                version,
            });
        }
    }

    /// Hands over what is due; whether to go on.
    fn hand_over<E>(&mut self, take: &mut Taker<'_, E>) -> Result<bool, E> {
        let mut due = std::mem::take(&mut self.due);
        due.retain(|arrival| {
            let picture = scan::named_like_a_picture(&arrival.path) || sniff(&arrival.path);
            if !picture {
                self.settle(arrival, Fate::Unreadable);
            }
            picture
        });
        if due.is_empty() {
            return Ok(true);
        }
        let Some(fates) = take(&due)? else {
            return Ok(false);
        };
        for (arrival, fate) in due.iter().zip(fates) {
            self.settle(arrival, fate);
        }
        Ok(true)
    }

    fn settle(&mut self, arrival: &Arrival, fate: Fate) {
        let Arrival { key, version, .. } = *arrival;
        match (fate, self.pending.get_mut(&key)) {
            (Fate::Unreadable, Some(pending)) if !arrival.last => pending.tried = true,
            _ => {
                self.pending.remove(&key);
                self.done.insert(key, (version, self.looks as u32));
            }
        }
    }
}

struct Walk<'a> {
    now: Instant,
    /// Whether everything could be looked at.
    complete: bool,
    /// Whether anybody still wants pictures.
    open: bool,
    /// Real paths of the folders that are open.
    above: Vec<PathBuf>,
    warnings: &'a mut Vec<String>,
}

/// Whether a file without the name of a picture is one.
fn sniff(path: &Path) -> bool {
    let mut start = Vec::with_capacity(64);
    let read = fs::File::open(path)
        .and_then(|file| io::Read::read_to_end(&mut io::Read::take(file, 64), &mut start));
    read.is_ok() && decode::sniff(&start) != Kind::Other
}

/// What changes with the content of a file.
fn version(found: &Metadata) -> u64 {
    let modified = found.modified().ok();
    let modified = modified.and_then(|it| it.duration_since(SystemTime::UNIX_EPOCH).ok());
    let modified = modified.map_or(0, |it| it.as_nanos());
    hash(&[
        &modified.to_le_bytes(),
        &found.len().to_le_bytes(),
        &fsx::file_number(found).to_le_bytes(),
    ])
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Time since the content changed. Of clocks that disagree, the one behind counts.
fn age(found: &Metadata) -> Duration {
    let age = found.modified().ok().and_then(|it| it.elapsed().ok());
    // Ages of seconds may be clocks that disagree; of minutes they rarely are.
    age.filter(|age| *age > Duration::from_secs(60))
        .unwrap_or_default()
}

/// Whether a file was moved here when its content was there: a writer sets both times to one, a move
/// only that of the entry.
#[cfg(unix)]
fn is_moved(found: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let changed = (found.ctime(), found.ctime_nsec());
    found.len() > 0 && changed > (found.mtime(), found.mtime_nsec())
}

#[cfg(not(unix))]
fn is_moved(_: &Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests;
