//! `[cache]`: frozen features that are kept.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::defaults;
use crate::config::size;

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
