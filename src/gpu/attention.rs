//! Self-attention of several heads and its gradient: a head of all pictures at a time, whose weights
//! then stay in a large device's cache.

use super::args::{self, kernels};
use super::queue::Use;
use super::{Address, Epilogue, Gpu, Matrix, Product, Result};

/// Sizes of a self-attention; queries, keys and values of a token lie one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Pictures.
    pub pictures: usize,
    /// Tokens of a picture.
    pub tokens: usize,
    /// Values of a token, of all heads together.
    pub channels: usize,
    /// Heads.
    pub heads: usize,
}

impl Heads {
    fn size(self) -> usize {
        self.channels / self.heads.max(1)
    }

    /// Values of a row of weights: rows of products want to begin at whole vectors.
    fn width(self) -> usize {
        self.tokens.next_multiple_of(8)
    }

    fn rows(self) -> usize {
        self.pictures * self.tokens
    }

    fn scale(self) -> f32 {
        (1.0 / (self.size() as f64).sqrt()) as f32
    }
}

/// What a step of one head reads and writes.
#[derive(Clone, Copy)]
struct Head {
    queries: Matrix,
    keys: Matrix,
    values: Matrix,
    output: Matrix,
    weights: Matrix,
}

impl Gpu {
    /// Attention of `x` `[pictures, tokens, 3 channels]`.
    ///
    /// # Errors
    /// If the device failed.
    pub fn attention(&self, x: Address, heads: Heads, y: Address) -> Result<()> {
        let weights = heads.rows() * heads.width() * self.real().bytes();
        let [weights] = self.scratch(Use::Weights, [weights])?;
        for index in 0..heads.heads {
            let head = self.head(heads, index, x, y, weights);
            self.weigh(heads, head)?;
            let size = [heads.tokens, heads.size(), heads.tokens];
            self.multiply(heads, size, head.weights, head.values, head.output)?;
        }
        Ok(())
    }

    /// Gradient of [`Self::attention`] to its input.
    ///
    /// # Errors
    /// If the device failed.
    pub fn attention_grad(&self, [x, dy]: [Address; 2], heads: Heads, dx: Address) -> Result<()> {
        let bytes = heads.rows() * heads.width() * self.real().bytes();
        let [weights] = self.scratch(Use::Weights, [bytes])?;
        let [gradients] = self.scratch(Use::WeightGradients, [bytes])?;
        let (tokens, size) = (heads.tokens, heads.size());
        for index in 0..heads.heads {
            let head = self.head(heads, index, x, dy, weights);
            let to = self.head(heads, index, dx, dy, gradients);
            self.weigh(heads, head)?;
            let turned = head.weights.turned();
            self.multiply(
                heads,
                [tokens, size, tokens],
                turned,
                head.output,
                to.values,
            )?;
            let values = head.values.turned();
            self.multiply(
                heads,
                [tokens, tokens, size],
                head.output,
                values,
                to.weights,
            )?;
            let args = args::Softmax {
                weights,
                gradient: gradients,
                ..self.softmax(heads)
            };
            self.rows(kernels::SOFTMAX_GRAD, [heads.rows(), 1], &args)?;
            self.multiply(
                heads,
                [tokens, size, tokens],
                to.weights,
                head.keys,
                to.queries,
            )?;
            let turned = to.weights.turned();
            self.multiply(heads, [tokens, size, tokens], turned, head.queries, to.keys)?;
        }
        Ok(())
    }

    /// Weights of a head.
    fn weigh(&self, heads: Heads, head: Head) -> Result<()> {
        let product = Product {
            alpha: heads.scale(),
            ..self.product_of(
                heads,
                [heads.tokens, heads.tokens, heads.size()],
                head.queries,
                head.keys.turned(),
                head.weights,
            )
        };
        self.backend().product(&product, Epilogue::default())?;
        let args = args::Softmax {
            weights: head.weights.address,
            ..self.softmax(heads)
        };
        self.rows(kernels::SOFTMAX, [heads.rows(), 1], &args)
    }

    fn softmax(&self, heads: Heads) -> args::Softmax {
        args::Softmax {
            rows: heads.rows() as i64,
            columns: heads.tokens as i32,
            width: heads.width() as i32,
            scale: heads.scale(),
            ..args::Softmax::default()
        }
    }

    fn multiply(
        &self,
        heads: Heads,
        size: [usize; 3],
        a: Matrix,
        b: Matrix,
        c: Matrix,
    ) -> Result<()> {
        let product = self.product_of(heads, size, a, b, c);
        self.backend().product(&product, Epilogue::default())
    }

    fn product_of(
        &self,
        heads: Heads,
        size: [usize; 3],
        a: Matrix,
        b: Matrix,
        c: Matrix,
    ) -> Product {
        Product {
            size,
            a,
            b,
            c,
            count: heads.pictures,
            alpha: 1.0,
            add: false,
            real: self.real(),
            output: self.real(),
        }
    }

    fn head(&self, heads: Heads, index: usize, x: Address, y: Address, weights: Address) -> Head {
        let Heads {
            tokens, channels, ..
        } = heads;
        let part = |address: Address, of: usize, third: usize| Matrix {
            address: address
                + ((third * channels + index * heads.size()) * self.real().bytes()) as Address,
            row: of * channels,
            transposed: false,
            stride: tokens * of * channels,
        };
        Head {
            queries: part(x, 3, 0),
            keys: part(x, 3, 1),
            values: part(x, 3, 2),
            output: part(y, 1, 0),
            weights: Matrix {
                address: weights,
                row: heads.width(),
                transposed: false,
                stride: tokens * heads.width(),
            },
        }
    }
}
