//! A weight file of any format: its metadata, its keys and its tensors, taken as hostile until
//! checked.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use super::bytes::Bytes;
use super::error::WeightsError;
use super::fit::{self, Fit};
use super::format::{self, Entry, Fault, Format, Metadata, Wanted};
use super::keys::{Naming, checkpoint_key, flattened_channels, variance_gap};
use crate::config::Flavour;

/// What wrappers of PyTorch modules put before all names.
const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];

/// Most tensors that a message lists.
const LISTED: usize = 3;

/// A checked file.
pub(super) struct Checkpoint<'a> {
    path: &'a Path,
    kind: &'static str,
    file: Box<dyn Format>,
    index: HashMap<String, usize>,
}

impl<'a> Checkpoint<'a> {
    /// Checks the structure; no tensor is read yet. `wanted` tells the order of layers, for files
    /// that do not name them.
    pub(super) fn open(
        path: &'a Path,
        bytes: &Bytes,
        wanted: &Wanted,
    ) -> Result<Self, WeightsError> {
        let kind = format::name(path, bytes);
        let file = format::open(path, bytes, wanted).map_err(|fault| spoilt(path, kind, fault))?;
        let entries = file.entries();
        let mut prefix = String::new();
        while let Some(more) = PREFIXES.into_iter().find(|more| {
            let whole = format!("{prefix}{more}");
            !entries.is_empty() && entries.iter().all(|entry| entry.name.starts_with(&whole))
        }) {
            prefix.push_str(more);
        }
        let names = entries
            .iter()
            .map(|entry| entry.name[prefix.len()..].into());
        Ok(Self {
            path,
            kind,
            index: names.zip(0..).collect(),
            file,
        })
    }

    pub(super) fn metadata(&self) -> Option<&Metadata> {
        self.file.metadata()
    }

    /// The flavour that goes with the format, where it tells.
    pub(super) fn flavour(&self) -> Option<Flavour> {
        self.file.flavour()
    }

    fn entry(&self, key: &str) -> Option<(usize, &Entry)> {
        let at = *self.index.get(key)?;
        Some((at, self.file.entries().get(at)?))
    }

    /// Number of wanted tensors that are there under a naming, in dimensions that fit.
    pub(super) fn fits(&self, family: &str, naming: Naming, wanted: &Wanted) -> usize {
        let fits = |(name, dims): &&(String, Vec<usize>)| {
            let key = checkpoint_key(family, naming, name);
            let entry = key.and_then(|key| Some(self.entry(&key)?.1));
            entry.is_some_and(|entry| Fit::of(name, entry, dims, naming).is_some())
        };
        wanted.iter().filter(fits).count()
    }

    /// The naming under which most of the wanted tensors are there.
    pub(super) fn naming(&self, family: &str, wanted: &Wanted) -> Result<Naming, WeightsError> {
        let mut best = (0, Naming::Xp);
        for naming in self.namings() {
            let present = wanted
                .iter()
                .filter_map(|(name, _)| checkpoint_key(family, naming, name))
                .filter(|key| self.index.contains_key(key))
                .count();
            if present > best.0 {
                best = (present, naming);
            }
        }
        match best {
            (0, _) if !wanted.is_empty() => Err(WeightsError::Foreign {
                path: self.path.into(),
                family: family.into(),
                first: match self.file.entries().first() {
                    Some(entry) => format!("`{}`", entry.name),
                    None => "not there: it is empty".into(),
                },
            }),
            (_, naming) => Ok(naming),
        }
    }

    /// Namings that a file of this format can have.
    pub(super) fn namings(&self) -> Vec<Naming> {
        match self.file.flavour() {
            Some(Flavour::Tf) => vec![Naming::Keras],
            _ => vec![Naming::Xp, Naming::Torchvision, Naming::Timm],
        }
    }

    /// All wanted tensors, as f32 in our dimensions and the order asked for.
    pub(super) fn tensors(
        &self,
        family: &str,
        naming: Naming,
        wanted: &Wanted,
        device: &Device,
    ) -> Result<Vec<(String, Tensor)>, WeightsError> {
        // A layer that the naming does not cover is missing under its own name.
        let key = |name: &str| checkpoint_key(family, naming, name).unwrap_or_else(|| name.into());
        let keys: Vec<String> = wanted.iter().map(|(name, _)| key(name)).collect();
        self.check_presence(wanted, &keys)?;
        wanted
            .iter()
            .zip(&keys)
            .map(|((name, dims), key)| {
                let tensor = self.tensor(family, naming, (name, dims), key)?;
                let tensor = tensor.to_device(device)?;
                Ok((name.clone(), tensor))
            })
            .collect()
    }

    fn check_presence(&self, wanted: &Wanted, keys: &[String]) -> Result<(), WeightsError> {
        let absent = wanted.iter().zip(keys);
        let mut absent = absent.filter(|(_, key)| !self.index.contains_key(*key));
        let Some(((first, _), _)) = absent.clone().next() else {
            return Ok(());
        };
        let absent: Vec<String> = absent
            .by_ref()
            .map(|((name, dims), key)| match name == key {
                true => format!("`{key}` {dims:?}"),
                false => format!("`{key}` {dims:?} for `{name}`"),
            })
            .collect();
        let spare = self
            .file
            .entries()
            .iter()
            .filter(|entry| entry.dtype.is_ok())
            .filter(|entry| !keys.iter().any(|key| entry.name.ends_with(key.as_str())))
            .map(|entry| format!("`{}` {:?}", entry.name, entry.dims));
        Err(WeightsError::Missing {
            path: self.path.into(),
            first: first.into(),
            missing: absent.len(),
            wanted: wanted.len(),
            listed: listed(absent.into_iter()),
            spare: listed(spare),
        })
    }

    /// A tensor as f32, in `dims`.
    fn tensor(
        &self,
        family: &str,
        naming: Naming,
        (name, dims): (&str, &[usize]),
        key: &str,
    ) -> Result<Tensor, WeightsError> {
        let Some((at, entry)) = self.entry(key) else {
            return self
                .check_presence(&[(name.into(), dims.into())], &[key.into()])
                .and(Err(spoilt(
                    self.path,
                    self.kind,
                    Fault::damaged("it has changed"),
                )));
        };
        if let Err(dtype) = &entry.dtype {
            return Err(WeightsError::Type {
                path: self.path.into(),
                key: key.into(),
                dtype: dtype.clone(),
            });
        }
        // Before anything is allocated: a file may claim any size.
        let Some(fit) = Fit::of(name, entry, dims, naming) else {
            return Err(WeightsError::Shape {
                path: self.path.into(),
                name: name.into(),
                key: key.into(),
                expected: dims.to_vec(),
                found: fit::ours(entry),
            });
        };
        let tensor = self.file.read(at);
        let tensor = tensor.map_err(|fault| spoilt(self.path, self.kind, fault))?;
        let tensor = fit.apply(&tensor, dims)?;
        let tensor = match flattened_channels(family, naming, name) {
            Some(channels) => fit::channels_last(&tensor, channels)?,
            None => tensor,
        };
        Ok(match variance_gap(family, naming) {
            Some(gap) if name.ends_with("/moving_variance") => (tensor + gap)?,
            _ => tensor,
        })
    }
}

/// The first few of many.
fn listed(mut all: impl Iterator<Item = String>) -> String {
    let first: Vec<String> = all.by_ref().take(LISTED).collect();
    match all.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

fn spoilt(path: &Path, format: &'static str, fault: Fault) -> WeightsError {
    match fault {
        Fault::Damaged(reason) => WeightsError::Damaged {
            path: path.into(),
            format,
            reason,
        },
        Fault::Refused(reason, help) => WeightsError::Refused {
            path: path.into(),
            reason,
            help,
        },
    }
}
