//! The auxiliary classifiers of Inception nets, which read a map half-way up.

use super::parts::{self, chain, conv, window};
use crate::config::Flavour;
use crate::geometry::Window;
use crate::graph::{GraphBuilder, GraphError, NodeId, Op};

/// A classifier beside the head.
#[derive(Debug)]
pub struct Auxiliary {
    /// The layer that it reads.
    pub from: &'static str,
    /// Appends it down to the logits of so many classes, and returns these.
    pub build: fn(&mut GraphBuilder, NodeId, usize, Flavour) -> Result<NodeId, GraphError>,
}

/// Inception-v3's, as torchvision has it (`AuxLogits`).
pub(super) const INCEPTION_V3: &[Auxiliary] = &[Auxiliary {
    from: "mixed7",
    build: |builder, input, classes, flavour| {
        let pooled = builder.add("aux_pool", pool(), &[input])?;
        let x = convolution(builder, "aux_conv0", 128, Window::POINT, flavour, pooled)?;
        let x = convolution(builder, "aux_conv1", 768, window(5, 1, 0), flavour, x)?;
        let logits = [
            ("aux_avg_pool".into(), Op::GlobalAvgPool),
            ("aux_predictions".into(), Op::Dense { units: classes }),
        ];
        chain(builder, x, logits)
    },
}];

/// GoogLeNet's two, with the paper's pool; torchvision's makes 4 x 4 of any map.
pub(super) const GOOGLENET: &[Auxiliary] = &[
    Auxiliary {
        from: "inception_4a_output",
        build: |builder, input, classes, flavour| {
            googlenet(builder, "aux1", input, classes, flavour)
        },
    },
    Auxiliary {
        from: "inception_4d_output",
        build: |builder, input, classes, flavour| {
            googlenet(builder, "aux2", input, classes, flavour)
        },
    },
];

fn googlenet(
    builder: &mut GraphBuilder,
    prefix: &str,
    input: NodeId,
    classes: usize,
    flavour: Flavour,
) -> Result<NodeId, GraphError> {
    let named = |layer: &str| format!("{prefix}_{layer}");
    let x = builder.add(&named("pool"), pool(), &[input])?;
    let x = convolution(builder, &named("conv"), 128, Window::POINT, flavour, x)?;
    let layers = [
        (named("flatten"), Op::Flatten),
        (named("fc1"), Op::Dense { units: 1024 }),
        (named("fc1_relu"), Op::RELU),
        (named("dropout"), Op::Dropout { rate: 0.7 }),
        (named("predictions"), Op::Dense { units: classes }),
    ];
    chain(builder, x, layers)
}

fn pool() -> Op {
    Op::AvgPool {
        window: window(5, 3, 0),
        count_include_pad: true,
    }
}

/// Convolution, batch norm and ReLU.
fn convolution(
    builder: &mut GraphBuilder,
    name: &str,
    filters: usize,
    window: Window,
    flavour: Flavour,
    input: NodeId,
) -> Result<NodeId, GraphError> {
    let layers = [
        (name.into(), conv(filters, window)),
        (
            format!("{name}_bn"),
            parts::norm_of_inceptions(flavour, true),
        ),
        (format!("{name}_relu"), Op::RELU),
    ];
    chain(builder, input, layers)
}
