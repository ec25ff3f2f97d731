//! `checkpoints/last/` and `checkpoints/best/`: everything needed to go on, replaced as one.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tensors::{self, Encoded};
use super::{RunError, Tensors};
use crate::fsx::{self, FsError};

/// A state of training.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Parameters and statistics by name.
    pub weights: Tensors,
    /// Averages of those that training moves, by name; empty where nothing is averaged.
    pub averaged: Tensors,
    /// The optimizer's tensors by name.
    pub optimizer: Tensors,
    /// Everything else: phase, epoch, step, streams, best so far.
    pub state: Value,
}

const WEIGHTS: &str = "weights.safetensors";
/// There only where weights are averaged.
const AVERAGED: &str = "averaged.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
/// Sizes and sums of the other files; written last.
const SUMS: &str = "sums.json";

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sum {
    bytes: u64,
    blake3: String,
}

type Sums = BTreeMap<String, Sum>;

const DAMAGED_LAST: &str = "delete `checkpoints/last` and go on from the best one with `xp resume`, or train again with `xp run`";
const DAMAGED_BEST: &str = "train again with `xp run`";

impl Checkpoint {
    /// Bytes of what it holds beside the weights.
    pub fn beyond_weights(&self) -> usize {
        let tensors = self.averaged.values().chain(self.optimizer.values());
        tensors
            .map(|it| it.elem_count() * it.dtype().size_in_bytes())
            .sum()
    }

    /// The weights that count: averaged where there are averages.
    pub fn evaluated(&self) -> Tensors {
        let mut weights = self.weights.clone();
        weights.extend(self.averaged.clone());
        weights
    }

    /// Replaces the checkpoint in `folder`; a kill at any moment leaves the old or the new one.
    pub fn write(&self, folder: &Path) -> Result<(), RunError> {
        let weights = Encoded::new(&self.weights, &folder.join(WEIGHTS))?;
        let optimizer = Encoded::new(&self.optimizer, &folder.join(OPTIMIZER))?;
        let averaged = match self.averaged.is_empty() {
            true => None,
            false => Some(Encoded::new(&self.averaged, &folder.join(AVERAGED))?),
        };
        let state = to_json(&self.state, STATE, folder)?;
        fsx::replace_dir(folder, |staged| {
            let mut sums = Sums::from([
                summed(staged, WEIGHTS, |file| weights.write(file, &[]))?,
                summed(staged, OPTIMIZER, |file| optimizer.write(file, &[]))?,
                summed(staged, STATE, |file| file.write_all(&state))?,
            ]);
            if let Some(averaged) = averaged {
                sums.extend([summed(staged, AVERAGED, |file| averaged.write(file, &[]))?]);
            }
            let sums = to_json(&sums, SUMS, folder)?;
            fsx::write_staged(&staged.join(SUMS), |file| file.write_all(&sums))?;
            Ok(())
        })
    }

    /// Whether a checkpoint is there.
    pub fn exists(folder: &Path) -> bool {
        fsx::whole_dir(folder).exists()
    }

    /// Reads and verifies the checkpoint in `folder`. Safe beside a writer: a checkpoint replaced
    /// while it is read does not match its sums and is read again.
    pub fn read(folder: &Path) -> Result<Self, RunError> {
        for _ in 0..3 {
            if let Ok(checkpoint) = Self::read_once(&fsx::whole_dir(folder)) {
                return Ok(checkpoint);
            }
        }
        Self::read_once(&fsx::whole_dir(folder))
    }

    fn read_once(folder: &Path) -> Result<Self, RunError> {
        let sums: Sums = from_json(&fsx::read(&folder.join(SUMS))?, SUMS, folder)?;
        let verified = |name: &str| {
            let bytes = fsx::read(&folder.join(name))?;
            let Some(expected) = sums.get(name) else {
                return Err(damaged(folder, SUMS, format!("it does not list `{name}`")));
            };
            if bytes.len() as u64 != expected.bytes {
                let reason = format!("{} bytes of {}", bytes.len(), expected.bytes);
                return Err(damaged(folder, name, reason));
            }
            if sum(&bytes) != *expected {
                let reason = "its content does not match its checksum".to_owned();
                return Err(damaged(folder, name, reason));
            }
            Ok(bytes)
        };
        let tensors = |name: &str| {
            let decoded = tensors::decode(&verified(name)?);
            Ok::<_, RunError>(
                decoded
                    .map_err(|reason| damaged(folder, name, reason))?
                    .tensors,
            )
        };
        Ok(Self {
            weights: tensors(WEIGHTS)?,
            averaged: match sums.contains_key(AVERAGED) {
                true => tensors(AVERAGED)?,
                false => Tensors::new(),
            },
            optimizer: tensors(OPTIMIZER)?,
            state: from_json(&verified(STATE)?, STATE, folder)?,
        })
    }
}

/// Passes bytes on and sums them, so that no file is read back to do so.
struct Summing<'a> {
    file: &'a mut dyn Write,
    bytes: u64,
    hasher: blake3::Hasher,
}

impl Write for Summing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a file of a checkpoint that is being staged; its name with its sum.
fn summed(
    staged: &Path,
    name: &str,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(String, Sum), FsError> {
    let mut sum = Sum::default();
    fsx::write_staged(&staged.join(name), |file| {
        let mut file = Summing {
            file,
            bytes: 0,
            hasher: blake3::Hasher::new(),
        };
        fill(&mut file)?;
        sum = Sum {
            bytes: file.bytes,
            blake3: file.hasher.finalize().to_hex().to_string(),
        };
        Ok(())
    })?;
    Ok((name.to_owned(), sum))
}

fn sum(bytes: &[u8]) -> Sum {
    Sum {
        bytes: bytes.len() as u64,
        blake3: blake3::hash(bytes).to_hex().to_string(),
    }
}

fn damaged(folder: &Path, name: &str, reason: String) -> RunError {
    RunError::Damaged {
        path: folder.join(name),
        reason,
        help: match folder.file_name().is_some_and(|name| name == "last") {
            true => DAMAGED_LAST,
            false => DAMAGED_BEST,
        },
    }
}

fn to_json(value: &impl Serialize, name: &str, folder: &Path) -> Result<Vec<u8>, RunError> {
    serde_json::to_vec_pretty(value).map_err(|error| RunError::Unstorable {
        what: "the state of training".into(),
        path: folder.join(name),
        reason: error.to_string(),
    })
}

fn from_json<T: for<'a> Deserialize<'a>>(
    bytes: &[u8],
    name: &str,
    folder: &Path,
) -> Result<T, RunError> {
    serde_json::from_slice(bytes).map_err(|error| {
        damaged(
            folder,
            name,
            format!("it is not the JSON expected ({error})"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};
    use std::fs;

    fn checkpoint(value: f32) -> Checkpoint {
        let one = |name: &str| {
            let tensor = Tensor::full(value, (3, 2), &Device::Cpu).unwrap();
            Tensors::from([(name.to_owned(), tensor)])
        };
        Checkpoint {
            weights: one("head/kernel"),
            averaged: one("head/kernel"),
            optimizer: one("head/kernel.square"),
            state: serde_json::json!({ "epoch": 3, "lr": 1e-4 }),
        }
    }

    fn value(checkpoint: &Checkpoint) -> f32 {
        checkpoint.weights["head/kernel"].to_vec2::<f32>().unwrap()[0][0]
    }

    #[test]
    fn a_checkpoint_comes_back_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let last = folder.path().join("checkpoints/last");
        assert!(!Checkpoint::exists(&last));
        checkpoint(1.5).write(&last).unwrap();
        checkpoint(0.1).write(&last).unwrap();
        let back = Checkpoint::read(&last).unwrap();
        assert_eq!(value(&back), 0.1);
        assert_eq!(back.state, checkpoint(0.1).state);
        assert_eq!(back.optimizer["head/kernel.square"].dims(), [3, 2]);
        // A kill between the two renames leaves the old one aside.
        fs::rename(&last, last.with_file_name("last.old")).unwrap();
        assert!(Checkpoint::exists(&last));
        assert_eq!(value(&Checkpoint::read(&last).unwrap()), 0.1);
    }

    #[test]
    fn every_torn_or_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let last = folder.path().join("last");
        for name in [WEIGHTS, AVERAGED, OPTIMIZER, STATE, SUMS] {
            let path = last.join(name);
            let message = || {
                let error = Checkpoint::read(&last).unwrap_err();
                let message = error.to_string();
                assert!(message.contains(&format!("last/{name}`")), "{message}");
                message
            };
            checkpoint(1.0).write(&last).unwrap();
            let whole = fs::read(&path).unwrap();
            fs::write(&path, &whole[..whole.len() / 2]).unwrap();
            assert!(message().contains("damaged"));

            checkpoint(1.0).write(&last).unwrap();
            fs::remove_file(&path).unwrap();
            assert!(message().contains("cannot read"));

            if name != SUMS {
                checkpoint(1.0).write(&last).unwrap();
                let mut flipped = whole.clone();
                *flipped.last_mut().unwrap() ^= 1;
                fs::write(&path, flipped).unwrap();
                assert!(message().contains("checksum"));
            }
        }
    }
}
