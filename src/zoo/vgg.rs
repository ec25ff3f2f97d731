//! VGG16 and VGG19, plain and with batch norm (Simonyan and Zisserman, 2015),
//! <https://arxiv.org/abs/1409.1556>. Layer names and order are those of keras.applications, where
//! a convolution and its ReLU are one layer; batch norm, which Keras has not, stands between them
//! and makes them layers of their own.

use super::parts::{self, window};
use super::registry::{Family, Pretrained};
use crate::config::{Flavour, Interpolation, NormalizeName};
use crate::graph::{GraphBuilder, GraphError, Op};

pub(super) const VGG16: Family = Family {
    name: "vgg16",
    title: "VGG16 (Simonyan and Zisserman, 2015)",
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/vgg16.tv_in1k",
        licence: "BSD-3-Clause",
    }],
    build: |builder, _, _| build(builder, [2, 2, 3, 3, 3], None),
    default_size: 224,
    crop: 0.875,
    interpolation: Interpolation::Bilinear,
    normalize: |flavour| match flavour {
        Flavour::Torch => NormalizeName::Imagenet,
        Flavour::Tf => NormalizeName::Caffe,
    },
    widths: None,
    classify,
    auxiliaries: &[],
};

pub(super) const VGG16_BN: Family = Family {
    name: "vgg16_bn",
    title: "VGG16 with batch norm (Simonyan and Zisserman, 2015)",
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/vgg16_bn.tv_in1k",
        licence: "BSD-3-Clause",
    }],
    build: |builder, _, flavour| build(builder, [2, 2, 3, 3, 3], Some(flavour)),
    ..VGG16
};

pub(super) const VGG19: Family = Family {
    name: "vgg19",
    title: "VGG19 (Simonyan and Zisserman, 2015)",
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/vgg19.tv_in1k",
        licence: "BSD-3-Clause",
    }],
    build: |builder, _, _| build(builder, [2, 2, 4, 4, 4], None),
    ..VGG16
};

pub(super) const VGG19_BN: Family = Family {
    name: "vgg19_bn",
    title: "VGG19 with batch norm (Simonyan and Zisserman, 2015)",
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/vgg19_bn.tv_in1k",
        licence: "BSD-3-Clause",
    }],
    build: |builder, _, flavour| build(builder, [2, 2, 4, 4, 4], Some(flavour)),
    ..VGG16
};

/// Table 1 of the paper: channels of each block.
const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];

/// `norm` is the flavour of the batch norms, if there are any.
fn build(
    builder: &mut GraphBuilder,
    convolutions: [usize; 5],
    norm: Option<Flavour>,
) -> Result<(), GraphError> {
    for (block, (filters, count)) in (1..).zip(CHANNELS.into_iter().zip(convolutions)) {
        for conv in 1..=count {
            let name = format!("block{block}_conv{conv}");
            let op = Op::Conv2d {
                filters,
                groups: 1,
                window: window(3, 1, 1),
                bias: true,
            };
            builder.add(&name, op, &[builder.last()])?;
            let relu = format!("{name}_relu");
            match norm {
                Some(flavour) => {
                    let norm = parts::norm(flavour);
                    builder.add(&format!("{name}_bn"), norm, &[builder.last()])?;
                    builder.add(&relu, Op::RELU, &[builder.last()])?;
                }
                None => {
                    builder.join(&relu, Op::RELU)?;
                }
            }
        }
        let pool = Op::MaxPool {
            window: window(2, 2, 0),
        };
        builder.add(&format!("block{block}_pool"), pool, &[builder.last()])?;
    }
    Ok(())
}

/// Two hidden layers and the logits on the flattened map.
fn classify(builder: &mut GraphBuilder, classes: usize, _: Flavour) -> Result<(), GraphError> {
    const HIDDEN: usize = 4096;
    builder.add("flatten", Op::Flatten, &[builder.last()])?;
    for name in ["fc1", "fc2"] {
        builder.add(name, Op::Dense { units: HIDDEN }, &[builder.last()])?;
        builder.join(&format!("{name}_relu"), Op::RELU)?;
    }
    builder.add(
        "predictions",
        Op::Dense { units: classes },
        &[builder.last()],
    )?;
    Ok(())
}
