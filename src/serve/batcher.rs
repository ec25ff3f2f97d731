//! Pictures of requests that come at the same time, computed together.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use candle_core::{Device, Tensor};
use tokio::sync::oneshot;

use super::Model;
use super::metrics::Metrics;
use crate::ops::loss;

/// Most pictures in a batch: more take longer without being faster a picture.
const BATCH: usize = 16;

/// A picture and who waits for it.
struct Job {
    pixels: Vec<f32>,
    answer: oneshot::Sender<Result<Vec<f32>, String>>,
}

/// The way to the thread that computes, which ends with the last of them.
#[derive(Debug, Clone)]
pub(super) struct Batcher {
    queue: SyncSender<Job>,
}

impl Batcher {
    /// Starts the thread; up to `waiting` pictures may wait.
    pub(super) fn start(
        model: Arc<Model>,
        metrics: Arc<Metrics>,
        waiting: usize,
    ) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(waiting.max(1));
        let thread = std::thread::Builder::new().name("network".into());
        thread.spawn(move || work(&model, &metrics, &jobs))?;
        Ok(Self { queue })
    }

    /// Probabilities of all classes for a picture, `[height, width, 3]` scaled.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub(super) async fn probabilities(&self, pixels: Vec<f32>) -> Result<Vec<f32>, String> {
        let gone = || "the network has stopped".to_owned();
        let (answer, answered) = oneshot::channel();
        // There is room for all requests that are let in, but not for all their pictures.
        let mut job = Job { pixels, answer };
        loop {
            match self.queue.try_send(job) {
                Ok(()) => break,
                Err(std::sync::mpsc::TrySendError::Full(back)) => {
                    job = back;
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
                Err(std::sync::mpsc::TrySendError::Disconnected(_)) => return Err(gone()),
            }
        }
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn work(model: &Model, metrics: &Metrics, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        batch.extend(jobs.try_iter().take(BATCH - 1));
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
        match compute(model, pixels) {
            Ok(rows) => {
                for (answer, row) in answers.into_iter().zip(rows) {
                    let _ = answer.send(Ok(row));
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.to_string()));
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
