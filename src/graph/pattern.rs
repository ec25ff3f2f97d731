//! Layers as a configuration cites them: by name pattern or index, each of which must match.

use std::ops::Range;

use globset::{Glob, GlobMatcher};

use super::build::{Graph, GraphError};
use super::nearest::did_you_mean;
use super::node::NodeId;
use crate::config::{LayerRef, Layers};

/// What to do about a name that stands for nothing like it.
pub(super) const SUMMARY: &str = "`xp summary` lists the layers";

/// The layers that patterns or indices may mean.
pub(super) struct Choice<'a> {
    /// Their names, in order.
    names: Vec<&'a str>,
    /// Their nodes.
    nodes: Vec<Range<NodeId>>,
    /// What they are, for errors: `backbone layer`.
    what: &'static str,
}

/// The layers that a pattern or index cites.
pub(super) struct Cited {
    /// Where it stands in the configuration.
    pub(super) key: String,
    /// The nodes of each layer; there is at least one.
    pub(super) layers: Vec<Range<NodeId>>,
}

impl Cited {
    /// All nodes.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.layers.iter().cloned().flatten()
    }
}

impl<'a> Choice<'a> {
    /// The layers of the backbone.
    pub(super) fn backbone(graph: &'a Graph) -> Self {
        Self {
            names: graph.backbone_names().collect(),
            nodes: graph.backbone_layers(),
            what: "backbone layer",
        }
    }

    /// The layers of backbone and head.
    pub(super) fn all(graph: &'a Graph) -> Self {
        let nodes = graph.layers();
        let name = |nodes: &Range<NodeId>| graph.nodes()[nodes.start].name.as_str();
        Self {
            names: nodes.iter().map(name).collect(),
            nodes,
            what: "layer",
        }
    }

    /// The nodes of each layer that a pattern matches; an error names `key` if there are none.
    /// `words` are other words that may have been meant.
    pub(super) fn matching(
        &self,
        pattern: &str,
        key: &str,
        words: &[&str],
    ) -> Result<Vec<Range<NodeId>>, GraphError> {
        let matcher = matcher(pattern, key)?;
        let found: Vec<Range<NodeId>> = self
            .names
            .iter()
            .zip(&self.nodes)
            .filter(|(name, _)| matcher.is_match(name))
            .map(|(_, nodes)| nodes.clone())
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let plain = pattern.replace(['*', '?', '[', ']', '{', '}'], "");
        let known = words.iter().chain(&self.names).copied();
        Err(GraphError::new(
            key,
            format!("no {} matches `{pattern}`", self.what),
            did_you_mean(&plain, known).or_else(|| Some(SUMMARY.into())),
        ))
    }

    /// What each of several patterns or indices cites.
    pub(super) fn cited(&self, layers: &Layers, key: &str) -> Result<Vec<Cited>, GraphError> {
        let mut cited = Vec::new();
        for (position, layer) in layers.all().iter().enumerate() {
            let key = match layers {
                Layers::One(_) => key.to_string(),
                Layers::Many(_) => format!("{key}[{position}]"),
            };
            let layers = match layer {
                LayerRef::Name(pattern) => self.matching(pattern, &key, &[])?,
                LayerRef::Index(index) => vec![self.at(*index, &key)?],
            };
            cited.push(Cited { key, layers });
        }
        Ok(cited)
    }

    /// The nodes of the layer of that index; negative ones count from the end.
    fn at(&self, index: i64, key: &str) -> Result<Range<NodeId>, GraphError> {
        let count = self.nodes.len();
        match position(index, count).filter(|&at| at < count) {
            Some(at) => Ok(self.nodes[at].clone()),
            None => Err(GraphError::new(
                key,
                format!(
                    "there are {count} {}s, so {index} is out of range",
                    self.what
                ),
                format!(
                    "give an index from 0 to {}, or from -{count} to -1",
                    count - 1
                ),
            )),
        }
    }
}

/// Where an index points among `count` things, negative ones counted from the end; `None` before
/// the first.
pub(super) fn position(index: i64, count: usize) -> Option<usize> {
    let from_start = match index < 0 {
        true => index.saturating_add_unsigned(count as u64),
        false => index,
    };
    usize::try_from(from_start).ok()
}

fn matcher(pattern: &str, key: &str) -> Result<GlobMatcher, GraphError> {
    Glob::new(pattern)
        .map(|glob| glob.compile_matcher())
        .map_err(|error| {
            GraphError::new(
                key,
                format!("`{pattern}` is no pattern: {}", error.kind()),
                "`*` stands for any characters, `?` for one, `[ab]` for a or b".to_string(),
            )
        })
}
