//! timm's names of vision transformers.

use super::Naming;

/// Key of a parameter: `block_3_expand/kernel` is `blocks.3.mlp.fc1.weight`. The position of the
/// class token and those of the patches lie in one tensor.
pub(super) fn key(naming: Naming, layer: &str, variable: &str) -> Option<String> {
    if naming != Naming::Timm {
        return None;
    }
    let suffix = match variable {
        "token" => return Some("cls_token".into()),
        "position" => return Some("pos_embed".into()),
        "kernel" | "gamma" => "weight",
        "bias" | "beta" => "bias",
        _ => return None,
    };
    let module = match layer {
        "patch_embedding" => "patch_embed.proj".to_owned(),
        "norm" => "norm".to_owned(),
        "predictions" => "head".to_owned(),
        _ => {
            let (block, part) = layer.strip_prefix("block_")?.split_once('_')?;
            let block: usize = block.parse().ok()?;
            let part = match part {
                "norm1" | "norm2" => part,
                "qkv" => "attn.qkv",
                "projection" => "attn.proj",
                "expand" => "mlp.fc1",
                "project" => "mlp.fc2",
                "scale1" => return Some(format!("blocks.{block}.ls1.gamma")),
                "scale2" => return Some(format!("blocks.{block}.ls2.gamma")),
                _ => return None,
            };
            format!("blocks.{block}.{part}")
        }
    };
    Some(format!("{module}.{suffix}"))
}
