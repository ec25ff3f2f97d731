//! Arguments of what uses a model.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};

use super::runs::interval;
use super::size;
use crate::serve::Limits;

/// Arguments of `xp evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// A run directory or a `model.safetensors`
    pub model: PathBuf,
    /// Evaluate on this folder of class folders instead of the run's data
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Which split of the run's data
    #[arg(long, default_value = "test", value_parser = ["train", "val", "test"])]
    pub split: String,
    /// Which weights of a run: those of its best evaluation, or the last ones
    #[arg(long, default_value = "best", value_parser = ["best", "last"])]
    pub checkpoint: String,
}

/// Arguments of `xp predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// A run directory, a `model.safetensors`, or the name of a backbone such as `mobilenet_v2`
    pub model: PathBuf,
    /// Pictures, or folders of pictures
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// What a backbone's name leaves open.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// How many classes to name for each picture
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub top: usize,
    /// Answer in CSV
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Go on: classify every picture that appears, until Ctrl-C; with --json a line each
    #[arg(long)]
    pub watch: bool,
    /// Leave out what is there already
    #[arg(long = "new", requires = "watch")]
    pub only_new: bool,
    /// Time between two looks at the folders; more where a look takes long
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, requires = "watch",
          value_parser = interval)]
    pub interval: f64,
}

/// Arguments of `xp explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A run directory, a `model.safetensors`, or the name of a backbone such as `mobilenet_v2`
    pub model: PathBuf,
    /// Pictures, or folders of pictures
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// What a backbone's name leaves open.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// Class to show the evidence for [default: the most probable one of each picture]
    #[arg(long, value_name = "NAME", conflicts_with = "top")]
    pub class: Option<String>,
    /// Show the evidence for so many of the most probable classes, side by side
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=8))]
    pub top: usize,
    /// Layer whose map to look at [default: the last one before pooling; of transformers the tokens
    /// that go into the last attention]
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Folder to write the pictures to
    #[arg(long, short, value_name = "DIR", default_value = "explained")]
    pub out: PathBuf,
}

/// Arguments of `xp export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A run directory or a `model.safetensors`
    pub model: PathBuf,
    /// What to write: a network in ONNX, or weights for a network of a package of Python
    #[arg(long, value_enum, default_value_t = ExportFormat::Onnx)]
    pub format: ExportFormat,
    /// Where to write [default: model.onnx beside the model, model.pictures.onnx with --pictures;
    /// model.timm.safetensors, model.torchvision.safetensors]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Of safetensors: whose network [default: timm's, where it has the architecture]
    #[arg(long, value_enum)]
    pub names: Option<PackageName>,
    /// Of safetensors: leave the package's classifier out and write the head beside the backbone, as
    /// xp_head.N.*
    #[arg(long)]
    pub split_head: bool,
    /// Take pictures of any size, bytes [batch, height, width, 3], and do the preprocessing in the
    /// model
    #[arg(long)]
    pub pictures: bool,
    /// Which weights of a run: those of its best evaluation, or the last ones
    #[arg(long, default_value = "best", value_parser = ["best", "last"])]
    pub checkpoint: String,
}

/// Formats of `xp export`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// ONNX.
    Onnx,
    /// Weights under a package's names.
    Safetensors,
}

/// A package of networks for PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PackageName {
    /// timm.
    Timm,
    /// torchvision.
    Torchvision,
}

/// Arguments of `xp serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A run directory or a `model.safetensors`
    pub model: PathBuf,
    /// Address to listen on; 0.0.0.0 lets other machines in
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Port to listen on; 0 takes one that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// Largest request, for example 20MB
    #[arg(long, value_name = "SIZE", value_parser = size, default_value_t = Limits::DEFAULT.bytes as u64)]
    pub max_upload: u64,
    /// Longest time of a request, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::DEFAULT.time.as_secs(),
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub timeout: u64,
    /// Most requests at work or waiting; more are turned away
    #[arg(long, value_name = "N", default_value_t = Limits::DEFAULT.requests,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub max_requests: usize,
}

/// Weights and size of a backbone named on the command line.
#[derive(Debug, Args)]
pub struct BackboneArgs {
    /// Of a backbone: its weights, a file or a hub id [default: see `xp models`]
    #[arg(long, value_name = "SOURCE")]
    pub weights: Option<String>,
    /// Of a backbone: its width multiplier
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub width: f64,
    /// Of a backbone: side of the pictures it sees, in pixels [default: see `xp models`]
    #[arg(long, value_name = "PIXELS",
          value_parser = RangedU64ValueParser::<u32>::new().range(8..=4096))]
    pub size: Option<u32>,
}

/// Arguments of `xp features`.
#[derive(Debug, Args)]
pub struct FeaturesArgs {
    /// The name of a backbone such as `mobilenet_v2`, a run directory or a `model.safetensors`
    pub model: PathBuf,
    /// Pictures, or folders of pictures
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// What a backbone's name leaves open.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// Layer whose output to write [default: the pooled features below the classifier or head]
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Where to write: `.safetensors`, `.npy` (paths in a `.txt` beside it) or `.csv`
    #[arg(long, short, value_name = "FILE")]
    pub out: PathBuf,
}
