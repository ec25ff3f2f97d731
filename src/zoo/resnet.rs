//! ResNet-50 (He et al., 2016), <https://arxiv.org/abs/1512.03385>: bottleneck residuals. Layer
//! names and order are those of keras.applications. PyTorch's flavour (v1.5) halves the map in the
//! 3 x 3 convolution of a block and has no biases; Keras' halves it in the first 1 x 1, as the
//! paper does, and has biases.

use super::parts::{self, chain, window};
use super::registry::{Family, Pretrained};
use crate::config::{Flavour, Interpolation, NormalizeName};
use crate::geometry::{Padding, Window};
use crate::graph::{GraphBuilder, GraphError, NodeId, Op};

pub(super) const RESNET50: Family = Family {
    name: "resnet50",
    title: "ResNet-50 (He et al., 2016)",
    default_size: 224,
    crop: 0.95,
    interpolation: Interpolation::Bicubic,
    // Keras' own weights take blue, green, red less a mean, which `data.normalize` cannot say.
    normalize: |_| NormalizeName::Imagenet,
    widths: None,
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/resnet50.a1_in1k",
        licence: "Apache-2.0",
    }],
    build: |builder, _, flavour| build(builder, flavour, [3, 4, 6, 3]),
    classify: |builder, classes, _| parts::classify(builder, "avg_pool", classes),
};

/// Table 1 of the paper: narrow channels of each stage; its outputs are four times as wide.
const CHANNELS: [usize; 4] = [64, 128, 256, 512];
const EXPANSION: usize = 4;

fn build(
    builder: &mut GraphBuilder,
    flavour: Flavour,
    blocks: [usize; 4],
) -> Result<(), GraphError> {
    let mut net = Net { builder, flavour };
    let stem = [
        ("conv1_pad".into(), Op::Pad(Padding::same(3))),
        ("conv1_conv".into(), net.conv(64, window(7, 2, 0))),
        ("conv1_bn".into(), net.norm()),
        ("conv1_relu".into(), Op::RELU),
        ("pool1_pad".into(), Op::Pad(Padding::same(1))),
        (
            "pool1_pool".into(),
            Op::MaxPool {
                window: window(3, 2, 0),
            },
        ),
    ];
    let mut x = chain(net.builder, 0, stem)?;
    for (stage, (channels, blocks)) in (2..).zip(CHANNELS.into_iter().zip(blocks)) {
        for block in 1..=blocks {
            let stride = if stage > 2 && block == 1 { 2 } else { 1 };
            let prefix = format!("conv{stage}_block{block}");
            x = net.block(&prefix, channels, stride, block == 1, x)?;
        }
    }
    Ok(())
}

struct Net<'a> {
    builder: &'a mut GraphBuilder,
    flavour: Flavour,
}

impl Net<'_> {
    /// 1 x 1, 3 x 3 and 1 x 1 convolutions, and the way past them: a 1 x 1 convolution of its own
    /// where a stage begins.
    fn block(
        &mut self,
        prefix: &str,
        channels: usize,
        stride: usize,
        first: bool,
        input: NodeId,
    ) -> Result<NodeId, GraphError> {
        let named = |layer: &str| format!("{prefix}_{layer}");
        let [reduce, filter] = match self.flavour {
            Flavour::Torch => [1, stride],
            Flavour::Tf => [stride, 1],
        };
        let wide = EXPANSION * channels;
        let (norm, reduce) = (self.norm(), self.conv(channels, window(1, reduce, 0)));
        let x = chain(
            self.builder,
            input,
            [
                (named("1_conv"), reduce),
                (named("1_bn"), norm),
                (named("1_relu"), Op::RELU),
                (named("2_conv"), self.conv(channels, window(3, filter, 1))),
                (named("2_bn"), norm),
                (named("2_relu"), Op::RELU),
            ],
        )?;
        let expand = self.conv(wide, window(1, 1, 0));
        let (past, x) = if first {
            let shortcut = self.conv(wide, window(1, stride, 0));
            // Keras lists what lies equally deep side by side.
            let past = self.builder.add(&named("0_conv"), shortcut, &[input])?;
            let x = self.builder.add(&named("3_conv"), expand, &[x])?;
            let past = self.builder.add(&named("0_bn"), norm, &[past])?;
            (past, self.builder.add(&named("3_bn"), norm, &[x])?)
        } else {
            let x = chain(
                self.builder,
                x,
                [(named("3_conv"), expand), (named("3_bn"), norm)],
            )?;
            (input, x)
        };
        let sum = self.builder.add(&named("add"), Op::Add, &[past, x])?;
        self.builder.add(&named("out"), Op::RELU, &[sum])
    }

    fn conv(&self, filters: usize, window: Window) -> Op {
        Op::Conv2d {
            filters,
            groups: 1,
            window,
            bias: self.flavour == Flavour::Tf,
        }
    }

    fn norm(&self) -> Op {
        match self.flavour {
            Flavour::Torch => parts::norm(Flavour::Torch),
            Flavour::Tf => Op::BatchNorm {
                gamma: true,
                epsilon: 1.001e-5,
                momentum: 0.01,
            },
        }
    }
}
