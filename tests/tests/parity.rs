//! Published weights on real photographs, against figures taken with PyTorch. Need `../shared` and an
//! optimised build, `just parity`, or patience and the folder in `PARITY_SHARED`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use candle_core::{Device, safetensors};
use serde_json::Value;
use xp::zoo::{imagenet, registry};

/// The folder of pictures and weights; `None`, after saying so, where a test must be skipped.
fn shared() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let given = std::env::var_os("PARITY_SHARED");
    let slow = cfg!(debug_assertions) && given.is_none();
    let shared = given.map_or(beside, PathBuf::from);
    if slow || !shared.join("weights").is_dir() {
        say("skipped: needs `../shared` and an optimised build");
        return None;
    }
    Some(shared)
}

fn xp(arguments: &[&str]) -> Value {
    let mut command = Command::cargo_bin("xp").unwrap();
    let output = command.args(arguments).arg("--json").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Pictures with their classes: so many of each class to learn from, and all held-out ones.
fn pictures(data: &Path, per_class: usize) -> [Vec<(String, usize)>; 2] {
    let manifest = fs::read_to_string(data.join("manifest.csv")).unwrap();
    let mut labels = BTreeMap::new();
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    let [mut train, mut held_out] = [Vec::new(), Vec::new()];
    for line in manifest.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let next = labels.len();
        let label = *labels.entry(fields[1].to_owned()).or_insert(next);
        let picture = (data.join(fields[0]).display().to_string(), label);
        let taken = taken.entry(label).or_default();
        match fields[2] {
            "train" if *taken < per_class => {
                *taken += 1;
                train.push(picture);
            }
            "train" => {}
            _ => held_out.push(picture),
        }
    }
    [train, held_out]
}

/// Pooled features of MobileNetV2 with its real weights.
fn features(shared: &Path, pictures: &[(String, usize)]) -> Vec<Vec<f32>> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("features.safetensors");
    let weights = shared.join("weights/mobilenet_v2_imagenet.safetensors");
    let mut arguments = vec!["features", "mobilenet_v2"];
    arguments.extend(["--weights", weights.to_str().unwrap()]);
    arguments.extend(["--out", out.to_str().unwrap()]);
    arguments.extend(pictures.iter().map(|(path, _)| path.as_str()));
    xp(&arguments);
    let tensors = safetensors::load(&out, &Device::Cpu).unwrap();
    tensors["features"].to_vec2().unwrap()
}

/// Ridge regression from features to classes; the share of `test` that it gets right.
fn linear_probe(
    train: (&[Vec<f32>], &[(String, usize)]),
    test: (&[Vec<f32>], &[(String, usize)]),
) -> f64 {
    let (features, pictures) = train;
    let count = features.len();
    let width = features[0].len();
    let mean: Vec<f64> = (0..width)
        .map(|at| features.iter().map(|row| f64::from(row[at])).sum::<f64>() / count as f64)
        .collect();
    let centred = |row: &Vec<f32>| -> Vec<f64> {
        let pairs = row.iter().zip(&mean);
        pairs
            .map(|(value, mean)| f64::from(*value) - mean)
            .collect()
    };
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let rows: Vec<Vec<f64>> = features.iter().map(centred).collect();
    let classes = pictures.iter().map(|(_, label)| label + 1).max().unwrap();
    // As many equations as pictures: (K + penalty) a = y, one right side a class.
    let trace: f64 = rows.iter().map(|row| dot(row, row)).sum();
    let penalty = 0.1 * trace / count as f64;
    let mut system: Vec<Vec<f64>> = (0..count)
        .map(|at| {
            let mut line: Vec<f64> = rows.iter().map(|row| dot(&rows[at], row)).collect();
            line[at] += penalty;
            line.extend((0..classes).map(|class| f64::from(u8::from(pictures[at].1 == class))));
            line
        })
        .collect();
    // Positive definite: elimination needs no pivots.
    for at in 0..count {
        let pivot = system[at].clone();
        for (other, line) in system.iter_mut().enumerate() {
            if other != at {
                let factor = line[at] / pivot[at];
                line.iter_mut()
                    .zip(&pivot)
                    .for_each(|(x, p)| *x -= factor * p);
            }
        }
    }
    let (features, pictures) = test;
    let right = features.iter().zip(pictures).filter(|(row, (_, label))| {
        let row = centred(row);
        let kernel: Vec<f64> = rows.iter().map(|known| dot(known, &row)).collect();
        let score = |class: usize| -> f64 {
            let parts = kernel.iter().zip(&system).enumerate();
            parts
                .map(|(at, (k, line))| k * line[count + class] / line[at])
                .sum()
        };
        let best = (0..classes).max_by(|&a, &b| score(a).total_cmp(&score(b)));
        best == Some(*label)
    });
    right.count() as f64 / pictures.len() as f64
}

/// A ridge regression on PyTorch's features at 224 pixels got 98.5 % of cats and dogs from 120
/// training pictures, and 78.5 % of flowers from 200; on other pictures of the same sets, so a
/// little less will do.
#[test]
fn features_of_mobilenet_v2_tell_classes_apart() {
    let Some(shared) = shared() else { return };
    for (data, per_class, published, tolerance) in [
        ("dog_cat", 60, 0.985, 0.02),
        ("flowers_1k", 40, 0.785, 0.02),
    ] {
        let [train, test] = pictures(&shared.join("data").join(data), per_class);
        let [known, new] = [&train, &test].map(|pictures| features(&shared, pictures));
        let share = linear_probe((&known, &train), (&new, &test));
        say(&format!(
            "{data}: {:.1} % of {} pictures right after {}; with PyTorch {:.1} %",
            100.0 * share,
            test.len(),
            train.len(),
            100.0 * published
        ));
        assert!(share >= published - tolerance);
    }
}

/// Labels of dogs, from Chihuahua to Mexican hairless.
const DOGS: std::ops::RangeInclusive<usize> = 151..=268;
/// Domestic cats, from tabby to Egyptian.
const CATS: std::ops::RangeInclusive<usize> = 281..=285;

/// SqueezeNet's own classifier with PyTorch: dogs 92.5 % some dog class, cats 47.5 % some cat class.
#[test]
fn squeezenet_knows_dogs() {
    let Some(shared) = shared() else { return };
    let mut names = registry::FAMILIES.iter().map(|family| family.name);
    let Some(family) = names.find(|name| name.starts_with("squeezenet")) else {
        return say("skipped: there is no SqueezeNet");
    };
    let weights = shared.join("weights/squeezenet1_1_imagenet.safetensors");
    let classes = imagenet::classes();
    for (folder, labels, least) in [("dog", DOGS, 0.85), ("cat", CATS, 0.35)] {
        let folder = shared.join("data/dog_cat").join(folder);
        let arguments = [
            "--weights",
            weights.to_str().unwrap(),
            folder.to_str().unwrap(),
        ];
        let answer = xp(&[&["predict", family], &arguments[..]].concat());
        let pictures = answer.as_array().unwrap();
        let right = pictures.iter().filter(|picture| {
            let class = &picture["classes"][0]["class"];
            classes[labels.clone()]
                .iter()
                .any(|name| class == name.as_str())
        });
        let share = right.count() as f64 / pictures.len() as f64;
        say(&format!(
            "{}: {:.1} % right",
            folder.display(),
            100.0 * share
        ));
        assert!(share >= least);
    }
}

/// Says something in a test's output.
#[expect(clippy::print_stderr, reason = "tests report there")]
fn say(message: &str) {
    eprintln!("{message}");
}
