//! Features of frozen layers, by layer and split: computed in one pass for every phase that can
//! use them, dropped when a phase unfreezes what they depend on.

use std::collections::BTreeMap;

use super::feed::{Feed, FeedError, Pass};
use super::observer::{FeatureProgress, Observer};
use super::phase::PhasePlan;
use crate::engine::cache::FeatureCache;
use crate::engine::params::Params;
use crate::engine::prefix::Prefix;
use crate::graph::cutoff::Frontier;
use crate::graph::{Graph, NodeId};
use crate::records::Split;

/// Cached outputs of frozen layers.
#[derive(Debug)]
pub struct FeatureBank {
    caches: BTreeMap<(Split, NodeId), FeatureCache>,
    budget: usize,
}

impl FeatureBank {
    /// An empty bank that will hold at most `budget` bytes.
    pub fn new(budget: usize) -> Self {
        Self {
            caches: BTreeMap::new(),
            budget,
        }
    }

    /// Whether all of these layers are cached for the split.
    pub fn holds(&self, split: Split, nodes: &[NodeId]) -> bool {
        nodes
            .iter()
            .all(|&node| self.caches.contains_key(&(split, node)))
    }

    /// Features of the pictures at these positions of the split, one tensor a layer.
    pub fn gather(
        &self,
        split: Split,
        nodes: &[NodeId],
        positions: &[usize],
    ) -> candle_core::Result<Vec<candle_core::Tensor>> {
        let mut tensors = Vec::with_capacity(nodes.len());
        for &node in nodes {
            tensors.extend(self.caches[&(split, node)].gather(positions)?);
        }
        Ok(tensors)
    }

    /// Prepares for phase `index`: drops what it will change and what no
    /// phase reads any more, then computes what it and, in the
    /// same pass, later phases need of layers that stay frozen until then.
    pub fn prepare(
        &mut self,
        graph: &Graph,
        params: &Params,
        phases: &[PhasePlan],
        index: usize,
        feed: &Feed,
        observer: &mut dyn Observer,
    ) -> Result<(), FeedError> {
        self.caches
            .retain(|&(_, node), _| is_read(phases[index..].iter().map(|p| &p.frontier), node));
        for split in [Split::Train, Split::Val] {
            if feed.is_cacheable(split) {
                let nodes = self.wanted(graph, phases, index, split, feed.items(split).len());
                self.fill(graph, params, &nodes, split, feed, observer)?;
            }
        }
        Ok(())
    }

    /// Layers to compute for a split within the budget: this phase's first, then those of the
    /// phases that follow, as long as they stay frozen.
    fn wanted(
        &self,
        graph: &Graph,
        phases: &[PhasePlan],
        index: usize,
        split: Split,
        pictures: usize,
    ) -> Vec<NodeId> {
        let elements = |node: NodeId| graph.nodes()[node].shape.elements();
        let mut used: usize = self
            .caches
            .iter()
            .map(|(&(_, node), cache)| FeatureCache::bytes(cache.pictures(), &[elements(node)]))
            .sum();
        let mut wanted: Vec<NodeId> = Vec::new();
        for (offset, phase) in phases[index..].iter().enumerate() {
            let stays_frozen = |&node: &NodeId| {
                phases[index..index + offset]
                    .iter()
                    .all(|between| between.frontier.frozen[node])
            };
            let missing: Vec<NodeId> = phase
                .frontier
                .stored
                .iter()
                .copied()
                .filter(|node| !self.caches.contains_key(&(split, *node)) && !wanted.contains(node))
                .collect();
            let cost: usize = missing
                .iter()
                .map(|&node| FeatureCache::bytes(pictures, &[elements(node)]))
                .sum();
            // The picture itself is no feature: the loader keeps decoded pictures.
            let is_input = phase.frontier.stored.contains(&0);
            if is_input || !missing.iter().all(stays_frozen) || used + cost > self.budget {
                continue;
            }
            used += cost;
            wanted.extend(missing);
        }
        wanted.sort_unstable();
        wanted
    }

    fn fill(
        &mut self,
        graph: &Graph,
        params: &Params,
        nodes: &[NodeId],
        split: Split,
        feed: &Feed,
        observer: &mut dyn Observer,
    ) -> Result<(), FeedError> {
        let total = feed.items(split).len();
        if nodes.is_empty() || total == 0 {
            return Ok(());
        }
        let prefix = Prefix::compile(graph, params, &[0], nodes)?;
        let mut caches: Vec<FeatureCache> = nodes
            .iter()
            .map(|&node| {
                FeatureCache::with_capacity(
                    total,
                    &[graph.nodes()[node].shape.batched(1)[1..].to_vec()],
                )
            })
            .collect();
        let mut done = 0;
        for batch in feed.batches(split, &feed.in_order(split), Pass::Once)? {
            let batch = batch?;
            for (cache, features) in caches.iter_mut().zip(prefix.run(&[batch.images])?) {
                cache.store(done, &[features])?;
            }
            done += batch.labels.len();
            observer.features(FeatureProgress { split, done, total });
        }
        self.caches
            .extend(nodes.iter().map(|&node| (split, node)).zip(caches));
        Ok(())
    }
}

/// Whether one of these phases reads the node's output before it changes.
fn is_read<'a>(phases: impl Iterator<Item = &'a Frontier>, node: NodeId) -> bool {
    phases
        .take_while(|frontier| frontier.frozen[node])
        .any(|frontier| frontier.stored.contains(&node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_kept_for_phases_that_read_them_unchanged() {
        let frontier = |frozen: usize, stored: NodeId| Frontier {
            frozen: (0..4).map(|node| node < frozen).collect(),
            stored: vec![stored],
        };
        let phases = [frontier(4, 3), frontier(3, 2), frontier(4, 3)];
        let kept = |from: usize, node| is_read(phases[from..].iter(), node);
        assert!(kept(0, 3) && kept(0, 2));
        assert!(!kept(0, 1), "no phase reads it");
        assert!(!kept(1, 3), "it changes before the last phase reads it");
        assert!(!kept(2, 2), "only a phase that is over read it");
    }
}
