//! Pictures of a dataset as batches of tensors.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use thiserror::Error;

use crate::config::AugmentConfig;
use crate::data::batches::{Loader, PictureCache, Plan};
use crate::data::{Augment, DataError, Dataset, Preprocess};
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
    /// The observer wants to end.
    #[error("interrupted")]
    Interrupted,
}

/// A batch.
#[derive(Debug)]
pub struct TensorBatch {
    /// `[batch, height, width, 3]`, normalised.
    pub images: Tensor,
    /// Class of each picture.
    pub labels: Vec<u32>,
}

/// Whether a pass over pictures is one of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The only one: pictures as they are, none kept.
    Once,
    /// That of an epoch: training pictures are augmented from its streams, and decoded pictures
    /// are kept for the next as far as memory reaches.
    Epoch(u64),
}

/// Makes batches of a dataset's splits.
#[derive(Debug)]
pub struct Feed {
    dataset: Arc<Dataset>,
    preprocess: Preprocess,
    augment: AugmentConfig,
    batch_size: usize,
    seed: u64,
    decoded: Arc<PictureCache>,
    splits: [Vec<usize>; 3],
}

impl Feed {
    /// Batches of `batch_size` pictures (the last may have fewer); decoded pictures are kept in up
    /// to `memory` bytes.
    pub fn new(
        dataset: Arc<Dataset>,
        preprocess: &Preprocess,
        augment: AugmentConfig,
        batch_size: usize,
        seed: u64,
        memory: usize,
    ) -> Self {
        Self {
            preprocess: *preprocess,
            augment,
            batch_size,
            seed,
            decoded: Arc::new(PictureCache::new(&dataset, memory)),
            splits: Split::ALL.map(|split| dataset.split(split)),
            dataset,
        }
    }

    /// The pictures.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Items of a split, in dataset order. Positions, below, are indices into this list.
    pub fn items(&self, split: Split) -> &[usize] {
        &self.splits[split as usize]
    }

    /// The same with a split cut down to these positions, ascending.
    pub fn only(mut self, split: Split, positions: &[usize]) -> Self {
        let items = &mut self.splits[split as usize];
        *items = positions.iter().map(|&at| items[at]).collect();
        self
    }

    /// Class of each picture of a split, by position.
    pub fn classes(&self, split: Split) -> Vec<usize> {
        let items = self.items(split).iter();
        items.map(|&item| self.dataset.items[item].label).collect()
    }

    /// BLAKE3 of each picture of a split, by position.
    pub fn hashes(&self, split: Split) -> Vec<[u8; 32]> {
        let items = self.items(split).iter();
        items.map(|&item| self.dataset.items[item].hash).collect()
    }

    /// How pictures become the network's input.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Whether the split's pictures are the same in every epoch.
    pub fn is_cacheable(&self, split: Split) -> bool {
        split != Split::Train || !self.augment.is_random()
    }

    /// Positions of a whole split, cut into batches.
    pub fn in_order(&self, split: Split) -> Vec<Vec<usize>> {
        self.cut((0..self.items(split).len()).collect())
    }

    /// Positions cut into batches.
    pub fn cut(&self, positions: Vec<usize>) -> Vec<Vec<usize>> {
        positions
            .chunks(self.batch_size)
            .map(<[usize]>::to_vec)
            .collect()
    }

    /// Class of each of these positions.
    pub fn labels(&self, split: Split, positions: &[usize]) -> Vec<u32> {
        let items = self.items(split);
        positions
            .iter()
            .map(|&at| self.dataset.items[items[at]].label as u32)
            .collect()
    }

    /// The batches of positions in `order` (as [`Feed::cut`] makes them), decoded in the background.
    pub fn batches(
        &self,
        split: Split,
        order: &[Vec<usize>],
        pass: Pass,
    ) -> Result<impl Iterator<Item = Result<TensorBatch, FeedError>>, FeedError> {
        let items = self.items(split);
        let augment = match pass {
            Pass::Epoch(epoch) if split == Split::Train => Some(Augment {
                config: self.augment,
                seed: self.seed,
                epoch,
            }),
            _ => None,
        };
        let plan = Plan {
            items: order.iter().flatten().map(|&at| items[at]).collect(),
            preprocess: self.preprocess,
            augment,
            batch_size: self.batch_size,
            threads: rayon::current_num_threads(),
            cache: matches!(pass, Pass::Epoch(_)).then(|| self.decoded.clone()),
        };
        let [height, width] = self.preprocess.image_size.map(|side| side as usize);
        Ok(Loader::start(&self.dataset, plan)?.map(move |batch| {
            let batch = batch?;
            let dims = (batch.labels.len(), height, width, 3);
            let images = Tensor::from_vec(batch.pixels, dims, &Device::Cpu)?;
            Ok(TensorBatch {
                images,
                labels: batch.labels,
            })
        }))
    }
}
