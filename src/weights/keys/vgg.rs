//! Names of VGG nets; timm took those of the convolutions over from torchvision.

use super::Naming;

/// `block2_conv1` is `features.5`: each convolution counts with its ReLU, and with its norm where
/// the net has `norms`; each block with its pool.
pub(super) fn module(
    naming: Naming,
    layer: &str,
    convolutions: [usize; 5],
    norms: bool,
) -> Option<String> {
    let classifier = match naming {
        Naming::Timm => ["pre_logits.fc1", "pre_logits.fc2", "head.fc"],
        _ => ["classifier.0", "classifier.3", "classifier.6"],
    };
    let dense = ["fc1", "fc2", "predictions"];
    if let Some(at) = dense.iter().position(|name| *name == layer) {
        return Some(classifier[at].into());
    }
    let (layer, part) = match layer.strip_suffix("_bn") {
        Some(layer) if norms => (layer, 1),
        _ => (layer, 0),
    };
    let (block, conv) = layer.strip_prefix("block")?.split_once("_conv")?;
    let block = block.parse::<usize>().ok()?.checked_sub(1)?;
    let conv = conv.parse::<usize>().ok()?.checked_sub(1)?;
    let inside = *convolutions.get(block)? > conv;
    let modules = if norms { 3 } else { 2 };
    let below: usize = convolutions[..block]
        .iter()
        .map(|count| modules * count + 1)
        .sum();
    inside.then(|| format!("features.{}", below + modules * conv + part))
}
