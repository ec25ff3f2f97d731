//! What a phase may say of freezing and learning rates, and what is said of mistakes in it.

use std::ffi::OsString;
use std::path::Path;

use assert_cmd::Command;
use xp::config;

use super::config_errors::replace;

const FREEZE: &str = "freeze = \"all\"";

fn load(folder: &Path, text: &str) -> Result<config::Loaded, config::Report> {
    let path = folder.join("config.toml");
    std::fs::write(&path, text).unwrap();
    config::load_with(&path, &[], std::iter::empty::<(OsString, OsString)>())
}

/// What is said about the base with these lines in place of its `freeze`.
fn said(lines: &str) -> String {
    said_of(&replace(FREEZE, lines))
}

/// What `xp run` says of a configuration in this folder.
pub(super) fn said_with(folder: &Path, text: &str) -> String {
    std::fs::write(folder.join("config.toml"), text).unwrap();
    let output = Command::cargo_bin("xp")
        .unwrap()
        .current_dir(folder)
        .env("XP_CACHE__DISK", "false")
        .args(["run", "config.toml"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr).unwrap()
}

/// What is said about a configuration.
pub(super) fn said_of(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let report = match load(folder.path(), text) {
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
    check!("freeze_stages = 2\ntrain_only = \"Conv_1*\"", @r#"
    error: `phase[0]` has both `freeze_stages` and `train_only`
      --> config.toml:22:14
       |
    22 | train_only = "Conv_1*"
       |              ^^^^^^^^^
       = help: keep one of them
    "#);
    check!("freeze_stages = 0", @r#"
    error: `phase[0].freeze_stages` is 0, which freezes nothing
      --> config.toml:21:17
       |
    21 | freeze_stages = 0
       |                 ^
       = help: write `freeze = "none"` to train all layers
    "#);
    check!("freeze_stages = 1.5", @r#"
    error: `phase[0].freeze_stages` must be an integer, but it is 1.5
      --> config.toml:21:17
       |
    21 | freeze_stages = 1.5
       |                 ^^^
    "#);
    check!("train_only = []", @r#"
    error: `phase[0].train_only` is empty
      --> config.toml:21:14
       |
    21 | train_only = []
       |              ^^
       = help: write `freeze = "all"` to train the head alone
    "#);
    check!("train_only = [\"Conv_1\", \"\"]", @r#"
    error: `phase[0].train_only[1]` is empty
      --> config.toml:21:25
       |
    21 | train_only = ["Conv_1", ""]
       |                         ^^
       = help: name a layer or a pattern
    "#);
    check!("unfreeze = \"Conv_1\"", @r#"
    error: unknown key `unfreeze` in `phase[0]`
      --> config.toml:21:1
       |
    21 | unfreeze = "Conv_1"
       | ^^^^^^^^
       = help: did you mean `train_only`?
    "#);
    check!("freeze = \"all\"\nbn = \"frozen\"", @r#"
    warning: `phase[0].bn` has no effect: no backbone layer trains in this phase
      --> config.toml:22:6
       |
    22 | bn = "frozen"
       |      ^^^^^^^^
       = help: take it out, or freeze less
    "#);
    check!("bn = \"freeze\"", @r#"
    error: unknown value "freeze" for `phase[0].bn`
      --> config.toml:21:6
       |
    21 | bn = "freeze"
       |      ^^^^^^^^
       = help: known values: `"eval"`, `"train"` or `"frozen"`
    "#);
}

#[test]
fn rates() {
    check!("lr_decay = 0", @r#"
    error: `phase[0].lr_decay` must be a number greater than 0 and of at most 1, but it is 0
      --> config.toml:21:12
       |
    21 | lr_decay = 0
       |            ^
    "#);
    check!("lr_decay = 1.2", @r#"
    error: `phase[0].lr_decay` must be a number greater than 0 and of at most 1, but it is 1.2
      --> config.toml:21:12
       |
    21 | lr_decay = 1.2
       |            ^^^
    "#);
    check!("lr_decay = { factor = 0.9, per = \"block\" }", @r#"
    error: unknown value "block" for `phase[0].lr_decay.per`
      --> config.toml:21:34
       |
    21 | lr_decay = { factor = 0.9, per = "block" }
       |                                  ^^^^^^^
       = help: known values: `"stage"` or `"layer"`
    "#);
    check!("lr_decay = { per = \"layer\" }", @r#"
    error: missing key `factor` in `phase[0].lr_decay`
      --> config.toml:21:12
       |
    21 | lr_decay = { per = "layer" }
       |            ^^^^^^^^^^^^^^^^^
       = help: `factor`: Factor from one step of depth to the next
    "#);
    check!("lr_decay = \"0.9\"", @r#"
    error: `phase[0].lr_decay` must be a number greater than 0 and of at most 1 or a table with `factor`, but it is the string "0.9"
      --> config.toml:21:12
       |
    21 | lr_decay = "0.9"
       |            ^^^^^
    "#);
    check!("freeze = \"all\"\nlr_decay = 0.9", @r#"
    warning: `phase[0].lr_decay` has no effect: no backbone layer trains in this phase
      --> config.toml:22:12
       |
    22 | lr_decay = 0.9
       |            ^^^
       = help: take it out, or freeze less
    "#);
    check!("lr_multipliers = [{ layers = \"Conv_1\" }]", @r#"
    error: missing key `multiplier` in `phase[0].lr_multipliers[0]`
      --> config.toml:21:19
       |
    21 | lr_multipliers = [{ layers = "Conv_1" }]
       |                   ^^^^^^^^^^^^^^^^^^^^^
       = help: `multiplier`: What the learning rate of these layers is multiplied with
    "#);
    check!("lr_multipliers = [{ layers = \"Conv_1\", multiplier = 0 }]", @r#"
    error: `phase[0].lr_multipliers[0].multiplier` must be a number greater than 0, but it is 0
      --> config.toml:21:53
       |
    21 | lr_multipliers = [{ layers = "Conv_1", multiplier = 0 }]
       |                                                     ^
    "#);
    check!("lr_multipliers = [{ layers = [], multiplier = 0.1 }]", @r#"
    error: `phase[0].lr_multipliers[0].layers` is empty
      --> config.toml:21:30
       |
    21 | lr_multipliers = [{ layers = [], multiplier = 0.1 }]
       |                              ^^
       = help: take the entry out
    "#);
    check!("lr_multipliers = { \"Conv_1\" = 0.1 }", @r#"
    error: `phase[0].lr_multipliers` must be an array of tables, but it is a table
      --> config.toml:21:18
       |
    21 | lr_multipliers = { "Conv_1" = 0.1 }
       |                  ^^^^^^^^^^^^^^^^^^
       = help: put it in brackets: `lr_multipliers = [...]`
    "#);
    check!("weight_decay_exempt = \"norms\"", @r#"
    error: unknown value "norms" for `phase[0].weight_decay_exempt`
      --> config.toml:21:23
       |
    21 | weight_decay_exempt = "norms"
       |                       ^^^^^^^
       = help: known values: `"bias_and_norm"` or `"none"`
    "#);
    check!("weight_decay_exempt = \"none\"", @r#"
    warning: `phase[0].weight_decay_exempt` has no effect without weight decay
      --> config.toml:21:23
       |
    21 | weight_decay_exempt = "none"
       |                       ^^^^^^
       = help: take it out, or give the optimizer a `weight_decay`
    "#);
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
        "117 block_13_expand Conv2D 10 x 10 x 576 55,296 trains x 0.5",
        "118 block_13_expand_BN BatchNormalization 10 x 10 x 576 2,304 frozen",
        "144 block_16_expand Conv2D 5 x 5 x 960 153,600 trains x 0.05",
        "152 Conv_1 Conv2D 5 x 5 x 1280 409,600 trains x 0.05",
        "156 dense Dense 5 6,405 trains",
        "4 block_13_expand to out_relu",
    ] {
        assert!(lines.iter().any(|it| it == line), "{line} in\n{table}");
    }
}
