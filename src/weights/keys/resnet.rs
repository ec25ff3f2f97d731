//! Names of ResNets; timm took them over from torchvision.

/// `conv3_block2_1_bn` is `layer2.1.bn1`.
pub(super) fn module(layer: &str) -> Option<String> {
    if layer == "predictions" {
        return Some("fc".into());
    }
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
