//! `xp lr-find`: rates tried, drawn and suggested.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::experiments::{TINY, run, succeeds, xp};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/quickstart.toml");

/// The command on a tiny quickstart, which would put its runs into `folder`.
fn lr_find(folder: &Path, more: &[&str]) -> std::process::Output {
    let runs = format!("runs_dir={}", folder.join("runs").display());
    let out = folder.join("curve.png");
    let mut arguments = vec!["lr-find", CONFIG, "--set", &runs];
    arguments.extend(["--out", out.to_str().unwrap()]);
    for set in TINY {
        arguments.extend(["--set", set]);
    }
    arguments.extend(more);
    xp(&arguments)
}

#[test]
fn a_rate_is_suggested_and_nothing_is_left_but_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let answer = |more: &[&str]| -> Value {
        let all = [&["--json", "--from", "1e-6", "--steps", "60"], more].concat();
        serde_json::from_str(&succeeds(lr_find(folder.path(), &all))).unwrap()
    };
    let found = answer(&[]);
    assert_eq!(found["phase"]["name"], "feature_extraction");
    let suggestions = found["suggestions"].as_array().unwrap();
    assert_eq!(suggestions.len(), 3);
    let lr = found["recommended"]["lr"].as_f64().unwrap();
    assert!((1e-5..1.0).contains(&lr), "{lr}");
    let set = found["set"].as_str().unwrap();
    assert!(set.starts_with("phase[0].optimizer.lr="), "{set}");
    assert_eq!(found["points"][0]["lr"], 1e-6);
    let picture = fs::read(folder.path().join("curve.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    let names = fs::read_dir(folder.path()).unwrap();
    assert_eq!(names.count(), 1, "the picture alone");
    assert_eq!(found, answer(&["--set", "threads=1"]));
    assert_eq!(found, answer(&["--phase", "feature_extraction"]));
    // The rate of the configuration plays no part.
    assert_eq!(found, answer(&["--set", "phase[0].optimizer.lr=0.5"]));
}

#[test]
fn a_later_phase_starts_from_a_run_if_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let run = run(folder.path(), &[]);
    let fine = ["--phase", "fine_tune", "--steps", "20", "--json"];
    let test = |more: &[&str]| {
        let output = lr_find(folder.path(), &[&fine, more].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        (answer["points"][0]["loss"].as_f64().unwrap(), said)
    };
    let (untrained, said) = test(&[]);
    assert!(
        said.contains("from the pretrained weights and a new head"),
        "{said}"
    );
    let (trained, said) = test(&["--from-run", run.to_str().unwrap()]);
    assert!(!said.contains("a new head"), "{said}");
    assert!(trained < untrained, "{trained} {untrained}");
    let head = ["--set", "model.head=[{ dense = 4 }, { dense = 5 }]"];
    let other = ["--from-run", run.to_str().unwrap()];
    let output = lr_find(folder.path(), &[&head[..], &other].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("the model of another network"), "{said}");
}

#[test]
fn what_cannot_be_tested_or_suggested_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let said = |more: &[&str]| {
        let output = lr_find(folder.path(), more);
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let (code, text) = said(&["--phase", "fine_tun"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("did you mean `fine_tune`?"), "{text}");
    let (code, text) = said(&["--from", "1", "--to", "0.1"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("1 is not below 0.1"), "{text}");
    let (code, text) = said(&["--from", "1e-9", "--to", "1e-8", "--steps", "30"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("nothing can be suggested"), "{text}");
    assert!(text.contains("go higher with `--to`"), "{text}");
    assert!(folder.path().join("curve.png").exists());
    let (code, text) = said(&["--from", "1e4", "--to", "1e9", "--steps", "30"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("`--from`"), "{text}");
}
