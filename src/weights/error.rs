//! What can be wrong with weights.

use std::path::PathBuf;

use thiserror::Error;

use crate::fetch::FetchError;

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
    /// The file breaks the rules of its format.
    #[error("`{}` is not a sound {format} file: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The format that it seems to have.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The file is something that is not read: code, an old layout, a failed download.
    #[error("`{}` {reason}", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
        /// What to do.
        help: String,
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
    /// Tensors are missing.
    #[error(
        "`{}` lacks {missing} of {wanted} tensors: {listed}{}",
        .path.display(),
        unused(.spare)
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// Our name of the first that is missing.
        first: String,
        /// How many are missing.
        missing: usize,
        /// How many were looked for.
        wanted: usize,
        /// The first of the missing ones, with dimensions and our names.
        listed: String,
        /// The first of the file's tensors that nobody looked for, with dimensions.
        spare: String,
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
    /// They cannot be brought here.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The device refused a tensor.
    #[error("cannot put weights on the device: {0}")]
    Device(#[from] candle_core::Error),
}

impl WeightsError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::UnknownSource(_) => {
                "give the path of a `.safetensors`, `.pth` or `.h5` file, an `https://` address, a \
                 hub id, or `weights = \"none\"`"
                    .into()
            }
            Self::Missing { .. } | Self::Shape { .. } | Self::Foreign { .. } => {
                "check `model.backbone` and `model.width` against where the weights come from"
                    .into()
            }
            Self::Damaged { .. } => "copy or download it again".into(),
            Self::Refused { help, .. } => help.clone(),
            Self::Fetch(error) => return error.help("`weights = \"path/to/the/file\"`"),
            Self::Unreadable { .. } => "check the path of the file and who may read it".into(),
            Self::NotEmbedded { .. } | Self::Type { .. } | Self::Flavour(_) | Self::Device(_) => {
                return None;
            }
        };
        Some(help)
    }
}

fn unused(spare: &str) -> String {
    match spare {
        "" => String::new(),
        spare => format!("; it has {spare}"),
    }
}
