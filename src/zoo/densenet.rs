//! DenseNet-121 (Huang et al., 2017), <https://arxiv.org/abs/1608.06993>: every layer of a block
//! reads all layers before it. Layer names and order are those of keras.applications.

use super::parts::{self, chain, conv, window};
use super::registry::{Family, Pretrained};
use crate::config::{Flavour, Interpolation, NormalizeName};
use crate::geometry::{Padding, Window};
use crate::graph::{GraphBuilder, GraphError, Op};

pub(super) const DENSENET121: Family = Family {
    name: "densenet121",
    title: "DenseNet-121 (Huang et al., 2017)",
    default_size: 224,
    crop: 0.875,
    interpolation: Interpolation::Bicubic,
    // Keras' weights, too: its `torch` mode.
    normalize: |_| NormalizeName::Imagenet,
    widths: None,
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/densenet121.ra_in1k",
        licence: "Apache-2.0",
    }],
    build: |builder, _, flavour| build(builder, flavour, [6, 12, 24, 16]),
    classify: |builder, classes, _| parts::classify(builder, "avg_pool", classes),
    auxiliaries: &[],
};

/// Channels that a layer adds to its block, `k` in the paper.
const GROWTH: usize = 32;
/// Channels of the 1 x 1 convolution before it.
const BOTTLENECK: usize = 4 * GROWTH;

fn build(
    builder: &mut GraphBuilder,
    flavour: Flavour,
    blocks: [usize; 4],
) -> Result<(), GraphError> {
    let norm = parts::norm_of_resnets(flavour);
    let stem = [
        ("zero_padding2d".into(), Op::Pad(Padding::same(3))),
        ("conv1_conv".into(), conv(2 * GROWTH, window(7, 2, 0))),
        ("conv1_bn".into(), norm),
        ("conv1_relu".into(), Op::RELU),
        ("zero_padding2d".into(), Op::Pad(Padding::same(1))),
        (
            "pool1".into(),
            Op::MaxPool {
                window: window(3, 2, 0),
            },
        ),
    ];
    let mut x = chain(builder, 0, stem)?;
    for (stage, layers) in (2..).zip(blocks) {
        if stage > 2 {
            // Half the channels and half the side.
            let named = |layer: &str| format!("pool{}_{layer}", stage - 1);
            let half = builder.shape(x).channels() / 2;
            let pool = Op::AvgPool {
                window: window(2, 2, 0),
                count_include_pad: true,
            };
            let transition = [
                (named("bn"), norm),
                (named("relu"), Op::RELU),
                (named("conv"), conv(half, Window::POINT)),
                (named("pool"), pool),
            ];
            x = chain(builder, x, transition)?;
        }
        for layer in 1..=layers {
            let named = |part: &str| format!("conv{stage}_block{layer}_{part}");
            let new = [
                (named("0_bn"), norm),
                (named("0_relu"), Op::RELU),
                (named("1_conv"), conv(BOTTLENECK, Window::POINT)),
                (named("1_bn"), norm),
                (named("1_relu"), Op::RELU),
                (named("2_conv"), conv(GROWTH, window(3, 1, 1))),
            ];
            let new = chain(builder, x, new)?;
            x = builder.add(&named("concat"), Op::Concat, &[x, new])?;
        }
    }
    chain(builder, x, [("bn".into(), norm), ("relu".into(), Op::RELU)])?;
    Ok(())
}
