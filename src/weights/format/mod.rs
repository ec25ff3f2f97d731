//! File formats behind one interface: a list of tensors, each read when it is asked for.

mod archive;
mod keras;
mod safetensors;
mod torch;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::bytes::Bytes;
use crate::config::Flavour;

/// String pairs of a file's metadata.
pub(super) type Metadata = HashMap<String, String>;

/// Our name and dimensions of the tensors looked for, in the order of the graph.
pub(super) type Wanted = [(String, Vec<usize>)];

/// How the values of a tensor lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `[out, in, height, width]`, `[channels, 1, height, width]`, `[out, in]`.
    Torch,
    /// `[height, width, in, out]`, `[height, width, channels, 1]`, `[in, out]`.
    Keras,
}

/// A tensor of a file, before its values are read.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The file's name of it.
    pub(super) name: String,
    /// Type of its values, if that is a floating-point type; else the name of the type.
    pub(super) dtype: Result<DType, String>,
    /// Its dimensions in the file.
    pub(super) dims: Vec<usize>,
    /// What the dimensions mean.
    pub(super) layout: Layout,
}

/// What can be wrong with a file.
#[derive(Debug)]
pub(super) enum Fault {
    /// It breaks the rules of its format.
    Damaged(String),
    /// It is sound, or something else altogether; what it is, and what to do.
    Refused(String, String),
}

impl Fault {
    pub(super) fn damaged(reason: impl ToString) -> Self {
        Self::Damaged(reason.to_string())
    }

    fn refused(reason: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Refused(reason.into(), help.into())
    }
}

/// A file whose structure has been checked. Values are read only where they are asked for.
pub(super) trait Format {
    /// All tensors.
    fn entries(&self) -> &[Entry];

    /// Values of the tensor at `index` as f32, in its own dimensions. The caller has seen that
    /// they are few enough.
    fn read(&self, index: usize) -> Result<Tensor, Fault>;

    /// Metadata, where the format has some.
    fn metadata(&self) -> Option<&Metadata> {
        None
    }

    /// Convention that files of this format were trained with, where the format tells.
    fn flavour(&self) -> Option<Flavour> {
        None
    }
}

/// A format as messages name it.
pub(super) fn name(path: &Path, bytes: &[u8]) -> &'static str {
    match Kind::of(path, bytes) {
        Ok(Kind::Keras) => "Keras HDF5",
        Ok(Kind::Archive) => "PyTorch or Keras",
        _ => "safetensors",
    }
}

enum Kind {
    Safetensors,
    Keras,
    Archive,
}

/// Whether a file begins as safetensors do: the header's length, which fits in the file, and `{`.
fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return false;
    };
    rest.first() == Some(&b'{') && u64::from_le_bytes(*length) <= rest.len() as u64
}

const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";

impl Kind {
    /// Tells formats by how files begin, as names do not tell reliably.
    fn of(path: &Path, bytes: &[u8]) -> Result<Self, Fault> {
        let again = "copy or download it again";
        if bytes.is_empty() {
            return Err(Fault::damaged("it is empty"));
        }
        // First, as the length may look like the beginning of a pickle or a web page.
        if is_safetensors(bytes) {
            return Ok(Self::Safetensors);
        }
        if bytes.starts_with(HDF5) {
            return Ok(Self::Keras);
        }
        if bytes.starts_with(b"PK\x03\x04") {
            return Ok(Self::Archive);
        }
        if bytes.starts_with(b"version https://git-lfs") {
            return Err(Fault::refused(
                "is a pointer of git-lfs, not the file itself",
                "run `git lfs pull` in its repository, or download the file itself",
            ));
        }
        let text = bytes[..bytes.len().min(512)].trim_ascii_start();
        if text.starts_with(b"<") {
            let reason = "is a web page, not weights: a download that failed";
            return Err(Fault::refused(reason, again));
        }
        let tar = bytes.get(257..262) == Some(b"ustar");
        if tar
            || (bytes[0] == 0x80
                && bytes
                    .get(1)
                    .is_some_and(|version| (1..=5).contains(version)))
        {
            let name = path.display();
            return Err(Fault::refused(
                "has the layout of PyTorch before version 1.6, or is a bare pickle",
                format!(
                    "convert it: python -c \"import torch; torch.save(torch.load('{name}', \
                     map_location='cpu'), 'converted.pth')\""
                ),
            ));
        }
        let suffix = path.extension().and_then(|suffix| suffix.to_str());
        let looks_like = match suffix.unwrap_or_default() {
            "pth" | "pt" | "bin" | "ckpt" => "a PyTorch file",
            "h5" | "hdf5" => "an HDF5 file",
            "keras" => "a Keras file",
            _ => return Ok(Self::Safetensors),
        };
        match bytes.get(8) {
            Some(b'{') => Ok(Self::Safetensors),
            _ => Err(Fault::refused(
                format!("does not begin as {looks_like} does"),
                again,
            )),
        }
    }
}

/// Checks a file's structure. `wanted` tells the order of layers, for files that name none.
pub(super) fn open(path: &Path, bytes: &Bytes, wanted: &Wanted) -> Result<Box<dyn Format>, Fault> {
    match Kind::of(path, bytes)? {
        Kind::Safetensors => Ok(Box::new(safetensors::File::open(bytes)?)),
        Kind::Keras => Ok(Box::new(keras::File::open(bytes, wanted)?)),
        Kind::Archive => {
            let archive = archive::Archive::open(bytes)?;
            if let Some(inner) = archive.find("model.weights.h5") {
                let inner = archive.entry(inner)?;
                return Ok(Box::new(keras::File::open(&inner, wanted)?));
            }
            Ok(Box::new(torch::File::open(&archive)?))
        }
    }
}

/// Little-endian values of a floating-point type as f32.
fn decode(bytes: &[u8], dtype: DType, dims: &[usize]) -> Result<Tensor, Fault> {
    let expected = elements(dims).and_then(|count| count.checked_mul(dtype.size_in_bytes()));
    if expected != Some(bytes.len()) {
        return Err(Fault::damaged("a tensor's dimensions and data disagree"));
    }
    Tensor::from_raw_buffer(bytes, dtype, dims, &Device::Cpu)
        .and_then(|tensor| tensor.to_dtype(DType::F32))
        .map_err(Fault::damaged)
}

/// Number of values, if that can be counted.
fn elements(dims: &[usize]) -> Option<usize> {
    dims.iter()
        .try_fold(1usize, |count, &dim| count.checked_mul(dim))
}

#[cfg(test)]
mod tests;
