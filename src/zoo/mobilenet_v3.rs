//! MobileNetV3 (Howard et al., 2019): inverted residuals, some with squeeze and excitation, and hard
//! activations, <https://arxiv.org/abs/1905.02244>. Layer names and order are those of
//! keras.applications. The PyTorch flavour is timm's; torchvision's batch norms have another
//! epsilon, which the loader makes up for.

use super::parts::{self, halving_of, point, scaled, squeeze_excite, window};
use super::registry::{Family, Pretrained};
use crate::activation::Activation;
use crate::config::{Flavour, Interpolation, NormalizeName};
use crate::graph::{GraphBuilder, GraphError, NodeId, Op};

pub(super) const SMALL: Family = Family {
    name: "mobilenet_v3_small",
    title: "MobileNetV3-Small (Howard et al., 2019)",
    widths: Some([0.5, 1.0]),
    default_weights: &[
        Pretrained {
            width: 0.5,
            id: "timm/mobilenetv3_small_050.lamb_in1k",
            licence: "Apache-2.0",
        },
        Pretrained {
            width: 0.75,
            id: "timm/mobilenetv3_small_075.lamb_in1k",
            licence: "Apache-2.0",
        },
        Pretrained {
            width: 1.0,
            id: "timm/mobilenetv3_small_100.lamb_in1k",
            licence: "Apache-2.0",
        },
    ],
    build: |builder, width, flavour| build(builder, &SMALL_BLOCKS, width, flavour),
    classify: |builder, classes, _| classify(builder, 1024, classes),
    ..LARGE
};

pub(super) const LARGE: Family = Family {
    name: "mobilenet_v3_large",
    title: "MobileNetV3-Large (Howard et al., 2019)",
    default_size: 224,
    crop: 0.875,
    interpolation: Interpolation::Bicubic,
    normalize: |flavour| match flavour {
        Flavour::Torch => NormalizeName::Imagenet,
        Flavour::Tf => NormalizeName::MinusOneOne,
    },
    widths: Some([0.5, 1.0]),
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/mobilenetv3_large_100.ra_in1k",
        licence: "Apache-2.0",
    }],
    build: |builder, width, flavour| build(builder, &LARGE_BLOCKS, width, flavour),
    classify: |builder, classes, _| classify(builder, 1280, classes),
    auxiliaries: &[],
};

/// An inverted residual: expanded channels by input channels at width 1, output channels, side of
/// the kernel, stride, whether it has squeeze and excitation, and its activation.
struct Block {
    expanded: [usize; 2],
    channels: usize,
    kernel: usize,
    stride: usize,
    excites: bool,
    activation: Activation,
}

const fn block(
    expanded: [usize; 2],
    channels: usize,
    [kernel, stride]: [usize; 2],
    excites: bool,
    activation: Activation,
) -> Block {
    Block {
        expanded,
        channels,
        kernel,
        stride,
        excites,
        activation,
    }
}

use Activation::{HardSwish, Relu};

/// Table 2 of the paper.
const SMALL_BLOCKS: [Block; 11] = [
    block([16, 16], 16, [3, 2], true, Relu),
    block([72, 16], 24, [3, 2], false, Relu),
    block([88, 24], 24, [3, 1], false, Relu),
    block([96, 24], 40, [5, 2], true, HardSwish),
    block([240, 40], 40, [5, 1], true, HardSwish),
    block([240, 40], 40, [5, 1], true, HardSwish),
    block([120, 40], 48, [5, 1], true, HardSwish),
    block([144, 48], 48, [5, 1], true, HardSwish),
    block([288, 48], 96, [5, 2], true, HardSwish),
    block([576, 96], 96, [5, 1], true, HardSwish),
    block([576, 96], 96, [5, 1], true, HardSwish),
];

/// Table 1 of the paper.
const LARGE_BLOCKS: [Block; 15] = [
    block([16, 16], 16, [3, 1], false, Relu),
    block([64, 16], 24, [3, 2], false, Relu),
    block([72, 24], 24, [3, 1], false, Relu),
    block([72, 24], 40, [5, 2], true, Relu),
    block([120, 40], 40, [5, 1], true, Relu),
    block([120, 40], 40, [5, 1], true, Relu),
    block([240, 40], 80, [3, 2], false, HardSwish),
    block([200, 80], 80, [3, 1], false, HardSwish),
    block([184, 80], 80, [3, 1], false, HardSwish),
    block([184, 80], 80, [3, 1], false, HardSwish),
    block([480, 80], 112, [3, 1], true, HardSwish),
    block([672, 112], 112, [3, 1], true, HardSwish),
    block([672, 112], 160, [5, 2], true, HardSwish),
    block([960, 160], 160, [5, 1], true, HardSwish),
    block([960, 160], 160, [5, 1], true, HardSwish),
];

/// Channels behind the stem, at every width.
const STEM: usize = 16;
/// Channels of the last convolution, by those it reads.
const LAST: usize = 6;

fn build(
    builder: &mut GraphBuilder,
    blocks: &[Block],
    width: f64,
    flavour: Flavour,
) -> Result<(), GraphError> {
    let mut net = Net { builder, flavour };
    let x = net.builder.last();
    let x = net
        .builder
        .add("rescaling", Op::Identity("Rescaling"), &[x])?;
    let mut stem = window(3, 2, 0);
    stem.padding = halving_of(3, net.builder.shape(x), flavour);
    let x = net.builder.add("conv", parts::conv(STEM, stem), &[x])?;
    let x = net.norm("conv_bn", x)?;
    let mut x = net.activation(HardSwish, x)?;
    for (index, block) in blocks.iter().enumerate() {
        x = net.block(index, block, width, x)?;
    }
    let channels = net.builder.shape(x).channels() * LAST;
    let last = parts::conv(scaled(channels, 1.0), window(1, 1, 0));
    let x = net.builder.add("conv_1", last, &[x])?;
    let x = net.norm("conv_1_bn", x)?;
    net.activation(HardSwish, x)?;
    Ok(())
}

/// The mean of the map, a hidden layer and the classes, both as convolutions of one pixel.
fn classify(builder: &mut GraphBuilder, hidden: usize, classes: usize) -> Result<(), GraphError> {
    builder.add(
        "global_average_pooling2d",
        Op::GlobalAvgPool,
        &[builder.last()],
    )?;
    builder.join("global_average_pooling2d_reshape", Op::Reshape)?;
    builder.add("conv_2", point(hidden), &[builder.last()])?;
    builder.add("activation", Op::Activation(HardSwish), &[builder.last()])?;
    builder.add("logits", point(classes), &[builder.last()])?;
    builder.add("flatten", Op::Flatten, &[builder.last()])?;
    Ok(())
}

struct Net<'a> {
    builder: &'a mut GraphBuilder,
    flavour: Flavour,
}

impl Net<'_> {
    fn block(
        &mut self,
        index: usize,
        block: &Block,
        width: f64,
        input: NodeId,
    ) -> Result<NodeId, GraphError> {
        let prefix = match index {
            0 => "expanded_conv".to_string(),
            _ => format!("expanded_conv_{index}"),
        };
        let named = |layer: &str| format!("{prefix}_{layer}");
        let in_channels = self.builder.shape(input).channels();
        let [expanded, by] = block.expanded;
        let expanded = match index {
            0 => in_channels,
            _ => scaled(in_channels, expanded as f64 / by as f64),
        };
        let mut x = input;
        if index > 0 {
            let op = parts::conv(expanded, window(1, 1, 0));
            x = self.builder.add(&named("expand"), op, &[x])?;
            x = self.norm(&named("expand_bn"), x)?;
            x = self.activation(block.activation, x)?;
        }
        let kernel = block.kernel;
        let mut around = kernel / 2;
        if block.stride == 2 {
            let padding = halving_of(kernel, self.builder.shape(x), self.flavour);
            let pad = Op::Pad(padding);
            x = self.builder.add(&named("depthwise_pad"), pad, &[x])?;
            around = 0;
        }
        let depthwise = Op::DepthwiseConv2d {
            window: window(kernel, block.stride, around),
            bias: false,
        };
        x = self.builder.add(&named("depthwise"), depthwise, &[x])?;
        x = self.norm(&named("depthwise_bn"), x)?;
        x = self.activation(block.activation, x)?;
        if block.excites {
            let part = |layer: &str| named(&format!("squeeze_excite_{layer}"));
            let hard = Op::Activation(Activation::HardSigmoid);
            let nodes = [
                (part("avg_pool"), Op::GlobalAvgPool, false),
                (part("avg_pool_reshape"), Op::Reshape, true),
                (part("conv"), point(scaled(expanded, 0.25)), false),
                (part("relu"), Op::RELU, false),
                (part("conv_1"), point(expanded), false),
                ("re_lu".into(), hard, false),
            ];
            x = squeeze_excite(self.builder, x, nodes, &part("mul"))?;
        }
        let channels = scaled(block.channels, width);
        let op = parts::conv(channels, window(1, 1, 0));
        x = self.builder.add(&named("project"), op, &[x])?;
        x = self.norm(&named("project_bn"), x)?;
        if block.stride == 1 && in_channels == channels {
            x = self.builder.add(&named("add"), Op::Add, &[input, x])?;
        }
        Ok(x)
    }

    fn norm(&mut self, name: &str, input: NodeId) -> Result<NodeId, GraphError> {
        let (epsilon, momentum) = match self.flavour {
            Flavour::Torch => (1e-5, 0.1),
            Flavour::Tf => (1e-3, 0.001),
        };
        let op = Op::BatchNorm {
            gamma: true,
            epsilon,
            momentum,
        };
        self.builder.add(name, op, &[input])
    }

    /// Unnamed in Keras, and numbered there.
    fn activation(&mut self, activation: Activation, input: NodeId) -> Result<NodeId, GraphError> {
        let name = match activation {
            Activation::Relu => "re_lu",
            _ => "activation",
        };
        self.builder.add(name, Op::Activation(activation), &[input])
    }
}
