//! MobileNetV2's names.

use super::Naming;

/// Module of a layer; both houses count blocks, timm within stages.
pub(super) fn module(naming: Naming, layer: &str) -> Option<String> {
    match naming {
        Naming::Xp => None,
        Naming::Torchvision => torchvision(layer),
        Naming::Timm => timm(layer),
    }
}

fn torchvision(layer: &str) -> Option<String> {
    Some(match layer {
        "Conv1" => "features.0.0".into(),
        "bn_Conv1" => "features.0.1".into(),
        "Conv_1" => "features.18.0".into(),
        "Conv_1_bn" => "features.18.1".into(),
        "predictions" => "classifier.1".into(),
        _ => {
            let (block, part) = block_of(layer)?;
            // The first block has no expansion, so its parts move up by one.
            let part = match (block, part) {
                (0, "depthwise") | (1.., "expand") => "0.0",
                (0, "depthwise_BN") | (1.., "expand_BN") => "0.1",
                (0, "project") => "1",
                (0, "project_BN") => "2",
                (1.., "depthwise") => "1.0",
                (1.., "depthwise_BN") => "1.1",
                (1.., "project") => "2",
                (1.., "project_BN") => "3",
                _ => return None,
            };
            format!("features.{}.conv.{part}", block + 1)
        }
    })
}

fn timm(layer: &str) -> Option<String> {
    /// Number of the first block of each stage.
    const STAGES: [usize; 7] = [0, 1, 3, 6, 10, 13, 16];
    Some(match layer {
        "Conv1" => "conv_stem".into(),
        "bn_Conv1" => "bn1".into(),
        "Conv_1" => "conv_head".into(),
        "Conv_1_bn" => "bn2".into(),
        "predictions" => "classifier".into(),
        _ => {
            let (block, part) = block_of(layer)?;
            let stage = STAGES.iter().rposition(|&first| first <= block)?;
            let part = match (block, part) {
                (0, "depthwise") => "conv_dw",
                (0, "depthwise_BN") => "bn1",
                (0, "project") => "conv_pw",
                (0, "project_BN") => "bn2",
                (1.., "expand") => "conv_pw",
                (1.., "expand_BN") => "bn1",
                (1.., "depthwise") => "conv_dw",
                (1.., "depthwise_BN") => "bn2",
                (1.., "project") => "conv_pwl",
                (1.., "project_BN") => "bn3",
                _ => return None,
            };
            format!("blocks.{stage}.{}.{part}", block - STAGES[stage])
        }
    })
}

/// `block_7_expand_BN` is part `expand_BN` of block 7; `expanded_conv` is block 0.
fn block_of(layer: &str) -> Option<(usize, &str)> {
    if let Some(part) = layer.strip_prefix("expanded_conv_") {
        return Some((0, part));
    }
    let (number, part) = layer.strip_prefix("block_")?.split_once('_')?;
    let number: usize = number.parse().ok()?;
    (1..=16).contains(&number).then_some((number, part))
}
