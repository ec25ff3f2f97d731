//! From the dimensions and the order of a file's tensor to ours.

use candle_core::{Result, Tensor};

use super::format::{Entry, Layout};
use super::keys::Naming;
use super::positions;

/// How a tensor of a file becomes a parameter.
#[derive(Debug)]
pub(super) enum Fit {
    /// By another order of its dimensions; none for the same one.
    Order(&'static [usize]),
    /// By other dimensions of the same values.
    Reshape,
    /// A position embedding for pictures of another size.
    Position,
}

impl Fit {
    /// How the entry becomes the parameter `name` of these dimensions; `None` if it cannot. It has
    /// our dimensions in the order of its layout, but for ones at the end (a scale may be
    /// `[channels, 1, 1]`), for dense kernels that other houses write as convolutions, and for
    /// position embeddings of another grid.
    pub(super) fn of(name: &str, entry: &Entry, dims: &[usize], naming: Naming) -> Option<Self> {
        let found = entry.dims.as_slice();
        if let Some(order) = order(entry, dims) {
            return Some(Self::Order(order));
        }
        if name.ends_with("/position") {
            return positions::fits(found, dims).then_some(Self::Position);
        }
        if let Layout::Keras = entry.layout {
            return None;
        }
        let bare = |dims: &[usize]| {
            let last = dims.iter().rposition(|&dim| dim != 1);
            dims[..last.map_or(0, |last| last + 1)].to_vec()
        };
        let as_convolution = |units: usize, features: usize| {
            let product = found.iter().try_fold(1, |a: usize, &b| a.checked_mul(b));
            found.len() == 4 && found[0] == units && product == units.checked_mul(features)
        };
        let fits = match *dims {
            [units, features] if naming != Naming::Xp && as_convolution(units, features) => true,
            _ => bare(found) == bare(dims),
        };
        fits.then_some(Self::Reshape)
    }

    /// The parameter of these dimensions.
    pub(super) fn apply(&self, tensor: &Tensor, dims: &[usize]) -> Result<Tensor> {
        match self {
            Self::Order([]) => Ok(tensor.clone()),
            Self::Order(order) => tensor.permute(*order)?.contiguous(),
            Self::Reshape => tensor.reshape(dims),
            Self::Position => positions::fit(tensor, dims),
        }
    }
}

/// The order of a file's dimensions that makes them ours; none for the same order. `None` where
/// no order does.
fn order(entry: &Entry, wanted: &[usize]) -> Option<&'static [usize]> {
    let orders: &[&[usize]] = match (entry.layout, entry.dims.len()) {
        // A depthwise kernel has its channels third and one filter for each.
        (Layout::Keras, 4) if wanted.get(1) == Some(&1) => &[&[3, 2, 0, 1], &[2, 3, 0, 1]],
        (Layout::Keras, 4) => &[&[3, 2, 0, 1]],
        (Layout::Keras, 2) => &[&[1, 0]],
        _ => return (entry.dims == wanted).then_some(&[]),
    };
    let fits = |order: &&&[usize]| {
        let theirs = order.iter().map(|&at| entry.dims[at]);
        wanted.len() == order.len() && theirs.eq(wanted.iter().copied())
    };
    orders.iter().find(fits).copied()
}

/// Dimensions of an entry in our order, for messages.
pub(super) fn ours(entry: &Entry) -> Vec<usize> {
    match (entry.layout, entry.dims.as_slice()) {
        (Layout::Keras, &[height, width, inputs, outputs]) => vec![outputs, inputs, height, width],
        (Layout::Keras, &[inputs, outputs]) => vec![outputs, inputs],
        (_, dims) => dims.to_vec(),
    }
}

/// A dense kernel whose input was flattened channel, height, width, in the order height, width,
/// channel.
pub(super) fn channels_last(kernel: &Tensor, channels: usize) -> Result<Tensor> {
    match *kernel.dims() {
        [units, features] if channels > 0 && features.is_multiple_of(channels) => kernel
            .reshape((units, channels, features / channels))?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((units, features)),
        _ => Ok(kernel.clone()),
    }
}
