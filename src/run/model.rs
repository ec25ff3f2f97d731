//! `model.safetensors`: weights, class names, preprocessing and configuration in one file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::tensors::{self, Encoded};
use super::{RunError, Tensors};
use crate::fsx;

/// All that prediction needs, and what it came from.
#[derive(Debug, Clone)]
pub struct ModelFile {
    /// Parameters and statistics of backbone and head by name, on the CPU, sorted by name.
    pub tensors: Tensors,
    /// Class names in label order.
    pub classes: Vec<String>,
    /// How pictures become tensors, as JSON.
    pub preprocess_json: String,
    /// The resolved configuration, as TOML.
    pub config_toml: String,
    /// The backbone's name in the configuration.
    pub model: String,
    /// `torch` or `tf`: padding and batch-norm epsilon.
    pub flavour: String,
    /// Version of xp that wrote it.
    pub version: String,
}

const DAMAGED: &str = "copy it again from where it came, or train the run again";

impl ModelFile {
    /// Writes the file as one step. Its bytes depend on the content alone.
    pub fn write(&self, path: &Path) -> Result<(), RunError> {
        let tensors = Encoded::new(&self.tensors, path)?;
        let metadata = [
            ("format", "pt".to_owned()),
            ("xp.version", self.version.clone()),
            ("xp.model", self.model.clone()),
            ("xp.flavour", self.flavour.clone()),
            ("xp.classes", serde_json::json!(self.classes).to_string()),
            ("xp.preprocess", self.preprocess_json.clone()),
            ("xp.config", self.config_toml.clone()),
            ("xp.digest", tensors.digest()),
        ];
        fsx::write_atomic_with(path, |file| tensors.write(file, &metadata))?;
        Ok(())
    }

    /// How pictures become tensors, as JSON, from the header alone; `None` if that cannot be read.
    pub fn preprocess_json(path: &Path) -> Option<String> {
        /// Far more than any header of ours has.
        const MOST: u64 = 64 << 20;
        let mut file = File::open(path).ok()?;
        let mut length = [0; 8];
        file.read_exact(&mut length).ok()?;
        let length = u64::from_le_bytes(length);
        let mut header = Vec::new();
        file.take(length.min(MOST)).read_to_end(&mut header).ok()?;
        let header: serde_json::Value = serde_json::from_slice(&header).ok()?;
        let found = header["__metadata__"]["xp.preprocess"].as_str();
        found.map(str::to_owned)
    }

    /// Reads and verifies a file.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        let damaged = |reason: String| RunError::Damaged {
            path: path.to_path_buf(),
            reason,
            help: DAMAGED,
        };
        let bytes = fsx::read(path)?;
        let mut file = tensors::decode(&bytes).map_err(damaged)?;
        drop(bytes);
        let mut take = |key: &str| {
            file.metadata.swap_remove(key).ok_or_else(|| RunError::Foreign {
                path: path.to_path_buf(),
                reason: format!("is no model of xp: its header has no `{key}`"),
                help: "give a run directory or its `model.safetensors`; plain weights are for `model.weights` of a configuration",
            })
        };
        let version = take("xp.version")?;
        let classes = take("xp.classes")?;
        let model = Self {
            classes: serde_json::from_str(&classes)
                .map_err(|error| damaged(format!("`xp.classes` is no list of names ({error})")))?,
            preprocess_json: take("xp.preprocess")?,
            config_toml: take("xp.config")?,
            model: take("xp.model")?,
            flavour: take("xp.flavour")?,
            tensors: file.tensors,
            version,
        };
        if take("xp.digest")? != file.digest {
            return Err(damaged("its weights do not match their checksum".into()));
        }
        Ok(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    fn model() -> ModelFile {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        ModelFile {
            tensors: [
                ("head.b", tensor(&[2.0, f32::MIN_POSITIVE])),
                ("a", tensor(&[0.1])),
            ]
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .into_iter()
            .collect(),
            classes: vec!["cat".into(), "dög \"x\"".into()],
            preprocess_json: r#"{"image_size":160}"#.into(),
            config_toml: "name = \"a\"\nseed = 1\n".into(),
            model: "mobilenet_v2".into(),
            flavour: "torch".into(),
            version: "0.1.0".into(),
        }
    }

    #[test]
    fn a_model_comes_back_as_written_and_its_bytes_are_stable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        model().write(&path).unwrap();
        let first = fsx::read(&path).unwrap();
        let back = ModelFile::read(&path).unwrap();
        assert_eq!(back.classes, model().classes);
        assert_eq!(back.config_toml, model().config_toml);
        assert_eq!(back.preprocess_json, model().preprocess_json);
        let names: Vec<&str> = back.tensors.keys().map(String::as_str).collect();
        assert_eq!(names, ["a", "head.b"]);
        let values = back.tensors["head.b"].to_vec1::<f32>().unwrap();
        assert_eq!(values, [2.0, f32::MIN_POSITIVE]);
        back.write(&path).unwrap();
        assert_eq!(fsx::read(&path).unwrap(), first);
    }

    #[test]
    fn cut_flipped_and_foreign_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let message = |bytes: &[u8]| {
            fsx::write_atomic(&path, bytes).unwrap();
            ModelFile::read(&path).unwrap_err().to_string()
        };
        model().write(&path).unwrap();
        let whole = fsx::read(&path).unwrap();
        for length in [0, 4, 100, whole.len() - 1] {
            assert!(message(&whole[..length]).contains("no whole safetensors file"));
        }
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(message(&flipped).contains("do not match their checksum"));

        let mut foreign = Vec::new();
        let plain = Encoded::new(&model().tensors, &path).unwrap();
        plain.write(&mut foreign, &[]).unwrap();
        assert!(message(&foreign).contains("has no `xp.version`"));
        assert!(message(b"\x89PNG\r\n\x1a\n, say, a picture").contains("damaged"));
    }
}
