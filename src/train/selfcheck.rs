//! The proof after a phase's first step: what should train got a gradient, and what should be
//! frozen did not move by a bit.

use std::collections::{HashMap, HashSet};
use std::fmt;

use candle_core::{CpuStorage, Storage, Tensor};
use rayon::prelude::*;
use thiserror::Error;

use crate::engine::params::{Param, Params, fingerprint};
use crate::engine::suffix::Gradients;
use crate::graph::ParamKind;

/// Why a step cannot be trusted.
#[derive(Debug, Error)]
pub enum SelfCheckError {
    /// Something trained that should not, or the other way round.
    #[error("the first step of phase `{phase}` failed its self-check:{}", list(.offences))]
    Offences {
        /// Name of the phase.
        phase: String,
        /// Everything that is wrong, in graph order.
        offences: Vec<Offence>,
    },
    /// A tensor could not be read.
    #[error("the self-check could not read a tensor: {0}")]
    Tensor(#[from] candle_core::Error),
}

fn list(offences: &[Offence]) -> String {
    offences
        .iter()
        .map(|offence| format!("\n  {offence}"))
        .collect()
}

/// One parameter that behaved wrongly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offence {
    /// Name of the parameter.
    pub name: String,
    /// What it did.
    pub fault: Fault,
}

/// What a parameter may do wrong in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It trains, but has no gradient.
    NoGradient,
    /// So many values of its gradient are infinite or not a number.
    NotFinite(usize),
    /// A kernel whose gradient is 0 everywhere.
    Zero,
    /// It is frozen and has changed.
    Changed,
    /// It is a batch-norm statistic that must stay, and has changed.
    StatisticChanged,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ", self.name)?;
        match self.fault {
            Fault::NoGradient => write!(
                f,
                "trains but received no gradient: an operation between it and the loss does not \
                 pass gradients on; freeze its layer or report the layer's kind"
            ),
            Fault::NotFinite(count) => write!(
                f,
                "received a gradient with {count} infinite or undefined values: lower the \
                 learning rate or add a warm-up, and check the weights file"
            ),
            Fault::Zero => write!(
                f,
                "received a gradient of zeros: every activation behind it is dead or saturated, \
                 or a later layer's weights are all 0; check weights and normalisation"
            ),
            Fault::Changed => write!(f, "is frozen but changed; please report this"),
            Fault::StatisticChanged => write!(
                f,
                "is a stored batch-norm statistic that must stay as it is, but changed; please \
                 report this"
            ),
        }
    }
}

/// What a phase's first step is compared with.
#[derive(Debug)]
pub struct SelfCheck {
    /// Hashes rather than clones: a clone would share the storage that an in-place bug overwrites.
    frozen: Vec<(String, ParamKind, blake3::Hash)>,
}

impl SelfCheck {
    /// Takes fingerprints of everything that the step must not touch: all parameters except the
    /// `trained` ones and the running statistics `updated` by batch norm in training mode.
    pub fn before(
        params: &Params,
        trained: &[String],
        updated: &[String],
    ) -> Result<Self, SelfCheckError> {
        let entries: Vec<_> = params.iter().collect();
        Self::of(&entries, trained, updated)
    }

    /// Judges the step from the parameters and gradients that it left.
    pub fn after(
        &self,
        phase: &str,
        params: &Params,
        trained: &[String],
        gradients: &Gradients,
    ) -> Result<(), SelfCheckError> {
        let entries: Vec<_> = params.iter().collect();
        self.judge(phase, &entries, trained, gradients)
    }

    fn of(
        params: &[(&str, &Param)],
        trained: &[String],
        updated: &[String],
    ) -> Result<Self, SelfCheckError> {
        let moving: HashSet<&str> = trained.iter().chain(updated).map(String::as_str).collect();
        let frozen = params
            .par_iter()
            .filter(|(name, _)| !moving.contains(name))
            .map(|(name, param)| Ok(((*name).to_owned(), param.kind, fingerprint(&param.value)?)))
            .collect::<candle_core::Result<_>>()?;
        Ok(Self { frozen })
    }

    fn judge(
        &self,
        phase: &str,
        params: &[(&str, &Param)],
        trained: &[String],
        gradients: &Gradients,
    ) -> Result<(), SelfCheckError> {
        let by_name: HashMap<&str, &Param> = params.iter().copied().collect();
        let mut offences = Vec::new();
        for name in trained {
            let kernel = by_name
                .get(name.as_str())
                .is_some_and(|param| param.kind == ParamKind::Kernel);
            if let Some(fault) = gradient_fault(gradients.get(name), kernel)? {
                offences.push(Offence {
                    name: name.clone(),
                    fault,
                });
            }
        }
        let changed = self
            .frozen
            .par_iter()
            .map(|(name, kind, before)| {
                let same = match by_name.get(name.as_str()) {
                    Some(param) => fingerprint(&param.value)? == *before,
                    None => false,
                };
                let fault = if kind.trains() {
                    Fault::Changed
                } else {
                    Fault::StatisticChanged
                };
                Ok((!same).then(|| Offence {
                    name: name.clone(),
                    fault,
                }))
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        offences.extend(changed.into_iter().flatten());
        if offences.is_empty() {
            return Ok(());
        }
        Err(SelfCheckError::Offences {
            phase: phase.to_owned(),
            offences,
        })
    }
}

/// Zeros are a fault of kernels alone: the gradient of a bias that feeds a batch norm in training
/// mode is 0 by right, and so may be that of a norm behind dead units.
fn gradient_fault(gradient: Option<&Tensor>, kernel: bool) -> candle_core::Result<Option<Fault>> {
    let Some(gradient) = gradient else {
        return Ok(Some(Fault::NoGradient));
    };
    let (mut wild, mut zero) = (0, true);
    with_values(gradient, |values| {
        wild = values.iter().filter(|value| !value.is_finite()).count();
        zero = values.iter().all(|&value| value == 0.0);
    })?;
    Ok(match (wild, zero) {
        (0, true) if kernel => Some(Fault::Zero),
        (0, _) => None,
        (count, _) => Some(Fault::NotFinite(count)),
    })
}

/// The first parameter or statistic with an infinite or undefined value, in graph order.
pub fn first_non_finite(params: &Params) -> candle_core::Result<Option<String>> {
    for (name, param) in params.iter() {
        let mut finite = true;
        with_values(&param.value, |values| {
            finite = values.iter().all(|value| value.is_finite());
        })?;
        if !finite {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

/// Hands over a tensor's values, without a copy where they lie contiguous in memory.
pub(super) fn with_values(
    tensor: &Tensor,
    mut use_values: impl FnMut(&[f32]),
) -> candle_core::Result<()> {
    {
        let (storage, layout) = tensor.storage_and_layout();
        if let (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) =
            (&*storage, layout.contiguous_offsets())
        {
            use_values(&values[start..end]);
            return Ok(());
        }
    }
    use_values(&tensor.flatten_all()?.to_vec1::<f32>()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn param(kind: ParamKind, values: [f32; 2]) -> Param {
        Param {
            kind,
            value: tensor(values),
        }
    }

    fn tensor(values: [f32; 2]) -> Tensor {
        Tensor::new(&values, &Device::Cpu).unwrap()
    }

    fn params() -> Vec<(&'static str, Param)> {
        vec![
            ("conv/kernel", param(ParamKind::Kernel, [1.0, 2.0])),
            ("bn/moving_mean", param(ParamKind::MovingMean, [0.0, 1.0])),
            ("bn2/moving_mean", param(ParamKind::MovingMean, [0.0, 1.0])),
            ("dense/kernel", param(ParamKind::Kernel, [3.0, 4.0])),
            ("dense/bias", param(ParamKind::Bias, [0.0, 0.0])),
        ]
    }

    fn borrow<'a>(params: &'a [(&'static str, Param)]) -> Vec<(&'a str, &'a Param)> {
        params.iter().map(|(name, param)| (*name, param)).collect()
    }

    fn trained() -> Vec<String> {
        vec!["dense/kernel".to_owned(), "dense/bias".to_owned()]
    }

    fn offences(
        change: impl Fn(&mut Vec<(&'static str, Param)>),
        gradients: &[(&str, [f32; 2])],
    ) -> Vec<(String, Fault)> {
        let updated = ["bn2/moving_mean".to_owned()];
        let mut params = params();
        let check = SelfCheck::of(&borrow(&params), &trained(), &updated).unwrap();
        change(&mut params);
        let gradients = gradients
            .iter()
            .map(|(name, values)| ((*name).to_owned(), tensor(*values)))
            .collect();
        match check.judge("warm", &borrow(&params), &trained(), &gradients) {
            Ok(()) => Vec::new(),
            Err(SelfCheckError::Offences { offences, .. }) => offences
                .into_iter()
                .map(|offence| (offence.name, offence.fault))
                .collect(),
            Err(error) => panic!("{error}"),
        }
    }

    const SOUND: [(&str, [f32; 2]); 2] = [("dense/kernel", [0.0, 0.5]), ("dense/bias", [0.0, 0.0])];

    #[test]
    fn a_sound_step_passes() {
        let step = |params: &mut Vec<(&'static str, Param)>| {
            params[2].1.value = tensor([0.5, 1.0]);
            params[3].1.value = tensor([3.5, 4.0]);
        };
        assert_eq!(offences(step, &SOUND), []);
    }

    #[test]
    fn every_frozen_tensor_that_changed_is_named() {
        let step = |params: &mut Vec<(&'static str, Param)>| {
            // Equal as numbers, but not as bytes.
            params[1].1.value = tensor([-0.0, 1.0]);
            params[0].1.value = tensor([1.0, 2.5]);
        };
        assert_eq!(
            offences(step, &SOUND),
            [
                ("conv/kernel".to_owned(), Fault::Changed),
                ("bn/moving_mean".to_owned(), Fault::StatisticChanged),
            ]
        );
    }

    #[test]
    fn missing_zero_and_wild_gradients_are_named() {
        let wild = [("dense/kernel", [f32::NAN, f32::INFINITY])];
        assert_eq!(
            offences(|_| (), &wild),
            [
                ("dense/kernel".to_owned(), Fault::NotFinite(2)),
                ("dense/bias".to_owned(), Fault::NoGradient),
            ]
        );
        let zero = [("dense/kernel", [0.0, -0.0]), ("dense/bias", [1.0, 0.0])];
        assert_eq!(
            offences(|_| (), &zero),
            [("dense/kernel".to_owned(), Fault::Zero)]
        );
    }

    #[test]
    fn the_message_names_phase_parameter_and_reason() {
        let error = SelfCheckError::Offences {
            phase: "fine_tune".into(),
            offences: vec![Offence {
                name: "conv/kernel".into(),
                fault: Fault::Zero,
            }],
        };
        let text = error.to_string();
        assert!(text.contains("`fine_tune`"), "{text}");
        assert!(
            text.contains("\n  `conv/kernel` received a gradient of zeros"),
            "{text}"
        );
    }
}
