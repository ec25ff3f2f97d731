//! SqueezeNet 1.1 (Iandola et al., 2016), <https://arxiv.org/abs/1602.07360>: fire modules and no
//! dense layer. Layer names are the paper's; a convolution and its ReLU are one layer. The pools
//! round their output's size up, as Caffe's do.

use super::parts::{max_pool_rounded_up, window};
use super::registry::{Family, Pretrained};
use crate::config::{Flavour, Interpolation, NormalizeName};
use crate::geometry::Window;
use crate::graph::{GraphBuilder, GraphError, NodeId, Op};

pub(super) const SQUEEZENET1_1: Family = Family {
    name: "squeezenet1_1",
    title: "SqueezeNet 1.1 (Iandola et al., 2016)",
    default_size: 224,
    crop: 0.875,
    interpolation: Interpolation::Bilinear,
    normalize: |_| NormalizeName::Imagenet,
    widths: None,
    default_weights: &[Pretrained {
        width: 1.0,
        id: "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
        licence: "BSD-3-Clause",
    }],
    build: |builder, _, _| build(builder),
    classify,
    auxiliaries: &[],
};

/// Channels of a fire module before and, in each of its two halves, after it widens; a pool
/// before it, if there is one.
const FIRES: [(usize, usize, Option<&str>); 8] = [
    (16, 64, Some("pool1")),
    (16, 64, None),
    (32, 128, Some("pool3")),
    (32, 128, None),
    (48, 192, Some("pool5")),
    (48, 192, None),
    (64, 256, None),
    (64, 256, None),
];

fn build(builder: &mut GraphBuilder) -> Result<(), GraphError> {
    let mut x = conv(builder, "conv1", 64, window(3, 2, 0), 0)?;
    for (number, (narrow, wide, pool)) in (2..).zip(FIRES) {
        if let Some(pool) = pool {
            let op = max_pool_rounded_up(builder.shape(x), 3, 2);
            x = builder.add(pool, op, &[x])?;
        }
        let named = |layer: &str| format!("fire{number}_{layer}");
        x = conv(builder, &named("squeeze1x1"), narrow, Window::POINT, x)?;
        let halves = [
            conv(builder, &named("expand1x1"), wide, Window::POINT, x)?,
            conv(builder, &named("expand3x3"), wide, window(3, 1, 1), x)?,
        ];
        x = builder.add(&named("concat"), Op::Concat, &halves)?;
    }
    Ok(())
}

/// A map of logits, kept above 0, and its mean.
fn classify(builder: &mut GraphBuilder, classes: usize, _: Flavour) -> Result<(), GraphError> {
    let x = builder.add("drop9", Op::Dropout { rate: 0.5 }, &[builder.last()])?;
    let x = conv(builder, "predictions", classes, Window::POINT, x)?;
    builder.add("pool10", Op::GlobalAvgPool, &[x])?;
    Ok(())
}

/// A convolution with bias, and its ReLU.
fn conv(
    builder: &mut GraphBuilder,
    name: &str,
    filters: usize,
    window: Window,
    input: NodeId,
) -> Result<NodeId, GraphError> {
    let op = Op::Conv2d {
        filters,
        window,
        groups: 1,
        bias: true,
    };
    builder.add(name, op, &[input])?;
    builder.join(&format!("{name}_relu"), Op::RELU)
}
