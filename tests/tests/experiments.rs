//! Whole experiments through the binary: what a run leaves, and what the other commands make of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;

use super::plot::KINDS;

/// A small experiment on generated pictures: the embedded backbone, two phases, seconds.
pub(super) const TINY: &[&str] = &[
    "data.generate.per_class=10",
    "data.image_size=32",
    "train.batch_size=8",
    "phase[0].epochs=2",
    "phase[1].epochs=2",
];

/// Runs `xp`, which leaves the user's own feature cache alone.
pub(super) fn xp(arguments: &[&str]) -> Output {
    Command::cargo_bin("xp")
        .unwrap()
        .env("XP_CACHE__DISK", "false")
        .args(arguments)
        .output()
        .unwrap()
}

#[track_caller]
pub(super) fn succeeds(output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{:?}\n{stderr}",
        output.status.code()
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a tiny quickstart, changed by `sets`, and returns its run directory.
#[track_caller]
pub(super) fn run(runs: &Path, sets: &[&str]) -> PathBuf {
    run_plain(runs, &[TINY, sets].concat())
}

/// Runs the quickstart, changed by `sets`, and returns its run directory.
#[track_caller]
pub(super) fn run_plain(runs: &Path, sets: &[&str]) -> PathBuf {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/quickstart.toml");
    let runs = format!("runs_dir={}", runs.display());
    let mut arguments = vec!["run", config.to_str().unwrap(), "--json", "--set", &runs];
    for set in sets {
        arguments.extend(["--set", set]);
    }
    let answer: serde_json::Value = serde_json::from_str(&succeeds(xp(&arguments))).unwrap();
    PathBuf::from(answer["run"].as_str().unwrap())
}

/// `metrics.csv` without what depends on the clock.
pub(super) fn timeless_metrics(run: &Path) -> Vec<String> {
    let text = fs::read_to_string(run.join("metrics.csv")).unwrap();
    text.lines()
        .map(|line| line.split(',').take(9).collect::<Vec<_>>().join(","))
        .collect()
}

#[test]
fn a_run_leaves_a_complete_directory_that_the_other_commands_understand() {
    let runs = tempfile::tempdir().unwrap();
    let run = run(runs.path(), &[]);
    for file in [
        "config.toml",
        "resolved.toml",
        "manifest.json",
        "split.csv",
        "data_issues.csv",
        "metrics.csv",
        "curves.png",
        "test.json",
        "predictions.csv",
        "probabilities.csv",
        "confusion.png",
        "lr.png",
        "roc.png",
        "pr.png",
        "classes.png",
        "mistakes.png",
        "model.safetensors",
        "log.jsonl",
        "checkpoints/last",
        "checkpoints/best",
    ] {
        assert!(run.join(file).exists(), "{file} is missing");
    }
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["status"], "done");
    let metrics = timeless_metrics(&run);
    assert_eq!(metrics.len(), 1 + 1 + 4, "header, epoch 0, four epochs");
    assert!(metrics[1].starts_with("feature_extraction,0,0,0,"));

    // The resolved configuration runs again to the same numbers.
    let again = {
        let resolved = run.join("resolved.toml");
        let answer = succeeds(xp(&["run", resolved.to_str().unwrap(), "--json"]));
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        PathBuf::from(answer["run"].as_str().unwrap())
    };
    assert_eq!(timeless_metrics(&again), metrics);

    let run_name = run.to_str().unwrap();
    let evaluated = succeeds(xp(&["evaluate", run_name, "--json"]));
    let evaluated: serde_json::Value = serde_json::from_str(&evaluated).unwrap();
    let test: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join("test.json")).unwrap()).unwrap();
    assert_eq!(evaluated["confusion"], test["confusion"]);
    assert_eq!(evaluated["loss"], test["loss"]);

    // What the head receives, and any other layer's output.
    let out = run.join("features.csv");
    for (layer, values) in [(None, 1280), (Some("Conv1"), 16 * 16 * 16)] {
        let curves = run.join("curves.png");
        let mut arguments = vec!["features", run_name, curves.to_str().unwrap(), "--json"];
        arguments.extend(["--out", out.to_str().unwrap()]);
        arguments.extend(layer.iter().flat_map(|layer| ["--layer", *layer]));
        let answer = succeeds(xp(&arguments));
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let shape = answer["shape"].as_array().unwrap();
        let shape: Vec<u64> = shape.iter().map(|side| side.as_u64().unwrap()).collect();
        assert_eq!(shape.iter().product::<u64>(), values);
    }
    fs::remove_file(out).unwrap();

    // The model alone, elsewhere, classifies pictures.
    let elsewhere = tempfile::tempdir().unwrap();
    let model = elsewhere.path().join("model.safetensors");
    fs::copy(run.join("model.safetensors"), &model).unwrap();
    let picture = run.join("curves.png");
    let picture = picture.to_str().unwrap();
    let answer = succeeds(xp(&[
        "predict",
        model.to_str().unwrap(),
        picture,
        "--top",
        "2",
        "--json",
    ]));
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer[0]["classes"].as_array().unwrap().len(), 2);
    let csv = succeeds(xp(&["predict", model.to_str().unwrap(), run_name, "--csv"]));
    assert_eq!(
        csv.lines().count(),
        8,
        "a header and the run's seven pictures:\n{csv}"
    );

    // Drawn again from the tables, and the pictures that the configuration names, to the same bytes.
    let drawn = KINDS.map(|kind| run.join(format!("{kind}.png")));
    let before = drawn.each_ref().map(|path| fs::read(path).unwrap());
    for path in &drawn {
        fs::remove_file(path).unwrap();
    }
    succeeds(xp(&["plot", run_name, "--kind", "all"]));
    for (path, before) in drawn.iter().zip(before) {
        let again = fs::read(path).unwrap();
        assert!(again == before, "{} differs", path.display());
    }
}

#[test]
fn a_phase_trains_single_layers_at_rates_of_their_own() {
    let runs = tempfile::tempdir().unwrap();
    let phase = "phase[1]={ name = 'fine', epochs = 2, train_only = ['block_1[3-6]_*', 'Conv_1*'], \
                 bn = 'frozen', lr_decay = 0.5, optimizer = { kind = 'adamw', lr = 1e-3 }, \
                 lr_multipliers = [{ layers = 'block_13_*', multiplier = 0.1 }] }";
    let run = run(runs.path(), &[phase]);
    assert_eq!(timeless_metrics(&run).len(), 1 + 1 + 4);
    let resolved = fs::read_to_string(run.join("resolved.toml")).unwrap();
    for line in [
        "lr_decay = 0.5",
        "bn = \"frozen\"",
        "weight_decay_exempt = \"bias_and_norm\"",
    ] {
        assert!(resolved.contains(line), "{line} in\n{resolved}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_whatever_the_number_of_threads() {
    let runs = tempfile::tempdir().unwrap();
    let augmented = ["data.augment.flip_horizontal=true", "phase[1].bn=train"];
    let with = |extra: &[&str]| run(runs.path(), &[&augmented, extra].concat());
    let one = with(&["threads=1"]);
    let two = with(&["threads=2"]);
    let other = with(&["threads=2", "seed=9"]);
    let model = |run: &Path| fs::read(run.join("checkpoints/last/weights.safetensors")).unwrap();
    assert_eq!(timeless_metrics(&one), timeless_metrics(&two));
    assert!(model(&one) == model(&two), "models differ");
    assert_eq!(
        fs::read(one.join("predictions.csv")).unwrap(),
        fs::read(two.join("predictions.csv")).unwrap()
    );
    assert!(model(&one) != model(&other), "the seed changes nothing");
}

#[test]
fn caching_features_changes_no_bit() {
    let runs = tempfile::tempdir().unwrap();
    let cached = run(runs.path(), &[]);
    let computed = run(runs.path(), &["cache.features=false"]);
    assert_eq!(timeless_metrics(&cached), timeless_metrics(&computed));
}

#[test]
fn a_loss_that_is_not_finite_ends_with_exit_5_and_says_where() {
    let runs = tempfile::tempdir().unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/quickstart.toml");
    let runs_dir = format!("runs_dir={}", runs.path().display());
    let mut arguments = vec!["run", config.to_str().unwrap(), "--set", &runs_dir];
    let optimizer = r#"phase[1].optimizer={ kind = "sgd", lr = 1e30 }"#;
    for set in TINY.iter().chain(&[optimizer]) {
        arguments.extend(["--set", set]);
    }
    let output = xp(&arguments);
    assert_eq!(output.status.code(), Some(5));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("in phase `fine_tune`, epoch 3, step"),
        "{stderr}"
    );
    let run = fs::read_dir(runs.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let manifest = fs::read_to_string(run.join("manifest.json")).unwrap();
    assert!(manifest.contains(r#""status": "failed""#), "{manifest}");
    assert!(
        run.join("checkpoints/best").exists(),
        "what was earned is kept"
    );
}

/// Ten pictures of each class in class folders below `root`.
pub(super) fn draw(root: &Path, classes: &[&str]) {
    for (shade, class) in classes.iter().enumerate() {
        fs::create_dir_all(root.join(class)).unwrap();
        for index in 0..10 {
            let picture = image::RgbImage::from_fn(32, 32, |x, y| {
                let stripe = if (x >> shade) % 2 == 0 { 200 } else { 40 };
                image::Rgb([stripe, (y * 8) as u8, index * 20])
            });
            let file = root.join(class).join(format!("{index}.png"));
            picture.save(file).unwrap();
        }
    }
}

/// Trains one epoch on the class folders below `root`; returns the run directory.
#[track_caller]
pub(super) fn run_on(root: &Path, runs: &Path, classes: usize) -> PathBuf {
    let config = runs.join("folders.toml");
    let text = format!(
        r#"
name = "folders"
runs_dir = '{}'

[data]
root = '{}'
split = {{ train = 0.6, val = 0.2, test = 0.2 }}
image_size = 32

[model]
backbone = "mobilenet_v2"
width = 0.35
weights = "xp/mobilenet_v2_035.shapes"
pooling = "avg"
head = [{{ dense = {classes} }}]

[train]
batch_size = 8

[[phase]]
name = "head"
freeze = "all"
epochs = 1
optimizer = {{ kind = "adam", lr = 1e-3 }}
"#,
        runs.join("runs").display(),
        root.display(),
    );
    fs::write(&config, text).unwrap();
    let answer = succeeds(xp(&["run", config.to_str().unwrap(), "--json"]));
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    PathBuf::from(answer["run"].as_str().unwrap())
}

#[test]
fn pictures_in_folders_are_evaluated_and_what_changed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("pictures");
    draw(&root, &["a", "b", "c"]);
    let run = run_on(&root, folder.path(), 3);
    let run = run.to_str().unwrap();
    let images = |output: Output| -> u64 {
        let report: serde_json::Value = serde_json::from_str(&succeeds(output)).unwrap();
        report["images"].as_u64().unwrap()
    };
    let on = |data: &Path| {
        let data = data.to_str().unwrap();
        xp(&["evaluate", run, "--json", "--data", data])
    };

    assert_eq!(images(on(&root)), 30, "all of a folder is judged");
    let one = folder.path().join("one");
    draw(&one, &["b"]);
    assert_eq!(images(on(&one)), 10, "a folder of one known class");
    draw(&one, &["stranger"]);
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let output = on(&one);
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output).contains("`stranger`"), "{}", said(&output));

    let own = || xp(&["evaluate", run, "--json"]);
    let before = own();
    assert_eq!(said(&before), "", "nothing has changed");
    assert_eq!(images(before), 6);
    fs::copy(one.join("stranger/3.png"), root.join("a/new.png")).unwrap();
    fs::remove_file(root.join("c/7.png")).unwrap();
    let after = own();
    let warning = said(&after);
    assert!(
        warning.contains("the data is not what the run saw: of its pictures, 1 new, 1 gone"),
        "{warning}"
    );
    succeeds(after);
}

#[test]
fn a_broken_picture_in_a_folder_is_reported_and_the_others_are_classified() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("pictures");
    draw(&root, &["a", "b"]);
    let run = run_on(&root, folder.path(), 2);
    let run = run.to_str().unwrap();
    let mixed = root.join("a");
    fs::write(mixed.join("b.jpg"), "no picture").unwrap();
    fs::write(mixed.join("notes.txt"), "no picture either").unwrap();
    let mixed = mixed.to_str().unwrap();
    let output = xp(&["predict", run, mixed, "--csv"]);
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("b.jpg"), "{stderr}");
    assert!(!stderr.contains("notes.txt"), "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout.lines().count(), 1 + 10, "{stdout}");

    let output = xp(&["predict", run, mixed, "--top", "0"]);
    assert_eq!(output.status.code(), Some(2), "no class is no answer");
}
