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

/// The batch norm of Keras' ResNets and DenseNets, which has another epsilon.
pub(super) fn norm_of_resnets(flavour: Flavour) -> Op {
    match flavour {
        Flavour::Torch => norm(Flavour::Torch),
        Flavour::Tf => Op::BatchNorm {
            gamma: true,
            epsilon: 1.001e-5,
            momentum: 0.01,
        },
    }
}

/// The batch norm of Inception nets: TensorFlow's epsilon in both flavours.
pub(super) fn norm_of_inceptions(flavour: Flavour, gamma: bool) -> Op {
    Op::BatchNorm {
        gamma,
        epsilon: 1e-3,
        momentum: match flavour {
            Flavour::Torch => 0.1,
            Flavour::Tf => 0.01,
        },
    }
}

/// A maximum over square windows that start inside the map, the last of them maybe reaching out
/// of it: PyTorch's `ceil_mode`, Caffe's only mode. What lies outside never wins.
pub(super) fn max_pool_rounded_up(shape: Shape, kernel: usize, stride: usize) -> Op {
    let beyond = |side: usize| {
        let outputs = side.saturating_sub(kernel).div_ceil(stride) + 1;
        let inside = outputs.min(side.div_ceil(stride)).max(1);
        ((inside - 1) * stride + kernel).saturating_sub(side)
    };
    let padding = match shape {
        Shape::Map { height, width, .. } => Padding {
            bottom: beyond(height),
            right: beyond(width),
            ..Padding::default()
        },
        Shape::Vector(_) => Padding::default(),
    };
    Op::MaxPool {
        window: Window {
            padding,
            ..window(kernel, stride, 0)
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_that_round_up_end_where_pytorchs_do() {
        // Sides, kernel and outputs of `MaxPool2d(kernel, 2, ceil_mode=True)`.
        for (side, kernel, expected) in [
            (111, 3, 55),
            (112, 3, 56),
            (56, 3, 28),
            (55, 3, 27),
            (14, 2, 7),
            (15, 2, 8),
            (3, 3, 1),
            (4, 3, 2),
            (2, 3, 1),
            (1, 2, 1),
        ] {
            let shape = Shape::Map {
                channels: 1,
                height: side,
                width: side,
            };
            let Op::MaxPool { window } = max_pool_rounded_up(shape, kernel, 2) else {
                unreachable!("a pool")
            };
            let output = window.output(side, side);
            assert_eq!(output, Some([expected; 2]), "{side} {kernel}");
            assert!(window.padding.bottom < kernel);
        }
    }
}
