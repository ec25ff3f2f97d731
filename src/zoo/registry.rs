//! The backbones that a configuration may name, and what goes with each.

use super::{efficientnet, inception_v3, mobilenet_v2, mobilenet_v3, resnet, vgg, xception};
use crate::config::{Flavour, Interpolation, NormalizeName, Problem};
use crate::graph::nearest::did_you_mean;
use crate::graph::{GraphBuilder, GraphError};

/// A family of architectures.
#[derive(Debug)]
pub struct Family {
    /// What `model.backbone` says.
    pub name: &'static str,
    /// Name and paper.
    pub title: &'static str,
    /// Side of the square pictures that the default weights were trained at, in pixels.
    pub default_size: u32,
    /// Share of the shorter side that a centre crop keeps before the picture is scaled to that size,
    /// where the default weights are evaluated.
    pub crop: f64,
    /// Resampling filter that the default weights were trained with.
    pub interpolation: Interpolation,
    /// Scaling of pixel values that weights of a flavour were trained with.
    pub normalize: fn(Flavour) -> NormalizeName,
    /// Smallest and largest width multiplier; `None` if the family has none.
    pub widths: Option<[f64; 2]>,
    /// Default weights, by width multiplier.
    pub default_weights: &'static [Pretrained],
    /// Appends all layers below the classifier; the builder's last node is the output.
    pub build: fn(&mut GraphBuilder, f64, Flavour) -> Result<(), GraphError>,
    /// Appends pooling and classifier, down to the logits of so many classes.
    pub classify: fn(&mut GraphBuilder, usize, Flavour) -> Result<(), GraphError>,
}

/// Published weights.
#[derive(Debug)]
pub struct Pretrained {
    /// Width multiplier.
    pub width: f64,
    /// Hub id.
    pub id: &'static str,
    /// SPDX name of their licence.
    pub licence: &'static str,
}

/// All families.
pub static FAMILIES: &[Family] = &[
    efficientnet::B0,
    efficientnet::B1,
    efficientnet::B2,
    efficientnet::B3,
    inception_v3::FAMILY,
    mobilenet_v2::FAMILY,
    mobilenet_v3::LARGE,
    mobilenet_v3::SMALL,
    resnet::RESNET50,
    vgg::VGG16,
    vgg::VGG19,
    xception::FAMILY,
];

/// The family of that name.
pub fn find(name: &str) -> Result<&'static Family, Problem> {
    FAMILIES
        .iter()
        .find(|family| family.name == name)
        .ok_or_else(|| {
            let names = || FAMILIES.iter().map(|family| family.name);
            Problem {
                key: "model.backbone".into(),
                message: format!("there is no backbone `{name}`"),
                help: did_you_mean(name, names()).or_else(|| {
                    let known: Vec<&str> = names().collect();
                    Some(format!("known backbones: {}", known.join(", ")))
                }),
            }
        })
}

impl Family {
    /// Whether the family comes in this width.
    pub fn check_width(&self, width: f64) -> Result<(), Problem> {
        let problem = |message: String, help: String| {
            Err(Problem {
                key: "model.width".into(),
                message,
                help: Some(help),
            })
        };
        match self.widths {
            Some([least, most]) if !(least..=most).contains(&width) => problem(
                format!("`{}` has no width {width}", self.name),
                format!("choose a width from {least} to {most}"),
            ),
            None if width != 1.0 => problem(
                format!("`{}` comes in one width only", self.name),
                "leave `width` out".into(),
            ),
            _ => Ok(()),
        }
    }

    /// Hub id of the default weights for a width; without any, `model.weights` must be given.
    pub fn default_weights(&self, width: f64) -> Result<&'static str, Problem> {
        self.default_weights
            .iter()
            .find(|weights| weights.width == width)
            .map(|weights| weights.id)
            .ok_or_else(|| Problem {
                key: "model.weights".into(),
                message: format!("`{}` of width {width} has no default weights", self.name),
                help: Some(
                    "name a hub id or a file, or set `weights = \"none\"` to train from scratch"
                        .into(),
                ),
            })
    }
}
