//! What the trainable suffix reads: cached features where there are any, else pictures through the
//! frozen prefix.

use std::ops::Range;

use candle_core::Tensor;

use super::features::FeatureBank;
use super::feed::{Feed, FeedError, Pass};
use super::labels::Labels;
use crate::engine::params::Params;
use crate::engine::prefix::Prefix;
use crate::graph::{Graph, NodeId};
use crate::records::Split;

/// The stored layers' tensors of a batch or of a part of it, and all its labels.
pub type SuffixBatch = (Vec<Tensor>, Labels);

/// Inputs of one phase's suffix. Frozen parameters stay as they are for the whole phase.
#[derive(Debug)]
pub struct Inputs<'a> {
    bank: &'a FeatureBank,
    feed: &'a Feed,
    stored: &'a [NodeId],
    /// `None` when nothing is computed: the suffix reads the picture itself, or all is cached.
    prefix: Option<Prefix>,
}

impl<'a> Inputs<'a> {
    /// The outputs of the `stored` layers for pictures of these splits. Compiles the prefix below
    /// them where they are not all cached.
    pub fn open(
        bank: &'a FeatureBank,
        feed: &'a Feed,
        graph: &Graph,
        params: &Params,
        stored: &'a [NodeId],
        splits: &[Split],
    ) -> candle_core::Result<Self> {
        let mut used = splits
            .iter()
            .filter(|&&split| !feed.items(split).is_empty());
        let prefix = if stored == [0] || used.all(|&split| bank.holds(feed, split, stored)) {
            None
        } else {
            Some(Prefix::compile(graph, params, &[0], stored)?)
        };
        Ok(Self {
            bank,
            feed,
            stored,
            prefix,
        })
    }

    /// Whether a split's features are cached.
    pub fn cached(&self, split: Split) -> bool {
        self.bank.holds(self.feed, split, self.stored)
    }

    /// The stored layers' tensors and the labels of each batch of positions, in order. `pass` is
    /// for pictures that are read.
    pub fn batches<'b>(
        &'b self,
        split: Split,
        order: &'b [Vec<usize>],
        pass: Pass,
    ) -> Result<Box<dyn Iterator<Item = Result<SuffixBatch, FeedError>> + 'b>, FeedError> {
        self.parts(split, order, pass, None)
    }

    /// The same for some of the pictures of each batch: no tensors where there are none.
    pub fn parts<'b>(
        &'b self,
        split: Split,
        order: &'b [Vec<usize>],
        pass: Pass,
        parts: Option<Vec<Range<usize>>>,
    ) -> Result<Box<dyn Iterator<Item = Result<SuffixBatch, FeedError>> + 'b>, FeedError> {
        if self.cached(split) {
            return Ok(Box::new(order.iter().enumerate().map(
                move |(index, positions)| {
                    let part = parts.as_ref().map(|parts| parts[index].clone());
                    let own = &positions[part.unwrap_or(0..positions.len())];
                    let versions = self.feed.versions(split, own, pass);
                    let features = match versions.is_empty() {
                        true => Vec::new(),
                        false => self.bank.gather(self.feed, split, self.stored, &versions)?,
                    };
                    Ok((features, self.feed.labels(split, positions)))
                },
            )));
        }
        let batches = self.feed.batches_of(split, order, pass, parts)?;
        Ok(Box::new(batches.map(move |batch| {
            let batch = batch?;
            let features = match &self.prefix {
                _ if batch.images.dim(0)? == 0 => Vec::new(),
                None => vec![batch.images],
                Some(prefix) => prefix.run(&[batch.images])?,
            };
            Ok((features, batch.labels))
        })))
    }
}
