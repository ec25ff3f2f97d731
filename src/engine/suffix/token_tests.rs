//! Transformers and ConvNeXt: compiled against node by node, and both against timm.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use candle_core::Device;
use serde::Deserialize;

use super::*;
use crate::config::Flavour;
use crate::engine::params::same_bytes;
use crate::engine::prefix::Prefix;
use crate::engine::test_support::{
    assert_close, difference, formula, freezing, node_by_node, noise, with_threads,
};
use crate::graph::{GraphBuilder, Op};
use crate::weights;
use crate::zoo::{convnext, vit};

const CLOSE: f64 = 1e-4;

/// Tiny nets with a head of three logits, and the size of their pictures.
pub(super) fn nets() -> [(&'static str, Graph, [usize; 2]); 2] {
    let logits = |builder: &mut GraphBuilder| {
        let pooled = builder.last();
        let dense = Op::Dense { units: 3 };
        builder.add("logits", dense, &[pooled]).unwrap();
    };
    let mut transformer = GraphBuilder::new([8, 12]);
    vit::tiny(&mut transformer).unwrap();
    let tokens = transformer.last();
    assert!(transformer.has_class_token());
    transformer
        .add("pooled_token", Op::TakeClassToken, &[tokens])
        .unwrap();
    logits(&mut transformer);
    let mut convolutions = GraphBuilder::new([32, 64]);
    convnext::tiny(&mut convolutions).unwrap();
    assert!(!convolutions.has_class_token());
    convolutions.pool("pooled", Op::GlobalAvgPool).unwrap();
    logits(&mut convolutions);
    [
        ("vit", transformer.finish(), [8, 12]),
        ("convnext", convolutions.finish(), [32, 64]),
    ]
}

fn picture([height, width]: [usize; 2]) -> Tensor {
    noise("picture", &[3, height, width, 3])
}

fn step(suffix: &Suffix, params: &Params, inputs: &[Tensor], portable: bool) -> Stepped {
    let weights = noise("weights", &[3, 3]);
    let loss = |_: &Tensor, part: Range<usize>| weights.narrow(0, part.start, part.len());
    match portable {
        true => portable::step(&suffix.graph, &suffix.plan, params, inputs, 0, &loss),
        false => suffix.step(params, inputs, 0, &loss),
    }
    .unwrap()
}

#[derive(Deserialize)]
struct Expected {
    logits: Vec<f32>,
    gradients: BTreeMap<String, Vec<f32>>,
}

#[test]
fn logits_and_gradients_equal_timm() {
    let text = include_str!("../../../tests/fixtures/tokens.json");
    let expected: BTreeMap<String, Expected> = serde_json::from_str(text).unwrap();
    for (net, graph, size) in nets() {
        let expected = &expected[net];
        let params = formula(&graph);
        let (trainable, frontier) = freezing(&graph, "freeze = \"none\"");
        let suffix = Suffix::new(Arc::new(graph), &trainable, &frontier, BatchNormMode::Eval);
        for portable in [false, true] {
            let stepped = step(&suffix, &params, &[picture(size)], portable);
            let logits = Tensor::from_slice(&expected.logits, (3, 3), &Device::Cpu).unwrap();
            assert_close(net, &stepped.logits, &logits, CLOSE);
            assert!(expected.gradients.len() > 10);
            for (name, expected) in &expected.gradients {
                let gradient = &stepped.gradients[name];
                let expected = Tensor::from_slice(expected, gradient.dims(), &Device::Cpu);
                assert_close(name, gradient, &expected.unwrap(), 2e-4);
            }
        }
    }
}

#[test]
fn every_cutoff_trains_alike_compiled_and_node_by_node() {
    for (_, graph, size) in nets() {
        let params = formula(&graph);
        let outputs = node_by_node(&graph, &params, &picture(size));
        let full = {
            let (trainable, frontier) = freezing(&graph, "freeze = \"none\"");
            let graph = Arc::new(graph.clone());
            let full = Suffix::new(graph, &trainable, &frontier, BatchNormMode::Eval);
            step(&full, &params, &[picture(size)], true).gradients
        };
        let layers = graph.layers().len() - 2;
        for cutoff in 3..layers {
            let (trainable, frontier) = freezing(&graph, &format!("freeze_before = {cutoff}"));
            let compiled = Arc::new(graph.clone());
            let suffix = Suffix::new(compiled, &trainable, &frontier, BatchNormMode::Eval);
            let stored = &frontier.stored;
            let prefix = Prefix::compile(&graph, &params, &[0], stored).unwrap();
            let inputs = prefix.run(&[picture(size)]).unwrap();
            for (&id, input) in stored.iter().zip(&inputs) {
                assert_close(&graph.nodes()[id].name, input, &outputs[id], CLOSE);
            }
            let stepped = step(&suffix, &params, &inputs, false);
            assert_close("logits", &stepped.logits, &outputs[graph.output()], CLOSE);
            assert!(stepped.gradients.keys().eq(suffix.trained()));
            for (name, gradient) in &stepped.gradients {
                let what = format!("{name} from layer {cutoff}");
                assert_close(&what, gradient, &full[name], 2e-4);
            }
        }
    }
}

#[test]
fn each_layer_is_compiled_as_it_is_computed() {
    for (_, graph, size) in nets() {
        let params = formula(&graph);
        let outputs = node_by_node(&graph, &params, &picture(size));
        for (id, expected) in outputs.iter().enumerate().skip(1) {
            let prefix = Prefix::compile(&graph, &params, &[0], &[id]).unwrap();
            let found = prefix.run(&[picture(size)]).unwrap();
            assert_close(&graph.nodes()[id].name, &found[0], expected, CLOSE);
        }
    }
}

#[test]
fn bits_depend_neither_on_threads_nor_on_the_batch() {
    for (_, graph, size) in nets() {
        let params = formula(&graph);
        let prefix = Prefix::compile(&graph, &params, &[0], &[graph.output()]).unwrap();
        let (trainable, frontier) = freezing(&graph, "freeze = \"none\"");
        let suffix = Suffix::new(Arc::new(graph), &trainable, &frontier, BatchNormMode::Eval);
        let run = |pictures: &Tensor| prefix.run(std::slice::from_ref(pictures)).unwrap();
        let whole = with_threads(1, || run(&picture(size)));
        let last = picture(size).narrow(0, 2, 1).unwrap().contiguous().unwrap();
        let last = with_threads(1, || run(&last));
        assert!(same_bytes(&last[0], &whole[0].narrow(0, 2, 1).unwrap()).unwrap());
        let one = with_threads(1, || step(&suffix, &params, &[picture(size)], false));
        for threads in [2, 5] {
            let again = with_threads(threads, || run(&picture(size)));
            assert!(same_bytes(&again[0], &whole[0]).unwrap());
            let many = with_threads(threads, || step(&suffix, &params, &[picture(size)], false));
            for (name, gradient) in &many.gradients {
                assert!(
                    same_bytes(gradient, &one.gradients[name]).unwrap(),
                    "{name}"
                );
            }
        }
    }
}

/// Random networks of whole families, loaded by their published names. Needs `PARITY_PYTHON`, a
/// Python with timm and torchvision.
#[test]
fn families_equal_timm_and_torchvision() {
    let Some(python) = std::env::var_os("PARITY_PYTHON") else {
        say("skipped: needs `PARITY_PYTHON`, a Python with timm and torchvision");
        return;
    };
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for (house, family, side) in [
        ("timm", "vit_small_16", 224),
        ("timm", "vit_small_16", 96),
        ("timm", "dinov2_small_14", 224),
        ("timm", "convnext_tiny", 224),
        ("torchvision", "convnext_tiny", 96),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("network.safetensors");
        let status = Command::new(&python)
            .arg(fixtures.join("make_timm_reference.py"))
            .args([house, family, &side.to_string()])
            .arg(&out)
            .status()
            .unwrap();
        assert!(status.success());
        let expected = candle_core::safetensors::load(&out, &Device::Cpu).unwrap();
        let model = format!("backbone = \"{family}\"\nhead = [{{ dense = 3 }}]");
        let model = toml::from_str(&model).unwrap();
        let graph = Graph::build(&model, [side, side], Flavour::Torch).unwrap();
        let mut params = Params::initialise(&graph, 0, &Device::Cpu).unwrap();
        let wanted: Vec<(String, Vec<usize>)> = (0..graph.backbone_len())
            .flat_map(|id| graph.params(id))
            .map(|spec| (spec.name, spec.dims))
            .collect();
        let source = out.to_string_lossy();
        let loaded = weights::load(&source, family, &wanted, &Device::Cpu).unwrap();
        for (name, value) in loaded.tensors {
            params.set(&name, value).unwrap();
        }
        let features = graph.nodes()[graph.output()].inputs[0];
        let pictures = &expected["pictures"];
        let prefix = Prefix::compile(&graph, &params, &[0], &[features]).unwrap();
        let run = || prefix.run(std::slice::from_ref(pictures)).unwrap();
        let found = run();
        let start = std::time::Instant::now();
        run();
        let milliseconds = start.elapsed().as_millis();
        let portable = node_by_node(&graph, &params, pictures);
        let wanted = &expected["features"];
        say(&format!(
            "{family} at {side} by {house}: features differ by {:.1e}, node by node by {:.1e}; \
             {milliseconds} ms for {} pictures",
            difference(&found[0], wanted),
            difference(&portable[features], wanted),
            pictures.dim(0).unwrap(),
        ));
        assert_close(family, &found[0], wanted, CLOSE);
        assert_close(family, &portable[features], wanted, CLOSE);
    }
}

/// Says something in a test's output.
#[expect(clippy::print_stderr, reason = "tests report there")]
fn say(message: &str) {
    eprintln!("{message}");
}
