//! Parameters by name, in graph order.

use candle_core::{Device, Result, Tensor};
use indexmap::IndexMap;

use crate::graph::{Graph, ParamKind};

/// A parameter or statistic with its value.
#[derive(Debug, Clone)]
pub struct Param {
    /// What it is for.
    pub kind: ParamKind,
    /// Its value, contiguous f32, in the dimensions of its [`crate::graph::ParamSpec`].
    pub value: Tensor,
}

/// All parameters of a graph, in graph order, so that iteration is the same in every run.
#[derive(Debug, Clone, Default)]
pub struct Params {
    by_name: IndexMap<String, Param>,
}

impl Params {
    /// Keras' initialisation (Glorot uniform kernels in the head, He normal in the backbone, zeros,
    /// ones) from seeded streams, one a parameter.
    pub fn initialise(_graph: &Graph, _seed: u64, _device: &Device) -> Result<Self> {
        todo!()
    }

    /// The value of a parameter that the graph has.
    ///
    /// # Panics
    /// If the graph has none of that name.
    pub fn value(&self, name: &str) -> &Tensor {
        &self.by_name[name].value
    }

    /// Replaces a value; the dimensions must agree.
    pub fn set(&mut self, _name: &str, _value: Tensor) -> Result<()> {
        todo!()
    }

    /// All parameters, in graph order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Param)> {
        self.by_name
            .iter()
            .map(|(name, param)| (name.as_str(), param))
    }
}
