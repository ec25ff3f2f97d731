//! What answers: a trained model, or a backbone with the classifier that it was published with.

use std::path::Path;

use super::pretrained::{self, Pretrained, Target};
use super::restored::Restored;
use super::{Failure, Printer};
use crate::cli::BackboneArgs;
use crate::data::Framing;
use crate::data::preprocess::Preprocess;
use crate::engine::params::Params;
use crate::engine::prefix::Prefix;
use crate::graph::Graph;
use crate::zoo::imagenet;

/// A network that names classes.
#[derive(Debug)]
pub struct Classifier {
    /// The run, file or backbone, as named.
    pub name: String,
    /// Class names in label order.
    pub classes: Vec<String>,
    /// From picture to tensor.
    pub preprocess: Preprocess,
    /// Which part of a picture it sees.
    pub framing: Framing,
    /// Its layers, down to the logits.
    pub graph: Graph,
    /// Their parameters.
    pub params: Params,
}

impl Classifier {
    /// Opens a run, a model file or a backbone.
    pub fn open(model: &Path, backbone: &BackboneArgs, printer: &Printer) -> Result<Self, Failure> {
        match Target::of(model)? {
            Target::Model(path) => {
                pretrained::check_no_flags(backbone)?;
                let model = Restored::open(path)?;
                Ok(Self {
                    name: model.path.display().to_string(),
                    classes: model.classes,
                    preprocess: model.preprocess,
                    framing: Framing::Resized,
                    graph: model.graph,
                    params: model.params,
                })
            }
            Target::Backbone(family) => {
                let net = Pretrained::classifier(family, backbone, printer)?;
                Ok(Self {
                    name: family.name.to_owned(),
                    classes: imagenet::classes(),
                    preprocess: net.preprocess,
                    framing: net.framing,
                    graph: net.graph,
                    params: net.params,
                })
            }
        }
    }

    /// From pictures `[batch, height, width, 3]` to logits, compiled.
    pub fn network(&self) -> Result<Prefix, Failure> {
        let output = self.graph.output();
        Ok(Prefix::compile(&self.graph, &self.params, &[0], &[output])?)
    }
}
