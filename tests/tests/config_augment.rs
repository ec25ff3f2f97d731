//! What `[data.augment]` and phases may say of random changes, and what is said of mistakes.

use std::ffi::OsString;

use xp::config;

use super::config_errors::replace;

/// What is said about a configuration.
fn said(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    let none = std::iter::empty::<(OsString, OsString)>();
    let said = match config::load_with(&path, &[], none) {
        Ok(loaded) => {
            let warnings = loaded.warnings.iter().map(|it| it.render(false));
            warnings.collect::<Vec<_>>().join("\n")
        }
        Err(report) => report.to_string(),
    };
    said.replace(&format!("{}/", folder.path().display()), "")
}

/// The base with these lines under `[data.augment]`, and a `resize`.
fn augment(lines: &str) -> String {
    let size = "image_size = 160";
    replace(
        size,
        &format!("{size}\nresize = 184\n\n[data.augment]\n{lines}"),
    )
}

macro_rules! check {
    ($text:expr, @$snapshot:literal) => {
        insta::assert_snapshot!(said(&$text), @$snapshot)
    };
}

#[test]
fn every_change_in_every_spelling() {
    for lines in [
        "random_resized_crop = true\nrotate = 15\nerase = true\ntrivial_augment = true\nviews = 4",
        "random_resized_crop = { scale = [0.2, 1.0] }\nerase = { probability = 0.5, fill = \"noise\" }",
        "random_resized_crop = false\ncrop = true\ncolor_jitter = { hue = 0.5, brightness = 2 }",
    ] {
        check!(augment(lines), @"");
    }
    check!(replace("epochs = 10", "epochs = 10\nmixup = 0.2\ncutmix = 1"), @"");
}

#[test]
fn crops_and_ranges() {
    check!(augment("random_resized_crop = true\ncrop = true"), @r"
    error: `random_resized_crop` and `crop` exclude each other
      --> config.toml:11:23
       |
    11 | random_resized_crop = true
       |                       ^^^^
       = help: keep one of them
    ");
    check!(augment("random_resized_crop = { scale = [0.0, 1.0] }"), @r"
    error: `data.augment.random_resized_crop.scale[0]` must be greater than 0, but it is 0
      --> config.toml:11:34
       |
    11 | random_resized_crop = { scale = [0.0, 1.0] }
       |                                  ^^^
       = help: the least value comes first
    ");
    check!(augment("random_resized_crop = { ratio = [1.5, 1.2] }"), @r"
    error: `data.augment.random_resized_crop.ratio` starts at 1.5 and ends at 1.2
      --> config.toml:11:33
       |
    11 | random_resized_crop = { ratio = [1.5, 1.2] }
       |                                 ^^^^^^^^^^
       = help: the least value comes first
    ");
    check!(augment("erase = { scale = [0.5, 1.5], probability = 2 }"), @"");
    check!(augment("erase = { ratio = [0.3] }"), @"");
}

#[test]
fn strengths_and_words() {
    check!(augment("rotate = 200"), @"");
    check!(augment("color_jitter = { brightnes = 0.2 }"), @"");
    check!(augment("color_jitter = { hue = 0.7 }"), @"");
    check!(augment("color_jitter = 0.4"), @"");
    check!(augment("color_jitter = {}"), @"");
    check!(augment("erase = { fill = \"white\" }"), @"");
    check!(augment("erase = { probability = 0 }"), @"");
    check!(augment("random_crop = true"), @"");
}

#[test]
fn views() {
    check!(augment("views = 3"), @"");
    check!(augment("views = 65\ncrop = true"), @"");
    check!(augment("views = 12\ncrop = true"), @"");
}

#[test]
fn phases() {
    check!(replace("epochs = 10", "epochs = 10\nmixup = -1"), @"");
    check!(replace("epochs = 10", "epochs = 10\ncutmix = true"), @"");
    let alone = replace("batch_size = 32", "batch_size = 1");
    check!(alone.replace("epochs = 10", "epochs = 10\nmixup = 0.2"), @"");
    check!(replace("epochs = 10", "epochs = 10\naugment = false"), @"");
    let unused = augment("crop = true");
    check!(unused.replace("epochs = 10", "epochs = 10\naugment = false"), @"");
}
