//! One pass of pictures through the frozen prefix, into caches.

use std::ops::ControlFlow;

use candle_core::Tensor;

use super::features::Network;
use super::feed::{Feed, FeedError, Pass};
use super::observer::{FeatureProgress, Observer};
use crate::engine::cache::{FeatureCache, Place};
use crate::engine::prefix::Prefix;
use crate::engine::store::{Entry, PictureHash};
use crate::graph::NodeId;
use crate::records::Split;

/// What features are computed from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) network: Network<'a>,
    pub(super) feed: &'a Feed,
    pub(super) split: Split,
}

/// Layers whose outputs are kept together, and where.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) nodes: Vec<NodeId>,
    pub(super) place: Place,
}

/// The way from a split's pictures to the layers of some units.
#[derive(Debug)]
pub(super) struct Extraction<'a> {
    pub(super) source: Source<'a>,
    hashes: Vec<PictureHash>,
    /// Of all units, ascending.
    nodes: Vec<NodeId>,
    prefix: Option<Prefix>,
}

impl<'a> Extraction<'a> {
    pub(super) fn new(source: Source<'a>, units: &[Unit]) -> Self {
        let mut nodes: Vec<NodeId> = units.iter().flat_map(|unit| unit.nodes.clone()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        Self {
            source,
            hashes: source.feed.hashes(source.split),
            nodes,
            prefix: None,
        }
    }

    /// An empty cache of the split's pictures for a unit, or one that has what the entry has.
    pub(super) fn cache(&self, unit: &Unit, entry: Option<Entry>) -> FeatureCache {
        let nodes = self.source.network.graph.nodes();
        let dims = |&node: &NodeId| nodes[node].shape.batched(1)[1..].to_vec();
        let dims: Vec<_> = unit.nodes.iter().map(dims).collect();
        let device = self.source.network.params.device();
        FeatureCache::new(&self.hashes, &dims, unit.place, entry, &device)
    }

    /// Whether the features that the cache has for a picture are, bit by bit, those computed now.
    pub(super) fn agrees(
        &mut self,
        unit: &Unit,
        cache: &FeatureCache,
        position: usize,
    ) -> Result<bool, FeedError> {
        let kept = cache.gather(&[position])?;
        let mut agree = true;
        self.pass(&[vec![position]], |_, computed| {
            for (kept, computed) in kept.iter().zip(computed.of(unit)) {
                let bits = |tensor: &Tensor| -> candle_core::Result<Vec<u32>> {
                    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
                    Ok(values.into_iter().map(f32::to_bits).collect())
                };
                agree &= bits(kept)? == bits(&computed)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(agree)
    }

    /// Computes what the caches of these units miss.
    pub(super) fn run(
        &mut self,
        units: &[Unit],
        caches: &mut [FeatureCache],
        observer: &mut dyn Observer,
    ) -> Result<(), FeedError> {
        let mut missing: Vec<usize> = caches.iter().flat_map(FeatureCache::missing).collect();
        missing.sort_unstable();
        missing.dedup();
        let (total, split) = (missing.len(), self.source.split);
        let mut done = 0;
        let order = self.source.feed.cut(missing);
        let mut interrupted = false;
        self.pass(&order, |positions, computed| {
            for (unit, cache) in units.iter().zip(caches.iter_mut()) {
                if !cache.is_lost() {
                    cache.store(positions, &computed.of(unit))?;
                }
            }
            done += positions.len();
            observer.features(FeatureProgress { split, done, total });
            interrupted = observer.interrupted();
            // Nowhere to keep the rest: it is computed when it is needed.
            Ok(
                match interrupted || caches.iter().all(FeatureCache::is_lost) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                },
            )
        })?;
        match interrupted {
            true => Err(FeedError::Interrupted),
            false => Ok(()),
        }
    }

    fn pass(
        &mut self,
        order: &[Vec<usize>],
        mut each: impl FnMut(&[usize], &Computed<'_>) -> candle_core::Result<ControlFlow<()>>,
    ) -> Result<(), FeedError> {
        if order.is_empty() {
            return Ok(());
        }
        if self.prefix.is_none() {
            let Network { graph, params } = self.source.network;
            self.prefix = Some(Prefix::compile(graph, params, &[0], &self.nodes)?);
        }
        let Some(prefix) = &self.prefix else {
            return Ok(());
        };
        let batches = self
            .source
            .feed
            .batches(self.source.split, order, Pass::Once)?;
        for (positions, batch) in order.iter().zip(batches) {
            let tensors = prefix.run(&[batch?.images])?;
            let nodes = &self.nodes;
            if each(positions, &Computed { nodes, tensors })?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Outputs of layers for a batch.
struct Computed<'a> {
    nodes: &'a [NodeId],
    tensors: Vec<Tensor>,
}

impl Computed<'_> {
    fn of(&self, unit: &Unit) -> Vec<Tensor> {
        let pairs = self.nodes.iter().zip(&self.tensors);
        pairs
            .filter(|(node, _)| unit.nodes.contains(node))
            .map(|(_, tensor)| tensor.clone())
            .collect()
    }
}
