//! A trained model, restored from `model.safetensors` alone.

use std::path::{Path, PathBuf};

use candle_core::Device;

use super::{Exit, Failure};
use crate::config::{Experiment, Flavour};
use crate::data::preprocess::Preprocess;
use crate::engine::params::Params;
use crate::engine::prefix::Prefix;
use crate::fsx;
use crate::graph::Graph;
use crate::run::{ModelFile, RunDir, Slot};

/// A model ready to classify.
#[derive(Debug)]
pub struct Restored {
    /// The file it came from.
    pub path: PathBuf,
    /// Class names in label order.
    pub classes: Vec<String>,
    /// From picture to tensor.
    pub preprocess: Preprocess,
    /// The configuration that it was trained with.
    pub experiment: Experiment,
    /// Convention of padding and batch norm.
    pub flavour: Flavour,
    /// Backbone and head.
    pub graph: Graph,
    /// Their parameters.
    pub params: Params,
    /// Number of logits.
    pub outputs: usize,
}

impl Restored {
    /// Reads a model file, or the one of a run directory.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let path = if path.is_dir() {
            RunDir::open(path)?.model_safetensors()
        } else {
            path.to_owned()
        };
        if !path.exists() {
            return Err(
                Failure::new(Exit::Other, format!("there is no `{}`", path.display()))
                    .help("the run may not have finished; give one that did, or a model file"),
            );
        }
        let file = ModelFile::read(&path)?;
        let damaged = |what: String| {
            Failure::new(
                Exit::Other,
                format!("`{}` is damaged: {what}", path.display()),
            )
            .help("copy it again from where it came, or train the run again")
        };
        let experiment: Experiment = toml::from_str(&file.config_toml)
            .map_err(|error| damaged(format!("its configuration: {error}")))?;
        let preprocess: Preprocess = serde_json::from_str(&file.preprocess_json)
            .map_err(|error| damaged(format!("its preprocessing: {error}")))?;
        preprocess
            .check()
            .map_err(|error| damaged(format!("its preprocessing: {error}")))?;
        let flavour = match file.flavour.as_str() {
            "torch" => Flavour::Torch,
            "tf" => Flavour::Tf,
            other => return Err(damaged(format!("unknown flavour `{other}`"))),
        };
        let graph = Graph::build(&experiment.model, preprocess.image_size, flavour)
            .map_err(|error| damaged(error.to_string()))?;
        let mut params = Params::initialise(&graph, 0, &Device::Cpu)?;
        let names: Vec<String> = params.iter().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            let value = file
                .tensors
                .get(&name)
                .ok_or_else(|| damaged(format!("the tensor `{name}` is missing")))?;
            params
                .set(&name, value.clone())
                .map_err(|error| damaged(error.to_string()))?;
        }
        let outputs = graph.nodes()[graph.output()].shape.elements();
        if outputs.max(2) != file.classes.len() {
            return Err(damaged(format!(
                "{} classes, {outputs} outputs",
                file.classes.len()
            )));
        }
        Ok(Self {
            path,
            classes: file.classes,
            preprocess,
            experiment,
            flavour,
            graph,
            params,
            outputs,
        })
    }

    /// As [`Self::open`], with the weights that `--checkpoint` names: `best` or `last`.
    pub fn open_checkpoint(path: &Path, checkpoint: &str) -> Result<Self, Failure> {
        let model = Self::open(path)?;
        match checkpoint {
            "last" => model.with_last_checkpoint(path),
            _ => Ok(model),
        }
    }

    /// From pictures `[batch, height, width, 3]` to logits `[batch, outputs]`, compiled.
    pub fn network(&self) -> candle_core::Result<Prefix> {
        let output = self.graph.output();
        Prefix::compile(&self.graph, &self.params, &[0], &[output])
    }

    /// Writes a file made of the model beside its own, in its run directory if it has one.
    pub fn write_beside(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Failure> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        if let Ok(run) = RunDir::open(folder) {
            return Ok(run.write_export(name, bytes)?);
        }
        let path = folder.join(name);
        fsx::write_atomic(&path, bytes)?;
        Ok(path)
    }

    /// The same with the weights of the run's last checkpoint; `run` is what was named.
    fn with_last_checkpoint(mut self, run: &Path) -> Result<Self, Failure> {
        if !run.is_dir() {
            let message = format!("`{}` is one model, without checkpoints", run.display());
            return Err(Failure::new(Exit::Config, message).help("name its run directory"));
        }
        let checkpoint = RunDir::open(run)?.checkpoint(Slot::Last)?;
        for (name, value) in checkpoint.evaluated() {
            self.params.set(&name, value)?;
        }
        Ok(self)
    }
}
