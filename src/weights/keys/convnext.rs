//! Names of ConvNeXt nets.

use super::Naming;

/// Key of a parameter. `convnext_tiny_stage_2_block_1_pointwise_conv_1` is
/// `stages.2.blocks.1.mlp.fc1` to timm and `features.5.1.block.3` to torchvision, which counts
/// halving layers as stages.
pub(super) fn key(naming: Naming, layer: &str, variable: &str) -> Option<String> {
    let timm = naming == Naming::Timm;
    let suffix = match variable {
        "kernel" | "gamma" => "weight",
        "bias" | "beta" => "bias",
        _ => return None,
    };
    let module = if layer == "layer_normalization" {
        (if timm { "head.norm" } else { "classifier.0" }).to_owned()
    } else if layer == "predictions" {
        (if timm { "head.fc" } else { "classifier.2" }).to_owned()
    } else {
        let layer = layer.strip_prefix("convnext_")?.split_once('_')?.1;
        match layer.split_once('_').unwrap_or((layer, "")) {
            ("stem", "") => (if timm { "stem.0" } else { "features.0.0" }).to_owned(),
            ("stem", "layernorm") => (if timm { "stem.1" } else { "features.0.1" }).to_owned(),
            ("downsampling", place) => {
                let (part, index) = place.split_once('_')?;
                let index: usize = index.parse().ok()?;
                let part = match part {
                    "block" => 0,
                    "conv" => 1,
                    _ => return None,
                };
                match timm {
                    true => format!("stages.{}.downsample.{part}", index + 1),
                    false => format!("features.{}.{part}", 2 * index + 2),
                }
            }
            ("stage", place) => {
                let (stage, place) = place.split_once("_block_")?;
                let stage: usize = stage.parse().ok()?;
                let (block, part) = place.split_once('_')?;
                let block: usize = block.parse().ok()?;
                let prefix = match timm {
                    true => format!("stages.{stage}.blocks.{block}"),
                    false => format!("features.{}.{block}", 2 * stage + 1),
                };
                let [ours, theirs] = match part {
                    "depthwise_conv" => ["conv_dw", "block.0"],
                    "layernorm" => ["norm", "block.2"],
                    "pointwise_conv_1" => ["mlp.fc1", "block.3"],
                    "pointwise_conv_2" => ["mlp.fc2", "block.5"],
                    "layer_scale" => {
                        let scale = if timm { "gamma" } else { "layer_scale" };
                        return Some(format!("{prefix}.{scale}"));
                    }
                    _ => return None,
                };
                format!("{prefix}.{}", if timm { ours } else { theirs })
            }
            _ => return None,
        }
    };
    Some(format!("{module}.{suffix}"))
}
