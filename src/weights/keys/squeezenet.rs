//! SqueezeNet 1.1's names in torchvision; timm does not have it.

/// `fire5_expand1x1` is `features.7.expand1x1`; pools and ReLUs count, too.
pub(super) fn module(layer: &str) -> Option<String> {
    /// Position of each fire module, from the second on.
    const FIRES: [usize; 8] = [3, 4, 6, 7, 9, 10, 11, 12];
    match layer {
        "conv1" => return Some("features.0".into()),
        "predictions" => return Some("classifier.1".into()),
        _ => {}
    }
    let (number, part) = layer.strip_prefix("fire")?.split_once('_')?;
    let number = number.parse::<usize>().ok()?.checked_sub(2)?;
    let position = FIRES.get(number)?;
    let part = if part == "squeeze1x1" {
        "squeeze"
    } else {
        part
    };
    Some(format!("features.{position}.{part}"))
}
