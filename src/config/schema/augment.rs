//! `[data.augment]`: random changes to training pictures.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[data.augment]`: random changes to training pictures.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AugmentConfig {
    /// Mirror left and right with probability 1/2.
    #[serde(default)]
    pub flip_horizontal: bool,
    /// Mirror top and bottom with probability 1/2.
    #[serde(default)]
    pub flip_vertical: bool,
    /// Crop `image_size` at a random place out of `resize` (required, and larger).
    #[serde(default)]
    pub crop: bool,
}

impl AugmentConfig {
    /// Whether training pictures differ from epoch to epoch.
    pub fn is_random(&self) -> bool {
        self.flip_horizontal || self.flip_vertical || self.crop
    }
}
