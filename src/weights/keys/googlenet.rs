//! GoogLeNet's names in torchvision; timm does not have it.

/// `inception_3a_5x5_reduce` is `inception3a.branch3.0.conv`, and its norm the `bn` beside it.
pub(super) fn module(layer: &str) -> Option<String> {
    if layer == "predictions" {
        return Some("fc".into());
    }
    let (layer, part) = match layer.strip_suffix("_bn") {
        Some(layer) => (layer, "bn"),
        None => (layer, "conv"),
    };
    let module = match layer {
        "conv1" => "conv1".into(),
        "conv2_reduce" => "conv2".into(),
        "conv2" => "conv3".into(),
        _ => {
            let (module, branch) = layer.strip_prefix("inception_")?.split_once('_')?;
            let branch = match branch {
                "1x1" => "branch1",
                "3x3_reduce" => "branch2.0",
                "3x3" => "branch2.1",
                "5x5_reduce" => "branch3.0",
                "5x5" => "branch3.1",
                "pool_proj" => "branch4.1",
                _ => return None,
            };
            format!("inception{module}.{branch}")
        }
    };
    Some(format!("{module}.{part}"))
}
