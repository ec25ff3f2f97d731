//! What the fuzz targets share: a folder to put an input into, as xp reads files by their paths. It is
//! in `TMPDIR` and outlives the process: `run.sh` sets one in memory and removes it.

use std::path::PathBuf;
use std::sync::OnceLock;

use tempfile::TempDir;

/// A folder of this process.
pub struct Scratch(OnceLock<TempDir>);

impl Scratch {
    /// The folder is made when it is first asked for.
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        let make = || tempfile::tempdir().expect("a temporary folder");
        self.0.get_or_init(make).path().join(name)
    }

    /// Puts `bytes` into a file of the folder.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        let folder = path.parent().expect("a folder");
        std::fs::create_dir_all(folder).expect("a writable folder");
        std::fs::write(&path, bytes).expect("a writable file");
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}
