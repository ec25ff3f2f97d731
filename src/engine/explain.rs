//! Where in a picture the network found what speaks for a class: Grad-CAM (Selvaraju et al., 2017,
//! "Visual Explanations from Deep Networks via Gradient-based Localization"). Of transformers the
//! tokens without the class token are the map.

use candle_core::{Result, Tensor, bail};

use super::memory::values;
use super::params::Params;
use super::prefix::Prefix;
use super::suffix::Above;
use crate::graph::places::Places;
use crate::graph::{Graph, NodeId};

/// Memory that the passes of a batch through what lies above the layer may take.
const MOST_BYTES: usize = 256 << 20;

/// A network and the layer whose map is looked at.
#[derive(Debug)]
pub struct Explainer {
    params: Params,
    above: Above,
    /// From pictures to what `above` takes, and the logits.
    network: Prefix,
    /// Position of the layer among what `above` takes.
    layer: usize,
    places: Places,
}

/// What a network made of some pictures.
#[derive(Debug)]
pub struct Seen {
    /// `[batch, outputs]`.
    pub logits: Tensor,
    given: Vec<Tensor>,
}

/// How much each place speaks for a class.
#[derive(Debug, Clone, PartialEq)]
pub struct Heat {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 where most speaks for the class, 0 where nothing does or something against it; row by row.
    pub values: Vec<f32>,
    /// The value that became 1.
    pub peak: f32,
    /// What was found.
    pub evidence: Evidence,
}

/// Whether there is anything to see on a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Some places speak for the class.
    Found,
    /// None does.
    Nothing,
    /// The class does not depend on the layer's output: no gradient reaches it.
    Unconnected,
}

impl Explainer {
    /// Looks at the output of a node, which must have [places](Graph::places) and lead to the logits.
    pub fn new(graph: &Graph, params: &Params, node: NodeId) -> Result<Self> {
        let name = &graph.nodes()[node].name;
        let Some(places) = graph.places(node) else {
            bail!("the output of `{name}` has no places in the picture");
        };
        let Some(above) = Above::new(graph, node) else {
            bail!("`{name}` does not lead to the logits");
        };
        let mut wanted = above.inputs().to_vec();
        let layer = wanted.iter().position(|&id| id == node).unwrap_or(0);
        wanted.push(graph.output());
        Ok(Self {
            network: Prefix::compile(graph, params, &[0], &wanted)?,
            params: params.clone(),
            above,
            layer,
            places,
        })
    }

    /// Most pictures whose passes fit into a few hundred megabytes, and `most` at most.
    pub fn batch(&self, most: usize) -> usize {
        (MOST_BYTES / (4 * self.above.values()).max(1)).clamp(1, most.max(1))
    }

    /// Runs the network on pictures `[batch, height, width, 3]`.
    pub fn see(&self, pictures: &Tensor) -> Result<Seen> {
        let mut given = self.network.run(std::slice::from_ref(pictures))?;
        match given.pop() {
            Some(logits) => Ok(Seen { logits, given }),
            None => bail!("the network has no output"),
        }
    }

    /// What speaks for one class a picture. Of one output, class 1 is its sign and class 0 the
    /// opposite.
    pub fn heat(&self, seen: &Seen, classes: &[usize]) -> Result<Vec<Heat>> {
        let toward = toward(&seen.logits, classes)?;
        let gradient = self.above.gradient(&self.params, &seen.given, &toward)?;
        let map = &seen.given[self.layer];
        let channels = map.dims().last().copied().unwrap_or(1).max(1);
        let (maps, gradients) = (values(map)?, values(&gradient)?);
        let size = (self.places.before + self.places.count()) * channels;
        let pictures = maps.chunks(size).zip(gradients.chunks(size));
        Ok(pictures
            .map(|(map, gradient)| Heat::of(map, gradient, channels, self.places))
            .collect())
    }
}

/// Gradient to the logits of the score of each picture's class.
fn toward(logits: &Tensor, classes: &[usize]) -> Result<Tensor> {
    let (batch, outputs) = logits.dims2()?;
    if classes.len() != batch || classes.iter().any(|&class| class >= outputs.max(2)) {
        bail!("{batch} pictures and {outputs} outputs do not fit the classes {classes:?}");
    }
    let mut toward = vec![0f32; batch * outputs];
    for (row, &class) in toward.chunks_mut(outputs.max(1)).zip(classes) {
        match row {
            [only] => *only = if class == 1 { 1.0 } else { -1.0 },
            row => row[class] = 1.0,
        }
    }
    Tensor::from_vec(toward, (batch, outputs), logits.device())
}

impl Heat {
    /// The map of one picture, place by place, weighted by its mean gradient.
    fn of(map: &[f32], gradient: &[f32], channels: usize, places: Places) -> Self {
        let skipped = places.before * channels;
        let (map, gradient) = (&map[skipped..], &gradient[skipped..]);
        let mut weights = vec![0f64; channels];
        for place in gradient.chunks_exact(channels) {
            for (weight, &value) in weights.iter_mut().zip(place) {
                *weight += f64::from(value) / places.count() as f64;
            }
        }
        let speaks = |place: &[f32]| -> f32 {
            let terms = place.iter().zip(&weights);
            let sum: f64 = terms
                .map(|(&value, weight)| f64::from(value) * weight)
                .sum();
            // Not a number counts as nothing.
            (sum as f32).max(0.0)
        };
        let mut values: Vec<f32> = map.chunks_exact(channels).map(speaks).collect();
        let peak = values.iter().copied().fold(0.0, f32::max);
        let shown = peak > 0.0 && peak.is_finite();
        for value in &mut values {
            *value = if shown { *value / peak } else { 0.0 };
        }
        let evidence = match shown {
            true => Evidence::Found,
            false if gradient.iter().all(|&value| value == 0.0) => Evidence::Unconnected,
            false => Evidence::Nothing,
        };
        Self {
            height: places.height,
            width: places.width,
            values,
            peak: if shown { peak } else { 0.0 },
            evidence,
        }
    }

    /// The map at another size, row by row: bilinear between the centres of places, level beyond the
    /// outermost.
    pub fn resized(&self, height: usize, width: usize) -> Vec<f32> {
        let rows = between(self.height, height);
        let columns = between(self.width, width);
        let at = |row: usize, column: usize| self.values[row * self.width + column];
        let mut resized = Vec::with_capacity(height * width);
        for &([top, bottom], down) in &rows {
            for &([left, right], along) in &columns {
                let mix = |a: f32, b: f32, share: f32| a + (b - a) * share;
                let above = mix(at(top, left), at(top, right), along);
                let below = mix(at(bottom, left), at(bottom, right), along);
                resized.push(mix(above, below, down));
            }
        }
        resized
    }
}

/// Of each of `to` pixels, the two of `from` places that it lies between and its share of the second.
fn between(from: usize, to: usize) -> Vec<([usize; 2], f32)> {
    let last = from.saturating_sub(1);
    let place = |pixel: usize| {
        let at = (pixel as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let at = at.clamp(0.0, last as f64);
        let first = at as usize;
        ([first, (first + 1).min(last)], (at - first as f64) as f32)
    };
    (0..to).map(place).collect()
}

#[cfg(test)]
mod parity;
#[cfg(test)]
mod tests;
