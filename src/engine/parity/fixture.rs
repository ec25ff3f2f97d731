//! What the references computed: `tests/fixtures/parity`.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use indexmap::IndexMap;
use serde::Deserialize;

use super::formula::{self, Levels};
use crate::config::Flavour;
use crate::engine::memory::values;
use crate::engine::params::Params;
use crate::engine::test_support::{noise, uniform};
use crate::graph::{Graph, NodeId};

/// One architecture in one flavour.
#[derive(Debug, Deserialize)]
pub(crate) struct Fixture {
    pub(crate) family: String,
    pub(crate) width: f64,
    pub(crate) flavour: Flavour,
    classes: usize,
    saturate: bool,
    #[serde(default)]
    smooth: bool,
    levels: Levels,
    /// Stored statistics.
    pub(crate) eval: Case,
    /// The batch's statistics, where there are norms.
    pub(crate) train: Option<Case>,
}

/// Pictures, and what came of them.
#[derive(Debug, Deserialize)]
pub(crate) struct Case {
    side: u32,
    batch: usize,
    /// Number of the set of pictures.
    pictures: u64,
    /// Outputs of nodes, the logits last.
    pub(crate) values: IndexMap<String, Sample>,
    /// Gradients of the loss `sum(logits * dlogits)`, by parameter.
    pub(crate) gradients: IndexMap<String, Sample>,
    /// Running statistics after the step.
    #[serde(default)]
    pub(crate) statistics: IndexMap<String, Sample>,
}

/// A few values of a tensor.
#[derive(Debug, Deserialize)]
pub(crate) struct Sample {
    largest: f64,
    norm: f64,
    values: Vec<f64>,
}

/// All fixtures, by file name; `PARITY_ONLY` names a part of those to use.
pub(crate) fn all() -> Vec<(String, Fixture)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity");
    let only = std::env::var("PARITY_ONLY").unwrap_or_default();
    let mut found: Vec<(String, Fixture)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let read = serde_json::from_str(&text);
            let fixture = read.unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, fixture)
        })
        .filter(|(name, _)| name.contains(&only))
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Larger nets of the same blocks as another one's.
const SIBLINGS: [&str; 10] = [
    "convnext_small",
    "dinov2_base_14",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "mobilenet_v3_large",
    "resnet101",
    "resnet34",
    "vgg19",
    "vgg19_bn",
];

/// Fixtures of every kind of block, for what would take too long on all without optimisation.
pub(crate) fn of_every_block() -> Vec<(String, Fixture)> {
    let mut found = all();
    found.retain(|(_, fixture)| !SIBLINGS.contains(&fixture.family.as_str()));
    found
}

impl Fixture {
    /// The architecture with its own classifier, for the pictures of a case.
    pub(crate) fn graph(&self, case: &Case) -> Arc<Graph> {
        let size = [case.side, case.side];
        let built =
            Graph::build_classifier(&self.family, self.width, size, self.flavour, self.classes);
        Arc::new(built.unwrap().without_dropout())
    }

    pub(crate) fn params(&self, graph: &Graph) -> Params {
        formula::params(graph, &self.levels, self.saturate, self.smooth)
    }
}

impl Case {
    pub(crate) fn pictures(&self) -> Tensor {
        formula::pictures(self.pictures, self.batch, self.side as usize)
    }

    /// Gradient of the loss to the logits.
    pub(crate) fn loss(
        &self,
    ) -> impl Fn(&Tensor, Range<usize>) -> candle_core::Result<Tensor> + Sync {
        let (number, batch) = (self.pictures, self.batch);
        move |logits: &Tensor, part: Range<usize>| {
            let all = noise(&format!("dlogits {number}"), &[batch, logits.dim(1)?]);
            all.narrow(0, part.start, part.len())
        }
    }

    /// The nodes whose outputs are kept.
    pub(crate) fn nodes(&self, graph: &Graph) -> Vec<NodeId> {
        let find = |name: &String| {
            let found = graph.find(name);
            found.unwrap_or_else(|| panic!("no node `{name}`"))
        };
        self.values.keys().map(find).collect()
    }
}

impl Sample {
    /// Largest difference between a tensor and what is known of the expected one, as a share of
    /// that one's largest value or norm; infinite for values that are no numbers.
    pub(crate) fn difference(&self, name: &str, actual: &Tensor) -> f64 {
        let actual = values(actual).unwrap();
        if actual.iter().any(|value| !value.is_finite()) {
            return f64::INFINITY;
        }
        let places = uniform(&format!("sample {name}"), self.values.len());
        let at = |place: f64| ((place + 1.0) / 2.0 * actual.len() as f64) as usize;
        let pairs = places.into_iter().zip(&self.values);
        let sampled = pairs
            .map(|(place, expected)| (f64::from(actual[at(place)]) - expected).abs())
            .fold(0.0, f64::max);
        let squares: f64 = actual.iter().map(|&value| f64::from(value).powi(2)).sum();
        let norm = (squares.sqrt() - self.norm).abs() / self.norm;
        norm.max(sampled / self.largest)
    }
}

/// The largest difference among named tensors, and whose it is.
pub(crate) fn worst<'a>(
    expected: &IndexMap<String, Sample>,
    actual: impl Fn(&str) -> &'a Tensor,
) -> (f64, String) {
    let differences = expected
        .iter()
        .map(|(name, sample)| (sample.difference(name, actual(name)), name.clone()));
    differences.fold((0.0, String::new()), |worst, next| {
        if next.0 > worst.0 { next } else { worst }
    })
}

/// Tensors under names.
pub(crate) fn named<'a>(
    names: impl IntoIterator<Item = &'a String>,
    tensors: Vec<Tensor>,
) -> HashMap<String, Tensor> {
    names.into_iter().cloned().zip(tensors).collect()
}
