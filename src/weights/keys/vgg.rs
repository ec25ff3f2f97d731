//! Names of VGG nets; timm took them over from torchvision.

/// `block2_conv1` is `features.5`: each convolution counts with its ReLU, each block with its pool.
pub(super) fn module(layer: &str, convolutions: [usize; 5]) -> Option<String> {
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
