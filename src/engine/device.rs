//! What compiled inference and training share on a GPU.

use candle_core::Result;

use super::tokens::{Kind, TokenLayer};
use crate::gpu::args;
use crate::gpu::{Address, Gpu, Heads};

/// A layer of tokens, forward; `params` are gamma and beta, token and position, or the position.
pub(super) fn token(
    gpu: &Gpu,
    layer: TokenLayer,
    [first, second]: [Address; 2],
    pictures: usize,
    x: Address,
    y: Address,
) -> Result<()> {
    let tokens = args::Tokens {
        x,
        y,
        input: layer.input as i32,
        output: layer.output as i32,
        ..args::Tokens::default()
    };
    let count = pictures * layer.output;
    match layer.kind {
        Kind::LayerNorm { channels, epsilon } => {
            let rows = [pictures * layer.output / channels, channels];
            gpu.layer_norm(x, rows, epsilon, [first, second], y)?;
        }
        Kind::Attention(dims) => {
            let heads = Heads {
                pictures,
                tokens: dims.tokens,
                channels: dims.channels,
                heads: dims.heads,
            };
            gpu.attention(x, heads, y)?;
        }
        Kind::ClassToken(channels) => {
            let args = args::Tokens {
                first,
                first_position: second,
                offset: channels as i32,
                ..tokens
            };
            gpu.tokens(count, args)?;
        }
        Kind::Position => {
            let args = args::Tokens {
                position: first,
                ..tokens
            };
            gpu.tokens(count, args)?;
        }
        Kind::Take(skipped) => {
            let args = args::Tokens {
                offset: -(skipped as i32),
                ..tokens
            };
            gpu.tokens(count, args)?;
        }
    }
    Ok(())
}
