//! The backbones that a configuration may name, and what goes with each.

use super::auxiliary::Auxiliary;
use super::{
    convnext, densenet, efficientnet, googlenet, inception_v3, mobilenet_v2, mobilenet_v3, resnet,
    squeezenet, vgg, vit, xception,
};
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
    /// Classifiers that learn beside the head when `model.auxiliary` asks for them.
    pub auxiliaries: &'static [Auxiliary],
}

/// Published weights.
#[derive(Debug)]
pub struct Pretrained {
    /// Width multiplier.
    pub width: f64,
    /// Hub id, or the address of a file.
    pub id: &'static str,
    /// SPDX name of their licence.
    pub licence: &'static str,
}

/// All families.
pub static FAMILIES: &[Family] = &[
    convnext::SMALL,
    convnext::TINY,
    densenet::DENSENET121,
    vit::DINOV2_BASE_14,
    vit::DINOV2_SMALL_14,
    efficientnet::B0,
    efficientnet::B1,
    efficientnet::B2,
    efficientnet::B3,
    googlenet::FAMILY,
    inception_v3::FAMILY,
    mobilenet_v2::FAMILY,
    mobilenet_v3::LARGE,
    mobilenet_v3::SMALL,
    resnet::RESNET18,
    resnet::RESNET34,
    resnet::RESNET50,
    resnet::RESNET101,
    squeezenet::SQUEEZENET1_1,
    vgg::VGG16,
    vgg::VGG16_BN,
    vgg::VGG19,
    vgg::VGG19_BN,
    vit::VIT_SMALL_16,
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

    /// Hub id or address of the default weights for a width; without any, `model.weights` must be given.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Facts {
        size: u32,
        mean: [f64; 3],
        std: [f64; 3],
        interpolation: String,
        crop: f64,
        licence: String,
    }

    #[test]
    fn families_say_of_their_weights_what_the_publishers_say() {
        let text = include_str!("../../tests/fixtures/registry.json");
        let mut published: BTreeMap<String, Facts> = serde_json::from_str(text).unwrap();
        for family in FAMILIES {
            for weights in family.default_weights {
                let id = weights.id;
                // Keras publishes no such facts with its files.
                if id.ends_with(".h5") {
                    continue;
                }
                let facts = published
                    .remove(id)
                    .unwrap_or_else(|| panic!("no facts on {id}"));
                let (mean, std) = match (family.normalize)(Flavour::Torch) {
                    NormalizeName::MinusOneOne => ([0.5; 3], [0.5; 3]),
                    NormalizeName::Imagenet => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
                    other => panic!("{id}: {other:?}"),
                };
                let interpolation = format!("{:?}", family.interpolation).to_lowercase();
                // Published for 518, and trained on mostly 224.
                if !family.name.starts_with("dinov2") {
                    assert_eq!(family.default_size, facts.size, "{id}");
                }
                assert_eq!((mean, std), (facts.mean, facts.std), "{id}");
                assert_eq!(interpolation, facts.interpolation, "{id}");
                assert_eq!(family.crop, facts.crop, "{id}");
                assert_eq!(weights.licence.to_lowercase(), facts.licence, "{id}");
            }
        }
        assert!(published.is_empty(), "{:?}", published.keys());
    }

    #[test]
    fn keras_weights_take_keras_scalings() {
        for (family, scaling) in [
            ("densenet121", NormalizeName::Imagenet),
            ("inception_v3", NormalizeName::MinusOneOne),
            ("mobilenet_v2", NormalizeName::MinusOneOne),
            ("resnet50", NormalizeName::Caffe),
            ("resnet101", NormalizeName::Caffe),
            ("vgg16", NormalizeName::Caffe),
            ("vgg19", NormalizeName::Caffe),
            ("xception", NormalizeName::MinusOneOne),
        ] {
            let normalize = find(family).unwrap().normalize;
            assert_eq!(normalize(Flavour::Tf), scaling, "{family}");
        }
    }
}
