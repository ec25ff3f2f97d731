//! The whole configuration on one page: what a user may write in an experiment's TOML file.
//!
//! These structs hold what the file says, after layering; they are read once and never mutated.
//! Every module receives only its own section. Field documentation is what `xp schema` prints
//! and editors show.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::size;
use crate::activation::Activation;

/// One image-classification experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Name of the experiment; part of the run directory's name. Letters, digits, `_`, `-`, `.`.
    pub name: String,
    /// Seed of every random stream: split, shuffling, augmentation, initialisation, dropout.
    #[serde(default = "defaults::seed")]
    pub seed: u64,
    /// Where to compute: `auto`, `cpu`, `cuda`, `cuda:N` or `metal`.
    #[serde(default = "defaults::device")]
    pub device: String,
    /// Number of threads; 0 means all cores. Results do not depend on it.
    #[serde(default)]
    pub threads: usize,
    /// Folder that receives run directories. Default: `runs` in the current directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_dir: Option<PathBuf>,
    /// The pictures and how they are split and prepared.
    pub data: DataConfig,
    /// Backbone, weights and head.
    pub model: ModelConfig,
    /// Settings shared by all phases.
    #[serde(default)]
    pub train: TrainConfig,
    /// The phases, in order; typically feature extraction, then fine-tuning.
    pub phase: Vec<PhaseConfig>,
    /// Caching of frozen features.
    #[serde(default)]
    pub cache: CacheConfig,
}

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
    /// Folders `train`, `val` (or `validation`, `valid`) and `test` under the root.
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

/// `[train]`: settings shared by all phases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Pictures per step.
    #[serde(default = "defaults::batch_size")]
    #[schemars(range(min = 1, max = 65_536))]
    pub batch_size: usize,
    /// Loss; `auto` takes binary cross entropy for one output and categorical for more.
    #[serde(default)]
    pub loss: Loss,
    /// Share of the target spread evenly over the classes.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 0.99))]
    pub label_smoothing: f64,
    /// `"balanced"`, or a weight for each class by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// Evaluate before the first step; becomes epoch 0 of the log.
    #[serde(default)]
    pub evaluate_first: bool,
    /// Stop a phase when validation stops improving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
    /// What makes a checkpoint the best one.
    #[serde(default)]
    pub best: Monitor,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            batch_size: defaults::batch_size(),
            loss: Loss::default(),
            label_smoothing: 0.0,
            class_weights: None,
            evaluate_first: false,
            early_stopping: None,
            best: Monitor::default(),
        }
    }
}

/// Loss functions, computed on logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Binary for one output, categorical for more.
    #[default]
    Auto,
    /// Sigmoid and binary cross entropy: one output, two classes.
    BinaryCrossEntropy,
    /// Softmax and categorical cross entropy: one output a class.
    CategoricalCrossEntropy,
}

/// Weights of classes in the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ClassWeights {
    /// A named rule.
    Rule(ClassWeightRule),
    /// A weight for each class by name; classes left out weigh 1.
    ByName(BTreeMap<String, f64>),
}

/// Rules for class weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeightRule {
    /// Inversely proportional to the number of training pictures, mean 1 over pictures.
    Balanced,
}

/// `early_stopping = { monitor = "val_accuracy", min_delta = 0.001, patience = 5 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// The metric to watch.
    #[serde(default)]
    pub monitor: Monitor,
    /// Smaller changes count as none.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub min_delta: f64,
    /// Epochs without improvement after which the phase ends.
    #[schemars(range(min = 1))]
    pub patience: usize,
}

/// Metrics to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// Validation accuracy; higher is better.
    #[default]
    ValAccuracy,
    /// Validation loss; lower is better.
    ValLoss,
}

/// `[[phase]]`: one stretch of training with one freezing, optimizer and schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhaseConfig {
    /// Name in logs and plots.
    pub name: String,
    /// Backbone layers that do not train: `"all"`, `"none"`, a name pattern such as
    /// `"block_1*"`, or a list of patterns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Freeze>,
    /// Freeze every backbone layer before this one: a layer's name, its index in `xp summary`,
    /// or a negative index (`-3` trains the last three).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze_before: Option<LayerRef>,
    /// Freeze so many stages of the backbone, counted from the picture; negative: all but the last
    /// so many (`-1` trains the last stage). A stage begins where the map shrinks, or with a block
    /// of tokens; `xp summary` lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze_stages: Option<i64>,
    /// The only backbone layers that train: a name pattern, an index, or a list of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_only: Option<Layers>,
    /// Passes over the training pictures.
    #[schemars(range(min = 1, max = 100_000))]
    pub epochs: usize,
    /// How parameters move.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// Batch norm of trainable backbone layers: `eval` trains scale and offset on the stored
    /// statistics, `train` uses the batch's statistics and updates the stored ones, `frozen` leaves
    /// batch norm as it is, scale and offset too. Default: `eval`, or `train` for
    /// `weights = "none"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bn: Option<BatchNormMode>,
    /// Learning rates that fall with depth: the head trains at the full rate, the last stage of the
    /// backbone at this times it, the one below at this squared, and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_decay: Option<LrDecay>,
    /// Multipliers of the learning rate by layer, of backbone or head. Where several match a layer,
    /// the last one counts; `lr_decay` multiplies it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lr_multipliers: Vec<LrMultiplier>,
    /// What the optimizer's `weight_decay` spares. Default: everything but kernels, as timm does:
    /// pulling biases, scales and offsets towards 0 regularises nothing.
    #[serde(default)]
    pub weight_decay_exempt: DecayExempt,
}

impl PhaseConfig {
    /// Which keys say what is frozen, in this order; there may be one.
    pub fn freezing_keys(&self) -> Vec<&'static str> {
        [
            ("freeze", self.freeze.is_some()),
            ("freeze_before", self.freeze_before.is_some()),
            ("freeze_stages", self.freeze_stages.is_some()),
            ("train_only", self.train_only.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect()
    }
}

/// Which backbone layers do not train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Freeze {
    /// `"all"`, `"none"` or one pattern.
    One(String),
    /// Several patterns.
    Many(Vec<String>),
}

/// A layer by name or by index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LayerRef {
    /// Index in `xp summary`; negative counts from the end of the backbone.
    Index(i64),
    /// Name in `xp summary`.
    Name(String),
}

/// Layers by name pattern or index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Layers {
    /// One pattern or index.
    One(LayerRef),
    /// Several.
    Many(Vec<LayerRef>),
}

impl Layers {
    /// The patterns and indices.
    pub fn all(&self) -> &[LayerRef] {
        match self {
            Self::One(layer) => std::slice::from_ref(layer),
            Self::Many(layers) => layers,
        }
    }
}

/// `lr_decay = 0.9`, or `{ factor = 0.9, per = "layer" }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LrDecay {
    /// Per stage.
    PerStage(#[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))] f64),
    /// Per stage or per layer.
    Per(LrDecayPer),
}

impl LrDecay {
    /// Factor from one step of depth to the next.
    pub fn factor(self) -> f64 {
        match self {
            Self::PerStage(factor) => factor,
            Self::Per(decay) => decay.factor,
        }
    }

    /// What one step of depth is.
    pub fn unit(self) -> DecayUnit {
        match self {
            Self::PerStage(_) => DecayUnit::Stage,
            Self::Per(decay) => decay.per,
        }
    }
}

/// A decay with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LrDecayPer {
    /// Factor from one step of depth to the next.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub factor: f64,
    /// What one step of depth is.
    #[serde(default)]
    pub per: DecayUnit,
}

/// Steps of depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecayUnit {
    /// A stage of the backbone; with tokens a block.
    #[default]
    Stage,
    /// A layer with a kernel, with the norms behind it.
    Layer,
}

/// `{ layers = "block_1*", multiplier = 0.1 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LrMultiplier {
    /// A name pattern, an index, or a list of them.
    pub layers: Layers,
    /// What the learning rate of these layers is multiplied with.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub multiplier: f64,
}

/// What weight decay spares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecayExempt {
    /// Everything but kernels: biases, scales and offsets of norms (timm).
    #[default]
    BiasAndNorm,
    /// Nothing: every parameter decays (PyTorch's optimizers as they come).
    None,
}

/// How batch norm of trainable backbone layers behaves in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchNormMode {
    /// Stored statistics, in training too; scale and offset train.
    Eval,
    /// The batch's statistics; the stored ones follow them.
    Train,
    /// Stored statistics; scale and offset do not train either.
    Frozen,
}

/// `optimizer = { kind = "adam", lr = 1e-3 }`. Formulas are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent.
    Sgd {
        /// Learning rate.
        #[schemars(extend("exclusiveMinimum" = 0))]
        lr: f64,
        /// Momentum.
        #[serde(default)]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        momentum: f64,
        /// Nesterov's form of momentum.
        #[serde(default)]
        nesterov: bool,
        /// L2 penalty added to the gradient.
        #[serde(default)]
        #[schemars(range(min = 0.0))]
        weight_decay: f64,
    },
    /// RMSprop.
    Rmsprop {
        /// Learning rate.
        #[schemars(extend("exclusiveMinimum" = 0))]
        lr: f64,
        /// Decay of the mean square (PyTorch's `alpha`, Keras' `rho`).
        #[serde(default = "defaults::rho")]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        rho: f64,
        /// Momentum.
        #[serde(default)]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        momentum: f64,
        /// Added to the root of the mean square.
        #[serde(default = "defaults::epsilon")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        epsilon: f64,
        /// Subtract the squared mean gradient.
        #[serde(default)]
        centered: bool,
        /// L2 penalty added to the gradient.
        #[serde(default)]
        #[schemars(range(min = 0.0))]
        weight_decay: f64,
    },
    /// Adam (Kingma and Ba, 2014).
    Adam {
        /// Learning rate.
        #[schemars(extend("exclusiveMinimum" = 0))]
        lr: f64,
        /// Decay of the mean.
        #[serde(default = "defaults::beta1")]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        beta1: f64,
        /// Decay of the mean square.
        #[serde(default = "defaults::beta2")]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        beta2: f64,
        /// Added to the root of the mean square.
        #[serde(default = "defaults::epsilon")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        epsilon: f64,
        /// L2 penalty added to the gradient.
        #[serde(default)]
        #[schemars(range(min = 0.0))]
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2017).
    Adamw {
        /// Learning rate.
        #[schemars(extend("exclusiveMinimum" = 0))]
        lr: f64,
        /// Decay of the mean.
        #[serde(default = "defaults::beta1")]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        beta1: f64,
        /// Decay of the mean square.
        #[serde(default = "defaults::beta2")]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        beta2: f64,
        /// Added to the root of the mean square.
        #[serde(default = "defaults::epsilon")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        epsilon: f64,
        /// Decoupled weight decay.
        #[serde(default = "defaults::weight_decay")]
        #[schemars(range(min = 0.0))]
        weight_decay: f64,
    },
}

impl OptimizerConfig {
    /// The base learning rate, before the schedule.
    pub fn learning_rate(&self) -> f64 {
        match *self {
            Self::Sgd { lr, .. }
            | Self::Rmsprop { lr, .. }
            | Self::Adam { lr, .. }
            | Self::Adamw { lr, .. } => lr,
        }
    }

    /// L2 penalty or decoupled weight decay.
    pub fn weight_decay(&self) -> f64 {
        match *self {
            Self::Sgd { weight_decay, .. }
            | Self::Rmsprop { weight_decay, .. }
            | Self::Adam { weight_decay, .. }
            | Self::Adamw { weight_decay, .. } => weight_decay,
        }
    }

    /// The same without weight decay.
    pub fn without_weight_decay(mut self) -> Self {
        let (Self::Sgd { weight_decay, .. }
        | Self::Rmsprop { weight_decay, .. }
        | Self::Adam { weight_decay, .. }
        | Self::Adamw { weight_decay, .. }) = &mut self;
        *weight_decay = 0.0;
        self
    }
}

/// `schedule = { kind = "cosine", warmup_epochs = 1 }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// The optimizer's learning rate throughout.
    Constant {
        /// Epochs (fractions allowed) over which the rate rises linearly from 0.
        #[serde(default)]
        #[schemars(range(min = 0.0))]
        warmup_epochs: f64,
    },
    /// Half a cosine from the learning rate down to `end` times it.
    Cosine {
        /// Final rate as a share of the first.
        #[serde(default)]
        #[schemars(range(min = 0.0, max = 1.0))]
        end: f64,
        /// Epochs (fractions allowed) over which the rate rises linearly from 0.
        #[serde(default)]
        #[schemars(range(min = 0.0))]
        warmup_epochs: f64,
    },
    /// A straight line from the learning rate down to `end` times it.
    Linear {
        /// Final rate as a share of the first.
        #[serde(default)]
        #[schemars(range(min = 0.0, max = 1.0))]
        end: f64,
        /// Epochs (fractions allowed) over which the rate rises linearly from 0.
        #[serde(default)]
        #[schemars(range(min = 0.0))]
        warmup_epochs: f64,
    },
    /// Multiply by `factor` every `every_epochs` epochs.
    Step {
        /// Epochs between two steps.
        #[schemars(range(min = 1))]
        every_epochs: usize,
        /// Factor at each step.
        #[serde(default = "defaults::step_factor")]
        #[schemars(range(min = 0.0, max = 1.0))]
        factor: f64,
        /// Epochs (fractions allowed) over which the rate rises linearly from 0.
        #[serde(default)]
        #[schemars(range(min = 0.0))]
        warmup_epochs: f64,
    },
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self::Constant { warmup_epochs: 0.0 }
    }
}

/// `[cache]`: frozen features are computed once and kept, on disk also for other runs. Results do
/// not depend on it. Sizes are `"512MB"`, `"4GB"`, `"1.5TB"`, or in powers of 1024 `"4GiB"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    /// Whether to cache features at all.
    #[serde(default = "defaults::yes")]
    pub features: bool,
    /// Most main memory for cached features. What is beyond it is read from disk, or without the
    /// disk computed anew in every epoch. As much again may hold decoded pictures, where these are
    /// read in every epoch.
    #[serde(default = "defaults::cache_memory")]
    pub memory: String,
    /// Whether features are kept on disk, for other runs that freeze the same layers.
    #[serde(default = "defaults::yes")]
    pub disk: bool,
    /// Folder of the features on disk. Default: `xp/features` in the user's cache directory,
    /// `~/.cache` on Linux.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Most disk space for features; the least recently used give way.
    #[serde(default = "defaults::cache_disk")]
    pub max_size: String,
}

impl CacheConfig {
    /// `memory` in bytes.
    pub fn memory_bytes(&self) -> usize {
        let bytes = size::parse(&self.memory).unwrap_or_default();
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// `max_size` in bytes.
    pub fn max_bytes(&self) -> u64 {
        size::parse(&self.max_size).unwrap_or_default()
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            features: true,
            memory: defaults::cache_memory(),
            disk: true,
            dir: None,
            max_size: defaults::cache_disk(),
        }
    }
}

mod defaults {
    pub(super) fn seed() -> u64 {
        42
    }
    pub(super) fn device() -> String {
        "auto".into()
    }
    pub(super) fn train_share() -> f64 {
        0.8
    }
    pub(super) fn held_out_share() -> f64 {
        0.1
    }
    pub(super) fn width() -> f64 {
        1.0
    }
    pub(super) fn one() -> usize {
        1
    }
    pub(super) fn yes() -> bool {
        true
    }
    pub(super) fn batch_size() -> usize {
        32
    }
    pub(super) fn rho() -> f64 {
        0.9
    }
    pub(super) fn beta1() -> f64 {
        0.9
    }
    pub(super) fn beta2() -> f64 {
        0.999
    }
    pub(super) fn epsilon() -> f64 {
        1e-7
    }
    pub(super) fn weight_decay() -> f64 {
        0.01
    }
    pub(super) fn step_factor() -> f64 {
        0.1
    }
    pub(super) fn cache_memory() -> String {
        "4GiB".into()
    }
    pub(super) fn cache_disk() -> String {
        "20GB".into()
    }
}
