//! Weight files to named tensors: where they come from, how their keys are named, what they hold.

mod bytes;
mod checkpoint;
pub mod embedded;
mod error;
mod fit;
mod format;
pub mod keys;
mod positions;
mod source;

pub use error::WeightsError;
pub use keys::Naming;
pub use source::Source;

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use indexmap::IndexMap;

use crate::config::Flavour;
use crate::fetch::Download;
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
    /// The file, in a cache for a hub id or an address; `xp/...` for embedded weights.
    pub path: PathBuf,
}

/// Loads the `wanted` tensors (our name and dimensions) of a backbone of `family` from `source`:
/// a hub id, an address, a file, a run directory or `xp/...`. What else the file holds is left alone.
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
    let checkpoint = Checkpoint::open(&path, &bytes, wanted)?;
    let naming = checkpoint.naming(family, wanted)?;
    let tensors = checkpoint.tensors(family, naming, wanted, device)?;
    let flavour = source.flavour(checkpoint.metadata(), checkpoint.flavour())?;
    Ok(Loaded {
        tensors: tensors.into_iter().collect(),
        flavour,
        naming,
        fingerprint: blake3::hash(&bytes).to_hex().to_string(),
        path,
    })
}

/// The convention that a source's weights were trained with, without loading them; nothing is
/// downloaded. A run's model says so itself, Keras' files are of one convention, and hub ids tell
/// by their name (`timm/tf_...`).
pub fn flavour_of(source: &str) -> Result<Flavour, WeightsError> {
    let source = Source::parse(source)?;
    match source.local()? {
        Some((path, bytes)) => {
            let checkpoint = Checkpoint::open(&path, &bytes, &[])?;
            source.flavour(checkpoint.metadata(), checkpoint.flavour())
        }
        None => source.flavour(None, None),
    }
}

/// Name and dimensions of all parameters of a family, for [`whose`].
pub type Candidate = (&'static str, Vec<(String, Vec<usize>)>);

/// The first family whose parameters are all in a source that is at hand, in dimensions that fit;
/// for messages about weights that do not.
pub fn whose(source: &str, candidates: impl Iterator<Item = Candidate>) -> Option<&'static str> {
    let (path, bytes) = Source::parse(source).ok()?.read(&mut |_| ()).ok()?;
    let mut candidates = candidates;
    let found = candidates.find(|(family, wanted)| {
        Checkpoint::open(&path, &bytes, wanted).is_ok_and(|checkpoint| {
            let mut namings = checkpoint.namings().into_iter();
            namings.any(|naming| checkpoint.fits(family, naming, wanted) == wanted.len())
        })
    });
    found.map(|(family, _)| family)
}

#[cfg(test)]
mod tests;
