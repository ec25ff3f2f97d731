//! What can be wrong with weights.

use std::path::PathBuf;

use thiserror::Error;

/// Why weights cannot be loaded.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The name stands for nothing.
    #[error("`{0}` is neither a file nor a hub id such as `timm/mobilenetv2_100.ra_in1k`")]
    UnknownSource(String),
    /// Not among the embedded weights.
    #[error("there are no embedded weights `{name}`; embedded are: {known}")]
    NotEmbedded {
        /// What was asked for.
        name: String,
        /// Names of what there is.
        known: String,
    },
    /// The file cannot be read.
    #[error("cannot read the weights `{}`: {reason}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file is not a well-formed safetensors file.
    #[error("`{}` is not a sound safetensors file: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// None of the tensors looked for is there, under any known naming.
    #[error("`{}` holds no weights of `{family}`; its first tensor is {first}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The backbone's family.
        family: String,
        /// First tensor in the file, quoted, or a word that there is none.
        first: String,
    },
    /// A tensor is missing.
    #[error("`{}` lacks the tensor `{key}` for `{name}`", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Our name.
        name: String,
        /// The checkpoint's name.
        key: String,
    },
    /// A tensor has other dimensions than the architecture.
    #[error(
        "tensor `{key}` in `{}` is {found:?}, but `{name}` needs {expected:?}",
        .path.display()
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// Our name.
        name: String,
        /// The checkpoint's name.
        key: String,
        /// Dimensions of the architecture.
        expected: Vec<usize>,
        /// Dimensions in the file.
        found: Vec<usize>,
    },
    /// A tensor does not hold floating-point numbers.
    #[error("tensor `{key}` in `{}` holds {dtype}, not floating-point numbers", .path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The checkpoint's name.
        key: String,
        /// What it holds.
        dtype: String,
    },
    /// The metadata names a flavour that does not exist.
    #[error("the weights say flavour `{0}`, which is neither `torch` nor `tf`")]
    Flavour(String),
    /// The hub cannot be reached, or has no such file.
    #[error("cannot fetch the weights `{id}` from the hub: {reason}")]
    Hub {
        /// Hub id.
        id: String,
        /// Where the file would come from.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// A downloaded file is not what the hub promised; it has been removed from the cache.
    #[error("the download of `{id}` is damaged: its SHA-256 is {found}, not {expected}")]
    Checksum {
        /// Hub id.
        id: String,
        /// What the hub says.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// The device refused a tensor.
    #[error("cannot put weights on the device: {0}")]
    Device(#[from] candle_core::Error),
}

impl WeightsError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::UnknownSource(_) => {
                "give the path of a `.safetensors` file, a hub id, or `weights = \"none\"`".into()
            }
            Self::Missing { .. } | Self::Shape { .. } | Self::Foreign { .. } => {
                "check `model.backbone` and `model.width` against where the weights come from"
                    .into()
            }
            Self::Damaged { path, .. } => match path.extension().and_then(|it| it.to_str()) {
                Some("safetensors") => "copy or download it again".into(),
                _ => {
                    "convert the weights to safetensors, with torchvision's or timm's names".into()
                }
            },
            Self::Hub { url, .. } => format!(
                "download {url} where there is a network and set `weights = \"path/to/the/file\"`"
            ),
            Self::Checksum { .. } => "run it again to download it anew".into(),
            Self::Unreadable { .. }
            | Self::NotEmbedded { .. }
            | Self::Type { .. }
            | Self::Flavour(_)
            | Self::Device(_) => return None,
        };
        Some(help)
    }
}
