use candle_core::{D, DType, Device, Var};

use super::*;
use crate::activation::Activation;
use crate::config::Flavour;
use crate::engine::memory::values;
use crate::engine::params::same_bytes;
use crate::engine::prefix::Prefix;
use crate::engine::test_support::{
    assert_close, formula, freezing, mobilenet, node_by_node, noise, with_threads,
};
use crate::geometry::{Padding, Window};
use crate::graph::{GraphBuilder, NodeId, Op, ParamKind, Shape};
use crate::ops::dropout;
use crate::ops::window_pool;
use crate::rng;

const SEED: u64 = 11;

/// Two inverted residuals, one with a way past it, pools of all kinds, joined branches, a norm without
/// scale, dropout and two dense layers.
pub(super) fn graph() -> Graph {
    let norm = Op::BatchNorm {
        gamma: true,
        epsilon: 1e-3,
        momentum: 0.1,
    };
    let window = |kernel, stride, padding| Window {
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [1; 2],
        padding: Padding::same(padding),
    };
    let mut builder = GraphBuilder::new([9, 8]);
    let mut add = |name: &str, op, inputs: &[NodeId]| builder.add(name, op, inputs).unwrap();
    let conv = |filters, kernel, bias| Op::Conv2d {
        filters,
        groups: 1,
        bias,
        window: window(kernel, 1, kernel / 2),
    };
    let depthwise = |stride, padding, bias| Op::DepthwiseConv2d {
        bias,
        window: window(3, stride, padding),
    };
    let x = add("stem", conv(6, 3, true), &[0]);
    let x = add("stem_bn", norm, &[x]);
    let x = add("stem_relu", Op::RELU6, &[x]);
    let padding = Padding {
        top: 0,
        bottom: 1,
        left: 1,
        right: 1,
    };
    let x = add("down_pad", Op::Pad(padding), &[x]);
    let x = add("down", depthwise(2, 0, false), &[x]);
    let x = add("down_bn", norm, &[x]);
    let x = add("down_relu", Op::RELU, &[x]);
    let x = add("project", conv(4, 1, false), &[x]);
    let past = add("project_bn", norm, &[x]);
    let x = add("expand", conv(8, 1, false), &[past]);
    let x = add("expand_bn", norm, &[x]);
    let x = add("expand_relu", Op::RELU6, &[x]);
    let x = add("filter", depthwise(1, 1, true), &[x]);
    let x = add("filter_bn", norm, &[x]);
    let x = add("filter_relu", Op::RELU6, &[x]);
    let x = add("narrow", conv(4, 1, false), &[x]);
    let x = add("narrow_bn", norm, &[x]);
    let x = add("sum", Op::Add, &[past, x]);
    let peak = add(
        "peak",
        Op::MaxPool {
            window: window(3, 2, 1),
        },
        &[x],
    );
    let [inner, outer] = [false, true].map(|count_include_pad| Op::AvgPool {
        window: window(3, 2, 1),
        count_include_pad,
    });
    let mean = add("mean", inner, &[x]);
    let padded_mean = add("padded_mean", outer, &[x]);
    let x = add("joined", Op::Concat, &[peak, mean, padded_mean, peak]);
    let x = add("mix", conv(4, 1, false), &[x]);
    let scaleless = Op::BatchNorm {
        gamma: false,
        epsilon: 1e-3,
        momentum: 0.1,
    };
    let x = add("mix_bn", scaleless, &[x]);
    let x = add("mix_silu", Op::Activation(Activation::Silu), &[x]);
    let means = add("means", Op::GlobalAvgPool, &[x]);
    let pixel = add("pixel", Op::Reshape, &[means]);
    let gate = add("gate", conv(4, 1, true), &[pixel]);
    let gate = add("gate_soft", Op::Activation(Activation::Sigmoid), &[gate]);
    let x = add("gated", Op::Multiply, &[x, gate]);
    let grouped = Op::Conv2d {
        filters: 4,
        groups: 2,
        bias: true,
        window: window(3, 1, 1),
    };
    let x = add("grouped", grouped, &[x]);
    let x = add("grouped_bn", norm, &[x]);
    let x = add("same", Op::Identity("Rescaling"), &[x]);
    let hard = add("hard", Op::Activation(Activation::HardSwish), &[x]);
    let soft = add("soft", Op::Activation(Activation::Gelu), &[x]);
    let x = add("bent", Op::Add, &[hard, soft]);
    let average = add("average", Op::GlobalAvgPool, &[x]);
    let maximum = add("maximum", Op::GlobalMaxPool, &[x]);
    let x = add("pooled", Op::Add, &[average, maximum]);
    let x = add("dropout", Op::Dropout { rate: 0.4 }, &[x]);
    let x = add("hidden", Op::Dense { units: 7 }, &[x]);
    let x = add("hidden_relu", Op::RELU, &[x]);
    let x = add("bend", Op::Dense { units: 6 }, &[x]);
    let x = add("bend_sigmoid", Op::Activation(Activation::Sigmoid), &[x]);
    let x = add("bend_hard", Op::Activation(Activation::HardSigmoid), &[x]);
    add("logits", Op::Dense { units: 3 }, &[x]);
    builder.finish()
}

/// The same forward pass in stock Candle ops, for Candle's autograd; maps lie channels-first.
fn reference(
    graph: &Graph,
    vars: &IndexMap<String, Var>,
    picture: &Tensor,
    batch_statistics: impl Fn(NodeId) -> bool,
) -> candle_core::Result<Tensor> {
    let mut outputs = vec![picture.permute((0, 3, 1, 2))?.contiguous()?];
    for (id, node) in graph.nodes().iter().enumerate().skip(1) {
        let x = &outputs[node.inputs[0]];
        let param = |kind: ParamKind| vars[&format!("{}/{}", node.name, kind.name())].as_tensor();
        let channels = |tensor: &Tensor| tensor.reshape((1, (), 1, 1));
        let convolution = |window: &Window, bias, groups| -> candle_core::Result<Tensor> {
            let padding = window.padding;
            let x = x.pad_with_zeros(2, padding.top, padding.bottom)?;
            let x = x.pad_with_zeros(3, padding.left, padding.right)?;
            let y = x.conv2d(param(ParamKind::Kernel), 0, window.stride[0], 1, groups)?;
            match bias {
                true => y.broadcast_add(&channels(param(ParamKind::Bias))?),
                false => Ok(y),
            }
        };
        let y = match &node.op {
            Op::Conv2d {
                window,
                bias,
                groups,
                ..
            } => convolution(window, *bias, *groups)?,
            Op::DepthwiseConv2d { window, bias } => convolution(window, *bias, x.dim(1)?)?,
            Op::Pad(padding) => x
                .pad_with_zeros(2, padding.top, padding.bottom)?
                .pad_with_zeros(3, padding.left, padding.right)?,
            Op::BatchNorm { epsilon, gamma, .. } => {
                let (mean, variance) = if batch_statistics(id) {
                    let mean = x.mean_keepdim((0, 2, 3))?;
                    let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim((0, 2, 3))?;
                    (mean, variance)
                } else {
                    (
                        channels(&param(ParamKind::MovingMean).detach())?,
                        channels(&param(ParamKind::MovingVariance).detach())?,
                    )
                };
                let x = x
                    .broadcast_sub(&mean)?
                    .broadcast_div(&(variance + *epsilon)?.sqrt()?)?;
                let x = match gamma {
                    true => x.broadcast_mul(&channels(param(ParamKind::Gamma))?)?,
                    false => x,
                };
                x.broadcast_add(&channels(param(ParamKind::Beta))?)?
            }
            Op::Activation(activation) => match activation {
                Activation::Linear => x.clone(),
                Activation::Relu => x.relu()?,
                // Candle's `clamp` passes gradients through beyond its bounds.
                Activation::Relu6 => (x.relu()? - (x - 6.0)?.relu()?)?,
                Activation::Sigmoid => candle_nn::ops::sigmoid(x)?,
                Activation::Silu => (x * candle_nn::ops::sigmoid(x)?)?,
                Activation::HardSigmoid => (hard(x)? / 6.0)?,
                Activation::HardSwish => (x * (hard(x)? / 6.0)?)?,
                Activation::Gelu => x.gelu_erf()?,
            },
            Op::Add => (x + &outputs[node.inputs[1]])?,
            Op::GlobalAvgPool => x.mean((2, 3))?,
            Op::GlobalMaxPool => x.flatten_from(2)?.max(D::Minus1)?,
            Op::Dense { .. } => x
                .matmul(&param(ParamKind::Kernel).t()?)?
                .broadcast_add(param(ParamKind::Bias))?,
            Op::Dropout { rate } => {
                let mut stream = rng::stream(SEED, "dropout", &[id as u64]);
                (x * dropout::mask(x, *rate, &mut stream)?)?
            }
            Op::Concat => {
                let inputs: Vec<&Tensor> = node.inputs.iter().map(|&id| &outputs[id]).collect();
                Tensor::cat(&inputs, 1)?
            }
            Op::MaxPool { window } => in_double(x, |x| window_pool::max(x, window))?,
            Op::AvgPool {
                window,
                count_include_pad,
            } => in_double(x, |x| window_pool::avg(x, window, *count_include_pad))?,
            Op::Multiply => {
                let (batch, channels, ..) = x.dims4()?;
                let factors = outputs[node.inputs[1]].reshape((batch, channels, 1, 1))?;
                x.broadcast_mul(&factors)?
            }
            Op::Reshape => x.unsqueeze(2)?.unsqueeze(3)?,
            Op::Input | Op::Flatten | Op::Identity(_) => x.clone(),
            op => panic!("{op:?} is tested elsewhere"),
        };
        outputs.push(y);
    }
    Ok(outputs.swap_remove(graph.output()))
}

/// relu6(x + 3).
fn hard(x: &Tensor) -> candle_core::Result<Tensor> {
    (x + 3.0)?.relu()? - (x - 3.0)?.relu()?
}

/// A pool of maps that lie channels-first; in double precision pools consist of stock operations.
fn in_double(
    x: &Tensor,
    pool: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Tensor> {
    let x = x.to_dtype(DType::F64)?.permute((0, 2, 3, 1))?;
    let y = pool(&x)?.permute((0, 3, 1, 2))?;
    y.to_dtype(DType::F32)?.contiguous()
}

fn vars(params: &Params) -> IndexMap<String, Var> {
    params
        .iter()
        .map(|(name, param)| (name.to_owned(), Var::from_tensor(&param.value).unwrap()))
        .collect()
}

pub(super) fn suffix(graph: &Graph, how: &str, bn: BatchNormMode) -> Suffix {
    let (trainable, frontier) = freezing(graph, how);
    Suffix::new(Arc::new(graph.clone()), &trainable, &frontier, bn)
}

/// Gradients of `sum(logits * weights)`.
fn gradients(
    suffix: &Suffix,
    params: &Params,
    inputs: &[Tensor],
    weights: &Tensor,
) -> (Tensor, Gradients) {
    let stepped = step(suffix, params, inputs, SEED, weights);
    (stepped.logits, stepped.gradients)
}

fn step(
    suffix: &Suffix,
    params: &Params,
    inputs: &[Tensor],
    seed: u64,
    weights: &Tensor,
) -> Stepped {
    let loss = |_: &Tensor, part: Range<usize>| weights.narrow(0, part.start, part.len());
    suffix.step(params, inputs, seed, &loss).unwrap()
}

/// Gradients of the sum of the logits.
fn of_sum(logits: &Tensor, _: Range<usize>) -> Result<Tensor> {
    logits.ones_like()
}

#[test]
fn gradients_equal_those_of_candles_autograd() {
    let graph = graph();
    let params = formula(&graph);
    let picture = noise("picture", &[3, 9, 8, 3]);
    let weights = noise("weights", &[3, 3]);
    for (how, bn) in [
        ("freeze = \"none\"", BatchNormMode::Eval),
        ("freeze = \"none\"", BatchNormMode::Train),
        // Frozen layers between trained ones: their norms keep the stored statistics.
        ("freeze = [\"stem*\", \"filter*\"]", BatchNormMode::Train),
    ] {
        let suffix = suffix(&graph, how, bn);
        let stored = &suffix.plan.stored;
        let prefix = Prefix::compile(&graph, &params, &[0], stored).unwrap();
        let inputs = prefix.run(std::slice::from_ref(&picture)).unwrap();
        let (logits, gradients) = gradients(&suffix, &params, &inputs, &weights);

        let vars = vars(&params);
        let by_batch = |id: NodeId| suffix.plan.batch_statistics[id];
        let expected = reference(&graph, &vars, &picture, by_batch).unwrap();
        assert_close(how, &logits, &expected, 1e-4);
        let loss = (expected * &weights).unwrap().sum_all().unwrap();
        let store = loss.backward().unwrap();
        assert!(gradients.keys().eq(suffix.trained()));
        assert!(gradients.len() > 10);
        for (name, gradient) in &gradients {
            let expected = store.get(&vars[name]).unwrap();
            let (gradient, largest) = (values(gradient).unwrap(), values(expected).unwrap());
            let scale = largest.iter().fold(0.1f32, |max, v| max.max(v.abs()));
            for (a, b) in gradient.iter().zip(&largest) {
                assert!((a - b).abs() <= 2e-4 * scale, "{how}: {name}: {a} for {b}");
            }
        }
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let graph = graph();
    let params = formula(&graph);
    let picture = [noise("picture", &[3, 9, 8, 3])];
    let weights = noise("weights", &[3, 3]);
    for bn in [BatchNormMode::Eval, BatchNormMode::Train] {
        let suffix = suffix(&graph, "freeze = \"none\"", bn);
        let gradients_of = |params: &Params| gradients(&suffix, params, &picture, &weights);
        let (_, gradients) = gradients_of(&params);
        let dot = |a: &Tensor, b: &Tensor| -> f64 {
            let (a, b) = (values(a).unwrap(), values(b).unwrap());
            a.iter()
                .zip(&b)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum()
        };
        for (name, gradient) in &gradients {
            let direction = noise(&format!("direction of {name}"), gradient.dims());
            // Short, so that few activations cross a kink.
            let step = 2e-4;
            let loss = |sign: f64| {
                let mut moved = params.clone();
                let change = (&direction * (sign * step)).unwrap();
                moved
                    .set(name, (params.value(name) + change).unwrap())
                    .unwrap();
                dot(&gradients_of(&moved).0, &weights)
            };
            let numeric = (loss(1.0) - loss(-1.0)) / (2.0 * step);
            let analytic = dot(gradient, &direction);
            let tolerance = 0.02 * numeric.abs().max(0.4);
            assert!(
                (numeric - analytic).abs() < tolerance,
                "{bn:?} {name}: {analytic} for {numeric}"
            );
        }
    }
}

#[test]
fn freezing_changes_what_is_computed_and_not_its_values() {
    let graph = mobilenet(0.35, 64, "[{ dropout = 0.3 }, { dense = 5 }]");
    let params = formula(&graph);
    let picture = noise("picture", &[2, 64, 64, 3]);
    let outputs = node_by_node(&graph, &params, &picture);
    let weights = noise("weights", &[2, 5]);
    let full = suffix(&graph, "freeze = \"none\"", BatchNormMode::Eval);
    let (logits, full) = gradients(&full, &params, &[picture], &weights);
    for (how, trained) in [
        ("freeze = \"all\"", 2),
        ("freeze_before = \"block_11_expand_BN\"", 58),
        ("freeze_before = \"block_16_project\"", 8),
    ] {
        let suffix = suffix(&graph, how, BatchNormMode::Eval);
        assert_eq!(suffix.trained().len(), trained, "{how}");
        let stored = suffix.plan.stored.iter();
        let inputs: Vec<Tensor> = stored.map(|&id| outputs[id].clone()).collect();
        let (same_logits, part) = gradients(&suffix, &params, &inputs, &weights);
        assert_close(how, &same_logits, &logits, 1e-5);
        assert!(part.keys().eq(suffix.trained()), "{how}");
        for (name, gradient) in &part {
            assert_close(name, gradient, &full[name], 1e-4);
        }
    }
}

#[test]
fn the_program_equals_the_operations_node_by_node() {
    let mobilenet = mobilenet(
        0.35,
        64,
        "[\"batch_norm\", { dropout = 0.3 }, { dense = 5 }]",
    );
    let both = &[BatchNormMode::Eval, BatchNormMode::Train][..];
    // So deep a network of so few pixels carries rounding across kinks by the batch's statistics.
    let eval = &both[..1];
    for (graph, size, how, modes) in [
        (graph(), [9, 8], "freeze = \"none\"", both),
        (graph(), [9, 8], "freeze = [\"stem*\", \"filter*\"]", both),
        (
            mobilenet,
            [64, 64],
            "freeze_before = \"block_3_expand\"",
            eval,
        ),
    ] {
        let params = formula(&graph);
        // More than one chunk, and the last one not full.
        let picture = noise("picture", &[7, size[0], size[1], 3]);
        let classes = graph.nodes()[graph.output()].shape.elements();
        let weights = noise("weights", &[7, classes]);
        for &bn in modes {
            let mut suffix = suffix(&graph, how, bn);
            let prefix = Prefix::compile(&graph, &params, &[0], &suffix.plan.stored).unwrap();
            let inputs = prefix.run(std::slice::from_ref(&picture)).unwrap();
            let fast = step(&suffix, &params, &inputs, SEED, &weights);
            suffix.compiled = None;
            let plain = step(&suffix, &params, &inputs, SEED, &weights);
            assert_close("logits", &fast.logits, &plain.logits, 1e-4);
            assert!(fast.gradients.keys().eq(plain.gradients.keys()));
            for (name, gradient) in &fast.gradients {
                // A bias before a norm has no gradient but what rounding leaves.
                let scale = largest(&plain.gradients[name]).max(0.1);
                let gap = largest(&(gradient - &plain.gradients[name]).unwrap());
                assert!(gap <= 2e-4 * scale, "{how}, {bn:?}: {name} by {gap:e}");
            }
            let pairs = fast.statistics.iter().zip(&plain.statistics);
            assert_eq!(fast.statistics.len(), plain.statistics.len());
            for ((name, fast), (same, plain)) in pairs {
                assert_eq!(name, same);
                assert_close(name, fast, plain, 1e-5);
            }
        }
    }
}

#[test]
fn auxiliary_classifiers_learn_and_leave_the_logits_alone() {
    let model = "backbone = \"googlenet\"\nauxiliary = 0.3\nhead = [{ dense = 3 }]";
    let model = toml::from_str(model).unwrap();
    let graph = Graph::build(&model, [80, 80], Flavour::Torch).unwrap();
    let params = formula(&graph);
    let picture = noise("picture", &[5, 80, 80, 3]);
    let weights = noise("weights", &[5, 9]);
    let mut suffix = suffix(&graph, "freeze = \"all\"", BatchNormMode::Eval);
    let stored = suffix.plan.stored.clone();
    let prefix = Prefix::compile(&graph, &params, &[0], &stored).unwrap();
    let inputs = prefix.run(&[picture]).unwrap();
    let fast = step(&suffix, &params, &inputs, SEED, &weights);
    suffix.compiled = None;
    let plain = step(&suffix, &params, &inputs, SEED, &weights);
    assert_close("logits", &fast.logits, &plain.logits, 1e-4);
    assert!(fast.gradients.keys().eq(plain.gradients.keys()));
    assert!(fast.gradients.contains_key("aux1_fc1/kernel"));
    assert_eq!(fast.gradients.len(), 2 + 2 * 7);
    for (name, gradient) in &fast.gradients {
        assert!(largest(gradient) > 0.0, "{name}");
        assert_close(name, gradient, &plain.gradients[name], 1e-3);
    }
    let head = Prefix::compile(&graph, &params, &stored, &[graph.output()]).unwrap();
    let alone = head.run(&inputs).unwrap().remove(0);
    let together = fast.logits.narrow(1, 0, 3).unwrap();
    assert_close("the head's logits", &together, &alone, 1e-5);
}

fn largest(tensor: &Tensor) -> f32 {
    let values = values(tensor).unwrap();
    values.iter().fold(0.0, |max, value| value.abs().max(max))
}

#[test]
fn bits_do_not_depend_on_threads_and_dropout_on_its_seed_alone() {
    let graph = mobilenet(
        0.35,
        64,
        "[\"batch_norm\", { dropout = 0.3 }, { dense = 5 }]",
    );
    let params = formula(&graph);
    let picture = [noise("picture", &[6, 64, 64, 3])];
    let weights = noise("weights", &[6, 5]);
    let suffix = suffix(&graph, "freeze = \"none\"", BatchNormMode::Train);
    let run = |threads| with_threads(threads, || gradients(&suffix, &params, &picture, &weights));
    let (logits, reference) = run(1);
    for threads in [2, 7] {
        let (same, gradients) = run(threads);
        assert!(same_bytes(&same, &logits).unwrap());
        for (name, gradient) in &gradients {
            assert!(
                same_bytes(gradient, &reference[name]).unwrap(),
                "{name} with {threads} threads"
            );
        }
    }
    let other = step(&suffix, &params, &picture, SEED + 1, &weights);
    assert!(!same_bytes(&other.logits, &logits).unwrap());
}

#[test]
fn norms_of_the_head_learn_statistics_even_when_the_backbone_keeps_its_own() {
    let graph = mobilenet(0.35, 32, "[\"batch_norm\", { dense = 5 }]");
    let params = formula(&graph);
    let suffix = suffix(&graph, "freeze = \"all\"", BatchNormMode::Eval);
    let features = graph.nodes()[suffix.plan.stored[0]].shape;
    assert!(matches!(features, Shape::Vector(1280)));
    let input = noise("features", &features.batched(8));
    let stepped = suffix
        .step(&params, std::slice::from_ref(&input), SEED, &of_sum)
        .unwrap();
    let names: Vec<&str> = stepped
        .statistics
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let layer = &graph.nodes()[suffix.plan.order[0]].name;
    assert_eq!(
        names,
        [
            format!("{layer}/moving_mean"),
            format!("{layer}/moving_variance")
        ]
    );
    let mean = input.mean(0).unwrap();
    let old = params.value(names[0]);
    let expected = ((old * 0.9).unwrap() + (mean * 0.1).unwrap()).unwrap();
    let momentum = match graph.nodes()[suffix.plan.order[0]].op {
        Op::BatchNorm { momentum, .. } => momentum,
        _ => 0.0,
    };
    if momentum == 0.1 {
        assert_close(names[0], &stepped.statistics[0].1, &expected, 1e-5);
    }
    assert!(suffix.step(&params, &[], SEED, &of_sum).is_err());
    let wrong = Tensor::zeros((8, 3), DType::F32, &Device::Cpu).unwrap();
    assert!(suffix.step(&params, &[wrong], SEED, &of_sum).is_err());
}

#[test]
fn a_step_takes_more_for_a_larger_batch_only_where_norms_join_it() {
    let graph = mobilenet(0.35, 64, "[{ dense = 3 }]");
    let params = formula(&graph);
    let bytes = |bn, batch, threads| {
        let suffix = suffix(&graph, "freeze = \"none\"", bn);
        let memory = suffix.memory(&params, batch, threads).unwrap();
        // What a chunk sums up is there for each.
        let trained = suffix.trained().iter();
        let sums: usize = trained
            .map(|name| 4 * params.value(name).elem_count())
            .sum();
        memory.saturating_sub(batch.div_ceil(4) * sums) as f64
    };
    let grows = |bn, threads| bytes(bn, 64, threads) / bytes(bn, 16, threads);
    assert!((0.9..1.1).contains(&grows(BatchNormMode::Eval, 2)));
    assert!(grows(BatchNormMode::Train, 2) > 2.5);
    assert!(grows(BatchNormMode::Eval, 16) > 2.5, "a thread a chunk");
}

#[test]
fn a_part_of_the_batch_at_a_time_gives_the_same_sums_in_less_memory() {
    let graph = mobilenet(0.35, 64, "[{ dropout = 0.3 }, { dense = 5 }]");
    let params = formula(&graph);
    let picture = [noise("picture", &[18, 64, 64, 3])];
    let weights = noise("weights", &[18, 5]);
    let part = |bn, pictures| {
        let suffix = suffix(&graph, "freeze = \"none\"", bn).at_once(pictures);
        let memory = suffix.memory(&params, 18, 2).unwrap();
        let (logits, gradients) = gradients(&suffix, &params, &picture, &weights);
        (memory, logits, gradients)
    };
    let (whole_takes, whole_logits, whole) = part(BatchNormMode::Eval, None);
    let mut least = whole_takes;
    for pictures in [12, 8, 4, 2, 1] {
        let (takes, logits, found) = part(BatchNormMode::Eval, Some(pictures));
        assert!(takes < least, "{takes} of {least} bytes for {pictures}");
        least = takes;
        assert_eq!(found.len(), whole.len());
        for (name, gradient) in found.iter().chain([(&"logits".to_owned(), &logits)]) {
            let expected = whole.get(name).unwrap_or(&whole_logits);
            match pictures {
                // Chunks of the same size, summed in the same order.
                8.. => assert!(same_bytes(gradient, expected).unwrap(), "{name}"),
                _ => assert_close(name, gradient, expected, 1e-5),
            }
        }
    }
    // Statistics are those of the whole batch.
    let (_, _, whole) = part(BatchNormMode::Train, None);
    let (_, _, found) = part(BatchNormMode::Train, Some(2));
    for (name, gradient) in &found {
        assert!(same_bytes(gradient, &whole[name]).unwrap(), "{name}");
    }
}

/// One is not a whole number of chunks; there are more processes than chunks.
#[test]
fn processes_that_share_a_step_get_the_bits_of_one() {
    let small = mobilenet(0.35, 32, "[{ dropout = 0.3 }, { dense = 5 }]");
    let frozen = "freeze_before = \"block_11_expand_BN\"";
    for (graph, how, bn, pictures, at_once) in [
        (&small, "freeze = \"none\"", BatchNormMode::Eval, 18, None),
        (&small, "freeze = \"none\"", BatchNormMode::Train, 18, None),
        (
            &small,
            "freeze = \"none\"",
            BatchNormMode::Eval,
            18,
            Some(6),
        ),
        (&small, frozen, BatchNormMode::Train, 7, None),
        (&graph(), "freeze = \"none\"", BatchNormMode::Train, 9, None),
    ] {
        let params = formula(graph);
        let suffix = || suffix(graph, how, bn).at_once(at_once);
        let stored = suffix().plan.stored;
        let dims = |id: NodeId| graph.nodes()[id].shape.batched(pictures);
        let inputs = stored.iter().map(|&id| noise("input", &dims(id)));
        let inputs: Vec<Tensor> = inputs.collect();
        let outputs = graph.nodes()[graph.training_output()].shape.elements();
        let weights = noise("weights", &[pictures, outputs]);
        let expected = step(&suffix(), &params, &inputs, SEED, &weights);
        for count in 2..5 {
            let found = crate::ranks::together(count, |ranks| {
                let suffix = suffix();
                let own = suffix.pictures(pictures, &ranks);
                let part = inputs.iter();
                let part = part.map(|all| all.narrow(0, own.start, own.len()).unwrap());
                let part: Vec<Tensor> = part.map(|part| part.contiguous().unwrap()).collect();
                let loss =
                    |_: &Tensor, part: Range<usize>| weights.narrow(0, part.start, part.len());
                let part = Part {
                    inputs: &part,
                    batch: pictures,
                };
                // The second step meets the memory of the first.
                suffix.step_of(&params, part, 0, &loss, &ranks).unwrap();
                suffix.step_of(&params, part, SEED, &loss, &ranks).unwrap()
            });
            for found in found {
                assert!(same_bytes(&found.logits, &expected.logits).unwrap());
                assert_eq!(found.statistics.len(), expected.statistics.len());
                for ((name, found), (_, expected)) in
                    found.statistics.iter().zip(&expected.statistics)
                {
                    assert!(same_bytes(found, expected).unwrap(), "{name}");
                }
                assert!(found.gradients.keys().eq(expected.gradients.keys()));
                for (name, gradient) in &found.gradients {
                    let expected = &expected.gradients[name];
                    assert!(
                        same_bytes(gradient, expected).unwrap(),
                        "{name}, {how}, {count}"
                    );
                }
            }
        }
    }
}
