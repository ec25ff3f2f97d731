//! Training steps on an emulated GPU equal those on the CPU.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;

use super::tests::{graph as branches, suffix};
use super::token_tests::nets;
use super::*;
use crate::engine::memory;
use crate::engine::prefix::Prefix;
use crate::engine::test_support::{assert_close, difference, formula, mobilenet, noise};
use crate::gpu::host;
use crate::precision::Precision;

/// Logits, statistics and gradients on both, from the frontier's tensors of these pictures.
fn both(
    graph: &Graph,
    how: &str,
    bn: BatchNormMode,
    picture: &Tensor,
    precision: Precision,
) -> Option<[Stepped; 2]> {
    let gpu = host::gpu(precision)?;
    let params = formula(graph);
    let suffix = suffix(graph, how, bn);
    let prefix = Prefix::compile(graph, &params, &[0], &suffix.plan.stored).unwrap();
    let inputs = prefix.run(std::slice::from_ref(picture)).unwrap();
    let classes = graph.nodes()[graph.output()].shape.elements();
    let weights = noise("weights", &[picture.dim(0).unwrap(), classes]);
    let loss = |_: &Tensor, part: Range<usize>| weights.narrow(0, part.start, part.len());
    let there = params.clone().on(Some(gpu));
    Some([&there, &params].map(|params| suffix.step(params, &inputs, 7, &loss).unwrap()))
}

fn largest(tensor: &Tensor) -> f32 {
    let values = memory::values(tensor).unwrap();
    // `max` would drop a NaN.
    let most = |most: f32, value: f32| match value.is_nan() {
        true => f32::INFINITY,
        false => most.max(value.abs()),
    };
    values.into_iter().fold(0.0, most)
}

fn assert_alike(what: &str, [there, here]: &[Stepped; 2], tolerance: f64) {
    assert_close(
        &format!("{what}: logits"),
        &there.logits,
        &here.logits,
        tolerance,
    );
    assert!(there.gradients.len() > 1, "{what}");
    assert!(there.gradients.keys().eq(here.gradients.keys()), "{what}");
    // What a norm of the batch takes away again has a gradient of 0 but for rounding.
    let most = here.gradients.values().map(largest).fold(0.0, f32::max);
    for (name, gradient) in &there.gradients {
        let here = &here.gradients[name];
        let gap = largest(&(gradient - here).unwrap());
        let scale = largest(here).max(1e-2 * most);
        assert!(
            gap <= tolerance as f32 * scale,
            "{what}: gradient to {name} differs by {gap:e} of {scale:e}"
        );
    }
    let here: std::collections::BTreeMap<_, _> = here.statistics.iter().cloned().collect();
    assert_eq!(there.statistics.len(), here.len(), "{what}");
    for (name, value) in &there.statistics {
        assert_close(&format!("{what}: {name}"), value, &here[name], tolerance);
    }
}

#[test]
fn every_pass_is_that_of_the_cpu() {
    let graph = branches();
    let picture = noise("picture", &[3, 9, 8, 3]);
    for (how, bn) in [
        ("freeze = \"none\"", BatchNormMode::Eval),
        ("freeze = \"none\"", BatchNormMode::Train),
        ("freeze = [\"stem*\", \"filter*\"]", BatchNormMode::Train),
        ("freeze = [\"stem*\", \"filter*\"]", BatchNormMode::Eval),
    ] {
        let Some(steps) = both(&graph, how, bn, &picture, Precision::F32) else {
            return;
        };
        assert_alike(how, &steps, 1e-4);
    }
}

#[test]
fn tokens_are_trained_as_on_the_cpu() {
    for (name, graph, [height, width]) in nets() {
        let picture = noise("picture", &[3, height, width, 3]);
        let how = "freeze = \"none\"";
        let Some(steps) = both(&graph, how, BatchNormMode::Eval, &picture, Precision::F32) else {
            return;
        };
        assert_alike(name, &steps, 1e-4);
    }
}

#[test]
fn networks_are_trained_as_on_the_cpu() {
    let build = |backbone: &str, side: u32| {
        let text = format!("backbone = \"{backbone}\"\nhead = [{{ dense = 3 }}]");
        let model = toml::from_str(&text).unwrap();
        Graph::build(&model, [side, side], crate::config::Flavour::Torch).unwrap()
    };
    for (name, graph, side, how, bn) in [
        (
            "mobilenet_v2",
            mobilenet(0.35, 64, "[{ dense = 5 }]"),
            64,
            "freeze_before = 100",
            BatchNormMode::Eval,
        ),
        (
            "mobilenet_v2",
            mobilenet(0.35, 64, "[{ dense = 5 }]"),
            64,
            "freeze_before = 40",
            BatchNormMode::Train,
        ),
        (
            "xception",
            build("xception", 72),
            72,
            "freeze_before = \"block13_sepconv1_act\"",
            BatchNormMode::Eval,
        ),
        (
            "resnet18",
            build("resnet18", 64),
            64,
            "freeze_before = -30",
            BatchNormMode::Train,
        ),
        (
            "vgg16",
            build("vgg16", 32),
            32,
            "freeze_before = \"block5_conv1\"",
            BatchNormMode::Eval,
        ),
    ] {
        let picture = noise("picture", &[2, side, side, 3]);
        let Some(steps) = both(&graph, how, bn, &picture, Precision::F32) else {
            return;
        };
        assert_alike(name, &steps, 2e-3);
    }
}

#[test]
fn brain_floats_stay_close() {
    let graph = branches();
    let picture = noise("picture", &[3, 9, 8, 3]);
    let how = "freeze = \"none\"";
    let Some([there, here]) = both(&graph, how, BatchNormMode::Eval, &picture, Precision::Bf16)
    else {
        return;
    };
    let logits = difference(&there.logits, &here.logits);
    assert!(logits > 1e-5 && logits < 5e-2, "{logits:e}");
    let gradients = here.gradients.iter();
    let worst = gradients.map(|(name, here)| difference(&there.gradients[name], here));
    let worst = worst.fold(0.0, f64::max);
    assert!(worst < 0.2, "{worst:e}");
}

#[test]
fn a_session_keeps_its_parameters_from_step_to_step() {
    let Some(gpu) = host::gpu(Precision::F32) else {
        return;
    };
    let graph = Arc::new(branches());
    let mut params = formula(&graph).on(Some(gpu));
    let suffix = suffix(&graph, "freeze = \"none\"", BatchNormMode::Train);
    let mut session = suffix.session(&params).unwrap().unwrap();
    let picture = noise("picture", &[3, 9, 8, 3]);
    let weights = noise("weights", &[3, 3]);
    let loss = |_: &Tensor, part: Range<usize>| weights.narrow(0, part.start, part.len());
    let numbers = OptimizerNumbers {
        rules: vec![Rule {
            kind: 0,
            lr: 0.01,
            ..Rule::default()
        }],
        rule_of: vec![0; session.trained().len()],
        moments: 0,
    };
    for step in 0..3 {
        session
            .run(std::slice::from_ref(&picture), step, &loss)
            .unwrap();
        session.optimize(&numbers).unwrap();
        // The same step from the values in main memory.
        let there = params.clone();
        let stepped = suffix
            .step(&there.on(None), std::slice::from_ref(&picture), step, &loss)
            .unwrap();
        for (name, gradient) in &stepped.gradients {
            let moved = (params.value(name) - (gradient * 0.01).unwrap()).unwrap();
            params.set(name, moved).unwrap();
        }
        for (name, value) in &stepped.statistics {
            params.set(name, value.clone()).unwrap();
        }
    }
    let mut stored = formula(&graph);
    session.store(&mut stored).unwrap();
    for (name, param) in stored.iter() {
        assert_close(name, &param.value, params.value(name), 1e-4);
    }
}
