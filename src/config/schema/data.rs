//! `[data]`: where pictures come from, how they are split and prepared.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::augment::AugmentConfig;
use super::defaults;
use super::source::{ColumnsConfig, DataPreset, HubData, ParquetFiles};

/// Value of `data.labels` that stands for the built-in list.
pub const IMAGENET_LABELS: &str = "imagenet";

/// `[data]`: exactly one of `root` or `manifest`, `url` or `preset`, `parquet`, `hf` and `generate`
/// names the source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Folder of class folders. With `manifest`, the folder that its paths are relative to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// CSV file of path, label and optionally split; the header is optional.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<PathBuf>,
    /// Write the manifest from the class folders of `root` where it does not exist yet, with the
    /// split drawn from the seed. Later runs read it as it is.
    #[serde(default)]
    pub create_manifest: bool,
    /// Let the manifest name pictures outside its root.
    #[serde(default)]
    pub allow_outside: bool,
    /// Address of a `.tar.gz`, `.tar` or `.zip` of class folders: downloaded and unpacked once. With
    /// `preset`, where to get it from instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// SHA-256 that the file at `url` must have; needed for `http://`. Without one, what was
    /// downloaded first counts, and its SHA-256 is printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Folder within the archive that holds the class folders. Default: as deep as there is one
    /// folder and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
    /// A well-known data set by name: downloaded and unpacked once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<DataPreset>,
    /// Parquet files of pictures and labels, as `datasets` writes them: a file, a folder or several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parquet: Option<ParquetFiles>,
    /// A data set on the Hugging Face hub with pictures in Parquet files: `owner/name`,
    /// `owner/name@revision`, or `{ repo = "owner/name", revision = "main", config = "default" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hf: Option<HubData>,
    /// Columns of Parquet files. Default: found by type and name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<ColumnsConfig>,
    /// Folder that keeps what is downloaded and unpacked. Default: `xp/data` in the user's cache
    /// directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download_dir: Option<PathBuf>,
    /// Draw labelled pictures instead of reading any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<GenerateConfig>,
    /// Which folder names the class of a nested picture: the first below the root, or the last.
    #[serde(default)]
    pub class_from: ClassFrom,
    /// File of class names, one a line or `index,name`, which take the first indices in its order;
    /// other classes of the data follow in byte order. Or `"imagenet"` for ImageNet's 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Most pictures of a class, over all splits; which ones is drawn from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_per_class: Option<usize>,
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

/// `split = { train = 0.8, val = 0.1, test = 0.1 }`, or `{ by = "given" }` for the split that the
/// data come with.
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
    /// The manifest's third column (or the one headed `split`). With `create_manifest`, the shares
    /// say what is written there.
    Column,
    /// As the data come: by `folders`, by `column`, or by the file names of a Parquet data set
    /// (`train-...`, `validation-...`, `test-...`).
    Given,
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
