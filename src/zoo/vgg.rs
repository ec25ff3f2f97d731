//! VGG16 and VGG19 without batch norm (Simonyan and Zisserman, 2015),
//! <https://arxiv.org/abs/1409.1556>. Layer names and order are those of keras.applications, where
//! a convolution and its ReLU are one layer.

use super::parts::window;
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
    build: |builder, _, _| build(builder, [2, 2, 3, 3, 3]),
    ..FAMILY
};

pub(super) const VGG19: Family = Family {
    name: "vgg19",
    title: "VGG19 (Simonyan and Zisserman, 2015)",
    default_weights: &[Pretrained {
        width: 1.0,
        id: "timm/vgg19.tv_in1k",
        licence: "BSD-3-Clause",
    }],
    build: |builder, _, _| build(builder, [2, 2, 4, 4, 4]),
    ..FAMILY
};

const FAMILY: Family = Family {
    name: "",
    title: "",
    default_size: 224,
    crop: 0.875,
    interpolation: Interpolation::Bilinear,
    // Keras' own weights take blue, green, red less a mean, which `data.normalize` cannot say.
    normalize: |_| NormalizeName::Imagenet,
    widths: None,
    default_weights: &[],
    build: |_, _, _| Ok(()),
    classify,
};

/// Table 1 of the paper: channels of each block.
const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];

fn build(builder: &mut GraphBuilder, convolutions: [usize; 5]) -> Result<(), GraphError> {
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
            builder.join(&format!("{name}_relu"), Op::RELU)?;
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
