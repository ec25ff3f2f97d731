//! EfficientNet's names.

use super::Naming;

/// Module of a layer; both houses count stages, and blocks within them.
pub(super) fn module(naming: Naming, layer: &str) -> Option<String> {
    match naming {
        Naming::Torchvision => torchvision(layer),
        Naming::Timm => timm(layer),
        _ => None,
    }
}

fn torchvision(layer: &str) -> Option<String> {
    Some(match layer {
        "stem_conv" => "features.0.0".into(),
        "stem_bn" => "features.0.1".into(),
        "top_conv" => "features.8.0".into(),
        "top_bn" => "features.8.1".into(),
        "predictions" => "classifier.1".into(),
        _ => {
            let ([stage, block], part) = block_of(layer)?;
            // The first stage has no expansion, so its parts move up by one.
            let moved = usize::from(stage > 1);
            let part = match part {
                "expand_conv" => "0.0".into(),
                "expand_bn" => "0.1".into(),
                "dwconv" => format!("{moved}.0"),
                "bn" => format!("{moved}.1"),
                "se_reduce" => format!("{}.fc1", moved + 1),
                "se_expand" => format!("{}.fc2", moved + 1),
                "project_conv" => format!("{}.0", moved + 2),
                "project_bn" => format!("{}.1", moved + 2),
                _ => return None,
            };
            format!("features.{stage}.{block}.block.{part}")
        }
    })
}

fn timm(layer: &str) -> Option<String> {
    Some(match layer {
        "stem_conv" => "conv_stem".into(),
        "stem_bn" => "bn1".into(),
        "top_conv" => "conv_head".into(),
        "top_bn" => "bn2".into(),
        "predictions" => "classifier".into(),
        _ => {
            let ([stage, block], part) = block_of(layer)?;
            let part = match (stage, part) {
                (_, "dwconv") => "conv_dw",
                (_, "se_reduce") => "se.conv_reduce",
                (_, "se_expand") => "se.conv_expand",
                (1, "bn") | (2.., "expand_bn") => "bn1",
                (1, "project_conv") | (2.., "expand_conv") => "conv_pw",
                (1, "project_bn") | (2.., "bn") => "bn2",
                (2.., "project_conv") => "conv_pwl",
                (2.., "project_bn") => "bn3",
                _ => return None,
            };
            format!("blocks.{}.{block}.{part}", stage - 1)
        }
    })
}

/// `block2a_expand_bn` is part `expand_bn` of block 0 of stage 2.
fn block_of(layer: &str) -> Option<([usize; 2], &str)> {
    let (block, part) = layer.strip_prefix("block")?.split_once('_')?;
    match *block.as_bytes() {
        [stage @ b'1'..=b'7', letter @ b'a'..=b'z'] => Some((
            [usize::from(stage - b'0'), usize::from(letter - b'a')],
            part,
        )),
        _ => None,
    }
}
