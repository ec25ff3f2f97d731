//! One pass of pictures through the frozen prefix, into caches.

use std::cell::RefCell;
use std::ops::ControlFlow;

use candle_core::{Device, Tensor};

use super::deal::Deal;
use super::features::Network;
use super::feed::{Feed, FeedError, Pass};
use super::observer::{FeatureProgress, Observer};
use crate::engine::cache::{FeatureCache, Place};
use crate::engine::prefix::Prefix;
use crate::engine::store::{Entry, PictureHash};
use crate::graph::{Graph, NodeId};
use crate::ranks::Ranks;
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

    /// Computes what the caches of these units miss. Of several ranks, each computes a part, and all get
    /// everything, with what the first has from disk.
    pub(super) fn run(
        &mut self,
        units: &[Unit],
        caches: &mut [FeatureCache],
        ranks: &Ranks,
        observer: &mut dyn Observer,
    ) -> Result<(), FeedError> {
        if !ranks.is_alone() {
            return self.run_together(units, caches, ranks, observer);
        }
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

    fn run_together(
        &mut self,
        units: &[Unit],
        caches: &mut [FeatureCache],
        ranks: &Ranks,
        observer: &mut dyn Observer,
    ) -> Result<(), FeedError> {
        for (unit, cache) in units.iter().zip(caches.iter_mut()) {
            self.spread(unit, cache, ranks)?;
        }
        let mut missing: Vec<usize> = caches.iter().flat_map(FeatureCache::missing).collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        let (total, split) = (missing.len(), self.source.split);
        let Network { graph, params } = self.source.network;
        let order = self.source.feed.cut(missing);
        let deal = Deal::new(ranks, &order);
        let own = deal.own();
        let prefix = Prefix::compile(graph, params, &[0], &self.nodes)?;
        let mut batches = self.source.feed.batches(split, &own, Pass::Once)?;
        let values = |node: &NodeId| graph.nodes()[*node].shape.elements();
        let all = self.nodes.iter().map(values).sum();
        let nodes = &self.nodes;
        let mut done = 0;
        // Both the closures that follow look at it.
        let observer = RefCell::new(observer);
        deal.run(
            all,
            |_| {
                let Some(batch) = batches.next() else {
                    return Ok(Vec::new());
                };
                Ok(values_of(&prefix.run(&[batch?.images])?)?)
            },
            |positions, values| {
                let tensors = tensors(graph, nodes, positions.len(), values)?;
                let computed = Computed { nodes, tensors };
                for (unit, cache) in units.iter().zip(caches.iter_mut()) {
                    cache.store(positions, &computed.of(unit))?;
                }
                done += positions.len();
                let progress = FeatureProgress { split, done, total };
                observer.borrow_mut().features(progress);
                Ok::<_, FeedError>(())
            },
            || observer.borrow().interrupted(),
        )
    }

    /// Gives all ranks what the first has of a unit.
    fn spread(
        &self,
        unit: &Unit,
        cache: &mut FeatureCache,
        ranks: &Ranks,
    ) -> Result<(), FeedError> {
        let encode = |at: usize| (at as u64).to_le_bytes();
        let present = ranks.from_first(|| {
            let present = cache.present().into_iter();
            present.flat_map(encode).collect()
        })?;
        let decode = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes) as usize;
        let present: Vec<usize> = present.chunks(size_of::<u64>()).map(decode).collect();
        let graph = self.source.network.graph;
        for positions in self.source.feed.cut(present) {
            let own = match ranks.is_first() {
                true => values_of(&cache.gather(&positions)?)?,
                false => Vec::new(),
            };
            let values = ranks.gather_values(own)?;
            if ranks.is_first() {
                continue;
            }
            let tensors = tensors(graph, &unit.nodes, positions.len(), &values)?;
            cache.store(&positions, &tensors)?;
        }
        Ok(())
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

/// The values of tensors, one after the other.
fn values_of(tensors: &[Tensor]) -> candle_core::Result<Vec<f32>> {
    let mut values = Vec::new();
    for tensor in tensors {
        values.extend(tensor.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(values)
}

/// The way back: outputs of these layers for so many pictures.
fn tensors(
    graph: &Graph,
    nodes: &[NodeId],
    pictures: usize,
    mut values: &[f32],
) -> candle_core::Result<Vec<Tensor>> {
    let mut tensors = Vec::with_capacity(nodes.len());
    for &node in nodes {
        let dims = graph.nodes()[node].shape.batched(pictures);
        let Some((own, rest)) = values.split_at_checked(dims.iter().product()) else {
            candle_core::bail!("ranks do not agree on how many values a picture has");
        };
        tensors.push(Tensor::from_slice(own, dims, &Device::Cpu)?);
        values = rest;
    }
    Ok(tensors)
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
