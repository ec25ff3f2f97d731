//! Optimizers with PyTorch's formulas, and state that can be saved and restored to the same bits.
//!
//! As in PyTorch, hyper-parameters are combined in f64 and elements are computed in f32. On the
//! CPU a step is one pass over all parameters in chunks of fixed size, so that every number is
//! read and written once and the result does not depend on the number of threads.

use candle_core::{CpuStorage, Device, Result, Storage, Tensor, bail};
use indexmap::IndexMap;
use rayon::prelude::*;

use super::rule::{MAX_MOMENTS, Rule};
use crate::config::OptimizerConfig;
use crate::engine::params::Params;
use crate::engine::suffix::{Gradients, OptimizerNumbers};

/// Elements that one task updates: parameters and moments of a chunk fit the second-level cache.
const CHUNK: usize = 16 * 1024;

/// What an optimizer moves: tensors by name.
pub trait ParamStore {
    /// The current value.
    fn value(&self, name: &str) -> &Tensor;
    /// Replaces a value by one of the same dimensions.
    fn set(&mut self, name: &str, value: Tensor) -> Result<()>;
}

impl ParamStore for Params {
    fn value(&self, name: &str) -> &Tensor {
        Params::value(self, name)
    }

    fn set(&mut self, name: &str, value: Tensor) -> Result<()> {
        Params::set(self, name, value)
    }
}

/// All that a step depends on besides parameters and gradients.
#[derive(Debug, Clone, Default)]
pub struct OptimizerState {
    /// Steps taken.
    pub step: u64,
    /// Moments by parameter and kind, for example `Conv1/kernel/m`, each with the parameter's
    /// dimensions. Empty before the first step.
    pub tensors: IndexMap<String, Tensor>,
}

/// A parameter that an optimizer moves, and how it differs from the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Name of the parameter.
    pub name: String,
    /// What the learning rate is multiplied with.
    pub lr_multiplier: f64,
    /// Whether weight decay applies.
    pub weight_decay: bool,
}

/// A member and its moments.
#[derive(Debug)]
struct Slot {
    name: String,
    lr_multiplier: f64,
    weight_decay: bool,
    dims: Vec<usize>,
    moments: Moments,
}

/// Where moments live: vectors of our own on the CPU, tensors elsewhere. As many as the rule has.
#[derive(Debug)]
enum Moments {
    Fresh,
    Host(Vec<Vec<f32>>),
    Device(Vec<Tensor>),
}

/// Moves a fixed list of parameters against their gradients.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    step: u64,
    slots: Vec<Slot>,
}

impl Optimizer {
    /// An optimizer of the parameters `names`, all alike, before its first step.
    pub fn new(config: &OptimizerConfig, names: &[String]) -> Self {
        let members = names.iter().map(|name| Member {
            name: name.clone(),
            lr_multiplier: 1.0,
            weight_decay: true,
        });
        Self::of(config, members.collect())
    }

    /// An optimizer of parameters with learning rates and weight decay of their own, before its
    /// first step; PyTorch's parameter groups.
    pub fn of(config: &OptimizerConfig, members: Vec<Member>) -> Self {
        let slots = members.into_iter().map(|member| Slot {
            name: member.name,
            lr_multiplier: member.lr_multiplier,
            weight_decay: member.weight_decay,
            dims: Vec::new(),
            moments: Moments::Fresh,
        });
        Self {
            config: *config,
            step: 0,
            slots: slots.collect(),
        }
    }

    /// One step with the learning rate `lr`, times each member's multiplier. Every parameter must
    /// have a gradient of its own dimensions, f32, on its device; otherwise nothing is changed and
    /// an error names it.
    pub fn step(
        &mut self,
        params: &mut impl ParamStore,
        gradients: &Gradients,
        lr: f64,
    ) -> Result<()> {
        let kinds = Rule::moments(&self.config).len();
        let mut inputs = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let value = params.value(&slot.name).contiguous()?;
            let Some(gradient) = gradients.get(&slot.name) else {
                bail!("`{}` has no gradient", slot.name);
            };
            if gradient.dims() != value.dims() {
                bail!(
                    "the gradient of `{}` is {:?}, the parameter {:?}",
                    slot.name,
                    gradient.dims(),
                    value.dims()
                );
            }
            slot.check(value.dims())?;
            inputs.push((value, gradient.contiguous()?));
        }
        let step = self.step + 1;
        let rules: Vec<Rule> = self
            .slots
            .iter()
            .map(|slot| slot.rule(&self.config, lr, step))
            .collect();
        for (slot, (value, _)) in self.slots.iter_mut().zip(&inputs) {
            slot.prepare(value, kinds)?;
        }
        let host = inputs
            .iter()
            .all(|(value, _)| matches!(value.device(), Device::Cpu));
        let updated = if host {
            step_host(&rules, &mut self.slots, &inputs)?
        } else {
            step_device(&rules, &mut self.slots, &inputs)?
        };
        for (slot, value) in self.slots.iter().zip(updated) {
            params.set(&slot.name, value)?;
        }
        self.step += 1;
        Ok(())
    }

    /// The numbers of the next step on a GPU, for parameters in this order.
    ///
    /// # Errors
    /// If one of them is no member.
    pub fn numbers(&self, names: &[String], lr: f64) -> Result<OptimizerNumbers> {
        let moments = Rule::moments(&self.config).len();
        let mut numbers = OptimizerNumbers {
            moments,
            ..OptimizerNumbers::default()
        };
        let mut kinds: Vec<(f64, bool)> = Vec::new();
        for name in names {
            let Some(slot) = self.slots.iter().find(|slot| slot.name == *name) else {
                bail!("`{name}` is no member of the optimizer");
            };
            let kind = (slot.lr_multiplier, slot.weight_decay);
            let known = kinds.iter().position(|known| *known == kind);
            numbers.rule_of.push(known.unwrap_or_else(|| {
                kinds.push(kind);
                let rule = slot.rule(&self.config, lr, self.step + 1);
                numbers.rules.push(rule.there(moments));
                kinds.len() - 1
            }));
        }
        Ok(numbers)
    }

    /// Counts a step that was taken on a GPU.
    pub fn count_step(&mut self) {
        self.step += 1;
    }

    /// Names of the moments, in the order in which a GPU has them.
    pub fn moments(&self) -> &'static [&'static str] {
        Rule::moments(&self.config)
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// A copy of the state, to be saved.
    pub fn state(&self) -> Result<OptimizerState> {
        let kinds = Rule::moments(&self.config);
        let mut tensors = IndexMap::new();
        for slot in &self.slots {
            for (index, kind) in kinds.iter().enumerate() {
                let tensor = match &slot.moments {
                    Moments::Fresh => continue,
                    Moments::Host(moments) => {
                        Tensor::from_slice(&moments[index], slot.dims.as_slice(), &Device::Cpu)?
                    }
                    Moments::Device(moments) => moments[index].clone(),
                };
                tensors.insert(format!("{}/{kind}", slot.name), tensor);
            }
        }
        Ok(OptimizerState {
            step: self.step,
            tensors,
        })
    }

    /// Goes on from a saved state. An error names a missing or surplus tensor, or dimensions that
    /// differ between the moments of one parameter; nothing is changed then.
    pub fn restore(&mut self, state: OptimizerState) -> Result<()> {
        let OptimizerState { step, mut tensors } = state;
        let kinds = Rule::moments(&self.config);
        let fresh = tensors.is_empty() && step == 0;
        let mut restored = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            if fresh || kinds.is_empty() {
                restored.push((Vec::new(), Moments::Fresh));
                continue;
            }
            let mut moments = Vec::with_capacity(kinds.len());
            for kind in kinds {
                let name = format!("{}/{kind}", slot.name);
                match tensors.swap_remove(&name) {
                    Some(tensor) => moments.push(tensor),
                    None => bail!("the saved optimizer state has no `{name}`"),
                }
            }
            let dims = moments[0].dims().to_vec();
            if moments.iter().any(|moment| moment.dims() != dims) {
                bail!(
                    "the saved moments of `{}` differ in their dimensions",
                    slot.name
                );
            }
            restored.push((dims, Moments::from_tensors(moments)?));
        }
        if let Some((name, _)) = tensors.first() {
            bail!("the saved optimizer state has `{name}`, which this optimizer does not use");
        }
        for (slot, (dims, moments)) in self.slots.iter_mut().zip(restored) {
            slot.dims = dims;
            slot.moments = moments;
        }
        self.step = step;
        Ok(())
    }
}

impl Slot {
    /// The rule for step number `step`, counted from 1, with the learning rate `lr`.
    fn rule(&self, config: &OptimizerConfig, lr: f64, step: u64) -> Rule {
        let config = match self.weight_decay {
            true => *config,
            false => config.without_weight_decay(),
        };
        Rule::new(&config, lr * self.lr_multiplier, step)
    }

    /// Whether moments restored earlier fit the parameter.
    fn check(&self, dims: &[usize]) -> Result<()> {
        if !matches!(self.moments, Moments::Fresh) && self.dims != dims {
            bail!(
                "the moments of `{}` are {:?}, the parameter {dims:?}",
                self.name,
                self.dims
            );
        }
        Ok(())
    }

    /// Moments of zeros where there are none yet, on the parameter's device.
    fn prepare(&mut self, value: &Tensor, kinds: usize) -> Result<()> {
        let host = matches!(value.device(), Device::Cpu);
        match &mut self.moments {
            Moments::Fresh if host => {
                self.moments = Moments::Host(vec![vec![0.0; value.elem_count()]; kinds]);
            }
            Moments::Fresh => {
                let zeros = (0..kinds).map(|_| value.zeros_like());
                self.moments = Moments::Device(zeros.collect::<Result<_>>()?);
            }
            Moments::Host(moments) if !host => {
                let moved = moments.iter().map(|moment| {
                    Tensor::from_slice(moment, value.dims(), &Device::Cpu)?
                        .to_device(value.device())
                });
                self.moments = Moments::Device(moved.collect::<Result<_>>()?);
            }
            Moments::Device(moments) if host => {
                let moved = moments.iter().map(|moment| moment.to_device(&Device::Cpu));
                self.moments = Moments::from_tensors(moved.collect::<Result<_>>()?)?;
            }
            Moments::Host(_) | Moments::Device(_) => {}
        }
        self.dims = value.dims().to_vec();
        Ok(())
    }
}

impl Moments {
    fn from_tensors(tensors: Vec<Tensor>) -> Result<Self> {
        if tensors
            .iter()
            .any(|tensor| !matches!(tensor.device(), Device::Cpu))
        {
            return Ok(Self::Device(tensors));
        }
        let vectors = tensors
            .iter()
            .map(|tensor| tensor.flatten_all()?.to_vec1::<f32>());
        Ok(Self::Host(vectors.collect::<Result<_>>()?))
    }
}

/// A chunk of one parameter with its gradient, moments and room for its new value.
struct Task<'a> {
    rule: &'a Rule,
    value: &'a [f32],
    gradient: &'a [f32],
    moments: [&'a mut [f32]; MAX_MOMENTS],
    updated: &'a mut [f32],
}

fn step_host(
    rules: &[Rule],
    slots: &mut [Slot],
    inputs: &[(Tensor, Tensor)],
) -> Result<Vec<Tensor>> {
    let mut updated: Vec<Vec<f32>> = inputs
        .iter()
        .map(|(value, _)| vec![0.0; value.elem_count()])
        .collect();
    let guards: Vec<_> = inputs
        .iter()
        .map(|(value, gradient)| (value.storage_and_layout(), gradient.storage_and_layout()))
        .collect();
    let mut tasks = Vec::new();
    let slots = slots.iter_mut().zip(rules);
    for (((slot, rule), updated), (value, gradient)) in slots.zip(&mut updated).zip(&guards) {
        let value = host_slice(&value.0, value.1)?;
        let gradient = host_slice(&gradient.0, gradient.1)?;
        let mut moments: [_; MAX_MOMENTS] = Default::default();
        if let Moments::Host(vectors) = &mut slot.moments {
            for (chunks, vector) in moments.iter_mut().zip(vectors) {
                *chunks = Some(vector.chunks_mut(CHUNK));
            }
        }
        for ((value, gradient), updated) in value
            .chunks(CHUNK)
            .zip(gradient.chunks(CHUNK))
            .zip(updated.chunks_mut(CHUNK))
        {
            let moments = moments
                .each_mut()
                .map(|chunks| chunks.as_mut().and_then(Iterator::next).unwrap_or_default());
            tasks.push(Task {
                rule,
                value,
                gradient,
                moments,
                updated,
            });
        }
    }
    tasks.into_par_iter().for_each(|task| {
        let Task { rule, value, .. } = task;
        rule.apply(value, task.gradient, task.moments, task.updated);
    });
    inputs
        .iter()
        .zip(updated)
        .map(|((value, _), updated)| Tensor::from_vec(updated, value.dims(), &Device::Cpu))
        .collect()
}

fn host_slice<'a>(storage: &'a Storage, layout: &candle_core::Layout) -> Result<&'a [f32]> {
    let Storage::Cpu(CpuStorage::F32(values)) = storage else {
        bail!("the optimizer moves f32 tensors on one device only");
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("the optimizer wants contiguous tensors"),
    }
}

fn step_device(
    rules: &[Rule],
    slots: &mut [Slot],
    inputs: &[(Tensor, Tensor)],
) -> Result<Vec<Tensor>> {
    slots
        .iter_mut()
        .zip(rules)
        .zip(inputs)
        .map(
            |((slot, rule), (value, gradient))| match &mut slot.moments {
                Moments::Device(moments) => rule.apply_tensors(value, gradient, moments),
                Moments::Host(_) | Moments::Fresh => {
                    bail!("`{}` lies on another device than the rest", slot.name)
                }
            },
        )
        .collect()
}

#[cfg(test)]
mod tests;
