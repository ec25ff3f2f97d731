//! The passes of a program on a device, each over the whole batch.

use candle_core::Result;

use super::super::program::{Channels, Pass, Pool};
use super::Session;
use crate::activation::Activation;
use crate::engine::device;
use crate::engine::tokens::Kind;
use crate::gpu::args;
use crate::gpu::{Address, Channelwise, Epilogue, Gpu, Heads, Input, Reading, Real};
use crate::ops::kernel::MapDims;

fn maps(pictures: usize, dims: MapDims) -> Input {
    Input {
        pictures,
        height: dims.height,
        width: dims.width,
        channels: dims.channels,
    }
}

impl Session {
    /// Values of a buffer in the batch.
    fn values(&self, buffer: usize, pictures: usize) -> usize {
        self.program.rooms[buffer].elements * pictures
    }

    /// A norm, and the clamp behind it, that a depthwise kernel takes of what it reads.
    fn reading(&self, norm: Option<(usize, Activation)>) -> Reading {
        match norm {
            None => Reading::default(),
            Some((norm, clamp)) => Reading {
                norm: self.norms[norm].norm,
                clamp,
            },
        }
    }

    pub(super) fn pass(&self, pass: &Pass, pictures: usize) -> Result<()> {
        let gpu = &self.gpu;
        let at = |buffer: usize| self.at(buffer);
        match *pass {
            Pass::Kernel {
                kernel,
                norm,
                x,
                residual,
                activation,
                y,
            } => {
                let (spec, room) = (&self.program.kernels[kernel], &self.kernels[kernel]);
                let input = maps(pictures, spec.input);
                let residual = residual.map(at);
                if spec.depthwise {
                    let reading = self.reading(norm);
                    let bias = room.bias().map(|bias| bias.single);
                    let kernel = (room.stored, bias);
                    let end = (residual, activation);
                    gpu.depthwise(at(x), input, reading, kernel, &spec.window, end, at(y))?;
                } else {
                    let epilogue = Epilogue {
                        bias: room.bias(),
                        residual,
                        relu: false,
                    };
                    let (shape, end) = ((spec.filters, spec.groups), (epilogue, activation));
                    gpu.convolve(at(x), input, room.stored, shape, &spec.window, end, at(y))?;
                }
            }
            Pass::KernelGrad {
                kernel,
                norm,
                x,
                dy,
            } => {
                let (spec, room) = (&self.program.kernels[kernel], &self.kernels[kernel]);
                let input = maps(pictures, spec.input);
                let both = [at(x), at(dy)];
                let to = match room.scaled {
                    0 => room.to_kernel,
                    scaled => scaled,
                };
                if spec.depthwise {
                    let reading = self.reading(norm);
                    gpu.depthwise_kernel_grad(both, input, reading, &spec.window, to)?;
                } else {
                    let shape = (spec.filters, spec.groups);
                    gpu.convolve_kernel_grad(both, input, shape, &spec.window, to)?;
                }
                // With a bias, its gradient is wanted first.
                if !spec.needs.bias {
                    self.unfold(kernel)?;
                }
            }
            Pass::BiasGrad { kernel, dy } => {
                let (spec, room) = (&self.program.kernels[kernel], &self.kernels[kernel]);
                let rows = [self.values(dy, pictures) / spec.filters, spec.filters];
                gpu.sum_of_rows(at(dy), rows, room.sums)?;
                let fold = room.folded();
                gpu.unfold_bias(args::UnfoldBias {
                    sums: room.sums,
                    scale: fold.scale,
                    to_bias: room.to_bias,
                    to_beta: room.to_beta,
                    filters: spec.filters as i32,
                })?;
                self.unfold(kernel)?;
            }
            Pass::InputGrad {
                kernel,
                dy,
                dx,
                add,
            } => {
                let (spec, room) = (&self.program.kernels[kernel], &self.kernels[kernel]);
                let (input, window) = (maps(pictures, spec.input), &spec.window);
                let (kernel, dy, dx) = (room.stored, at(dy), at(dx));
                if spec.depthwise {
                    gpu.depthwise_input_grad(dy, input, kernel, window, add, dx)?;
                } else {
                    let shape = (spec.filters, spec.groups);
                    gpu.convolve_input_grad(dy, input, kernel, shape, window, add, dx)?;
                }
            }
            Pass::Moments { norm, x } => {
                let spec = &self.program.norms[norm];
                let rows = [pictures * spec.rows, spec.channels];
                gpu.moments(at(x), rows, self.norms[norm].moments)?;
            }
            Pass::Norm {
                norm,
                x,
                residual,
                activation,
                y,
            } => {
                let spec = &self.program.norms[norm];
                let sizes = [pictures * spec.rows * spec.channels, spec.channels];
                let (by, residual) = (self.norms[norm].norm, residual.map(at));
                gpu.affine(at(x), sizes, by, residual, activation, at(y))?;
            }
            Pass::NormSums {
                norm,
                x,
                activation,
                dy,
            } => {
                let (spec, room) = (&self.program.norms[norm], &self.norms[norm]);
                let rows = [pictures * spec.rows, spec.channels];
                let both = [at(x), at(dy)];
                gpu.norm_sums(both, rows, room.norm, activation, room.sums)?;
                gpu.finish_norm(spec.channels, room.finish(rows[0]))?;
            }
            Pass::NormGrad {
                norm,
                x,
                activation,
                dy,
                dx,
            } => {
                let (spec, room) = (&self.program.norms[norm], &self.norms[norm]);
                let rows = [pictures * spec.rows, spec.channels];
                let (both, by) = ([at(x), at(dy)], (room.norm, activation));
                gpu.norm_grad(both, rows, by, room.coefficients, at(dx))?;
            }
            Pass::Activate {
                x,
                residual,
                activation,
                y,
            } => {
                let count = self.values(y, pictures);
                let (by, residual) = (Channelwise::default(), residual.map(at));
                gpu.affine(at(x), [count, count], by, residual, activation, at(y))?;
            }
            Pass::ActivateGrad { of, activation, dy } => {
                let count = self.values(dy, pictures);
                gpu.activate_grad(at(of), count, activation, at(dy))?;
            }
            Pass::Dropout { mask, x, y } => {
                let count = self.values(y, pictures);
                gpu.mask(at(x), self.mask(mask), at(y), count)?;
            }
            Pass::Pad {
                dims,
                padding,
                x,
                y,
            } => gpu.pad(at(x), maps(pictures, dims), padding, at(y))?,
            Pass::PadGrad {
                dims,
                padding,
                dy,
                dx,
                add,
            } => gpu.pad_grad(at(dy), maps(pictures, dims), padding, add, at(dx))?,
            Pass::Place { channels, x, y } => {
                let (input, place) = self.part(channels, x, pictures);
                gpu.place(at(x), input, place, at(y))?;
            }
            Pass::PlaceGrad { channels, dy, dx } => {
                let (input, place) = self.part(channels, dx, pictures);
                gpu.take(at(dy), input, place, at(dx))?;
            }
            Pass::Pool { pool, x, y } => {
                let Pool { dims, window, mean } = pool;
                gpu.pool(at(x), maps(pictures, dims), &window, mean, at(y))?;
            }
            Pass::PoolGrad { pool, x, dy, dx } => {
                let Pool { dims, window, mean } = pool;
                let both = [at(x), at(dy)];
                gpu.pool_grad(both, maps(pictures, dims), &window, mean, at(dx))?;
            }
            Pass::Gate {
                dims,
                x,
                factors,
                y,
            } => gpu.gate(at(x), at(factors), maps(pictures, dims), at(y))?,
            Pass::GateGrad { dims, x, dy, to } => {
                gpu.gate_grad(at(x), at(dy), maps(pictures, dims), at(to))?;
            }
            Pass::GlobalAvg { dims, x, y } => {
                gpu.global_avg(at(x), maps(pictures, dims), at(y))?;
            }
            Pass::GlobalAvgGrad { dims, dy, dx } => {
                gpu.global_avg_grad(at(dy), maps(pictures, dims), at(dx))?;
            }
            Pass::GlobalMax { dims, x, y } => {
                gpu.global_max(at(x), maps(pictures, dims), at(y))?;
            }
            Pass::GlobalMaxGrad { dims, x, dy, dx } => {
                gpu.global_max_grad(at(x), at(dy), maps(pictures, dims), at(dx))?;
            }
            Pass::Token { token, x, y } => self.token(token, pictures, at(x), at(y))?,
            Pass::TokenSums { token, x, dy } => {
                self.token_sums(token, pictures, at(x), at(dy))?;
            }
            Pass::TokenGrad { token, x, dy, dx } => {
                self.token_grad(token, pictures, [x.map_or(0, at), at(dy)], at(dx))?;
            }
            // Where logits leave the device.
            Pass::Loss { .. } => {}
            Pass::Copy { from, to } => {
                let bytes = self.values(to, pictures) * gpu.real().bytes();
                gpu.backend().copy(at(from), at(to), bytes)?;
            }
            Pass::AddInto { from, to } => {
                gpu.add_into(at(from), at(to), self.values(to, pictures))?;
            }
        }
        Ok(())
    }

    /// The gradient to a layer's kernel, and to the scale of its norm, from that to the scaled kernel.
    fn unfold(&self, kernel: usize) -> Result<()> {
        let (spec, room) = (&self.program.kernels[kernel], &self.kernels[kernel]);
        if room.scaled == 0 {
            return Ok(());
        }
        let single = spec.depthwise
            || Gpu::kernel_grad_is_single(&spec.window, spec.groups)
            || self.gpu.real() == Real::Single;
        let fold = room.folded();
        let folded = room.is_folded();
        self.gpu.unfold(args::Unfold {
            real: if single { 0 } else { room.scaled },
            single: if single { room.scaled } else { 0 },
            kernel: room.kernel,
            scale: if folded { fold.scale } else { 0 },
            inverse: fold.inverse,
            shift: fold.shift,
            sums: room.sums,
            to_kernel: room.to_kernel,
            to_gamma: room.to_gamma,
            row: (spec.channels() * spec.area()) as i32,
            filters: spec.filters as i32,
            columns: i32::from(spec.depthwise),
        })?;
        Ok(())
    }

    fn mask(&self, mask: usize) -> Address {
        let batch = self.batch.as_ref();
        batch.map_or(0, |batch| batch.masks[mask].address())
    }

    /// The narrower of two maps as rows of pixels, and where its channels lie in the wider.
    fn part(&self, channels: Channels, narrow: usize, pictures: usize) -> (Input, [usize; 2]) {
        let Channels { first, count, all } = channels;
        let input = Input {
            pictures: self.values(narrow, pictures) / count.max(1),
            height: 1,
            width: 1,
            channels: count,
        };
        (input, [first, all])
    }

    fn token(&self, token: usize, pictures: usize, x: Address, y: Address) -> Result<()> {
        let (layer, room) = (self.program.tokens[token].layer, &self.tokens[token]);
        device::token(&self.gpu, layer, [room.first, room.second], pictures, x, y)
    }

    fn token_sums(&self, token: usize, pictures: usize, x: Address, dy: Address) -> Result<()> {
        let gpu = &self.gpu;
        let (layer, room) = (self.program.tokens[token].layer, &self.tokens[token]);
        let sums = room.sums.address();
        let copy = |from: usize, count: usize, to: Address| {
            let bytes = size_of::<f32>();
            match to {
                0 => Ok(()),
                to => gpu
                    .backend()
                    .copy(sums + (from * bytes) as Address, to, count * bytes),
            }
        };
        match layer.kind {
            Kind::LayerNorm { channels, epsilon } => {
                let rows = [pictures * layer.output / channels, channels];
                gpu.layer_norm_sums([x, dy], rows, epsilon, sums)?;
                copy(0, channels, room.to_first)?;
                copy(channels, channels, room.to_second)?;
            }
            Kind::ClassToken(_) | Kind::Position => {
                let values = layer.sums();
                gpu.picture_sums(dy, pictures, [values, layer.output], sums)?;
                copy(0, values, room.to_first)?;
                copy(0, values, room.to_second)?;
            }
            Kind::Attention(_) | Kind::Take(_) => {}
        }
        Ok(())
    }

    fn token_grad(
        &self,
        token: usize,
        pictures: usize,
        [x, dy]: [Address; 2],
        dx: Address,
    ) -> Result<()> {
        let gpu = &self.gpu;
        let (layer, room) = (self.program.tokens[token].layer, &self.tokens[token]);
        let moved = |offset: i32| args::Tokens {
            x: dy,
            y: dx,
            input: layer.output as i32,
            output: layer.input as i32,
            offset,
            ..args::Tokens::default()
        };
        let count = pictures * layer.input;
        match layer.kind {
            Kind::LayerNorm { channels, epsilon } => {
                let rows = [pictures * layer.input / channels, channels];
                gpu.layer_norm_grad([x, dy], rows, epsilon, room.first, dx)?;
            }
            Kind::Attention(dims) => {
                let heads = Heads {
                    pictures,
                    tokens: dims.tokens,
                    channels: dims.channels,
                    heads: dims.heads,
                };
                gpu.attention_grad([x, dy], heads, dx)?;
            }
            Kind::ClassToken(channels) => gpu.tokens(count, moved(-(channels as i32)))?,
            Kind::Position => gpu.tokens(count, moved(0))?,
            Kind::Take(first) => gpu.tokens(count, moved(first as i32))?,
        }
        Ok(())
    }
}
