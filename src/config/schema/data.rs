//! `[data]`: where pictures come from, how they are split and prepared.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::augment::AugmentConfig;
use super::defaults;

/// `[data]`: exactly one of `root`, `manifest` and `generate` names the source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Folder of class folders. With `manifest`, the folder that its paths are relative to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// CSV file of path, label and optionally split; the header is optional.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<PathBuf>,
    /// Draw labelled pictures instead of reading any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<GenerateConfig>,
    /// Which folder names the class of a nested picture: the first below the root, or the last.
    #[serde(default)]
    pub class_from: ClassFrom,
    /// Ratios, or where the split is already given.
    #[serde(default)]
    pub split: SplitConfig,
    /// Side of the square pictures that the network sees, in pixels, or `[height, width]`.
    /// Default: what the backbone was trained at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<ImageSize>,
    /// Resize to this first and crop `image_size` out of it: the centre in evaluation, a random
    /// place with `augment.crop`. Default: resize straight to `image_size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<ImageSize>,
    /// Resampling filter.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// Scaling of pixel values. Default: what the weights were trained with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<Normalize>,
    /// What to do about pictures that cannot be decoded.
    #[serde(default)]
    pub on_corrupt: OnCorrupt,
    /// Random changes to training pictures. None by default.
    #[serde(default)]
    pub augment: AugmentConfig,
}

/// Pictures drawn by xp itself, in classes distinguished by structure and not by colour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateConfig {
    /// Which family of procedural classes.
    pub kind: GenerateKind,
    /// Pictures per class.
    #[schemars(range(min = 1, max = 100_000))]
    pub per_class: usize,
}

/// Families of procedural pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GenerateKind {
    /// The classes of `configs/quickstart.toml`.
    Patterns,
    /// The classes that the embedded backbone was pretrained on.
    Shapes,
}

/// Which folder names the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassFrom {
    /// The first folder below the root.
    #[default]
    First,
    /// The folder that the picture lies in.
    Leaf,
}

/// `split = { train = 0.8, val = 0.1, test = 0.1 }`, or `{ by = "folders" }`, or `{ by = "column" }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// How pictures are assigned.
    #[serde(default)]
    pub by: SplitBy,
    /// Share of training pictures, 0 to 1. With `by = "ratio"` or `"hash"`.
    #[serde(default = "defaults::train_share")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub train: f64,
    /// Share of validation pictures.
    #[serde(default = "defaults::held_out_share")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub val: f64,
    /// Share of test pictures; may be 0.
    #[serde(default = "defaults::held_out_share")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub test: f64,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self {
            by: SplitBy::Ratio,
            train: defaults::train_share(),
            val: defaults::held_out_share(),
            test: defaults::held_out_share(),
        }
    }
}

/// How pictures are assigned to train, val and test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// Exact ratios within every class, drawn from the seed, whatever the order of the files.
    #[default]
    Ratio,
    /// By each picture's content hash: a picture keeps its split when others are added.
    Hash,
    /// Folders `train` (or `training`), `val` (or `valid`, `validation`) and `test` (or `testing`)
    /// under the root.
    Folders,
    /// The manifest's third column (or the one headed `split`).
    Column,
}

/// A side, or height and width, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ImageSize {
    /// A square.
    Square(#[schemars(range(min = 8, max = 4096))] u32),
    /// Height, width.
    HeightWidth(#[schemars(inner(range(min = 8, max = 4096)))] [u32; 2]),
}

impl ImageSize {
    /// Height and width in pixels.
    pub fn height_width(self) -> [u32; 2] {
        match self {
            Self::Square(side) => [side, side],
            Self::HeightWidth(sides) => sides,
        }
    }
}

/// Resampling filters; all of them antialias when they shrink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Nearest neighbour.
    Nearest,
    /// Triangle filter.
    #[default]
    Bilinear,
    /// Catmull-Rom.
    Bicubic,
    /// Lanczos with radius 3.
    Lanczos,
}

/// Named scalings of pixel values, or explicit mean and standard deviation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Normalize {
    /// A named scaling.
    Named(NormalizeName),
    /// `(value / 255 - mean) / std`, per channel (red, green, blue).
    MeanStd(MeanStd),
}

/// Named scalings of pixel values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NormalizeName {
    /// To [-1, 1].
    MinusOneOne,
    /// To [0, 1].
    ZeroOne,
    /// ImageNet's mean and standard deviation.
    Imagenet,
    /// Blue, green, red of 0 to 255 less their means over ImageNet: Keras' VGG and ResNet.
    Caffe,
}

/// Per-channel mean and standard deviation of values in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanStd {
    /// Mean of red, green, blue.
    pub mean: [f32; 3],
    /// Standard deviation of red, green, blue; greater than 0.
    pub std: [f32; 3],
}

/// What to do about pictures that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnCorrupt {
    /// List them and stop before training.
    #[default]
    Error,
    /// List them in `data_issues.csv` and go on without them.
    Skip,
}
