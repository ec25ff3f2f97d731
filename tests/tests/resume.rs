//! Runs that are killed, interrupted or spoilt, and `xp resume`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use super::experiments::{TINY, run, succeeds, timeless_metrics, xp};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/quickstart.toml");

/// A second of training in each phase and all that has a state.
const LONG: [&str; 5] = [
    "train.ema={ decay = 0.9 }",
    "train.accumulate=2",
    "train.batch_size=4",
    "phase[1].evaluate_every=3",
    "phase[1].epochs=3",
];

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn manifest(run: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(run.join("manifest.json")).unwrap()).unwrap()
}

fn resume(run: &Path) -> Output {
    xp(&["resume", run.to_str().unwrap()])
}

/// Kills runs changed by `sets` at random moments and compares what they come to.
#[track_caller]
fn survives(kills: &str, sets: &[&str]) {
    let runs = tempfile::tempdir().unwrap();
    let runs_dir = format!("runs_dir={}", runs.path().display());
    let mut arguments = vec![
        "verify-resume",
        CONFIG,
        "--kills",
        kills,
        "--set",
        &runs_dir,
    ];
    for set in [TINY, &LONG, sets].concat() {
        arguments.extend(["--set", set]);
    }
    let table = succeeds(xp(&arguments));
    let last = table.lines().last().unwrap();
    assert!(last.starts_with(&format!("{kills} kills, ")), "{table}");
    assert_eq!(
        fs::read_dir(runs.path()).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

#[test]
fn killed_runs_on_cached_features_resume_to_the_same_bytes() {
    survives("5", &["checkpoint.every={ steps = 1 }"]);
}

#[test]
fn killed_runs_with_augmentation_resume_to_the_same_bytes() {
    let augmented = "data.augment.flip_horizontal=true";
    survives(
        "4",
        &[
            augmented,
            "checkpoint.every={ steps = 2 }",
            "phase[1].bn=train",
        ],
    );
}

#[test]
fn killed_runs_without_a_cache_resume_to_the_same_bytes() {
    survives(
        "3",
        &[
            "cache.features=false",
            "checkpoint.every={ minutes = 0.001 }",
        ],
    );
}

#[test]
fn a_run_that_is_done_has_nothing_left_to_do() {
    let runs = tempfile::tempdir().unwrap();
    let run = run(runs.path(), &[]);
    let before = fs::read(run.join("manifest.json")).unwrap();
    let answer = succeeds(resume(&run));
    assert!(answer.contains("is done"), "{answer}");
    assert_eq!(fs::read(run.join("manifest.json")).unwrap(), before);
    let output = resume(&runs.path().join("nowhere"));
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

/// What a run is that was killed after training.
fn undo_the_end(run: &Path) {
    let mut manifest = manifest(run);
    manifest["status"] = "running".into();
    manifest["ended"] = serde_json::Value::Null;
    fs::write(run.join("manifest.json"), manifest.to_string()).unwrap();
}

#[test]
fn the_rest_after_training_is_made_good() {
    let runs = tempfile::tempdir().unwrap();
    let run = run(runs.path(), &[]);
    let files = [
        "metrics.csv",
        "curves.png",
        "model.safetensors",
        "test.json",
        "predictions.csv",
        "confusion.png",
    ];
    let read = || files.map(|file| fs::read(run.join(file)).unwrap());
    let before = read();
    undo_the_end(&run);
    for file in &files[1..] {
        fs::remove_file(run.join(file)).unwrap();
    }
    // A row that was never earned, and half of another.
    let mut metrics = before[0].clone();
    metrics.extend(b"fine_tune,3,5,20,0.1,0.5,0.5,0.5,0.5,1,1\nfine_tu");
    fs::write(run.join("metrics.csv"), metrics).unwrap();
    // From anywhere.
    let elsewhere = tempfile::tempdir().unwrap();
    let output = assert_cmd::Command::cargo_bin("xp")
        .unwrap()
        .current_dir(elsewhere.path())
        .args(["resume", run.to_str().unwrap()])
        .output()
        .unwrap();
    succeeds(output);
    assert!(read() == before, "something is not as it was");
    assert_eq!(manifest(&run)["status"], "done");
}

#[test]
fn other_pictures_are_refused() {
    let runs = tempfile::tempdir().unwrap();
    let folder = runs.path().join("pictures");
    super::experiments::draw(&folder, &["a", "b", "c"]);
    let run = super::experiments::run_on(&folder, runs.path(), 3);
    undo_the_end(&run);
    let before = fs::read(run.join("manifest.json")).unwrap();
    fs::remove_file(folder.join("a/3.png")).unwrap();
    let output = resume(&run);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(
        said(&output).contains("of its pictures, 1 gone"),
        "{}",
        said(&output)
    );
    assert_eq!(fs::read(run.join("manifest.json")).unwrap(), before);
}

#[test]
fn another_configuration_is_refused() {
    let runs = tempfile::tempdir().unwrap();
    let run = run(runs.path(), &[]);
    undo_the_end(&run);
    let file = run.join("resolved.toml");
    let written = fs::read_to_string(&file).unwrap();
    let changed = written.replace("label_smoothing = 0.0", "label_smoothing = 0.1");
    assert_ne!(changed, written);
    fs::write(&file, changed).unwrap();
    let output = resume(&run);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("is not what the run began with"));
    fs::write(&file, written.replace("threads = 0", "threads = 1")).unwrap();
    succeeds(resume(&run));
}

#[test]
fn without_its_last_checkpoint_a_run_goes_on_from_the_best() {
    let runs = tempfile::tempdir().unwrap();
    let run = run(runs.path(), &[]);
    let before = timeless_metrics(&run);
    undo_the_end(&run);
    let last = run.join("checkpoints/last");
    fs::write(last.join("weights.safetensors"), "spoilt").unwrap();
    let output = resume(&run);
    assert!(
        said(&output).contains("delete `checkpoints/last`"),
        "{}",
        said(&output)
    );
    fs::remove_dir_all(last).unwrap();
    succeeds(resume(&run));
    assert_eq!(timeless_metrics(&run), before);
}

#[test]
fn what_cannot_go_on_says_so() {
    let runs = tempfile::tempdir().unwrap();
    let run = run(runs.path(), &[]);
    undo_the_end(&run);
    let metrics = run.join("metrics.csv");
    let whole = fs::read_to_string(&metrics).unwrap();
    let header: String = whole
        .lines()
        .take(1)
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&metrics, header).unwrap();
    let output = resume(&run);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("metrics.csv` is damaged: it has 0 rows"),
        "{}",
        said(&output)
    );

    fs::write(&metrics, whole).unwrap();
    let weights = run.join("checkpoints/last/weights.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    undo_the_end(&run);
    let output = resume(&run);
    assert!(
        said(&output).contains("weights.safetensors` is damaged"),
        "{}",
        said(&output)
    );

    fs::remove_file(run.join("resolved.toml")).unwrap();
    let output = resume(&run);
    assert!(
        said(&output).contains("nothing to go on from"),
        "{}",
        said(&output)
    );
}

#[cfg(unix)]
mod signals {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// Starts a run long enough to be interrupted.
    fn start(runs: &Path, sets: &[&str]) -> Child {
        let runs_dir = format!("runs_dir={}", runs.display());
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("xp"));
        command
            .env("XP_CACHE__DISK", "false")
            .args(["run", CONFIG, "--set", &runs_dir]);
        for set in [TINY, &LONG, sets].concat() {
            command.args(["--set", set]);
        }
        command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn signal(process: &Child, signal: &str) {
        let id = process.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits until a run directory has a row of steps.
    fn wait_for_rows(runs: &Path) -> PathBuf {
        let started = Instant::now();
        loop {
            let run = fs::read_dir(runs).unwrap().flatten().next();
            let run = run.map(|entry| entry.path());
            if let Some(run) = run
                && fs::read_to_string(run.join("metrics.csv"))
                    .is_ok_and(|it| it.lines().count() > 2)
            {
                return run;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "no row");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_signal_while_features_are_computed_ends_a_run_too() {
        let sets = ["data.generate.per_class=100", "phase[1].epochs=1"];
        let runs = tempfile::tempdir().unwrap();
        let whole = run(runs.path(), &[&LONG, &sets[..]].concat());
        let runs = tempfile::tempdir().unwrap();
        let process = start(runs.path(), &sets);
        let run = loop {
            let run = fs::read_dir(runs.path()).unwrap().flatten().next();
            match run.map(|entry| entry.path()) {
                Some(run) if run.join("split.csv").exists() => break run,
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        signal(&process, "-TERM");
        let output = process.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(75), "{}", said(&output));
        assert_eq!(manifest(&run)["status"], "interrupted");
        succeeds(resume(&run));
        assert_eq!(timeless_metrics(&run), timeless_metrics(&whole));
    }

    #[test]
    fn a_signal_ends_a_run_in_good_order_and_it_goes_on() {
        let sets = [
            "cache.features=false",
            "phase[1].epochs=8",
            "train.early_stopping={ patience = 99 }",
        ];
        let whole = {
            let runs = tempfile::tempdir().unwrap();
            let whole = run(runs.path(), &[&LONG, &sets[..]].concat());
            (
                timeless_metrics(&whole),
                fs::read(whole.join("predictions.csv")).unwrap(),
            )
        };
        for name in ["-TERM", "-INT", "-USR1"] {
            let runs = tempfile::tempdir().unwrap();
            let process = start(runs.path(), &sets);
            let run = wait_for_rows(runs.path());
            signal(&process, name);
            let asked = Instant::now();
            let output = process.wait_with_output().unwrap();
            assert!(asked.elapsed() < Duration::from_secs(10));
            assert_eq!(output.status.code(), Some(75), "{}", said(&output));
            let advice = format!("xp resume {}", run.display());
            assert!(said(&output).contains(&advice), "{}", said(&output));
            assert_eq!(manifest(&run)["status"], "interrupted");
            succeeds(resume(&run));
            assert_eq!(timeless_metrics(&run), whole.0, "{name}");
            assert!(
                fs::read(run.join("predictions.csv")).unwrap() == whole.1,
                "{name}"
            );
        }
    }
}
