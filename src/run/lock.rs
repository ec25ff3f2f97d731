//! One writer a run directory, on file systems with and without locks.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Manifest, Process, RunError, Status};
use crate::fsx::{Lock, read_text};

/// The right to write in a run directory, until it is dropped or the process ends.
///
/// Three things keep a second writer out: a lock of the system, where the file system has them; the
/// claim in the lock file; and the manifest, where it says that a run is at work. The last two hold
/// across machines that share a file system without sharing its locks.
#[derive(Debug)]
pub(super) struct RunLock {
    lock: Lock,
}

/// What the holder writes in the lock file.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    #[serde(flatten)]
    process: Process,
    since: Timestamp,
}

impl RunLock {
    /// Takes the lock of a run directory.
    pub(super) fn take(run: &Path, path: &Path, manifest: &Path) -> Result<Self, RunError> {
        let claim = read_claim(path);
        let Some(mut lock) = Lock::try_acquire(path)? else {
            return Err(locked(run, claim.map(|claim| claim.process)));
        };
        // Read again: the holder may have changed until now.
        let others = [
            read_claim(path).map(|claim| (claim.process, claim.since)),
            at_work(manifest),
        ];
        let current = Process::current();
        let holds =
            |(process, sign): &(Process, Timestamp)| *process != current && process.is_alive(*sign);
        if let Some((process, _)) = others.into_iter().flatten().find(holds) {
            return Err(locked(run, Some(process)));
        }
        let claim = Claim {
            process: current,
            since: Timestamp::now(),
        };
        let text = serde_json::to_string(&claim).unwrap_or_default();
        lock.write(&text)?;
        Ok(Self { lock })
    }
}

impl RunLock {
    /// The process that claims a lock file and is alive.
    pub(super) fn holder(path: &Path) -> Option<Process> {
        let claim = read_claim(path)?;
        let alive = claim.process.is_alive(claim.since);
        alive.then_some(claim.process)
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // A claim that stays is one of a process that is gone, which counts for nothing soon.
        let _ = self.lock.write("");
    }
}

fn locked(run: &Path, by: Option<Process>) -> RunError {
    RunError::Locked {
        path: PathBuf::from(run),
        by,
    }
}

fn read_claim(path: &Path) -> Option<Claim> {
    serde_json::from_str(&read_text(path).ok()?).ok()
}

/// The process that the manifest says is at work, and its heartbeat. A manifest that cannot be read
/// says nothing.
fn at_work(manifest: &Path) -> Option<(Process, Timestamp)> {
    let manifest = Manifest::read(manifest).ok()?;
    let at_work = manifest.status == Status::Running;
    at_work.then_some((manifest.process, manifest.heartbeat))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::run::process::SILENCE;

    fn elsewhere() -> Process {
        Process {
            host: "node7".into(),
            boot_id: Some("another".into()),
            ..Process::current()
        }
    }

    #[test]
    fn a_fresh_claim_or_heartbeat_from_another_machine_keeps_others_out() {
        let folder = tempfile::tempdir().unwrap();
        let (run, manifest) = (folder.path(), folder.path().join("manifest.json"));
        let take = || RunLock::take(run, &run.join(".lock"), &manifest);
        drop(take().unwrap());
        assert_eq!(fs::read_to_string(run.join(".lock")).unwrap(), "");

        let claim = |since: Timestamp| {
            let process = elsewhere();
            let claim = serde_json::to_string(&Claim { process, since }).unwrap();
            fs::write(run.join(".lock"), claim).unwrap();
        };
        claim(Timestamp::now());
        let error = take().unwrap_err().to_string();
        assert!(error.contains("on `node7`"), "{error}");
        claim(Timestamp::now() - 2 * SILENCE);
        drop(take().unwrap());

        let beat = |heartbeat: Timestamp, status| {
            let mut written = Manifest::begin("cpu", 2, 42);
            written.process = elsewhere();
            written.heartbeat = heartbeat;
            written.status = status;
            let text = serde_json::to_string(&written).unwrap();
            fs::write(&manifest, text).unwrap();
        };
        beat(Timestamp::now(), Status::Running);
        assert!(take().is_err());
        beat(Timestamp::now(), Status::Done);
        drop(take().unwrap());
        beat(Timestamp::now() - 2 * SILENCE, Status::Running);
        drop(take().unwrap());
        fs::write(&manifest, "{").unwrap();
        fs::write(run.join(".lock"), "garbage").unwrap();
        drop(take().unwrap());
    }
}
