//! What a scan saves for later: it decodes every picture to find the broken ones, so it can leave
//! them resized for their first use, and write down which ones were whole.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::RgbImage;

use super::preprocess::{Preprocess, Resizer};

/// How a scan saves work. By default it saves none.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// Keeps decoded pictures, resized, until they are first used.
    pub keep: Option<Keep>,
    /// Folder of notes on pictures that earlier scans decoded; these are read but not decoded.
    pub notes: Option<PathBuf>,
}

/// Which pictures a scan keeps.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// How they will be used.
    pub preprocess: Preprocess,
    /// Most bytes to keep.
    pub budget: usize,
}

/// Resized pictures by content. Each leaves when it is first used.
#[derive(Debug)]
pub(super) struct Kept {
    preprocess: Preprocess,
    free: AtomicUsize,
    pictures: Mutex<HashMap<[u8; 32], RgbImage>>,
}

impl Kept {
    pub(super) fn new(keep: Keep) -> Self {
        Self {
            preprocess: keep.preprocess,
            free: AtomicUsize::new(keep.budget),
            pictures: Mutex::default(),
        }
    }

    /// Keeps a picture while there is room.
    pub(super) fn put(&self, hash: [u8; 32], picture: RgbImage, resizer: &mut Resizer) {
        let [height, width] = self.preprocess.resized();
        let bytes = height as usize * width as usize * 3;
        let take = |free: usize| free.checked_sub(bytes);
        let order = Ordering::Relaxed;
        if self.free.fetch_update(order, order, take).is_ok() {
            let interpolation = self.preprocess.interpolation;
            let resized = resizer.resize(picture, [height, width], interpolation);
            if let Ok(mut pictures) = self.pictures.lock() {
                pictures.insert(hash, resized);
            }
        }
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        let pictures = self.pictures.lock();
        pictures.map_or(0, |pictures| pictures.values().map(|it| it.len()).sum())
    }

    /// Lets go of all pictures but these; nothing is kept in their place.
    pub(super) fn retain(&self, hashes: &HashSet<[u8; 32]>) {
        if let Ok(mut pictures) = self.pictures.lock() {
            pictures.retain(|hash, _| hashes.contains(hash));
        }
    }

    /// Gives away a picture that was kept for this preprocessing.
    pub(super) fn take(&self, hash: &[u8; 32], preprocess: &Preprocess) -> Option<RgbImage> {
        let same = self.preprocess.resized() == preprocess.resized()
            && self.preprocess.interpolation == preprocess.interpolation;
        same.then(|| self.pictures.lock().ok()?.remove(hash))?
    }
}
