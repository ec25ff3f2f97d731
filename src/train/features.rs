//! Features of frozen layers, by split and stored layers: computed in one pass for every phase that
//! can use them, kept for other runs, dropped when a phase unfreezes what they depend on.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::extract::{Extraction, Source, Unit};
use super::feed::{Feed, FeedError, Variety};
use super::observer::{FeaturesReady, Observer};
use super::phase::PhasePlan;
use crate::engine::cache::{FeatureCache, Place};
use crate::engine::params::Params;
use crate::engine::seam::is_seam;
use crate::engine::store::{About, Entry, FeatureStore, key};
use crate::graph::cutoff::Frontier;
use crate::graph::{Graph, NodeId};
use crate::ranks::Ranks;
use crate::records::Split;

/// Features on disk and what to call them there.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The files.
    pub store: FeatureStore,
    /// Name of the backbone, for people.
    pub backbone: String,
}

/// Which pictures, how they vary, and the layers.
type Key = (Split, Variety, Vec<NodeId>);

/// Cached outputs of frozen layers.
#[derive(Debug)]
pub struct FeatureBank {
    caches: BTreeMap<Key, FeatureCache>,
    memory: usize,
    disk: Option<Disk>,
    /// Entries on disk that this run uses.
    used: BTreeSet<String>,
    /// Those of them that it has compared with what it computes itself.
    compared: BTreeSet<String>,
    /// Who computes features together.
    ranks: Ranks,
}

/// A network whose features are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Network<'a> {
    /// Its layers.
    pub graph: &'a Graph,
    /// Its parameters as they are now.
    pub params: &'a Params,
}

impl FeatureBank {
    /// An empty bank that will hold at most `memory` bytes in main memory, and what is beyond it
    /// in files of `disk`. Without either it holds nothing.
    pub fn new(memory: usize, disk: Option<Disk>) -> Self {
        Self {
            caches: BTreeMap::new(),
            memory,
            disk,
            used: BTreeSet::new(),
            compared: BTreeSet::new(),
            ranks: Ranks::alone(),
        }
    }

    /// The same for several ranks that compute features together, and hold them all: only the first may
    /// have files, from which the others get what is there.
    #[must_use]
    pub fn of_ranks(self, ranks: &Ranks) -> Self {
        Self {
            ranks: ranks.clone(),
            ..self
        }
    }

    /// Who computes features together.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// Whether these layers are cached for the split as the feed treats it.
    pub fn holds(&self, feed: &Feed, split: Split, nodes: &[NodeId]) -> bool {
        self.caches.contains_key(&key_of(feed, split, nodes))
    }

    /// Features of these versions of the split's pictures (see [`Feed::versions`]), one tensor a
    /// layer.
    pub fn gather(
        &self,
        feed: &Feed,
        split: Split,
        nodes: &[NodeId],
        versions: &[usize],
    ) -> candle_core::Result<Vec<candle_core::Tensor>> {
        self.caches[&key_of(feed, split, nodes)].gather(versions)
    }

    /// Prepares for phase `index`: drops what it will change and what no phase reads any more,
    /// then computes what it and, in the same pass, later phases need of layers that stay frozen
    /// until then. Trouble with files is told to the observer and ends nothing.
    pub fn prepare(
        &mut self,
        network: Network<'_>,
        phases: &[PhasePlan],
        index: usize,
        feed: &Feed,
        observer: &mut dyn Observer,
    ) -> Result<(), FeedError> {
        let phases = &phases[index..];
        self.caches.retain(|(split, variety, nodes), _| {
            let reads = phases.iter().map(|phase| {
                let feed = feed.in_phase(phase.pictures);
                (&phase.frontier, feed.variety(*split) == *variety)
            });
            is_read(reads, nodes)
        });
        for split in [Split::Train, Split::Val] {
            // Phases that see the same pictures share a pass.
            let mut feeds: Vec<Feed> = Vec::new();
            for phase in phases {
                let feed = feed.in_phase(phase.pictures);
                let other = |known: &Feed| known.variety(split) != feed.variety(split);
                if feed.is_cacheable(split) && feeds.iter().all(other) {
                    feeds.push(feed);
                }
            }
            for feed in &feeds {
                let units = self.wanted(network.graph, phases, split, feed);
                let source = Source {
                    network,
                    feed,
                    split,
                };
                self.fill(source, units, observer)?;
            }
        }
        Ok(())
    }

    /// Prepares the highest layers that stayed frozen in all of these phases for the test split,
    /// if they are worth keeping for other runs. Returns the layers to start the evaluation from:
    /// these, or the picture.
    pub fn prepare_test(
        &mut self,
        network: Network<'_>,
        phases: &[PhasePlan],
        feed: &Feed,
        observer: &mut dyn Observer,
    ) -> Result<Vec<NodeId>, FeedError> {
        let (graph, split) = (network.graph, Split::Test);
        // Layers that stayed frozen are the same in the best weights and in the last.
        self.caches.retain(|(kept, ..), _| *kept == split);
        let stays = |node: &NodeId| phases.iter().all(|phase| phase.frontier.frozen[*node]);
        let usable = |nodes: &&Vec<NodeId>| {
            !nodes.contains(&0)
                && nodes
                    .iter()
                    .all(|node| stays(node) && is_seam(graph, *node))
        };
        let stored = phases.iter().map(|phase| &phase.frontier.stored);
        let best = stored
            .filter(usable)
            .max_by_key(|nodes| nodes.last().copied());
        let keeps = self
            .ranks
            .from_first(|| vec![u8::from(self.disk.is_some())])?;
        if let (Some(nodes), [1]) = (best, keeps.as_slice()) {
            if self.holds(feed, split, nodes) {
                return Ok(nodes.clone());
            }
            let cost = cost(graph, nodes, rows(feed, split));
            if let Some(place) = self.room().place(cost, 0) {
                let nodes = nodes.clone();
                let units = vec![Unit {
                    nodes: nodes.clone(),
                    place,
                }];
                let source = Source {
                    network,
                    feed,
                    split,
                };
                self.fill(source, units, observer)?;
                if self.holds(feed, split, &nodes) {
                    return Ok(nodes);
                }
            }
        }
        Ok(vec![0])
    }

    /// What to compute for a split: this phase's layers first, then those of the phases that
    /// follow and see the same pictures, as long as they stay frozen.
    fn wanted(&self, graph: &Graph, phases: &[PhasePlan], split: Split, feed: &Feed) -> Vec<Unit> {
        let used = self.caches.values().map(FeatureCache::memory_bytes).sum();
        let holds = |nodes: &[NodeId]| self.holds(feed, split, nodes);
        let sees =
            |phase: &PhasePlan| feed.in_phase(phase.pictures).variety(split) == feed.variety(split);
        let rows = rows(feed, split);
        wanted(graph, phases, (rows, sees), holds, used, self.room())
    }

    fn room(&self) -> Room {
        Room {
            memory: self.memory,
            disk: match &self.disk {
                // Files of the first are out of the others' reach.
                Some(disk) if self.ranks.is_alone() => disk.store.max_bytes(),
                _ => 0,
            },
        }
    }

    fn disk_for(&self, bytes: usize) -> Option<&Disk> {
        let fits = |disk: &&Disk| bytes as u64 <= disk.store.max_bytes();
        self.disk.as_ref().filter(fits)
    }

    fn fill(
        &mut self,
        source: Source<'_>,
        units: Vec<Unit>,
        observer: &mut dyn Observer,
    ) -> Result<(), FeedError> {
        if source.feed.items(source.split).is_empty() {
            return Ok(());
        }
        // Units that change one another's bits are computed apart.
        let graph = source.network.graph;
        let (together, apart): (Vec<Unit>, Vec<Unit>) = units
            .into_iter()
            .partition(|unit| unit.nodes.iter().all(|&node| is_seam(graph, node)));
        self.fill_together(source, together, observer)?;
        for unit in apart {
            self.fill_together(source, vec![unit], observer)?;
        }
        Ok(())
    }

    fn fill_together(
        &mut self,
        source: Source<'_>,
        units: Vec<Unit>,
        observer: &mut dyn Observer,
    ) -> Result<(), FeedError> {
        let mut extraction = Extraction::new(source, &units);
        let mut opened = Vec::with_capacity(units.len());
        for unit in &units {
            opened.push(self.open(&mut extraction, unit, observer)?);
        }
        let reused: Vec<usize> = opened.iter().map(FeatureCache::ready).collect();
        extraction.run(&units, &mut opened, &self.ranks, observer)?;

        let mut wrote = false;
        for ((unit, mut cache), reused) in units.into_iter().zip(opened).zip(reused) {
            if let Some(trouble) = cache.finish() {
                // Once is enough: the disk is done with.
                if self.disk.take().is_some() {
                    observer.warning(&format!("features are not kept on disk: {trouble}"));
                }
            }
            if cache.ready() < cache.pictures() {
                continue;
            }
            wrote |= reused < cache.pictures();
            observer.features_ready(FeaturesReady {
                split: source.split,
                layers: &layers(source.network.graph, &unit.nodes),
                pictures: cache.pictures(),
                views: source.feed.variety(source.split).versions(),
                reused,
                in_memory: cache.place() == Place::Memory,
            });
            let key = key_of(source.feed, source.split, &unit.nodes);
            self.caches.insert(key, cache);
        }
        if wrote {
            self.evict(observer);
        }
        Ok(())
    }

    /// A unit's cache with what is on disk already.
    fn open(
        &mut self,
        extraction: &mut Extraction<'_>,
        unit: &Unit,
        observer: &mut dyn Observer,
    ) -> Result<FeatureCache, FeedError> {
        let Some(entry) = self.entry(extraction.source, unit, observer)? else {
            return Ok(extraction.cache(unit, None));
        };
        let name = entry.name();
        let mut cache = extraction.cache(unit, Some(entry));
        self.used.insert(name.clone());
        // A change of a kernel or decoder that nobody counted must not mix two kinds of bits.
        if let Some(first) = cache.first_ready()
            && self.compared.insert(name.clone())
            && !cache.is_agreed()
        {
            match extraction.agrees(unit, &cache, first)? {
                true => cache.agree(),
                false => {
                    observer.warning(&format!(
                        "cached features `{name}` are not what this build of xp computes; they \
                         are computed again"
                    ));
                    cache.discard();
                }
            }
        }
        Ok(cache)
    }

    /// The entry of a unit on disk, if it is to be kept there.
    fn entry(
        &self,
        source: Source<'_>,
        unit: &Unit,
        observer: &mut dyn Observer,
    ) -> Result<Option<Entry>, FeedError> {
        let Network { graph, params } = source.network;
        let rows = rows(source.feed, source.split);
        let Some(disk) = self.disk_for(cost(graph, &unit.nodes, rows)) else {
            return Ok(None);
        };
        let input = source.feed.input(source.split);
        let about = About {
            backbone: disk.backbone.clone(),
            layers: layers(graph, &unit.nodes),
            input: input.clone(),
            xp_version: env!("CARGO_PKG_VERSION").into(),
        };
        let key = key(graph, params, &unit.nodes, &input)?;
        let (entry, errors) = disk.store.open(&key, elements(graph, &unit.nodes), about);
        for error in errors {
            observer.warning(&error.to_string());
        }
        Ok(Some(entry))
    }

    /// Makes room on disk for what was written.
    fn evict(&self, observer: &mut dyn Observer) {
        if let Some(disk) = &self.disk
            && let Err(error) = disk.store.evict(&self.used)
        {
            observer.warning(&format!("old features are not removed: {error}"));
        }
    }
}

/// Bytes that features may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Of main memory.
    pub memory: usize,
    /// Of the disk; 0 without one.
    pub disk: u64,
}

impl Room {
    /// Where that many bytes go when `used` bytes of memory are taken; `None` if nowhere.
    fn place(self, bytes: usize, used: usize) -> Option<Place> {
        if used.saturating_add(bytes) <= self.memory {
            return Some(Place::Memory);
        }
        (self.disk > 0 && bytes as u64 <= self.disk).then_some(Place::Disk)
    }
}

/// What the first of these phases and, as long as its layers stay frozen, later ones want of so
/// many rows of features and is not held yet. `sees` says whether a phase sees the pictures that the
/// rows are of.
pub(super) fn wanted(
    graph: &Graph,
    phases: &[PhasePlan],
    (rows, sees): (usize, impl Fn(&PhasePlan) -> bool),
    holds: impl Fn(&[NodeId]) -> bool,
    mut used: usize,
    room: Room,
) -> Vec<Unit> {
    let mut wanted: Vec<Unit> = Vec::new();
    for (offset, phase) in phases.iter().enumerate() {
        let nodes = &phase.frontier.stored;
        let stays_frozen = |&node: &NodeId| {
            let mut between = phases[..offset].iter();
            between.all(|phase| phase.frontier.frozen[node])
        };
        // The picture itself is no feature: the loader keeps decoded pictures.
        if nodes.contains(&0)
            || !sees(phase)
            || holds(nodes)
            || wanted.iter().any(|unit| &unit.nodes == nodes)
            || !nodes.iter().all(stays_frozen)
        {
            continue;
        }
        let cost = cost(graph, nodes, rows);
        if let Some(place) = room.place(cost, used) {
            used += if place == Place::Memory { cost } else { 0 };
            wanted.push(Unit {
                nodes: nodes.clone(),
                place,
            });
        }
    }
    wanted
}

/// Values per picture.
fn elements(graph: &Graph, nodes: &[NodeId]) -> usize {
    let nodes = nodes
        .iter()
        .map(|&node| graph.nodes()[node].shape.elements());
    nodes.sum()
}

/// Versions of a split's pictures, all of them.
fn rows(feed: &Feed, split: Split) -> usize {
    feed.items(split).len() * feed.variety(split).versions()
}

/// Bytes of that many rows of features.
pub(super) fn cost(graph: &Graph, nodes: &[NodeId], rows: usize) -> usize {
    FeatureCache::bytes(rows, &[elements(graph, nodes)])
}

fn key_of(feed: &Feed, split: Split, nodes: &[NodeId]) -> Key {
    (split, feed.variety(split), nodes.to_vec())
}

fn layers(graph: &Graph, nodes: &[NodeId]) -> Vec<String> {
    let nodes = nodes.iter().map(|&node| graph.nodes()[node].name.clone());
    nodes.collect()
}

/// Whether one of these phases reads these nodes' outputs before one of them changes. A phase comes
/// with whether it sees the pictures that the outputs are of.
pub(super) fn is_read<'a>(
    phases: impl Iterator<Item = (&'a Frontier, bool)>,
    nodes: &[NodeId],
) -> bool {
    phases
        .take_while(|(frontier, _)| nodes.iter().all(|&node| frontier.frozen[node]))
        .any(|(frontier, sees_them)| sees_them && frontier.stored == nodes)
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
        let kept =
            |from: usize, node| is_read(phases[from..].iter().map(|phase| (phase, true)), &[node]);
        assert!(kept(0, 3) && kept(0, 2));
        assert!(!kept(0, 1), "no phase reads it");
        assert!(!kept(1, 3), "it changes before the last phase reads it");
        assert!(!kept(2, 2), "only a phase that is over read it");
        let others = phases.iter().map(|phase| (phase, false));
        assert!(!is_read(others, &[3]), "they read it of other pictures");
    }
}
