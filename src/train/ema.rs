//! The exponential moving average of the weights, as timm's `ModelEmaV3` computes it.

use candle_core::{CpuStorage, Device, Result, Storage, Tensor};
use rayon::prelude::*;

use super::optimizer::ParamStore;
use crate::config::EmaConfig;
use crate::engine::params::Params;

/// Values that one task averages.
const CHUNK: usize = 16 * 1024;

/// Averaged weights.
#[derive(Debug, Clone)]
pub struct Ema {
    config: EmaConfig,
    /// Steps averaged over.
    steps: u64,
    /// Trained parameters and batch-norm statistics that training moves.
    names: Vec<String>,
    /// All parameters, those of `names` averaged.
    params: Params,
}

impl Ema {
    /// Before the first step: the weights as they are. `names` are those that will move.
    pub fn new(config: EmaConfig, names: Vec<String>, params: &Params) -> Self {
        Self {
            config,
            steps: 0,
            names,
            params: params.clone(),
        }
    }

    /// After `steps` steps, from what a checkpoint kept.
    pub fn restored(config: EmaConfig, names: Vec<String>, params: Params, steps: u64) -> Self {
        Self {
            config,
            steps,
            names,
            params,
        }
    }

    /// Takes in the weights after a step.
    pub fn update(&mut self, params: &Params) -> Result<()> {
        self.steps += 1;
        let decay = decay(self.config, self.steps);
        take_in(&mut self.params, params, &self.names, decay)
    }

    /// Counts a step whose weights are taken in elsewhere: the share that they get.
    pub fn count_step(&mut self) -> f64 {
        self.steps += 1;
        1.0 - decay(self.config, self.steps)
    }

    /// Replaces averages by what they have become elsewhere.
    pub fn replace(&mut self, averages: Vec<(String, Tensor)>) -> Result<()> {
        let mut averages = averages.into_iter();
        averages.try_for_each(|(name, value)| self.params.set(&name, value))
    }

    /// All parameters with the averages in place.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Names of what is averaged.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Steps averaged over.
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

/// What step number `step`, from 1, leaves of the average: nothing of the weights from before the
/// first step.
fn decay(config: EmaConfig, step: u64) -> f64 {
    let before = step.saturating_sub(1) as f64;
    if before == 0.0 {
        0.0
    } else if config.warmup {
        let warm = 1.0 - (1.0 + before).powf(-2.0 / 3.0);
        warm.min(config.decay)
    } else {
        config.decay
    }
}

fn take_in(
    averaged: &mut impl ParamStore,
    params: &impl ParamStore,
    names: &[String],
    decay: f64,
) -> Result<()> {
    for name in names {
        let value = lerp(averaged.value(name), params.value(name), 1.0 - decay)?;
        averaged.set(name, value)?;
    }
    Ok(())
}

/// `start + share * (end - start)` with PyTorch's rounding: from the nearer end.
fn lerp(start: &Tensor, end: &Tensor, share: f64) -> Result<Tensor> {
    let near = share < 0.5;
    let share = share as f32;
    let between = |start: f32, end: f32| {
        if near {
            start + share * (end - start)
        } else {
            end - (end - start) * (1.0 - share)
        }
    };
    let (from, to) = (start.contiguous()?, end.contiguous()?);
    let (from, to) = (from.storage_and_layout(), to.storage_and_layout());
    let slices = (host(&from.0, from.1), host(&to.0, to.1));
    let (Some(from), Some(to)) = slices else {
        // Elsewhere than on the CPU.
        return start + ((end - start)? * f64::from(share))?;
    };
    let mut values = vec![0.0; from.len()];
    let chunks = from.par_chunks(CHUNK).zip(to.par_chunks(CHUNK));
    let chunks = chunks.zip(values.par_chunks_mut(CHUNK));
    chunks.for_each(|((from, to), values)| {
        for ((value, &from), &to) in values.iter_mut().zip(from).zip(to) {
            *value = between(from, to);
        }
    });
    Tensor::from_vec(values, start.dims(), &Device::Cpu)
}

fn host<'a>(storage: &'a Storage, layout: &candle_core::Layout) -> Option<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => Some(&values[start..end]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::train::test_support::{Store, assert_close, gradients, values};

    #[test]
    fn averages_equal_timm() {
        let fixtures = include_str!("../../tests/fixtures/loop.json");
        let fixtures: serde_json::Value = serde_json::from_str(fixtures).unwrap();
        let fixtures: HashMap<String, HashMap<String, Vec<f32>>> =
            serde_json::from_value(fixtures["ema"].clone()).unwrap();
        let moved = |step| Store(gradients(step).into_iter().collect());
        let names = ["a".to_owned(), "b".to_owned()];
        for (variant, settings) in [
            ("plain", "decay = 0.9"),
            ("slow", "decay = 0.3"),
            ("warm", "decay = 0.9\nwarmup = true"),
        ] {
            let config = toml::from_str(settings).unwrap();
            let mut averaged: Store = moved(0);
            for step in 1..=12 {
                let decay = decay(config, step as u64);
                take_in(&mut averaged, &moved(step), &names, decay).unwrap();
            }
            for name in &names {
                assert_close(variant, &values(&averaged, name), &fixtures[variant][name]);
            }
        }
    }
}
