//! 3x3 convolutions of stride 1 by minimal filtering, F(2x2, 3x3) of Lavin and Gray (2016),
//! <https://arxiv.org/abs/1509.09308>: four outputs cost 16 products a channel and filter rather
//! than 36. Tiles of 4 x 4 inputs are transformed, multiplied as 16 matrix products, and
//! transformed back.

use super::curve::{clamp, curve};
use super::gemm::{PackedMatrix, product};
use super::simd::{Isa, Job, PerChannels, Vector, dispatch, over_channels};
use super::{Epilogue, MapDims};
use crate::geometry::Window;

/// Products of a tile, one for each of its 4 x 4 places.
const PLACES: usize = 16;

/// Floats of transformed tiles to stay under, as long as there are [`LEAST_TILES`].
const TILE_FLOATS: usize = 160 * 1024;

/// Tiles of a pass, at least: the 16 matrices are read once a pass, and more are worth it where
/// these do not stay in the L2 cache.
const LEAST_TILES: usize = 28;
const LEAST_TILES_OF_LARGE: usize = 196;
const LARGE_FLOATS: usize = 512 * 1024;

/// Values between the matrices of two places: without them all places of a tile would fall on the same
/// few lines of the L1 cache where a matrix is a multiple of its size.
const APART: usize = 48;

/// A 3x3 kernel, transformed: a matrix `[channels, filters]` for each place.
#[derive(Debug, Clone)]
pub(super) struct PackedTiles {
    matrices: Vec<PackedMatrix>,
}

/// Whether the transformed way computes this convolution, and pays.
pub(super) fn fits(window: &Window, input: MapDims, filters: usize) -> bool {
    let plain = window.kernel == [3, 3] && window.stride == [1, 1] && window.dilation == [1, 1];
    let output = window.output(input.height, input.width);
    let large = output.is_some_and(|[height, width]| height >= 3 && width >= 3);
    plain && large && input.channels >= 32 && filters >= 32
}

impl PackedTiles {
    /// Transforms a kernel `[filters, channels, 3, 3]`, each filter times its `scale`.
    pub(super) fn new(
        kernel: &[f32],
        [filters, channels]: [usize; 2],
        scale: Option<&[f32]>,
    ) -> Self {
        let mut places: [Vec<f32>; PLACES] =
            std::array::from_fn(|_| Vec::with_capacity(channels * filters));
        for (channel, filter) in (0..channels * filters).map(|i| (i / filters, i % filters)) {
            let taps = &kernel[(filter * channels + channel) * 9..][..9];
            let scale = scale.map_or(1.0, |scale| f64::from(scale[filter]));
            // G g G^T with G = [1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1].
            let spread = |[a, b, c]: [f64; 3]| [a, (a + b + c) / 2.0, (a - b + c) / 2.0, c];
            let tap = |row: usize, column: usize| f64::from(taps[row * 3 + column]) * scale;
            let columns = [0, 1, 2].map(|j| spread([tap(0, j), tap(1, j), tap(2, j)]));
            for row in 0..4 {
                let values = spread([columns[0][row], columns[1][row], columns[2][row]]);
                for (column, value) in values.into_iter().enumerate() {
                    places[row * 4 + column].push(value as f32);
                }
            }
        }
        let pack = |rows: &Vec<f32>| PackedMatrix::of_rows(rows, filters, None);
        Self {
            matrices: places.iter().map(pack).collect(),
        }
    }

    /// Number of values.
    pub(super) fn values(&self) -> usize {
        self.matrices.iter().map(PackedMatrix::values).sum()
    }

    pub(super) fn filters(&self) -> usize {
        self.matrices[0].columns()
    }

    pub(super) fn channels(&self) -> usize {
        self.matrices[0].depth()
    }

    /// Floats of scratch of a pass.
    pub(super) fn scratch(&self) -> usize {
        PLACES * (self.tiles() * (self.channels() + self.filters()) + 2 * APART)
    }

    /// Most tiles of a pass.
    fn tiles(&self) -> usize {
        let (channels, filters) = (self.channels(), self.filters());
        let least = match self.values() > LARGE_FLOATS {
            true => LEAST_TILES_OF_LARGE,
            false => LEAST_TILES,
        };
        (TILE_FLOATS / (PLACES * (channels + filters))).max(least)
    }
}

/// Convolution of `batch` maps.
#[allow(clippy::too_many_arguments)]
pub(super) fn conv(
    x: &[f32],
    batch: usize,
    input: MapDims,
    kernel: &PackedTiles,
    window: &Window,
    [height, width]: [usize; 2],
    epilogue: Epilogue<'_>,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let (channels, filters) = (kernel.channels(), kernel.filters());
    assert_eq!(channels, input.channels, "channels of kernel and map");
    assert!(x.len() >= batch * input.elements(), "length of x");
    let outputs = batch * height * width * filters;
    assert!(y.len() >= outputs, "room for y");
    assert!(epilogue.bias.is_none_or(|b| b.len() >= filters), "bias");
    assert!(
        epilogue.residual.is_none_or(|r| r.len() >= outputs),
        "residual"
    );
    assert!(
        epilogue.residual.is_none() || !epilogue.accumulate,
        "one addition a pass"
    );
    assert!(scratch.len() >= kernel.scratch(), "scratch");
    let grid = Grid {
        input,
        output: [height, width],
        padding: [window.padding.top, window.padding.left],
        columns: width.div_ceil(2),
        per_map: height.div_ceil(2) * width.div_ceil(2),
    };
    let total = batch * grid.per_map;
    let most = kernel.tiles();
    let (tiles, products) = scratch.split_at_mut(PLACES * (most * channels + APART));
    for first in (0..total).step_by(most) {
        let count = most.min(total - first);
        dispatch(ToTiles {
            x,
            grid: &grid,
            first,
            count,
            tiles,
        });
        let operands = tiles.chunks_exact(count * channels + APART);
        let results = products.chunks_exact_mut(count * filters + APART);
        for ((matrix, tiles), products) in kernel.matrices.iter().zip(operands).zip(results) {
            let products = &mut products[..count * filters];
            product(tiles, matrix, Epilogue::default(), products);
        }
        dispatch(FromTiles {
            products,
            filters,
            grid: &grid,
            first,
            count,
            epilogue,
            y,
        });
    }
    curve(epilogue.activation, &mut y[..outputs]);
}

/// Where tiles lie on the maps.
struct Grid {
    input: MapDims,
    output: [usize; 2],
    padding: [usize; 2],
    /// Tiles in a row, and in a map.
    columns: usize,
    per_map: usize,
}

impl Grid {
    /// Map of a tile, and its first output's row and column.
    #[inline(always)]
    fn place(&self, tile: usize) -> [usize; 3] {
        let within = tile % self.per_map;
        [
            tile / self.per_map,
            within / self.columns * 2,
            within % self.columns * 2,
        ]
    }
}

/// Inputs to tiles, `[place, tile, channel]`.
struct ToTiles<'a> {
    x: &'a [f32],
    grid: &'a Grid,
    first: usize,
    count: usize,
    tiles: &'a mut [f32],
}

/// One tile's inputs.
struct Inputs {
    /// Null where the tile hangs over the map.
    pixels: [*const f32; PLACES],
    to: *mut f32,
    /// From place to place.
    step: usize,
}

impl PerChannels for Inputs {
    #[inline(always)]
    unsafe fn block<V: Vector>(&mut self, channel: usize) {
        // SAFETY: the pixels lie on the map, and the tiles have room.
        unsafe {
            let mut values = [[V::splat(0.0); 4]; 4];
            for (place, &pixel) in self.pixels.iter().enumerate() {
                if !pixel.is_null() {
                    values[place / 4][place % 4] = V::load(pixel.add(channel));
                }
            }
            let mut mixed = [[V::splat(0.0); 4]; 4];
            for j in 0..4 {
                mixed[0][j] = values[0][j].sub(values[2][j]);
                mixed[1][j] = values[1][j].add(values[2][j]);
                mixed[2][j] = values[2][j].sub(values[1][j]);
                mixed[3][j] = values[1][j].sub(values[3][j]);
            }
            for (i, row) in mixed.iter().enumerate() {
                let to = self.to.add(i * 4 * self.step + channel);
                row[0].sub(row[2]).store(to);
                row[1].add(row[2]).store(to.add(self.step));
                row[2].sub(row[1]).store(to.add(2 * self.step));
                row[1].sub(row[3]).store(to.add(3 * self.step));
            }
        }
    }
}

impl Job for ToTiles<'_> {
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let input = self.grid.input;
        for tile in 0..self.count {
            let [map, row, column] = self.grid.place(self.first + tile);
            let mut pixels = [std::ptr::null(); PLACES];
            for (place, pixel) in pixels.iter_mut().enumerate() {
                let y = (row + place / 4).checked_sub(self.grid.padding[0]);
                let x = (column + place % 4).checked_sub(self.grid.padding[1]);
                if let (Some(y), Some(x)) = (y, x)
                    && y < input.height
                    && x < input.width
                {
                    let at = ((map * input.height + y) * input.width + x) * input.channels;
                    *pixel = self.x.as_ptr().wrapping_add(at);
                }
            }
            let mut inputs = Inputs {
                pixels,
                to: self.tiles[tile * input.channels..].as_mut_ptr(),
                step: self.count * input.channels + APART,
            };
            // SAFETY: handed on to the caller.
            unsafe { over_channels::<I>(input.channels, &mut inputs) };
        }
    }
}

/// Products, `[place, tile, filter]`, to outputs.
struct FromTiles<'a> {
    products: &'a [f32],
    filters: usize,
    grid: &'a Grid,
    first: usize,
    count: usize,
    epilogue: Epilogue<'a>,
    y: &'a mut [f32],
}

/// One tile's outputs.
struct Outputs {
    from: *const f32,
    step: usize,
    bias: *const f32,
    /// Offsets of the four outputs; `None` beyond the map.
    at: [Option<usize>; 4],
    /// Null where there is nothing to add.
    residual: *const f32,
    bounds: [f32; 2],
    y: *mut f32,
}

impl PerChannels for Outputs {
    #[inline(always)]
    unsafe fn block<V: Vector>(&mut self, channel: usize) {
        // SAFETY: the outputs lie on the map; the lengths were compared.
        unsafe {
            let load = |place: usize| V::load(self.from.add(place * self.step + channel));
            let columns = [0, 1, 2, 3].map(|j| {
                let [a, b, c, d] = [load(j), load(4 + j), load(8 + j), load(12 + j)];
                [a.add(b).add(c), b.sub(c).sub(d)]
            });
            let (low, high) = (V::splat(self.bounds[0]), V::splat(self.bounds[1]));
            for i in 0..2 {
                let [a, b, c, d] = columns.map(|column| column[i]);
                for (j, mut value) in [a.add(b).add(c), b.sub(c).sub(d)].into_iter().enumerate() {
                    let Some(at) = self.at[2 * i + j] else {
                        continue;
                    };
                    if !self.bias.is_null() {
                        value = value.add(V::load(self.bias.add(channel)));
                    }
                    if !self.residual.is_null() {
                        value = value.add(V::load(self.residual.add(at + channel)));
                    }
                    value.clamp(low, high).store(self.y.add(at + channel));
                }
            }
        }
    }
}

impl Job for FromTiles<'_> {
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let [height, width] = self.grid.output;
        let null = std::ptr::null;
        let y = self.y.as_mut_ptr();
        let residual = match (self.epilogue.residual, self.epilogue.accumulate) {
            (Some(residual), _) => residual.as_ptr(),
            (None, true) => y.cast_const(),
            (None, false) => null(),
        };
        for tile in 0..self.count {
            let [map, row, column] = self.grid.place(self.first + tile);
            let at = [0, 1, 2, 3].map(|output| {
                let (y, x) = (row + output / 2, column + output % 2);
                let at = ((map * height + y) * width + x) * self.filters;
                (y < height && x < width).then_some(at)
            });
            let mut outputs = Outputs {
                from: self.products[tile * self.filters..].as_ptr(),
                step: self.count * self.filters + APART,
                bias: self.epilogue.bias.map_or(null(), <[f32]>::as_ptr),
                at,
                residual,
                bounds: clamp(self.epilogue.activation),
                y,
            };
            // SAFETY: handed on to the caller.
            unsafe { over_channels::<I>(self.filters, &mut outputs) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PackedConv, conv as any_conv, conv_scratch};
    use super::*;
    use crate::geometry::Padding;
    use crate::ops::activation::Activation;
    use crate::ops::kernel::simd::tests::at_every_level;

    fn wave(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin()).collect()
    }

    #[test]
    fn equals_the_direct_convolution_at_every_level() {
        let uneven = Padding {
            top: 0,
            bottom: 2,
            left: 1,
            right: 0,
        };
        for (height, width, channels, filters, batch, padding) in [
            (7, 6, 33, 40, 3, Padding::same(1)),
            (5, 6, 32, 32, 1, Padding::default()),
            (5, 30, 48, 35, 2, uneven),
            // More tiles than one pass takes.
            (30, 30, 32, 32, 2, Padding::same(1)),
            (4, 4, 32, 32, 0, Padding::same(1)),
        ] {
            let window = Window {
                kernel: [3; 2],
                stride: [1; 2],
                dilation: [1; 2],
                padding,
            };
            let input = MapDims {
                height,
                width,
                channels,
            };
            let dims = [filters, channels, 3, 3];
            let kernel = wave(dims.iter().product(), 0.7);
            let scale = wave(filters, 0.4);
            let x = wave(batch * input.elements(), 1.3);
            let bias = wave(filters, 0.3);
            let [out_height, out_width] = window.output(height, width).unwrap();
            let residual = wave(batch * out_height * out_width * filters, 0.9);
            let epilogue = Epilogue {
                bias: Some(&bias),
                residual: Some(&residual),
                accumulate: false,
                activation: Activation::Relu,
            };
            let run = |packed: &PackedConv| {
                let mut y = vec![f32::NAN; residual.len()];
                let mut scratch = vec![0.0; conv_scratch(input, packed, &window)];
                any_conv(
                    &x,
                    batch,
                    input,
                    packed,
                    &window,
                    epilogue,
                    &mut y,
                    &mut scratch,
                );
                y
            };
            at_every_level(|level| {
                let direct = run(&PackedConv::new(&kernel, dims, Some(&scale)));
                let tiled = run(&PackedConv::for_window(
                    &kernel,
                    dims,
                    Some(&scale),
                    input,
                    &window,
                ));
                let largest = direct.iter().fold(1f32, |most, v| most.max(v.abs()));
                for (a, b) in tiled.iter().zip(&direct) {
                    assert!((a - b).abs() <= 1e-5 * largest, "{level:?}: {a} for {b}");
                }
            });
        }
    }
}
