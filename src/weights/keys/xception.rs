//! Xception's names in timm's `legacy_xception`.

/// `block5_sepconv2_bn` is `block4.rep.5`: a block counts activations, convolutions and norms.
pub(super) fn module(layer: &str) -> Option<String> {
    if let Some(module) = past(layer) {
        return Some(module);
    }
    let (block, rest) = layer.strip_prefix("block")?.split_once('_')?;
    let block: usize = block.parse().ok()?;
    if block == 1 {
        return Some(match rest {
            "conv1" => "conv1".into(),
            "conv1_bn" => "bn1".into(),
            "conv2" => "conv2".into(),
            "conv2_bn" => "bn2".into(),
            _ => return None,
        });
    }
    let (number, part) = match rest.strip_prefix("sepconv")?.split_once('_') {
        Some((number, part)) => (number, part),
        None => (rest.strip_prefix("sepconv")?, "depthwise"),
    };
    let number = number.parse::<usize>().ok()?.checked_sub(1)?;
    let (place, half) = match part {
        "depthwise" => (0, ".conv1"),
        "pointwise" => (0, ".pointwise"),
        "bn" => (1, ""),
        _ => return None,
    };
    match block {
        // The first of them has no activation before it.
        2 => Some(format!("block1.rep.{}{half}", 3 * number + place)),
        3..=13 => {
            let place = 3 * number + 1 + place;
            Some(format!("block{}.rep.{place}{half}", block - 1))
        }
        14 if place == 1 => Some(format!("bn{}", number + 3)),
        14 => Some(format!("conv{}{half}", number + 3)),
        _ => None,
    }
}

/// The ways past the blocks that halve the map.
fn past(layer: &str) -> Option<String> {
    const BLOCKS: [usize; 4] = [1, 2, 3, 12];
    let (number, part) = match layer.strip_prefix("conv2d") {
        Some(number) => (number, "skip"),
        None => (layer.strip_prefix("batch_normalization")?, "skipbn"),
    };
    let number: usize = match number {
        "" => 0,
        _ => number.strip_prefix('_')?.parse().ok()?,
    };
    Some(format!("block{}.{part}", BLOCKS.get(number)?))
}
