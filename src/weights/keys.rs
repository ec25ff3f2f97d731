//! Names of our parameters in checkpoints of other houses: one file a family.

mod convnext;
mod densenet;
mod efficientnet;
mod googlenet;
mod inception_v3;
mod mobilenet_v2;
mod mobilenet_v3;
mod resnet;
mod squeezenet;
mod vgg;
mod vit;
mod xception;

use std::fmt;

/// Who named the tensors of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// Ourselves: `layer/kernel`.
    Xp,
    /// torchvision: `features.0.0.weight`.
    Torchvision,
    /// timm: `blocks.1.0.conv_pw.weight`.
    Timm,
    /// Keras, as the reader of its files gives them: `layer/kernel` with Keras' name of the layer.
    Keras,
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Xp => "xp",
            Self::Torchvision => "torchvision",
            Self::Timm => "timm",
            Self::Keras => "Keras",
        })
    }
}

/// What to add to the running variances of a house whose batch norms of a family have a larger
/// epsilon than ours of PyTorch's flavour: the sum of both is what a norm divides by.
pub fn variance_gap(family: &str, naming: Naming) -> Option<f64> {
    let torchvision = naming == Naming::Torchvision && family.starts_with("mobilenet_v3");
    torchvision.then_some(1e-3 - 1e-5)
}

/// The checkpoint's name of our parameter `layer/variable`; `None` if that naming does not cover
/// the family or the layer.
pub fn checkpoint_key(family: &str, naming: Naming, parameter: &str) -> Option<String> {
    // Our layers bear Keras' names where it has the architecture.
    if matches!(naming, Naming::Xp | Naming::Keras) {
        return Some(parameter.into());
    }
    let (layer, variable) = parameter.split_once('/')?;
    match family {
        "convnext_small" | "convnext_tiny" => return convnext::key(naming, layer, variable),
        "dinov2_base_14" | "dinov2_small_14" | "vit_small_16" => {
            return vit::key(naming, layer, variable);
        }
        _ => {}
    }
    let variable = match variable {
        "kernel" | "gamma" => "weight",
        "bias" | "beta" => "bias",
        "moving_mean" => "running_mean",
        "moving_variance" => "running_var",
        _ => return None,
    };
    let module = match family {
        "densenet121" => densenet::module(layer)?,
        "googlenet" => googlenet::module(layer)?,
        "efficientnet_b0" | "efficientnet_b1" | "efficientnet_b2" | "efficientnet_b3" => {
            efficientnet::module(naming, layer)?
        }
        "inception_v3" => inception_v3::module(layer)?,
        "mobilenet_v2" => mobilenet_v2::module(naming, layer)?,
        "mobilenet_v3_large" => mobilenet_v3::module(naming, layer, &mobilenet_v3::LARGE)?,
        "mobilenet_v3_small" => mobilenet_v3::module(naming, layer, &mobilenet_v3::SMALL)?,
        "resnet18" | "resnet34" | "resnet50" | "resnet101" => resnet::module(layer)?,
        "squeezenet1_1" => squeezenet::module(layer)?,
        "vgg16" => vgg::module(naming, layer, [2, 2, 3, 3, 3], false)?,
        "vgg16_bn" => vgg::module(naming, layer, [2, 2, 3, 3, 3], true)?,
        "vgg19" => vgg::module(naming, layer, [2, 2, 4, 4, 4], false)?,
        "vgg19_bn" => vgg::module(naming, layer, [2, 2, 4, 4, 4], true)?,
        "xception" if naming == Naming::Timm => xception::module(layer)?,
        _ => return None,
    };
    Some(format!("{module}.{variable}"))
}

/// Channels of the map that a dense kernel of a family reads, where it reads a flattened one: other
/// houses flatten channel, height, width, and we flatten height, width, channel.
pub fn flattened_channels(family: &str, naming: Naming, parameter: &str) -> Option<usize> {
    match (naming, parameter) {
        (Naming::Torchvision | Naming::Timm, "fc1/kernel") if family.starts_with("vgg") => {
            Some(512)
        }
        _ => None,
    }
}
