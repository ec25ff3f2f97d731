use std::collections::HashMap;

use super::*;
use crate::train::test_support::{
    SHAPES, Store, assert_close, filled, fraction, gradients, store, values,
};

fn names() -> Vec<String> {
    SHAPES.iter().map(|(name, _)| (*name).to_owned()).collect()
}

fn config(settings: &str) -> OptimizerConfig {
    toml::from_str(settings).unwrap()
}

/// The fixtures' variants, as a user would write them.
fn variants() -> Vec<(&'static str, OptimizerConfig)> {
    [
        ("sgd", "kind = 'sgd'\nlr = 0.05"),
        (
            "sgd_decay",
            "kind = 'sgd'\nlr = 0.05\nweight_decay = 0.1",
        ),
        (
            "sgd_momentum",
            "kind = 'sgd'\nlr = 0.05\nmomentum = 0.9\nweight_decay = 0.01",
        ),
        (
            "sgd_nesterov",
            "kind = 'sgd'\nlr = 0.05\nmomentum = 0.9\nnesterov = true",
        ),
        ("rmsprop", "kind = 'rmsprop'\nlr = 1e-3"),
        (
            "rmsprop_centered",
            "kind = 'rmsprop'\nlr = 1e-3\nepsilon = 1e-3\ncentered = true\nweight_decay = 0.1",
        ),
        (
            "rmsprop_momentum",
            "kind = 'rmsprop'\nlr = 1e-3\nrho = 0.99\nmomentum = 0.9",
        ),
        (
            "rmsprop_centered_momentum",
            "kind = 'rmsprop'\nlr = 1e-3\nepsilon = 1e-3\nmomentum = 0.5\ncentered = true",
        ),
        ("adam", "kind = 'adam'\nlr = 1e-2"),
        (
            "adam_decay",
            "kind = 'adam'\nlr = 1e-2\nbeta1 = 0.8\nbeta2 = 0.99\nepsilon = 1e-8\nweight_decay = 0.1",
        ),
        ("adamw", "kind = 'adamw'\nlr = 1e-2\nweight_decay = 0.1"),
    ]
    .map(|(name, settings)| (name, config(settings)))
    .to_vec()
}

fn run(optimizer: &mut Optimizer, config: &OptimizerConfig, store: &mut Store, steps: [usize; 2]) {
    for step in steps[0]..steps[1] {
        let lr = config.learning_rate() / (1 + step) as f64;
        optimizer.step(store, &gradients(step), lr).unwrap();
    }
}

#[test]
fn ten_steps_equal_pytorch() {
    let fixtures: HashMap<String, HashMap<String, Vec<f32>>> =
        serde_json::from_str(include_str!("../../../tests/fixtures/optimizer.json")).unwrap();
    assert_eq!(fixtures.len(), variants().len() + GROUPED);
    for (variant, config) in variants() {
        let mut store = store();
        let mut optimizer = Optimizer::new(&config, &names());
        run(&mut optimizer, &config, &mut store, [0, 10]);
        for (name, expected) in &fixtures[variant] {
            assert_close(variant, &values(&store, name), expected);
        }
    }
}

/// Variants of the fixtures whose names begin so have a parameter group for each parameter: `a` at a
/// tenth of the rate, `b` without weight decay.
const GROUPS: &str = "groups_";
const GROUPED: usize = 4;

#[test]
fn parameter_groups_equal_pytorch() {
    let fixtures: HashMap<String, HashMap<String, Vec<f32>>> =
        serde_json::from_str(include_str!("../../../tests/fixtures/optimizer.json")).unwrap();
    let mut compared = 0;
    for (variant, config) in variants() {
        let Some(expected) = fixtures.get(&format!("{GROUPS}{variant}")) else {
            continue;
        };
        let member = |name: &str, lr_multiplier, weight_decay| Member {
            name: name.to_owned(),
            lr_multiplier,
            weight_decay,
        };
        let members = vec![member("a", 0.1, true), member("b", 1.0, false)];
        let mut store = store();
        let mut optimizer = Optimizer::of(&config, members);
        run(&mut optimizer, &config, &mut store, [0, 10]);
        for (name, expected) in expected {
            assert_close(variant, &values(&store, name), expected);
        }
        compared += 1;
    }
    assert_eq!(compared, GROUPED);
}

#[test]
fn tensor_operations_agree_with_the_slices() {
    for (variant, config) in variants() {
        let mut store = store();
        let mut optimizer = Optimizer::new(&config, &names());
        run(&mut optimizer, &config, &mut store, [0, 4]);

        let initial = crate::train::test_support::store();
        for (name, dims) in SHAPES {
            let mut value = initial.value(name).clone();
            let zeros = filled(dims, |_| 0.0);
            let mut moments = vec![zeros; Rule::moments(&config).len()];
            for step in 0..4 {
                let lr = config.learning_rate() / (1 + step) as f64;
                let rule = Rule::new(&config, lr, step as u64 + 1);
                let gradient = &gradients(step)[name];
                value = rule.apply_tensors(&value, gradient, &mut moments).unwrap();
            }
            let expected = value.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_close(variant, &values(&store, name), &expected);
        }
    }
}

#[test]
fn a_restored_state_continues_to_the_same_bits() {
    for (variant, config) in variants() {
        let mut whole = store();
        let mut optimizer = Optimizer::new(&config, &names());
        run(&mut optimizer, &config, &mut whole, [0, 5]);
        let state = optimizer.state().unwrap();
        let mut resumed = whole.clone();
        run(&mut optimizer, &config, &mut whole, [5, 10]);

        let mut optimizer = Optimizer::new(&config, &names());
        optimizer.restore(state).unwrap();
        run(&mut optimizer, &config, &mut resumed, [5, 10]);
        for (name, _) in SHAPES {
            assert_eq!(values(&whole, name), values(&resumed, name), "{variant}");
        }
    }
}

#[test]
fn chunks_do_not_show() {
    let config = config("kind = 'adam'\nlr = 0.1");
    let dims = [3 * CHUNK + 5];
    let mut large = Store(HashMap::from([(
        "a".to_owned(),
        filled(&dims, |i| fraction(i % 16)),
    )]));
    let gradient = Gradients::from([("a".to_owned(), filled(&dims, |i| fraction(i % 16 + 3)))]);
    let mut optimizer = Optimizer::new(&config, &["a".to_owned()]);
    optimizer.step(&mut large, &gradient, 0.1).unwrap();
    let values = values(&large, "a");
    assert!(values.iter().enumerate().all(|(i, v)| *v == values[i % 16]));
}

#[test]
fn errors_name_the_parameter() {
    let config = config("kind = 'adam'\nlr = 0.1");
    let mut store = store();
    let mut optimizer = Optimizer::new(&config, &names());
    let mut partial = gradients(0);
    partial.swap_remove("b");
    let error = optimizer.step(&mut store, &partial, 0.1).unwrap_err();
    assert!(error.to_string().contains("`b` has no gradient"), "{error}");

    run(&mut optimizer, &config, &mut store, [0, 1]);
    let mut state = optimizer.state().unwrap();
    state.tensors.swap_remove("a/v");
    let error = optimizer.restore(state).unwrap_err();
    assert!(error.to_string().contains("no `a/v`"), "{error}");

    let mut state = optimizer.state().unwrap();
    let surplus = state.tensors["a/v"].clone();
    state.tensors.insert("c/v".to_owned(), surplus);
    let error = optimizer.restore(state).unwrap_err();
    assert!(error.to_string().contains("`c/v`"), "{error}");
}
