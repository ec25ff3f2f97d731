//! Inception-v3's names; timm took them over from torchvision.

/// `conv2d_8` and `batch_normalization_8` are the conv and the bn of `Mixed_5b.branch3x3dbl_1`:
/// both houses number convolutions in the order of the branches.
pub(super) fn module(layer: &str) -> Option<String> {
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
    if layer == "predictions" {
        return Some("fc".into());
    }
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
