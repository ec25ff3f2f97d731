//! Pictures of a dataset as batches of tensors.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use thiserror::Error;

use super::labels::Labels;
use crate::config::AugmentConfig;
use crate::data::batches::{self, Loader, PictureCache, Plan, Shot};
use crate::data::mix::{Mixer, Mixing};
use crate::data::{Augment, DataError, Dataset, Draw, Preprocess};
use crate::ranks::RankError;
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
    /// Another process of the experiment is lost or has failed.
    #[error(transparent)]
    Ranks(#[from] RankError),
}

/// A batch.
#[derive(Debug)]
pub struct TensorBatch {
    /// `[batch, height, width, 3]`, normalised; of the batch's part alone where one is wanted.
    pub images: Tensor,
    /// What they show.
    pub labels: Labels,
}

/// Whether a pass over pictures is one of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The only one, and nothing is kept for another. Positions count versions of pictures (see
    /// [`Variety::versions`]); pictures that vary endlessly come as they are.
    Once,
    /// That of an epoch: training pictures are augmented from its streams, and decoded pictures
    /// are kept for the next as far as memory reaches.
    Epoch(u64),
}

/// What a phase makes of training pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Treatment {
    /// Changes them as `[data.augment]` says.
    pub augment: bool,
    /// Mixes those of a batch with each other.
    pub mixing: Mixing,
}

impl Default for Treatment {
    fn default() -> Self {
        Self {
            augment: true,
            mixing: Mixing::default(),
        }
    }
}

/// How pictures vary from epoch to epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variety {
    /// Not at all.
    Same,
    /// Each has so many views, which take turns.
    Views(u32),
    /// Every epoch makes them anew.
    Endless,
}

impl Variety {
    /// That of a split's pictures, treated so.
    pub fn of(split: Split, treatment: Treatment, augment: &AugmentConfig) -> Self {
        match split {
            Split::Train if treatment.mixing.is_on() => Self::Endless,
            _ => Self::before_mixing(split, treatment, augment),
        }
    }

    fn before_mixing(split: Split, treatment: Treatment, augment: &AugmentConfig) -> Self {
        if split != Split::Train || !treatment.augment || !augment.is_random() {
            return Self::Same;
        }
        augment.views.map_or(Self::Endless, Self::Views)
    }

    /// Versions of each picture, one after the other where positions count them: version `v` of the
    /// picture at position `p` is `p * versions + v`. 1 where there is no end of them.
    pub fn versions(self) -> usize {
        match self {
            Self::Same | Self::Endless => 1,
            Self::Views(views) => views.max(1) as usize,
        }
    }
}

/// Makes batches of a dataset's splits.
#[derive(Debug, Clone)]
pub struct Feed {
    dataset: Arc<Dataset>,
    preprocess: Preprocess,
    augment: Augment,
    treatment: Treatment,
    batch_size: usize,
    waiting: usize,
    decoded: Arc<PictureCache>,
    splits: Arc<[Vec<usize>; 3]>,
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
            augment: Augment {
                config: augment,
                seed,
            },
            treatment: Treatment::default(),
            batch_size,
            waiting: batches::WAITING,
            decoded: Arc::new(PictureCache::new(&dataset, memory)),
            splits: Arc::new(Split::ALL.map(|split| dataset.split(split))),
            dataset,
        }
    }

    /// The same, with so many batches that wait to be used.
    #[must_use]
    pub fn with_waiting(self, waiting: usize) -> Self {
        Self { waiting, ..self }
    }

    /// The same pictures, treated as a phase does; decoded ones are shared.
    pub fn in_phase(&self, treatment: Treatment) -> Self {
        Self {
            treatment,
            ..self.clone()
        }
    }

    /// The pictures.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Items of a split, in dataset order. Positions, below, are indices into this list; in the pass
    /// of an epoch those beyond it are the same pictures over again, changed at random anew.
    pub fn items(&self, split: Split) -> &[usize] {
        &self.splits[split as usize]
    }

    /// The same with a split cut down to these positions, ascending.
    pub fn only(mut self, split: Split, positions: &[usize]) -> Self {
        let mut splits = (*self.splits).clone();
        let items = &mut splits[split as usize];
        *items = positions.iter().map(|&at| items[at]).collect();
        self.splits = Arc::new(splits);
        self
    }

    /// Class of each picture of a split, by position.
    pub fn classes(&self, split: Split) -> Vec<usize> {
        let items = self.items(split).iter();
        items.map(|&item| self.dataset.items[item].label).collect()
    }

    /// What tells the versions of a split's pictures apart, under the same [`Feed::input`]: BLAKE3
    /// of each picture, with the number of the view where there are several.
    pub fn hashes(&self, split: Split) -> Vec<[u8; 32]> {
        let items = self.items(split).iter();
        let hashes = items.map(|&item| self.dataset.items[item].hash);
        let Variety::Views(views) = self.variety(split) else {
            return hashes.collect();
        };
        let view = |hash: [u8; 32], view: u32| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&hash);
            hasher.update(&view.to_le_bytes());
            *hasher.finalize().as_bytes()
        };
        hashes
            .flat_map(|hash| (0..views).map(move |number| view(hash, number)))
            .collect()
    }

    /// All that decides how a split's pictures become input, besides their bytes and the number of
    /// the view.
    pub fn input(&self, split: Split) -> String {
        let preprocess = self.preprocess.describe();
        match self.variety(split) {
            Variety::Same | Variety::Endless => preprocess,
            Variety::Views(_) => format!("{preprocess} {}", self.augment.describe()),
        }
    }

    /// How pictures become the network's input.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// How what the network sees of a split's pictures varies from epoch to epoch.
    pub fn variety(&self, split: Split) -> Variety {
        Variety::of(split, self.treatment, &self.augment.config)
    }

    /// Whether what is computed of the split's pictures can be used in another epoch.
    pub fn is_cacheable(&self, split: Split) -> bool {
        self.variety(split) != Variety::Endless
    }

    /// The versions of the pictures at these positions that a pass sees.
    pub fn versions(&self, split: Split, positions: &[usize], pass: Pass) -> Vec<usize> {
        let Pass::Epoch(epoch) = pass else {
            return positions.to_vec();
        };
        let variety = self.variety(split);
        let version = |&at: &usize| {
            let (at, copy) = self.picture(split, at);
            let view = match (variety, self.augment.in_epoch(epoch + copy)) {
                (Variety::Views(_), Draw::View(view)) => view as usize,
                _ => 0,
            };
            at * variety.versions() + view
        };
        positions.iter().map(version).collect()
    }

    /// Of a position in an epoch: that of the picture, and how often it has come before.
    fn picture(&self, split: Split, at: usize) -> (usize, u64) {
        let pictures = self.items(split).len().max(1);
        (at % pictures, (at / pictures) as u64)
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
    pub fn labels(&self, split: Split, positions: &[usize]) -> Labels {
        let items = self.items(split);
        let class = |&at: &usize| {
            let (at, _) = self.picture(split, at);
            self.dataset.items[items[at]].label as u32
        };
        positions.iter().map(class).collect::<Vec<u32>>().into()
    }

    /// The batches of positions in `order` (as [`Feed::cut`] makes them), decoded in the background.
    pub fn batches(
        &self,
        split: Split,
        order: &[Vec<usize>],
        pass: Pass,
    ) -> Result<impl Iterator<Item = Result<TensorBatch, FeedError>> + use<>, FeedError> {
        self.batches_of(split, order, pass, None)
    }

    /// The same with the pixels of a part of each batch, and the labels of all.
    pub fn batches_of(
        &self,
        split: Split,
        order: &[Vec<usize>],
        pass: Pass,
        parts: Option<Vec<Range<usize>>>,
    ) -> Result<impl Iterator<Item = Result<TensorBatch, FeedError>> + use<>, FeedError> {
        let mix = match pass {
            Pass::Epoch(epoch) if split == Split::Train => Some(Mixer {
                mixing: self.treatment.mixing,
                seed: self.augment.seed,
                epoch,
            }),
            _ => None,
        };
        let plan = Plan {
            shots: order
                .iter()
                .flatten()
                .map(|&at| self.shot(split, at, pass))
                .collect(),
            preprocess: self.preprocess,
            augment: Some(self.augment),
            mix,
            batch_size: self.batch_size,
            parts,
            threads: rayon::current_num_threads(),
            waiting: self.waiting,
            cache: matches!(pass, Pass::Epoch(_)).then(|| self.decoded.clone()),
        };
        let [height, width] = self.preprocess.image_size.map(|side| side as usize);
        let values = self.preprocess.values();
        Ok(Loader::start(&self.dataset, plan)?.map(move |batch| {
            let batch = batch?;
            let dims = (batch.pixels.len() / values.max(1), height, width, 3);
            let images = Tensor::from_vec(batch.pixels, dims, &Device::Cpu)?;
            let labels = match batch.mixed {
                None => batch.labels.into(),
                Some(own) => Labels::mixed(batch.labels, own),
            };
            Ok(TensorBatch { images, labels })
        }))
    }

    fn shot(&self, split: Split, at: usize, pass: Pass) -> Shot {
        let items = self.items(split);
        let changes = Variety::before_mixing(split, self.treatment, &self.augment.config);
        let (item, draw, copy) = match (changes, pass) {
            (Variety::Same | Variety::Endless, Pass::Once) => (items[at], None, 0),
            (changes, Pass::Epoch(epoch)) => {
                let (at, copy) = self.picture(split, at);
                let draw = match changes {
                    Variety::Same => None,
                    Variety::Views(_) => Some(self.augment.in_epoch(epoch + copy)),
                    // No epoch is that late.
                    Variety::Endless => Some(self.augment.in_epoch(epoch + (copy << 32))),
                };
                (items[at], draw, copy)
            }
            (variety @ Variety::Views(_), Pass::Once) => {
                let versions = variety.versions();
                let view = Draw::View((at % versions) as u64);
                (items[at / versions], Some(view), 0)
            }
        };
        Shot { item, draw, copy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataConfig;
    use crate::data::preprocess::IMAGENET;

    fn feed(augment: &str) -> Feed {
        let config = format!(
            "generate = {{ kind = \"patterns\", per_class = 4 }}\n\
             split = {{ train = 1.0, val = 0.0, test = 0.0 }}\nimage_size = 16\n\
             augment = {{ {augment} }}"
        );
        let config: DataConfig = toml::from_str(&config).unwrap();
        let preprocess = Preprocess::from_config(&config, [16; 2], IMAGENET).unwrap();
        let dataset = Arc::new(Dataset::open(&config, 1).unwrap());
        Feed::new(dataset, &preprocess, config.augment, 8, 1, usize::MAX)
    }

    /// How many different pictures a picture's copies in an epoch are.
    fn different(feed: &Feed, copies: usize) -> usize {
        let pictures = feed.items(Split::Train).len();
        let order: Vec<usize> = (0..copies).map(|copy| 3 + copy * pictures).collect();
        let order = feed.cut(order);
        let mut seen = Vec::new();
        for batch in feed.batches(Split::Train, &order, Pass::Epoch(2)).unwrap() {
            let batch = batch.unwrap();
            for picture in 0..batch.images.dim(0).unwrap() {
                let picture = batch.images.get(picture).unwrap();
                let values = picture.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                if !seen.contains(&values) {
                    seen.push(values);
                }
            }
        }
        let labels = feed.labels(Split::Train, &order[0]);
        let (classes, _) = labels.part(0..labels.len());
        assert!(classes.iter().all(|class| *class == classes[0]));
        seen.len()
    }

    #[test]
    fn copies_of_a_picture_are_changed_anew() {
        assert_eq!(different(&feed("flip_horizontal = true"), 12), 2);
        assert_eq!(different(&feed("flip_horizontal = false"), 12), 1);
        let views = feed("rotate = 30, views = 3");
        assert_eq!(different(&views, 12), 3);
        let pictures = views.items(Split::Train).len();
        let positions = [0, 1, 2, 3].map(|copy| 3 + copy * pictures);
        let versions = views.versions(Split::Train, &positions, Pass::Epoch(2));
        assert_eq!(versions, [10, 11, 9, 10]);
    }
}
