//! Vision transformers: ViT (Dosovitskiy et al., 2021), <https://arxiv.org/abs/2010.11929>, with
//! the weights of Steiner et al. (2022), and DINOv2 (Oquab et al., 2024),
//! <https://arxiv.org/abs/2304.07193>. The last layer of the backbone is the norm over all tokens,
//! the class token first; `model.pooling` takes the class token, or the mean or maximum of the
//! others. Position embeddings are brought to the picture's grid when weights are loaded.

use super::registry::{Family, Pretrained};
use crate::activation::Activation;
use crate::config::{Flavour, Interpolation, NormalizeName};
use crate::geometry::{Padding, Window};
use crate::graph::{GraphBuilder, GraphError, NodeId, Op, Shape};

pub(super) const VIT_SMALL_16: Family = Family {
    name: "vit_small_16",
    title: "ViT-S/16 (Dosovitskiy et al., 2021; Steiner et al., 2022)",
    default_size: 224,
    crop: 0.9,
    interpolation: Interpolation::Bicubic,
    normalize: |_| NormalizeName::MinusOneOne,
    widths: None,
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
        licence: "Apache-2.0",
    }],
    build: |builder, _, _| {
        let size = Size {
            patch: 16,
            scale: None,
            ..SMALL
        };
        build(builder, size)
    },
    classify,
    auxiliaries: &[],
};

pub(super) const DINOV2_SMALL_14: Family = Family {
    name: "dinov2_small_14",
    title: "DINOv2 ViT-S/14 (Oquab et al., 2024)",
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/vit_small_patch14_dinov2.lvd142m",
        licence: "Apache-2.0",
    }],
    build: |builder, _, _| build(builder, SMALL),
    // Published for 518, where a picture costs six times as much; features at 224 are nearly as good.
    default_size: 224,
    crop: 1.0,
    interpolation: Interpolation::Bicubic,
    normalize: |_| NormalizeName::Imagenet,
    widths: None,
    classify,
    auxiliaries: &[],
};

pub(super) const DINOV2_BASE_14: Family = Family {
    name: "dinov2_base_14",
    title: "DINOv2 ViT-B/14 (Oquab et al., 2024)",
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/vit_base_patch14_dinov2.lvd142m",
        licence: "Apache-2.0",
    }],
    build: |builder, _, _| build(builder, BASE),
    ..DINOV2_SMALL_14
};

/// What makes one net larger than another.
#[derive(Debug, Clone, Copy)]
struct Size {
    patch: usize,
    channels: usize,
    heads: usize,
    blocks: usize,
    /// What the factors on every residual start from; DINOv2 alone has them.
    scale: Option<f64>,
}

const SMALL: Size = Size {
    patch: 14,
    channels: 384,
    heads: 6,
    blocks: 12,
    scale: Some(1e-5),
};

const BASE: Size = Size {
    channels: 768,
    heads: 12,
    ..SMALL
};

/// How much wider the inner dense layer is.
const EXPANSION: usize = 4;

const NORM: Op = Op::LayerNorm { epsilon: 1e-6 };

fn build(builder: &mut GraphBuilder, size: Size) -> Result<(), GraphError> {
    check_size(builder, size.patch)?;
    let embed = Op::Conv2d {
        filters: size.channels,
        window: Window {
            kernel: [size.patch; 2],
            stride: [size.patch; 2],
            dilation: [1; 2],
            padding: Padding::default(),
        },
        groups: 1,
        bias: true,
    };
    let mut x = 0;
    for (name, op) in [
        ("patch_embedding", embed),
        ("position_embedding", Op::PositionEmbedding),
        ("class_token", Op::ClassToken),
    ] {
        x = builder.add(name, op, &[x])?;
    }
    for block in 0..size.blocks {
        x = append_block(builder, block, size, x)?;
    }
    builder.add("norm", NORM, &[x])?;
    Ok(())
}

/// A net for tests: two blocks of eight channels on patches of 4 x 4 pixels.
#[cfg(test)]
pub(crate) fn tiny(builder: &mut GraphBuilder) -> Result<(), GraphError> {
    let size = Size {
        patch: 4,
        channels: 8,
        heads: 2,
        blocks: 2,
        scale: Some(1e-5),
    };
    build(builder, size)
}

/// Pictures must consist of whole patches.
fn check_size(builder: &GraphBuilder, patch: usize) -> Result<(), GraphError> {
    let Shape::Map { height, width, .. } = builder.shape(0) else {
        return Ok(());
    };
    if height % patch == 0 && width % patch == 0 && height * width > 0 {
        return Ok(());
    }
    let below = |side: usize| (side / patch).max(1) * patch;
    let above = |side: usize| side.div_ceil(patch).max(1) * patch;
    let square = height == width;
    let written = |height: usize, width: usize| match square {
        true => height.to_string(),
        false => format!("[{height}, {width}]"),
    };
    let (smaller, larger) = (
        written(below(height), below(width)),
        written(above(height), above(width)),
    );
    let choice = match smaller == larger {
        true => smaller,
        false => format!("{smaller} or {larger}"),
    };
    Err(GraphError::new(
        "data.image_size",
        format!(
            "pictures of {height} x {width} pixels cannot be cut into patches of {patch} x {patch}"
        ),
        format!("the nearest sizes that fit: {choice}"),
    ))
}

/// Attention and two dense layers, a norm before and a residual around each.
fn append_block(
    builder: &mut GraphBuilder,
    block: usize,
    size: Size,
    input: NodeId,
) -> Result<NodeId, GraphError> {
    let Size {
        channels, heads, ..
    } = size;
    let dense = |units| Op::PointwiseDense { units };
    let scale = size.scale.map(|initial| Op::LayerScale { initial });
    let mut residual = |input: NodeId, layers: &[(&str, Option<Op>)], sum: &str| {
        let mut x = input;
        for (layer, op) in layers {
            if let Some(op) = *op {
                x = builder.add(&format!("block_{block}_{layer}"), op, &[x])?;
            }
        }
        builder.add(&format!("block_{block}_{sum}"), Op::Add, &[input, x])
    };
    let attend = [
        ("norm1", Some(NORM)),
        ("qkv", Some(dense(3 * channels))),
        ("attention", Some(Op::Attention { heads })),
        ("projection", Some(dense(channels))),
        ("scale1", scale),
    ];
    let x = residual(input, &attend, "add1")?;
    let mix = [
        ("norm2", Some(NORM)),
        ("expand", Some(dense(EXPANSION * channels))),
        ("gelu", Some(Op::Activation(Activation::Gelu))),
        ("project", Some(dense(channels))),
        ("scale2", scale),
    ];
    residual(x, &mix, "add2")
}

/// A dense layer on the class token.
fn classify(builder: &mut GraphBuilder, classes: usize, _: Flavour) -> Result<(), GraphError> {
    builder.add("pooled_token", Op::TakeClassToken, &[builder.last()])?;
    builder.add(
        "predictions",
        Op::Dense { units: classes },
        &[builder.last()],
    )?;
    Ok(())
}
