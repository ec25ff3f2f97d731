//! Batches in the background: threads decode ahead into bounded queues, in an order that does not
//! depend on how many there are.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use image::RgbImage;

use super::augment::{self, Augment, Changes, Draw, Subject, View};
use super::mix::Mixer;
use super::preprocess::{Preprocess, Resizer, Scale};
use super::{DataError, Dataset};

/// Batches that wait to be used, over all threads, where memory is no matter.
pub const WAITING: usize = 4;

/// Pictures ready for the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `[n, height, width, 3]`, scaled; of the batch's part alone where one is wanted.
    pub pixels: Vec<f32>,
    /// Class indices, `[n]`.
    pub labels: Vec<u32>,
    /// Where the batch is mixed with itself in reverse order: what is left of each picture.
    pub mixed: Option<f64>,
    /// Which items of the data set, `[n]`.
    pub items: Vec<usize>,
}

/// A picture that is wanted, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shot {
    /// Which item of the data set.
    pub item: usize,
    /// The random numbers to change it with; `None` takes it as evaluation does.
    pub draw: Option<Draw>,
    /// How often the epoch has had the picture before.
    pub copy: u64,
}

impl Shot {
    /// A picture as evaluation sees it.
    pub fn plain(item: usize) -> Self {
        Self {
            item,
            draw: None,
            copy: 0,
        }
    }
}

/// What is kept of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Resized, before the crop.
    Resized,
    /// As decoded, but with a shorter side of at most so many pixels: for random parts of it.
    Whole(u32),
}

/// Pictures before random changes, as bytes, as far as the memory reaches; shared by the loaders of
/// one data set and one preprocessing. Resized ones, and whole ones for random resized crops: these
/// no larger than their smallest part needs, so that an epoch is not bound by decoding.
#[derive(Debug)]
pub struct PictureCache {
    resized: Vec<OnceLock<Arc<RgbImage>>>,
    whole: Vec<OnceLock<Arc<RgbImage>>>,
    free: AtomicUsize,
}

impl PictureCache {
    /// Room for the pictures of `dataset`, up to `budget` bytes in all.
    pub fn new(dataset: &Dataset, budget: usize) -> Self {
        let slots = || dataset.items.iter().map(|_| OnceLock::new()).collect();
        Self {
            resized: slots(),
            whole: slots(),
            free: AtomicUsize::new(budget),
        }
    }

    fn slot(&self, item: usize, form: Form) -> &OnceLock<Arc<RgbImage>> {
        match form {
            Form::Resized => &self.resized[item],
            Form::Whole(_) => &self.whole[item],
        }
    }

    fn get(&self, item: usize, form: Form) -> Option<Arc<RgbImage>> {
        self.slot(item, form).get().cloned()
    }

    fn put(&self, item: usize, form: Form, picture: &Arc<RgbImage>) {
        let bytes = picture.len();
        let take = |free: usize| free.checked_sub(bytes);
        let order = Ordering::Relaxed;
        let taken = self.free.fetch_update(order, order, take);
        if taken.is_ok() && self.slot(item, form).set(Arc::clone(picture)).is_err() {
            self.free.fetch_add(bytes, order);
        }
    }
}

/// What the threads of a loader share.
struct Work {
    dataset: Arc<Dataset>,
    shots: Vec<Shot>,
    preprocess: Preprocess,
    scale: Scale,
    augment: Option<Augment>,
    mix: Option<Mixer>,
    batch_size: usize,
    parts: Option<Vec<Range<usize>>>,
    cache: Option<Arc<PictureCache>>,
    stop: AtomicBool,
}

/// What a thread keeps from one picture to the next.
#[derive(Debug, Default)]
struct Worker {
    resizer: Resizer,
    /// The last picture: views of the same one often follow each other.
    last: Option<(usize, Form, Arc<RgbImage>)>,
}

impl Work {
    /// Decodes batch `batch`, or `None` when told to stop.
    fn batch(&self, batch: usize, worker: &mut Worker) -> Option<Result<Batch, DataError>> {
        let start = batch * self.batch_size;
        let shots = &self.shots[start..self.shots.len().min(start + self.batch_size)];
        let values = self.preprocess.values();
        let whole = 0..shots.len();
        let part = self.parts.as_ref().map_or(&whole, |parts| &parts[batch]);
        let made = match self.mix {
            Some(_) => with_partners(part, shots.len()),
            None => part.clone().collect(),
        };
        let mut pixels = vec![0.0; made.len() * values];
        for (&at, output) in made.iter().zip(pixels.chunks_exact_mut(values)) {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Err(error) = self.picture(shots[at], worker, output) {
                return Some(Err(error));
            }
        }
        let items: Vec<usize> = shots.iter().map(|shot| shot.item).collect();
        let label = |&item: &usize| self.dataset.items[item].label as u32;
        let mixed = self.mix.zip(shots.first()).map(|(mixer, &first)| {
            let size = self.preprocess.image_size.map(|side| side as usize);
            let mix = mixer.draw(first.item, first.copy, size);
            mix.apply(&mut pixels, size);
            mix.own
        });
        if made.len() > part.len() {
            let before = made.iter().position(|at| *at == part.start);
            pixels.drain(..before.unwrap_or(0) * values);
            pixels.truncate(part.len() * values);
        }
        Some(Ok(Batch {
            pixels,
            mixed,
            labels: items.iter().map(label).collect(),
            items,
        }))
    }

    /// Makes one picture.
    fn picture(
        &self,
        Shot { item, draw, .. }: Shot,
        worker: &mut Worker,
        output: &mut [f32],
    ) -> Result<(), DataError> {
        let size = self.preprocess.image_size;
        let Some((augment, draw)) = self.augment.zip(draw) else {
            let resized = self.source(item, Form::Resized, worker)?;
            let view = View::centre(self.preprocess.resized(), size);
            view.scale(size, &self.scale, &resized, output);
            return Ok(());
        };
        let form = match augment.config.resized_crop() {
            None => Form::Resized,
            Some(ranges) => Form::Whole(augment::least_side(&ranges, size)),
        };
        let source = self.source(item, form, worker)?;
        let subject = Subject {
            item,
            hash: &self.dataset.items[item].hash,
        };
        let sides = [source.height(), source.width()];
        let changes = Changes::draw(&self.preprocess, &augment, draw, subject, sides);
        let (scale, resizer) = (&self.scale, &mut worker.resizer);
        changes.apply(&self.preprocess, scale, &source, resizer, output);
        Ok(())
    }

    /// The picture before random changes.
    fn source(
        &self,
        item: usize,
        form: Form,
        worker: &mut Worker,
    ) -> Result<Arc<RgbImage>, DataError> {
        if let Some(picture) = self.cache.as_ref().and_then(|cache| cache.get(item, form)) {
            return Ok(picture);
        }
        if let Some((last, of, picture)) = &worker.last
            && (*last, *of) == (item, form)
        {
            return Ok(Arc::clone(picture));
        }
        let picture = Arc::new(self.read(item, form, &mut worker.resizer)?);
        if let Some(cache) = &self.cache {
            cache.put(item, form, &picture);
        }
        worker.last = Some((item, form, Arc::clone(&picture)));
        Ok(picture)
    }

    fn read(&self, item: usize, form: Form, resizer: &mut Resizer) -> Result<RgbImage, DataError> {
        let Preprocess { interpolation, .. } = self.preprocess;
        // For random parts it is of no use, and leaves the memory.
        let kept = self.dataset.take_kept(item, &self.preprocess);
        if let Some(resized) = kept.filter(|_| form == Form::Resized) {
            return Ok(resized);
        }
        let picture = self.dataset.picture(item)?;
        let Form::Whole(side) = form else {
            return Ok(resizer.resize(picture, self.preprocess.resized(), interpolation));
        };
        let (height, width) = (picture.height(), picture.width());
        let shorter = height.min(width);
        if shorter <= side {
            return Ok(picture);
        }
        let share = f64::from(side) / f64::from(shorter);
        let smaller = [height, width].map(|side| (f64::from(side) * share).round() as u32);
        Ok(resizer.resize(picture, smaller, interpolation))
    }

    fn batches(&self) -> usize {
        self.shots.len().div_ceil(self.batch_size)
    }
}

/// Positions in a part of a batch, and of those that they are mixed with: the same from the end.
/// Ascending, so that mixing these with themselves in reverse order mixes the same pairs.
fn with_partners(part: &Range<usize>, batch: usize) -> Vec<usize> {
    let is_wanted = |at: &usize| part.contains(at) || part.contains(&(batch - 1 - at));
    (0..batch).filter(is_wanted).collect()
}

/// How to load one pass over some items.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Pictures in the order of use.
    pub shots: Vec<Shot>,
    /// How pictures become input.
    pub preprocess: Preprocess,
    /// Random changes, for pictures that are wanted with them.
    pub augment: Option<Augment>,
    /// Mixes pictures of a batch with each other.
    pub mix: Option<Mixer>,
    /// Pictures in a batch; the last one may have fewer.
    pub batch_size: usize,
    /// Which pictures of each batch to make; all of them if `None`.
    pub parts: Option<Vec<Range<usize>>>,
    /// Decoding threads; 0 means one a core.
    pub threads: usize,
    /// Batches that wait to be used, over all threads, which get equal parts of it rounded up; one
    /// more is under way on each.
    pub waiting: usize,
    /// Keeps decoded pictures for later passes.
    pub cache: Option<Arc<PictureCache>>,
}

/// An iterator over the batches of one pass. Ends after the first error. Dropping it half-way
/// stops its threads.
#[derive(Debug)]
pub struct Loader {
    queues: Vec<Receiver<Result<Batch, DataError>>>,
    threads: Vec<JoinHandle<()>>,
    work: Arc<Work>,
    next: usize,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Work")
            .field("batches", &self.batches())
            .finish_non_exhaustive()
    }
}

impl Loader {
    /// Starts decoding. Fails if the preprocessing contradicts itself or no thread can be started.
    pub fn start(dataset: &Arc<Dataset>, plan: Plan) -> Result<Self, DataError> {
        plan.preprocess.check()?;
        let work = Arc::new(Work {
            dataset: Arc::clone(dataset),
            shots: plan.shots,
            scale: Scale::new(&plan.preprocess),
            preprocess: plan.preprocess,
            augment: plan.augment.filter(|augment| augment.config.is_random()),
            mix: plan.mix.filter(|mixer| mixer.mixing.is_on()),
            batch_size: plan.batch_size.max(1),
            parts: plan.parts,
            cache: plan.cache,
            stop: AtomicBool::new(false),
        });
        let count = match plan.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let count = count.min(work.batches()).max(1);
        let mut loader = Self {
            queues: Vec::with_capacity(count),
            threads: Vec::with_capacity(count),
            work,
            next: 0,
        };
        for thread in 0..count {
            let (sender, queue) = sync_channel(plan.waiting.div_ceil(count));
            let work = Arc::clone(&loader.work);
            let handle = std::thread::Builder::new()
                .name(format!("decode-{thread}"))
                .spawn(move || decode(&work, thread, count, &sender))
                .map_err(|_| DataError::Stopped)?;
            loader.queues.push(queue);
            loader.threads.push(handle);
        }
        Ok(loader)
    }

    /// Batches in the whole pass.
    pub fn batches(&self) -> usize {
        self.work.batches()
    }
}

/// Thread `first` of `step` takes every `step`-th batch, so that taking turns between the queues
/// gives them back in order.
fn decode(work: &Work, first: usize, step: usize, queue: &SyncSender<Result<Batch, DataError>>) {
    let mut worker = Worker::default();
    for batch in (first..work.batches()).step_by(step) {
        let Some(batch) = work.batch(batch, &mut worker) else {
            return;
        };
        let failed = batch.is_err();
        // No receiver: the loader was dropped.
        if queue.send(batch).is_err() || failed {
            return;
        }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.work.batches() {
            return None;
        }
        let queue = &self.queues[self.next % self.queues.len()];
        let batch = queue.recv().unwrap_or(Err(DataError::Stopped));
        self.next = match batch {
            Ok(_) => self.next + 1,
            Err(_) => self.work.batches(),
        };
        Some(batch)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.work.stop.store(true, Ordering::Relaxed);
        self.queues.clear();
        for thread in self.threads.drain(..) {
            // A panic there has already come through as an error of the queue.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataConfig;
    use crate::data::mix::Mixing;
    use crate::data::preprocess::IMAGENET;
    use crate::data::{Keep, ScanOptions, Source};

    fn generated() -> (Arc<Dataset>, Preprocess) {
        let config: DataConfig = toml::from_str(
            "generate = { kind = 'patterns', per_class = 12 }\nimage_size = 16\nresize = 20",
        )
        .unwrap();
        let preprocess = Preprocess::from_config(&config, [32, 32], IMAGENET).unwrap();
        (Arc::new(Dataset::open(&config, 5).unwrap()), preprocess)
    }

    fn plan(dataset: &Dataset, preprocess: Preprocess, threads: usize) -> Plan {
        Plan {
            shots: (0..dataset.items.len())
                .rev()
                .map(|item| Shot {
                    item,
                    draw: Some(Draw::Epoch(2)),
                    copy: 0,
                })
                .collect(),
            preprocess,
            augment: Some(Augment {
                config: toml::from_str("flip_horizontal = true\nflip_vertical = true\ncrop = true")
                    .unwrap(),
                seed: 9,
            }),
            mix: None,
            batch_size: 5,
            parts: None,
            threads,
            waiting: WAITING,
            cache: None,
        }
    }

    fn all(dataset: &Arc<Dataset>, plan: Plan) -> Vec<Batch> {
        Loader::start(dataset, plan)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    }

    #[test]
    fn batches_do_not_depend_on_threads_or_cache() {
        let (dataset, preprocess) = generated();
        let alone = all(&dataset, plan(&dataset, preprocess, 1));
        assert_eq!(alone.len(), dataset.items.len().div_ceil(5));
        let items: Vec<usize> = alone.iter().flat_map(|batch| batch.items.clone()).collect();
        assert_eq!(items, (0..dataset.items.len()).rev().collect::<Vec<_>>());
        assert_eq!(alone, all(&dataset, plan(&dataset, preprocess, 7)));
        // Room for some of the pictures only.
        let cache = Arc::new(PictureCache::new(&dataset, 10 * 20 * 20 * 3 + 7));
        for _ in 0..2 {
            let cached = Plan {
                cache: Some(Arc::clone(&cache)),
                ..plan(&dataset, preprocess, 2)
            };
            assert_eq!(alone, all(&dataset, cached));
        }
        let kept = (0..dataset.items.len())
            .filter(|&item| cache.get(item, Form::Resized).is_some())
            .count();
        assert_eq!(kept, 10);
    }

    #[test]
    fn a_part_of_a_batch_has_the_pixels_of_the_whole() {
        let (dataset, preprocess) = generated();
        let mixing = Mixing {
            mixup: 0.4,
            cutmix: 1.0,
        };
        let mixer = Mixer {
            mixing,
            seed: 3,
            epoch: 1,
        };
        for mix in [None, Some(mixer)] {
            let plan = Plan {
                mix,
                ..plan(&dataset, preprocess, 2)
            };
            let whole = all(&dataset, plan.clone());
            for bounds in [[0, 0], [0, 2], [2, 3], [1, 5], [4, 5]] {
                let part = |batch: &Batch| {
                    let [start, end] = bounds.map(|at: usize| at.min(batch.items.len()));
                    start..end
                };
                let parts = Some(whole.iter().map(part).collect());
                let found = all(
                    &dataset,
                    Plan {
                        parts,
                        ..plan.clone()
                    },
                );
                for (found, whole) in found.into_iter().zip(&whole) {
                    let values = preprocess.values();
                    let Range { start, end } = part(whole);
                    let pixels = whole.pixels[start * values..end * values].to_vec();
                    let expected = Batch {
                        pixels,
                        ..whole.clone()
                    };
                    assert_eq!(found, expected);
                }
            }
        }
    }

    #[test]
    fn a_loader_can_be_dropped_half_way() {
        let (dataset, preprocess) = generated();
        for taken in 0..3 {
            let mut loader = Loader::start(&dataset, plan(&dataset, preprocess, 3)).unwrap();
            for _ in 0..taken {
                loader.next().unwrap().unwrap();
            }
        }
    }

    #[test]
    fn what_a_scan_saves_changes_no_batch() {
        let (drawn, preprocess) = generated();
        let folder = tempfile::tempdir().unwrap();
        for item in (0..drawn.items.len()).step_by(3) {
            let class = folder.path().join(&drawn.classes[drawn.items[item].label]);
            std::fs::create_dir_all(&class).unwrap();
            let picture = drawn.picture(item).unwrap();
            picture.save(class.join(format!("{item}.png"))).unwrap();
        }
        let config = DataConfig {
            root: Some(folder.path().to_owned()),
            ..toml::from_str("").unwrap()
        };
        let open =
            |options: &ScanOptions| Arc::new(Dataset::open_with(&config, 5, options).unwrap());
        let plain = open(&ScanOptions::default());
        let expected = all(&plain, plan(&plain, preprocess, 2));
        let notes = tempfile::tempdir().unwrap();
        // Room for some of the pictures; the second scan finds notes on all and decodes none.
        let options = ScanOptions {
            keep: Some(Keep {
                preprocess,
                budget: 5 * 20 * 20 * 3,
            }),
            notes: Some(notes.path().to_owned()),
        };
        let waiting = |dataset: &Dataset, preprocess: &Preprocess| {
            let items = 0..dataset.items.len();
            items
                .filter(|&item| dataset.take_kept(item, preprocess).is_some())
                .count()
        };
        let other = Preprocess {
            resize: Some([21, 21]),
            ..preprocess
        };
        let first = open(&options);
        assert_eq!(first.items, plain.items);
        assert_eq!(waiting(&first, &other), 0);
        assert_eq!(all(&first, plan(&first, preprocess, 2)), expected);
        assert_eq!(waiting(&first, &preprocess), 0);
        let second = open(&options);
        assert_eq!(second.items, plain.items);
        assert_eq!(waiting(&second, &preprocess), 0);
        assert_eq!(all(&second, plan(&second, preprocess, 2)), expected);
        let unnoted = ScanOptions {
            notes: None,
            ..options
        };
        assert_eq!(waiting(&open(&unnoted), &preprocess), 5);
    }

    #[test]
    fn a_file_that_vanished_or_changed_is_an_error_that_names_it() {
        let (dataset, preprocess) = generated();
        let folder = tempfile::tempdir().unwrap();
        let mut changed = (*dataset).clone();
        let file = folder.path().join("here.png");
        changed.items[3].source = Source::File(file.clone());
        changed.items[3].path = "a/here.png".into();
        let changed = Arc::new(changed);
        let failure = || {
            let mut loader = Loader::start(&changed, plan(&changed, preprocess, 2)).unwrap();
            let error = loader.find_map(Result::err).unwrap().to_string();
            assert!(loader.next().is_none());
            error
        };
        assert_eq!(
            failure(),
            "picture `a/here.png` is gone since it was scanned"
        );
        std::fs::write(&file, b"other bytes").unwrap();
        assert_eq!(
            failure(),
            "picture `a/here.png` changed since it was scanned"
        );
    }
}
