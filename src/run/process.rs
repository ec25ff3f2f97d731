//! Which process works on a run, and whether it still does.

use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A heartbeat older than this is that of a dead process: five beats, so that a busy disk, a
/// network file system's cache or a clock that is off by a minute kill nobody.
pub const SILENCE: Duration = Duration::from_secs(150);

/// A process, told apart from a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Name of its machine.
    pub host: String,
    /// Identity of that machine's boot; on Linux.
    #[serde(default)]
    pub boot_id: Option<String>,
    /// Within which its number counts: containers on one machine have namespaces of their own; on
    /// Linux.
    #[serde(default)]
    pub pid_namespace: Option<String>,
    /// When it started, in clock ticks after the boot; on Linux.
    #[serde(default)]
    pub process_start: Option<u64>,
}

impl Process {
    /// This one.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Process> = OnceLock::new();
        let look = || {
            let pid = std::process::id();
            Self {
                pid,
                host: host(),
                boot_id: read("/proc/sys/kernel/random/boot_id"),
                pid_namespace: std::fs::read_link("/proc/self/ns/pid")
                    .ok()
                    .map(|link| link.to_string_lossy().into_owned()),
                process_start: start_of(pid),
            }
        };
        CURRENT.get_or_init(look).clone()
    }

    /// Whether it is at work, where `sign` is the last sign of life that it left. A process of this
    /// machine is looked for; of one elsewhere only the age of the sign is known.
    pub fn is_alive(&self, sign: Timestamp) -> bool {
        self.is_seen().unwrap_or_else(|| {
            let age = Timestamp::now().duration_since(sign);
            // A sign from the future is that of a clock ahead of ours.
            age.is_negative() || age.unsigned_abs() < SILENCE
        })
    }

    /// Whether it runs on this machine; `None` if that cannot be told from here.
    fn is_seen(&self) -> Option<bool> {
        let here = Self::current();
        let known = self.boot_id.is_some() && self.pid_namespace.is_some();
        let same = self.boot_id == here.boot_id && self.pid_namespace == here.pid_namespace;
        if !known || !same {
            return None;
        }
        match start_of(self.pid) {
            // Processes of other users may be hidden.
            None if exists(self.pid) => None,
            start => Some(start.is_some() && start == self.process_start),
        }
    }
}

/// When a process started, in clock ticks after the boot; `None` if it is not there any more, or
/// is only waiting for its parent to notice that it has ended.
fn start_of(pid: u32) -> Option<u64> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; state and 18 numbers lie between it and the time.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    let start = fields.nth(18)?.parse().ok()?;
    (!ended).then_some(start)
}

/// Whether there is a process of that number that we may not look at.
#[cfg(unix)]
fn exists(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else {
        return false;
    };
    // SAFETY: signal 0 is sent to nobody; the call only says whether one could be sent.
    let sent = unsafe { libc::kill(pid, 0) };
    sent != 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

#[cfg(not(unix))]
fn exists(_: u32) -> bool {
    false
}

fn read(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

fn host() -> String {
    let name = read("/proc/sys/kernel/hostname");
    let name = name.or_else(|| std::env::var("HOSTNAME").ok());
    let name = name.or_else(|| std::env::var("COMPUTERNAME").ok());
    name.unwrap_or_else(|| "unknown".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long_ago() -> Timestamp {
        Timestamp::now() - 2 * SILENCE
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_of_this_machine_is_looked_for() {
        let own = Process::current();
        assert!(own.is_alive(long_ago()), "its heartbeat does not count");
        let reused = Process {
            process_start: own.process_start.map(|start| start - 1),
            ..own
        };
        assert!(!reused.is_alive(Timestamp::now()), "another had its number");

        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let process = Process {
            pid: child.id(),
            process_start: start_of(child.id()),
            ..Process::current()
        };
        assert!(process.is_alive(long_ago()));
        child.kill().unwrap();
        while start_of(process.pid).is_some() {
            std::thread::yield_now();
        }
        assert!(
            !process.is_alive(Timestamp::now()),
            "nobody waited for it yet"
        );
        child.wait().unwrap();
        assert!(!process.is_alive(Timestamp::now()));
    }

    #[test]
    fn elsewhere_the_heartbeat_counts() {
        let elsewhere = Process {
            boot_id: Some("another".into()),
            ..Process::current()
        };
        assert!(elsewhere.is_alive(Timestamp::now() - SILENCE / 2));
        assert!(!elsewhere.is_alive(long_ago()));
        assert!(elsewhere.is_alive(Timestamp::now() + 2 * SILENCE));
        let unknown = Process {
            boot_id: None,
            ..elsewhere
        };
        assert!(unknown.is_alive(Timestamp::now()) && !unknown.is_alive(long_ago()));
    }
}
