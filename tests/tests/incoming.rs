//! `xp predict --watch`: pictures as they come.
#![cfg(unix)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::experiments::{run, xp};

/// A process that does not outlive its test.
struct Watching(Child);

impl Watching {
    fn begin(arguments: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_xp"))
            .arg("predict")
            .args(arguments)
            .args(["--watch", "--interval", "0.1", "--quiet"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    /// Ends it; what it has said on stderr.
    fn end(mut self, signal: i32) -> String {
        // SAFETY: the process is a child that has not been waited for.
        unsafe { libc::kill(self.0.id().cast_signed(), signal) };
        assert_eq!(self.0.wait().unwrap().code(), Some(0));
        let mut said = String::new();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        said
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn pictures_are_classified_as_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let fast = ["phase[0].epochs=1", "phase[1].epochs=1"];
    let run = run(&folder.path().join("runs"), &fast);
    let run = run.to_str().unwrap();
    let [inbox, outside] = ["inbox", "outside"].map(|name| folder.path().join(name));
    fs::create_dir_all(inbox.join("deep")).unwrap();
    fs::create_dir_all(&outside).unwrap();
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/plain.png");
    let old = SystemTime::now() - Duration::from_secs(3600);
    // Moved in as a whole, with times of its own.
    let arrive = |bytes: &[u8], name: &str| {
        let path = outside.join("file");
        fs::write(&path, bytes).unwrap();
        let file = File::options().append(true).open(&path).unwrap();
        file.set_modified(old).unwrap();
        fs::rename(&path, inbox.join(name)).unwrap();
    };
    let good = fs::read(picture).unwrap();
    arrive(&good, "there.png");

    let mut watching = Watching::begin(&[run, inbox.to_str().unwrap(), "--json"]);
    let mut only_new = Watching::begin(&[run, inbox.to_str().unwrap(), "--new", "--csv"]);
    let mut new_lines = BufReader::new(only_new.0.stdout.take().unwrap()).lines();
    let mut next_new = || new_lines.next().unwrap().unwrap();
    assert_eq!(next_new(), "path,class_1,probability_1");
    let mut lines = BufReader::new(watching.0.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let name = |answer: &Value| {
        let path = Path::new(answer["path"].as_str().unwrap());
        path.file_name().unwrap().to_str().unwrap().to_owned()
    };
    assert_eq!(name(&next()), "there.png");
    std::thread::sleep(Duration::from_millis(300));
    arrive(b"no picture", "bad.png");
    arrive(&good, "deep/new.png");
    let answer = next();
    assert_eq!(name(&answer), "new.png");
    assert!(answer["classes"][0]["probability"].as_f64().unwrap() > 0.0);
    // Written here, and whole once it rests.
    fs::write(inbox.join("slow.png"), &good[..20]).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    fs::write(inbox.join("slow.png"), &good).unwrap();
    assert_eq!(name(&next()), "slow.png");

    let said = watching.end(libc::SIGINT);
    assert_eq!(said.matches("warning: ").count(), 1, "{said}");
    assert!(said.contains("bad.png"), "{said}");
    assert!(lines.next().is_none());
    assert!(next_new().contains("new.png") && next_new().contains("slow.png"));
    only_new.end(libc::SIGTERM);
    assert!(new_lines.next().is_none());

    let absent = inbox.join("absent");
    let output = xp(&["predict", run, absent.to_str().unwrap(), "--watch"]);
    assert_eq!(output.status.code(), Some(3));
    let output = xp(&["predict", run, inbox.to_str().unwrap(), "--new"]);
    assert_eq!(output.status.code(), Some(2));
}
