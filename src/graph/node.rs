//! The nodes of the layer graph: kinds, shapes and parameters.

use std::fmt;

use crate::activation::Activation;
use crate::geometry::{Padding, Window};

/// Position of a node in its graph.
pub type NodeId = usize;

/// Output shape of one picture, without the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A feature map: `[batch, channels, height, width]`, stored channels-last.
    Map {
        /// Channels.
        channels: usize,
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
    },
    /// A vector: `[batch, features]`.
    Vector(usize),
}

impl Shape {
    /// Number of values per picture.
    pub fn elements(self) -> usize {
        match self {
            Self::Map {
                channels,
                height,
                width,
            } => channels * height * width,
            Self::Vector(features) => features,
        }
    }

    /// Channels of a map, features of a vector: the axis that norms and biases run over.
    pub fn channels(self) -> usize {
        match self {
            Self::Map { channels, .. } => channels,
            Self::Vector(features) => features,
        }
    }

    /// Dimensions as they lie in memory: `[batch, height, width, channels]` or `[batch, features]`.
    pub fn batched(self, batch: usize) -> Vec<usize> {
        match self {
            Self::Map {
                channels,
                height,
                width,
            } => vec![batch, height, width, channels],
            Self::Vector(features) => vec![batch, features],
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map {
                channels,
                height,
                width,
            } => write!(f, "{height} x {width} x {channels}"),
            Self::Vector(features) => write!(f, "{features}"),
        }
    }
}

/// What a node computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    /// The picture.
    Input,
    /// Zeros around a map.
    Pad(Padding),
    /// Convolution; kernel `[filters, in_channels / groups, kernel_height, kernel_width]`.
    Conv2d {
        /// Output channels.
        filters: usize,
        /// Runs of neighbouring input channels, each convolved by its own share of the filters.
        groups: usize,
        /// Geometry.
        window: Window,
        /// Whether a bias is added.
        bias: bool,
    },
    /// Depthwise convolution; kernel `[channels, 1, kernel_height, kernel_width]`.
    DepthwiseConv2d {
        /// Geometry.
        window: Window,
        /// Whether a bias is added.
        bias: bool,
    },
    /// Batch normalisation over the channel axis (Ioffe and Szegedy, 2015).
    BatchNorm {
        /// Whether it has a scale; Keras' Inception does without.
        gamma: bool,
        /// Added to the variance.
        epsilon: f64,
        /// Share of the new statistics in the running ones per step (PyTorch's `momentum`,
        /// one minus Keras').
        momentum: f64,
    },
    /// Multi-head self-attention between its two products (Vaswani et al., 2017): reads queries, keys
    /// and values side by side, gives a third as many channels. The pixels are the tokens.
    Attention {
        /// Heads that share the channels out.
        heads: usize,
    },
    /// A learned token before the pixels, which become tokens: a map of one row.
    ClassToken,
    /// The tokens without the class token.
    DropClassToken,
    /// Normalisation over the channels of each pixel, token or vector (Ba et al., 2016).
    LayerNorm {
        /// Added to the variance.
        epsilon: f64,
    },
    /// A factor a channel (Touvron et al., 2021).
    LayerScale {
        /// What the factors start from.
        initial: f64,
    },
    /// Fully connected along the channels of each pixel or token; kernel `[units, channels]`.
    PointwiseDense {
        /// Output channels.
        units: usize,
    },
    /// A learned value added to each value of the map.
    PositionEmbedding,
    /// The class token alone, as a vector.
    TakeClassToken,
    /// A function of each value.
    Activation(Activation),
    /// Sum of two maps.
    Add,
    /// Channels of several maps, or values of several vectors, one after the other.
    Concat,
    /// Maximum over a window without dilation; padding never wins.
    MaxPool {
        /// Geometry.
        window: Window,
    },
    /// Mean over a window without dilation.
    AvgPool {
        /// Geometry.
        window: Window,
        /// Whether padding counts as zeros in the mean (PyTorch's default) or not at all (Keras).
        count_include_pad: bool,
    },
    /// A map times one value a picture and channel, the second input: a vector or a map of one
    /// pixel (Hu et al., 2018).
    Multiply,
    /// The same values: a layer of this Keras class whose work is done on the way in.
    Identity(&'static str),
    /// Mean over height and width.
    GlobalAvgPool,
    /// Maximum over height and width.
    GlobalMaxPool,
    /// Map to vector, in the order height, width, channel.
    Flatten,
    /// Vector, not a flattened map, to a map of one pixel.
    Reshape,
    /// Fully connected; kernel `[units, features]`.
    Dense {
        /// Number of outputs.
        units: usize,
    },
    /// Dropout, scaled up in training.
    Dropout {
        /// Share of values set to 0.
        rate: f64,
    },
}

impl Op {
    /// max(x, 0).
    pub const RELU: Self = Self::Activation(Activation::Relu);
    /// min(max(x, 0), 6).
    pub const RELU6: Self = Self::Activation(Activation::Relu6);

    /// Keras' class name, as `xp summary` prints it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Input => "InputLayer",
            Self::Pad(_) => "ZeroPadding2D",
            Self::Conv2d { .. } => "Conv2D",
            Self::DepthwiseConv2d { .. } => "DepthwiseConv2D",
            Self::BatchNorm { .. } => "BatchNormalization",
            Self::Attention { .. } => "MultiHeadAttention",
            Self::ClassToken => "ClassToken",
            Self::DropClassToken => "DropClassToken",
            Self::LayerNorm { .. } => "LayerNormalization",
            Self::LayerScale { .. } => "LayerScale",
            Self::PositionEmbedding => "PositionEmbedding",
            Self::TakeClassToken => "TakeClassToken",
            Self::Activation(Activation::Relu | Activation::Relu6) => "ReLU",
            Self::Activation(_) => "Activation",
            Self::Add => "Add",
            Self::Concat => "Concatenate",
            Self::MaxPool { .. } => "MaxPooling2D",
            Self::AvgPool { .. } => "AveragePooling2D",
            Self::GlobalAvgPool => "GlobalAveragePooling2D",
            Self::GlobalMaxPool => "GlobalMaxPooling2D",
            Self::Flatten => "Flatten",
            Self::Dense { .. } | Self::PointwiseDense { .. } => "Dense",
            Self::Identity(kind) => kind,
            Self::Multiply => "Multiply",
            Self::Reshape => "Reshape",
            Self::Dropout { .. } => "Dropout",
        }
    }
}

/// Whether a node came with the backbone or with the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Pretrained; what `freeze` speaks of.
    Backbone,
    /// New; always trains.
    Head,
}

/// A named layer, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Unique name; Keras' where keras.applications has the architecture.
    pub name: String,
    /// Whether it belongs to the same layer as the node before it, whose output it reads: the
    /// activation of a Keras `Conv2D` that has one, the pointwise half of a `SeparableConv2D`. The
    /// layer bears the name of its first node.
    pub joined: bool,
    /// What it computes.
    pub op: Op,
    /// Whose outputs it reads; all of them lie before it.
    pub inputs: Vec<NodeId>,
    /// Shape of its output.
    pub shape: Shape,
    /// Backbone or head.
    pub part: Part,
}

/// What a parameter is for: decides initialisation, training and weight decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamKind {
    /// Kernel of a convolution or dense layer.
    Kernel,
    /// Added per channel.
    Bias,
    /// Scale of a norm.
    Gamma,
    /// Offset of a norm.
    Beta,
    /// A learned class token.
    Token,
    /// A learned value of each place.
    Position,
    /// Running mean of a batch norm; never trained.
    MovingMean,
    /// Running variance of a batch norm; never trained.
    MovingVariance,
}

impl ParamKind {
    /// Keras' name of the variable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Bias => "bias",
            Self::Gamma => "gamma",
            Self::Beta => "beta",
            Self::Token => "token",
            Self::Position => "position",
            Self::MovingMean => "moving_mean",
            Self::MovingVariance => "moving_variance",
        }
    }

    /// Whether the optimizer may move it.
    pub fn trains(self) -> bool {
        !matches!(self, Self::MovingMean | Self::MovingVariance)
    }
}

/// A parameter or statistic of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamSpec {
    /// `layer/kernel`: unique in the graph.
    pub name: String,
    /// What it is for.
    pub kind: ParamKind,
    /// PyTorch's dimensions: `[out, in, kernel_height, kernel_width]`, `[out, in]` or `[channels]`;
    /// `[height, width, channels]` of a position embedding.
    pub dims: Vec<usize>,
}

impl ParamSpec {
    /// Number of values.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}
