//! MobileNetV3's names.

use super::Naming;

/// Where the houses differ in how they count.
pub(super) struct Variant {
    /// Number of the first block of each of timm's stages, and of all blocks.
    stages: &'static [usize],
    /// Blocks with squeeze and excitation.
    excited: &'static [usize],
}

pub(super) const SMALL: Variant = Variant {
    stages: &[0, 1, 3, 6, 8, 11],
    excited: &[0, 3, 4, 5, 6, 7, 8, 9, 10],
};

pub(super) const LARGE: Variant = Variant {
    stages: &[0, 1, 3, 6, 10, 12, 15],
    excited: &[3, 4, 5, 10, 11, 12, 13, 14],
};

/// Module of a layer; both houses count blocks, timm within stages.
pub(super) fn module(naming: Naming, layer: &str, variant: &Variant) -> Option<String> {
    match naming {
        Naming::Torchvision => torchvision(layer, variant),
        Naming::Timm => timm(layer, variant),
        _ => None,
    }
}

fn torchvision(layer: &str, variant: &Variant) -> Option<String> {
    let blocks = *variant.stages.last()?;
    Some(match layer {
        "conv" => "features.0.0".into(),
        "conv_bn" => "features.0.1".into(),
        "conv_1" => format!("features.{}.0", blocks + 1),
        "conv_1_bn" => format!("features.{}.1", blocks + 1),
        "conv_2" => "classifier.0".into(),
        "logits" => "classifier.3".into(),
        _ => {
            let (block, part) = block_of(layer, blocks)?;
            // Parts that a block lacks do not count.
            let depthwise = usize::from(block > 0);
            let excite = depthwise + 1;
            let project = excite + usize::from(variant.excited.contains(&block));
            let part = match part {
                "expand" => "0.0".into(),
                "expand_bn" => "0.1".into(),
                "depthwise" => format!("{depthwise}.0"),
                "depthwise_bn" => format!("{depthwise}.1"),
                "squeeze_excite_conv" => format!("{excite}.fc1"),
                "squeeze_excite_conv_1" => format!("{excite}.fc2"),
                "project" => format!("{project}.0"),
                "project_bn" => format!("{project}.1"),
                _ => return None,
            };
            format!("features.{}.block.{part}", block + 1)
        }
    })
}

fn timm(layer: &str, variant: &Variant) -> Option<String> {
    let (blocks, stages) = variant.stages.split_last()?;
    Some(match layer {
        "conv" => "conv_stem".into(),
        "conv_bn" => "bn1".into(),
        "conv_1" => format!("blocks.{}.0.conv", stages.len()),
        "conv_1_bn" => format!("blocks.{}.0.bn1", stages.len()),
        "conv_2" => "conv_head".into(),
        "logits" => "classifier".into(),
        _ => {
            let (block, part) = block_of(layer, *blocks)?;
            let stage = stages.iter().rposition(|&first| first <= block)?;
            let part = match (block, part) {
                (_, "depthwise") => "conv_dw",
                (0, "depthwise_bn") | (1.., "expand_bn") => "bn1",
                (0, "project") | (1.., "expand") => "conv_pw",
                (0, "project_bn") | (1.., "depthwise_bn") => "bn2",
                (1.., "project") => "conv_pwl",
                (1.., "project_bn") => "bn3",
                (_, "squeeze_excite_conv") => "se.conv_reduce",
                (_, "squeeze_excite_conv_1") => "se.conv_expand",
                _ => return None,
            };
            format!("blocks.{stage}.{}.{part}", block - stages[stage])
        }
    })
}

/// `expanded_conv_7_expand_bn` is part `expand_bn` of block 7; without a number it is block 0.
fn block_of(layer: &str, blocks: usize) -> Option<(usize, &str)> {
    let rest = layer.strip_prefix("expanded_conv_")?;
    match rest.split_once('_') {
        Some((number, part)) if number.starts_with(|c: char| c.is_ascii_digit()) => {
            let number: usize = number.parse().ok()?;
            (1..blocks).contains(&number).then_some((number, part))
        }
        _ => Some((0, rest)),
    }
}
