use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use candle_core::{Device, Tensor};

use super::proto::Model;
use super::*;
use crate::config::{Flavour, ModelConfig};
use crate::data::Framing;
use crate::data::preprocess::Scale;
use crate::engine::params::Params;
use crate::engine::parity::say;
use crate::engine::prefix::Prefix;
use crate::engine::test_support::{formula, noise};
use crate::ops::loss;
use crate::zoo::registry::FAMILIES;

fn graph(backbone: &str, size: u32, head: &str) -> Graph {
    let text = format!("backbone = \"{backbone}\"\nhead = {head}");
    let model: ModelConfig = toml::from_str(&text).unwrap();
    Graph::build(&model, [size; 2], Flavour::Torch).unwrap()
}

fn preprocess(size: u32) -> Preprocess {
    Preprocess {
        image_size: [size; 2],
        resize: None,
        interpolation: Interpolation::Bilinear,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        order: ChannelOrder::Rgb,
    }
}

fn encoded(graph: &Graph, params: &Params, preprocess: &Preprocess, input: Input) -> Vec<u8> {
    let network = Network {
        graph,
        params,
        preprocess,
        name: "test",
        metadata: &[("classes", "[\"a\"]".into())],
    };
    encode(&network, input).unwrap()
}

/// What ONNX demands of every network: values are made once, before they are read, and all that is
/// promised comes out.
fn check(name: &str, model: &Model) {
    let graph = model.graph.as_ref().unwrap();
    let mut known: HashSet<&str> = HashSet::new();
    for tensor in &graph.initializer {
        let elements: i64 = tensor.dims.iter().product();
        let each = match tensor.data_type {
            Some(proto::FLOAT) => 4,
            _ => 8,
        };
        let bytes = tensor.raw_data.as_ref().unwrap().len();
        assert_eq!(bytes as i64, each * elements, "{name}: {tensor:?}");
        assert!(known.insert(tensor.name.as_deref().unwrap()), "{name}");
    }
    for input in &graph.input {
        assert!(known.insert(input.name.as_deref().unwrap()), "{name}");
    }
    for node in &graph.node {
        for input in node.input.iter().filter(|it| !it.is_empty()) {
            assert!(known.contains(input.as_str()), "{name}: {node:?}");
        }
        for output in &node.output {
            assert!(known.insert(output), "{name}: {output} is made twice");
        }
    }
    for output in [LOGITS, PROBABILITIES] {
        assert!(known.contains(output), "{name}");
    }
    // Nothing is carried that nobody reads.
    let read: HashSet<&String> = graph.node.iter().flat_map(|node| &node.input).collect();
    for tensor in &graph.initializer {
        assert!(read.contains(tensor.name.as_ref().unwrap()), "{name}");
    }
}

#[test]
fn every_backbone_is_a_sound_network() {
    for family in FAMILIES {
        let size = family.default_size;
        let graph = graph(family.name, size, "[{ dropout = 0.2 }, { dense = 3 }]");
        let params = Params::initialise(&graph, 0, &Device::Cpu).unwrap();
        for input in [Input::Scaled, Input::Pictures] {
            let bytes = encoded(&graph, &params, &preprocess(size), input);
            let model = Model::decode(bytes.as_slice()).unwrap();
            check(family.name, &model);
        }
    }
}

#[test]
fn one_logit_gives_the_probabilities_of_two_classes() {
    let graph = graph("mobilenet_v2", 32, "[{ dense = 1 }]");
    let params = Params::initialise(&graph, 0, &Device::Cpu).unwrap();
    let bytes = encoded(&graph, &params, &preprocess(32), Input::Scaled);
    let model = Model::decode(bytes.as_slice()).unwrap();
    check("one logit", &model);
    let sizes = model.graph.unwrap().output.into_iter().map(|output| {
        let shape = output.r#type.unwrap().tensor_type.unwrap().shape.unwrap();
        shape.dim[1].value.clone().unwrap()
    });
    let sizes: Vec<_> = sizes.collect();
    assert_eq!(sizes, [proto::Extent::Fixed(1), proto::Extent::Fixed(2)]);
}

#[test]
fn a_layer_that_is_called_as_what_comes_out_keeps_out_of_the_way() {
    let graph = Graph::build_classifier("mobilenet_v3_small", 1.0, [32; 2], Flavour::Torch, 7);
    let graph = graph.unwrap();
    assert!(graph.find(LOGITS).is_some());
    let params = Params::initialise(&graph, 0, &Device::Cpu).unwrap();
    let bytes = encoded(&graph, &params, &preprocess(32), Input::Scaled);
    check("logits", &Model::decode(bytes.as_slice()).unwrap());
}

/// `just export`: every backbone in ONNX Runtime, with weights by formula. Needs a Python with
/// onnxruntime, named by `EXPORT_PYTHON`.
#[test]
#[ignore = "needs ONNX Runtime"]
fn onnx_runtime_computes_the_same() {
    let Some(python) = std::env::var_os("EXPORT_PYTHON") else {
        say("skipped: needs `EXPORT_PYTHON`, a Python with onnxruntime");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for family in FAMILIES {
        let size = family.default_size;
        let graph = graph(family.name, size, "[{ dense = 5 }]");
        write_case(folder.path(), family.name, &graph, size);
    }
    // Other heads: layers in a row, one logit.
    let head = "[{ conv2d = 8, kernel = 1 }, \"batch_norm\", \"relu\", \"flatten\", { dense = 1 }]\n\
                pooling = \"none\"";
    let mobilenet = graph("mobilenet_v2", 96, head);
    write_case(folder.path(), "one_logit", &mobilenet, 96);
    for (name, preprocess) in preprocessings() {
        write_pictures(folder.path(), name, &preprocess);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx_runtime.py");
    let status = Command::new(python)
        .arg(script)
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
}

/// A network, pictures for it and what we make of them.
fn write_case(folder: &Path, name: &str, graph: &Graph, size: u32) {
    let params = formula(graph);
    let pictures = noise("pictures", &[7, size as usize, size as usize, 3]);
    let network = Prefix::compile(graph, &params, &[0], &[graph.output()]).unwrap();
    let logits = network
        .run(std::slice::from_ref(&pictures))
        .unwrap()
        .swap_remove(0);
    let given = pictures
        .permute((0, 3, 1, 2))
        .unwrap()
        .contiguous()
        .unwrap();
    let bytes = encoded(graph, &params, &preprocess(size), Input::Scaled);
    write(folder, name, &bytes, ("input", given), logits, 1e-4);
}

fn write(
    folder: &Path,
    name: &str,
    bytes: &[u8],
    (input, given): (&str, Tensor),
    logits: Tensor,
    tolerance: f64,
) {
    std::fs::write(folder.join(format!("{name}.onnx")), bytes).unwrap();
    let probabilities = loss::probabilities(&logits).unwrap();
    let probabilities = Tensor::new(probabilities, &Device::Cpu).unwrap();
    let tensors = [
        (input.to_owned(), given),
        (LOGITS.to_owned(), logits),
        (PROBABILITIES.to_owned(), probabilities),
        (
            "tolerance".to_owned(),
            Tensor::new(&[tolerance], &Device::Cpu).unwrap(),
        ),
    ];
    let path = folder.join(format!("{name}.safetensors"));
    candle_core::safetensors::save(&tensors.into_iter().collect(), path).unwrap();
}

fn preprocessings() -> Vec<(&'static str, Preprocess)> {
    let plain = preprocess(96);
    vec![
        ("pictures_bilinear", plain),
        (
            "pictures_cropped",
            Preprocess {
                resize: Some([121, 110]),
                ..plain
            },
        ),
        (
            "pictures_bicubic_bgr",
            Preprocess {
                interpolation: Interpolation::Bicubic,
                order: ChannelOrder::Bgr,
                ..plain
            },
        ),
        (
            "pictures_nearest",
            Preprocess {
                interpolation: Interpolation::Nearest,
                ..plain
            },
        ),
    ]
}

/// A network of one convolution, which shows what preprocessing makes of pictures: many layers of
/// weights by formula would make much of a level more or less.
fn write_pictures(folder: &Path, name: &str, preprocess: &Preprocess) {
    let head = "[{ dense = 5 }]\ncut = \"Conv1_relu\"";
    let graph = graph("mobilenet_v2", 96, head);
    let params = formula(&graph);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/plain.jpg");
    let picture = image::open(fixture).unwrap().to_rgb8();
    let (width, height) = picture.dimensions();
    let bytes = picture.as_raw().clone();
    let given = Tensor::from_vec(
        bytes,
        &[1, height as usize, width as usize, 3],
        &Device::Cpu,
    )
    .unwrap();
    let [rows, columns] = preprocess.image_size;
    let seen = Framing::Resized.frame(picture, preprocess);
    let mut scaled = vec![0.0; preprocess.values()];
    Scale::new(preprocess).apply(&seen, &mut scaled);
    let pictures = Tensor::from_vec(
        scaled,
        &[1, rows as usize, columns as usize, 3],
        &Device::Cpu,
    )
    .unwrap();
    let network = Prefix::compile(&graph, &params, &[0], &[graph.output()]).unwrap();
    let logits = network.run(&[pictures]).unwrap().swap_remove(0);
    let file = encoded(&graph, &params, preprocess, Input::Pictures);
    // A level more or less where two roundings meet.
    write(folder, name, &file, ("pictures", given), logits, 0.01);
}
