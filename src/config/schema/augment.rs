//! `[data.augment]`: random changes to training pictures.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::defaults;

/// `[data.augment]`: random changes to training pictures, in the order of torchvision's recipes:
/// crop and `rotate`, flips, `color_jitter`, `trivial_augment`, then after normalisation `erase`.
/// The names and meanings are torchvision's. Each change draws from a random stream of its own:
/// switching one on leaves the others as they were.
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
    /// Crop a random part of the picture as it was decoded and resize it to `image_size`; in place
    /// of `crop`. `true`, or `{ scale = [0.08, 1.0], ratio = [0.75, 1.3333] }`. Pictures larger than
    /// the smallest crop needs are scaled down first, so that they stay in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_resized_crop: Option<ResizedCrop>,
    /// Turn by up to so many degrees either way, about the centre of the crop. What lies around the
    /// crop fills the corners; beyond the picture they are black.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 180.0))]
    pub rotate: f64,
    /// Change brightness, contrast, saturation and hue, in random order:
    /// `{ brightness = 0.2, contrast = 0.2, saturation = 0.2, hue = 0.05 }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color_jitter: Option<ColorJitter>,
    /// One of fourteen changes with a random strength: TrivialAugmentWide (Müller and Hutter, 2021).
    #[serde(default)]
    pub trivial_augment: bool,
    /// Erase a random rectangle: `true`, or
    /// `{ probability = 0.25, scale = [0.02, 0.33], ratio = [0.3, 3.3], fill = "mean" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erase: Option<Erase>,
    /// Exactly so many random views of each training picture, over and over: epoch 1 sees the
    /// first. They follow from the picture's bytes, these settings and the seed, so that features
    /// of frozen layers can be cached. Default: every epoch draws anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub views: Option<u32>,
}

impl AugmentConfig {
    /// Whether training pictures are changed at random.
    pub fn is_random(&self) -> bool {
        self.flip_horizontal
            || self.flip_vertical
            || self.crop
            || self.resized_crop().is_some()
            || self.rotate > 0.0
            || self.color_jitter.is_some_and(|jitter| !jitter.is_idle())
            || self.trivial_augment
            || self.erase().is_some_and(|erase| erase.probability > 0.0)
    }

    /// Ranges of the random resized crop, if it is wanted.
    pub fn resized_crop(&self) -> Option<ResizedCropRanges> {
        match self.random_resized_crop? {
            ResizedCrop::On(on) => on.then(ResizedCropRanges::default),
            ResizedCrop::Ranges(ranges) => Some(ranges),
        }
    }

    /// How to erase, if it is wanted.
    pub fn erase(&self) -> Option<EraseSettings> {
        match self.erase? {
            Erase::On(on) => on.then(EraseSettings::default),
            Erase::Settings(settings) => Some(settings),
        }
    }
}

/// `random_resized_crop = true`, or its ranges.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ResizedCrop {
    /// With the default ranges, or not at all.
    On(bool),
    /// With these.
    Ranges(ResizedCropRanges),
}

/// Ranges of a random resized crop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizedCropRanges {
    /// Least and largest share of the picture's area.
    #[serde(default = "defaults::crop_scale")]
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    pub scale: [f64; 2],
    /// Least and largest width over height.
    #[serde(default = "defaults::crop_ratio")]
    #[schemars(inner(range(min = 0.0)))]
    pub ratio: [f64; 2],
}

impl Default for ResizedCropRanges {
    fn default() -> Self {
        Self {
            scale: defaults::crop_scale(),
            ratio: defaults::crop_ratio(),
        }
    }
}

/// Strengths of torchvision's `ColorJitter`. Factors are drawn from 1 less to 1 plus the strength,
/// and not below 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColorJitter {
    /// Strength of the change of brightness.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub brightness: f64,
    /// Strength of the change of contrast.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub contrast: f64,
    /// Strength of the change of saturation.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub saturation: f64,
    /// Largest shift of the hue either way, in turns of the colour wheel.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 0.5))]
    pub hue: f64,
}

impl ColorJitter {
    /// Whether it changes nothing.
    pub fn is_idle(&self) -> bool {
        *self == Self::default()
    }
}

/// `erase = true`, or how.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Erase {
    /// With the default settings, or not at all.
    On(bool),
    /// With these.
    Settings(EraseSettings),
}

/// Settings of random erasing (Zhong et al., 2017).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseSettings {
    /// Share of the pictures that lose a rectangle.
    #[serde(default = "defaults::erase_probability")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub probability: f64,
    /// Least and largest share of the picture's area.
    #[serde(default = "defaults::erase_scale")]
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    pub scale: [f64; 2],
    /// Least and largest height over width.
    #[serde(default = "defaults::erase_ratio")]
    #[schemars(inner(range(min = 0.0)))]
    pub ratio: [f64; 2],
    /// What takes the place of the pixels.
    #[serde(default)]
    pub fill: EraseFill,
}

impl Default for EraseSettings {
    fn default() -> Self {
        Self {
            probability: defaults::erase_probability(),
            scale: defaults::erase_scale(),
            ratio: defaults::erase_ratio(),
            fill: EraseFill::default(),
        }
    }
}

/// What erased pixels become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EraseFill {
    /// The mean of the normalisation: 0 after it (torchvision's `value=0`).
    #[default]
    Mean,
    /// A standard normal number for every value after normalisation (torchvision's
    /// `value="random"`, timm's `pixel`).
    Noise,
    /// Black.
    Black,
}
