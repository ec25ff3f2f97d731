//! What commands write to the terminal, and who may.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::experiments::{TINY, run as quickstart};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The parts of the commands that meet the terminal: lines, its screen, bars, and logs for those who
/// ask for them.
const WRITERS: [&str; 4] = ["printer.rs", "terminal.rs", "progress.rs", "logging.rs"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn only_few_files_know_the_terminal() {
    let root = Path::new(ROOT).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 100);
    let known = [
        "stdout()",
        "stderr()",
        "io::stderr",
        "io::stdout",
        "crossterm",
    ];
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let commands = path.parent() == Some(root.join("commands").as_path());
        if commands && WRITERS.contains(&name) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for (line, text) in text.lines().enumerate() {
            let code = text.split("//").next().unwrap_or_default();
            let found = known.iter().find(|it| code.contains(*it));
            assert!(found.is_none(), "{}:{}: {text}", path.display(), line + 1);
        }
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xp"));
    command
        .env("XP_CACHE__DISK", "false")
        .env("RUST_LOG", "info")
        .env_remove("NO_COLOR")
        .args(arguments);
    command
}

#[track_caller]
fn check_plain(what: &str, output: &Output) {
    for bytes in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(bytes);
        assert!(!bytes.contains(&0x1b), "{what}: {text:?}");
    }
}

#[test]
fn without_a_terminal_there_is_no_escape() {
    let folder = tempfile::tempdir().unwrap();
    let run = quickstart(folder.path(), &["phase[0].epochs=1", "phase[1].epochs=1"]);
    let (runs, run) = (folder.path().to_str().unwrap(), run.to_str().unwrap());
    let config = Path::new(ROOT).join("configs/quickstart.toml");
    let config = config.to_str().unwrap();
    let to = format!("runs_dir={runs}");
    let mut train = vec!["run", config, "--set", &to];
    let sets = [TINY, &["phase[0].epochs=1", "phase[1].epochs=1"]].concat();
    sets.iter().for_each(|set| train.extend(["--set", set]));
    let lines: [&[&str]; 9] = [
        &train,
        &["check", config, "--set", "train.batch_sise=3"],
        &["check", config],
        &["runs", runs],
        &["compare", runs],
        &["summary", "mobilenet_v2"],
        &["watch", run],
        &["watch", run, "--once", "--json"],
        &["no", "such", "command"],
    ];
    for line in lines {
        let output = command(line).output().unwrap();
        check_plain(&line.join(" "), &output);
        let output = command(line).env("NO_COLOR", "1").output().unwrap();
        check_plain(&line.join(" "), &output);
    }
}

/// What a command writes to a terminal that is its stdout and stderr.
#[cfg(unix)]
fn on_a_terminal(mut command: Command) -> String {
    use std::io::Read;
    use std::os::fd::{FromRawFd, OwnedFd};
    let (mut ours, mut theirs) = (0, 0);
    // SAFETY: both places are there to be written to; the three null pointers stand for defaults.
    let opened = unsafe {
        libc::openpty(
            &raw mut ours,
            &raw mut theirs,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    assert_eq!(opened, 0);
    // SAFETY: the call above has opened them, and nobody else has them.
    let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    command
        .env("TERM", "xterm-256color")
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs);
    let mut child = command.spawn().unwrap();
    // Its copies of the other end are closed: reading ends with the child.
    drop(command);
    let mut bytes = Vec::new();
    let mut ours = fs::File::from(ours);
    let mut buffer = [0; 4096];
    // Linux ends with an error when nobody has the other end.
    while let Ok(read @ 1..) = ours.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..read]);
    }
    child.wait().unwrap();
    String::from_utf8(bytes).unwrap()
}

#[cfg(unix)]
#[test]
fn on_a_terminal_there_are_colours_unless_somebody_wants_none() {
    let config = Path::new(ROOT).join("configs/quickstart.toml");
    let config = config.to_str().unwrap();
    let wrong = ["check", config, "--set", "train.batch_sise=3"];
    let coloured = on_a_terminal(command(&wrong));
    assert!(coloured.contains("\x1b[1;31m"), "{coloured:?}");
    for line in [&wrong[..], &["summary", "mobilenet_v2"], &["no", "such"]] {
        let mut command = command(line);
        command.env("NO_COLOR", "1");
        let plain = on_a_terminal(command);
        assert!(!plain.contains('\x1b'), "{plain:?}");
    }
}
