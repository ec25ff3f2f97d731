//! What the trainable suffix reads: cached features where there are any, else pictures through the
//! frozen prefix.

use candle_core::Tensor;

use super::features::FeatureBank;
use super::feed::{Feed, FeedError, Pass};
use super::labels::Labels;
use crate::engine::params::Params;
use crate::engine::prefix::Prefix;
use crate::graph::{Graph, NodeId};
use crate::records::Split;

/// The stored layers' tensors of a batch, and its labels.
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
        if self.cached(split) {
            return Ok(Box::new(order.iter().map(move |positions| {
                let versions = self.feed.versions(split, positions, pass);
                let features = self.bank.gather(self.feed, split, self.stored, &versions)?;
                Ok((features, self.feed.labels(split, positions)))
            })));
        }
        let batches = self.feed.batches(split, order, pass)?;
        Ok(Box::new(batches.map(move |batch| {
            let batch = batch?;
            let features = match &self.prefix {
                None => vec![batch.images],
                Some(prefix) => prefix.run(&[batch.images])?,
            };
            Ok((features, batch.labels))
        })))
    }
}
