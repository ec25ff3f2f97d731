//! Bad configurations, each with the exact message that it gets.

use std::ffi::OsString;
use std::path::Path;

use assert_cmd::Command;
use proptest::prelude::*;
use xp::config;

/// A good configuration, to be spoilt.
const BASE: &str = r#"name = "flowers"
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
fn replace(part: &str, with: &str) -> String {
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
    check!(replace("seed = 1", "sede = 1"), @"");
    check!(replace("batch_size = 32", "batchsize = 32"), @"");
    check!(replace("lr = 0.001 }", "learning_rate = 0.001 }"), @"");
    check!(replace("lr = 0.001 }", "lr = 0.001, beta1 = 0.9 }"), @"");
    check!(replace("batch_size = 32", r#"batch_size = 32
flip_horizontal = true"#), @"");
    check!(replace("seed = 1", r#"colour = "red""#), @"");
    check!(replace("{ dense = 5 }", "{ dens = 5 }"), @"");
    check!(replace("{ dense = 5 }", r#"{ dense = 5, activatoin = "relu" }"#), @"");
    check!(append(r#"extends = "base.toml""#), @"");
    check!(append(r#"[trian]
batch_size = 3"#), @"");
}

#[test]
fn wrong_types() {
    check!(replace("batch_size = 32", r#"batch_size = "32""#), @"");
    check!(replace("batch_size = 32", "batch_size = 32.0"), @"");
    check!(replace(r#"name = "flowers""#, "name = 12"), @"");
    check!(replace("[[phase]]", "[phase]"), @"");
    check!(replace("split = { train = 0.8, val = 0.1, test = 0.1 }", "split = 0.8"), @"");
    check!(replace("image_size = 160", r#"image_size = "160""#), @"");
    check!(replace("image_size = 160", "image_size = [160]"), @"");
    check!(replace("batch_size = 32", r#"evaluate_first = "true""#), @"");
    check!(replace("seed = 1", "seed = 2026-11-21"), @"");
    check!(replace(r#"freeze = "all""#, "freeze = true"), @"");
    check!(replace(r#"freeze = "all""#, "freeze_before = 1.5"), @"");
    check!(replace("[{ dense = 5 }]", "{ dense = 5 }"), @"");
    check!(replace("batch_size = 32", r#"class_weights = { daisy = "much" }"#), @"");
    check!(replace("image_size = 160", "normalize = { mean = [0.5], std = [0.5, 0.5, 0.5] }"), @"");
}

#[test]
fn values_out_of_range() {
    check!(replace("batch_size = 32", "batch_size = 0"), @"");
    check!(replace("epochs = 10", "epochs = -1"), @"");
    check!(replace("lr = 0.001", "lr = 0"), @"");
    check!(replace("lr = 0.001", "lr = -0.1"), @"");
    check!(replace("lr = 0.001", "lr = nan"), @"");
    check!(replace("lr = 0.001", "lr = inf"), @"");
    check!(replace("lr = 0.001", "lr = 0.001, beta2 = 1.0"), @"");
    check!(replace("{ dense = 5 }", "{ dropout = 1.5 }, { dense = 5 }"), @"");
    check!(replace("image_size = 160", "image_size = [160, 4]"), @"");
    check!(replace("seed = 1", "seed = 99999999999999999999"), @"");
    check!(replace("batch_size = 32", "label_smoothing = 1"), @"");
}

#[test]
fn unknown_names() {
    check!(replace(r#"loss = "auto""#, r#"loss = "binary_crossentropy""#), @"");
    check!(replace(r#"kind = "adam""#, r#"kind = "adamm""#), @"");
    check!(replace(r#"kind = "adam""#, "kind = 3"), @"");
    check!(replace("{ dense = 5 }", r#""reluu", { dense = 5 }"#), @"");
    check!(replace("{ dense = 5 }", r#""dense""#), @"");
    check!(replace("{ dense = 5 }", "{ size = 5 }"), @"");
    check!(replace("image_size = 160", r#"normalize = "image_net""#), @"");
    check!(replace("batch_size = 32", r#"class_weights = "balance""#), @"");
    check!(replace(r#"pooling = "avg""#, r#"pooling = "spatial""#), @"");
    check!(replace("seed = 1", r#"device = "gpu""#), @"");
    check!(replace("epochs = 10", r#"epochs = 10
schedule = { kind = "cosin" }"#), @"");
}

#[test]
fn missing_keys() {
    check!(replace(r#"name = "flowers""#, ""), @"");
    check!(replace(r#"backbone = "mobilenet_v2""#, ""), @"");
    check!(replace(r#"optimizer = { kind = "adam", lr = 0.001 }"#, ""), @"");
    check!(replace("lr = 0.001 }", "}"), @"");
    check!(replace(r#"kind = "adam", "#, ""), @"");
    check!(replace("epochs = 10", r#"epochs = 10
schedule = { kind = "step" }"#), @"");
    check!("", @"");
}

#[test]
fn broken_toml() {
    check!(replace("seed = 1", "seed = "), @"");
    check!(replace("seed = 1", r#"seed = 1
seed = 2"#), @"");
    check!(replace(r#"name = "flowers""#, r#"name = "flowers"#), @"");
    check!(replace("[train]", "[train"), @"");
    check!(append(r#"[data]
root = "again""#), @"");
}

#[test]
fn data_that_cannot_be() {
    check!(replace("train = 0.8, val = 0.1", "train = 0.7, val = 0.1"), @"");
    check!(replace(r#"root = "photos""#, ""), @"");
    check!(replace(r#"root = "photos""#, r#"root = "photos"
generate = { kind = "patterns", per_class = 9 }"#), @"");
    check!(replace(r#"root = "photos""#, r#"root = """#), @"");
    check!(replace("{ train = 0.8, val = 0.1, test = 0.1 }", r#"{ by = "column" }"#), @"");
    check!(replace("{ train = 0.8, val = 0.1, test = 0.1 }", r#"{ by = "folders", val = 0.1 }"#), @"");
    check!(replace("{ train = 0.8, val = 0.1, test = 0.1 }", "{ train = 0, val = 0.5, test = 0.5 }"), @"");
    check!(replace("image_size = 160", r#"image_size = 160
augment = { crop = true }"#), @"");
    check!(replace("image_size = 160", r#"image_size = 160
resize = 128"#), @"");
    check!(replace("image_size = 160", r#"image_size = 160
resize = 160
augment = { crop = true }"#), @"");
    check!(replace("image_size = 160", "normalize = { mean = [0, 0, 0], std = [1, 0.0, 1] }"), @"");
    check!(replace(r#"root = "photos""#, r#"manifest = "list.csv"
class_from = "leaf""#), @"");
}

#[test]
fn heads_that_cannot_be() {
    check!(replace("{ dense = 5 }", ""), @"");
    check!(replace("{ dense = 5 }", "{ dense = 5 }, { dropout = 0.2 }"), @"");
    check!(replace("{ dense = 5 }", r#""relu""#), @"");
    check!(replace("{ dense = 5 }", r#"{ dense = 5, activation = "relu" }"#), @"");
    check!(replace("{ dense = 5 }", r#"{ conv2d = 5 }, "avg_pool""#), @"");
    check!(replace(r#"pooling = "avg""#, r#"pooling = "none""#), @"");
    check!(replace(r#"pooling = "avg"
head = [{ dense = 5 }]"#, r#"pooling = "none"
head = [{ conv2d = 5 }]"#), @"");
    check!(replace(r#"loss = "auto""#, r#"loss = "binary_cross_entropy""#), @"");
    check!(replace(r#"[{ dense = 5 }]

[train]
loss = "auto""#, r#"[{ dense = 1 }]

[train]
loss = "categorical_cross_entropy""#), @"");
}

#[test]
fn training_that_cannot_be() {
    check!(replace(r#"test = 0.1 }
"#, r#"test = 0.2 }
# note
"#), @"");
    check!(replace("batch_size = 32", r#"class_weights = { "sun flower" = -1.0 }"#), @"");
    check!(replace(r#"name = "warm""#, r#"name = """#), @"");
    check!(replace(r#"name = "flowers""#, r#"name = "my flowers""#), @"");
    check!(replace(r#"name = "flowers""#, r#"name = "../flowers""#), @"");
    check!(append(r#"[[phase]]
name = "warm"
epochs = 1
optimizer = { kind = "sgd", lr = 0.1, nesterov = true }"#), @"");
    check!(replace(r#"freeze = "all""#, r#"freeze = "all"
freeze_before = 100"#), @"");
    check!(replace(r#"freeze = "all""#, "freeze = []"), @"");
    check!(replace(r#"freeze = "all""#, r#"freeze = ["all"]"#), @"");
    check!(replace(r#"freeze = "all""#, "freeze_before = 0"), @"");
    check!(replace("epochs = 10", r#"epochs = 10
schedule = { kind = "linear", warmup_epochs = 20 }"#), @"");
    check!(BASE.split("[[phase]]").next().unwrap_or_default().replace("name", "phase = []\nname"), @"");
    check!(replace("val = 0.1, test = 0.1", "val = 0, test = 0.2").replace("batch_size = 32", "early_stopping = { patience = 3 }"), @"");
}

#[test]
fn all_problems_are_told_at_once() {
    let text = replace("seed = 1", "sede = 1")
        .replace("batch_size = 32", "batch_size = 0")
        .replace("loss = \"auto\"", "loss = \"ce\"")
        .replace("train = 0.8", "train = 0.9")
        .replace("epochs = 10\n", "");
    check!(text, @"");
    let text = replace("seed = 1", "seed = = 1").replace("batch_size = 32", "batchsize = 32");
    check!(text, @"");
}

#[test]
fn overrides_are_checked_where_they_stand() {
    let said = |sets: &[&str]| errors(&[("config.toml", BASE)], sets, &[]);
    insta::assert_snapshot!(said(&["train.batch_size=many"]), @"");
    insta::assert_snapshot!(said(&["train.batchsize=3"]), @"");
    insta::assert_snapshot!(said(&["trian.batch_size=3"]), @"");
    insta::assert_snapshot!(said(&["train.batch_size"]), @"");
    insta::assert_snapshot!(said(&["=3"]), @"");
    insta::assert_snapshot!(said(&["phase[1].epochs=3"]), @"");
    insta::assert_snapshot!(said(&["phase.epochs=3"]), @"");
    insta::assert_snapshot!(said(&["train[0].batch_size=3"]), @"");
    insta::assert_snapshot!(said(&["phase[0].optimizer.momentun=0.9"]), @"");
    insta::assert_snapshot!(said(&["model.head=[{ dense = 5 }"]), @"");
    insta::assert_snapshot!(said(&["train.batch_size.x=3"]), @"");
    insta::assert_snapshot!(said(&["extends=base.toml"]), @"");
    insta::assert_snapshot!(said(&["phase[0].epochs=0"]), @"");
    insta::assert_snapshot!(said(&["data.split.train=0.5"]), @"");
}

#[test]
fn variables_are_checked_where_they_stand() {
    let said = |name: &str, value: &str| errors(&[("config.toml", BASE)], &[], &[(name, value)]);
    insta::assert_snapshot!(said("XP_TRAIN__BATCH_SIZ", "16"), @"");
    insta::assert_snapshot!(said("XP_TRAIN__BATCH_SIZE", "sixteen"), @"");
    insta::assert_snapshot!(said("XP_BATCH_SIZE", "16"), @"");
    insta::assert_snapshot!(said("XP_PHASE__4__EPOCHS", "16"), @"");
    insta::assert_snapshot!(said("XP_", "16"), @"");
}

#[test]
fn bases_are_checked_where_they_stand() {
    let top = "extends = \"base.toml\"\n";
    let said =
        |top: &str, base: &str| errors(&[("config.toml", top), ("base.toml", base)], &[], &[]);
    insta::assert_snapshot!(said(top, &replace("batch_size = 32", "batch_size = 0")), @"");
    insta::assert_snapshot!(said(top, &replace("name = \"flowers\"", "")), @"");
    insta::assert_snapshot!(said(top, &replace("[train]", "[train")), @"");
    insta::assert_snapshot!(said(top, "extends = \"config.toml\""), @"");
    insta::assert_snapshot!(said("extends = \"gone.toml\"", BASE), @"");
    insta::assert_snapshot!(said("extends = [\"base.toml\"]\nseed = \"x\"", BASE), @"");
    insta::assert_snapshot!(said("extends = \"config.toml\"", BASE), @"");
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
        config::Problem::new("cache.memory_mib", "not set"),
    ];
    let report = loaded.report(&problems).to_string();
    let report = report.replace(&format!("{}/", folder.path().display()), "");
    insta::assert_snapshot!(report, @"");
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
    insta::assert_snapshot!(stderr, @"");
    let (stdout, stderr) = said(&["gone.toml"]);
    assert_eq!(stdout, "");
    insta::assert_snapshot!(stderr, @"");
    let (stdout, stderr) = said(&["binary.toml"]);
    assert_eq!(stdout, "");
    insta::assert_snapshot!(stderr, @"");
    let (stdout, stderr) = said(&["."]);
    assert_eq!(stdout, "");
    insta::assert_snapshot!(stderr, @"");
    let (stdout, stderr) = said(&["bad.toml", "--json"]);
    assert_eq!(stdout, "");
    let failure: serde_json::Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(failure["exit"], 2);
    assert_eq!(failure["problems"][0]["line"], 16);
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
    insta::assert_snapshot!(report, @"");
}
