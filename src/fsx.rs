//! Atomic files and locks.
//!
//! A reader, or a run that is killed and looked at later, finds the old file or the new one, never
//! half of one. Temporary names lie beside the target, so that the rename stays on one disk.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file operation that failed: what, where and, where the cause says it, what to do.
#[derive(Debug, Error)]
#[error("cannot {action} `{}`: {source}{}", path.display(), hint(source))]
pub struct FsError {
    /// What was being done, for example `write`.
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl FsError {
    /// Says what was being done to which path, for `map_err`.
    pub fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            action,
            path: path.to_path_buf(),
            source,
        }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space on that disk"
        }
        io::ErrorKind::PermissionDenied => "; check who owns it and its permissions",
        io::ErrorKind::ReadOnlyFilesystem => "; choose a folder on a disk that can be written",
        io::ErrorKind::NotFound => "; check the path",
        _ => "",
    }
}

/// Reads a file that should be small: anything but a regular file of at most `most` bytes is an
/// error.
pub fn read_small(path: &Path, most: u64) -> Result<Vec<u8>, FsError> {
    let found = fs::metadata(path).map_err(FsError::at("read", path))?;
    let reason = match found.len() {
        _ if !found.is_file() => "it is not a file".to_owned(),
        length if length > most => format!("it has {length} bytes, more than it can have"),
        _ => return read(path),
    };
    Err(FsError::at("read", path)(io::Error::other(reason)))
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>, FsError> {
    fs::read(path).map_err(FsError::at("read", path))
}

/// Reads a whole file of UTF-8 text.
pub fn read_text(path: &Path) -> Result<String, FsError> {
    fs::read_to_string(path).map_err(FsError::at("read", path))
}

/// Replaces `path` by `bytes` as one step: all of the old or all of the new survive a kill.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FsError> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// Makes the file `path` of `bytes` as one step, unless there is one; tells whether it did.
pub fn create_atomic(path: &Path, bytes: &[u8]) -> Result<bool, FsError> {
    let folder = parent(path);
    let mut staged = stage_file(folder).map_err(FsError::at("write", path))?;
    let filled = fill_file(staged.as_file_mut(), |file| file.write_all(bytes));
    filled
        .and_then(|()| staged.as_file().sync_all())
        .map_err(FsError::at("write", path))?;
    match staged.persist_noclobber(path) {
        Ok(_) => sync_dir(folder).map(|()| true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(FsError::at("write", path)(error.error)),
    }
}

/// Replaces `path` by what `fill` writes, as one step. If `fill` fails, `path` stays as it was.
pub fn write_atomic_with(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FsError> {
    let folder = parent(path);
    if !folder.is_dir() {
        let reason = "its folder does not exist";
        let missing = io::Error::new(io::ErrorKind::NotFound, reason);
        return Err(FsError::at("write", path)(missing));
    }
    stage_and_persist(path, folder, fill).map_err(FsError::at("write", path))?;
    sync_dir(folder)
}

/// What the system numbers a file with: another once it was replaced; always 0 where it does not.
pub fn file_number(found: &fs::Metadata) -> u64 {
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(found);
    #[cfg(not(unix))]
    let (number, _) = (0, found);
    number
}

/// Removes from a folder what killed writers of [`write_atomic`] left half-written. One writer at a
/// time: hold a [`Lock`].
pub fn sweep(folder: &Path) -> Result<(), FsError> {
    let entries = fs::read_dir(folder).map_err(FsError::at("read", folder))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if is_staged(&name) {
            fs::remove_file(entry.path()).map_err(FsError::at("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Whether a file of that name is not in its place yet.
pub fn is_staged(name: &str) -> bool {
    name.starts_with(STAGED.0) && name.ends_with(STAGED.1)
}

/// How the names of files begin and end that are not in their place yet.
const STAGED: (&str, &str) = (".", ".tmp");

fn stage_and_persist(
    path: &Path,
    folder: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut staged = stage_file(folder)?;
    fill_file(staged.as_file_mut(), fill)?;
    staged.as_file().sync_all()?;
    staged.persist(path)?;
    Ok(())
}

fn stage_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(STAGED.0).suffix(STAGED.1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are private by default; results are as readable as the umask allows.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

fn fill_file(
    file: &mut File,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    fill(&mut writer)?;
    writer.flush()
}

/// Creates a file in the folder that [`replace_dir`] fills. Neither atomic nor synced: the folder
/// takes its place as a whole, after everything in it has been synced.
pub fn write_staged(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FsError> {
    File::create_new(path)
        .and_then(|mut file| fill_file(&mut file, fill))
        .map_err(FsError::at("write", path))
}

/// Makes renames and creations in a folder survive a power cut. Does nothing off Unix, where
/// folders cannot be opened for that.
pub fn sync_dir(folder: &Path) -> Result<(), FsError> {
    if cfg!(unix) {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(FsError::at("sync", folder))?;
    }
    Ok(())
}

/// The folder that holds `path`; `.` for a bare name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Replaces the folder `target` by one that `fill` writes into, as one transaction: files are
/// written in `NAME.tmp-XXXX` (see [`write_staged`]) and synced once, the old folder steps aside as
/// `NAME.old`, the new one takes its place. A kill between the two renames leaves `NAME.old`, which
/// [`whole_dir`] finds and [`recover_dir`] puts back. One writer at a time: hold a [`Lock`].
pub fn replace_dir<E: From<FsError>>(
    target: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    recover_dir(target)?;
    let staged = stage_dir(target)?;
    fill(&staged)
        .and_then(|()| sync_files(&staged).map_err(E::from))
        // On a full disk, what half a folder takes is wanted for saying so.
        .inspect_err(|_| drop(remove_if_there(&staged)))?;
    step_aside(target)?;
    step_in(&staged, target)?;
    remove_if_there(&old_of(target))?;
    Ok(())
}

/// Makes the folder `target` another name of the files of `source`, as one transaction like
/// [`replace_dir`]. Files that are only ever replaced as wholes may be shared so; where the file
/// system has no hard links they are copied.
pub fn link_dir(source: &Path, target: &Path) -> Result<(), FsError> {
    replace_dir(target, |staged| {
        for entry in fs::read_dir(source).map_err(FsError::at("read", source))? {
            let entry = entry.map_err(FsError::at("read", source))?;
            let (from, to) = (entry.path(), staged.join(entry.file_name()));
            fs::hard_link(&from, &to)
                .or_else(|_| fs::copy(&from, &to).map(|_| ()))
                .map_err(FsError::at("copy", &from))?;
        }
        Ok(())
    })
}

/// Where a whole copy of a replaced folder lies now: in place, or aside if the writer was killed
/// (or is just now) between its two renames.
pub fn whole_dir(target: &Path) -> PathBuf {
    let old = old_of(target);
    if !target.exists() && old.exists() {
        old
    } else {
        target.to_path_buf()
    }
}

/// Puts a folder back that a killed writer left aside, and removes what it left half-written.
pub fn recover_dir(target: &Path) -> Result<(), FsError> {
    let old = old_of(target);
    if !target.exists() && old.exists() {
        fs::rename(&old, target).map_err(FsError::at("rename", &old))?;
    }
    remove_if_there(&old)?;
    let folder = parent(target);
    let prefix = staged_prefix(target);
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

fn name_of(target: &Path) -> String {
    let name = target.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn old_of(target: &Path) -> PathBuf {
    target.with_file_name(format!("{}.old", name_of(target)))
}

fn staged_prefix(target: &Path) -> String {
    format!("{}.tmp-", name_of(target))
}

fn stage_dir(target: &Path) -> Result<PathBuf, FsError> {
    let folder = parent(target);
    if !folder.is_dir() {
        fs::create_dir_all(folder).map_err(FsError::at("create", folder))?;
        sync_dir(parent(folder))?;
    }
    let mut builder = tempfile::Builder::new();
    let prefix = staged_prefix(target);
    builder.prefix(&prefix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    builder
        .tempdir_in(folder)
        .map(tempfile::TempDir::keep)
        .map_err(FsError::at("create a folder in", folder))
}

fn sync_files(folder: &Path) -> Result<(), FsError> {
    for entry in fs::read_dir(folder).map_err(FsError::at("read", folder))? {
        let path = entry.map_err(FsError::at("read", folder))?.path();
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(FsError::at("sync", &path))?;
    }
    sync_dir(folder)
}

fn step_aside(target: &Path) -> Result<(), FsError> {
    if target.exists() {
        fs::rename(target, old_of(target)).map_err(FsError::at("rename", target))?;
    }
    Ok(())
}

fn step_in(staged: &Path, target: &Path) -> Result<(), FsError> {
    fs::rename(staged, target).map_err(FsError::at("rename", staged))?;
    sync_dir(parent(target))
}

fn remove_if_there(folder: &Path) -> Result<(), FsError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FsError::at("remove", folder)(error))
        }
        _ => Ok(()),
    }
}

/// An exclusive lock, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of `path`, waiting while another process holds it.
    pub fn acquire(path: &Path) -> Result<Self, FsError> {
        let file = Self::open(path)?;
        file.lock().map_err(FsError::at("lock", path))?;
        let path = path.to_path_buf();
        Ok(Self { file, path })
    }

    /// Takes the lock of `path`, a file made for that and left behind; `None` if another process
    /// holds it. Where the file system has no locks it is always free.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>, FsError> {
        let file = Self::open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) if has_no_locks(&error) => {}
            Err(fs::TryLockError::Error(error)) => return Err(FsError::at("lock", path)(error)),
        }
        let path = path.to_path_buf();
        Ok(Some(Self { file, path }))
    }

    /// Replaces what the file says.
    pub fn write(&mut self, text: &str) -> Result<(), FsError> {
        let file = &mut self.file;
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()))
            .and_then(|()| file.sync_data());
        written.map_err(FsError::at("write", &self.path))
    }

    fn open(path: &Path) -> Result<File, FsError> {
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(FsError::at("open", path))
    }
}

fn has_no_locks(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::ENOLCK) {
        return true;
    }
    error.kind() == io::ErrorKind::Unsupported
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn fill(text: &str) -> impl FnOnce(&Path) -> Result<(), FsError> {
        move |folder| write_staged(&folder.join("file"), |file| file.write_all(text.as_bytes()))
    }

    #[test]
    fn failed_write_leaves_the_old_file_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.json");
        write_atomic(&path, b"old").unwrap();
        let error = write_atomic_with(&path, |file| {
            file.write_all(b"half of the n")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        let message = error.unwrap_err().to_string();
        assert!(message.contains("manifest.json") && message.contains("free some space"));
        assert_eq!(read_text(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["manifest.json"]);
        write_atomic(&path, b"new").unwrap();
        assert_eq!(read_text(&path).unwrap(), "new");
    }

    #[test]
    fn a_kill_at_any_step_of_a_replacement_leaves_a_whole_folder() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("last");
        let content = || read_text(&whole_dir(&target).join("file")).unwrap();
        replace_dir(&target, fill("1")).unwrap();

        // Killed while staging.
        let staged = stage_dir(&target).unwrap();
        assert_eq!(content(), "1");
        recover_dir(&target).unwrap();
        assert!(!staged.exists());

        // Killed between the renames.
        let staged = stage_dir(&target).unwrap();
        fill("2")(&staged).unwrap();
        step_aside(&target).unwrap();
        assert!(!target.exists());
        assert_eq!(content(), "1");
        recover_dir(&target).unwrap();
        assert_eq!(content(), "1");

        // Killed before the old one is removed.
        let staged = stage_dir(&target).unwrap();
        fill("3")(&staged).unwrap();
        step_aside(&target).unwrap();
        step_in(&staged, &target).unwrap();
        assert_eq!(content(), "3");
        replace_dir(&target, fill("4")).unwrap();
        assert_eq!(content(), "4");
        assert_eq!(names(folder.path()), ["last"]);
    }

    #[test]
    fn a_linked_folder_keeps_what_its_source_was() {
        let folder = tempfile::tempdir().unwrap();
        let [last, best] = ["last", "best"].map(|name| folder.path().join(name));
        for text in ["1", "2"] {
            replace_dir(&last, fill(text)).unwrap();
            link_dir(&last, &best).unwrap();
        }
        replace_dir(&last, fill("3")).unwrap();
        assert_eq!(read_text(&best.join("file")).unwrap(), "2");
        assert_eq!(read_text(&last.join("file")).unwrap(), "3");
        assert_eq!(names(folder.path()), ["best", "last"]);
    }

    #[test]
    fn failed_replacement_keeps_the_old_folder() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("best");
        replace_dir(&target, fill("1")).unwrap();
        let failed: Result<(), FsError> =
            replace_dir(&target, |staged| read(&staged.join("absent")).map(|_| ()));
        assert!(failed.is_err());
        assert_eq!(read_text(&target.join("file")).unwrap(), "1");
        assert_eq!(names(folder.path()), ["best"]);
    }

    #[test]
    fn what_a_killed_writer_left_is_swept_away() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".lock", ".a1B2c3.tmp", "metrics.csv"] {
            fs::write(folder.path().join(name), "half").unwrap();
        }
        sweep(folder.path()).unwrap();
        assert_eq!(names(folder.path()), [".lock", "metrics.csv"]);
    }

    #[test]
    fn a_lock_is_held_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = Lock::try_acquire(&path).unwrap();
        assert!(held.is_some());
        assert!(Lock::try_acquire(&path).unwrap().is_none());
        drop(held);
        assert!(Lock::try_acquire(&path).unwrap().is_some());
    }
}
