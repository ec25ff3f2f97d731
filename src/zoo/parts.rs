//! What families build their layers from.

use crate::config::Flavour;
use crate::geometry::{Padding, Window};
use crate::graph::{GraphBuilder, GraphError, NodeId, Op, Shape};

/// A square window with the same padding on all sides.
pub(super) fn window(kernel: usize, stride: usize, padding: usize) -> Window {
    Window {
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [1; 2],
        padding: Padding::same(padding),
    }
}

/// A window of odd sides and stride 1 that keeps the size of the map.
pub(super) fn same([height, width]: [usize; 2]) -> Window {
    Window {
        kernel: [height, width],
        padding: Padding {
            top: height / 2,
            bottom: height / 2,
            left: width / 2,
            right: width / 2,
        },
        ..window(1, 1, 0)
    }
}

/// Padding of a 3 x 3 window of stride 2. TensorFlow's SAME puts nothing above and to the left of
/// an even side.
pub(super) fn halving(shape: Shape, flavour: Flavour) -> Padding {
    let before = |side: usize| match flavour {
        Flavour::Torch => 1,
        Flavour::Tf => side % 2,
    };
    match shape {
        Shape::Map { height, width, .. } => Padding {
            top: before(height),
            bottom: 1,
            left: before(width),
            right: 1,
        },
        Shape::Vector(_) => Padding::same(1),
    }
}

/// A batch norm with scale, as both houses set it unless a family says otherwise.
pub(super) fn norm(flavour: Flavour) -> Op {
    let (epsilon, momentum) = match flavour {
        Flavour::Torch => (1e-5, 0.1),
        Flavour::Tf => (1e-3, 0.01),
    };
    Op::BatchNorm {
        gamma: true,
        epsilon,
        momentum,
    }
}

/// A convolution without bias.
pub(super) fn conv(filters: usize, window: Window) -> Op {
    Op::Conv2d {
        filters,
        window,
        bias: false,
    }
}

/// Appends nodes each of which reads the one before it.
pub(super) fn chain<const N: usize>(
    builder: &mut GraphBuilder,
    input: NodeId,
    nodes: [(String, Op); N],
) -> Result<NodeId, GraphError> {
    let mut x = input;
    for (name, op) in nodes {
        x = builder.add(&name, op, &[x])?;
    }
    Ok(x)
}

/// The mean of the map and a dense layer, as most families classify.
pub(super) fn classify(
    builder: &mut GraphBuilder,
    pool: &str,
    classes: usize,
) -> Result<(), GraphError> {
    builder.add(pool, Op::GlobalAvgPool, &[builder.last()])?;
    builder.add(
        "predictions",
        Op::Dense { units: classes },
        &[builder.last()],
    )?;
    Ok(())
}
