//! Shape inference: what an op makes of its inputs' shapes, or why it cannot.

use super::node::{Op, Shape};
use crate::geometry::Padding;

/// What is wrong with an op's inputs, and what to do.
pub(super) type Misfit = (String, Option<String>);

/// Shape of an op's output.
pub(super) fn infer(op: &Op, inputs: &[Shape]) -> Result<Shape, Misfit> {
    let kind = op.kind();
    let first = || {
        inputs
            .first()
            .copied()
            .ok_or_else(|| (format!("{kind} needs an input"), None))
    };
    let map = || match first()? {
        Shape::Map {
            channels,
            height,
            width,
        } => Ok((channels, height, width)),
        Shape::Vector(features) => Err((
            format!("{kind} needs a feature map, but its input is a vector of {features} values"),
            Some(after_vector(op).into()),
        )),
    };
    match *op {
        Op::Input => Err(("a graph has one input".into(), None)),
        Op::Pad(Padding {
            top,
            bottom,
            left,
            right,
        }) => {
            let (channels, height, width) = map()?;
            Ok(Shape::Map {
                channels,
                height: height + top + bottom,
                width: width + left + right,
            })
        }
        Op::Conv2d { window, .. }
        | Op::DepthwiseConv2d { window, .. }
        | Op::MaxPool { window }
        | Op::AvgPool { window, .. } => {
            let (in_channels, height, width) = map()?;
            let channels = match *op {
                Op::Conv2d {
                    filters, groups, ..
                } if groups == 0
                    || !in_channels.is_multiple_of(groups)
                    || !filters.is_multiple_of(groups) =>
                {
                    let message = format!(
                        "{groups} groups do not share out {in_channels} channels and {filters} \
                         filters evenly"
                    );
                    return Err((message, Some("choose a common divisor of both".into())));
                }
                Op::Conv2d { filters, .. } => filters,
                _ => in_channels,
            };
            let [kernel_height, kernel_width] = window.kernel;
            let what = match op {
                Op::MaxPool { .. } | Op::AvgPool { .. } => "pool",
                _ => "kernel",
            };
            let [height, width] = window.output(height, width).ok_or_else(|| {
                (
                    format!(
                        "a {kernel_height} x {kernel_width} {what} does not fit into a map of \
                         {height} x {width}"
                    ),
                    Some("use larger pictures or a smaller kernel".into()),
                )
            })?;
            Ok(Shape::Map {
                channels,
                height,
                width,
            })
        }
        Op::LayerNorm { .. } | Op::LayerScale { .. } => first(),
        Op::PositionEmbedding => map().and_then(|_| first()),
        Op::PointwiseDense { units } => map().map(|(_, height, width)| Shape::Map {
            channels: units,
            height,
            width,
        }),
        Op::Attention { heads } => {
            let (channels, height, width) = map()?;
            if heads == 0 || channels % (3 * heads) != 0 {
                return Err((
                    format!("{heads} heads cannot share {channels} queries, keys and values"),
                    None,
                ));
            }
            Ok(Shape::Map {
                channels: channels / 3,
                height,
                width,
            })
        }
        Op::ClassToken => {
            map().map(|(channels, height, width)| tokens(height * width + 1, channels))
        }
        Op::DropClassToken => match map()? {
            (channels, 1, width @ 2..) => Ok(tokens(width - 1, channels)),
            _ => Err((format!("{kind} needs tokens"), None)),
        },
        Op::TakeClassToken => map().map(|(channels, ..)| Shape::Vector(channels)),
        Op::BatchNorm { .. } | Op::Activation(_) | Op::Dropout { .. } | Op::Identity(_) => first(),
        Op::Multiply => {
            let (channels, ..) = map()?;
            match inputs {
                [map, factors] if factors.elements() == channels => Ok(*map),
                _ => Err(("Multiply needs one factor a channel".to_string(), None)),
            }
        }
        Op::Reshape => match first()? {
            Shape::Vector(channels) => Ok(Shape::Map {
                channels,
                height: 1,
                width: 1,
            }),
            Shape::Map { .. } => Err(("Reshape needs a vector".to_string(), None)),
        },
        Op::Add => match inputs {
            [a, b] if a == b => Ok(*a),
            _ => Err(("Add needs two inputs of the same shape".to_string(), None)),
        },
        Op::Concat if matches!(first()?, Shape::Vector(_)) => {
            let mut sum = 0;
            for &input in inputs {
                match input {
                    Shape::Vector(features) => sum += features,
                    Shape::Map { .. } => {
                        return Err(("Concatenate takes maps or vectors".to_string(), None));
                    }
                }
            }
            Ok(Shape::Vector(sum))
        }
        Op::Concat => {
            let (_, height, width) = map()?;
            let mut sum = 0;
            for &input in inputs {
                match input {
                    Shape::Map {
                        channels,
                        height: h,
                        width: w,
                    } if [h, w] == [height, width] => sum += channels,
                    _ => return Err(("Concatenate needs maps of one size".to_string(), None)),
                }
            }
            Ok(Shape::Map {
                channels: sum,
                height,
                width,
            })
        }
        Op::GlobalAvgPool | Op::GlobalMaxPool => {
            map().map(|(channels, ..)| Shape::Vector(channels))
        }
        Op::Flatten => map().map(|_| Shape::Vector(inputs[0].elements())),
        Op::Dense { units } => match first()? {
            Shape::Vector(_) => Ok(Shape::Vector(units)),
            shape @ Shape::Map { .. } => Err((
                format!("Dense needs a vector, but its input is a feature map of {shape}"),
                Some(
                    "set `model.pooling = \"avg\"`, or put \"flatten\" or \"avg_pool\" before it"
                        .into(),
                ),
            )),
        },
    }
}

/// So many tokens, as a map of one row.
fn tokens(count: usize, channels: usize) -> Shape {
    Shape::Map {
        channels,
        height: 1,
        width: count,
    }
}

/// What to do when a map was needed and a vector came.
fn after_vector(op: &Op) -> &'static str {
    match op {
        Op::Conv2d { .. } => {
            "set `model.pooling = \"none\"` and put pooling or \"flatten\" behind it"
        }
        Op::Flatten => "leave it out: the values are a vector already",
        Op::GlobalAvgPool | Op::GlobalMaxPool => {
            "leave it out, or set `model.pooling = \"none\"`: the map is pooled already"
        }
        _ => "put it before pooling",
    }
}
