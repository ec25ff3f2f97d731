//! Parts of `[data]`: pictures from elsewhere.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Data sets that tutorials use, by name; `xp data` prints where one comes from and its licence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataPreset {
    /// TensorFlow's flower photos: 3670 pictures in 5 class folders, 229 MB.
    TfFlowers,
    /// Keras' cats and dogs: 3000 pictures in folders `train` and `validation`, 69 MB.
    CatsVsDogs,
    /// PyTorch's ants and bees: 397 pictures in folders `train` and `val`, 47 MB.
    AntsBees,
}

/// A Parquet file, a folder of them, or several of either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ParquetFiles {
    /// A file, or all `.parquet` files below a folder.
    One(PathBuf),
    /// Several.
    Many(#[schemars(length(min = 1))] Vec<PathBuf>),
}

impl ParquetFiles {
    /// As a list.
    pub fn paths(&self) -> &[PathBuf] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }
}

/// A data set on the Hugging Face hub that has its pictures in Parquet files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HubData {
    /// `owner/name`, or `owner/name@revision`.
    Id(String),
    /// The same with more said.
    Set(HubDataset),
}

/// A data set on the hub: `{ repo = "owner/name", config = "small" }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HubDataset {
    /// `owner/name`.
    pub repo: String,
    /// Branch, tag or commit. Default: `main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Which of its configurations, by the folder of its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

impl HubData {
    /// Repository, revision and configuration.
    pub fn parts(&self) -> (&str, &str, Option<&str>) {
        match self {
            Self::Id(id) => {
                let (repo, revision) = id.split_once('@').unwrap_or((id, "main"));
                (repo, revision, None)
            }
            Self::Set(set) => {
                let revision = set.revision.as_deref().unwrap_or("main");
                (&set.repo, revision, set.config.as_deref())
            }
        }
    }
}

/// Columns of Parquet files: `{ image = "img", label = "fine_label" }`. What is left out is found by
/// type and name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnsConfig {
    /// Column of pictures: bytes, or a struct with a field `bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Column of labels: names, or integers whose names the file gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}
