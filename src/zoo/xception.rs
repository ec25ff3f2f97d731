//! Xception (Chollet, 2017), <https://arxiv.org/abs/1610.02357>: separable convolutions with
//! residuals. Layer names and order are those of keras.applications, where a separable convolution
//! is one layer.

use super::parts::{self, chain, conv, halving, same, window};
use super::registry::{Family, Pretrained};
use crate::config::{Flavour, Interpolation, NormalizeName};
use crate::geometry::Window;
use crate::graph::{GraphBuilder, GraphError, NodeId, Op};

pub(super) const FAMILY: Family = Family {
    name: "xception",
    title: "Xception (Chollet, 2017)",
    default_size: 299,
    crop: 0.8975,
    interpolation: Interpolation::Bicubic,
    normalize: |_| NormalizeName::MinusOneOne,
    widths: None,
    // Published nowhere else: timm's `legacy_xception` has no hub id.
    default_weights: &[Pretrained {
        width: 1.0,
        id: "https://storage.googleapis.com/tensorflow/keras-applications/xception/\
             xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
        licence: "MIT",
    }],
    build: |builder, _, flavour| build(builder, flavour),
    classify: |builder, classes, _| parts::classify(builder, "avg_pool", classes),
    auxiliaries: &[],
};

/// Figure 5 of the paper, entry flow: channels of blocks 2 to 4, which halve the map.
const ENTRY: [usize; 3] = [128, 256, 728];
/// Blocks 5 to 12, which keep it.
const MIDDLE: std::ops::RangeInclusive<usize> = 5..=12;
const MIDDLE_CHANNELS: usize = 728;
/// Block 13 halves it, block 14 ends the net.
const EXIT: [[usize; 2]; 2] = [[728, 1024], [1536, 2048]];

fn build(builder: &mut GraphBuilder, flavour: Flavour) -> Result<(), GraphError> {
    let norm = parts::norm(flavour);
    let mut net = Net { builder, flavour };
    let stem = [
        ("block1_conv1".into(), conv(32, window(3, 2, 0))),
        ("block1_conv1_bn".into(), norm),
        ("block1_conv1_act".into(), Op::RELU),
        ("block1_conv2".into(), conv(64, window(3, 1, 0))),
        ("block1_conv2_bn".into(), norm),
        ("block1_conv2_act".into(), Op::RELU),
    ];
    let mut x = chain(net.builder, 0, stem)?;
    for (block, channels) in (2..).zip(ENTRY) {
        x = net.halving_block(block, [channels; 2], x)?;
    }
    for block in MIDDLE {
        let mut y = x;
        for layer in 1..=3 {
            let name = format!("block{block}_sepconv{layer}");
            y = net.activated_before(&name, MIDDLE_CHANNELS, y)?;
        }
        x = net.builder.add("add", Op::Add, &[y, x])?;
    }
    x = net.halving_block(13, EXIT[0], x)?;
    for (layer, channels) in (1..).zip(EXIT[1]) {
        let name = format!("block14_sepconv{layer}");
        x = net.separable(&name, channels, x)?;
        x = net.builder.add(&format!("{name}_act"), Op::RELU, &[x])?;
    }
    Ok(())
}

struct Net<'a> {
    builder: &'a mut GraphBuilder,
    flavour: Flavour,
}

impl Net<'_> {
    /// Two separable convolutions and a pool, and a strided 1 x 1 convolution past them.
    fn halving_block(
        &mut self,
        block: usize,
        channels: [usize; 2],
        input: NodeId,
    ) -> Result<NodeId, GraphError> {
        let named = |layer: &str| format!("block{block}_{layer}");
        let x = match block {
            // The stem ends in an activation already.
            2 => self.separable(&named("sepconv1"), channels[0], input)?,
            _ => self.activated_before(&named("sepconv1"), channels[0], input)?,
        };
        let x = self.activated_before(&named("sepconv2"), channels[1], x)?;
        let shortcut = conv(channels[1], window(1, 2, 0));
        let past = self.builder.add("conv2d", shortcut, &[input])?;
        let pool = Op::MaxPool {
            window: Window {
                padding: halving(self.builder.shape(x), self.flavour),
                ..window(3, 2, 0)
            },
        };
        let x = self.builder.add(&named("pool"), pool, &[x])?;
        let norm = parts::norm(self.flavour);
        let past = self.builder.add("batch_normalization", norm, &[past])?;
        self.builder.add("add", Op::Add, &[x, past])
    }

    fn activated_before(
        &mut self,
        name: &str,
        channels: usize,
        input: NodeId,
    ) -> Result<NodeId, GraphError> {
        let x = self
            .builder
            .add(&format!("{name}_act"), Op::RELU, &[input])?;
        self.separable(name, channels, x)
    }

    /// A depthwise and a pointwise convolution as one layer, and their norm.
    fn separable(
        &mut self,
        name: &str,
        channels: usize,
        input: NodeId,
    ) -> Result<NodeId, GraphError> {
        let depthwise = Op::DepthwiseConv2d {
            window: same([3, 3]),
            bias: false,
        };
        self.builder.add(name, depthwise, &[input])?;
        let pointwise = conv(channels, window(1, 1, 0));
        let x = self.builder.join(&format!("{name}_pointwise"), pointwise)?;
        self.builder
            .add(&format!("{name}_bn"), parts::norm(self.flavour), &[x])
    }
}
