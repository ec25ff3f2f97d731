//! EfficientNet B0 to B3 (Tan and Le, 2019): inverted residuals with squeeze and excitation, scaled
//! in width, depth and size together, <https://arxiv.org/abs/1905.11946>. Layer names and order are
//! those of keras.applications, whose scaling of pixel values happens before. Training leaves out
//! stochastic depth: the dropout of whole blocks does nothing.

use super::parts::{self, halving_of, point, scaled, squeeze_excite, window};
use super::registry::{Family, Pretrained};
use crate::activation::Activation;
use crate::config::{Flavour, Interpolation, NormalizeName};
use crate::graph::{GraphBuilder, GraphError, NodeId, Op};

pub(super) const B0: Family = Family {
    name: "efficientnet_b0",
    title: "EfficientNet-B0 (Tan and Le, 2019)",
    default_size: 224,
    crop: 0.875,
    interpolation: Interpolation::Bicubic,
    normalize: |_| NormalizeName::Imagenet,
    widths: None,
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/efficientnet_b0.ra_in1k",
        licence: "Apache-2.0",
    }],
    build: |builder, _, flavour| build(builder, [1.0, 1.0], flavour),
    classify: |builder, classes, _| classify(builder, 0.2, classes),
    auxiliaries: &[],
};

pub(super) const B1: Family = Family {
    name: "efficientnet_b1",
    title: "EfficientNet-B1 (Tan and Le, 2019)",
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/efficientnet_b1.ft_in1k",
        licence: "Apache-2.0",
    }],
    build: |builder, _, flavour| build(builder, [1.0, 1.1], flavour),
    ..B0
};

pub(super) const B2: Family = Family {
    name: "efficientnet_b2",
    title: "EfficientNet-B2 (Tan and Le, 2019)",
    default_size: 256,
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/efficientnet_b2.ra_in1k",
        licence: "Apache-2.0",
    }],
    build: |builder, _, flavour| build(builder, [1.1, 1.2], flavour),
    classify: |builder, classes, _| classify(builder, 0.3, classes),
    ..B0
};

pub(super) const B3: Family = Family {
    name: "efficientnet_b3",
    title: "EfficientNet-B3 (Tan and Le, 2019)",
    default_size: 288,
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/efficientnet_b3.ra2_in1k",
        licence: "Apache-2.0",
    }],
    build: |builder, _, flavour| build(builder, [1.2, 1.4], flavour),
    classify: |builder, classes, _| classify(builder, 0.3, classes),
    ..B0
};

/// Table 1 of the paper: expansion, channels, blocks, stride of the first, side of the kernel.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
];
const STEM: usize = 32;
const LAST: usize = 1280;
const SILU: Op = Op::Activation(Activation::Silu);
const SIGMOID: Op = Op::Activation(Activation::Sigmoid);

fn build(
    builder: &mut GraphBuilder,
    [width, depth]: [f64; 2],
    flavour: Flavour,
) -> Result<(), GraphError> {
    let mut net = Net { builder, flavour };
    for (name, kind) in [
        ("rescaling", "Rescaling"),
        ("normalization", "Normalization"),
    ] {
        let x = net.builder.last();
        net.builder.add(name, Op::Identity(kind), &[x])?;
    }
    let x = net.pad("stem_conv_pad", 3, net.builder.last())?;
    let stem = parts::conv(scaled(STEM, width), window(3, 2, 0));
    let x = net.builder.add("stem_conv", stem, &[x])?;
    let mut x = net.activated("stem_bn", "stem_activation", x)?;
    for (stage, (expansion, channels, blocks, first_stride, kernel)) in (1..).zip(STAGES) {
        let blocks = (depth * blocks as f64).ceil() as usize;
        for (repeat, letter) in (0..blocks).zip('a'..='z') {
            let block = Block {
                name: format!("block{stage}{letter}"),
                expansion,
                channels: scaled(channels, width),
                stride: if repeat == 0 { first_stride } else { 1 },
                kernel,
            };
            let first = stage == 1 && repeat == 0;
            x = net.block(&block, first, x)?;
        }
    }
    let last = parts::conv(scaled(LAST, width), window(1, 1, 0));
    let x = net.builder.add("top_conv", last, &[x])?;
    net.activated("top_bn", "top_activation", x)?;
    Ok(())
}

fn classify(builder: &mut GraphBuilder, rate: f64, classes: usize) -> Result<(), GraphError> {
    builder.add("avg_pool", Op::GlobalAvgPool, &[builder.last()])?;
    builder.add("top_dropout", Op::Dropout { rate }, &[builder.last()])?;
    let dense = Op::Dense { units: classes };
    builder.add("predictions", dense, &[builder.last()])?;
    Ok(())
}

struct Block {
    name: String,
    expansion: usize,
    channels: usize,
    stride: usize,
    kernel: usize,
}

struct Net<'a> {
    builder: &'a mut GraphBuilder,
    flavour: Flavour,
}

impl Net<'_> {
    fn block(&mut self, block: &Block, first: bool, input: NodeId) -> Result<NodeId, GraphError> {
        let named = |layer: &str| format!("{}_{layer}", block.name);
        let in_channels = self.builder.shape(input).channels();
        let mut x = input;
        if block.expansion > 1 {
            let op = parts::conv(block.expansion * in_channels, window(1, 1, 0));
            x = self.builder.add(&named("expand_conv"), op, &[x])?;
            x = self.activated(&named("expand_bn"), &named("expand_activation"), x)?;
        }
        let mut around = block.kernel / 2;
        if block.stride == 2 {
            x = self.pad(&named("dwconv_pad"), block.kernel, x)?;
            around = 0;
        }
        let depthwise = Op::DepthwiseConv2d {
            window: window(block.kernel, block.stride, around),
            bias: false,
        };
        x = self.builder.add(&named("dwconv"), depthwise, &[x])?;
        x = self.activated(&named("bn"), &named("activation"), x)?;
        let part = |layer: &str| named(&format!("se_{layer}"));
        let filters = self.builder.shape(x).channels();
        let nodes = [
            (part("squeeze"), Op::GlobalAvgPool, false),
            (part("reshape"), Op::Reshape, false),
            (part("reduce"), point((in_channels / 4).max(1)), false),
            (part("reduce_silu"), SILU, true),
            (part("expand"), point(filters), false),
            (part("expand_sigmoid"), SIGMOID, true),
        ];
        x = squeeze_excite(self.builder, x, nodes, &part("excite"))?;
        let op = parts::conv(block.channels, window(1, 1, 0));
        x = self.builder.add(&named("project_conv"), op, &[x])?;
        let norm = parts::norm(self.flavour);
        x = self.builder.add(&named("project_bn"), norm, &[x])?;
        if block.stride == 1 && in_channels == block.channels {
            // Of the whole block, with a rate that grows from 0 over the blocks.
            if !first {
                let dropout = Op::Dropout { rate: 0.0 };
                x = self.builder.add(&named("drop"), dropout, &[x])?;
            }
            x = self.builder.add(&named("add"), Op::Add, &[x, input])?;
        }
        Ok(x)
    }

    fn pad(&mut self, name: &str, kernel: usize, input: NodeId) -> Result<NodeId, GraphError> {
        let padding = halving_of(kernel, self.builder.shape(input), self.flavour);
        self.builder.add(name, Op::Pad(padding), &[input])
    }

    fn activated(
        &mut self,
        norm: &str,
        activation: &str,
        input: NodeId,
    ) -> Result<NodeId, GraphError> {
        let x = self
            .builder
            .add(norm, parts::norm(self.flavour), &[input])?;
        self.builder.add(activation, SILU, &[x])
    }
}
