//! `xp plot`.

use std::fs;
use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;

const HEADER: &str = "phase,phase_epoch,epoch,step,lr,train_loss,train_accuracy,val_loss,\
                      val_accuracy,images_per_second,seconds\n";
const ROWS: &str = "\
feature_extraction,0,0,0,0.0,,,1.61,0.21,0.0,1.5
feature_extraction,1,1,25,0.0001,1.2,0.5,0.9,0.7,151.2,5.1
fine_tune,1,2,50,0.00001,0.8,0.75,0.6,0.8125,92.0,9.75
";

/// Stdout, stderr and exit code of `xp plot` in a folder, in one text.
fn plot(folder: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_xp"))
        .arg("plot")
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    format!(
        "exit {}\n{}{}",
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr)
    )
}

/// A run directory with some files.
fn make_run(folder: &Path, name: &str, files: &[(&str, &str)]) {
    let run = folder.join(name);
    fs::create_dir_all(&run).unwrap();
    for (file, text) in files {
        fs::write(run.join(file), text).unwrap();
    }
}

fn is_png(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x89PNG\r\n\x1a\n"))
}

#[test]
fn one_run_is_drawn_from_its_tables_alone() {
    let folder = tempfile::tempdir().unwrap();
    let test = r#"{
        "split": "test", "checkpoint": "best", "images": 4, "loss": 0.5, "accuracy": 0.75,
        "accuracy_interval": [0.3, 0.95], "confusion": [[2, 0], [1, 1]],
        "per_class": [
            { "class": "cat", "support": 2, "precision": 0.66, "recall": 1.0, "f1": 0.8 },
            { "class": "dog", "support": 2, "precision": 1.0, "recall": 0.5, "f1": 0.66 }
        ]
    }"#;
    let metrics = format!("{HEADER}{ROWS}");
    let files = [
        ("metrics.csv", metrics.as_str()),
        ("test.json", test),
        ("manifest.json", "{"),
    ];
    make_run(folder.path(), "2026-11-21T18-03-11_cats_ab12cd", &files);
    let run = folder.path().join("2026-11-21T18-03-11_cats_ab12cd");
    assert_snapshot!(plot(folder.path(), &["2026-11-21T18-03-11_cats_ab12cd"]), @r#"
    exit 0
    2026-11-21T18-03-11_cats_ab12cd/curves.png
    2026-11-21T18-03-11_cats_ab12cd/confusion.png
    "#);
    assert!(is_png(&run.join("curves.png")) && is_png(&run.join("confusion.png")));

    assert_snapshot!(plot(&run, &[".", "--output", "mine.png", "--json"]), @r#"
    exit 0
    {"pictures":["mine.png"]}
    "#);
    let drawn = fs::read(run.join("mine.png")).unwrap();
    assert_eq!(drawn, fs::read(run.join("curves.png")).unwrap());
}

#[test]
fn several_runs_are_overlaid() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = format!("{HEADER}{ROWS}");
    for name in ["a", "b"] {
        make_run(folder.path(), name, &[("metrics.csv", &metrics)]);
    }
    assert_snapshot!(plot(folder.path(), &["a", "b"]), @r#"
    exit 0
    compare.png
    "#);
    assert!(is_png(&folder.path().join("compare.png")));
    assert_snapshot!(plot(folder.path(), &["a", "b", "-o", "no/such/folder.png"]), @r#"
    exit 1
    error: cannot write `no/such/folder.png`: its folder does not exist; check the path
    "#);
}

#[test]
fn what_cannot_be_drawn_is_said() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("pictures")).unwrap();
    fs::write(folder.path().join("a.toml"), "").unwrap();
    make_run(folder.path(), "early", &[("resolved.toml", "")]);
    make_run(folder.path(), "empty", &[("metrics.csv", "")]);
    make_run(folder.path(), "header", &[("metrics.csv", HEADER)]);
    let wrong = format!("{HEADER}{ROWS}").replace("0.8125", "eighty");
    make_run(folder.path(), "wrong", &[("metrics.csv", &wrong)]);
    make_run(folder.path(), "foreign", &[("metrics.csv", "a,b\n1,2\n")]);
    let all = [
        "absent", "pictures", "a.toml", "early", "empty", "header", "wrong", "foreign",
    ];
    let said: Vec<String> = all.iter().map(|run| plot(folder.path(), &[run])).collect();
    assert_snapshot!(said.join("\n"), @r#"
        exit 2
        error: `absent` is not a run directory: there is no such folder
          help: give a folder made by `xp run`, for example `runs/2026-11-21T18-03-11_NAME_ab12cd`

        exit 2
        error: `pictures` is not a run directory: it has no `metrics.csv`, `manifest.json` or `resolved.toml`
          help: give a folder made by `xp run`, for example `runs/2026-11-21T18-03-11_NAME_ab12cd`

        exit 2
        error: `a.toml` is not a run directory: it is a file
          help: give a folder made by `xp run`, for example `runs/2026-11-21T18-03-11_NAME_ab12cd`

        exit 1
        error: `early/metrics.csv` is not there
          help: the run ended before its first epoch; run it again with `xp run`

        exit 1
        error: `empty/metrics.csv` has no rows
          help: the run has not finished an epoch; wait for the first one

        exit 1
        error: `header/metrics.csv` has no rows
          help: the run has not finished an epoch; wait for the first one

        exit 1
        error: `wrong/metrics.csv` is damaged: line 4, `val_accuracy`: invalid float literal
          help: correct or delete that line; the first line names the columns

        exit 1
        error: `foreign/metrics.csv` is damaged: line 2: missing field `phase`
          help: correct or delete that line; the first line names the columns
        "#);
}

#[test]
fn torn_tail_and_damaged_test_are_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let torn = format!("{HEADER}{ROWS}fine_tune,2,3,75,0.0000");
    make_run(
        folder.path(),
        "torn",
        &[("metrics.csv", &torn), ("test.json", "{\n")],
    );
    assert_snapshot!(plot(folder.path(), &["torn"]), @r#"
    exit 0
    torn/curves.png
    warning: `torn/metrics.csv` ends in the middle of a row; that row is left out
    warning: `confusion.png` is not drawn: `torn/test.json` is damaged: EOF while parsing an object at line 2 column 0
    "#);
}
