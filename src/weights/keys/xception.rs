//! Xception's names in timm's `legacy_xception`; torchvision does not have it.

/// `block5_sepconv2` is the depthwise half of `block4.rep.4`: the stem is no block there, and ReLUs
/// count.
pub(super) fn module(layer: &str) -> Option<String> {
    let fixed = match layer {
        "block1_conv1" => "conv1",
        "block1_conv1_bn" => "bn1",
        "block1_conv2" => "conv2",
        "block1_conv2_bn" => "bn2",
        "predictions" => "fc",
        _ => return shortcut(layer).or_else(|| separable(layer)),
    };
    Some(fixed.into())
}

/// Way past a block that halves the map.
fn shortcut(layer: &str) -> Option<String> {
    let (number, part) = match layer.strip_prefix("conv2d") {
        Some(number) => (number, "skip"),
        None => (layer.strip_prefix("batch_normalization")?, "skipbn"),
    };
    let block = match number {
        "" => 1,
        "_1" => 2,
        "_2" => 3,
        "_3" => 12,
        _ => return None,
    };
    Some(format!("block{block}.{part}"))
}

fn separable(layer: &str) -> Option<String> {
    let (block, rest) = layer.strip_prefix("block")?.split_once("_sepconv")?;
    let block = block.parse::<usize>().ok()?.checked_sub(1)?;
    let (number, part) = rest.split_once('_').unwrap_or((rest, ""));
    let number = number.parse::<usize>().ok()?.checked_sub(1)?;
    let half = match part {
        "" => ".conv1",
        "pointwise" => ".pointwise",
        "bn" => "",
        _ => return None,
    };
    if block == 13 {
        let kind = if part == "bn" { "bn" } else { "conv" };
        return Some(format!("{kind}{}{half}", number + 3));
    }
    // The first block lacks the ReLU that the others start with.
    let position = 3 * number + usize::from(block > 1) + usize::from(part == "bn");
    Some(format!("block{block}.rep.{position}{half}"))
}
