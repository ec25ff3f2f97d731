//! Names of our parameters in checkpoints of other houses.

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
}

impl Naming {
    /// All namings, in the order in which they are tried.
    pub const ALL: [Self; 3] = [Self::Xp, Self::Torchvision, Self::Timm];
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Xp => "xp",
            Self::Torchvision => "torchvision",
            Self::Timm => "timm",
        })
    }
}

/// The checkpoint's name of our parameter `layer/variable`; `None` if that naming does not cover
/// the family or the layer.
pub fn checkpoint_key(family: &str, naming: Naming, parameter: &str) -> Option<String> {
    if naming == Naming::Xp {
        return Some(parameter.into());
    }
    let (layer, variable) = parameter.split_once('/')?;
    let variable = match variable {
        "kernel" | "gamma" => "weight",
        "bias" | "beta" => "bias",
        "moving_mean" => "running_mean",
        "moving_variance" => "running_var",
        _ => return None,
    };
    let module = match (family, naming) {
        ("mobilenet_v2", Naming::Torchvision) => mobilenet_v2_torchvision(layer)?,
        ("mobilenet_v2", Naming::Timm) => mobilenet_v2_timm(layer)?,
        // timm took these names over from torchvision.
        ("resnet50", _) => resnet(layer)?,
        ("vgg16", _) => vgg(layer, [2, 2, 3, 3, 3])?,
        ("vgg19", _) => vgg(layer, [2, 2, 4, 4, 4])?,
        ("inception_v3", _) => inception_v3(layer)?,
        _ => return None,
    };
    Some(format!("{module}.{variable}"))
}

fn mobilenet_v2_torchvision(layer: &str) -> Option<String> {
    Some(match layer {
        "Conv1" => "features.0.0".into(),
        "bn_Conv1" => "features.0.1".into(),
        "Conv_1" => "features.18.0".into(),
        "Conv_1_bn" => "features.18.1".into(),
        _ => {
            let (block, part) = mobilenet_v2_block(layer)?;
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

fn mobilenet_v2_timm(layer: &str) -> Option<String> {
    /// Number of the first block of each stage.
    const STAGES: [usize; 7] = [0, 1, 3, 6, 10, 13, 16];
    Some(match layer {
        "Conv1" => "conv_stem".into(),
        "bn_Conv1" => "bn1".into(),
        "Conv_1" => "conv_head".into(),
        "Conv_1_bn" => "bn2".into(),
        _ => {
            let (block, part) = mobilenet_v2_block(layer)?;
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
fn mobilenet_v2_block(layer: &str) -> Option<(usize, &str)> {
    if let Some(part) = layer.strip_prefix("expanded_conv_") {
        return Some((0, part));
    }
    let (number, part) = layer.strip_prefix("block_")?.split_once('_')?;
    let number: usize = number.parse().ok()?;
    (1..=16).contains(&number).then_some((number, part))
}

/// `conv3_block2_1_bn` is `layer2.1.bn1`.
fn resnet(layer: &str) -> Option<String> {
    let (rest, kind) = layer.rsplit_once('_')?;
    if rest == "conv1" {
        return match kind {
            "conv" => Some("conv1".into()),
            "bn" => Some("bn1".into()),
            _ => None,
        };
    }
    let (stage, rest) = rest.strip_prefix("conv")?.split_once("_block")?;
    let (block, part) = rest.split_once('_')?;
    let stage = stage.parse::<usize>().ok()?.checked_sub(1)?;
    let block = block.parse::<usize>().ok()?.checked_sub(1)?;
    let part = match (part, kind) {
        ("0", "conv") => "downsample.0".into(),
        ("0", "bn") => "downsample.1".into(),
        ("1" | "2" | "3", "conv" | "bn") => format!("{kind}{part}"),
        _ => return None,
    };
    Some(format!("layer{stage}.{block}.{part}"))
}

/// `block2_conv1` is `features.5`: each convolution counts with its ReLU, each block with its pool.
fn vgg(layer: &str, convolutions: [usize; 5]) -> Option<String> {
    let (block, conv) = layer.strip_prefix("block")?.split_once("_conv")?;
    let block = block.parse::<usize>().ok()?.checked_sub(1)?;
    let conv = conv.parse::<usize>().ok()?.checked_sub(1)?;
    let inside = *convolutions.get(block)? > conv;
    let below: usize = convolutions[..block]
        .iter()
        .map(|count| 2 * count + 1)
        .sum();
    inside.then(|| format!("features.{}", below + 2 * conv))
}

/// `conv2d_8` and `batch_normalization_8` are the conv and the bn of `Mixed_5b.branch3x3dbl_1`:
/// both houses number convolutions in the order of the branches.
fn inception_v3(layer: &str) -> Option<String> {
    const STEM: [&str; 5] = [
        "Conv2d_1a_3x3",
        "Conv2d_2a_3x3",
        "Conv2d_2b_3x3",
        "Conv2d_3b_1x1",
        "Conv2d_4a_3x3",
    ];
    const A: &[&str] = &[
        "1x1", "5x5_1", "5x5_2", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3", "_pool",
    ];
    const B: &[&str] = &["3x3", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3"];
    const C: &[&str] = &[
        "1x1", "7x7_1", "7x7_2", "7x7_3", "7x7dbl_1", "7x7dbl_2", "7x7dbl_3", "7x7dbl_4",
        "7x7dbl_5", "_pool",
    ];
    const D: &[&str] = &["3x3_1", "3x3_2", "7x7x3_1", "7x7x3_2", "7x7x3_3", "7x7x3_4"];
    const E: &[&str] = &[
        "1x1",
        "3x3_1",
        "3x3_2a",
        "3x3_2b",
        "3x3dbl_1",
        "3x3dbl_2",
        "3x3dbl_3a",
        "3x3dbl_3b",
        "_pool",
    ];
    const BLOCKS: [(&str, &[&str]); 11] = [
        ("5b", A),
        ("5c", A),
        ("5d", A),
        ("6a", B),
        ("6b", C),
        ("6c", C),
        ("6d", C),
        ("6e", C),
        ("7a", D),
        ("7b", E),
        ("7c", E),
    ];
    let (number, part) = match layer.strip_prefix("conv2d") {
        Some(number) => (number, "conv"),
        None => (layer.strip_prefix("batch_normalization")?, "bn"),
    };
    let number: usize = match number {
        "" => 0,
        _ => number.strip_prefix('_')?.parse().ok()?,
    };
    let stem = STEM.iter().map(|name| format!("{name}.{part}"));
    let branches = BLOCKS.iter().flat_map(|(block, branches)| {
        let named = move |branch| format!("Mixed_{block}.branch{branch}.{part}");
        branches.iter().map(named)
    });
    stem.chain(branches).nth(number)
}
