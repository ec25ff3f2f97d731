//! Tokens of a picture, `[batch, 1, tokens, channels]`: position embeddings, a class token before
//! the others, and some of them alone. Copies and sums in stock Candle operations.

use candle_core::{Result, Tensor};

/// Adds `position [height, width, channels]` to every picture `[batch, height, width, channels]`.
///
/// # Errors
/// If the shapes do not fit together.
pub fn add_position(x: &Tensor, position: &Tensor) -> Result<Tensor> {
    x.broadcast_add(position)
}

/// Gradient to the position embedding: the sum over pictures.
///
/// # Errors
/// If `dy` does not have four dimensions.
pub fn position_grad(dy: &Tensor) -> Result<Tensor> {
    dy.sum(0)
}

/// Pixels `[batch, height, width, channels]` as tokens `[batch, 1, 1 + pixels, channels]`, the class
/// token with its position (`[1, 1, channels]` each) before them.
///
/// # Errors
/// If the shapes do not fit together.
pub fn prepend(x: &Tensor, token: &Tensor, position: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let x = x.reshape((batch, 1, height * width, channels))?;
    let first = (token + position)?.unsqueeze(0)?;
    let first = first.broadcast_as((batch, 1, 1, channels))?;
    Tensor::cat(&[&first, &x], 2)
}

/// Gradients of [`prepend`]: to the pixels in `dims`, and to the class token, the same as to its
/// position.
///
/// # Errors
/// If the shapes do not fit together.
pub fn prepend_grad(dy: &Tensor, dims: &[usize]) -> Result<[Tensor; 2]> {
    let pixels = dy.dim(2)? - 1;
    let dx = dy.narrow(2, 1, pixels)?.contiguous()?.reshape(dims)?;
    Ok([dx, dy.narrow(2, 0, 1)?.sum(0)?])
}

/// Tokens `first..first + count`, `[batch, 1, count, channels]`.
///
/// # Errors
/// If there are fewer.
pub fn take(x: &Tensor, first: usize, count: usize) -> Result<Tensor> {
    x.narrow(2, first, count)?.contiguous()
}

/// Gradient of [`take`] from so many tokens: zeros for the others.
///
/// # Errors
/// If the shapes do not fit together.
pub fn take_grad(dy: &Tensor, first: usize, tokens: usize) -> Result<Tensor> {
    let count = dy.dim(2)?;
    dy.pad_with_zeros(2, first, tokens - first - count)?
        .contiguous()
}
