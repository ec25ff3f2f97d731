//! `xp models`, and backbones by name: `xp predict` and `xp features`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use candle_core::{Device, Tensor, safetensors};
use serde_json::Value;
use xp::config::Flavour;
use xp::engine::params::Params;
use xp::graph::Graph;
use xp::weights::Naming;
use xp::weights::keys::checkpoint_key;
use xp::zoo::imagenet;

const FAMILY: &str = "mobilenet_v2";

fn xp(folder: &Path, arguments: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::cargo_bin("xp")
        .unwrap()
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
        output.status.code(),
    )
}

/// A folder with random weights under published names, `whole` with and `bare` without classifier,
/// and two pictures.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let graph = Graph::build_classifier(FAMILY, 0.35, [64; 2], Flavour::Torch, 1000).unwrap();
    let params = Params::initialise(&graph, 3, &Device::Cpu).unwrap();
    for (file, naming, classifier) in [
        ("whole.safetensors", Naming::Timm, true),
        ("torchvision.safetensors", Naming::Torchvision, true),
        ("bare.safetensors", Naming::Timm, false),
    ] {
        let tensors: HashMap<String, Tensor> = params
            .iter()
            .filter(|(name, _)| classifier || !name.starts_with("predictions/"))
            .map(|(name, param)| {
                let key = checkpoint_key(FAMILY, naming, name).unwrap();
                (key, param.value.clone())
            })
            .collect();
        safetensors::save(&tensors, folder.path().join(file)).unwrap();
    }
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    fs::create_dir(folder.path().join("photos")).unwrap();
    for (from, to) in [("photo.png", "photos/a.png"), ("plain.jpg", "photos/b.jpg")] {
        fs::copy(pictures.join(from), folder.path().join(to)).unwrap();
    }
    folder
}

/// The arguments that all uses of the folder's weights share.
fn small<'a>(command: &'a str, weights: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![command, FAMILY, "--width", "0.35", "--size", "64"];
    arguments.extend(["--weights", weights]);
    arguments.extend(more);
    arguments
}

#[test]
fn models_are_listed_with_costs_and_licences() {
    let folder = tempfile::tempdir().unwrap();
    let (table, stderr, code) = xp(folder.path(), &["models"]);
    assert_eq!((stderr.as_str(), code), ("", Some(0)));
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "backbone width parameters GMACs size licence default weights",
        "mobilenet_v2 1 2.2 M 0.30 224 Apache-2.0 timm/mobilenetv2_100.ra_in1k",
        "resnet50 23.5 M 4.09 224 Apache-2.0 timm/resnet50.a1_in1k",
    ] {
        assert!(lines.iter().any(|it| it == line), "{line} in\n{table}");
    }
    let (json, _, _) = xp(folder.path(), &["models", "--json"]);
    let models: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(models.len() + 1, lines.len());
    let vgg = models.iter().find(|it| it["backbone"] == "vgg16").unwrap();
    assert_eq!(vgg["parameters"], 14_714_688);
    assert_eq!(vgg["multiply_adds"], 15_346_630_656u64);
}

#[test]
fn a_backbone_answers_with_imagenet_classes() {
    let folder = folder();
    let more = ["photos", "--top", "3", "--json"];
    let (json, stderr, code) = xp(folder.path(), &small("predict", "whole.safetensors", &more));
    assert_eq!((stderr.as_str(), code), ("", Some(0)));
    let answer: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(answer.len(), 2);
    assert_eq!(answer[0]["path"], "photos/a.png");
    let known = imagenet::classes();
    let classes = answer[0]["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 3);
    for class in classes {
        assert!(known.iter().any(|name| class["class"] == name.as_str()));
    }
    let probability = |rank: usize| classes[rank]["probability"].as_f64().unwrap();
    assert!(probability(0) >= probability(1) && probability(0) < 1.0);
    // The same tensors under other names say the same.
    let other = xp(
        folder.path(),
        &small("predict", "torchvision.safetensors", &more),
    );
    assert_eq!(other.0, json);
    let csv = ["photos/b.jpg", "--csv"];
    let (csv, _, _) = xp(folder.path(), &small("predict", "whole.safetensors", &csv));
    assert!(csv.starts_with("path,class_1,probability_1\nphotos/b.jpg,"));
}

#[test]
fn what_cannot_answer_says_why() {
    let folder = folder();
    let predict = |arguments: &[&str]| {
        let (stdout, stderr, code) = xp(folder.path(), arguments);
        assert_eq!(stdout, "");
        (stderr, code)
    };
    assert_eq!(
        predict(&small("predict", "bare.safetensors", &["photos"])),
        (
            "error: the weights `bare.safetensors` have no classifier\n  help: give a file that \
             holds all of the network with `--weights`\n"
                .to_string(),
            Some(1)
        )
    );
    assert_eq!(
        predict(&["predict", "mobilenetv2", "photos"]),
        (
            "error: there is no run, model file or backbone `mobilenetv2`\n  help: did you mean \
             `mobilenet_v2`?\n"
                .to_string(),
            Some(2)
        )
    );
    let (stderr, code) = predict(&["predict", FAMILY, "photos", "--width", "0.75"]);
    assert!(
        stderr.contains("`mobilenet_v2` of width 0.75 has no default weights"),
        "{stderr}"
    );
    assert!(stderr.contains("`--weights`"), "{stderr}");
    assert_eq!(code, Some(2));
    let (stderr, _) = predict(&["predict", "runs/gone", "photos", "--size", "64"]);
    assert!(
        stderr.contains("`--size` goes with the name of a backbone"),
        "{stderr}"
    );
}

/// Shape and values of a `.npy` file of f32.
fn npy(path: &Path) -> (String, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8(bytes[10..10 + length].to_vec()).unwrap();
    let values = bytes[10 + length..].as_chunks::<4>().0;
    let shape = header.split("'shape': ").nth(1).unwrap();
    let shape = shape.split(", }").next().unwrap().to_string();
    (
        shape,
        values.iter().map(|&it| f32::from_le_bytes(it)).collect(),
    )
}

#[test]
fn features_of_any_layer_go_to_a_file() {
    let folder = folder();
    let features = |weights: &str, more: &[&str]| {
        let mut arguments = small("features", weights, &["photos", "--json"]);
        arguments.extend(more);
        let (stdout, stderr, code) = xp(folder.path(), &arguments);
        assert_eq!((stderr.as_str(), code), ("", Some(0)));
        serde_json::from_str::<Value>(&stdout).unwrap()
    };
    let at = |name: &str| -> PathBuf { folder.path().join(name) };

    // The default needs no classifier, and is what a head receives.
    let answer = features("bare.safetensors", &["--out", "pooled.npy"]);
    assert_eq!(answer["shape"], serde_json::json!([2, 1280]));
    assert_eq!(answer["layer"], "global_average_pooling2d");
    let (shape, pooled) = npy(&at("pooled.npy"));
    assert_eq!((shape.as_str(), pooled.len()), ("(2, 1280)", 2560));
    let paths = fs::read_to_string(at("pooled.txt")).unwrap();
    assert_eq!(paths, "photos/a.png\nphotos/b.jpg\n");

    // A map, channels last; its mean is the pooled vector.
    let more = ["--layer", "out_relu", "--out", "map.safetensors"];
    let answer = features("whole.safetensors", &more);
    assert_eq!(answer["shape"], serde_json::json!([2, 2, 2, 1280]));
    let map = &safetensors::load(at("map.safetensors"), &Device::Cpu).unwrap()["features"];
    let mean = map.mean((1, 2)).unwrap().flatten_all().unwrap();
    for (a, b) in mean.to_vec1::<f32>().unwrap().iter().zip(&pooled) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }

    let more = ["--layer", "predictions", "--out", "logits.csv"];
    assert_eq!(
        features("whole.safetensors", &more)["shape"],
        serde_json::json!([2, 1000])
    );
    let csv = fs::read_to_string(at("logits.csv")).unwrap();
    assert_eq!(csv.lines().count(), 3);
    assert_eq!(csv.lines().nth(1).unwrap().split(',').count(), 1001);
}

#[test]
fn features_that_cannot_be() {
    let folder = folder();
    let out = ["photos", "--out", "f.csv", "--layer", "block_16_project_BM"];
    let (_, stderr, code) = xp(folder.path(), &small("features", "bare.safetensors", &out));
    assert_eq!(code, Some(2));
    assert!(
        stderr.starts_with(
            "error: `mobilenet_v2` has no layer `block_16_project_BM`\n  help: did you mean \
             `block_16_project_BN`"
        ),
        "{stderr}"
    );
    let out = ["photos", "--out", "f.txt"];
    let (_, stderr, code) = xp(folder.path(), &small("features", "bare.safetensors", &out));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("`.npy` or `.csv`"), "{stderr}");
    // A broken picture costs itself alone.
    fs::write(folder.path().join("photos/c.jpg"), "no picture").unwrap();
    let out = ["photos", "--out", "f.csv"];
    let (_, stderr, code) = xp(folder.path(), &small("features", "bare.safetensors", &out));
    assert_eq!(code, Some(3), "{stderr}");
    assert!(
        stderr.contains("1 of 3 pictures could not be read"),
        "{stderr}"
    );
    let csv = fs::read_to_string(folder.path().join("f.csv")).unwrap();
    assert_eq!(csv.lines().count(), 3);
}
