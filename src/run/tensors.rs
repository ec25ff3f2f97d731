//! Named f32 tensors as safetensors files whose bytes depend on their content alone.
//!
//! The header is written here because `safetensors` keeps metadata in a map of random order; it is
//! read back with that crate, which checks offsets and sizes.

use std::io::{self, Write};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use indexmap::IndexMap;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use super::RunError;

/// Tensors by name; f32, any dimensions. Files keep them sorted by name.
pub type Tensors = IndexMap<String, Tensor>;

/// A tensor on its way to a file.
struct Stored {
    name: String,
    dims: Vec<usize>,
    values: Vec<f32>,
}

/// Tensors on the CPU, sorted by name: what goes to a file.
pub(super) struct Encoded {
    tensors: Vec<Stored>,
}

impl Encoded {
    /// Copies tensors to the CPU; `path` is for the message alone.
    pub(super) fn new(tensors: &Tensors, path: &Path) -> Result<Self, RunError> {
        let mut stored = Vec::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            let unstorable = |reason: String| RunError::Unstorable {
                what: format!("the tensor `{name}`"),
                path: path.to_path_buf(),
                reason,
            };
            if tensor.dtype() != DType::F32 {
                return Err(unstorable(format!("it is {:?}, not F32", tensor.dtype())));
            }
            let values = tensor
                .flatten_all()
                .and_then(|flat| flat.to_vec1::<f32>())
                .map_err(|error| unstorable(error.to_string()))?;
            stored.push(Stored {
                name: name.clone(),
                dims: tensor.dims().to_vec(),
                values,
            });
        }
        stored.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { tensors: stored })
    }

    /// BLAKE3 over names, dimensions and values.
    pub(super) fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for tensor in &self.tensors {
            absorb(&mut hasher, &tensor.name, &tensor.dims);
            for chunk in tensor.values.chunks(CHUNK) {
                hasher.update(&little_endian(chunk));
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Writes header and data; `metadata` in its order.
    pub(super) fn write(
        &self,
        file: &mut dyn Write,
        metadata: &[(&str, String)],
    ) -> io::Result<()> {
        let mut header = Map::new();
        if !metadata.is_empty() {
            let pairs = metadata.iter();
            let pairs = pairs.map(|(key, value)| ((*key).to_owned(), json!(value)));
            header.insert("__metadata__".into(), Value::Object(pairs.collect()));
        }
        let mut offset = 0;
        for Stored { name, dims, values } in &self.tensors {
            let end = offset + 4 * values.len();
            let entry = json!({ "dtype": "F32", "shape": dims, "data_offsets": [offset, end] });
            header.insert(name.clone(), entry);
            offset = end;
        }
        let mut header = serde_json::to_vec(&header)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for tensor in &self.tensors {
            for chunk in tensor.values.chunks(CHUNK) {
                file.write_all(&little_endian(chunk))?;
            }
        }
        Ok(())
    }
}

/// Values converted at a time, so that no second copy of a large tensor is made.
const CHUNK: usize = 1 << 16;

fn little_endian(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn absorb(hasher: &mut blake3::Hasher, name: &str, dims: &[usize]) {
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.update(&(dims.len() as u64).to_le_bytes());
    for &dim in dims {
        hasher.update(&(dim as u64).to_le_bytes());
    }
}

/// Tensors and header metadata of a file.
pub(super) struct Decoded {
    /// On the CPU, sorted by name.
    pub(super) tensors: Tensors,
    /// The header's `__metadata__`.
    pub(super) metadata: IndexMap<String, String>,
    /// As [`Encoded::digest`].
    pub(super) digest: String,
}

/// Reads the bytes of a safetensors file of f32 tensors; the error says what is wrong in words.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| in_words(&error.to_string()))?;
    let (_, header) =
        SafeTensors::read_metadata(bytes).map_err(|error| in_words(&error.to_string()))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let mut metadata: IndexMap<String, String> = metadata.into_iter().collect();
    metadata.sort_keys();

    let mut views: Vec<_> = file.iter().collect();
    views.sort_by_key(|(name, _)| *name);
    let mut hasher = blake3::Hasher::new();
    let mut tensors = Tensors::with_capacity(views.len());
    for (name, view) in views {
        if view.dtype() != Dtype::F32 {
            return Err(format!(
                "the tensor `{name}` is {:?}, not F32",
                view.dtype()
            ));
        }
        absorb(&mut hasher, name, view.shape());
        hasher.update(view.data());
        let (values, _) = view.data().as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|&b| f32::from_le_bytes(b)).collect();
        let tensor = Tensor::from_vec(values, view.shape(), &Device::Cpu)
            .map_err(|error| format!("the tensor `{name}`: {error}"))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(Decoded {
        tensors,
        metadata,
        digest: hasher.finalize().to_hex().to_string(),
    })
}

fn in_words(error: &str) -> String {
    format!("it is no whole safetensors file ({error})")
}
