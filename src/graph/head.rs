//! Pooling and head layers of a configuration as nodes, named as Keras names them.

use super::build::{GraphBuilder, GraphError};
use super::node::{NodeId, Op, Shape};
use crate::config::{
    Activation, Conv2dLayer, DenseLayer, DropoutLayer, HeadLayer, ModelConfig, PlainLayer, Pooling,
};
use crate::geometry::{Padding, Window};

/// Keras' defaults of `BatchNormalization`; momentum there is 0.99.
const BATCH_NORM: Op = Op::BatchNorm {
    gamma: true,
    epsilon: 1e-3,
    momentum: 0.01,
};

/// Appends `model.pooling` and `model.head` to a backbone.
pub(super) fn append(
    mut builder: GraphBuilder,
    model: &ModelConfig,
) -> Result<GraphBuilder, GraphError> {
    builder.at("model.pooling");
    append_pooling(&mut builder, model)?;
    for (index, layer) in model.head.iter().enumerate() {
        builder.at(format!("model.head[{index}]"));
        append_layer(&mut builder, layer)?;
    }
    check_logits(&builder, model)?;
    Ok(builder)
}

/// Pooling as the weights expect it: transformers give their class token, or pool the others.
fn append_pooling(builder: &mut GraphBuilder, model: &ModelConfig) -> Result<(), GraphError> {
    let tokens = builder.has_class_token();
    let (name, op) = match model.pooling {
        Pooling::None => return Ok(()),
        Pooling::Auto if tokens => ("pooled_token", Op::TakeClassToken),
        Pooling::Auto | Pooling::Avg => ("global_average_pooling2d", Op::GlobalAvgPool),
        Pooling::Max => ("global_max_pooling2d", Op::GlobalMaxPool),
    };
    if tokens && op != Op::TakeClassToken {
        push(builder, "patch_tokens", Op::DropClassToken)?;
    }
    // A layer that the user cut at gives the features as it is.
    match model.cut {
        Some(_) => push(builder, name, op)?,
        None => builder.pool(name, op)?,
    };
    Ok(())
}

fn append_layer(builder: &mut GraphBuilder, layer: &HeadLayer) -> Result<(), GraphError> {
    match *layer {
        HeadLayer::Plain(PlainLayer::BatchNorm) => {
            push(builder, "batch_normalization", BATCH_NORM)?
        }
        HeadLayer::Plain(PlainLayer::Relu) => push(builder, "re_lu", Op::RELU)?,
        HeadLayer::Plain(PlainLayer::Flatten) => push(builder, "flatten", Op::Flatten)?,
        HeadLayer::Plain(PlainLayer::AvgPool) => {
            push(builder, "global_average_pooling2d", Op::GlobalAvgPool)?
        }
        HeadLayer::Plain(PlainLayer::MaxPool) => {
            push(builder, "global_max_pooling2d", Op::GlobalMaxPool)?
        }
        HeadLayer::Dropout(DropoutLayer { dropout }) => {
            push(builder, "dropout", Op::Dropout { rate: dropout })?
        }
        HeadLayer::Dense(DenseLayer { dense, activation }) => {
            push(builder, "dense", Op::Dense { units: dense })?;
            push_activation(builder, activation)?
        }
        HeadLayer::Conv2d(Conv2dLayer {
            conv2d,
            kernel,
            stride,
            bias,
            activation,
        }) => {
            let window = Window {
                kernel: [kernel; 2],
                stride: [stride; 2],
                dilation: [1; 2],
                padding: Padding::default(),
            };
            let op = Op::Conv2d {
                filters: conv2d,
                groups: 1,
                window,
                bias,
            };
            push(builder, "conv2d", op)?;
            push_activation(builder, activation)?
        }
    };
    Ok(())
}

fn push(builder: &mut GraphBuilder, name: &str, op: Op) -> Result<NodeId, GraphError> {
    let input = builder.last();
    builder.add(name, op, &[input])
}

/// An activation is a node of its own, named after the layer that carries it.
fn push_activation(
    builder: &mut GraphBuilder,
    activation: Activation,
) -> Result<NodeId, GraphError> {
    if activation == Activation::Linear {
        return Ok(builder.last());
    }
    let name = format!("{}_{}", builder.name(builder.last()), activation.name());
    push(builder, &name, Op::Activation(activation))
}

fn check_logits(builder: &GraphBuilder, model: &ModelConfig) -> Result<(), GraphError> {
    let trains = model.head.iter().any(|layer| {
        matches!(
            layer,
            HeadLayer::Dense(_) | HeadLayer::Conv2d(_) | HeadLayer::Plain(PlainLayer::BatchNorm)
        )
    });
    if !trains {
        return Err(GraphError::new(
            "model.head",
            "the head has no layer that trains",
            "end it with `{ dense = N }`, N being the number of classes (1 for two classes)"
                .to_string(),
        ));
    }
    match builder.shape(builder.last()) {
        Shape::Vector(_) => Ok(()),
        shape @ Shape::Map { .. } => Err(GraphError::new(
            "model.head",
            format!("the head ends in a feature map of {shape}, not in one value a class"),
            "end it with \"avg_pool\", or with \"flatten\" and `{ dense = N }`".to_string(),
        )),
    }
}
