//! Networks against torchvision's: see `tests/fixtures/make_mobilenet_fixture.py` and
//! `make_torchvision_reference.py`.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use candle_core::{Device, Tensor, safetensors};

use super::params::Params;
use super::prefix::Prefix;
use super::suffix::Suffix;
use super::test_support::{assert_close, difference, formula, freezing, mobilenet, uniform};
use crate::config::{BatchNormMode, Flavour};
use crate::graph::Graph;
use crate::weights::{self, Naming};

const FEATURES: f64 = 1e-4;
const GRADIENTS: f64 = 1e-3;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn load(path: &Path) -> HashMap<String, Tensor> {
    safetensors::load(path, &Device::Cpu).unwrap()
}

/// The script's `PICTURES`: side and number by mode of batch norm.
const EVAL: (usize, usize) = (32, 457);
const TRAIN: (usize, usize) = (64, 398);

/// The script's `pictures`.
fn pictures((side, number): (usize, usize)) -> Tensor {
    let (batch, blocks) = (4, 4);
    let coarse = uniform(&format!("squares {number}"), batch * blocks * blocks * 3);
    let fine = uniform(&format!("noise {number}"), batch * side * side * 3);
    let size = side / blocks;
    let value = |index: usize| {
        let (channel, x) = (index % 3, index / 3 % side);
        let (y, picture) = (index / 3 / side % side, index / 3 / side / side);
        let block = (picture * blocks + y / size) * blocks + x / size;
        (0.7 * coarse[block * 3 + channel] + 0.3 * fine[index]) as f32
    };
    let values: Vec<f32> = (0..fine.len()).map(value).collect();
    Tensor::from_vec(values, (batch, side, side, 3), &Device::Cpu).unwrap()
}

fn network((side, _): (usize, usize)) -> Graph {
    mobilenet(0.35, u32::try_from(side).unwrap(), "[{ dense = 5 }]")
}

#[test]
fn features_and_logits_equal_torchvision() {
    let expected = load(&fixtures().join("mobilenet_v2_torch.safetensors"));
    let graph = network(EVAL);
    let features = graph.find("global_average_pooling2d").unwrap();
    let outputs = [features, graph.output()];
    let prefix = Prefix::compile(&graph, &formula(&graph), &[0], &outputs).unwrap();
    let outputs = prefix.run(&[pictures(EVAL)]).unwrap();
    assert_close(
        "features",
        &outputs[0],
        &expected["eval/features"],
        FEATURES,
    );
    assert_close("logits", &outputs[1], &expected["eval/logits"], FEATURES);
}

#[test]
fn gradients_equal_torchvision_in_both_modes() {
    let expected = load(&fixtures().join("mobilenet_v2_torch.safetensors"));
    for (mode, bn, set) in [
        ("eval", BatchNormMode::Eval, EVAL),
        ("train", BatchNormMode::Train, TRAIN),
    ] {
        let graph = Arc::new(network(set));
        let params = formula(&graph);
        let (trainable, frontier) = freezing(&graph, "freeze = \"none\"");
        let suffix = Suffix::new(graph.clone(), &trainable, &frontier, bn);
        let dlogits = &expected[&format!("{mode}/dlogits")];
        let loss = |_: &Tensor, part: Range<usize>| dlogits.narrow(0, part.start, part.len());
        let stepped = suffix.step(&params, &[pictures(set)], 0, &loss).unwrap();
        let logits = &expected[&format!("{mode}/logits")];
        assert_close(&format!("{mode} logits"), &stepped.logits, logits, FEATURES);
        let statistics: HashMap<String, Tensor> = stepped.statistics.iter().cloned().collect();
        assert_eq!(statistics.len(), if mode == "train" { 104 } else { 0 });
        let gradients = stepped.gradients;
        assert!(gradients.keys().eq(suffix.trained()));
        let prefix = format!("{mode}/");
        let mut compared = 0;
        for (name, expected) in &expected {
            let Some(name) = name.strip_prefix(&prefix) else {
                continue;
            };
            if let Some(gradient) = gradients.get(name) {
                assert_close(&format!("{mode} {name}"), gradient, expected, GRADIENTS);
                compared += 1;
            } else if let Some(statistic) = statistics.get(name) {
                assert_close(&format!("{mode} {name}"), statistic, expected, FEATURES);
            }
        }
        assert_eq!(compared, 9);
    }
}

/// ImageNet weights on ten photographs. Needs `../shared` (or `PARITY_SHARED`) and a Python with
/// torchvision, named by `PARITY_PYTHON`.
#[test]
fn real_features_equal_torchvision() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("PARITY_SHARED").map_or(beside, PathBuf::from);
    let (true, Some(python)) = (shared.is_dir(), std::env::var_os("PARITY_PYTHON")) else {
        say("skipped: needs `../shared` and `PARITY_PYTHON`, a Python with torchvision");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("features.safetensors");
    let status = Command::new(python)
        .arg(fixtures().join("make_mobilenet_fixture.py"))
        .arg("real")
        .arg(shared.join("weights/mobilenet_v2_imagenet.safetensors"))
        .arg(shared.join("data/flowers_1k"))
        .arg(&out)
        .status()
        .unwrap();
    assert!(status.success());
    let expected = load(&out);
    let graph = mobilenet(1.0, 160, "[{ dense = 5 }]");
    let mut params = Params::initialise(&graph, 0, &Device::Cpu).unwrap();
    for (name, value) in &expected {
        if name.contains('/') {
            params.set(name, value.clone()).unwrap();
        }
    }
    let features = graph.find("global_average_pooling2d").unwrap();
    let prefix = Prefix::compile(&graph, &params, &[0], &[features]).unwrap();
    let actual = prefix.run(&[expected["pictures"].clone()]).unwrap();
    say(&format!(
        "features of ten photographs differ by {:.2e} of the largest",
        difference(&actual[0], &expected["features"])
    ));
    assert_close("features", &actual[0], &expected["features"], FEATURES);
}

/// Random networks of the other families, forward and backward, loaded by their published names.
/// Needs `PARITY_PYTHON`, a Python with torchvision.
#[test]
fn other_families_equal_torchvision() {
    let Some(python) = std::env::var_os("PARITY_PYTHON") else {
        say("skipped: needs `PARITY_PYTHON`, a Python with torchvision");
        return;
    };
    // A rounding error switches some of a deep network's ReLUs: PyTorch's own gradients of these
    // ResNets differ by up to 0.03 between single and double precision.
    const SWITCHED: f64 = 0.1;
    for (family, side, tolerance) in [
        ("densenet121", 65, SWITCHED),
        ("googlenet", 107, SWITCHED),
        ("inception_v3", 107, SWITCHED),
        ("resnet18", 65, SWITCHED),
        ("resnet34", 65, SWITCHED),
        ("resnet50", 65, SWITCHED),
        ("resnet101", 65, SWITCHED),
        ("squeezenet1_1", 98, GRADIENTS),
        ("vgg16", 40, GRADIENTS),
        ("vgg19_bn", 224, SWITCHED),
        ("xception", 107, SWITCHED),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("network.safetensors");
        let status = Command::new(&python)
            .arg(fixtures().join("make_torchvision_reference.py"))
            .args([family, &side.to_string()])
            .arg(&out)
            .status()
            .unwrap();
        assert!(status.success());
        let expected = load(&out);
        let model = format!("backbone = \"{family}\"\nhead = [{{ dense = 3 }}]");
        let model = toml::from_str(&model).unwrap();
        let graph = Arc::new(Graph::build(&model, [side, side], Flavour::Torch).unwrap());
        let (mut params, naming) = published(&graph, family, &out);
        for name in ["dense/kernel", "dense/bias"] {
            params.set(name, expected[name].clone()).unwrap();
        }
        let pictures = [expected["pictures"].clone()];
        let prefix = Prefix::compile(&graph, &params, &[0], &[graph.output()]).unwrap();
        let logits = prefix.run(&pictures).unwrap();
        assert_close(family, &logits[0], &expected["logits"], FEATURES);

        // VGG's classifier takes maps of 7 x 7 alone.
        if !family.starts_with("vgg") || side == 224 {
            let size = [side, side];
            let whole = Graph::build_classifier(family, 1.0, size, Flavour::Torch, 1000).unwrap();
            let (params, _) = published(&whole, family, &out);
            let prefix = Prefix::compile(&whole, &params, &[0], &[whole.output()]).unwrap();
            let own = prefix.run(&pictures).unwrap();
            assert_close(family, &own[0], &expected["own/logits"], FEATURES);
        }

        let (trainable, frontier) = freezing(&graph, "freeze = \"none\"");
        let suffix = Suffix::new(graph.clone(), &trainable, &frontier, BatchNormMode::Eval);
        let dlogits = &expected["dlogits"];
        let loss = |_: &Tensor, part: Range<usize>| dlogits.narrow(0, part.start, part.len());
        let gradients = suffix.step(&params, &pictures, 0, &loss).unwrap().gradients;
        let (mut compared, mut worst) = (0, 0f64);
        for (name, gradient) in &gradients {
            let key = weights::keys::checkpoint_key(family, naming, name);
            let Some(wanted) = key.and_then(|key| expected.get(&format!("gradients/{key}"))) else {
                continue;
            };
            assert_close(&format!("{family} {name}"), gradient, wanted, tolerance);
            worst = worst.max(difference(gradient, wanted));
            compared += 1;
        }
        assert!(compared > 10);
        let logits = difference(&logits[0], &expected["logits"]);
        say(&format!(
            "{family}: logits differ by {logits:.1e}, {compared} gradients by at most {worst:.1e}"
        ));
    }
}

/// Parameters of the graph's backbone from a file of another house.
fn published(graph: &Graph, family: &str, path: &Path) -> (Params, Naming) {
    let mut params = Params::initialise(graph, 0, &Device::Cpu).unwrap();
    let wanted: Vec<(String, Vec<usize>)> = (0..graph.backbone_len())
        .flat_map(|id| graph.params(id))
        .map(|spec| (spec.name, spec.dims))
        .collect();
    let source = path.to_string_lossy();
    let loaded = weights::load(&source, family, &wanted, &Device::Cpu).unwrap();
    for (name, value) in loaded.tensors {
        params.set(&name, value).unwrap();
    }
    (params, loaded.naming)
}

/// Says something in a test's output.
#[expect(clippy::print_stderr, reason = "tests report there")]
fn say(message: &str) {
    eprintln!("{message}");
}
