//! The activations that layers may carry: what configurations name, graphs hold and kernels compute.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An activation, applied value by value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// None.
    #[default]
    Linear,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// relu6(x + 3) / 6.
    HardSigmoid,
    /// x sigmoid(x), also called swish.
    Silu,
    /// `x hard_sigmoid(x)`.
    HardSwish,
    /// x times the normal distribution function of x, not its tanh approximation.
    Gelu,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Linear,
        Self::Relu,
        Self::Relu6,
        Self::Sigmoid,
        Self::HardSigmoid,
        Self::Silu,
        Self::HardSwish,
        Self::Gelu,
    ];

    /// The word for it in configurations and layer names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Relu => "relu",
            Self::Relu6 => "relu6",
            Self::Sigmoid => "sigmoid",
            Self::HardSigmoid => "hard_sigmoid",
            Self::Silu => "silu",
            Self::HardSwish => "hard_swish",
            Self::Gelu => "gelu",
        }
    }

    /// The range that values are clamped to, where that is all it does: its gradient then follows
    /// from its output. `None` for a curve, whose gradient follows from its input.
    pub fn bounds(self) -> Option<[f32; 2]> {
        match self {
            Self::Linear => Some([f32::NEG_INFINITY, f32::INFINITY]),
            Self::Relu => Some([0.0, f32::INFINITY]),
            Self::Relu6 => Some([0.0, 6.0]),
            Self::Sigmoid | Self::HardSigmoid | Self::Silu | Self::HardSwish | Self::Gelu => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_words_of_configurations() {
        for activation in Activation::ALL {
            let word = serde_json::to_value(activation).unwrap();
            assert_eq!(word, activation.name());
        }
    }
}
