use super::*;
use crate::activation::Activation;
use crate::engine::memory::values;
use crate::engine::params::same_bytes;
use crate::engine::test_support::{
    assert_close, formula, mobilenet, node_by_node, noise, with_threads,
};
use crate::geometry::{Padding, Window};
use crate::graph::{GraphBuilder, Op};

const CLOSE: f64 = 1e-4;

fn window(kernel: usize, stride: usize, padding: usize) -> Window {
    Window {
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [1; 2],
        padding: Padding::same(padding),
    }
}

/// Everything that can be fused, and everything that looks like it but cannot.
pub(super) fn odd_graph() -> Graph {
    let norm = Op::BatchNorm {
        gamma: true,
        epsilon: 1e-3,
        momentum: 0.1,
    };
    let scaleless = Op::BatchNorm {
        gamma: false,
        epsilon: 1e-2,
        momentum: 0.1,
    };
    let conv = |filters, bias, window| Op::Conv2d {
        filters,
        groups: 1,
        bias,
        window,
    };
    let depthwise = |stride| Op::DepthwiseConv2d {
        window: window(3, stride, 0),
        bias: true,
    };
    let uneven = Op::Pad(Padding {
        top: 0,
        bottom: 1,
        left: 1,
        right: 2,
    });
    let mut builder = GraphBuilder::new([12, 10]);
    let mut add = |name: &str, op, inputs: &[NodeId]| builder.add(name, op, inputs).unwrap();
    let pad = add("pad", uneven, &[0]);
    let stem = add("stem", conv(8, true, window(3, 1, 1)), &[pad]);
    let stem_bn = add("stem_bn", norm, &[stem]);
    let stem_relu = add("stem_relu", Op::RELU6, &[stem_bn]);
    let curved = |activation| Op::Activation(activation);
    // Read twice: by a norm that must not fold into it, and by an addition.
    let shared = add("shared", conv(8, false, window(1, 1, 0)), &[stem_relu]);
    let shared_bn = add("shared_bn", norm, &[shared]);
    let sum = add("sum", Op::Add, &[shared_bn, shared]);
    let sum_relu = add("sum_relu", curved(Activation::HardSigmoid), &[sum]);
    // A norm behind an activation folds into nothing.
    let late_bn = add("late_bn", norm, &[sum_relu]);
    let twice_bn = add("twice_bn", norm, &[late_bn]);
    // A pad that a convolution and something else read.
    let both = add("both", Op::Pad(Padding::same(1)), &[twice_bn]);
    let reduce = add("reduce", depthwise(1), &[both]);
    let reduce_bn = add("reduce_bn", norm, &[reduce]);
    let reduce_relu = add("reduce_relu", curved(Activation::Gelu), &[reduce_bn]);
    let project = add("project", conv(8, false, window(1, 1, 0)), &[reduce_relu]);
    let project_bn = add("project_bn", norm, &[project]);
    let residual = add("residual", Op::Add, &[twice_bn, project_bn]);
    let both_relu = add("both_relu", curved(Activation::Silu), &[both]);
    let down = add("down", depthwise(2), &[both_relu]);
    let side = add("side", conv(8, true, window(3, 2, 1)), &[residual]);
    let side_bn = add("side_bn", norm, &[side]);
    let down_bn = add("down_bn", norm, &[down]);
    let join = add("join", Op::Add, &[side_bn, down_bn]);
    // Branches that end in what can be fused and what cannot; one is read elsewhere, too.
    let point = add("point", conv(5, true, window(1, 1, 0)), &[join]);
    let point_bn = add("point_bn", scaleless, &[point]);
    let point_relu = add("point_relu", curved(Activation::HardSwish), &[point_bn]);
    let column = add("column", conv(3, false, window(1, 1, 0)), &[point_relu]);
    let row = add("row", conv(2, false, window(1, 1, 0)), &[point_relu]);
    let fork = add("fork", Op::Concat, &[column, row]);
    let mean = |count_include_pad| Op::AvgPool {
        window: window(3, 1, 1),
        count_include_pad,
    };
    let inner = add("inner", mean(false), &[join]);
    let outer = add("outer", mean(true), &[join]);
    let branches = [point_relu, fork, inner, join, outer, join];
    let mixed = add("mixed", Op::Concat, &branches);
    let mixed_relu = add("mixed_relu", Op::RELU, &[mixed]);
    // A pad that a pool can take in, and one that it cannot.
    let zeros = Op::Pad(Padding::same(1));
    let max = Op::MaxPool {
        window: window(3, 2, 0),
    };
    let fringe = add("fringe", zeros, &[mixed_relu]);
    let most = add("most", max, &[fringe]);
    let hem = add("hem", zeros, &[mixed]);
    let largest = add("largest", max, &[hem]);
    let peaks = add("peaks", Op::Concat, &[most, largest]);
    let join = add("tail", conv(8, true, window(1, 1, 0)), &[peaks]);
    let means = add("means", Op::GlobalAvgPool, &[join]);
    let pixel = add("pixel", Op::Reshape, &[means]);
    let squeeze = add("squeeze", conv(3, true, window(1, 1, 0)), &[pixel]);
    let squeeze = add("squeeze_silu", curved(Activation::Silu), &[squeeze]);
    let expand = add("expand", conv(8, true, window(1, 1, 0)), &[squeeze]);
    let expand = add("expand_sigmoid", curved(Activation::Sigmoid), &[expand]);
    let gated = add("gated", Op::Multiply, &[join, expand]);
    let same = add("same", Op::Identity("Rescaling"), &[gated]);
    let grouped = Op::Conv2d {
        filters: 8,
        groups: 4,
        bias: true,
        window: window(3, 1, 1),
    };
    let grouped = add("grouped", grouped, &[same]);
    let grouped_bn = add("grouped_bn", norm, &[grouped]);
    let grouped_sum = add("grouped_sum", Op::Add, &[grouped_bn, join]);
    let join = add("grouped_silu", curved(Activation::Silu), &[grouped_sum]);
    let average = add("average", Op::GlobalAvgPool, &[join]);
    let maximum = add("maximum", Op::GlobalMaxPool, &[join]);
    let pooled = add("pooled", Op::Add, &[average, maximum]);
    let dropout = add("dropout", Op::Dropout { rate: 0.5 }, &[pooled]);
    let flat = add("flat", Op::Flatten, &[join]);
    let hidden = add("hidden", Op::Dense { units: 6 }, &[flat]);
    let hidden_bn = add("hidden_bn", norm, &[hidden]);
    let hidden_relu = add("hidden_relu", curved(Activation::Sigmoid), &[hidden_bn]);
    let other = add("other", Op::Dense { units: 6 }, &[dropout]);
    let last = add("last", Op::Add, &[hidden_relu, other]);
    add("logits", Op::Dense { units: 3 }, &[last]);
    builder.finish()
}

#[test]
fn fused_steps_equal_the_nodes_one_by_one() {
    let graph = odd_graph();
    let params = formula(&graph);
    let picture = noise("picture", &[5, 12, 10, 3]);
    let expected = node_by_node(&graph, &params, &picture);
    // Each node as the only output, so that nothing is fused past it, and all at once.
    for (id, expected) in expected.iter().enumerate().skip(1) {
        let prefix = Prefix::compile(&graph, &params, &[0], &[id]).unwrap();
        let outputs = prefix.run(std::slice::from_ref(&picture)).unwrap();
        assert_close(&graph.nodes()[id].name, &outputs[0], expected, CLOSE);
    }
    let all: Vec<NodeId> = (0..graph.nodes().len()).collect();
    let prefix = Prefix::compile(&graph, &params, &[0], &all).unwrap();
    let outputs = prefix.run(&[picture]).unwrap();
    for (id, (output, expected)) in outputs.iter().zip(&expected).enumerate() {
        assert_close(&graph.nodes()[id].name, output, expected, CLOSE);
    }
}

#[test]
fn continues_from_several_stored_tensors() {
    let graph = odd_graph();
    let params = formula(&graph);
    let outputs = node_by_node(&graph, &params, &noise("picture", &[3, 12, 10, 3]));
    let find = |name| graph.find(name).unwrap();
    for stored in [
        vec![find("pooled"), find("hidden")],
        vec![find("average"), find("grouped_silu")],
        vec![find("fork"), find("point_relu"), find("join")],
        vec![find("mixed")],
        vec![find("dropout"), find("flat")],
        vec![find("pad"), find("sum")],
    ] {
        let prefix = Prefix::compile(&graph, &params, &stored, &[graph.output()]).unwrap();
        let inputs: Vec<Tensor> = stored.iter().map(|&id| outputs[id].clone()).collect();
        let logits = prefix.run(&inputs).unwrap();
        assert_close("logits", &logits[0], &outputs[graph.output()], CLOSE);
    }
    assert!(Prefix::compile(&graph, &params, &[find("average")], &[graph.output()]).is_err());
    let prefix = Prefix::compile(&graph, &params, &[0], &[graph.output()]).unwrap();
    assert!(prefix.run(&[noise("picture", &[1, 9, 9, 3])]).is_err());
    assert!(prefix.run(&[]).is_err());
}

#[test]
fn mobilenet_equals_its_nodes_one_by_one() {
    let graph = mobilenet(0.35, 64, "[{ dense = 5 }]");
    let params = formula(&graph);
    let picture = noise("picture", &[3, 64, 64, 3]);
    let expected = node_by_node(&graph, &params, &picture);
    let wanted = ["block_2_add", "block_6_expand_relu", "out_relu"].map(|n| graph.find(n).unwrap());
    let wanted = [&wanted[..], &[graph.output()]].concat();
    let prefix = Prefix::compile(&graph, &params, &[0], &wanted).unwrap();
    let outputs = prefix.run(&[picture]).unwrap();
    for (&id, output) in wanted.iter().zip(&outputs) {
        assert_close(&graph.nodes()[id].name, output, &expected[id], CLOSE);
    }
}

#[test]
fn bits_depend_on_the_picture_alone() {
    let mobilenet = mobilenet(0.35, 64, "[{ dense = 5 }]");
    same_bits_in_any_batch(&mobilenet, [64, 64], "global_average_pooling2d");
    same_bits_in_any_batch(&odd_graph(), [12, 10], "gated");
}

fn same_bits_in_any_batch(graph: &Graph, [height, width]: [usize; 2], inner: &str) {
    let params = formula(graph);
    let batch = noise("batch", &[19, height, width, 3]);
    let inner = graph.find(inner).unwrap();
    let prefix = Prefix::compile(graph, &params, &[0], &[inner, graph.output()]).unwrap();
    let run = |batch: &Tensor| prefix.run(std::slice::from_ref(batch)).unwrap();
    let reference = with_threads(1, || run(&batch));
    for threads in [2, 7] {
        let outputs = with_threads(threads, || run(&batch));
        for (output, reference) in outputs.iter().zip(&reference) {
            assert!(same_bytes(output, reference).unwrap(), "{threads} threads");
        }
    }
    for (first, count) in [(0, 1), (3, 2), (4, 3), (1, 5), (2, 8), (18, 1)] {
        let part = batch.narrow(0, first, count).unwrap().contiguous().unwrap();
        let outputs = with_threads(1, || run(&part));
        for (output, reference) in outputs.iter().zip(&reference) {
            let reference = reference.narrow(0, first, count).unwrap();
            assert!(
                same_bytes(output, &reference).unwrap(),
                "pictures {first}..{}",
                first + count
            );
        }
    }
}

#[test]
fn the_portable_program_computes_the_same() {
    let graph = odd_graph();
    let params = formula(&graph);
    let picture = noise("picture", &[2, 12, 10, 3]);
    let wanted = [graph.find("residual").unwrap(), graph.output()];
    let portable = Portable::new(&graph, &params, &[0], &wanted).unwrap();
    let outputs = portable.run(std::slice::from_ref(&picture)).unwrap();
    let prefix = Prefix::compile(&graph, &params, &[0], &wanted).unwrap();
    for (compiled, portable) in prefix.run(&[picture]).unwrap().iter().zip(&outputs) {
        assert_close("output", compiled, portable, CLOSE);
    }
}

#[test]
fn an_empty_batch_gives_empty_outputs() {
    let graph = odd_graph();
    let params = formula(&graph);
    let prefix = Prefix::compile(&graph, &params, &[0], &[graph.output()]).unwrap();
    let none = noise("none", &[1, 12, 10, 3]).narrow(0, 0, 0).unwrap();
    let outputs = prefix.run(&[none]).unwrap();
    assert_eq!(outputs[0].dims(), [0, 3]);
    assert!(values(&outputs[0]).unwrap().is_empty());
}
