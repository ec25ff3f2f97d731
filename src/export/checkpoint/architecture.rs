//! What timm and torchvision call our backbones, and the arguments that make the same network.

use std::fmt;

use serde_json::{Map, Value, json};

use super::{Network, Refusal};
use crate::config::{Flavour, ModelConfig};
use crate::weights::Naming;

/// A package of networks for PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Package {
    /// <https://github.com/huggingface/pytorch-image-models>.
    Timm,
    /// <https://github.com/pytorch/vision>.
    Torchvision,
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.naming(), f)
    }
}

impl Package {
    /// How it names tensors.
    pub fn naming(self) -> Naming {
        match self {
            Self::Timm => Naming::Timm,
            Self::Torchvision => Naming::Torchvision,
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Timm => Self::Torchvision,
            Self::Torchvision => Self::Timm,
        }
    }

    /// Where a model's weights come from, or who has its architecture; timm rather than torchvision.
    pub fn of(model: &ModelConfig, flavour: Flavour) -> Self {
        let has = |package: Self| {
            package
                .name(&model.backbone, model.width, flavour)
                .is_some()
        };
        let theirs = |weights: &String| weights.contains("download.pytorch.org");
        let published = model.weights.as_ref().is_some_and(theirs);
        match has(Self::Torchvision) && (published || !has(Self::Timm)) {
            true => Self::Torchvision,
            false => Self::Timm,
        }
    }

    /// The package's name of an architecture.
    fn name(self, backbone: &str, width: f64, flavour: Flavour) -> Option<String> {
        match self {
            Self::Timm => timm(backbone, width, flavour),
            Self::Torchvision => torchvision(backbone, width, flavour),
        }
    }
}

/// A network of a package.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// Whose.
    pub package: Package,
    /// Its name there.
    pub name: String,
    /// Arguments that make it.
    pub arguments: Map<String, Value>,
}

impl Architecture {
    /// The package's counterpart of a network's backbone.
    pub(super) fn find(network: &Network<'_>, package: Package) -> Result<Self, Refusal> {
        let ModelConfig {
            backbone, width, ..
        } = network.model;
        let flavour = network.flavour;
        let Some(name) = package.name(backbone, *width, flavour) else {
            let has = |package: Package, flavour| {
                let name = package.name(backbone, *width, flavour);
                name.is_some()
            };
            let other = has(package.other(), flavour);
            let convention = flavour == Flavour::Tf && has(package, Flavour::Torch);
            let backbone = backbone.clone();
            return Err(match convention && !other {
                true => Refusal::Convention { package, backbone },
                false => Refusal::Missing {
                    package,
                    backbone,
                    width: *width,
                    other,
                },
            });
        };
        let mut architecture = Self {
            package,
            name,
            arguments: Map::new(),
        };
        match backbone.as_str() {
            // Their auxiliary classifiers learn only, and ours are left behind.
            "googlenet" | "inception_v3" if package == Package::Torchvision => {
                architecture.set("aux_logits", json!(false));
                architecture.set("init_weights", json!(false));
            }
            "mobilenet_v2" if package == Package::Torchvision && *width != 1.0 => {
                architecture.set("width_mult", json!(width));
            }
            "dinov2_base_14" | "dinov2_small_14" | "vit_small_16" => {
                architecture.set("img_size", json!(network.preprocess.image_size));
            }
            _ => {}
        }
        Ok(architecture)
    }

    /// Sets an argument.
    pub(super) fn set(&mut self, argument: &str, value: Value) {
        self.arguments.insert(argument.to_owned(), value);
    }
}

/// The call that makes it.
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments = self.arguments.iter().map(|(name, value)| match value {
            Value::Bool(true) => format!(", {name}=True"),
            Value::Bool(false) => format!(", {name}=False"),
            value => format!(", {name}={value}"),
        });
        let arguments: String = arguments.collect();
        let name = &self.name;
        match self.package {
            Package::Timm => write!(f, "timm.create_model(\"{name}\"{arguments})"),
            Package::Torchvision => {
                let arguments = arguments.trim_start_matches(", ");
                write!(f, "torchvision.models.{name}({arguments})")
            }
        }
    }
}

fn timm(backbone: &str, width: f64, flavour: Flavour) -> Option<String> {
    // Hundredths are part of the name.
    let named = |family: &str, widths: &[u32]| {
        let hundredths = (100.0 * width).round() as u32;
        let exact = (100.0 * width - f64::from(hundredths)).abs() < 1e-9;
        let known = exact && widths.contains(&hundredths);
        known.then(|| format!("{family}_{hundredths:03}"))
    };
    let large = &[75, 100];
    match (flavour, backbone) {
        (Flavour::Torch, "mobilenet_v2") => named("mobilenetv2", &[35, 50, 75, 100, 140]),
        (Flavour::Torch, "mobilenet_v3_large") => named("mobilenetv3_large", large),
        (Flavour::Torch, "mobilenet_v3_small") => named("mobilenetv3_small", &[50, 75, 100]),
        (Flavour::Tf, "mobilenet_v3_large") => named("tf_mobilenetv3_large", large),
        (Flavour::Tf, "mobilenet_v3_small") => named("tf_mobilenetv3_small", &[75, 100]),
        _ if width != 1.0 => None,
        (Flavour::Tf, name) if name.starts_with("efficientnet") => Some(format!("tf_{name}")),
        (Flavour::Tf, _) | (_, "googlenet" | "squeezenet1_1") => None,
        (_, "dinov2_base_14") => Some("vit_base_patch14_dinov2".into()),
        (_, "dinov2_small_14") => Some("vit_small_patch14_dinov2".into()),
        (_, "vit_small_16") => Some("vit_small_patch16_224".into()),
        (_, "xception") => Some("legacy_xception".into()),
        (_, name) => Some(name.into()),
    }
}

fn torchvision(backbone: &str, width: f64, flavour: Flavour) -> Option<String> {
    let lacking = [
        "dinov2_base_14",
        "dinov2_small_14",
        "vit_small_16",
        "xception",
    ];
    let fits = width == 1.0 || backbone == "mobilenet_v2";
    let has = flavour == Flavour::Torch && fits && !lacking.contains(&backbone);
    has.then(|| backbone.to_owned())
}
