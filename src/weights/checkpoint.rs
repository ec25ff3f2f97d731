//! A safetensors file: its metadata, its keys and its tensors, taken as hostile until checked.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::WeightsError;
use super::keys::{Naming, checkpoint_key, flattened_channels};
use super::positions;
use super::source::unreadable;

/// Longest header that is read, as in the format's own reader.
const MOST_HEADER: u64 = 100_000_000;

/// String pairs of a header's `__metadata__`.
pub(super) type Metadata = HashMap<String, String>;

/// A parsed file.
pub(super) struct Checkpoint<'a> {
    path: &'a Path,
    metadata: Option<Metadata>,
    tensors: SafeTensors<'a>,
}

impl<'a> Checkpoint<'a> {
    /// Checks header, offsets and sizes; no tensor is read yet.
    pub(super) fn parse(path: &'a Path, bytes: &'a [u8]) -> Result<Self, WeightsError> {
        Ok(Self {
            path,
            tensors: SafeTensors::deserialize(bytes).map_err(|error| damaged(path, error))?,
            metadata: peek_bytes(path, bytes)?,
        })
    }

    pub(super) fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    /// The naming under which most of the wanted tensors are there.
    pub(super) fn naming(
        &self,
        family: &str,
        wanted: &[(String, Vec<usize>)],
    ) -> Result<Naming, WeightsError> {
        let mut best = (0, Naming::Xp);
        for naming in Naming::ALL {
            let present = wanted
                .iter()
                .filter_map(|(name, _)| checkpoint_key(family, naming, name))
                .filter(|key| self.tensors.tensor(key).is_ok())
                .count();
            if present > best.0 {
                best = (present, naming);
            }
        }
        match best {
            (0, _) if !wanted.is_empty() => Err(WeightsError::Foreign {
                path: self.path.into(),
                family: family.into(),
                first: match self.tensors.names().into_iter().min() {
                    Some(name) => format!("`{name}`"),
                    None => "not there: it is empty".into(),
                },
            }),
            (_, naming) => Ok(naming),
        }
    }

    /// A tensor by our name, as f32.
    pub(super) fn tensor(
        &self,
        family: &str,
        naming: Naming,
        name: &str,
        dims: &[usize],
        device: &Device,
    ) -> Result<Tensor, WeightsError> {
        // A layer that the naming does not cover is missing under its own name.
        let key = checkpoint_key(family, naming, name).unwrap_or_else(|| name.into());
        let view = self
            .tensors
            .tensor(&key)
            .map_err(|_| WeightsError::Missing {
                path: self.path.into(),
                name: name.into(),
                key: key.clone(),
            })?;
        let found = view.shape().to_vec();
        if !fits(name, &found, dims, naming) {
            return Err(WeightsError::Shape {
                path: self.path.into(),
                name: name.into(),
                key,
                expected: dims.to_vec(),
                found,
            });
        }
        let dtype = match view.dtype() {
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            other => {
                return Err(WeightsError::Type {
                    path: self.path.into(),
                    key,
                    dtype: format!("{other:?}"),
                });
            }
        };
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, &found, &Device::Cpu)?;
        let tensor = tensor.to_dtype(DType::F32)?;
        let tensor = match flattened_channels(family, naming, name) {
            Some(channels) if dims.len() == 2 && dims[1].is_multiple_of(channels) => {
                channels_last(&tensor.reshape(dims)?, channels)?
            }
            _ if found == dims => tensor,
            _ if is_position(name) => positions::fit(&tensor, dims)?,
            _ => tensor.reshape(dims)?,
        };
        Ok(tensor.to_device(device)?)
    }
}

/// Whether a tensor of these dimensions can become the parameter: it has the same ones, but for
/// ones at the end (a dense layer may be a 1x1 convolution, a scale `[channels, 1, 1]`), or it is a
/// dense kernel that another house writes as a convolution, or a position embedding for pictures of
/// another size.
fn fits(name: &str, found: &[usize], dims: &[usize], naming: Naming) -> bool {
    let bare = |dims: &[usize]| {
        let end = dims
            .iter()
            .rposition(|&dim| dim != 1)
            .map_or(0, |last| last + 1);
        dims[..end].to_vec()
    };
    if is_position(name) {
        return positions::fits(found, dims);
    }
    let as_convolution = |units: usize, features: usize| {
        let product = found.iter().try_fold(1, |a: usize, &b| a.checked_mul(b));
        found.len() == 4 && found[0] == units && product == units.checked_mul(features)
    };
    match *dims {
        [units, features] if naming != Naming::Xp && as_convolution(units, features) => true,
        _ => bare(found) == bare(dims),
    }
}

/// A dense kernel whose input was flattened channel, height, width, in the order height, width,
/// channel.
fn channels_last(kernel: &Tensor, channels: usize) -> candle_core::Result<Tensor> {
    let (units, features) = kernel.dims2()?;
    kernel
        .reshape((units, channels, features / channels))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((units, features))
}

fn is_position(name: &str) -> bool {
    name.ends_with("/position")
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: Option<Metadata>,
    #[serde(flatten)]
    _tensors: HashMap<String, IgnoredAny>,
}

/// The metadata of a file, without reading its tensors.
pub(super) fn peek(path: &Path) -> Result<Option<Metadata>, WeightsError> {
    let read = || -> std::io::Result<(u64, Vec<u8>)> {
        let mut file = std::fs::File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        let mut header = Vec::new();
        // Grows with what the file holds, not with what it claims.
        file.take(length.min(MOST_HEADER))
            .read_to_end(&mut header)?;
        Ok((length, header))
    };
    match read() {
        Ok((length, header)) if header.len() as u64 == length => parse_header(path, &header),
        Ok(_) => Err(damaged(path, "its header is cut short")),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(damaged(path, "its header is cut short"))
        }
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// The metadata of a file in memory.
pub(super) fn peek_bytes(path: &Path, bytes: &[u8]) -> Result<Option<Metadata>, WeightsError> {
    let header = bytes.split_first_chunk().and_then(|(length, rest)| {
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        rest.get(..length)
    });
    match header {
        Some(header) => parse_header(path, header),
        None => Err(damaged(path, "its header is cut short")),
    }
}

fn parse_header(path: &Path, header: &[u8]) -> Result<Option<Metadata>, WeightsError> {
    serde_json::from_slice::<Header>(header)
        .map(|header| header.metadata)
        .map_err(|error| damaged(path, format!("invalid JSON in header: {error}")))
}

fn damaged(path: &Path, reason: impl ToString) -> WeightsError {
    WeightsError::Damaged {
        path: path.into(),
        reason: reason.to_string(),
    }
}
