//! Pictures of requests that come at the same time, computed together.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use tokio::sync::{mpsc, oneshot};

use super::Model;
use super::metrics::Metrics;
use crate::ops::loss;

/// Most pictures in a batch: more take longer without being faster a picture.
const BATCH: usize = 16;

/// Decoded pictures that may wait: enough for the next batch.
const WAITING: usize = 2 * BATCH;

/// A picture and who waits for it.
#[derive(Debug)]
struct Job {
    pixels: Vec<f32>,
    answer: oneshot::Sender<Result<Vec<f32>, String>>,
}

/// The way to the thread that computes, which ends with the last of them.
#[derive(Debug, Clone)]
pub(super) struct Batcher {
    queue: mpsc::Sender<Job>,
}

/// A place for a picture that is still to be decoded.
#[derive(Debug)]
pub(super) struct Place(mpsc::OwnedPermit<Job>);

impl Batcher {
    /// Starts the thread.
    pub(super) fn start(model: Arc<Model>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel(WAITING);
        let thread = std::thread::Builder::new().name("network".into());
        thread.spawn(move || work(&model, &metrics, jobs))?;
        Ok(Self { queue })
    }

    /// Waits until another picture may be decoded, first come, first served.
    ///
    /// # Errors
    /// If there is no network any more.
    pub(super) async fn place(&self) -> Result<Place, String> {
        let place = self.queue.clone().reserve_owned().await;
        place.map(Place).map_err(|_| GONE.to_owned())
    }
}

const GONE: &str = "the network has stopped";

impl Place {
    /// Probabilities of all classes for a picture, `[height, width, 3]` scaled.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub(super) async fn probabilities(self, pixels: Vec<f32>) -> Result<Vec<f32>, String> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Job { pixels, answer });
        answered.await.unwrap_or_else(|_| Err(GONE.to_owned()))
    }
}

fn work(model: &Model, metrics: &Metrics, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = vec![first];
        while let Some(job) = (batch.len() < BATCH)
            .then(|| jobs.try_recv().ok())
            .flatten()
        {
            batch.push(job);
        }
        // Who has given up needs no answer.
        batch.retain(|job| !job.answer.is_closed());
        if batch.is_empty() {
            continue;
        }
        metrics.batch(batch.len());
        let (pixels, answers): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|job| (job.pixels, job.answer))
            .unzip();
        // What goes wrong with some pictures must not take the network from all others.
        let computed = catch_unwind(AssertUnwindSafe(|| compute(model, pixels)));
        let computed = match computed {
            Ok(rows) => rows.map_err(|error| error.to_string()),
            Err(_) => Err("the network failed".into()),
        };
        match computed {
            Ok(rows) => {
                for (answer, row) in answers.into_iter().zip(rows) {
                    let _ = answer.send(Ok(row));
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }
}

fn compute(model: &Model, pixels: Vec<Vec<f32>>) -> candle_core::Result<Vec<Vec<f32>>> {
    let [height, width] = model.preprocess.image_size.map(|side| side as usize);
    let count = pixels.len();
    let pictures = Tensor::from_vec(pixels.concat(), (count, height, width, 3), &Device::Cpu)?;
    let logits = model.network.run(&[pictures])?.swap_remove(0);
    loss::probabilities(&logits)
}
