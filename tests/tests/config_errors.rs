//! Bad configurations, each with the exact message that it gets.

use std::ffi::OsString;
use std::path::Path;

use assert_cmd::Command;
use proptest::prelude::*;
use xp::config;

/// A good configuration, to be spoilt.
pub(super) const BASE: &str = r#"name = "flowers"
seed = 1

[data]
root = "photos"
split = { train = 0.8, val = 0.1, test = 0.1 }
image_size = 160

[model]
backbone = "mobilenet_v2"
weights = "timm/mobilenetv2_100.ra_in1k"
pooling = "avg"
head = [{ dense = 5 }]

[train]
loss = "auto"
batch_size = 32

[[phase]]
name = "warm"
freeze = "all"
epochs = 10
optimizer = { kind = "adam", lr = 0.001 }
"#;

/// The base with a part of it replaced.
pub(super) fn replace(part: &str, with: &str) -> String {
    assert!(BASE.contains(part), "the base has no {part}");
    BASE.replacen(part, with, 1)
}

/// The base with lines added at its end.
fn append(lines: &str) -> String {
    format!("{BASE}\n{lines}\n")
}

/// What is said about `config.toml` with other files beside it, overrides and variables.
fn errors(files: &[(&str, &str)], sets: &[&str], env: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
    let env = env
        .iter()
        .map(|(k, v)| (OsString::from(k), OsString::from(v)));
    let report = match config::load_with(&folder.path().join("config.toml"), &sets, env) {
        Ok(loaded) => loaded.report(&later_problems(&loaded)),
        Err(report) => report,
    };
    report
        .to_string()
        .replace(&format!("{}/", folder.path().display()), "")
}

/// Problems that only stages behind loading can see; none are known here yet.
fn later_problems(_loaded: &config::Loaded) -> Vec<config::Problem> {
    Vec::new()
}

/// Asserts what is said about a configuration.
macro_rules! check {
    ($toml:expr, @$snapshot:literal) => {
        insta::assert_snapshot!(errors(&[("config.toml", $toml.as_ref() as &str)], &[], &[]), @$snapshot)
    };
}

#[test]
fn the_base_is_good() {
    check!(BASE, @"");
}

#[test]
fn unknown_keys() {
    check!(replace("seed = 1", "sede = 1"), @r#"
    error: unknown key `sede`
     --> config.toml:2:1
      |
    2 | sede = 1
      | ^^^^
      = help: did you mean `seed`?
    "#);
    check!(replace("batch_size = 32", "batchsize = 32"), @r#"
    error: unknown key `batchsize` in `train`
      --> config.toml:17:1
       |
    17 | batchsize = 32
       | ^^^^^^^^^
       = help: did you mean `batch_size`?
    "#);
    check!(replace("lr = 0.001 }", "learning_rate = 0.001 }"), @r#"
    error: unknown key `learning_rate` in `phase[0].optimizer`
      --> config.toml:23:30
       |
    23 | optimizer = { kind = "adam", learning_rate = 0.001 }
       |                              ^^^^^^^^^^^^^
       = help: did you mean `lr`?
    "#);
    check!(replace("lr = 0.001 }", "lr = 0.001, momentum = 0.9 }"), @r#"
    error: unknown key `momentum` in `phase[0].optimizer`
      --> config.toml:23:42
       |
    23 | optimizer = { kind = "adam", lr = 0.001, momentum = 0.9 }
       |                                          ^^^^^^^^
       = help: `momentum` stands in `phase[0].optimizer`
    "#);
    check!(replace(r#"pooling = "avg""#, "pooling = \"avg\"\npoolin = \"max\""), @r#"
    error: unknown key `poolin` in `model`
      --> config.toml:13:1
       |
    13 | poolin = "max"
       | ^^^^^^
       = help: did you mean `pooling`?
    "#);
    check!(replace("batch_size = 32", "batch_size = 32\nflip_horizontal = true"), @r#"
    error: unknown key `flip_horizontal` in `train`
      --> config.toml:18:1
       |
    18 | flip_horizontal = true
       | ^^^^^^^^^^^^^^^
       = help: `flip_horizontal` stands in `data.augment`
    "#);
    check!(replace("seed = 1", r#"colour = "red""#), @r#"
    error: unknown key `colour`
     --> config.toml:2:1
      |
    2 | colour = "red"
      | ^^^^^^
      = help: known keys: `name`, `seed`, `device`, `precision`, `deterministic`, `threads`, `memory_limit`, `runs_dir`, `data`, `model`, `train`, `phase`, `cache`, `checkpoint`, `tracking`, `sweep`, `launcher` and `extends`
    "#);
    check!(replace("{ dense = 5 }", "{ dens = 5 }"), @r#"
    error: unknown key `dens` in `model.head[0]`
      --> config.toml:13:11
       |
    13 | head = [{ dens = 5 }]
       |           ^^^^
       = help: did you mean `dense`?
    "#);
    check!(replace("{ dense = 5 }", r#"{ dense = 5, activatoin = "relu" }"#), @r#"
    error: unknown key `activatoin` in `model.head[0]`
      --> config.toml:13:22
       |
    13 | head = [{ dense = 5, activatoin = "relu" }]
       |                      ^^^^^^^^^^
       = help: did you mean `activation`?
    "#);
    check!(append(r#"extends = "base.toml""#), @r#"
    error: unknown key `extends` in `phase[0]`
      --> config.toml:25:1
       |
    25 | extends = "base.toml"
       | ^^^^^^^
       = help: `extends` stands at the top, before the first `[table]`
    "#);
    check!(append("[trian]\nbatch_size = 3"), @r#"
    error: unknown key `trian`
      --> config.toml:25:2
       |
    25 | [trian]
       |  ^^^^^
       = help: did you mean `train`?
    "#);
}

#[test]
fn wrong_types() {
    check!(replace("batch_size = 32", r#"batch_size = "32""#), @r#"
    error: `train.batch_size` must be an integer from 1 to 65536, but it is the string "32"
      --> config.toml:17:14
       |
    17 | batch_size = "32"
       |              ^^^^
       = help: take the quotes away: 32
    "#);
    check!(replace("batch_size = 32", "batch_size = 32.0"), @r#"
    error: `train.batch_size` must be an integer from 1 to 65536, but it is 32.0
      --> config.toml:17:14
       |
    17 | batch_size = 32.0
       |              ^^^^
       = help: write 32
    "#);
    check!(replace(r#"name = "flowers""#, "name = 12"), @r#"
    error: `name` must be a string, but it is 12
     --> config.toml:1:8
      |
    1 | name = 12
      |        ^^
      = help: put it in quotes: "12"
    "#);
    check!(replace("[[phase]]", "[phase]"), @r#"
    error: `phase` must be an array of tables, but it is a table
      --> config.toml:19:1
       |
    19 | [phase]
       | ^^^^^^^
       = help: write `[[phase]]` instead of `[phase]`
    "#);
    check!(replace("split = { train = 0.8, val = 0.1, test = 0.1 }", "split = 0.8"), @r#"
    error: `data.split` must be a table, but it is 0.8
     --> config.toml:6:9
      |
    6 | split = 0.8
      |         ^^^
    "#);
    check!(replace(r#"{ kind = "adam", lr = 0.001 }"#, r#""adam""#), @r#"
    error: `phase[0].optimizer` must be a table with `kind` and `lr`, but it is the string "adam"
      --> config.toml:23:13
       |
    23 | optimizer = "adam"
       |             ^^^^^^
       = help: write `optimizer = { kind = "adam" }`
    "#);
    check!(format!("{BASE}schedule = \"cosine\"\n"), @r#"
    error: `phase[0].schedule` must be a table with `kind`, but it is the string "cosine"
      --> config.toml:24:12
       |
    24 | schedule = "cosine"
       |            ^^^^^^^^
       = help: write `schedule = { kind = "cosine" }`
    "#);
    check!(replace("image_size = 160", r#"image_size = "160""#), @r#"
    error: `data.image_size` must be an integer from 8 to 4096 or an array of 2 integers from 8 to 4096, but it is the string "160"
     --> config.toml:7:14
      |
    7 | image_size = "160"
      |              ^^^^^
    "#);
    check!(replace("image_size = 160", "image_size = [160]"), @r#"
    error: `data.image_size` must be an array of 2 integers from 8 to 4096, but it has 1
     --> config.toml:7:14
      |
    7 | image_size = [160]
      |              ^^^^^
    "#);
    check!(replace(r#"backbone = "mobilenet_v2""#, r#"backbone = ["mobilenet_v2"]"#), @r#"
    error: `model.backbone` must be a string, but it is an array
      --> config.toml:10:12
       |
    10 | backbone = ["mobilenet_v2"]
       |            ^^^^^^^^^^^^^^^^
    "#);
    check!(replace("{ dense = 5 }", "{ dense = 5 }, [1]"), @r#"
    error: `model.head[1]` must be `"batch_norm"`, `"relu"`, `"flatten"`, `"avg_pool"`, `"max_pool"` or a table with `dense`, `dropout` or `conv2d`, but it is an array
      --> config.toml:13:24
       |
    13 | head = [{ dense = 5 }, [1]]
       |                        ^^^
    "#);
    check!(replace("batch_size = 32", r#"evaluate_first = "true""#), @r#"
    error: `train.evaluate_first` must be true or false, but it is the string "true"
      --> config.toml:17:18
       |
    17 | evaluate_first = "true"
       |                  ^^^^^^
       = help: take the quotes away: true
    "#);
    check!(replace("seed = 1", "seed = 2026-11-21"), @r#"
    error: `seed` must be an integer of at least 0, but it is a date
     --> config.toml:2:8
      |
    2 | seed = 2026-11-21
      |        ^^^^^^^^^^
    "#);
    check!(replace(r#"freeze = "all""#, "freeze = true"), @r#"
    error: `phase[0].freeze` must be a string or an array of strings, but it is true
      --> config.toml:21:10
       |
    21 | freeze = true
       |          ^^^^
    "#);
    check!(replace(r#"freeze = "all""#, "freeze_before = 1.5"), @r#"
    error: `phase[0].freeze_before` must be an integer or a string, but it is 1.5
      --> config.toml:21:17
       |
    21 | freeze_before = 1.5
       |                 ^^^
    "#);
    check!(replace("[{ dense = 5 }]", "{ dense = 5 }"), @r#"
    error: `model.head` must be an array, but it is a table
      --> config.toml:13:8
       |
    13 | head = { dense = 5 }
       |        ^^^^^^^^^^^^^
       = help: put it in brackets: `model.head = [...]`
    "#);
    check!(replace("batch_size = 32", r#"class_weights = { daisy = "much" }"#), @r#"
    error: `train.class_weights.daisy` must be a number, but it is the string "much"
      --> config.toml:17:27
       |
    17 | class_weights = { daisy = "much" }
       |                           ^^^^^^
    "#);
    check!(replace("image_size = 160", "normalize = { mean = [0.5], std = [0.5, 0.5, 0.5] }"), @r#"
    error: `data.normalize.mean` must be an array of 3 numbers, but it has 1
     --> config.toml:7:22
      |
    7 | normalize = { mean = [0.5], std = [0.5, 0.5, 0.5] }
      |                      ^^^^^
    "#);
}

#[test]
fn values_out_of_range() {
    check!(replace("batch_size = 32", "batch_size = 0"), @r#"
    error: `train.batch_size` must be an integer from 1 to 65536, but it is 0
      --> config.toml:17:14
       |
    17 | batch_size = 0
       |              ^
    "#);
    check!(replace("epochs = 10", "epochs = -1"), @r#"
    error: `phase[0].epochs` must be an integer from 1 to 100000, but it is -1
      --> config.toml:22:10
       |
    22 | epochs = -1
       |          ^^
    "#);
    check!(replace("lr = 0.001", "lr = 0"), @r#"
    error: `phase[0].optimizer.lr` must be a number greater than 0, but it is 0
      --> config.toml:23:35
       |
    23 | optimizer = { kind = "adam", lr = 0 }
       |                                   ^
    "#);
    check!(replace("lr = 0.001", "lr = -0.1"), @r#"
    error: `phase[0].optimizer.lr` must be a number greater than 0, but it is -0.1
      --> config.toml:23:35
       |
    23 | optimizer = { kind = "adam", lr = -0.1 }
       |                                   ^^^^
    "#);
    check!(replace("lr = 0.001", "lr = nan"), @r#"
    error: `phase[0].optimizer.lr` must be a number greater than 0, but it is NaN
      --> config.toml:23:35
       |
    23 | optimizer = { kind = "adam", lr = nan }
       |                                   ^^^
    "#);
    check!(replace("lr = 0.001", "lr = inf"), @r#"
    error: `phase[0].optimizer.lr` must be a number greater than 0, but it is inf
      --> config.toml:23:35
       |
    23 | optimizer = { kind = "adam", lr = inf }
       |                                   ^^^
    "#);
    check!(replace("lr = 0.001", "lr = 0.001, beta2 = 1.0"), @r#"
    error: `phase[0].optimizer.beta2` must be a number of at least 0 and less than 1, but it is 1.0
      --> config.toml:23:50
       |
    23 | optimizer = { kind = "adam", lr = 0.001, beta2 = 1.0 }
       |                                                  ^^^
    "#);
    check!(replace("{ dense = 5 }", "{ dropout = 1.5 }, { dense = 5 }"), @r#"
    error: `model.head[0].dropout` must be a number from 0 to 0.99, but it is 1.5
      --> config.toml:13:21
       |
    13 | head = [{ dropout = 1.5 }, { dense = 5 }]
       |                     ^^^
    "#);
    check!(replace("image_size = 160", "image_size = [160, 4]"), @r#"
    error: `data.image_size[1]` must be an integer from 8 to 4096, but it is 4
     --> config.toml:7:20
      |
    7 | image_size = [160, 4]
      |                    ^
    "#);
    check!(replace("seed = 1", "seed = 99999999999999999999"), @r#"
    error: `seed` must be an integer of at least 0, but it is 99999999999999999999
     --> config.toml:2:8
      |
    2 | seed = 99999999999999999999
      |        ^^^^^^^^^^^^^^^^^^^^
      = help: the largest integer is 9223372036854775807
    "#);
    check!(replace("batch_size = 32", "label_smoothing = 1"), @r#"
    error: `train.label_smoothing` must be a number from 0 to 0.99, but it is 1
      --> config.toml:17:19
       |
    17 | label_smoothing = 1
       |                   ^
    "#);
}

#[test]
fn unknown_names() {
    check!(replace(r#"loss = "auto""#, r#"loss = "binary_crossentropy""#), @r#"
    error: unknown value "binary_crossentropy" for `train.loss`
      --> config.toml:16:8
       |
    16 | loss = "binary_crossentropy"
       |        ^^^^^^^^^^^^^^^^^^^^^
       = help: did you mean `"binary_cross_entropy"`?
       = help: known values: `"auto"`, `"binary_cross_entropy"` or `"categorical_cross_entropy"`
    "#);
    check!(replace(r#"kind = "adam""#, r#"kind = "adamm""#), @r#"
    error: unknown value "adamm" for `phase[0].optimizer.kind`
      --> config.toml:23:22
       |
    23 | optimizer = { kind = "adamm", lr = 0.001 }
       |                      ^^^^^^^
       = help: did you mean `"adam"`?
       = help: known values: `"sgd"`, `"rmsprop"`, `"adam"` or `"adamw"`
    "#);
    check!(replace(r#"kind = "adam""#, "kind = 3"), @r#"
    error: `phase[0].optimizer.kind` must be `"sgd"`, `"rmsprop"`, `"adam"` or `"adamw"`, but it is 3
      --> config.toml:23:22
       |
    23 | optimizer = { kind = 3, lr = 0.001 }
       |                      ^
    "#);
    check!(replace("{ dense = 5 }", r#""reluu", { dense = 5 }"#), @r#"
    error: unknown value "reluu" for `model.head[0]`
      --> config.toml:13:9
       |
    13 | head = ["reluu", { dense = 5 }]
       |         ^^^^^^^
       = help: did you mean `"relu"`?
       = help: known values: `"batch_norm"`, `"relu"`, `"flatten"`, `"avg_pool"`, `"max_pool"` or a table with `dense`, `dropout` or `conv2d`
    "#);
    check!(replace("{ dense = 5 }", r#""dense""#), @r#"
    error: unknown value "dense" for `model.head[0]`
      --> config.toml:13:9
       |
    13 | head = ["dense"]
       |         ^^^^^^^
       = help: write `{ dense = ... }`
       = help: known values: `"batch_norm"`, `"relu"`, `"flatten"`, `"avg_pool"`, `"max_pool"` or a table with `dense`, `dropout` or `conv2d`
    "#);
    check!(replace("{ dense = 5 }", "{ size = 5 }"), @r#"
    error: `model.head[0]` must be `"batch_norm"`, `"relu"`, `"flatten"`, `"avg_pool"`, `"max_pool"` or a table with `dense`, `dropout` or `conv2d`
      --> config.toml:13:9
       |
    13 | head = [{ size = 5 }]
       |         ^^^^^^^^^^^^
    "#);
    check!(replace("image_size = 160", r#"normalize = "image_net""#), @r#"
    error: unknown value "image_net" for `data.normalize`
     --> config.toml:7:13
      |
    7 | normalize = "image_net"
      |             ^^^^^^^^^^^
      = help: did you mean `"imagenet"`?
      = help: known values: `"minus_one_one"`, `"zero_one"`, `"imagenet"`, `"caffe"` or a table with `mean` and `std`
    "#);
    check!(replace("batch_size = 32", r#"class_weights = "balance""#), @r#"
    error: unknown value "balance" for `train.class_weights`
      --> config.toml:17:17
       |
    17 | class_weights = "balance"
       |                 ^^^^^^^^^
       = help: did you mean `"balanced"`?
       = help: known values: `"balanced"` or a table
    "#);
    check!(replace(r#"pooling = "avg""#, r#"pooling = "spatial""#), @r#"
    error: unknown value "spatial" for `model.pooling`
      --> config.toml:12:11
       |
    12 | pooling = "spatial"
       |           ^^^^^^^^^
       = help: known values: `"auto"`, `"avg"`, `"max"` or `"none"`
    "#);
    check!(replace("seed = 1", r#"device = "gpu""#), @r#"
    error: there is no device `gpu`
     --> config.toml:2:10
      |
    2 | device = "gpu"
      |          ^^^^^
      = help: did you mean `"cuda"`?
    "#);
    check!(replace("epochs = 10", "epochs = 10\nschedule = { kind = \"cosin\" }"), @r#"
    error: unknown value "cosin" for `phase[0].schedule.kind`
      --> config.toml:23:21
       |
    23 | schedule = { kind = "cosin" }
       |                     ^^^^^^^
       = help: did you mean `"cosine"`?
       = help: known values: `"constant"`, `"cosine"`, `"linear"` or `"step"`
    "#);
}

#[test]
fn missing_keys() {
    check!(replace(r#"name = "flowers""#, ""), @r#"
    error: missing key `name`
     --> config.toml:1:1
      |
    1 |
      | ^
      = help: `name`: Name of the experiment; part of the run directory's name
    "#);
    check!(replace(r#"backbone = "mobilenet_v2""#, ""), @r#"
    error: missing key `backbone` in `model`
     --> config.toml:9:1
      |
    9 | [model]
      | ^^^^^^^
      = help: `backbone`: Name of the backbone, for example `mobilenet_v2`
    "#);
    check!(replace(r#"optimizer = { kind = "adam", lr = 0.001 }"#, ""), @r#"
    error: missing key `optimizer` in `phase[0]`
      --> config.toml:19:1
       |
    19 | [[phase]]
       | ^^^^^^^^^
       = help: `optimizer`: How parameters move
    "#);
    check!(replace("lr = 0.001 }", "}"), @r#"
    error: missing key `lr` in `phase[0].optimizer`
      --> config.toml:23:13
       |
    23 | optimizer = { kind = "adam", }
       |             ^^^^^^^^^^^^^^^^^^
       = help: `lr`: Learning rate
    "#);
    check!(replace(r#"kind = "adam", "#, ""), @r#"
    error: missing key `kind` in `phase[0].optimizer`
      --> config.toml:23:13
       |
    23 | optimizer = { lr = 0.001 }
       |             ^^^^^^^^^^^^^^
       = help: it is `"sgd"`, `"rmsprop"`, `"adam"` or `"adamw"`
    "#);
    check!(replace("epochs = 10", "epochs = 10\nschedule = { kind = \"step\" }"), @r#"
    error: `phase[0].schedule` has neither `every_epochs` nor `every_steps`
      --> config.toml:23:12
       |
    23 | schedule = { kind = "step" }
       |            ^^^^^^^^^^^^^^^^^
       = help: say when the rate drops, for example `every_epochs = 3`
    "#);
    check!("", @r#"
    error: missing key `name`
     --> config.toml:1:1
      |
    1 |
      | ^
      = help: `name`: Name of the experiment; part of the run directory's name

    error: missing key `data`
     --> config.toml:1:1
      |
    1 |
      | ^
      = help: `data`: The pictures and how they are split and prepared

    error: missing key `model`
     --> config.toml:1:1
      |
    1 |
      | ^
      = help: `model`: Backbone, weights and head

    error: missing key `phase`
     --> config.toml:1:1
      |
    1 |
      | ^
      = help: `phase`: The phases, in order; typically feature extraction, then fine-tuning

    4 problems
    "#);
}

#[test]
fn broken_toml() {
    check!(replace("seed = 1", "seed = "), @r#"
    error: this is not TOML: the value is missing or not in quotes
     --> config.toml:2:8
      |
    2 | seed =
      |        ^
    "#);
    check!(replace("seed = 1", "seed = 1\nseed = 2"), @r#"
    error: this key is set twice
     --> config.toml:3:1
      |
    3 | seed = 2
      | ^^^^
    "#);
    check!(replace(r#"name = "flowers""#, r#"name = "flowers"#), @r#"
    error: this is not TOML: invalid basic string, expected `"`
     --> config.toml:1:16
      |
    1 | name = "flowers
      |                ^
    "#);
    check!(replace("[train]", "[train"), @r#"
    error: this is not TOML: unclosed table, expected `]`
      --> config.toml:15:7
       |
    15 | [train
       |       ^
    "#);
    check!(append("[data]\nroot = \"again\""), @r#"
    error: this key is set twice
      --> config.toml:25:2
       |
    25 | [data]
       |  ^^^^

    error: this key is set twice
      --> config.toml:26:1
       |
    26 | root = "again"
       | ^^^^

    2 problems
    "#);
}

const ROOT: &str = r#"root = "photos""#;

#[test]
fn sources_of_pictures_that_cannot_be() {
    check!(replace(ROOT, "preset = \"flowers\""), @r#"
    error: unknown value "flowers" for `data.preset`
     --> config.toml:5:10
      |
    5 | preset = "flowers"
      |          ^^^^^^^^^
      = help: did you mean `"tf_flowers"`?
      = help: known values: `"tf_flowers"`, `"cats_vs_dogs"` or `"ants_bees"`
    "#);
    check!(replace(ROOT, "preset = \"tf_flowers\"\nhf = \"a/b\""), @r#"
    error: `data` has two sources of pictures, `preset` and `hf`
     --> config.toml:6:6
      |
    6 | hf = "a/b"
      |      ^^^^^
      = help: keep one of them
    "#);
    check!(replace(ROOT, "url = \"example.org/x.tgz\""), @r#"
    error: `example.org/x.tgz` is no address
     --> config.toml:5:7
      |
    5 | url = "example.org/x.tgz"
      |       ^^^^^^^^^^^^^^^^^^^
      = help: begin it with `https://`; for a folder on this disk set `data.root`
    "#);
    check!(replace(ROOT, "url = \"http://example.org/x.tgz\""), @r#"
    error: `http://` needs a `sha256`
     --> config.toml:5:7
      |
    5 | url = "http://example.org/x.tgz"
      |       ^^^^^^^^^^^^^^^^^^^^^^^^^^
      = help: anyone on the way can change what comes by `http://`: set `data.sha256`, or use `https://`
    "#);
    check!(replace(ROOT, "url = \"https://example.org/x.tgz#sha256=12\""), @r#"
    error: the address has a `#` in it
     --> config.toml:5:7
      |
    5 | url = "https://example.org/x.tgz#sha256=12"
      |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = help: give the checksum as `data.sha256`, and the address without `#`
    "#);
    check!(replace(ROOT, "url = \"https://example.org/x.tgz\"\nsha256 = \"12\""), @r#"
    error: `data.sha256` must be 64 hexadecimal digits, not `12`
     --> config.toml:6:10
      |
    6 | sha256 = "12"
      |          ^^^^
      = help: `sha256sum FILE` prints them
    "#);
    check!(replace(ROOT, "url = \"https://example.org/x.tgz\"\ninside = \"../x\""), @r#"
    error: `data.inside` is no folder within the archive: `../x`
     --> config.toml:6:10
      |
    6 | inside = "../x"
      |          ^^^^^^
      = help: name it as `folder/folder`
    "#);
    check!(replace(ROOT, "root = \"photos\"\ninside = \"x\""), @r#"
    error: `data.inside` has no effect without `url` or `preset`
     --> config.toml:6:10
      |
    6 | inside = "x"
      |          ^^^
      = help: take it out
    "#);
    check!(replace(ROOT, "root = \"photos\"\ncreate_manifest = true"), @r"
    error: `data.create_manifest` needs `root` and `manifest`
     --> config.toml:6:19
      |
    6 | create_manifest = true
      |                   ^^^^
      = help: set `data.root` to the class folders and `data.manifest` to the file to write
    ");
    check!(replace(ROOT, "root = \"photos\"\nallow_outside = true"), @r"
    error: `data.allow_outside` has no effect without a manifest
     --> config.toml:6:17
      |
    6 | allow_outside = true
      |                 ^^^^
      = help: take it out
    ");
    check!(replace(ROOT, "root = \"photos\"\ncolumns = { image = \"img\" }"), @r#"
    error: `data.columns` has no effect without `parquet` or `hf`
     --> config.toml:6:11
      |
    6 | columns = { image = "img" }
      |           ^^^^^^^^^^^^^^^^^
      = help: take it out
    "#);
    check!(replace(ROOT, "root = \"photos\"\nmax_per_class = 0"), @r"
    error: `data.max_per_class` must be an integer from 1 to 1000000000, but it is 0
     --> config.toml:6:17
      |
    6 | max_per_class = 0
      |                 ^
    ");
    check!(replace(ROOT, "root = \"photos\"\nlabels = \"\""), @r#"
    error: `data.labels` is empty
     --> config.toml:6:10
      |
    6 | labels = ""
      |          ^^
      = help: name a path, relative to this file
    "#);
    check!(replace(ROOT, "parquet = []"), @r"
    error: `data.parquet` must be an array of strings, but it has 0
     --> config.toml:5:11
      |
    5 | parquet = []
      |           ^^
    ");
    check!(replace(ROOT, "parquet = [\"\"]"), @r#"
    error: `data.parquet` holds an empty path
     --> config.toml:5:11
      |
    5 | parquet = [""]
      |           ^^^^
      = help: name files or folders, relative to this file
    "#);
    check!(replace(ROOT, "hf = \"a/b/c\""), @r#"
    error: `a/b/c` is no data set of the hub
     --> config.toml:5:6
      |
    5 | hf = "a/b/c"
      |      ^^^^^^^
      = help: write `owner/name`, or `owner/name@revision`
    "#);
    check!(replace(ROOT, "hf = { repo = \"a/b\", revision = \"../x\" }"), @r#"
    error: `../x` is no revision
     --> config.toml:5:33
      |
    5 | hf = { repo = "a/b", revision = "../x" }
      |                                 ^^^^^^
      = help: name a branch, a tag or a commit
    "#);
    check!(replace(ROOT, "hf = { repo = \"a/b\", split = \"x\" }"), @r#"
    error: unknown key `split` in `data.hf`
     --> config.toml:5:22
      |
    5 | hf = { repo = "a/b", split = "x" }
      |                      ^^^^^
      = help: `split` stands in `data`
    "#);
    check!(replace(ROOT, "hf = { revision = \"x\" }"), @r#"
    error: missing key `repo` in `data.hf`
     --> config.toml:5:6
      |
    5 | hf = { revision = "x" }
      |      ^^^^^^^^^^^^^^^^^^
      = help: `repo`: `owner/name`
    "#);
    check!(replace(ROOT, "hf = \"a/b\"").replace("{ train = 0.8, val = 0.1, test = 0.1 }", "{ by = \"folders\" }"), @r#"
    error: `by = "folders"` needs folders of pictures
     --> config.toml:6:16
      |
    6 | split = { by = "folders" }
      |                ^^^^^^^^^
      = help: choose `by = "given"` for the split of the files, or `by = "ratio"`
    "#);
    check!(replace(ROOT, "generate = { kind = \"shapes\", per_class = 9 }").replace("{ train = 0.8, val = 0.1, test = 0.1 }", "{ by = \"given\" }"), @r#"
    error: generated pictures come with no split
     --> config.toml:6:16
      |
    6 | split = { by = "given" }
      |                ^^^^^^^
      = help: choose `by = "ratio"`
    "#);
    check!(replace("split = { train = 0.8, val = 0.1, test = 0.1 }", "manifest = \"m.csv\"\ncreate_manifest = true\nsplit = { by = \"column\", train = 0.9 }"), @r#"
    error: the shares of `data.split` must sum to 1, but 0.9 + 0.1 + 0.1 = 1.1
     --> config.toml:8:9
      |
    8 | split = { by = "column", train = 0.9 }
      |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = help: shares left out are train = 0.8, val = 0.1, test = 0.1
    "#);
}

#[test]
fn sources_of_pictures_that_are_good() {
    for source in [
        "preset = \"tf_flowers\"",
        "preset = \"cats_vs_dogs\"\nurl = \"https://mirror/x.zip\"",
        "url = \"https://example.org/x.tgz\"\ninside = \"a/b\"\nclass_from = \"leaf\"",
        "hf = \"owner/name@refs/convert/parquet\"",
        "hf = { repo = \"name\", config = \"small\" }\ncolumns = { label = \"x\" }",
        "parquet = \"x.parquet\"",
        "parquet = [\"a\", \"b\"]",
        "root = \"x\"\nmanifest = \"y\"\ncreate_manifest = true\nclass_from = \"leaf\"",
        "manifest = \"y\"\nallow_outside = true\nlabels = \"imagenet\"",
    ] {
        let text = replace(ROOT, source);
        assert_eq!(errors(&[("config.toml", &text)], &[], &[]), "", "{source}");
    }
}

#[test]
fn a_source_in_a_higher_layer_is_meant_instead() {
    let text = replace(
        ROOT,
        "preset = \"tf_flowers\"\nsha256 = \"0\"\ninside = \"x\"",
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    let sets = ["data.root=photos".to_owned()];
    let loaded = config::load_with(&path, &sets, []).unwrap();
    let data = &loaded.experiment.data;
    assert!(data.root.is_some());
    assert_eq!(
        (data.preset, &data.sha256, &data.inside),
        (None, &None, &None)
    );
    // Paths of a list start at the file, too.
    let text = replace(ROOT, "parquet = [\"a\", \"../b\"]\nlabels = \"imagenet\"");
    std::fs::write(&path, text).unwrap();
    let loaded = config::load_with(&path, &[], []).unwrap();
    let files = loaded.experiment.data.parquet.unwrap();
    assert!(
        files.paths().iter().all(|path| path.is_absolute()),
        "{files:?}"
    );
    assert_eq!(
        loaded.experiment.data.labels.unwrap(),
        Path::new("imagenet")
    );
}

#[test]
fn data_that_cannot_be() {
    check!(replace("train = 0.8, val = 0.1", "train = 0.7, val = 0.1"), @r#"
    error: the shares of `data.split` must sum to 1, but 0.7 + 0.1 + 0.1 = 0.9
     --> config.toml:6:9
      |
    6 | split = { train = 0.7, val = 0.1, test = 0.1 }
      |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = help: shares left out are train = 0.8, val = 0.1, test = 0.1
    "#);
    check!(replace(r#"root = "photos""#, ""), @r#"
    error: there is no source of pictures in `data`
     --> config.toml:4:1
      |
    4 | [data]
      | ^^^^^^
      = help: set `data.root` to a folder of class folders, or `data.manifest` to a CSV file, or name a `preset`, `url`, `parquet`, `hf` or `generate`
    "#);
    check!(replace(r#"root = "photos""#, "root = \"photos\"\ngenerate = { kind = \"patterns\", per_class = 9 }"), @r#"
    error: `data` has two sources of pictures, `root` and `generate`
     --> config.toml:6:12
      |
    6 | generate = { kind = "patterns", per_class = 9 }
      |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = help: keep one of them
    "#);
    check!(replace(r#"root = "photos""#, r#"root = """#), @r#"
    error: `data.root` is empty
     --> config.toml:5:8
      |
    5 | root = ""
      |        ^^
      = help: name a path, relative to this file
    "#);
    check!(replace("{ train = 0.8, val = 0.1, test = 0.1 }", r#"{ by = "column" }"#), @r#"
    error: `by = "column"` needs a manifest
     --> config.toml:6:16
      |
    6 | split = { by = "column" }
      |                ^^^^^^^^
      = help: set `data.manifest`, or choose `by = "ratio"`
    "#);
    check!(replace("{ train = 0.8, val = 0.1, test = 0.1 }", r#"{ by = "folders", val = 0.1 }"#), @r#"
    error: `data.split.val` has no effect with `by = "folders"`
     --> config.toml:6:33
      |
    6 | split = { by = "folders", val = 0.1 }
      |                                 ^^^
      = help: take it out, or set `by = "ratio"`
    "#);
    check!(replace("{ train = 0.8, val = 0.1, test = 0.1 }", "{ train = 0, val = 0.5, test = 0.5 }"), @r#"
    error: there is nothing to train on
     --> config.toml:6:19
      |
    6 | split = { train = 0, val = 0.5, test = 0.5 }
      |                   ^
      = help: give training a share
    "#);
    check!(replace("image_size = 160", "image_size = 160\naugment = { crop = true }"), @r#"
    error: `crop` needs a `resize` to crop out of
     --> config.toml:8:20
      |
    8 | augment = { crop = true }
      |                    ^^^^
      = help: set `data.resize` to more than `data.image_size`
    "#);
    check!(replace("image_size = 160", "image_size = 160\nresize = 128"), @r#"
    error: `data.resize` (128x128) is smaller than `data.image_size` (160x160)
     --> config.toml:8:10
      |
    8 | resize = 128
      |          ^^^
      = help: `image_size` is cropped out of `resize`
    "#);
    check!(replace("image_size = 160", "image_size = 160\nresize = 160\naugment = { crop = true }"), @r#"
    error: `crop` has no room: `resize` equals `image_size`
     --> config.toml:9:20
      |
    9 | augment = { crop = true }
      |                    ^^^^
      = help: set `data.resize` to more than `data.image_size`
    "#);
    check!(replace("image_size = 160", "normalize = { mean = [0, 0, 0], std = [1, 0.0, 1] }"), @r#"
    error: `data.normalize.std[1]` must be greater than 0, but it is 0
     --> config.toml:7:43
      |
    7 | normalize = { mean = [0, 0, 0], std = [1, 0.0, 1] }
      |                                           ^^^
      = help: values are divided by it
    "#);
    check!(replace(r#"root = "photos""#, "manifest = \"list.csv\"\nclass_from = \"leaf\""), @r#"
    error: `data.class_from` has no effect without folders
     --> config.toml:6:14
      |
    6 | class_from = "leaf"
      |              ^^^^^^
      = help: take it out
    "#);
}

#[test]
fn heads_that_cannot_be() {
    check!(replace("{ dense = 5 }", ""), @r#"
    error: `model.head` is empty
      --> config.toml:13:8
       |
    13 | head = []
       |        ^^
       = help: end it with one output a class, for example `head = [{ dense = 5 }]`
    "#);
    check!(replace("{ dense = 5 }", "{ dense = 5 }, { dropout = 0.2 }"), @r#"
    error: the head does not end with a layer that gives logits
      --> config.toml:13:24
       |
    13 | head = [{ dense = 5 }, { dropout = 0.2 }]
       |                        ^^^^^^^^^^^^^^^^^
       = help: end it with one output a class, for example `{ dense = 5 }`
    "#);
    check!(replace("{ dense = 5 }", r#""relu""#), @r#"
    error: the head does not end with a layer that gives logits
      --> config.toml:13:9
       |
    13 | head = ["relu"]
       |         ^^^^^^
       = help: end it with one output a class, for example `{ dense = 5 }`
    "#);
    check!(replace("{ dense = 5 }", r#"{ dense = 5, activation = "relu" }"#), @r#"
    error: the last layer of the head has an activation
      --> config.toml:13:35
       |
    13 | head = [{ dense = 5, activation = "relu" }]
       |                                   ^^^^^^
       = help: take it out: the loss applies sigmoid or softmax
    "#);
    check!(replace("{ dense = 5 }", r#"{ conv2d = 5 }, "avg_pool""#), @r#"
    error: `conv2d` needs a feature map, but receives a vector
      --> config.toml:13:9
       |
    13 | head = [{ conv2d = 5 }, "avg_pool"]
       |         ^^^^^^^^^^^^^^
       = help: set `model.pooling = "none"` and pool or flatten after it
    "#);
    check!(replace(r#"pooling = "avg""#, r#"pooling = "none""#), @r#"
    error: `dense` needs a vector, but receives a feature map
      --> config.toml:13:9
       |
    13 | head = [{ dense = 5 }]
       |         ^^^^^^^^^^^^^
       = help: put "flatten" or "avg_pool" before it, or set `model.pooling`
    "#);
    check!(replace("pooling = \"avg\"\nhead = [{ dense = 5 }]", "pooling = \"none\"\nhead = [{ conv2d = 5 }]"), @r#"
    error: the head ends with a feature map
      --> config.toml:13:9
       |
    13 | head = [{ conv2d = 5 }]
       |         ^^^^^^^^^^^^^^
       = help: end it with "flatten", "avg_pool" or "max_pool"
    "#);
    check!(replace(r#"loss = "auto""#, r#"loss = "binary_cross_entropy""#), @r#"
    error: binary cross entropy needs one output, but the head has 5
      --> config.toml:16:8
       |
    16 | loss = "binary_cross_entropy"
       |        ^^^^^^^^^^^^^^^^^^^^^^
       = help: set `{ dense = 1 }`, or `loss = "auto"`
    "#);
    check!(replace("[{ dense = 5 }]\n\n[train]\nloss = \"auto\"", "[{ dense = 1 }]\n\n[train]\nloss = \"categorical_cross_entropy\""), @r#"
    error: categorical cross entropy needs one output a class, but the head has 1
      --> config.toml:16:8
       |
    16 | loss = "categorical_cross_entropy"
       |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: set `dense` to the number of classes, or `loss = "auto"`
    "#);
}

#[test]
fn training_that_cannot_be() {
    check!(replace("batch_size = 32", r#"class_weights = { "sun flower" = -1.0 }"#), @r#"
    error: `train.class_weights."sun flower"` must not be negative, but it is -1
      --> config.toml:17:34
       |
    17 | class_weights = { "sun flower" = -1.0 }
       |                                  ^^^^
       = help: a class of weight 0 does not count at all
    "#);
    check!(replace(r#"name = "flowers""#, "name = \"flowers\"\nmemory_limit = \"much\""), @r#"
    error: `memory_limit` is no size: `much`
     --> config.toml:2:16
      |
    2 | memory_limit = "much"
      |                ^^^^^^
      = help: write `"4GB"`, `"512MiB"` or `"0"`
    "#);
    check!(replace(r#"name = "warm""#, r#"name = """#), @r#"
    error: `phase[0].name` is empty
      --> config.toml:20:8
       |
    20 | name = ""
       |        ^^
       = help: give it a name
    "#);
    check!(replace(r#"name = "flowers""#, r#"name = "my flowers""#), @r#"
    error: `name` contains ' '
     --> config.toml:1:8
      |
    1 | name = "my flowers"
      |        ^^^^^^^^^^^^
      = help: use letters, digits, `_`, `-` and `.`
    "#);
    check!(replace(r#"name = "flowers""#, r#"name = "../flowers""#), @r#"
    error: `name` contains '/'
     --> config.toml:1:8
      |
    1 | name = "../flowers"
      |        ^^^^^^^^^^^^
      = help: use letters, digits, `_`, `-` and `.`
    "#);
    check!(replace(r#"weights = "timm/mobilenetv2_100.ra_in1k""#, r#"weights = """#), @r#"
    error: `model.weights` is empty
      --> config.toml:11:11
       |
    11 | weights = ""
       |           ^^
       = help: name one, or take the key out
    "#);
    check!(append("[[phase]]\nname = \"warm\"\nepochs = 1\noptimizer = { kind = \"sgd\", lr = 0.1, nesterov = true }"), @r#"
    error: `phase[1]` has the same name as `phase[0]`
      --> config.toml:26:8
       |
    26 | name = "warm"
       |        ^^^^^^
       = help: logs and plots tell phases by their names

    error: `nesterov` needs momentum
      --> config.toml:28:50
       |
    28 | optimizer = { kind = "sgd", lr = 0.1, nesterov = true }
       |                                                  ^^^^
       = help: set `momentum`, for example 0.9

    2 problems
    "#);
    check!(replace(r#"freeze = "all""#, "freeze = \"all\"\nfreeze_before = 100"), @r#"
    error: `phase[0]` has both `freeze` and `freeze_before`
      --> config.toml:22:17
       |
    22 | freeze_before = 100
       |                 ^^^
       = help: keep one of them
    "#);
    check!(replace(r#"freeze = "all""#, "freeze = []"), @r#"
    error: `phase[0].freeze` is empty
      --> config.toml:21:10
       |
    21 | freeze = []
       |          ^^
       = help: write `"none"` to freeze nothing
    "#);
    check!(replace(r#"freeze = "all""#, r#"freeze = ["all"]"#), @r#"
    error: `"all"` stands alone
      --> config.toml:21:11
       |
    21 | freeze = ["all"]
       |           ^^^^^
       = help: write `freeze = "all"`
    "#);
    check!(replace(r#"freeze = "all""#, "freeze_before = 0"), @r#"
    error: `phase[0].freeze_before` is 0, which freezes nothing
      --> config.toml:21:17
       |
    21 | freeze_before = 0
       |                 ^
       = help: write `freeze = "none"` to train all layers
    "#);
    check!(replace("epochs = 10", "epochs = 10\nschedule = { kind = \"linear\", warmup_epochs = 20 }"), @r#"
    error: the warm-up (20 epochs) is longer than the phase (10)
      --> config.toml:23:47
       |
    23 | schedule = { kind = "linear", warmup_epochs = 20 }
       |                                               ^^
       = help: shorten it, or give the phase more epochs
    "#);
    check!(BASE.split("[[phase]]").next().unwrap_or_default().replace("name", "phase = []\nname"), @r#"
    error: there is no phase, so nothing would be trained
     --> config.toml:1:9
      |
    1 | phase = []
      |         ^^
      = help: add one: `[[phase]]` with `name`, `epochs` and `optimizer`
    "#);
    check!(replace("val = 0.1, test = 0.1", "val = 0, test = 0.2").replace("batch_size = 32", "early_stopping = { patience = 3 }"), @r#"
    error: `train.early_stopping` needs validation pictures, but `data.split.val` is 0
      --> config.toml:17:18
       |
    17 | early_stopping = { patience = 3 }
       |                  ^^^^^^^^^^^^^^^^
       = help: take it out, or give `data.split.val` a share
    "#);
}

#[test]
fn all_problems_are_told_at_once() {
    let text = replace("seed = 1", "sede = 1")
        .replace("batch_size = 32", "batch_size = 0")
        .replace("loss = \"auto\"", "loss = \"ce\"")
        .replace("train = 0.8", "train = 0.9")
        .replace("epochs = 10\n", "");
    check!(text, @r#"
    error: unknown key `sede`
     --> config.toml:2:1
      |
    2 | sede = 1
      | ^^^^
      = help: did you mean `seed`?

    error: the shares of `data.split` must sum to 1, but 0.9 + 0.1 + 0.1 = 1.1
     --> config.toml:6:9
      |
    6 | split = { train = 0.9, val = 0.1, test = 0.1 }
      |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = help: shares left out are train = 0.8, val = 0.1, test = 0.1

    error: unknown value "ce" for `train.loss`
      --> config.toml:16:8
       |
    16 | loss = "ce"
       |        ^^^^
       = help: did you mean `"binary_cross_entropy"`?
       = help: known values: `"auto"`, `"binary_cross_entropy"` or `"categorical_cross_entropy"`

    error: `train.batch_size` must be an integer from 1 to 65536, but it is 0
      --> config.toml:17:14
       |
    17 | batch_size = 0
       |              ^

    error: `phase[0]` has neither `epochs` nor `steps`
      --> config.toml:19:1
       |
    19 | [[phase]]
       | ^^^^^^^^^
       = help: say how long it trains, for example `epochs = 10`

    5 problems
    "#);
    let text = replace("seed = 1", "seed = -1")
        .replace("image_size = 160", "image_size = 160\nresize = 100")
        .replace("dense = 5", "dense = -5")
        .replace("name = \"warm\"\n", "freeze_before = 3\n");
    check!(text, @r#"
    error: `seed` must be an integer of at least 0, but it is -1
     --> config.toml:2:8
      |
    2 | seed = -1
      |        ^^

    error: `data.resize` (100x100) is smaller than `data.image_size` (160x160)
     --> config.toml:8:10
      |
    8 | resize = 100
      |          ^^^
      = help: `image_size` is cropped out of `resize`

    error: `model.head[0].dense` must be an integer from 1 to 1000000, but it is -5
      --> config.toml:14:19
       |
    14 | head = [{ dense = -5 }]
       |                   ^^

    error: missing key `name` in `phase[0]`
      --> config.toml:20:1
       |
    20 | [[phase]]
       | ^^^^^^^^^
       = help: `name`: Name in logs and plots

    4 problems
    "#);
    let text = replace("seed = 1", "seed = = 1").replace("batch_size = 32", "batchsize = 32");
    check!(text, @r#"
    error: this is not TOML: extra `=`, expected nothing
     --> config.toml:2:8
      |
    2 | seed = = 1
      |        ^

    error: unknown key `batchsize` in `train`
      --> config.toml:17:1
       |
    17 | batchsize = 32
       | ^^^^^^^^^
       = help: did you mean `batch_size`?

    2 problems
    "#);
}

#[test]
fn overrides_are_checked_where_they_stand() {
    let said = |sets: &[&str]| errors(&[("config.toml", BASE)], sets, &[]);
    insta::assert_snapshot!(said(&["train.batch_size=many"]), @r#"
    error: `train.batch_size` must be an integer from 1 to 65536, but it is the string "many"
     --> command line
      |
      | --set train.batch_size=many
      |                        ^^^^
    "#);
    insta::assert_snapshot!(said(&["train.batchsize=3"]), @r#"
    error: unknown key `batchsize` in `train`
     --> command line
      |
      | --set train.batchsize=3
      |             ^^^^^^^^^
      = help: did you mean `batch_size`?
    "#);
    insta::assert_snapshot!(said(&["trian.batch_size=3"]), @r#"
    error: unknown key `trian`
     --> command line
      |
      | --set trian.batch_size=3
      |       ^^^^^
      = help: did you mean `train`?
    "#);
    insta::assert_snapshot!(said(&["train.batch_size"]), @r#"
    error: `train.batch_size` has no `=`
     --> command line
      |
      | --set train.batch_size
      |       ^^^^^^^^^^^^^^^^
      = help: write `--set KEY=VALUE`, for example `--set train.batch_size=16`
    "#);
    insta::assert_snapshot!(said(&["=3"]), @r#"
    error: a part of the key is empty
     --> command line
      |
      | --set =3
      |       ^^
      = help: write `--set KEY=VALUE`, for example `--set train.batch_size=16`
    "#);
    insta::assert_snapshot!(said(&["phase[1].epochs=3"]), @r#"
    error: there is no `phase[1]`: `phase` has 1 entry, counted from 0
     --> command line
      |
      | --set phase[1].epochs=3
      |            ^^^
    "#);
    insta::assert_snapshot!(said(&["phase.epochs=3"]), @r#"
    error: `phase` is an array
     --> command line
      |
      | --set phase.epochs=3
      |             ^^^^^^
      = help: name an entry of it, for example `phase[0]`
    "#);
    insta::assert_snapshot!(said(&["train[0].batch_size=3"]), @r#"
    error: `train` is not an array
     --> command line
      |
      | --set train[0].batch_size=3
      |            ^^^
    "#);
    insta::assert_snapshot!(said(&["phase[0].optimizer.momentun=0.9"]), @r#"
    error: unknown key `momentun` in `phase[0].optimizer`
     --> command line
      |
      | --set phase[0].optimizer.momentun=0.9
      |                          ^^^^^^^^
      = help: known keys: `kind`, `lr`, `beta1`, `beta2`, `epsilon` and `weight_decay`
    "#);
    insta::assert_snapshot!(said(&["model.head=[{ dense = 5 }"]), @r#"
    error: this is not TOML: unclosed array, expected `]`
     --> command line
      |
      | --set model.head=[{ dense = 5 }
      |                                ^
    "#);
    insta::assert_snapshot!(said(&["train.batch_size.x=3"]), @r#"
    error: `train.batch_size` must be an integer from 1 to 65536, but it is a table
     --> command line
      |
      | --set train.batch_size.x=3
      |             ^^^^^^^^^^
    "#);
    insta::assert_snapshot!(said(&["extends=base.toml"]), @r#"
    error: `extends` can only stand in a file
     --> command line
      |
      | --set extends=base.toml
      |       ^^^^^^^
    "#);
    insta::assert_snapshot!(said(&["phase[0].epochs=0"]), @r#"
    error: `phase[0].epochs` must be an integer from 1 to 100000, but it is 0
     --> command line
      |
      | --set phase[0].epochs=0
      |                       ^
    "#);
    insta::assert_snapshot!(said(&["data.split.train=0.5"]), @r#"
    error: the shares of `data.split` must sum to 1, but 0.5 + 0.1 + 0.1 = 0.7
     --> config.toml:6:9
      |
    6 | split = { train = 0.8, val = 0.1, test = 0.1 }
      |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = help: shares left out are train = 0.8, val = 0.1, test = 0.1
    "#);
}

#[test]
fn variables_are_checked_where_they_stand() {
    let said = |name: &str, value: &str| errors(&[("config.toml", BASE)], &[], &[(name, value)]);
    insta::assert_snapshot!(said("XP_TRAIN__BATCH_SIZ", "16"), @r#"
    error: unknown key `batch_siz` in `train`
     --> environment
      |
      | XP_TRAIN__BATCH_SIZ=16
      |           ^^^^^^^^^
      = help: did you mean `batch_size`?
    "#);
    insta::assert_snapshot!(said("XP_TRAIN__BATCH_SIZE", "sixteen"), @r#"
    error: `train.batch_size` must be an integer from 1 to 65536, but it is the string "sixteen"
     --> environment
      |
      | XP_TRAIN__BATCH_SIZE=sixteen
      |                      ^^^^^^^
    "#);
    insta::assert_snapshot!(said("XP_BATCH_SIZE", "16"), @r#"
    error: unknown key `batch_size`
     --> environment
      |
      | XP_BATCH_SIZE=16
      |    ^^^^^^^^^^
      = help: `batch_size` stands in `train`
    "#);
    insta::assert_snapshot!(said("XP_PHASE__4__EPOCHS", "16"), @r#"
    error: there is no `phase[4]`: `phase` has 1 entry, counted from 0
     --> environment
      |
      | XP_PHASE__4__EPOCHS=16
      |           ^
    "#);
    insta::assert_snapshot!(said("XP_", "16"), @r#"
    error: unknown key `""`
     --> environment
      |
      | XP_=16
      |    ^
      = help: known keys: `name`, `seed`, `device`, `precision`, `deterministic`, `threads`, `memory_limit`, `runs_dir`, `data`, `model`, `train`, `phase`, `cache`, `checkpoint`, `tracking`, `sweep`, `launcher` and `extends`
    "#);
}

#[test]
fn bases_are_checked_where_they_stand() {
    let top = "extends = \"base.toml\"\n";
    let said =
        |top: &str, base: &str| errors(&[("config.toml", top), ("base.toml", base)], &[], &[]);
    insta::assert_snapshot!(said(top, &replace("batch_size = 32", "batch_size = 0")), @r#"
    error: `train.batch_size` must be an integer from 1 to 65536, but it is 0
      --> base.toml:17:14
       |
    17 | batch_size = 0
       |              ^
    "#);
    insta::assert_snapshot!(said(top, &replace("name = \"flowers\"", "")), @r#"
    error: missing key `name`
     --> config.toml:1:1
      |
    1 | extends = "base.toml"
      | ^^^^^^^^^^^^^^^^^^^^^
      = help: `name`: Name of the experiment; part of the run directory's name
    "#);
    insta::assert_snapshot!(said(top, &replace("[train]", "[train")), @r#"
    error: this is not TOML: unclosed table, expected `]`
      --> base.toml:15:7
       |
    15 | [train
       |       ^
    "#);
    insta::assert_snapshot!(said(top, "extends = \"config.toml\""), @r#"
    error: `config.toml` extends itself
     --> base.toml:1:11
      |
    1 | extends = "config.toml"
      |           ^^^^^^^^^^^^^
      = help: take `extends` out of one of the files
    "#);
    insta::assert_snapshot!(said("extends = \"gone.toml\"", BASE), @r#"
    error: cannot read `gone.toml`: No such file or directory (os error 2)
     --> config.toml:1:11
      |
    1 | extends = "gone.toml"
      |           ^^^^^^^^^^^
    "#);
    insta::assert_snapshot!(said("extends = [\"base.toml\"]\nseed = \"x\"", BASE), @r#"
    error: `extends` must be the path of a TOML file
     --> config.toml:1:11
      |
    1 | extends = ["base.toml"]
      |           ^^^^^^^^^^^^^
      = help: for example `extends = "base.toml"`

    error: `seed` must be an integer of at least 0, but it is the string "x"
     --> config.toml:2:8
      |
    2 | seed = "x"
      |        ^^^

    2 problems
    "#);
    insta::assert_snapshot!(said("extends = \"config.toml\"", BASE), @r#"
    error: `config.toml` extends itself
     --> config.toml:1:11
      |
    1 | extends = "config.toml"
      |           ^^^^^^^^^^^^^
      = help: take `extends` out of one of the files
    "#);
}

#[test]
fn later_problems_are_shown_where_the_key_was_set() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, BASE).unwrap();
    let sets = ["model.cut=\"nowhere\"".to_string()];
    let loaded = config::load_with(&path, &sets, []).unwrap();
    let problems = [
        config::Problem::new("model.backbone", "no such backbone").help("run `xp summary`"),
        config::Problem::new("model.cut", "no such layer"),
        config::Problem::new("model.head[0].dense", "too few outputs"),
        config::Problem::new("phase[0].freeze_before", "not set"),
        config::Problem::new("cache.memory", "not set"),
    ];
    let report = loaded.report(&problems).to_string();
    let report = report.replace(&format!("{}/", folder.path().display()), "");
    insta::assert_snapshot!(report, @r#"
    error: not set
     --> config.toml:1:1
      |
    1 | name = "flowers"
      | ^^^^^^^^^^^^^^^^

    error: no such backbone
      --> config.toml:10:12
       |
    10 | backbone = "mobilenet_v2"
       |            ^^^^^^^^^^^^^^
       = help: run `xp summary`

    error: too few outputs
      --> config.toml:13:19
       |
    13 | head = [{ dense = 5 }]
       |                   ^

    error: not set
      --> config.toml:19:1
       |
    19 | [[phase]]
       | ^^^^^^^^^

    error: no such layer
     --> command line
      |
      | --set model.cut="nowhere"
      |                 ^^^^^^^^^

    5 problems
    "#);
}

#[test]
fn the_command_exits_with_2_and_says_nothing_on_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("good.toml", BASE);
    write("bad.toml", &replace("batch_size = 32", "batchsize = 32"));
    write("worse.toml", &replace("epochs = 10", "epochs = 0"));
    std::fs::write(folder.path().join("binary.toml"), b"name = \"x\"\n\xff\xfe").unwrap();
    let said = |args: &[&str]| {
        let mut command = Command::cargo_bin("xp").unwrap();
        let output = command
            .current_dir(folder.path())
            .arg("check")
            .args(args)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let stdout = String::from_utf8(output.stdout).unwrap();
        (stdout, String::from_utf8(output.stderr).unwrap())
    };
    let (stdout, stderr) = said(&["bad.toml", "good.toml", "worse.toml"]);
    assert_eq!(stdout, "good.toml: ok\n");
    insta::assert_snapshot!(stderr, @r#"
    error: unknown key `batchsize` in `train`
      --> bad.toml:17:1
       |
    17 | batchsize = 32
       | ^^^^^^^^^
       = help: did you mean `batch_size`?

    error: `phase[0].epochs` must be an integer from 1 to 100000, but it is 0
      --> worse.toml:22:10
       |
    22 | epochs = 0
       |          ^

    2 problems
    "#);
    let (stdout, stderr) = said(&["gone.toml"]);
    assert_eq!(stdout, "");
    insta::assert_snapshot!(stderr, @"error: cannot read `gone.toml`: No such file or directory (os error 2)");
    let (stdout, stderr) = said(&["binary.toml"]);
    assert_eq!(stdout, "");
    insta::assert_snapshot!(stderr, @"error: cannot read `binary.toml`: line 2 is not UTF-8");
    let (stdout, stderr) = said(&["."]);
    assert_eq!(stdout, "");
    insta::assert_snapshot!(stderr, @"error: cannot read `.`: Is a directory (os error 21)");
    let (stdout, stderr) = said(&["good.toml", "--set", "phase[0].freeze=7"]);
    assert_eq!(stdout, "");
    insta::assert_snapshot!(stderr, @r#"
    error: `phase[0].freeze` must be a string or an array of strings, but it is 7
     --> command line
      |
      | --set phase[0].freeze=7
      |                       ^
    "#);
    let (stdout, stderr) = said(&["bad.toml", "--json"]);
    assert_eq!(stdout, "");
    let failure: serde_json::Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(failure["exit"], 2);
    assert_eq!(failure["error"], "unknown key `batchsize` in `train`");
    assert_eq!(failure["problems"][0]["line"], 17);
    assert_eq!(failure["problems"][0]["help"], "did you mean `batch_size`?");
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for text in [
        format!("{} = 1", "a.".repeat(100_000) + "a"),
        format!("[{}]", "a.".repeat(100_000) + "a"),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
        format!("a = {{ {} = 1 }}", "a . ".repeat(100_000) + "a"),
    ] {
        assert!(!errors(&[("config.toml", &text)], &[&format!("name={text}")], &[]).is_empty());
    }
}

/// Pieces that configurations are made of, to put where they do not belong.
const PIECES: &[&str] = &[
    "=",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "\n",
    ".",
    ",",
    "#",
    "[[phase]]",
    "[data]",
    "head",
    "-1",
    "1e999",
    "nan",
    "true",
    "\"all\"",
    "kind",
    "é",
    "\u{0}",
    "\t",
    "extends = \"config.toml\"",
    "2026-11-21",
    "\"\"\"",
    "0x",
    "lr",
    "{ dense = 1 }",
    "\\",
    "99999999999999999999",
];

fn piece() -> impl Strategy<Value = String> {
    let known = proptest::sample::select(PIECES).prop_map(String::from);
    prop_oneof![4 => known, 1 => ".{0,6}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_loading_panic(
        edits in prop::collection::vec((0..BASE.len(), 0..12usize, piece()), 1..6),
        set in prop_oneof![
            Just("train.batch_size=8".to_string()),
            ".{0,12}=.{0,12}",
            ("[a-z]{1,6}(\\[[0-9]\\])?(\\.[a-z]{1,5})?", piece()).prop_map(|(k, v)| format!("{k}={v}")),
        ],
        value in piece(),
    ) {
        let mut text: Vec<char> = BASE.chars().collect();
        for (at, length, piece) in edits {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, piece.chars());
        }
        let text: String = text.into_iter().collect();
        errors(&[("config.toml", &text)], &[&set], &[("XP_PHASE__0__FREEZE", &value)]);
    }
}

#[test]
fn a_missing_file_is_named() {
    let report = config::load_with(Path::new("no/such.toml"), &[], []).unwrap_err();
    insta::assert_snapshot!(report, @"error: cannot read `no/such.toml`: No such file or directory (os error 2)");
}
