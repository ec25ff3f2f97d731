//! Parameters by name, in graph order.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, bail};
use indexmap::IndexMap;
use rand::Rng;

use super::memory;
use crate::gpu::Gpu;
use crate::graph::{Graph, Node, NodeId, Op, ParamKind, ParamSpec, Part};
use crate::rng;

/// A parameter or statistic with its value.
#[derive(Debug, Clone)]
pub struct Param {
    /// What it is for.
    pub kind: ParamKind,
    /// Its value, contiguous f32, in the dimensions of its [`crate::graph::ParamSpec`].
    pub value: Tensor,
}

/// Fingerprint of a tensor's bytes or of a whole set of parameters.
pub type Fingerprint = blake3::Hash;

/// All parameters of a graph, in graph order, so that iteration is the same in every run.
#[derive(Debug, Clone, Default)]
pub struct Params {
    by_name: IndexMap<String, Param>,
    /// Scales of norms that have none of their own, by number of channels.
    ones: BTreeMap<usize, Tensor>,
    /// Offsets of scales that have none, by number of channels.
    zeros: BTreeMap<usize, Tensor>,
    /// What their network runs on, where that is not the device that they lie on.
    gpu: Option<Gpu>,
}

impl Params {
    /// Initialises every parameter from a seeded stream of its own: in the head as PyTorch does
    /// (uniform kernels within one over the root of the fan-in; biases start at 0), in the backbone as torchvision does (He normal
    /// kernels by fan-out) or, where layers are normalised, as timm does (normal kernels of deviation
    /// 0.02, cut off at 2). Norms start as the identity.
    pub fn initialise(graph: &Graph, seed: u64, device: &Device) -> Result<Self> {
        Self::initialise_around(graph, IndexMap::new(), seed, device)
    }

    /// The given tensors, and initialised parameters where there are none.
    ///
    /// # Errors
    /// If one has no place in the graph, or has other dimensions there.
    pub fn initialise_around(
        graph: &Graph,
        given: IndexMap<String, Tensor>,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let modern = graph.nodes().iter().any(|node| normalises_layers(&node.op));
        let mut params = Self::assembled(graph, device, |spec, node| {
            if given.contains_key(&spec.name) {
                // Takes no memory of its own: the tensor that is given takes its place.
                return Tensor::zeros(1, DType::F32, device)?.broadcast_as(spec.dims.as_slice());
            }
            let values = initial(spec, node, modern, seed);
            Tensor::from_vec(values, spec.dims.as_slice(), device)
        })?;
        for (name, value) in given {
            params.set(&name, value)?;
        }
        Ok(params)
    }

    /// Parameters with the given values.
    #[cfg(test)]
    pub(super) fn filled(
        graph: &Graph,
        device: &Device,
        values: impl Fn(&ParamSpec, &Node) -> Vec<f32>,
    ) -> Result<Self> {
        Self::assembled(graph, device, |spec, node| {
            Tensor::from_vec(values(spec, node), spec.dims.as_slice(), device)
        })
    }

    fn assembled(
        graph: &Graph,
        device: &Device,
        tensor: impl Fn(&ParamSpec, &Node) -> Result<Tensor>,
    ) -> Result<Self> {
        let mut by_name = IndexMap::new();
        let (mut ones, mut zeros) = (BTreeMap::new(), BTreeMap::new());
        for (id, node) in graph.nodes().iter().enumerate() {
            for spec in graph.params(id) {
                let value = tensor(&spec, node)?;
                let kind = spec.kind;
                by_name.insert(spec.name, Param { kind, value });
            }
            if let Op::BatchNorm { gamma: false, .. } = node.op {
                let channels = node.shape.channels();
                ones.insert(channels, Tensor::ones(channels, DType::F32, device)?);
            }
            if let Op::LayerScale { .. } = node.op {
                let channels = node.shape.channels();
                ones.insert(channels, Tensor::ones(channels, DType::F32, device)?);
                zeros.insert(channels, Tensor::zeros(channels, DType::F32, device)?);
            }
        }
        Ok(Self {
            by_name,
            ones,
            zeros,
            gpu: None,
        })
    }

    /// The same, whose network runs on a GPU; they themselves stay in main memory.
    #[must_use]
    pub fn on(mut self, gpu: Option<Gpu>) -> Self {
        self.gpu = gpu;
        self
    }

    /// The GPU that their network runs on.
    pub fn gpu(&self) -> Option<&Gpu> {
        self.gpu.as_ref()
    }

    /// The value of a parameter that the graph has.
    ///
    /// # Panics
    /// If the graph has none of that name.
    pub fn value(&self, name: &str) -> &Tensor {
        &self.by_name[name].value
    }

    /// The parameter of that name.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.by_name.get(name)
    }

    /// The value of a node's parameter of the given kind; `None` if the node has none.
    pub fn of(&self, graph: &Graph, id: NodeId, kind: ParamKind) -> Option<&Tensor> {
        graph
            .params(id)
            .iter()
            .find(|spec| spec.kind == kind)
            .and_then(|spec| self.get(&spec.name))
            .map(|param| &param.value)
    }

    /// As [`Self::of`], for a kind that every node of this sort has.
    pub fn expect(&self, graph: &Graph, id: NodeId, kind: ParamKind) -> Result<&Tensor> {
        match self.of(graph, id, kind) {
            Some(value) => Ok(value),
            None => bail!(
                "layer `{}` has no `{}`: these parameters belong to another graph",
                graph.nodes()[id].name,
                kind.name()
            ),
        }
    }

    /// The same values in another precision.
    #[cfg(test)]
    pub(super) fn to_dtype(&self, dtype: candle_core::DType) -> Result<Self> {
        let mut changed = self.clone();
        let named = changed.by_name.values_mut().map(|param| &mut param.value);
        let constants = changed.ones.values_mut().chain(changed.zeros.values_mut());
        for value in named.chain(constants) {
            *value = value.to_dtype(dtype)?;
        }
        Ok(changed)
    }

    /// As many ones, in place of the scale of a norm that has none.
    pub(super) fn ones(&self, channels: usize) -> Result<&Tensor> {
        match self.ones.get(&channels) {
            Some(ones) => Ok(ones),
            None => bail!(
                "these parameters belong to another graph: no norm of {channels} channels lacks a scale"
            ),
        }
    }

    /// As many zeros, in place of the offset of a scale that has none.
    pub(super) fn zeros(&self, channels: usize) -> Result<&Tensor> {
        match self.zeros.get(&channels) {
            Some(zeros) => Ok(zeros),
            None => {
                bail!("these parameters belong to another graph: it scales no {channels} channels")
            }
        }
    }

    /// Replaces a value; the dimensions must agree.
    pub fn set(&mut self, name: &str, value: Tensor) -> Result<()> {
        let Some(param) = self.by_name.get_mut(name) else {
            bail!("no parameter is named `{name}`");
        };
        if param.value.dims() != value.dims() {
            bail!(
                "parameter `{name}` has dimensions {:?}, not {:?}",
                param.value.dims(),
                value.dims()
            );
        }
        param.value = value.contiguous()?;
        Ok(())
    }

    /// All parameters, in graph order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Param)> {
        self.by_name
            .iter()
            .map(|(name, param)| (name.as_str(), param))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is no parameter at all.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Where the parameters lie: the CPU if there are none.
    pub fn device(&self) -> Device {
        self.by_name
            .first()
            .map_or(Device::Cpu, |(_, param)| param.value.device().clone())
    }

    /// Fingerprint of every parameter, to compare with later ones byte by byte. It holds whatever
    /// happens to the tensors themselves, also if they are changed in place.
    pub fn fingerprints(&self) -> Result<IndexMap<String, Fingerprint>> {
        self.iter()
            .map(|(name, param)| Ok((name.to_owned(), fingerprint(&param.value)?)))
            .collect()
    }

    /// Fingerprint of names and bytes of all parameters.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        let mut hasher = blake3::Hasher::new();
        for (name, hash) in self.fingerprints()? {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(hash.as_bytes());
        }
        Ok(hasher.finalize())
    }
}

/// Fingerprint of dimensions and bytes of a tensor.
pub fn fingerprint(tensor: &Tensor) -> Result<Fingerprint> {
    let mut hasher = blake3::Hasher::new();
    for &dim in tensor.dims() {
        hasher.update(&(dim as u64).to_le_bytes());
    }
    let host = memory::to_host(tensor)?;
    // Long enough for the hash to take many lanes, short enough not to copy a large tensor.
    let mut bytes = Vec::new();
    for chunk in memory::Slice::of(&host)?.chunks(1 << 16) {
        bytes.clear();
        bytes.extend(chunk.iter().flat_map(|value| value.to_le_bytes()));
        hasher.update(&bytes);
    }
    Ok(hasher.finalize())
}

/// Whether two tensors have the same dimensions and the same bytes.
pub fn same_bytes(a: &Tensor, b: &Tensor) -> Result<bool> {
    if a.dims() != b.dims() {
        return Ok(false);
    }
    let (a, b) = (memory::to_host(a)?, memory::to_host(b)?);
    let (a, b) = (memory::Slice::of(&a)?, memory::Slice::of(&b)?);
    let mut pairs = a.iter().zip(b.iter());
    Ok(pairs.all(|(a, b)| a.to_bits() == b.to_bits()))
}

/// Whether a node is of the kind that transformers and ConvNeXt have.
fn normalises_layers(op: &Op) -> bool {
    matches!(op, Op::LayerNorm { .. })
}

/// Deviation of timm's kernels and position embeddings; its cut-off at 2 is out of reach.
const DEVIATION: f64 = 0.02;

fn initial(spec: &ParamSpec, node: &Node, modern: bool, seed: u64) -> Vec<f32> {
    let part = node.part;
    let count = spec.elements();
    if let (ParamKind::Gamma, Op::LayerScale { initial }) = (spec.kind, node.op) {
        return vec![initial as f32; count];
    }
    match spec.kind {
        ParamKind::Gamma | ParamKind::MovingVariance => vec![1.0; count],
        ParamKind::Bias | ParamKind::Beta | ParamKind::MovingMean | ParamKind::Token => {
            vec![0.0; count]
        }
        kind if kind == ParamKind::Position || (modern && part == Part::Backbone) => {
            let mut stream = rng::stream(seed, &format!("initialise {}", spec.name), &[]);
            let draw = |_| (DEVIATION * rng::normal(&mut stream)) as f32;
            (0..count).map(draw).collect()
        }
        ParamKind::Kernel | ParamKind::Position => {
            let mut stream = rng::stream(seed, &format!("initialise {}", spec.name), &[]);
            let receptive: usize = spec.dims[2..].iter().product();
            let fan_in = (spec.dims[1] * receptive) as f64;
            let fan_out = (spec.dims[0] * receptive) as f64;
            if part == Part::Backbone && spec.dims.len() == 4 {
                let deviation = (2.0 / fan_out).sqrt();
                let draw = |_| (deviation * rng::normal(&mut stream)) as f32;
                (0..count).map(draw).collect()
            } else {
                let limit = if part == Part::Backbone {
                    (6.0 / (fan_in + fan_out)).sqrt()
                } else {
                    // PyTorch's linear and convolution layers. Glorot's kernels are twice as large, and
                    // on a few hundred pictures what is random in them costs test accuracy.
                    fan_in.sqrt().recip()
                };
                let draw = |_| (limit * (2.0 * stream.random::<f64>() - 1.0)) as f32;
                (0..count).map(draw).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::test_support::mobilenet;

    fn deviation(tensor: &Tensor) -> f64 {
        let values = memory::values(tensor).unwrap();
        let sum: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
        (sum / values.len() as f64).sqrt()
    }

    #[test]
    fn initialises_each_parameter_by_its_kind_from_its_own_stream() {
        let graph = mobilenet(0.35, 32, "[{ dense = 5 }]");
        let params = Params::initialise(&graph, 7, &Device::Cpu).unwrap();
        // He normal by fan-out, uniform by fan-in.
        let backbone = deviation(params.value("Conv_1/kernel"));
        assert!((backbone / (2.0f64 / 1280.0).sqrt() - 1.0).abs() < 0.02);
        let head = deviation(params.value("dense/kernel"));
        assert!((head / (3.0f64 * 1280.0).sqrt().recip() - 1.0).abs() < 0.05);
        assert_eq!(deviation(params.value("dense/bias")), 0.0);
        assert_eq!(deviation(params.value("bn_Conv1/gamma")), 1.0);

        let again = Params::initialise(&graph, 7, &Device::Cpu).unwrap();
        assert_eq!(params.fingerprint().unwrap(), again.fingerprint().unwrap());
        let other = Params::initialise(&graph, 8, &Device::Cpu).unwrap();
        assert_ne!(params.fingerprint().unwrap(), other.fingerprint().unwrap());
        // Another picture size or head leaves the rest as it was.
        let wider = mobilenet(0.35, 64, "[{ dense = 9 }]");
        let wider = Params::initialise(&wider, 7, &Device::Cpu).unwrap();
        let name = "block_3_expand/kernel";
        assert!(same_bytes(params.value(name), wider.value(name)).unwrap());
    }

    #[test]
    fn set_refuses_other_dimensions_and_names() {
        let graph = mobilenet(0.35, 32, "[{ dense = 5 }]");
        let mut params = Params::initialise(&graph, 7, &Device::Cpu).unwrap();
        let before = params.fingerprints().unwrap();
        let bias = Tensor::ones(5, candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(params.set("dense/kernel", bias.clone()).is_err());
        assert!(params.set("dense_1/bias", bias.clone()).is_err());
        params.set("dense/bias", bias).unwrap();
        let changed: Vec<String> = params
            .fingerprints()
            .unwrap()
            .into_iter()
            .filter(|(name, hash)| before[name] != *hash)
            .map(|(name, _)| name)
            .collect();
        assert_eq!(changed, ["dense/bias"]);
    }
}
