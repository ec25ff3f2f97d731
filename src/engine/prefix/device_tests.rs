//! Compiled inference on an emulated GPU equals that on the CPU.

use candle_core::Tensor;

use super::Prefix;
use super::tests::odd_graph;
use crate::config::Flavour;
use crate::engine::params::Params;
use crate::engine::test_support::{difference, formula, mobilenet, noise};
use crate::gpu::host;
use crate::graph::{Graph, NodeId};
use crate::precision::Precision;

/// Largest difference of any output, as a share of the largest value of it.
fn worst(
    graph: &Graph,
    params: &Params,
    picture: &Tensor,
    outputs: &[NodeId],
    precision: Precision,
) -> Option<f64> {
    let gpu = host::gpu(precision)?;
    let run = |params: &Params| {
        let prefix = Prefix::compile(graph, params, &[0], outputs).unwrap();
        prefix.run(std::slice::from_ref(picture)).unwrap()
    };
    let there = run(&params.clone().on(Some(gpu)));
    let here = run(params);
    let pairs = there.iter().zip(&here);
    Some(
        pairs
            .map(|(there, here)| difference(there, here))
            .fold(0.0, f64::max),
    )
}

#[test]
fn every_step_is_that_of_the_cpu() {
    let graph = odd_graph();
    let params = formula(&graph);
    let picture = noise("picture", &[2, 12, 10, 3]);
    let all = [graph.find("residual").unwrap(), 0, graph.output()];
    let Some(single) = worst(&graph, &params, &picture, &all, Precision::F32) else {
        return;
    };
    assert!(single < 1e-5, "{single:e}");
    let brain = worst(&graph, &params, &picture, &all, Precision::Bf16).unwrap();
    assert!(brain > 1e-5 && brain < 5e-2, "{brain:e}");
}

#[test]
fn networks_compute_what_they_compute_on_the_cpu() {
    let build =
        |name: &str, side| Graph::build_backbone(name, 1.0, [side; 2], Flavour::Torch).unwrap();
    let narrow = mobilenet(0.35, 64, "[{ dense = 5 }]");
    for (name, graph, side) in [
        ("mobilenet_v2", narrow, 64),
        ("xception", build("xception", 72), 72),
        ("resnet18", build("resnet18", 64), 64),
        ("mobilenet_v3_small", build("mobilenet_v3_small", 64), 64),
        ("vit_small_16", build("vit_small_16", 32), 32),
    ] {
        let params = formula(&graph);
        let side = side as usize;
        let picture = noise("picture", &[2, side, side, 3]);
        let outputs = [graph.output()];
        let Some(worst) = worst(&graph, &params, &picture, &outputs, Precision::F32) else {
            return;
        };
        assert!(worst < 1e-4, "{name}: {worst:e}");
    }
}
