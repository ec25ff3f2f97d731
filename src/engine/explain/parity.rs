//! Maps against those of the package `grad-cam`, from the fixture that
//! `tests/fixtures/make_gradcam.py` makes.

use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::{Explainer, Heat};
use crate::engine::parity::fixture::{self, Sample};
use crate::engine::parity::{pictures, say};
use crate::graph::Graph;

/// Largest difference, as a share of the largest value.
const SAME: f64 = 1e-4;

#[derive(Deserialize)]
struct Case {
    /// The backbone's weights: those of this file in `parity/`.
    fixture: String,
    model: String,
    side: u32,
    pictures: u64,
    layer: String,
    class: usize,
    /// What speaks for the class, place by place, before it is scaled to 1.
    map: Vec<Vec<f64>>,
    /// What the package answers: scaled to lie in 0 to 1, and as large as the picture.
    answer: Sample,
}

#[test]
fn maps_equal_those_of_the_package_grad_cam() {
    let text = include_str!("../../../tests/fixtures/gradcam.json");
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    let fixtures = fixture::all();
    assert!(cases.len() >= 10);
    for case in cases {
        let Some((_, fixture)) = fixtures.iter().find(|(name, _)| *name == case.fixture) else {
            continue;
        };
        let name = format!("{}, `{}` of class {}", case.fixture, case.layer, case.class);
        let size = [case.side; 2];
        let model = toml::from_str(&case.model).unwrap();
        let graph = Graph::build(&model, size, fixture.flavour).unwrap();
        let node = graph.layer_end(&case.layer).unwrap();
        let explainer = Explainer::new(&graph, &fixture.params(&graph), node).unwrap();
        let seen = explainer
            .see(&pictures(case.pictures, 1, case.side as usize))
            .unwrap();
        let heat = explainer.heat(&seen, &[case.class]).unwrap().remove(0);
        let expected: Vec<f64> = case.map.concat();
        assert_eq!(heat.height, case.map.len(), "{name}");
        let peak = expected.iter().copied().fold(0.0, f64::max);
        let pairs = heat.values.iter().zip(&expected);
        let largest = pairs
            .map(|(value, expected)| {
                (f64::from(*value) * f64::from(heat.peak) - expected).abs() / peak
            })
            .fold(0.0, f64::max);
        let answer = as_the_package_scales(&heat, case.side as usize);
        let answered = case.answer.difference("answer", &answer);
        say(&format!(
            "{name}: map {largest:.1e}, stretched {answered:.1e}"
        ));
        assert!(
            largest < SAME && answered < SAME,
            "{name}: {largest} {answered}"
        );
    }
}

/// The package takes the smallest value for nothing, not 0, before and after stretching.
fn as_the_package_scales(heat: &Heat, side: usize) -> Tensor {
    let scaled = |values: &[f32]| -> Vec<f32> {
        let least = values.iter().copied().fold(f32::INFINITY, f32::min);
        let most = values.iter().copied().fold(0.0, f32::max);
        let scale = |value: &f32| (value - least) / (most - least);
        values.iter().map(scale).collect()
    };
    let heat = Heat {
        values: scaled(&heat.values),
        ..heat.clone()
    };
    let stretched = scaled(&heat.resized(side, side));
    Tensor::from_vec(stretched, (side, side), &Device::Cpu).unwrap()
}
