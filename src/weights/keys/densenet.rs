//! DenseNet-121's names; timm took them over from torchvision.

/// `conv2_block1_0_bn` is `features.denseblock1.denselayer1.norm1`.
pub(super) fn module(layer: &str) -> Option<String> {
    let fixed = match layer {
        "conv1_conv" => "features.conv0",
        "conv1_bn" => "features.norm0",
        "bn" => "features.norm5",
        "predictions" => "classifier",
        _ => {
            let (stage, part) = layer.split_once('_')?;
            return match stage.strip_prefix("pool") {
                Some(stage) => transition(stage, part),
                None => dense_layer(stage.strip_prefix("conv")?, part),
            };
        }
    };
    Some(fixed.into())
}

fn transition(stage: &str, part: &str) -> Option<String> {
    let block = stage.parse::<usize>().ok()?.checked_sub(1)?;
    let part = match part {
        "bn" => "norm",
        "conv" => "conv",
        _ => return None,
    };
    Some(format!("features.transition{block}.{part}"))
}

fn dense_layer(stage: &str, part: &str) -> Option<String> {
    let block = stage.parse::<usize>().ok()?.checked_sub(1)?;
    let (layer, part) = part.strip_prefix("block")?.split_once('_')?;
    let part = match part {
        "0_bn" => "norm1",
        "1_conv" => "conv1",
        "1_bn" => "norm2",
        "2_conv" => "conv2",
        _ => return None,
    };
    Some(format!(
        "features.denseblock{block}.denselayer{layer}.{part}"
    ))
}
