//! What families build their layers from.

use crate::activation::Activation;
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

/// Padding of a 3 x 3 window of stride 2.
pub(super) fn halving(shape: Shape, flavour: Flavour) -> Padding {
    halving_of(3, shape, flavour)
}

/// Padding of a square window of odd sides and stride 2. TensorFlow's SAME puts one row less above
/// and one column less to the left of an even side.
pub(super) fn halving_of(kernel: usize, shape: Shape, flavour: Flavour) -> Padding {
    let half = kernel / 2;
    let before = |side: usize| match flavour {
        Flavour::Torch => half,
        Flavour::Tf => (half + side % 2).saturating_sub(1),
    };
    match shape {
        Shape::Map { height, width, .. } => Padding {
            top: before(height),
            bottom: half,
            left: before(width),
            right: half,
        },
        Shape::Vector(_) => Padding::same(half),
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
        groups: 1,
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

/// Channels times width, to the nearest multiple of 8 that is at least 90 % of it.
pub(super) fn scaled(channels: usize, width: f64) -> usize {
    const DIVISOR: usize = 8;
    let exact = channels as f64 * width;
    let rounded = ((exact + DIVISOR as f64 / 2.0) as usize / DIVISOR * DIVISOR).max(DIVISOR);
    if (rounded as f64) < 0.9 * exact {
        rounded + DIVISOR
    } else {
        rounded
    }
}

/// Squeeze and excitation (Hu et al., 2018): the map times a factor a channel, from its means by
/// two convolutions of one pixel. Names of pool, convolutions and product; names and kinds of the
/// activations, which belong to the layers of the convolutions where these name them so.
pub(super) fn squeeze_excite(
    builder: &mut GraphBuilder,
    input: NodeId,
    squeezed: usize,
    [pool, reduce, expand, product]: [String; 4],
    activations: [(String, Activation); 2],
) -> Result<NodeId, GraphError> {
    let channels = builder.shape(input).channels();
    builder.add(&pool, Op::GlobalAvgPool, &[input])?;
    let reshape = pool
        .strip_suffix("_squeeze")
        .map(|se| format!("{se}_reshape"));
    match reshape {
        Some(name) => builder.add(&name, Op::Reshape, &[builder.last()])?,
        None => builder.join(&format!("{pool}_reshape"), Op::Reshape)?,
    };
    let layers = [(reduce, squeezed), (expand, channels)];
    for ((name, filters), (activation, kind)) in layers.into_iter().zip(activations) {
        let conv = Op::Conv2d {
            filters,
            groups: 1,
            window: window(1, 1, 0),
            bias: true,
        };
        builder.add(&name, conv, &[builder.last()])?;
        match activation.starts_with(&name) {
            true => builder.join(&activation, Op::Activation(kind))?,
            false => builder.add(&activation, Op::Activation(kind), &[builder.last()])?,
        };
    }
    builder.add(&product, Op::Multiply, &[input, builder.last()])
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
