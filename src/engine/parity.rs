//! Every architecture against its reference in timm, torchvision or Keras, from fixtures that
//! `tests/fixtures/make_parity.py` makes.

pub(crate) mod fixture;
mod formula;
mod keys;
mod sensitivity;

use std::path::Path;
use std::process::Command;

use candle_core::{Device, Tensor, safetensors};

use self::fixture::{Case, Fixture, named, worst};
use super::params::Params;
use super::prefix::Prefix;
use super::suffix::Suffix;
use super::test_support::{assert_close, difference, freezing, mobilenet, node_by_node};
use crate::config::BatchNormMode;
use crate::graph::Graph;

const VALUES: f64 = 1e-4;
const GRADIENTS: f64 = 1e-3;

/// Which of the two implementations runs.
#[derive(Debug, Clone, Copy)]
enum By {
    /// Compiled prefix and suffix.
    Program,
    /// Tensor operations node by node.
    Operations,
}

#[test]
fn compiled_networks_equal_their_references() {
    report(By::Program);
}

/// Slow without optimisation: `just parity`.
#[test]
#[ignore = "slow without optimisation"]
fn networks_node_by_node_equal_their_references() {
    report(By::Operations);
}

fn report(by: By) {
    let mut failures = Vec::new();
    for (name, fixture) in fixture::all() {
        let start = std::time::Instant::now();
        // The same at every size of picture.
        let params = fixture.params(&fixture.graph(&fixture.eval));
        let mut found = vec![eval(&fixture, &params, by)];
        for (mode, case) in [
            (BatchNormMode::Eval, Some(&fixture.eval)),
            (BatchNormMode::Train, fixture.train.as_ref()),
        ] {
            if let Some(case) = case {
                found.extend(step(&fixture, &params, case, mode, by));
            }
        }
        let lines: Vec<String> = found.iter().map(|(_, line)| line.clone()).collect();
        let seconds = start.elapsed().as_secs_f64();
        say(&format!("{name} ({seconds:.1} s): {}", lines.join("; ")));
        let wrong = found.into_iter().filter(|(ok, _)| !ok);
        failures.extend(wrong.map(|(_, line)| format!("{name}: {line}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Whether a comparison holds, and what it found.
type Finding = (bool, String);

fn finding(what: &str, (difference, name): (f64, String), tolerance: f64) -> Finding {
    let ok = difference <= tolerance;
    (ok, format!("{what} {difference:.1e} (`{name}`)"))
}

/// Maps, pooled features and logits in inference.
fn eval(fixture: &Fixture, params: &Params, by: By) -> Finding {
    let case = &fixture.eval;
    let graph = fixture.graph(case);
    let outputs = infer(&graph, params, case, by);
    let outputs = named(case.values.keys(), outputs);
    finding("values", worst(&case.values, |name| &outputs[name]), VALUES)
}

/// Outputs of the nodes that a case keeps.
fn infer(graph: &Graph, params: &Params, case: &Case, by: By) -> Vec<Tensor> {
    let nodes = case.nodes(graph);
    match by {
        By::Program => Prefix::compile(graph, params, &[0], &nodes)
            .unwrap()
            .run(&[case.pictures()])
            .unwrap(),
        By::Operations => {
            let all = node_by_node(graph, params, &case.pictures());
            nodes.iter().map(|&id| all[id].clone()).collect()
        }
    }
}

/// Logits, gradients and new statistics of a training step.
fn step(
    fixture: &Fixture,
    params: &Params,
    case: &Case,
    mode: BatchNormMode,
    by: By,
) -> Vec<Finding> {
    let graph = fixture.graph(case);
    let (trainable, frontier) = freezing(&graph, "freeze = \"none\"");
    let mut suffix = Suffix::new(graph.clone(), &trainable, &frontier, mode);
    if matches!(by, By::Operations) {
        suffix = suffix.portable();
    }
    let stepped = suffix
        .step(params, &[case.pictures()], 0, &case.loss())
        .unwrap();
    let logits = &graph.nodes()[graph.output()].name;
    let difference = case.values[logits].difference(logits, &stepped.logits);
    let gradient = |name: &str| {
        let found = stepped.gradients.get(name);
        found.unwrap_or_else(|| panic!("no gradient to `{name}`"))
    };
    let statistics = named(
        stepped.statistics.iter().map(|(name, _)| name),
        stepped.statistics.iter().map(|(_, t)| t.clone()).collect(),
    );
    let mut found = vec![
        finding(
            &format!("{mode:?} logits"),
            (difference, logits.clone()),
            VALUES,
        ),
        finding("gradients", worst(&case.gradients, gradient), GRADIENTS),
    ];
    if mode == BatchNormMode::Train {
        let moved = worst(&case.statistics, |name| &statistics[name]);
        found.push(finding("statistics", moved, VALUES));
    }
    found
}

/// ImageNet weights on ten photographs. Needs `../shared` (or `PARITY_SHARED`) and a Python with
/// torchvision, named by `PARITY_PYTHON`.
#[test]
fn real_features_equal_torchvision() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("PARITY_SHARED").map_or(root.join("../shared"), Into::into);
    let (true, Some(python)) = (shared.is_dir(), std::env::var_os("PARITY_PYTHON")) else {
        say("skipped: needs `../shared` and `PARITY_PYTHON`, a Python with torchvision");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("features.safetensors");
    let status = Command::new(python)
        .arg(root.join("tests/fixtures/make_real_features.py"))
        .arg(shared.join("weights/mobilenet_v2_imagenet.safetensors"))
        .arg(shared.join("data/flowers_1k"))
        .arg(&out)
        .status()
        .unwrap();
    assert!(status.success());
    let expected = safetensors::load(out, &Device::Cpu).unwrap();
    let graph = mobilenet(1.0, 160, "[{ dense = 5 }]");
    let mut params = Params::initialise(&graph, 0, &Device::Cpu).unwrap();
    let wanted: Vec<(String, Vec<usize>)> = (0..graph.backbone_len())
        .flat_map(|id| graph.params(id))
        .map(|spec| (spec.name, spec.dims))
        .collect();
    let weights = shared.join("weights/mobilenet_v2_imagenet.safetensors");
    let source = weights.to_string_lossy();
    let loaded = crate::weights::load(&source, "mobilenet_v2", &wanted, &Device::Cpu).unwrap();
    for (name, value) in loaded.tensors {
        params.set(&name, value).unwrap();
    }
    let features = graph.find("global_average_pooling2d").unwrap();
    let prefix = Prefix::compile(&graph, &params, &[0], &[features]).unwrap();
    let actual = prefix.run(&[expected["pictures"].clone()]).unwrap();
    say(&format!(
        "features of ten photographs differ by {:.2e} of the largest",
        difference(&actual[0], &expected["features"])
    ));
    assert_close("features", &actual[0], &expected["features"], VALUES);
}

/// Pictures by the formula: their set's number, how many, and their side.
pub(crate) fn pictures(number: u64, batch: usize, side: usize) -> Tensor {
    formula::pictures(number, batch, side)
}

/// Says something in a test's output.
#[expect(clippy::print_stderr, reason = "tests report there")]
pub(crate) fn say(message: &str) {
    eprintln!("{message}");
}
