//! ConvNeXt (Liu et al., 2022), <https://arxiv.org/abs/2201.03545>: depthwise 7 x 7 convolutions, a
//! layer norm, and two dense layers along the channels. Layer names and order are those of
//! keras.applications, whose normalisation of pixels does nothing here: `data.normalize` is in
//! charge. Both houses' weights fit one architecture; the norm at the end acts on what is pooled.

use super::parts::{same, window};
use super::registry::{Family, Pretrained};
use crate::activation::Activation;
use crate::config::{Flavour, Interpolation, NormalizeName};
use crate::graph::{GraphBuilder, GraphError, NodeId, Op};

pub(super) const TINY: Family = Family {
    name: "convnext_tiny",
    title: "ConvNeXt-T (Liu et al., 2022)",
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/convnext_tiny.fb_in22k_ft_in1k",
        licence: "Apache-2.0",
    }],
    build: |builder, _, _| build(builder, "convnext_tiny", CHANNELS, [3, 3, 9, 3]),
    default_size: 224,
    crop: 0.875,
    interpolation: Interpolation::Bicubic,
    normalize: |_| NormalizeName::Imagenet,
    widths: None,
    classify,
    auxiliaries: &[],
};

pub(super) const SMALL: Family = Family {
    name: "convnext_small",
    title: "ConvNeXt-S (Liu et al., 2022)",
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/convnext_small.fb_in22k_ft_in1k",
        licence: "Apache-2.0",
    }],
    build: |builder, _, _| build(builder, "convnext_small", CHANNELS, [3, 3, 27, 3]),
    ..TINY
};

/// Section 2 of the paper: channels of each stage of the two smaller nets.
const CHANNELS: [usize; 4] = [96, 192, 384, 768];
/// How much wider the inner dense layer is.
const EXPANSION: usize = 4;

const NORM: Op = Op::LayerNorm { epsilon: 1e-6 };

fn build(
    builder: &mut GraphBuilder,
    name: &str,
    channels: [usize; 4],
    blocks: [usize; 4],
) -> Result<(), GraphError> {
    let nothing = Op::Activation(Activation::Linear);
    builder.add(&format!("{name}_prestem_normalization"), nothing, &[0])?;
    let stem = Op::Conv2d {
        filters: channels[0],
        window: window(4, 4, 0),
        groups: 1,
        bias: true,
    };
    builder.add(&format!("{name}_stem"), stem, &[builder.last()])?;
    let mut x = builder.join(&format!("{name}_stem_layernorm"), NORM)?;
    for (stage, (channels, blocks)) in channels.into_iter().zip(blocks).enumerate() {
        if stage > 0 {
            let index = stage - 1;
            builder.add(&format!("{name}_downsampling_block_{index}"), NORM, &[x])?;
            let halve = Op::Conv2d {
                filters: channels,
                window: window(2, 2, 0),
                groups: 1,
                bias: true,
            };
            x = builder.join(&format!("{name}_downsampling_conv_{index}"), halve)?;
        }
        for block in 0..blocks {
            let prefix = format!("{name}_stage_{stage}_block_{block}");
            x = append_block(builder, &prefix, channels, x)?;
        }
    }
    builder.add("layer_normalization", NORM, &[x])?;
    Ok(())
}

/// A net for tests: a few blocks of few channels.
#[cfg(test)]
pub(crate) fn tiny(builder: &mut GraphBuilder) -> Result<(), GraphError> {
    build(builder, "tiny", [8, 8, 8, 12], [1, 1, 1, 2])
}

/// The residual block. Keras adds without a layer of its own, behind a layer that only names the
/// place.
fn append_block(
    builder: &mut GraphBuilder,
    prefix: &str,
    channels: usize,
    input: NodeId,
) -> Result<NodeId, GraphError> {
    let filter = Op::DepthwiseConv2d {
        window: same([7, 7]),
        bias: true,
    };
    let expand = Op::PointwiseDense {
        units: EXPANSION * channels,
    };
    let mut x = input;
    for (layer, op) in [
        ("depthwise_conv", filter),
        ("layernorm", NORM),
        ("pointwise_conv_1", expand),
        ("gelu", Op::Activation(Activation::Gelu)),
        ("pointwise_conv_2", Op::PointwiseDense { units: channels }),
        ("layer_scale", Op::LayerScale { initial: 1e-6 }),
    ] {
        x = builder.add(&format!("{prefix}_{layer}"), op, &[x])?;
    }
    builder.add(&format!("{prefix}_identity"), Op::Add, &[input, x])
}

/// Mean, norm and a dense layer.
fn classify(builder: &mut GraphBuilder, classes: usize, _: Flavour) -> Result<(), GraphError> {
    builder.pool("head_gap", Op::GlobalAvgPool)?;
    builder.add(
        "predictions",
        Op::Dense { units: classes },
        &[builder.last()],
    )?;
    Ok(())
}
