//! What a GPU computes with: what configurations name and devices do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What products and convolutions are computed with. Weights, statistics and sums are f32 in any
/// case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// f32 throughout, as on the CPU.
    #[default]
    F32,
    /// Maps in f32, products of numbers with 11 bits.
    Tf32,
    /// Maps and products in bfloat16, sums in f32.
    Bf16,
}

impl Precision {
    /// The word for it in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}
