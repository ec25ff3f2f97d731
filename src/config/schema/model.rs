//! `[model]`: backbone, weights and head.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::defaults;
use crate::activation::Activation;

/// `[model]`: backbone, weights, cut and head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Name of the backbone, for example `mobilenet_v2`.
    pub backbone: String,
    /// Width multiplier, for families that have one.
    #[serde(default = "defaults::width")]
    #[schemars(range(min = 0.1, max = 4.0))]
    pub width: f64,
    /// Pretrained weights: a hub id (`timm/mobilenetv2_100.ra_in1k`), a file (safetensors,
    /// PyTorch's `.pth`, Keras' `.h5`), an `https://` address of one, `xp/...` for embedded ones,
    /// or `"none"` for random initialisation. Default: the backbone's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Padding and batch-norm convention. Default: the one that the weights come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavour: Option<Flavour>,
    /// Use this layer's output as the features and drop what lies above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
    /// Global pooling between backbone and head.
    #[serde(default)]
    pub pooling: Pooling,
    /// Trains the backbone's auxiliary classifiers beside the head, their loss weighed by this; for
    /// Inception-v3 and GoogLeNet. Evaluation and prediction leave them out. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001, max = 10.0))]
    pub auxiliary: Option<f64>,
    /// Layers of the head, first to last. The last `dense` gives the logits.
    pub head: Vec<HeadLayer>,
}

/// The two conventions in which the same architecture was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Flavour {
    /// Symmetric padding, batch-norm epsilon 1e-5 (torchvision, timm).
    Torch,
    /// SAME padding, batch-norm epsilon 1e-3 (Keras).
    Tf,
}

/// Global pooling between backbone and head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The class token where there is one, else the mean.
    #[default]
    Auto,
    /// Mean over height and width; of a transformer, over all tokens but the class token.
    Avg,
    /// Maximum over height and width; of a transformer, over all tokens but the class token.
    Max,
    /// None: the head receives the feature map, or all tokens.
    None,
}

/// One layer of the head: `{ dense = 5 }`, `{ dropout = 0.2 }`, `"relu"`, `"batch_norm"`...
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HeadLayer {
    /// A layer without settings, by its name.
    Plain(PlainLayer),
    /// A fully connected layer.
    Dense(DenseLayer),
    /// Dropout with the given rate.
    Dropout(DropoutLayer),
    /// A convolution over the feature map.
    Conv2d(Conv2dLayer),
}

/// Head layers that need no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlainLayer {
    /// Batch normalisation.
    BatchNorm,
    /// max(x, 0).
    Relu,
    /// Feature map to vector, in the order height, width, channel.
    Flatten,
    /// Mean over height and width.
    AvgPool,
    /// Maximum over height and width.
    MaxPool,
}

/// `{ dense = 1024, activation = "relu" }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenseLayer {
    /// Number of outputs.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub dense: usize,
    /// Activation behind it. Leave it out on the last layer: the loss applies sigmoid or softmax.
    #[serde(default)]
    pub activation: Activation,
}

/// `{ dropout = 0.2 }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropoutLayer {
    /// Share of values set to 0 in training; the others are scaled up.
    #[schemars(range(min = 0.0, max = 0.99))]
    pub dropout: f64,
}

/// `{ conv2d = 1280, kernel = 1 }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conv2dLayer {
    /// Number of filters.
    #[schemars(range(min = 1, max = 65_536))]
    pub conv2d: usize,
    /// Side of the kernel.
    #[serde(default = "defaults::one")]
    #[schemars(range(min = 1, max = 31))]
    pub kernel: usize,
    /// Stride in both directions.
    #[serde(default = "defaults::one")]
    #[schemars(range(min = 1, max = 16))]
    pub stride: usize,
    /// Whether it has a bias.
    #[serde(default = "defaults::yes")]
    pub bias: bool,
    /// Activation behind it.
    #[serde(default)]
    pub activation: Activation,
}
