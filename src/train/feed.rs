//! Pictures of a dataset as batches of tensors.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use thiserror::Error;

use crate::config::AugmentConfig;
use crate::data::batches::{Loader, LoaderConfig};
use crate::data::decode::PictureCache;
use crate::data::preprocess::Preprocess;
use crate::data::{DataError, Dataset};
use crate::records::Split;

/// A batch that could not be made.
#[derive(Debug, Error)]
pub enum FeedError {
    /// A picture could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A tensor could not be made or used.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// A batch.
#[derive(Debug)]
pub struct TensorBatch {
    /// `[batch, height, width, 3]`, normalised.
    pub images: Tensor,
    /// Class of each picture.
    pub labels: Vec<u32>,
}

/// Makes batches of a dataset's splits.
#[derive(Debug)]
pub struct Feed {
    dataset: Arc<Dataset>,
    loader: LoaderConfig,
    augment: AugmentConfig,
    device: Device,
    splits: [Vec<usize>; 3],
}

impl Feed {
    /// Items of a split, in dataset order; positions below are indices into this list.
    pub fn items(&self, split: Split) -> &[usize] {
        &self.splits[split as usize]
    }

    /// Whether the split's pictures are the same in every epoch.
    pub fn is_cacheable(&self, split: Split) -> bool {
        split != Split::Train || !self.augment.is_random()
    }
}
