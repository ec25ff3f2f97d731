//! Weight files to named tensors: where they come from, how their keys are named, what they hold.

mod checkpoint;
pub mod embedded;
mod error;
pub mod hub;
pub mod keys;
mod positions;
mod source;

pub use error::WeightsError;
pub use hub::Download;
pub use keys::Naming;
pub use source::Source;

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use indexmap::IndexMap;

use crate::config::Flavour;
use checkpoint::Checkpoint;

/// Metadata key of our own model files that names the flavour, `torch` or `tf`.
pub const FLAVOUR_KEY: &str = "xp.flavour";

/// Tensors of a checkpoint under our names.
#[derive(Debug)]
pub struct Loaded {
    /// By our name (`layer/kernel`), in the order asked for; f32 in PyTorch's dimensions.
    pub tensors: IndexMap<String, Tensor>,
    /// Convention that the weights were trained with.
    pub flavour: Flavour,
    /// How the file names its tensors.
    pub naming: Naming,
    /// BLAKE3 of the file, in hexadecimal.
    pub fingerprint: String,
    /// The file, in the hub's cache for a hub id; `xp/...` for embedded weights.
    pub path: PathBuf,
}

/// Loads the `wanted` tensors (our name and dimensions) of a backbone of `family` from `source`:
/// a hub id, a file, a run directory or `xp/...`. What else the file holds is left alone.
pub fn load(
    source: &str,
    family: &str,
    wanted: &[(String, Vec<usize>)],
    device: &Device,
) -> Result<Loaded, WeightsError> {
    load_with_progress(source, family, wanted, device, &mut |_| ())
}

/// As [`load`]; `progress` hears of a download as it goes on.
pub fn load_with_progress(
    source: &str,
    family: &str,
    wanted: &[(String, Vec<usize>)],
    device: &Device,
    progress: &mut dyn FnMut(Download),
) -> Result<Loaded, WeightsError> {
    let source = Source::parse(source)?;
    let (path, bytes) = source.read(progress)?;
    let checkpoint = Checkpoint::parse(&path, &bytes)?;
    let naming = checkpoint.naming(family, wanted)?;
    let tensors = wanted
        .iter()
        .map(|(name, dims)| {
            let mut tensor = checkpoint.tensor(family, naming, name, dims, device)?;
            if let Some(gap) = keys::variance_gap(family, naming)
                && name.ends_with("/moving_variance")
            {
                tensor = (tensor + gap)?;
            }
            Ok((name.clone(), tensor))
        })
        .collect::<Result<_, WeightsError>>()?;
    Ok(Loaded {
        tensors,
        flavour: source.flavour(checkpoint.metadata())?,
        naming,
        fingerprint: blake3::hash(&bytes).to_hex().to_string(),
        path,
    })
}

/// The convention that a source's weights were trained with, without loading them; nothing is
/// downloaded. A run's model says so itself; hub ids tell by their name (`timm/tf_...`).
pub fn flavour_of(source: &str) -> Result<Flavour, WeightsError> {
    let source = Source::parse(source)?;
    let metadata = match &source {
        Source::Hub { .. } => None,
        Source::File(path) => checkpoint::peek(path)?,
        Source::Embedded { name, bytes } => checkpoint::peek_bytes(name.as_ref(), bytes)?,
    };
    source.flavour(metadata.as_ref())
}

#[cfg(test)]
mod tests;
