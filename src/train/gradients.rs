//! What happens to gradients between a batch and the optimizer: averaging over the batches of a
//! step, and clipping.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::selfcheck::with_values;
use crate::engine::suffix::Gradients;

/// The mean over several batches, each counting by the weight of its pictures.
#[derive(Debug, Default)]
pub(super) struct Mean {
    parts: usize,
    /// The sum of a single part is that part, its weight left aside.
    sum: Gradients,
    weight: f64,
}

impl Mean {
    /// Takes in the gradients of a batch's mean loss. Batches of no weight count for nothing.
    pub(super) fn add(&mut self, gradients: Gradients, weight: f64) -> Result<()> {
        if weight == 0.0 {
            return Ok(());
        }
        match self.parts {
            0 => self.sum = gradients,
            _ => {
                if self.parts == 1 {
                    scale(&mut self.sum, self.weight)?;
                }
                for (name, sum) in &mut self.sum {
                    if let Some(gradient) = gradients.get(name) {
                        *sum = (&*sum + gradient.affine(weight, 0.0)?)?;
                    }
                }
            }
        }
        self.parts += 1;
        self.weight += weight;
        Ok(())
    }

    /// The mean; `None` where nothing was of any weight.
    pub(super) fn finish(mut self) -> Result<Option<Gradients>> {
        match self.parts {
            0 => return Ok(None),
            1 => {}
            _ => scale(&mut self.sum, 1.0 / self.weight)?,
        }
        Ok(Some(self.sum))
    }
}

fn scale(gradients: &mut Gradients, factor: f64) -> Result<()> {
    for gradient in gradients.values_mut() {
        *gradient = gradient.affine(factor, 0.0)?;
    }
    Ok(())
}

/// Scales the gradients down together where their common norm exceeds `most`, as PyTorch's
/// `clip_grad_norm_` does; returns the norm before. Not finite, it leaves the gradients alone.
pub(super) fn clip_norm(gradients: &mut Gradients, most: f64) -> Result<f64> {
    let norm = norm(gradients)?;
    let factor = most / (norm + 1e-6);
    if factor < 1.0 && norm.is_finite() {
        scale(gradients, factor)?;
    }
    Ok(norm)
}

/// Cuts off values beyond `most` either way, as PyTorch's `clip_grad_value_` does.
pub(super) fn clip_value(gradients: &mut Gradients, most: f64) -> Result<()> {
    for gradient in gradients.values_mut() {
        *gradient = gradient.clamp(-most, most)?;
    }
    Ok(())
}

/// Euclidean norm of all gradients as one vector, summed in f64 in an order of its own.
fn norm(gradients: &Gradients) -> Result<f64> {
    let tensors: Vec<&Tensor> = gradients.values().collect();
    let squares = tensors.into_par_iter().map(|gradient| {
        let mut sum = 0.0;
        with_values(gradient, |values| sum = square_sum(values))?;
        Ok(sum)
    });
    let squares: Vec<f64> = squares.collect::<Result<_>>()?;
    Ok(squares.iter().sum::<f64>().sqrt())
}

/// In eight lanes, which the compiler makes vectors of.
fn square_sum(values: &[f32]) -> f64 {
    let mut lanes = [0.0; 8];
    let (eights, rest) = values.as_chunks::<8>();
    for eight in eights {
        for (lane, &value) in lanes.iter_mut().zip(eight) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    let rest: f64 = rest.iter().map(|&value| f64::from(value).powi(2)).sum();
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;

    use super::*;
    use crate::train::test_support::{assert_close, gradients};

    #[derive(Deserialize)]
    struct Clipped {
        norm: Option<f64>,
        gradients: HashMap<String, Vec<f32>>,
    }

    #[derive(Deserialize)]
    struct Fixtures {
        clip_norm: HashMap<String, Clipped>,
        clip_value: HashMap<String, Clipped>,
    }

    fn values(gradients: &Gradients, name: &str) -> Vec<f32> {
        gradients[name].flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn clipping_equals_pytorch() {
        let fixtures = include_str!("../../tests/fixtures/loop.json");
        let fixtures: Fixtures = serde_json::from_str(fixtures).unwrap();
        let mut compared = 0;
        for (most, expected) in fixtures.clip_norm.iter().chain(&fixtures.clip_value) {
            let mut clipped = gradients(1);
            let bound = most.parse().unwrap();
            match expected.norm {
                Some(norm) => {
                    let found = clip_norm(&mut clipped, bound).unwrap();
                    assert!((found - norm).abs() < 1e-6 * norm, "{found} is not {norm}");
                }
                None => clip_value(&mut clipped, bound).unwrap(),
            }
            for (name, expected) in &expected.gradients {
                assert_close(most, &values(&clipped, name), expected);
                compared += 1;
            }
        }
        assert_eq!(compared, 10);
    }

    #[test]
    fn a_norm_that_is_not_finite_is_told_and_clips_nothing() {
        let mut wild = gradients(1);
        let name = "a".to_owned();
        let value = wild[&name].affine(f64::INFINITY, 0.0).unwrap();
        wild.insert(name, value);
        let before = values(&wild, "b");
        assert!(!clip_norm(&mut wild, 1.0).unwrap().is_finite());
        assert_eq!(values(&wild, "b"), before);
    }

    #[test]
    fn batches_count_by_the_weight_of_their_pictures() {
        let mut mean = Mean::default();
        for (step, weight) in [(0, 6.0), (1, 0.0), (2, 2.0)] {
            mean.add(gradients(step), weight).unwrap();
        }
        let mean = mean.finish().unwrap().unwrap();
        for name in ["a", "b"] {
            let parts = [0, 2].map(|step| values(&gradients(step), name));
            let expected = parts[0].iter().zip(&parts[1]);
            let expected: Vec<f32> = expected.map(|(a, b)| 0.75 * a + 0.25 * b).collect();
            assert_close(name, &values(&mean, name), &expected);
        }
        // One batch keeps its bits.
        let mut one = Mean::default();
        one.add(gradients(3), 7.0).unwrap();
        let one = one.finish().unwrap().unwrap();
        assert_eq!(values(&one, "a"), values(&gradients(3), "a"));
        assert!(Mean::default().finish().unwrap().is_none());
    }
}
