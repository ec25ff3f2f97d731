//! Runs in formats that other programs read: `[tracking]`, `xp track`, the card.

use std::fs;
use std::path::{Path, PathBuf};

use super::config_errors::replace;
use super::config_phases::said_of;
use super::experiments::{TINY, run, succeeds, xp};

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/quickstart.toml");

fn event_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let names = entries.map(|entry| entry.path());
    let is_events = |path: &PathBuf| path.to_string_lossy().contains(".tfevents.");
    names.filter(is_events).collect()
}

/// How often a text stands in a file.
fn count(path: &Path, text: &str) -> usize {
    let bytes = fs::read(path).unwrap();
    let windows = bytes.windows(text.len());
    windows.filter(|window| *window == text.as_bytes()).count()
}

/// The values of a name in MLflow's folder, by line.
fn values(mlruns: &Path, name: &str) -> Vec<String> {
    let folders = |path: &Path| {
        let entries = fs::read_dir(path).unwrap().flatten();
        let folders = entries.map(|entry| entry.path());
        folders.filter(|it| it.is_dir()).collect::<Vec<_>>()
    };
    let [experiment] = folders(mlruns).try_into().unwrap();
    let [run] = folders(&experiment).try_into().unwrap();
    let text = fs::read_to_string(run.join("metrics").join(name)).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn mistakes_have_a_place() {
    let said = |lines: &str| {
        said_of(&replace(
            "[[phase]]",
            &format!("[tracking]\n{lines}\n\n[[phase]]"),
        ))
    };
    insta::assert_snapshot!(said("mlflow = \"sqlite:///mlflow.db\""), @r#"
    error: `sqlite:///mlflow.db` is no address that runs can be sent to
      --> config.toml:20:10
       |
    20 | mlflow = "sqlite:///mlflow.db"
       |          ^^^^^^^^^^^^^^^^^^^^^
       = help: write `"http://localhost:5000"` for a tracking server, or `"mlruns"` for a folder
    "#);
    insta::assert_snapshot!(said("experiment = \"flowers\""), @r#"
    warning: `tracking.experiment` does nothing without `tracking.mlflow`
      --> config.toml:20:14
       |
    20 | experiment = "flowers"
       |              ^^^^^^^^^
       = help: write `"http://localhost:5000"` for a tracking server, or `"mlruns"` for a folder
    "#);
    insta::assert_snapshot!(said("tensorbord = true"), @r#"
    error: unknown key `tensorbord` in `tracking`
      --> config.toml:20:1
       |
    20 | tensorbord = true
       | ^^^^^^^^^^
       = help: did you mean `tensorboard`?
    "#);
}

#[test]
fn a_run_that_is_interrupted_and_goes_on_tells_every_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mlruns = folder.path().join("mlruns");
    let mlflow = format!("tracking.mlflow={}", mlruns.display());
    let mut arguments = vec!["run", QUICKSTART, "--run-dir", run.to_str().unwrap()];
    for set in [TINY, &["tracking.tensorboard=true", &mlflow]].concat() {
        arguments.extend(["--set", set]);
    }
    let first = xp(&[&arguments[..], &["--until-epoch", "2"]].concat());
    assert_eq!(first.status.code(), Some(75));
    let [before] = event_files(&run).try_into().unwrap();
    assert_eq!(
        count(&before, "loss/val"),
        1 + 3,
        "the charts name it once more"
    );
    assert_eq!(values(&mlruns, "val_loss").len(), 3);

    succeeds(xp(&["resume", run.to_str().unwrap()]));
    let [after] = event_files(&run).try_into().unwrap();
    assert!(after > before, "a program that reads along goes on to it");
    assert_eq!(count(&after, "loss/val"), 1 + 5);
    assert_eq!(count(&after, "loss/train"), 1 + 4);
    assert_eq!(count(&after, "test/text_summary"), 1);
    let told = values(&mlruns, "val_loss");
    assert_eq!(told.len(), 5);
    assert_eq!(values(&mlruns, "test_accuracy").len(), 1);

    // From the directory alone, to the same values; a folder of runs is one as good.
    let elsewhere = folder.path().join("tensorboard");
    let to = elsewhere.to_str().unwrap();
    succeeds(xp(&[
        "track",
        folder.path().to_str().unwrap(),
        "--tensorboard",
        to,
    ]));
    // Its folder says which run of that name it is.
    let mut folders = fs::read_dir(&elsewhere).unwrap();
    let told = folders.next().unwrap().unwrap();
    assert!(told.file_name().to_str().unwrap().starts_with("run-"));
    let [again] = event_files(&told.path()).try_into().unwrap();
    assert_eq!(count(&again, "loss/val"), 1 + 5);
    succeeds(xp(&["track", run.to_str().unwrap()]));
    assert_eq!(values(&mlruns, "val_loss").len(), 5);
}

#[test]
fn nobody_listening_is_one_warning_and_the_run_has_its_card() {
    let runs = tempfile::tempdir().unwrap();
    let at = "tracking.mlflow=http://127.0.0.1:9";
    let run_dir = runs.path().join("run");
    let mut arguments = vec!["run", QUICKSTART, "--run-dir", run_dir.to_str().unwrap()];
    for set in [TINY, &[at]].concat() {
        arguments.extend(["--set", set]);
    }
    let output = xp(&arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    succeeds(output);
    assert_eq!(stderr.matches("warning: ").count(), 1, "{stderr}");
    assert!(stderr.contains("MLflow (`http://127.0.0.1:9`)"), "{stderr}");
    assert!(
        stderr.contains(&format!("`xp track {}`", run_dir.display())),
        "{stderr}"
    );

    let figures = fs::read(run_dir.join("metrics.json")).unwrap();
    let figures: serde_json::Value = serde_json::from_slice(&figures).unwrap();
    let test: serde_json::Value =
        serde_json::from_slice(&fs::read(run_dir.join("test.json")).unwrap()).unwrap();
    assert_eq!(figures["test_accuracy"], test["accuracy"]);
    assert_eq!(figures["epochs"], 4);
    assert_eq!(figures["train_pictures"], 30);
    let card = fs::read_to_string(run_dir.join("model_card.md")).unwrap();
    for part in [
        "library_name: \"xp\"",
        "# quickstart",
        "## Limits",
        "\"image_size\": [",
        "fine_tune",
    ] {
        assert!(card.contains(part), "{part}\n{card}");
    }
}

#[test]
fn telling_nobody_is_a_mistake() {
    let runs = tempfile::tempdir().unwrap();
    let run = run(runs.path(), &[]);
    assert!(event_files(&run).is_empty(), "nobody asked for any");
    let output = xp(&["track", run.to_str().unwrap()]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("--tensorboard DIR"), "{stderr}");
}
