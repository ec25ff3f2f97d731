//! MobileNetV2 (Sandler et al., 2018): inverted residuals with linear bottlenecks,
//! <https://arxiv.org/abs/1801.04381>. Layer names and order are those of keras.applications.

use super::parts::{self, halving, scaled, window};
use super::registry::{Family, Pretrained};
use crate::config::{Flavour, Interpolation, NormalizeName};
use crate::graph::{GraphBuilder, GraphError, NodeId, Op};

pub(super) const FAMILY: Family = Family {
    name: "mobilenet_v2",
    title: "MobileNetV2 (Sandler et al., 2018)",
    default_size: 224,
    crop: 0.875,
    interpolation: Interpolation::Bicubic,
    normalize: |flavour| match flavour {
        Flavour::Torch => NormalizeName::Imagenet,
        Flavour::Tf => NormalizeName::MinusOneOne,
    },
    widths: Some([0.35, 1.4]),
    default_weights: &[
        Pretrained {
            width: 0.5,
            id: "timm/mobilenetv2_050.lamb_in1k",
            licence: "Apache-2.0",
        },
        Pretrained {
            width: 1.0,
            id: "timm/mobilenetv2_100.ra_in1k",
            licence: "Apache-2.0",
        },
        Pretrained {
            width: 1.4,
            id: "timm/mobilenetv2_140.ra_in1k",
            licence: "Apache-2.0",
        },
    ],
    build,
    classify: |builder, classes, _| parts::classify(builder, "global_average_pooling2d", classes),
    auxiliaries: &[],
};

/// Table 2 of the paper, bottleneck rows: expansion, channels, blocks, stride of the first block.
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];
const STEM: usize = 32;
const LAST: usize = 1280;

fn build(builder: &mut GraphBuilder, width: f64, flavour: Flavour) -> Result<(), GraphError> {
    let mut net = Net { builder, flavour };
    let x = net.pad("Conv1_pad", 0)?;
    let x = net.conv("Conv1", scaled(STEM, width), 3, 2, x)?;
    let x = net.norm("bn_Conv1", x)?;
    let mut x = net.relu6("Conv1_relu", x)?;
    let mut block = 0;
    for (expansion, channels, blocks, first_stride) in STAGES {
        for repeat in 0..blocks {
            let stride = if repeat == 0 { first_stride } else { 1 };
            x = net.block(block, expansion, scaled(channels, width), stride, x)?;
            block += 1;
        }
    }
    // Narrow nets keep the full last layer.
    let last = if width > 1.0 {
        scaled(LAST, width)
    } else {
        LAST
    };
    let x = net.conv("Conv_1", last, 1, 1, x)?;
    let x = net.norm("Conv_1_bn", x)?;
    net.relu6("out_relu", x)?;
    Ok(())
}

struct Net<'a> {
    builder: &'a mut GraphBuilder,
    flavour: Flavour,
}

impl Net<'_> {
    /// Expansion, depthwise convolution, linear projection, and the way past them where input
    /// and output agree.
    fn block(
        &mut self,
        index: usize,
        expansion: usize,
        channels: usize,
        stride: usize,
        input: NodeId,
    ) -> Result<NodeId, GraphError> {
        let prefix = match index {
            0 => "expanded_conv".to_string(),
            _ => format!("block_{index}"),
        };
        let named = |layer: &str| format!("{prefix}_{layer}");
        let in_channels = self.builder.shape(input).channels();
        let mut x = input;
        if expansion > 1 {
            x = self.conv(&named("expand"), expansion * in_channels, 1, 1, x)?;
            x = self.norm(&named("expand_BN"), x)?;
            x = self.relu6(&named("expand_relu"), x)?;
        }
        if stride == 2 {
            x = self.pad(&named("pad"), x)?;
        }
        x = self.depthwise(&named("depthwise"), stride, x)?;
        x = self.norm(&named("depthwise_BN"), x)?;
        x = self.relu6(&named("depthwise_relu"), x)?;
        x = self.conv(&named("project"), channels, 1, 1, x)?;
        x = self.norm(&named("project_BN"), x)?;
        if stride == 1 && in_channels == channels {
            x = self.builder.add(&named("add"), Op::Add, &[input, x])?;
        }
        Ok(x)
    }

    fn pad(&mut self, name: &str, input: NodeId) -> Result<NodeId, GraphError> {
        let padding = halving(self.builder.shape(input), self.flavour);
        self.builder.add(name, Op::Pad(padding), &[input])
    }

    fn conv(
        &mut self,
        name: &str,
        filters: usize,
        kernel: usize,
        stride: usize,
        input: NodeId,
    ) -> Result<NodeId, GraphError> {
        let op = parts::conv(filters, window(kernel, stride, 0));
        self.builder.add(name, op, &[input])
    }

    fn depthwise(
        &mut self,
        name: &str,
        stride: usize,
        input: NodeId,
    ) -> Result<NodeId, GraphError> {
        // Stride 2 comes after a padding layer of its own.
        let padding = if stride == 1 { 1 } else { 0 };
        let op = Op::DepthwiseConv2d {
            window: window(3, stride, padding),
            bias: false,
        };
        self.builder.add(name, op, &[input])
    }

    fn norm(&mut self, name: &str, input: NodeId) -> Result<NodeId, GraphError> {
        let op = match parts::norm(self.flavour) {
            Op::BatchNorm { gamma, epsilon, .. } if self.flavour == Flavour::Tf => Op::BatchNorm {
                gamma,
                epsilon,
                momentum: 0.001,
            },
            op => op,
        };
        self.builder.add(name, op, &[input])
    }

    fn relu6(&mut self, name: &str, input: NodeId) -> Result<NodeId, GraphError> {
        self.builder.add(name, Op::RELU6, &[input])
    }
}
