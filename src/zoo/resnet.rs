//! ResNet-18, 34, 50 and 101 (He et al., 2016), <https://arxiv.org/abs/1512.03385>: residuals of
//! two 3 x 3 convolutions, or of three with a bottleneck. Layer names and order are those of
//! keras.applications, also where it lacks the model. PyTorch's flavour (v1.5) halves the map in
//! the 3 x 3 convolution of a bottleneck and has no biases; Keras' halves it in the first 1 x 1,
//! as the paper does, and has biases.

use super::parts::{self, chain, window};
use super::registry::{Family, Pretrained};
use crate::config::{Flavour, Interpolation, NormalizeName};
use crate::geometry::{Padding, Window};
use crate::graph::{GraphBuilder, GraphError, NodeId, Op};

pub(super) const RESNET18: Family = Family {
    name: "resnet18",
    title: "ResNet-18 (He et al., 2016)",
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/resnet18.a1_in1k",
        licence: "Apache-2.0",
    }],
    build: |builder, _, flavour| build(builder, flavour, Block::Basic, [2, 2, 2, 2]),
    default_size: 224,
    crop: 0.95,
    interpolation: Interpolation::Bicubic,
    normalize: |flavour| match flavour {
        Flavour::Torch => NormalizeName::Imagenet,
        Flavour::Tf => NormalizeName::Caffe,
    },
    widths: None,
    classify: |builder, classes, _| parts::classify(builder, "avg_pool", classes),
    auxiliaries: &[],
};

pub(super) const RESNET34: Family = Family {
    name: "resnet34",
    title: "ResNet-34 (He et al., 2016)",
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/resnet34.a1_in1k",
        licence: "Apache-2.0",
    }],
    build: |builder, _, flavour| build(builder, flavour, Block::Basic, [3, 4, 6, 3]),
    ..RESNET18
};

pub(super) const RESNET50: Family = Family {
    name: "resnet50",
    title: "ResNet-50 (He et al., 2016)",
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/resnet50.a1_in1k",
        licence: "Apache-2.0",
    }],
    build: |builder, _, flavour| build(builder, flavour, Block::Bottleneck, [3, 4, 6, 3]),
    ..RESNET18
};

pub(super) const RESNET101: Family = Family {
    name: "resnet101",
    title: "ResNet-101 (He et al., 2016)",
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/resnet101.a1h_in1k",
        licence: "Apache-2.0",
    }],
    build: |builder, _, flavour| build(builder, flavour, Block::Bottleneck, [3, 4, 23, 3]),
    ..RESNET18
};

/// Table 1 of the paper: channels of each stage, before a bottleneck widens them.
const CHANNELS: [usize; 4] = [64, 128, 256, 512];
const EXPANSION: usize = 4;

/// The two residual functions of figure 5.
#[derive(Clone, Copy, PartialEq)]
enum Block {
    Basic,
    Bottleneck,
}

fn build(
    builder: &mut GraphBuilder,
    flavour: Flavour,
    kind: Block,
    blocks: [usize; 4],
) -> Result<(), GraphError> {
    let mut net = Net {
        builder,
        flavour,
        kind,
    };
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
            x = net.block(&prefix, channels, stride, x)?;
        }
    }
    Ok(())
}

struct Net<'a> {
    builder: &'a mut GraphBuilder,
    flavour: Flavour,
    kind: Block,
}

impl Net<'_> {
    /// The residual function, and the way past it: a 1 x 1 convolution of its own where size or
    /// channels change.
    fn block(
        &mut self,
        prefix: &str,
        channels: usize,
        stride: usize,
        input: NodeId,
    ) -> Result<NodeId, GraphError> {
        let named = |layer: &str| format!("{prefix}_{layer}");
        let norm = self.norm();
        let (x, last, conv, wide) = match self.kind {
            Block::Basic => {
                let first = self.conv(channels, window(3, stride, 1));
                let x = self.part(prefix, 1, first, input)?;
                (x, 2, self.conv(channels, window(3, 1, 1)), channels)
            }
            Block::Bottleneck => {
                let [reduce, filter] = match self.flavour {
                    Flavour::Torch => [1, stride],
                    Flavour::Tf => [stride, 1],
                };
                let wide = EXPANSION * channels;
                let first = self.conv(channels, window(1, reduce, 0));
                let x = self.part(prefix, 1, first, input)?;
                let second = self.conv(channels, window(3, filter, 1));
                let x = self.part(prefix, 2, second, x)?;
                (x, 3, self.conv(wide, Window::POINT), wide)
            }
        };
        let [conv_name, norm_name] = ["conv", "bn"].map(|kind| named(&format!("{last}_{kind}")));
        let (past, x) = if stride > 1 || self.builder.shape(input).channels() != wide {
            let shortcut = self.conv(wide, window(1, stride, 0));
            // Keras lists what lies equally deep side by side.
            let past = self.builder.add(&named("0_conv"), shortcut, &[input])?;
            let x = self.builder.add(&conv_name, conv, &[x])?;
            let past = self.builder.add(&named("0_bn"), norm, &[past])?;
            (past, self.builder.add(&norm_name, norm, &[x])?)
        } else {
            let x = chain(self.builder, x, [(conv_name, conv), (norm_name, norm)])?;
            (input, x)
        };
        let sum = self.builder.add(&named("add"), Op::Add, &[past, x])?;
        self.builder.add(&named("out"), Op::RELU, &[sum])
    }

    /// A convolution of a block, its norm and ReLU.
    fn part(
        &mut self,
        prefix: &str,
        number: usize,
        conv: Op,
        input: NodeId,
    ) -> Result<NodeId, GraphError> {
        let named = |kind: &str| format!("{prefix}_{number}_{kind}");
        let nodes = [
            (named("conv"), conv),
            (named("bn"), self.norm()),
            (named("relu"), Op::RELU),
        ];
        chain(self.builder, input, nodes)
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
        parts::norm_of_resnets(self.flavour)
    }
}
