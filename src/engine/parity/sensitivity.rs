//! The test of the test: a fixture notices every single parameter.

use candle_core::{D, Tensor};

use super::fixture::{self, Fixture, named, worst};
use super::{By, VALUES, infer, say};
use crate::engine::memory::values;
use crate::engine::params::Params;
use crate::graph::ParamKind;

/// So many kernels and scales of each architecture in the everyday test.
const SAMPLED: usize = 5;
/// How far a disturbance must carry: beyond what passes.
const NOTICED: f64 = 2.0 * VALUES;

#[test]
fn a_disturbed_layer_fails_its_fixture() {
    disturb(fixture::of_every_block(), |params| {
        let step = params.len().div_ceil(SAMPLED).max(1);
        params.into_iter().step_by(step).collect()
    });
}

#[test]
#[ignore = "slow without optimisation"]
fn every_disturbed_parameter_fails_its_fixture() {
    disturb(fixture::all(), |params| params);
}

fn disturb(fixtures: Vec<(String, Fixture)>, choose: impl Fn(Vec<String>) -> Vec<String>) {
    let mut unnoticed = Vec::new();
    for (name, fixture) in fixtures {
        let graph = fixture.graph(&fixture.eval);
        let params = fixture.params(&graph);
        let all = params.iter().map(|(name, _)| name.to_owned()).collect();
        let (mut least, mut count) = (f64::INFINITY, 0);
        for parameter in choose(all) {
            let mut wrong = params.clone();
            wrong
                .set(&parameter, disturbed(&params, &parameter))
                .unwrap();
            let difference = difference(&fixture, &wrong);
            count += 1;
            least = least.min(difference);
            if difference < NOTICED {
                unnoticed.push(format!("{name}: `{parameter}` changes {difference:.1e}"));
            }
        }
        say(&format!("{name}: {count} parameters, least {least:.1e}"));
    }
    assert!(unnoticed.is_empty(), "{}", unnoticed.join("\n"));
}

fn difference(fixture: &Fixture, params: &Params) -> f64 {
    let case = &fixture.eval;
    let graph = fixture.graph(case);
    let outputs = infer(&graph, params, case, By::Program);
    let outputs = named(case.values.keys(), outputs);
    worst(&case.values, |name| &outputs[name]).0
}

/// A parameter a tenth larger in the even ones of its output channels; what is about zero moves by
/// a tenth. A norm behind it cannot undo that.
fn disturbed(params: &Params, name: &str) -> Tensor {
    let param = params.get(name).unwrap();
    let value = &param.value;
    let about_zero = matches!(
        param.kind,
        ParamKind::Bias | ParamKind::Beta | ParamKind::MovingMean
    );
    let per_channel = value.elem_count() / value.dims()[0];
    let change = |(at, &value): (usize, &f32)| match (at / per_channel % 2, about_zero) {
        (0, false) => 1.1 * value,
        (0, true) => value + 0.1,
        _ => value,
    };
    let changed: Vec<f32> = values(value)
        .unwrap()
        .iter()
        .enumerate()
        .map(change)
        .collect();
    Tensor::from_vec(changed, value.dims(), value.device()).unwrap()
}

#[test]
fn features_depend_on_the_picture() {
    for (name, fixture) in fixture::all() {
        let case = &fixture.eval;
        let graph = fixture.graph(case);
        let params = fixture.params(&graph);
        let logits = infer(&graph, &params, case, By::Program).pop().unwrap();
        let pictures: Vec<Vec<f32>> = logits.to_vec2().unwrap();
        let largest = logits.abs().unwrap().max(D::Minus1).unwrap();
        let largest = largest.to_vec1::<f32>().unwrap()[0];
        let pairs = pictures[0].iter().zip(&pictures[1]);
        let difference = pairs.fold(0f32, |max, (a, b)| max.max((a - b).abs()));
        let share = difference / largest;
        assert!(share > 0.1, "{name}: two pictures differ by {share}");
    }
}
