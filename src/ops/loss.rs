//! Cross entropies on logits, with their gradients.

use candle_core::{DType, Result, Tensor, bail};

/// What the loss of a batch is.
#[derive(Debug)]
pub struct LossOutput {
    /// Weighted sum of the pictures' losses, in f64, summed in picture order.
    pub sum: f64,
    /// Sum of the pictures' class weights: what `sum` is divided by for the mean.
    pub weight: f64,
    /// Pictures whose most probable class is their label; of two mixed ones that of the larger
    /// share.
    pub correct: usize,
    /// Gradient of the *mean* loss (`sum / weight`) to the logits, `[batch, outputs]`.
    pub gradient: Tensor,
}

/// Targets and their treatment.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Class of each picture.
    pub labels: &'a [u32],
    /// What the pictures are mixed with.
    pub others: Option<Others<'a>>,
    /// Share of the target spread evenly over the classes.
    pub smoothing: f64,
    /// Weight of each class; `None` weighs all 1.
    pub class_weights: Option<&'a [f32]>,
}

/// Pictures that those of a batch are mixed with. The loss is the mean of the losses of both
/// labels, each with its class's weight, in the shares of the mixture.
#[derive(Debug, Clone, Copy)]
pub struct Others<'a> {
    /// Class of each of them.
    pub labels: &'a [u32],
    /// What is left of the picture itself; the rest is the other.
    pub own: f64,
}

impl Target<'_> {
    /// Sum of the weights of all pictures.
    pub fn weight(&self) -> f64 {
        let pictures = 0..self.labels.len();
        let parts = pictures.flat_map(|picture| self.parts(picture));
        parts.map(|part| part.weight).sum()
    }

    /// The labels of a picture, its own first.
    fn parts(&self, picture: usize) -> impl Iterator<Item = Part> + use<> {
        let class_weight = |label: u32| {
            // Labels and weights that do not fit are refused elsewhere.
            let weight =
                |weights: &[f32]| weights.get(label as usize).copied().map_or(0.0, f64::from);
            self.class_weights.map_or(1.0, weight)
        };
        let part = |label: u32, share: f64| Part {
            label,
            weight: share * class_weight(label),
        };
        let own = part(
            self.labels[picture],
            self.others.map_or(1.0, |others| others.own),
        );
        let other = self
            .others
            .map(|others| part(others.labels[picture], 1.0 - others.own));
        std::iter::once(own).chain(other)
    }

    /// The label that an answer is compared with.
    fn dominant(&self, picture: usize) -> u32 {
        match self.others {
            Some(others) if others.own < 0.5 => others.labels[picture],
            _ => self.labels[picture],
        }
    }
}

/// One label of a picture.
struct Part {
    label: u32,
    /// Its share times its class's weight.
    weight: f64,
}

/// Logits of each picture.
fn rows_of(logits: &Tensor) -> Result<Vec<Vec<f32>>> {
    logits.to_dtype(DType::F32)?.to_vec2()
}

fn check(logits: &Tensor, target: Target<'_>, classes: usize) -> Result<()> {
    let others = target.others.map(|others| others.labels);
    for labels in std::iter::once(target.labels).chain(others) {
        if logits.dim(0)? != labels.len() {
            bail!(
                "loss: logits {:?} and {} labels differ in number",
                logits.dims(),
                labels.len()
            )
        }
        if let Some(label) = labels.iter().find(|label| **label as usize >= classes) {
            bail!("loss: label {label} does not fit {classes} classes")
        }
    }
    match target.class_weights {
        Some(weights) if weights.len() != classes => {
            bail!(
                "loss: {} class weights for {classes} classes",
                weights.len()
            )
        }
        _ => Ok(()),
    }
}

/// Logarithm of the sum of exponentials.
fn log_sum_exp(row: &[f32]) -> f64 {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = f64::from(most);
    let sum: f64 = row.iter().map(|x| (f64::from(*x) - most).exp()).sum();
    most + sum.ln()
}

/// Logarithm of `1 + exp(x)` without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Probabilities of the two classes of one output. Each has its own sigmoid: `1 - p` in f32 is 0
/// for the unlikely class long before its probability is.
fn both(logit: f64) -> [f32; 2] {
    [sigmoid(-logit) as f32, sigmoid(logit) as f32]
}

/// Position of the first largest value.
fn argmax(row: &[f32]) -> usize {
    let later = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
    (1..row.len()).fold(0, later)
}

impl LossOutput {
    /// Divides the gradients of the weighted sum by the weight.
    fn finish(
        logits: &Tensor,
        sum: f64,
        weight: f64,
        correct: usize,
        gradient: &[f64],
    ) -> Result<Self> {
        let mean = gradient
            .iter()
            .map(|g| if weight == 0.0 { 0.0 } else { g / weight } as f32);
        let gradient = Tensor::from_vec(mean.collect(), logits.shape(), logits.device())?;
        Ok(Self {
            sum,
            weight,
            correct,
            gradient,
        })
    }
}

/// Softmax and categorical cross entropy; logits `[batch, classes]`.
///
/// # Errors
/// If logits, labels and class weights do not fit together.
pub fn categorical(logits: &Tensor, target: Target<'_>) -> Result<LossOutput> {
    let (_, classes) = logits.dims2()?;
    check(logits, target, classes)?;
    let even = target.smoothing / classes as f64;
    let (mut sum, mut weight, mut correct) = (0.0, 0.0, 0);
    let mut gradient = Vec::with_capacity(logits.elem_count());
    for (picture, row) in rows_of(logits)?.iter().enumerate() {
        let scale = log_sum_exp(row);
        let log_probability = |logit: &f32| f64::from(*logit) - scale;
        let first = gradient.len();
        for part in target.parts(picture) {
            let mut loss = 0.0;
            for (class, logit) in row.iter().enumerate() {
                let hit = if class == part.label as usize {
                    1.0 - target.smoothing
                } else {
                    0.0
                };
                let wanted = hit + even;
                let log_probability = log_probability(logit);
                if wanted > 0.0 {
                    loss -= wanted * log_probability;
                }
                let slope = part.weight * (log_probability.exp() - wanted);
                match gradient.get_mut(first + class) {
                    None => gradient.push(slope),
                    Some(sum) => *sum += slope,
                }
            }
            sum += part.weight * loss;
            weight += part.weight;
        }
        let likely: Vec<f32> = row
            .iter()
            .map(|it| log_probability(it).exp() as f32)
            .collect();
        correct += usize::from(argmax(&likely) == target.dominant(picture) as usize);
    }
    LossOutput::finish(logits, sum, weight, correct, &gradient)
}

/// Sigmoid and binary cross entropy; logits `[batch, 1]`, labels 0 and 1.
///
/// # Errors
/// If logits, labels and class weights do not fit together.
pub fn binary(logits: &Tensor, target: Target<'_>) -> Result<LossOutput> {
    let (_, outputs) = logits.dims2()?;
    if outputs != 1 {
        bail!(
            "binary loss: logits {:?} have more than one output",
            logits.dims()
        )
    }
    check(logits, target, 2)?;
    let (mut sum, mut weight, mut correct) = (0.0, 0.0, 0);
    let mut gradient = Vec::with_capacity(logits.elem_count());
    for (picture, row) in rows_of(logits)?.iter().enumerate() {
        let logit = f64::from(row[0]);
        for part in target.parts(picture) {
            let wanted = f64::from(part.label) * (1.0 - target.smoothing) + 0.5 * target.smoothing;
            sum += part.weight * (softplus(logit) - wanted * logit);
            weight += part.weight;
            let slope = part.weight * (sigmoid(logit) - wanted);
            match gradient.get_mut(picture) {
                None => gradient.push(slope),
                Some(sum) => *sum += slope,
            }
        }
        correct += usize::from(argmax(&both(logit)) == target.dominant(picture) as usize);
    }
    LossOutput::finish(logits, sum, weight, correct, &gradient)
}

/// The `top` most probable classes, most probable first; equals in label order.
pub fn ranked<'a>(classes: &'a [String], probabilities: &[f32], top: usize) -> Vec<(&'a str, f32)> {
    let mut ranked: Vec<(&str, f32)> = classes
        .iter()
        .map(String::as_str)
        .zip(probabilities.iter().copied())
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(top);
    ranked
}

/// Probabilities of all classes, `[batch][classes]`: softmax, or both sides of one sigmoid output.
/// The first largest of a row is the class that the losses count as the answer.
///
/// # Errors
/// If the logits do not have two dimensions.
pub fn probabilities(logits: &Tensor) -> Result<Vec<Vec<f32>>> {
    let (_, outputs) = logits.dims2()?;
    let rows = rows_of(logits)?;
    let probable = rows.iter().map(|row| match outputs {
        1 => both(f64::from(row[0])).to_vec(),
        _ => {
            let scale = log_sum_exp(row);
            let probability = |logit: &f32| (f64::from(*logit) - scale).exp() as f32;
            row.iter().map(probability).collect()
        }
    });
    Ok(probable.collect())
}
