//! `xp sweep` and `xp compare`: trials that finish, whatever happens to some of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use super::experiments::{TINY, succeeds, xp};

/// A small experiment with a `[sweep]`, which leaves its runs below `folder`.
fn config(folder: &Path, sweep: &str) -> PathBuf {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/quickstart.toml");
    let text = format!(
        "extends = {base:?}\nname = \"tiny\"\nruns_dir = \"runs\"\n{sweep}",
        base = base.to_str().unwrap(),
    );
    let path = folder.join("tiny.toml");
    fs::write(&path, text).unwrap();
    path
}

fn sweep(config: &Path, more: &[&str]) -> Output {
    let mut arguments = vec!["sweep", config.to_str().unwrap()];
    let fast = TINY
        .iter()
        .chain(&["phase[0].epochs=1", "phase[1].epochs=1"]);
    for set in fast {
        arguments.extend(["--set", set]);
    }
    xp(&[&arguments, more].concat())
}

#[track_caller]
fn fails(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    stderr
}

/// Rows of `sweep.csv` without their times, as a map from column to value each.
fn table(folder: &Path) -> Vec<Vec<(String, String)>> {
    let mut reader = csv::Reader::from_path(folder.join("runs/tiny/sweep.csv")).unwrap();
    let header = reader.headers().unwrap().clone();
    let row = |row: csv::StringRecord| {
        let cells = header.iter().zip(row.iter());
        let cells = cells.filter(|(name, _)| *name != "seconds");
        cells.map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
    };
    reader.records().map(|it| row(it.unwrap())).collect()
}

fn column(rows: &[Vec<(String, String)>], name: &str) -> Vec<String> {
    let cell = |row: &Vec<(String, String)>| {
        let found = row.iter().find(|(column, _)| column == name);
        found.unwrap().1.clone()
    };
    rows.iter().map(cell).collect()
}

const AXES: &str = "[sweep]\nseeds = 2\n[sweep.axes]\n\
    \"phase[0].optimizer.lr\" = { log = [1e-3, 1e-2], steps = 2 }\n";

#[test]
fn a_sweep_runs_what_is_not_done_and_ranks_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = config(folder.path(), AXES);
    let listed: Value =
        serde_json::from_str(&succeeds(sweep(&path, &["--list", "--json"]))).unwrap();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 4);
    assert_eq!(listed[1]["status"], "waiting");
    assert_eq!(listed[1]["settings"]["phase[0].optimizer.lr"], 0.001);
    assert_eq!(listed[1]["settings"]["seed"], 2);
    assert!(!folder.path().join("runs").exists());

    let half = succeeds(sweep(&path, &["--shard", "1/2", "--json"]));
    let half: Value = serde_json::from_str(&half).unwrap();
    assert_eq!(half["trials"].as_array().unwrap().len(), 2);
    let first = table(folder.path());
    assert_eq!(
        column(&first, "status"),
        ["done", "waiting", "done", "waiting"]
    );

    let run = folder
        .path()
        .join("runs/tiny")
        .join(column(&first, "run")[0].clone());
    let before = fs::read(run.join("manifest.json")).unwrap();
    let text = succeeds(sweep(&path, &["--jobs", "2"]));
    assert!(
        text.contains("phase[0].optimizer.lr  runs  val %  test %"),
        "{text}"
    );
    let rows = table(folder.path());
    assert_eq!(column(&rows, "status"), ["done"; 4]);
    assert_eq!(rows[0], first[0]);
    assert_eq!(fs::read(run.join("manifest.json")).unwrap(), before);

    // Once more: nothing is left to do.
    let log = folder.path().join("runs/tiny/trials");
    let sizes = || {
        let entries = fs::read_dir(&log).unwrap().flatten();
        entries.map(|it| it.metadata().unwrap().len()).sum::<u64>()
    };
    let size = sizes();
    succeeds(sweep(&path, &[]));
    assert_eq!((sizes(), table(folder.path())), (size, rows));

    let runs = folder.path().join("runs/tiny");
    let runs = runs.to_str().unwrap();
    let compared: Value =
        serde_json::from_str(&succeeds(xp(&["compare", runs, "--json"]))).unwrap();
    let groups = compared[0]["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 2);
    assert_eq!(groups[0]["test_accuracy"]["count"], 2);
    assert!(groups[0]["to_first"].is_null());
    // Seeds split the pictures alike for both rates, so that they pair up.
    assert_eq!(groups[1]["to_first"]["difference"]["count"], 2);
    let one = succeeds(xp(&["compare", runs, "--where", "seed = 2", "--json"]));
    let one: Value = serde_json::from_str(&one).unwrap();
    assert_eq!(one[0]["groups"][0]["runs"].as_array().unwrap().len(), 1);
    let wrong = fails(&xp(&["compare", runs, "--where", "sed = 2"]), 2);
    assert!(wrong.contains("no run has the key `sed`"), "{wrong}");
    let runs = succeeds(xp(&["runs", runs]));
    assert_eq!(runs.matches("done").count(), 4, "{runs}");
}

#[test]
fn a_trial_that_fails_is_recorded_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let axes = "[sweep.axes]\n\"phase[0].optimizer.lr\" = [1e38, 1e-3]\n";
    let path = config(folder.path(), axes);
    let stderr = fails(&sweep(&path, &[]), 6);
    assert!(stderr.contains("1 of 2 trials failed"), "{stderr}");
    let rows = table(folder.path());
    assert_eq!(column(&rows, "status"), ["failed", "done"]);
    assert!(
        column(&rows, "reason")[0].contains("the loss is NaN"),
        "{rows:?}"
    );

    let other = tempfile::tempdir().unwrap();
    let path = config(other.path(), axes);
    fails(&sweep(&path, &["--fail-fast"]), 6);
    assert_eq!(
        column(&table(other.path()), "status"),
        ["failed", "waiting"]
    );
}

#[test]
fn what_is_wrong_with_a_sweep_is_said_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = |text: &str, more: &[&str]| {
        let path = config(folder.path(), text);
        let stderr = fails(&sweep(&path, more), 2);
        assert!(!folder.path().join("runs").exists());
        stderr
    };
    let axes = |axes: &str| wrong(&format!("[sweep.axes]\n{axes}\n"), &[]);
    let stderr = axes("train.batch_sise = [8, 16]");
    assert!(stderr.contains("did you mean `batch_size`?"), "{stderr}");
    let stderr = axes("train.batch_size = [8, \"many\"]");
    assert!(stderr.contains("axes of the sweep"), "{stderr}");
    let stderr = axes("model.backbone = [\"mobilenet_v9\"]");
    assert!(stderr.contains("mobilenet_v2"), "{stderr}");
    let stderr = axes("train.batch_size = 8");
    assert!(stderr.contains("tiny.toml:"), "{stderr}");
    let stderr = wrong("[sweep]\nsedes = 3\n", &[]);
    assert!(stderr.contains("did you mean `seeds`?"), "{stderr}");
    let stderr = wrong("[sweep]\nskip = [\"seed =\"]\n", &[]);
    assert!(stderr.contains("this is no condition"), "{stderr}");
    let stderr = wrong("[sweep]\nskip = [\"model.backbnoe = 3\"]\n", &[]);
    assert!(
        stderr.contains("no run has the key `model.backbnoe`"),
        "{stderr}"
    );
    let stderr = wrong("", &["--axis", "train.batch_size=[8,"]);
    assert!(stderr.contains("--axis"), "{stderr}");
    let stderr = wrong("", &["--skip", "seed = 1"]);
    assert!(stderr.contains("leave no experiment"), "{stderr}");
    let stderr = wrong("", &["--name", "../x"]);
    assert!(stderr.contains("is not the name of a folder"), "{stderr}");

    let path = config(folder.path(), AXES);
    let path = path.to_str().unwrap();
    let stderr = fails(&xp(&["run", path]), 2);
    assert!(stderr.contains("xp sweep"), "{stderr}");
    let checked = succeeds(xp(&["check", path]));
    assert!(checked.ends_with("tiny.toml: ok, 4 trials\n"), "{checked}");
}

#[test]
fn a_named_run_directory_is_made_gone_on_with_and_kept_for_one_experiment() {
    let folder = tempfile::tempdir().unwrap();
    let path = config(folder.path(), "");
    let dir = folder.path().join("deep/run");
    let run = |more: &[&str]| {
        let mut arguments = vec![
            "run",
            path.to_str().unwrap(),
            "--run-dir",
            dir.to_str().unwrap(),
        ];
        for set in TINY {
            arguments.extend(["--set", set]);
        }
        xp(&[&arguments, more].concat())
    };
    let stderr = fails(&run(&["--until-epoch", "2"]), 75);
    assert!(stderr.contains("xp resume"), "{stderr}");
    let rows = || {
        fs::read_to_string(dir.join("metrics.csv"))
            .unwrap()
            .lines()
            .count()
    };
    assert_eq!(rows(), 4);
    let stderr = fails(&run(&["--set", "seed=9"]), 2);
    assert!(
        stderr.contains("holds the run of another configuration"),
        "{stderr}"
    );
    succeeds(run(&[]));
    assert_eq!(rows(), 6);
    let before = fs::read(dir.join("manifest.json")).unwrap();
    assert!(succeeds(run(&[])).contains("is done"));
    assert_eq!(fs::read(dir.join("manifest.json")).unwrap(), before);
    // Somebody's own folder is left alone.
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("notes.txt"), "mine").unwrap();
    let mut arguments = vec![
        "run",
        path.to_str().unwrap(),
        "--run-dir",
        other.to_str().unwrap(),
    ];
    for set in TINY {
        arguments.extend(["--set", set]);
    }
    fails(&xp(&arguments), 1);
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
}

#[test]
fn halving_gives_up_the_weaker_ones() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[sweep]\nhalving = { min_epochs = 1, factor = 2 }\n[sweep.axes]\n\
        \"phase[0].optimizer.lr\" = [1e-7, 3e-3, 1e-6]\n";
    let path = config(folder.path(), text);
    let sets = ["--set", "phase[0].epochs=3"];
    succeeds(sweep(&path, &sets));
    let rows = table(folder.path());
    let mut statuses = column(&rows, "status");
    let mut epochs = column(&rows, "epochs");
    assert_eq!(
        (statuses.remove(1), epochs.remove(1)),
        ("done".into(), "4".into())
    );
    statuses.sort();
    assert_eq!(statuses, ["stopped"; 2]);
    epochs.sort();
    assert_eq!(epochs, ["1", "2"]);
    // Nothing is left to do, and the table stays as it is.
    succeeds(sweep(&path, &sets));
    assert_eq!(table(folder.path()), rows);
    let stderr = fails(&sweep(&path, &["--shard", "1/2"]), 2);
    assert!(stderr.contains("`halving` compares all trials"), "{stderr}");
    // What was promoted is what it would have been alone.
    let alone = folder.path().join("alone");
    fs::create_dir(&alone).unwrap();
    let path = config(&alone, "");
    succeeds(sweep(
        &path,
        &[&sets[..], &["--axis", "phase[0].optimizer.lr=[3e-3]"]].concat(),
    ));
    let accuracy = |folder: &Path, at: usize| column(&table(folder), "test_accuracy")[at].clone();
    assert_eq!(accuracy(folder.path(), 1), accuracy(&alone, 0));
}

#[test]
fn axes_of_the_command_line_replace_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = config(folder.path(), "[sweep.axes]\ntrain.batch_size = [8, 16]\n");
    let listed = |more: &[&str]| {
        let answer = succeeds(sweep(&path, &[&["--list", "--json"], more].concat()));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let settings = answer.as_array().unwrap().iter();
        settings
            .map(|it| it["settings"].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(&[]).len(), 2);
    let replaced = listed(&["--axis", "train.batch_size=[4]"]);
    assert_eq!(replaced, [r#"{"train.batch_size":4}"#]);
    let skipped = listed(&["--skip", "train.batch_size in [16]", "--seeds", "3"]);
    assert_eq!(skipped.len(), 3);
}

#[test]
fn combinations_that_make_no_sense_can_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let axes = "[sweep.axes]\n\"phase[0].optimizer\" = [{ kind = \"sgd\", lr = 0.1 }]\n\
        \"phase[0].optimizer.momentum\" = [0.0, 0.9]\n\
        \"phase[0].optimizer.nesterov\" = [false, true]\n";
    let path = config(folder.path(), axes);
    let stderr = fails(&sweep(&path, &["--list"]), 2);
    assert!(stderr.contains("nesterov"), "{stderr}");
    let skip = "phase[0].optimizer.momentum = 0 and phase[0].optimizer.nesterov";
    let listed = succeeds(sweep(&path, &["--list", "--skip", skip]));
    assert_eq!(listed.lines().count(), 4, "{listed}");
}

#[cfg(unix)]
#[test]
fn a_sweep_that_is_interrupted_goes_on() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let folder = tempfile::tempdir().unwrap();
    let path = config(folder.path(), "[sweep]\nseeds = 3\n");
    let arguments = |command: &mut Command| {
        command
            .arg("sweep")
            .arg(&path)
            .env("XP_CACHE__DISK", "false");
        for set in TINY
            .iter()
            .chain(&["phase[0].epochs=60", "phase[1].epochs=1"])
        {
            command.args(["--set", set]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
    };
    let start = || {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("xp"));
        arguments(&mut command);
        command.spawn().unwrap()
    };
    let mut child = start();
    let begun = || {
        let runs = fs::read_dir(folder.path().join("runs/tiny"))
            .into_iter()
            .flatten();
        runs.flatten()
            .any(|run| run.path().join("metrics.csv").exists())
    };
    let started = Instant::now();
    while !begun() && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(75));
    let statuses = column(&table(folder.path()), "status");
    assert!(statuses.contains(&"interrupted".into()), "{statuses:?}");
    assert!(!statuses.contains(&"failed".into()), "{statuses:?}");
    // Two at once share what is left.
    let (mut one, mut other) = (start(), start());
    assert!(one.wait().unwrap().success() && other.wait().unwrap().success());
    assert_eq!(column(&table(folder.path()), "status"), ["done"; 3]);
    for id in column(&table(folder.path()), "trial") {
        let log = folder.path().join(format!("runs/tiny/trials/{id}.log"));
        let log = fs::read_to_string(log).unwrap();
        assert_eq!(log.matches("done in").count(), 1, "{log}");
    }
}
