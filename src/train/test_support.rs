//! Small tensors by formulas that the fixtures' scripts share.

use std::collections::HashMap;

use candle_core::{Device, Result, Tensor};

use super::optimizer::ParamStore;
use crate::engine::suffix::Gradients;

pub(super) const SHAPES: [(&str, &[usize]); 2] = [("a", &[3, 5]), ("b", &[7])];

/// Tensors by name.
#[derive(Clone)]
pub(super) struct Store(pub(super) HashMap<String, Tensor>);

impl ParamStore for Store {
    fn value(&self, name: &str) -> &Tensor {
        &self.0[name]
    }

    fn set(&mut self, name: &str, value: Tensor) -> Result<()> {
        self.0.insert(name.to_owned(), value);
        Ok(())
    }
}

/// The scattered eighths of `make_optimizer_fixtures.py` and `make_loop_fixtures.py`.
pub(super) fn fraction(n: usize) -> f32 {
    ((n * 37 + 11) % 17) as f32 / 8.0 - 1.0
}

pub(super) fn filled(dims: &[usize], value: impl Fn(usize) -> f32) -> Tensor {
    let count = dims.iter().product();
    let values: Vec<f32> = (0..count).map(value).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

pub(super) fn store() -> Store {
    let tensors = SHAPES.iter().enumerate().map(|(which, (name, dims))| {
        let value = filled(dims, |i| fraction(i + 100 * which));
        ((*name).to_owned(), value)
    });
    Store(tensors.collect())
}

pub(super) fn gradients(step: usize) -> Gradients {
    let tensors = SHAPES.iter().enumerate().map(|(which, (name, dims))| {
        let value = filled(dims, |i| fraction(i * i + 3 * step * (i + 1) + 50 * which));
        ((*name).to_owned(), value)
    });
    tensors.collect()
}

pub(super) fn values(store: &Store, name: &str) -> Vec<f32> {
    store.0[name].flatten_all().unwrap().to_vec1().unwrap()
}

pub(super) fn assert_close(variant: &str, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len());
    for (&a, &e) in actual.iter().zip(expected) {
        assert!(
            (a - e).abs() <= 1e-6 * e.abs().max(0.1),
            "{variant}: {a} is not {e}"
        );
    }
}
