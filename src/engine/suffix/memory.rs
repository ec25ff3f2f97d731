//! What the passes of a step read and write, and the values of its batch norms.

use std::ops::Range;

use candle_core::Result;

use super::lower::Program;
use super::program::{Buffer, NormSpec, Place};
use super::run::Values;
use crate::activation::Activation;
use crate::engine::forward;
use crate::engine::memory::values;
use crate::engine::params::Params;
use crate::graph::Graph;
use crate::ops::kernel::{self, Clamped, MapDims};
use crate::ops::norm;

/// The values of a batch norm in one step.
pub(super) struct NormValues {
    pub(super) gamma: Vec<f32>,
    pub(super) beta: Vec<f32>,
    pub(super) mean: Vec<f32>,
    pub(super) variance: Vec<f32>,
    pub(super) inverse: Vec<f64>,
    pub(super) scale: Vec<f32>,
    /// Of the gradient to the input.
    pub(super) coefficients: [Vec<f32>; 3],
}

impl NormValues {
    pub(super) fn stored(graph: &Graph, params: &Params, spec: &NormSpec) -> Result<Self> {
        let norm = forward::batch_norm(graph, params, spec.node, spec.epsilon)?;
        let mut found = Self {
            gamma: values(norm.gamma)?,
            beta: values(norm.beta)?,
            mean: Vec::new(),
            variance: Vec::new(),
            inverse: Vec::new(),
            scale: Vec::new(),
            coefficients: Default::default(),
        };
        found.moments([values(norm.mean)?, values(norm.variance)?], spec.epsilon);
        found.coefficients = norm::input_coefficients(&found.gamma, &found.inverse, None);
        Ok(found)
    }

    pub(super) fn moments(&mut self, [mean, variance]: [Vec<f32>; 2], epsilon: f64) {
        self.inverse = norm::inverse_deviation(&variance, epsilon);
        let scale = self.gamma.iter().zip(&self.inverse);
        self.scale = scale
            .map(|(gamma, inverse)| (f64::from(*gamma) * inverse) as f32)
            .collect();
        self.mean = mean;
        self.variance = variance;
    }

    pub(super) fn forward(
        &self,
        x: &[f32],
        residual: Option<&[f32]>,
        activation: Activation,
        y: &mut [f32],
    ) {
        let (mean, scale, beta) = (Some(self.mean.as_slice()), &self.scale, &self.beta);
        kernel::normalise(x, mean, scale, beta, residual, activation, y);
    }

    /// A clamp behind the norm, as its gradient wants it.
    pub(super) fn clamped(&self, activation: Activation) -> Option<Clamped<'_>> {
        let clamped = |bounds| Clamped {
            scale: &self.scale,
            offset: &self.beta,
            bounds,
        };
        match activation {
            Activation::Linear => None,
            _ => activation.bounds().map(clamped),
        }
    }
}

/// The part of a chunk that passes run for.
#[derive(Debug)]
pub(super) struct Span {
    /// The chunk's first picture.
    pub(super) first: usize,
    /// Pictures of the chunk, or rows of pixels of all of them.
    pub(super) range: Range<usize>,
    pub(super) by_rows: bool,
}

impl Span {
    /// Maps of a kernel's input: pictures, or as many rows of pixels.
    pub(super) fn maps(&self, input: MapDims) -> (usize, MapDims) {
        match self.by_rows {
            true => {
                let (height, width) = (1, self.range.len());
                let rows = MapDims {
                    height,
                    width,
                    ..input
                };
                (1, rows)
            }
            false => (self.range.len(), input),
        }
    }
}

/// What passes read and write.
pub(super) struct Memory<'a> {
    pub(super) program: &'a Program,
    pub(super) step: &'a Values<'a>,
    pub(super) span: &'a Span,
    pub(super) slots: &'a mut [Vec<f32>],
}

impl Memory<'_> {
    pub(super) fn read(&self, buffer: Buffer) -> &[f32] {
        match self.program.places[buffer] {
            Place::Input(index) => {
                let first = self.span.first - self.step.offset;
                let first = first * self.program.rooms[buffer].elements;
                &self.step.inputs[index][first..][self.range(buffer, true)]
            }
            Place::Slot { index, whole } => &self.slots[index][self.range(buffer, whole)],
        }
    }

    /// Takes the memory that a pass writes out of the rest, which it reads.
    pub(super) fn write(&mut self, buffer: Buffer, pass: impl FnOnce(&Self, &mut [f32])) {
        if let Place::Slot { index, whole } = self.program.places[buffer] {
            let mut slot = std::mem::take(&mut self.slots[index]);
            pass(self, &mut slot[self.range(buffer, whole)]);
            self.slots[index] = slot;
        }
    }

    /// Where the span's values lie in memory of the whole chunk, or of the span alone.
    fn range(&self, buffer: Buffer, whole: bool) -> Range<usize> {
        let Span { range, by_rows, .. } = self.span;
        let room = self.program.rooms[buffer];
        let each = if *by_rows {
            room.channels
        } else {
            room.elements
        };
        let first = if whole { range.start } else { 0 };
        first * each..(first + range.len()) * each
    }
}
