//! GoogLeNet (Szegedy et al., 2015), <https://arxiv.org/abs/1409.4842>, as torchvision has it: with
//! batch norm, with 3 x 3 in place of the 5 x 5 convolutions, and with pools that round their
//! output's size up. Layer names follow table 1 of the paper.
//!
//! torchvision's weights were ported from TensorFlow and take pictures scaled to [-1, 1]: its model
//! undoes ImageNet's mean and deviation first (`transform_input`), which the scaling here saves.

use super::auxiliary;
use super::parts::{self, chain, conv, max_pool_rounded_up, window};
use super::registry::{Family, Pretrained};
use crate::config::{Flavour, Interpolation, NormalizeName};
use crate::geometry::Window;
use crate::graph::{GraphBuilder, GraphError, NodeId, Op};

pub(super) const FAMILY: Family = Family {
    name: "googlenet",
    title: "GoogLeNet (Szegedy et al., 2015)",
    default_size: 224,
    crop: 0.875,
    interpolation: Interpolation::Bilinear,
    normalize: |_| NormalizeName::MinusOneOne,
    widths: None,
    default_weights: &[Pretrained {
        width: 1.0,
        id: "https://download.pytorch.org/models/googlenet-1378be20.pth",
        licence: "BSD-3-Clause",
    }],
    build: |builder, _, flavour| build(builder, flavour),
    classify: |builder, classes, _| parts::classify(builder, "avg_pool", classes),
    auxiliaries: auxiliary::GOOGLENET,
};

/// Table 1 of the paper: the filters of each module, `#1x1`, `#3x3 reduce`, `#3x3`, `#5x5 reduce`,
/// `#5x5` and `pool proj`.
const MODULES: [(&str, [usize; 6]); 9] = [
    ("3a", [64, 96, 128, 16, 32, 32]),
    ("3b", [128, 128, 192, 32, 96, 64]),
    ("4a", [192, 96, 208, 16, 48, 64]),
    ("4b", [160, 112, 224, 24, 64, 64]),
    ("4c", [128, 128, 256, 24, 64, 64]),
    ("4d", [112, 144, 288, 32, 64, 64]),
    ("4e", [256, 160, 320, 32, 128, 128]),
    ("5a", [256, 160, 320, 32, 128, 128]),
    ("5b", [384, 192, 384, 48, 128, 128]),
];

fn build(builder: &mut GraphBuilder, flavour: Flavour) -> Result<(), GraphError> {
    let mut net = Net { builder, flavour };
    let x = net.conv("conv1", 64, window(7, 2, 3), 0)?;
    let x = net.pool("pool1", 3, x)?;
    let x = net.conv("conv2_reduce", 64, Window::POINT, x)?;
    let x = net.conv("conv2", 192, window(3, 1, 1), x)?;
    let mut x = net.pool("pool2", 3, x)?;
    for (module, filters) in MODULES {
        x = match module {
            "4a" => net.pool("pool3", 3, x)?,
            "5a" => net.pool("pool4", 2, x)?,
            _ => x,
        };
        x = net.module(module, filters, x)?;
    }
    Ok(())
}

struct Net<'a> {
    builder: &'a mut GraphBuilder,
    flavour: Flavour,
}

impl Net<'_> {
    /// Four branches side by side.
    fn module(
        &mut self,
        module: &str,
        [point, reduce3, three, reduce5, five, pooled]: [usize; 6],
        input: NodeId,
    ) -> Result<NodeId, GraphError> {
        let named = |layer: &str| format!("inception_{module}_{layer}");
        let around = window(3, 1, 1);
        let first = self.conv(&named("1x1"), point, Window::POINT, input)?;
        let x = self.conv(&named("3x3_reduce"), reduce3, Window::POINT, input)?;
        let second = self.conv(&named("3x3"), three, around, x)?;
        let x = self.conv(&named("5x5_reduce"), reduce5, Window::POINT, input)?;
        let third = self.conv(&named("5x5"), five, around, x)?;
        let pool = Op::MaxPool { window: around };
        let x = self.builder.add(&named("pool"), pool, &[input])?;
        let fourth = self.conv(&named("pool_proj"), pooled, Window::POINT, x)?;
        let branches = [first, second, third, fourth];
        self.builder.add(&named("output"), Op::Concat, &branches)
    }

    /// Convolution, batch norm and ReLU.
    fn conv(
        &mut self,
        name: &str,
        filters: usize,
        window: Window,
        input: NodeId,
    ) -> Result<NodeId, GraphError> {
        let nodes = [
            (name.into(), conv(filters, window)),
            (
                format!("{name}_bn"),
                parts::norm_of_inceptions(self.flavour, true),
            ),
            (format!("{name}_relu"), Op::RELU),
        ];
        chain(self.builder, input, nodes)
    }

    fn pool(&mut self, name: &str, kernel: usize, input: NodeId) -> Result<NodeId, GraphError> {
        let op = max_pool_rounded_up(self.builder.shape(input), kernel, 2);
        self.builder.add(name, op, &[input])
    }
}
