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
        assert_eq!(said(&augment(lines)), "");
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
    check!(augment("erase = { scale = [0.5, 1.5], probability = 2 }"), @r#"
    error: `data.augment.erase.scale[1]` must be a number from 0 to 1, but it is 1.5
      --> config.toml:11:25
       |
    11 | erase = { scale = [0.5, 1.5], probability = 2 }
       |                         ^^^

    error: `data.augment.erase.probability` must be a number from 0 to 1, but it is 2
      --> config.toml:11:45
       |
    11 | erase = { scale = [0.5, 1.5], probability = 2 }
       |                                             ^

    2 problems
    "#);
    check!(augment("erase = { ratio = [0.3] }"), @r#"
    error: `data.augment.erase.ratio` must be an array of 2 numbers of at least 0, but it has 1
      --> config.toml:11:19
       |
    11 | erase = { ratio = [0.3] }
       |                   ^^^^^
    "#);
}

#[test]
fn strengths_and_words() {
    check!(augment("rotate = 200"), @r#"
    error: `data.augment.rotate` must be a number from 0 to 180, but it is 200
      --> config.toml:11:10
       |
    11 | rotate = 200
       |          ^^^
    "#);
    check!(augment("color_jitter = { brightnes = 0.2 }"), @r#"
    error: unknown key `brightnes` in `data.augment.color_jitter`
      --> config.toml:11:18
       |
    11 | color_jitter = { brightnes = 0.2 }
       |                  ^^^^^^^^^
       = help: did you mean `brightness`?
    "#);
    check!(augment("color_jitter = { hue = 0.7 }"), @r#"
    error: `data.augment.color_jitter.hue` must be a number from 0 to 0.5, but it is 0.7
      --> config.toml:11:24
       |
    11 | color_jitter = { hue = 0.7 }
       |                        ^^^
    "#);
    check!(augment("color_jitter = 0.4"), @r#"
    error: `data.augment.color_jitter` must be a table, but it is 0.4
      --> config.toml:11:16
       |
    11 | color_jitter = 0.4
       |                ^^^
    "#);
    check!(augment("color_jitter = {}"), @r#"
    warning: `color_jitter` has no strength, so it changes nothing
      --> config.toml:11:16
       |
    11 | color_jitter = {}
       |                ^^
       = help: write `color_jitter = { brightness = 0.2, contrast = 0.2, saturation = 0.2, hue = 0.05 }`
    "#);
    check!(augment("erase = { fill = \"white\" }"), @r#"
    error: unknown value "white" for `data.augment.erase.fill`
      --> config.toml:11:18
       |
    11 | erase = { fill = "white" }
       |                  ^^^^^^^
       = help: known values: `"mean"`, `"noise"` or `"black"`
    "#);
    check!(augment("erase = { probability = 0 }"), @r#"
    warning: `data.augment.erase.probability` is 0, which erases nothing
      --> config.toml:11:25
       |
    11 | erase = { probability = 0 }
       |                         ^
       = help: take `erase` out
    "#);
    check!(augment("random_crop = true"), @r#"
    error: unknown key `random_crop` in `data.augment`
      --> config.toml:11:1
       |
    11 | random_crop = true
       | ^^^^^^^^^^^
       = help: known keys: `flip_horizontal`, `flip_vertical`, `crop`, `random_resized_crop`, `rotate`, `color_jitter`, `trivial_augment`, `erase` and `views`
    "#);
}

#[test]
fn views() {
    check!(augment("views = 3"), @r#"
    error: `views` needs a random change: without one all views are the same
      --> config.toml:11:9
       |
    11 | views = 3
       |         ^
       = help: take it out, or switch one on, for example `flip_horizontal = true`
    "#);
    check!(augment("views = 65\ncrop = true"), @r#"
    error: `data.augment.views` must be an integer from 1 to 64, but it is 65
      --> config.toml:11:9
       |
    11 | views = 65
       |         ^^
    "#);
    check!(augment("views = 12\ncrop = true"), @r#"
    warning: 12 views are more than the 10 epochs that would see them
      --> config.toml:11:9
       |
    11 | views = 12
       |         ^^
       = help: an epoch that sees its views for the first time saves nothing; take fewer, or take it out
    "#);
}

#[test]
fn phases() {
    check!(replace("epochs = 10", "epochs = 10\nmixup = -1"), @r#"
    error: `phase[0].mixup` must be a number of at least 0, but it is -1
      --> config.toml:23:9
       |
    23 | mixup = -1
       |         ^^
    "#);
    check!(replace("epochs = 10", "epochs = 10\ncutmix = true"), @r#"
    error: `phase[0].cutmix` must be a number of at least 0, but it is true
      --> config.toml:23:10
       |
    23 | cutmix = true
       |          ^^^^
    "#);
    let alone = replace("batch_size = 32", "batch_size = 1");
    check!(alone.replace("epochs = 10", "epochs = 10\nmixup = 0.2"), @r#"
    error: `phase[0].mixup` mixes the pictures of a batch, and a batch is 1
      --> config.toml:23:9
       |
    23 | mixup = 0.2
       |         ^^^
       = help: set `train.batch_size` to 2 or more
    "#);
    check!(replace("epochs = 10", "epochs = 10\naugment = false"), @r#"
    warning: `phase[0].augment` has no effect: `data.augment` changes nothing
      --> config.toml:23:11
       |
    23 | augment = false
       |           ^^^^^
       = help: take it out
    "#);
    let unused = augment("crop = true");
    check!(unused.replace("epochs = 10", "epochs = 10\naugment = false"), @r#"
    warning: `data.augment` has no effect: every phase says `augment = false`
      --> config.toml:10:1
       |
    10 | [data.augment]
       | ^^^^^^^^^^^^^^
       = help: take that out of a phase, or take `[data.augment]` out
    "#);
}
