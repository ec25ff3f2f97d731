//! What a phase may say of freezing and learning rates, and what is said of mistakes in it.

use std::ffi::OsString;
use std::path::Path;

use assert_cmd::Command;
use xp::config;

use super::config_errors::{BASE, replace};

const FREEZE: &str = "freeze = \"all\"";

fn load(folder: &Path, text: &str) -> Result<config::Loaded, config::Report> {
    let path = folder.join("config.toml");
    std::fs::write(&path, text).unwrap();
    config::load_with(&path, &[], std::iter::empty::<(OsString, OsString)>())
}

/// What is said about the base with these lines in place of its `freeze`.
fn said(lines: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let report = match load(folder.path(), &replace(FREEZE, lines)) {
        Ok(loaded) => {
            let warnings = loaded.warnings.iter().map(|it| it.render(false));
            warnings.collect::<Vec<_>>().join("\n")
        }
        Err(report) => report.to_string(),
    };
    report.replace(&format!("{}/", folder.path().display()), "")
}

macro_rules! check {
    ($lines:expr, @$snapshot:literal) => {
        insta::assert_snapshot!(said($lines), @$snapshot)
    };
}

#[test]
fn one_way_of_freezing_a_phase() {
    check!("freeze_stages = 2\ntrain_only = \"Conv_1*\"", @"");
    check!("freeze_stages = 0", @"");
    check!("freeze_stages = 1.5", @"");
    check!("train_only = []", @"");
    check!("train_only = [\"Conv_1\", \"\"]", @"");
    check!("unfreeze = \"Conv_1\"", @"");
    check!("freeze = \"all\"\nbn = \"frozen\"", @"");
    check!("bn = \"freeze\"", @"");
}

#[test]
fn rates() {
    check!("lr_decay = 0", @"");
    check!("lr_decay = 1.2", @"");
    check!("lr_decay = { factor = 0.9, per = \"block\" }", @"");
    check!("lr_decay = { per = \"layer\" }", @"");
    check!("lr_decay = \"0.9\"", @"");
    check!("freeze = \"all\"\nlr_decay = 0.9", @"");
    check!("lr_multipliers = [{ layers = \"Conv_1\" }]", @"");
    check!("lr_multipliers = [{ layers = \"Conv_1\", multiplier = 0 }]", @"");
    check!("lr_multipliers = [{ layers = [], multiplier = 0.1 }]", @"");
    check!("lr_multipliers = { \"Conv_1\" = 0.1 }", @"");
    check!("weight_decay_exempt = \"norms\"", @"");
    check!("weight_decay_exempt = \"none\"", @"");
}

#[test]
fn what_a_phase_says_is_recorded_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let text = replace(
        FREEZE,
        "freeze_stages = -1\nbn = \"frozen\"\nlr_decay = { factor = 0.5 }\n\
         lr_multipliers = [{ layers = [\"block_16_*\", 152], multiplier = 0.1 }]",
    );
    let loaded = load(folder.path(), &text).unwrap();
    let resolved = loaded.resolved();
    for line in [
        "freeze_stages = -1",
        "bn = \"frozen\"",
        "weight_decay_exempt = \"bias_and_norm\"",
        "factor = 0.5",
        "per = \"stage\"",
        "layers = [\"block_16_*\", 152]",
        "multiplier = 0.1",
    ] {
        assert!(
            resolved.lines().any(|it| it == line),
            "{line} in\n{resolved}"
        );
    }
    let again = load(folder.path(), &resolved).unwrap();
    assert_eq!(again.resolved(), resolved);
    assert_eq!(again.hash(), loaded.hash());

    std::fs::write(folder.path().join("config.toml"), &text).unwrap();
    let output = Command::cargo_bin("xp")
        .unwrap()
        .current_dir(folder.path())
        .args(["summary", "config.toml"])
        .output()
        .unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "124 block_13_expand Conv2D 10 x 10 x 576 55,296 trains x 0.5",
        "125 block_13_expand_BN BatchNormalization 10 x 10 x 576 2,304 frozen",
        "143 block_16_expand Conv2D 5 x 5 x 960 153,600 trains x 0.05",
        "152 Conv_1 Conv2D 5 x 5 x 1280 409,600 trains x 0.05",
        "156 dense Dense 5 6,405 trains",
        "4 block_13_expand to out_relu",
    ] {
        assert!(lines.iter().any(|it| it == line), "{line} in\n{table}");
    }
    assert!(BASE.contains(FREEZE));
}
