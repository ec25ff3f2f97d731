//! From gradients to new parameters, on the device.

use candle_core::{Result, Tensor, bail};

use super::Session;
use crate::gpu::args;
use crate::gpu::{Address, BLOCK, Block};

/// The numbers of an optimizer's step for some of the parameters; PyTorch's formulas.
pub type Rule = args::Rule;

/// The optimizers of [`Rule::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleKind {
    /// SGD.
    Sgd,
    /// RMSprop.
    Rmsprop,
    /// Adam and AdamW.
    Adam,
}

/// A step of all parameters.
#[derive(Debug, Clone, Default)]
pub struct OptimizerNumbers {
    /// Rules, each of some of the parameters.
    pub rules: Vec<Rule>,
    /// Of each trained parameter, in order, the number of its rule.
    pub rule_of: Vec<usize>,
    /// Moments that a parameter has.
    pub moments: usize,
}

/// Rules where kernels read them.
#[derive(Debug)]
pub(super) struct Rules {
    rules: Block,
    /// Of each block of parameters.
    of_blocks: Block,
    /// Of each parameter.
    rule_of: Vec<usize>,
}

impl Session {
    /// Takes the gradients of the last batch into a mean of several, by weight; the first of them
    /// sets it.
    ///
    /// # Errors
    /// If the device failed; so for all functions here.
    pub fn accumulate(&mut self, weight: f64, first: bool) -> Result<()> {
        let (_, gradients, count) = self.parameters.all();
        let mean = match self.mean.take() {
            Some(mean) => mean,
            None => Block::zeros(self.gpu.backend(), count * size_of::<f32>())?,
        };
        let keep = if first { 0.0 } else { 1.0 };
        if first {
            self.gpu.backend().zero(mean.address(), mean.bytes())?;
        }
        let factors = [keep, weight as f32];
        self.gpu.blend(mean.address(), gradients, count, factors)?;
        self.mean = Some(mean);
        Ok(())
    }

    /// Makes the mean of what was accumulated the gradients.
    pub fn finish(&mut self, weight: f64) -> Result<()> {
        let (_, gradients, count) = self.parameters.all();
        if let Some(mean) = &self.mean {
            let backend = self.gpu.backend();
            backend.copy(mean.address(), gradients, mean.bytes())?;
            let factors = [(1.0 / weight) as f32, 0.0];
            self.gpu.blend(gradients, 0, count, factors)?;
        }
        Ok(())
    }

    /// Euclidean norm of all gradients; waits for it.
    pub fn gradient_norm(&self) -> Result<f64> {
        let (_, gradients, count) = self.parameters.all();
        Ok(self.gpu.square_sum(gradients, count)?.sqrt())
    }

    /// Multiplies all gradients.
    pub fn scale_gradients(&self, factor: f64) -> Result<()> {
        let (_, gradients, count) = self.parameters.all();
        Ok(self.gpu.blend(gradients, 0, count, [factor as f32, 0.0])?)
    }

    /// Cuts gradients off beyond `most` either way.
    pub fn limit_gradients(&self, most: f64) -> Result<()> {
        let (_, gradients, count) = self.parameters.all();
        Ok(self.gpu.limit(gradients, count, most as f32)?)
    }

    /// One step of the optimizer; moments begin at 0.
    pub fn optimize(&mut self, numbers: &OptimizerNumbers) -> Result<()> {
        let (values, gradients, count) = self.parameters.all();
        while self.moments.len() < numbers.moments {
            let bytes = count * size_of::<f32>();
            self.moments.push(Block::zeros(self.gpu.backend(), bytes)?);
        }
        if count == 0 {
            return Ok(());
        }
        let backend = self.gpu.backend();
        if self
            .rules
            .as_ref()
            .is_none_or(|kept| kept.rule_of != numbers.rule_of)
        {
            let blocks = self.parameters.blocks().zip(&numbers.rule_of);
            let of_blocks: Vec<i32> = blocks
                .flat_map(|((_, blocks), rule)| std::iter::repeat_n(*rule as i32, blocks))
                .collect();
            if of_blocks.len() * BLOCK != count {
                bail!("the optimizer's members are not the session's parameters");
            }
            self.rules = Some(Rules {
                rules: Block::of(backend, &numbers.rules)?,
                of_blocks: Block::of(backend, &of_blocks)?,
                rule_of: numbers.rule_of.clone(),
            });
        }
        let Some(Rules {
            rules, of_blocks, ..
        }) = &self.rules
        else {
            return Ok(());
        };
        backend.upload(bytemuck::cast_slice(&numbers.rules), rules.address())?;
        let moment = |index: usize| self.moments.get(index).map_or(0, Block::address);
        self.gpu.optimize(args::Optimize {
            values,
            gradients,
            first: moment(0),
            second: moment(1),
            third: moment(2),
            rules: rules.address(),
            rule_of: of_blocks.address(),
            count: count as i64,
        })?;
        Ok(())
    }

    /// Names of the trained parameters, in the order of [`OptimizerNumbers::rule_of`].
    pub fn trained(&self) -> Vec<String> {
        let names = self.parameters.blocks().map(|(name, _)| name.to_owned());
        names.collect()
    }

    /// A moment of every parameter, by name; `None` before the first step.
    pub fn moment(&self, index: usize) -> Result<Option<Vec<(String, Tensor)>>> {
        let Some(block) = self.moments.get(index) else {
            return Ok(None);
        };
        Ok(Some(self.parameters.shaped(&self.gpu, block)?))
    }

    /// Sets a moment of some parameters.
    pub fn set_moment<'a>(
        &mut self,
        index: usize,
        values: impl Iterator<Item = (&'a str, &'a Tensor)>,
    ) -> Result<()> {
        let (_, _, count) = self.parameters.all();
        while self.moments.len() <= index {
            let bytes = count * size_of::<f32>();
            self.moments.push(Block::zeros(self.gpu.backend(), bytes)?);
        }
        for (name, value) in values {
            let to = &self.moments[index];
            self.parameters.fill(&self.gpu, to, name, value)?;
        }
        Ok(())
    }

    /// Begins an average of parameters and statistics at these values.
    pub fn begin_average<'a>(
        &mut self,
        values: impl Iterator<Item = (&'a str, &'a Tensor)>,
    ) -> Result<()> {
        let (_, _, count) = self.parameters.all();
        let (_, statistics) = self.parameters.all_moving();
        let bytes = (count + statistics) * size_of::<f32>();
        let block = Block::zeros(self.gpu.backend(), bytes)?;
        let behind = block.address() + (count * size_of::<f32>()) as Address;
        for (name, value) in values {
            self.parameters.fill(&self.gpu, &block, name, value)?;
            self.parameters
                .fill_statistic(&self.gpu, behind, name, value)?;
        }
        self.average = Some(block);
        Ok(())
    }

    /// Takes the values as they are into the average: `share` of the way to them.
    pub fn average(&self, share: f64) -> Result<()> {
        let Some(block) = &self.average else {
            return Ok(());
        };
        let (values, _, count) = self.parameters.all();
        let (statistics, moving) = self.parameters.all_moving();
        let behind = block.address() + (count * size_of::<f32>()) as Address;
        self.gpu
            .lerp(block.address(), values, count, share as f32)?;
        Ok(self.gpu.lerp(behind, statistics, moving, share as f32)?)
    }

    /// Averages by name; empty without.
    pub fn averages(&self) -> Result<Vec<(String, Tensor)>> {
        let Some(block) = &self.average else {
            return Ok(Vec::new());
        };
        let (_, _, count) = self.parameters.all();
        let behind = block.address() + (count * size_of::<f32>()) as Address;
        let mut all = self.parameters.shaped(&self.gpu, block)?;
        all.extend(self.parameters.shaped_statistics(&self.gpu, behind)?);
        Ok(all)
    }
}
