//! Matrix products in register tiles. Every element is summed over the depth in order, so that its
//! bits depend neither on the tile it falls into nor on how rows are shared out to threads.

use super::Epilogue;
use super::curve::{clamp, curve};
use super::simd::{Baseline, Isa, Job, LINE, Vector, dispatch, prefetch, prefetch_far};
use crate::activation::Activation;

/// Column widths of tiles, widest first; a matrix is cut greedily into panels of these.
const WIDTHS: [usize; 4] = [32, 16, 8, 1];

/// Floats of `a` and `y` that a chunk of rows should stay under, to keep them in the L2 cache beside
/// the right matrix.
const CHUNK_FLOATS: usize = 32 * 1024;

/// Floats of a right matrix beyond which it does not stay there. It is read once a chunk, which then
/// takes all the room that its `a` has.
const LARGE_FLOATS: usize = 64 * 1024;
const LARGE_CHUNK_FLOATS: usize = 128 * 1024;

/// Steps of the depth by which a tile asks for its lines of `b` before it reads them.
const AHEAD: usize = 8;

/// One tile: `y[r][c] = finish(sum over k of a[r][k] * b[k][c])`.
pub(super) struct Tile {
    a: *const f32,
    a_row: usize,
    a_depth: usize,
    b: *const f32,
    b_depth: usize,
    depth: usize,
    y: *mut f32,
    y_row: usize,
    /// What is done to the sums; null pointers where there is nothing to add.
    bias: *const f32,
    residual: *const f32,
    accumulate: bool,
    bounds: [f32; 2],
    /// What the tiles after this one read of `b`, and how many values of it a step of the depth asks
    /// for.
    next: *const f32,
    next_step: usize,
}

#[cfg(target_arch = "aarch64")]
impl Tile {
    /// The tile so many columns further right.
    fn right(&self, columns: usize) -> Self {
        let right = |from: *const f32| match from.is_null() {
            true => from,
            false => from.wrapping_add(columns),
        };
        Self {
            b: right(self.b),
            y: self.y.wrapping_add(columns),
            bias: right(self.bias),
            residual: right(self.residual),
            ..*self
        }
    }
}

/// The tiles of an instruction set.
pub(super) trait Tiles {
    /// Most rows of a tile, for each of [`WIDTHS`].
    const ROWS: [usize; 4];

    /// Computes one tile.
    ///
    /// # Safety
    /// The pointers reach over `rows` rows, `WIDTHS[width]` columns and the depth.
    unsafe fn tile(width: usize, rows: usize, tile: &Tile);
}

#[inline(always)]
unsafe fn tile<V: Vector, const ROWS: usize, const VECTORS: usize>(t: &Tile) {
    // SAFETY: the caller vouches for the extents of the pointers.
    unsafe {
        // What is there where the sums go is on its way while they are made.
        for r in 0..ROWS {
            for column in (0..VECTORS * V::LANES).step_by(LINE) {
                let at = r * t.y_row + column;
                prefetch(t.y.wrapping_add(at));
                if !t.residual.is_null() {
                    prefetch(t.residual.wrapping_add(at));
                }
            }
        }
        let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
        let (mut a, mut b, mut next) = (t.a, t.b, t.next);
        for _ in 0..t.depth {
            prefetch_far(next);
            next = next.wrapping_add(t.next_step);
            let ahead = b.wrapping_add(AHEAD * t.b_depth);
            for column in (0..VECTORS * V::LANES).step_by(LINE) {
                prefetch(ahead.wrapping_add(column));
            }
            let mut columns = [V::splat(0.0); VECTORS];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = V::load(b.add(v * V::LANES));
            }
            for (r, row) in sums.iter_mut().enumerate() {
                let value = V::splat(*a.add(r * t.a_row));
                for (sum, column) in row.iter_mut().zip(columns) {
                    *sum = value.mul_add(column, *sum);
                }
            }
            a = a.add(t.a_depth);
            b = b.add(t.b_depth);
        }
        // One short loop a step: they unroll whole, and the sums stay in registers throughout.
        if t.accumulate {
            for (r, row) in sums.iter_mut().enumerate() {
                for (v, sum) in row.iter_mut().enumerate() {
                    *sum = sum.add(V::load(t.y.add(r * t.y_row + v * V::LANES)));
                }
            }
        }
        if !t.bias.is_null() {
            for row in &mut sums {
                for (v, sum) in row.iter_mut().enumerate() {
                    *sum = sum.add(V::load(t.bias.add(v * V::LANES)));
                }
            }
        }
        if !t.residual.is_null() {
            for (r, row) in sums.iter_mut().enumerate() {
                for (v, sum) in row.iter_mut().enumerate() {
                    *sum = sum.add(V::load(t.residual.add(r * t.y_row + v * V::LANES)));
                }
            }
        }
        let (low, high) = (V::splat(t.bounds[0]), V::splat(t.bounds[1]));
        for (r, row) in sums.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                sum.clamp(low, high)
                    .store(t.y.add(r * t.y_row + v * V::LANES));
            }
        }
    }
}

/// A tile as a function of its own: one function of all tiles would take the compiler minutes.
#[inline(never)]
unsafe fn baseline_tile<V: Vector, const ROWS: usize, const VECTORS: usize>(t: &Tile) {
    // SAFETY: handed on to the caller.
    unsafe { tile::<V, ROWS, VECTORS>(t) }
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2_tile<V: Vector, const ROWS: usize, const VECTORS: usize>(t: &Tile) {
    // SAFETY: handed on to the caller.
    unsafe { tile::<V, ROWS, VECTORS>(t) }
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
unsafe fn avx512_tile<V: Vector, const ROWS: usize, const VECTORS: usize>(t: &Tile) {
    // SAFETY: handed on to the caller.
    unsafe { tile::<V, ROWS, VECTORS>(t) }
}

/// Tiles of up to `$rows` rows and `$vectors` vectors for each of [`WIDTHS`].
macro_rules! tiles {
    ($isa:ty, $tile:ident: $($width:literal => $vector:ty, $vectors:literal, $most:literal [$($rows:literal)*];)*) => {
        impl Tiles for $isa {
            const ROWS: [usize; 4] = [$($most),*];

            #[inline(always)]
            unsafe fn tile(width: usize, rows: usize, t: &Tile) {
                // SAFETY: handed on to the caller.
                unsafe {
                    match (width, rows) {
                        $($(($width, $rows) => $tile::<$vector, $rows, $vectors>(t),)*)*
                        _ => unreachable!("a tile has at most `ROWS` rows"),
                    }
                }
            }
        }
    };
}

tiles! { Baseline, baseline_tile:
    0 => <Self as Isa>::Wide, 4, 2 [1 2];
    1 => <Self as Isa>::Wide, 2, 4 [1 2 3 4];
    2 => <Self as Isa>::Half, 1, 6 [1 2 3 4 5 6];
    3 => <Self as Isa>::One, 1, 8 [1 2 3 4 5 6 7 8];
}

#[cfg(target_arch = "x86_64")]
tiles! { super::simd::x86::Avx2, avx2_tile:
    0 => <Self as Isa>::Wide, 4, 3 [1 2 3];
    1 => <Self as Isa>::Wide, 2, 6 [1 2 3 4 5 6];
    2 => <Self as Isa>::Half, 1, 12 [1 2 3 4 5 6 7 8 9 10 11 12];
    3 => <Self as Isa>::One, 1, 12 [1 2 3 4 5 6 7 8 9 10 11 12];
}

#[cfg(target_arch = "x86_64")]
tiles! { super::simd::x86::Avx512, avx512_tile:
    0 => <Self as Isa>::Wide, 2, 14 [1 2 3 4 5 6 7 8 9 10 11 12 13 14];
    1 => <Self as Isa>::Wide, 1, 14 [1 2 3 4 5 6 7 8 9 10 11 12 13 14];
    2 => <Self as Isa>::Half, 1, 14 [1 2 3 4 5 6 7 8 9 10 11 12 13 14];
    3 => <Self as Isa>::One, 1, 14 [1 2 3 4 5 6 7 8 9 10 11 12 13 14];
}

#[cfg(target_arch = "aarch64")]
struct NeonHalves;

#[cfg(target_arch = "aarch64")]
tiles! { NeonHalves, baseline_tile:
    0 => super::simd::arm::Pair, 4, 1 [1];
    1 => super::simd::arm::Pair, 2, 6 [1 2 3 4 5 6];
    2 => super::simd::arm::Pair, 1, 12 [1 2 3 4 5 6 7 8 9 10 11 12];
    3 => super::simd::Lanes<1, true>, 1, 12 [1 2 3 4 5 6 7 8 9 10 11 12];
}

#[cfg(target_arch = "aarch64")]
impl Tiles for super::simd::arm::Neon {
    const ROWS: [usize; 4] = [6, 6, 12, 12];

    #[inline(always)]
    unsafe fn tile(width: usize, rows: usize, t: &Tile) {
        // SAFETY: handed on to the caller.
        unsafe {
            match width {
                // Two tiles: the registers hold the sums of more rows than of one so wide.
                0 => {
                    NeonHalves::tile(1, rows, t);
                    NeonHalves::tile(1, rows, &t.right(WIDTHS[1]));
                }
                _ => NeonHalves::tile(width, rows, t),
            }
        }
    }
}

/// The panels of a matrix with so many columns: first column and index into [`WIDTHS`].
fn panels(columns: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let width = WIDTHS.iter().position(|&w| w <= columns - first)?;
        first += WIDTHS[width];
        Some((first - WIDTHS[width], width))
    })
}

/// A matrix `[depth, columns]`, panel after panel, each `[depth, width]`.
#[derive(Debug, Clone)]
pub(crate) struct PackedMatrix {
    values: Vec<f32>,
    depth: usize,
    columns: usize,
}

impl PackedMatrix {
    /// Packs the matrix whose value at `k`, `c` is `value(k, c)`.
    pub(crate) fn new(depth: usize, columns: usize, value: impl Fn(usize, usize) -> f32) -> Self {
        let mut values = Vec::with_capacity(depth * columns);
        for (first, width) in panels(columns) {
            for k in 0..depth {
                values.extend((first..first + WIDTHS[width]).map(|c| value(k, c)));
            }
        }
        Self {
            values,
            depth,
            columns,
        }
    }

    /// Number of values.
    pub(crate) fn values(&self) -> usize {
        self.values.len()
    }

    /// Packs `rows [depth, columns]`, each row times its `scale`.
    pub(crate) fn of_rows(rows: &[f32], columns: usize, scale: Option<&[f32]>) -> Self {
        let depth = rows.len().checked_div(columns).unwrap_or(0);
        let mut values = Vec::with_capacity(rows.len());
        for (first, width) in panels(columns) {
            for (k, row) in rows.chunks_exact(columns).enumerate() {
                let row = &row[first..first + WIDTHS[width]];
                match scale {
                    Some(scale) => values.extend(row.iter().map(|value| value * scale[k])),
                    None => values.extend_from_slice(row),
                }
            }
        }
        Self {
            values,
            depth,
            columns,
        }
    }

    /// Packs the transpose of `rows [columns, depth]`, each row times its `scale`.
    pub(crate) fn of_columns(rows: &[f32], depth: usize, scale: Option<&[f32]>) -> Self {
        /// Values of each row that are turned at a time, to write where the cache still is.
        const BLOCK: usize = 16;
        let columns = rows.len().checked_div(depth).unwrap_or(0);
        let mut values = vec![0.0; rows.len()];
        for (first, width) in panels(columns) {
            let width = WIDTHS[width];
            let panel = &mut values[first * depth..][..width * depth];
            let factors = scale.map(|scale| &scale[first..first + width]);
            for (block, panel) in panel.chunks_mut(BLOCK * width).enumerate() {
                let length = panel.len() / width;
                let mut sources = [&[][..]; WIDTHS[0]];
                for (column, source) in sources[..width].iter_mut().enumerate() {
                    let start = (first + column) * depth + block * BLOCK;
                    *source = &rows[start..start + length];
                }
                for (k, line) in panel.chunks_exact_mut(width).enumerate() {
                    for (to, source) in line.iter_mut().zip(&sources) {
                        *to = source[k];
                    }
                    for (to, factor) in line.iter_mut().zip(factors.unwrap_or_default()) {
                        *to *= factor;
                    }
                }
            }
        }
        Self {
            values,
            depth,
            columns,
        }
    }

    /// Length of the sums.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Number of columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }
}

/// The left matrix: `rows` x `depth` at any strides.
#[derive(Clone, Copy)]
struct Left<'a> {
    values: &'a [f32],
    row: usize,
    depth: usize,
}

/// Rows of the left matrix this many values apart, or a multiple, fall on the same few lines of the L1
/// cache: they are read from a copy whose rows lie [`APART`] values further apart.
const ALIASED: usize = 1024;
const APART: usize = 16;

struct Product<'a> {
    rows: usize,
    depth: usize,
    columns: usize,
    a: Left<'a>,
    /// Panel after panel, as in [`PackedMatrix`].
    b: &'a [f32],
    epilogue: Epilogue<'a>,
    y: &'a mut [f32],
    /// Values from one row of `y` to the next; more than `columns` go with no activation but a
    /// clamp, and with no residual.
    y_row: usize,
}

impl Product<'_> {
    /// Panics where a pointer of a tile would leave its slice.
    fn check(&self) {
        let last = |rows: usize| rows.saturating_sub(1);
        assert!(self.y_row >= self.columns, "length of a row of y");
        assert!(
            self.y_row == self.columns
                || (self.epilogue.residual.is_none()
                    && self.epilogue.activation.bounds().is_some()),
            "rows apart take neither residuals nor curves"
        );
        let room = last(self.rows) * self.y_row + self.columns;
        assert!(self.rows == 0 || self.y.len() >= room, "room for y");
        if self.rows > 0 && self.depth > 0 {
            let end = last(self.rows) * self.a.row + last(self.depth) * self.a.depth + 1;
            assert!(self.a.values.len() >= end, "length of a");
        }
        assert!(self.b.len() >= self.depth * self.columns, "length of b");
        if let Some(bias) = self.epilogue.bias {
            assert!(bias.len() >= self.columns, "length of the bias");
        }
        if let Some(residual) = self.epilogue.residual {
            assert!(
                residual.len() >= self.rows * self.columns,
                "length of the residual"
            );
        }
    }
}

impl Job for Product<'_> {
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let most = I::ROWS[0];
        let large = self.depth * self.columns > LARGE_FLOATS;
        let chunk = match large && self.epilogue.activation.bounds().is_some() {
            true => LARGE_CHUNK_FLOATS / self.depth,
            false => CHUNK_FLOATS / (self.depth + self.columns),
        };
        let chunk = chunk.max(1).next_multiple_of(most);
        let null = std::ptr::null();
        let bias = self.epilogue.bias.map_or(null, <[f32]>::as_ptr);
        let residual = self.epilogue.residual.map_or(null, <[f32]>::as_ptr);
        let offset = |from: *const f32, by: usize| {
            if from.is_null() {
                null
            } else {
                from.wrapping_add(by)
            }
        };
        let y = self.y.as_mut_ptr();
        let aliased = self.a.depth == 1
            && self.a.row.is_multiple_of(ALIASED)
            && self.rows > 1
            && self.columns > WIDTHS[0];
        let mut copy = Vec::new();
        for start in (0..self.rows).step_by(chunk) {
            let rows = chunk.min(self.rows - start);
            let (mut a, mut a_row) = (
                self.a.values.as_ptr().wrapping_add(start * self.a.row),
                self.a.row,
            );
            if aliased {
                copy.clear();
                for line in self.a.values[start * self.a.row..]
                    .chunks(self.a.row)
                    .take(rows)
                {
                    copy.extend_from_slice(&line[..self.depth]);
                    copy.extend_from_slice(&[0.0; APART]);
                }
                (a, a_row) = (copy.as_ptr(), self.depth + APART);
            }
            for (column, width) in panels(self.columns) {
                let b = self.b.as_ptr().wrapping_add(column * self.depth);
                // Tiles of nearly the same height, rather than full ones and a low last one.
                let tiles = rows.div_ceil(I::ROWS[width]);
                let (height, taller) = (rows / tiles, rows % tiles);
                // Together they ask for the panel that comes next, which may lie far from the core.
                let next_step = WIDTHS[width].div_ceil(tiles);
                let mut next = b.wrapping_add(WIDTHS[width] * self.depth);
                let mut row = start;
                for index in 0..tiles {
                    let height = height + usize::from(index < taller);
                    let at = row * self.y_row + column;
                    let tile = Tile {
                        a: a.wrapping_add((row - start) * a_row),
                        a_row,
                        a_depth: self.a.depth,
                        b,
                        b_depth: WIDTHS[width],
                        depth: self.depth,
                        y: y.wrapping_add(at),
                        y_row: self.y_row,
                        bias: offset(bias, column),
                        residual: offset(residual, at),
                        accumulate: self.epilogue.accumulate,
                        bounds: clamp(self.epilogue.activation),
                        next,
                        next_step,
                    };
                    // SAFETY: `check` compared all extents, and rows and columns stay inside them.
                    unsafe { I::tile(width, height, &tile) };
                    next = next.wrapping_add(next_step * self.depth);
                    row += height;
                }
            }
            if self.epilogue.activation.bounds().is_none() {
                // SAFETY: `check` compared the length of y, whose rows of a curve lie side by side;
                // its tiles are done.
                let done = unsafe {
                    std::slice::from_raw_parts_mut(y.add(start * self.columns), rows * self.columns)
                };
                curve(self.epilogue.activation, done);
            }
        }
    }
}

/// `y [rows, columns] = epilogue(a [rows, depth] x b)`, all row-major.
pub(crate) fn product(a: &[f32], b: &PackedMatrix, epilogue: Epilogue<'_>, y: &mut [f32]) {
    let rows = y.len() / b.columns;
    let product = Product {
        rows,
        depth: b.depth,
        columns: b.columns,
        a: Left {
            values: a,
            row: b.depth,
            depth: 1,
        },
        b: &b.values,
        epilogue,
        y,
        y_row: b.columns,
    };
    product.check();
    dispatch(product);
}

/// `y [rows, columns] = a [rows, depth] x b`, with so many values from row to row of `a` and `y`;
/// `b` lies in panels, by [`pack_columns`] or [`pack_rows`].
#[allow(clippy::too_many_arguments)]
pub(super) fn strided_product(
    a: &[f32],
    a_row: usize,
    rows: usize,
    depth: usize,
    b: &[f32],
    columns: usize,
    y: &mut [f32],
    y_row: usize,
) {
    let product = Product {
        rows,
        depth,
        columns,
        a: Left {
            values: a,
            row: a_row,
            depth: 1,
        },
        b,
        epilogue: Epilogue::default(),
        y,
        y_row,
    };
    product.check();
    dispatch(product);
}

/// Packs the transpose of `count` rows of `depth` values, `row` values apart, followed by columns
/// of zeros up to `columns`.
pub(super) fn pack_columns(
    values: &[f32],
    row: usize,
    count: usize,
    depth: usize,
    columns: usize,
    to: &mut [f32],
) {
    for (first, width) in panels(columns) {
        let width = WIDTHS[width];
        let panel = &mut to[first * depth..][..width * depth];
        for column in 0..width {
            let places = panel[column..].iter_mut().step_by(width);
            if first + column < count {
                let line = &values[(first + column) * row..][..depth];
                places.zip(line).for_each(|(to, from)| *to = *from);
            } else {
                places.for_each(|to| *to = 0.0);
            }
        }
    }
}

/// Packs `depth` rows of `columns` values, `row` values apart.
pub(super) fn pack_rows(values: &[f32], row: usize, depth: usize, columns: usize, to: &mut [f32]) {
    for (first, width) in panels(columns) {
        let width = WIDTHS[width];
        let panel = &mut to[first * depth..][..width * depth];
        for (k, line) in panel.chunks_exact_mut(width).enumerate() {
            line.copy_from_slice(&values[k * row + first..][..width]);
        }
    }
}

/// `y [rows, columns] = a^T x b`, or added to `y`, for rows `first..first + rows` of `a^T`, with
/// row-major `a [depth, a_columns]` and `b [depth, columns]`. They are copied to panels first: read
/// where they lie, every step along the depth may touch another page. `scratch` is the memory
/// for that, and grows as needed.
#[allow(clippy::too_many_arguments)]
pub(crate) fn transposed_product(
    a: &[f32],
    a_columns: usize,
    first: usize,
    b: &[f32],
    columns: usize,
    accumulate: bool,
    y: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    if y.is_empty() {
        return;
    }
    let depth = b.len() / columns;
    let rows = y.len() / columns;
    assert!(
        a.len() >= depth * a_columns && first + rows <= a_columns,
        "a"
    );
    if depth == 0 {
        if !accumulate {
            y.fill(0.0);
        }
        return;
    }
    let room = DEPTH.min(depth) * (columns + PANEL_ROWS);
    if scratch.len() < room {
        scratch.resize(room, 0.0);
    }
    dispatch(TransposedProduct {
        a,
        a_columns,
        first,
        b,
        columns,
        accumulate,
        y: &mut y[..rows * columns],
        scratch,
    });
}

/// Rows of `a` and `b` that a transposed product copies at a time: a panel of each fits the L1
/// cache.
const DEPTH: usize = 128;

/// Panels of `a` for which `b` is read where it lies, and the columns of `b` up to which the lines
/// of [`DEPTH`] rows share few pages.
const COPIED_PANELS: usize = 2;
const MOST_IN_PLACE: usize = 512;

/// Most rows of a tile of any instruction set.
const PANEL_ROWS: usize = 14;

struct TransposedProduct<'a> {
    a: &'a [f32],
    a_columns: usize,
    first: usize,
    b: &'a [f32],
    columns: usize,
    accumulate: bool,
    y: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Job for TransposedProduct<'_> {
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let columns = self.columns;
        let rows = self.y.len() / columns;
        let depth = self.b.len() / columns;
        // Panels of nearly the same height, rather than full ones and a low last one.
        let panel = rows.div_ceil(rows.div_ceil(I::ROWS[WIDTHS.len() - 1]));
        let (right, left) = self.scratch.split_at_mut(DEPTH.min(depth) * columns);
        let y = self.y.as_mut_ptr();
        // A copy of `b` pays where several panels of `a` read it.
        let copied = rows > COPIED_PANELS * panel || columns > MOST_IN_PLACE;
        for start in (0..depth).step_by(DEPTH) {
            let depth = DEPTH.min(depth - start);
            let b = &self.b[start * columns..][..depth * columns];
            if copied {
                for (column, width) in panels(columns) {
                    let to = &mut right[column * depth..];
                    pack(b, columns, column, WIDTHS[width], to);
                }
            }
            for row in (0..rows).step_by(panel) {
                let panel = panel.min(rows - row);
                let lines = &self.a[start * self.a_columns..][..depth * self.a_columns];
                pack(lines, self.a_columns, self.first + row, panel, left);
                for (column, width) in panels(columns) {
                    let mut within = 0;
                    while within < panel {
                        let height = I::ROWS[width].min(panel - within);
                        let tile = Tile {
                            a: left.as_ptr().wrapping_add(within),
                            a_row: 1,
                            a_depth: panel,
                            b: match copied {
                                true => right.as_ptr().wrapping_add(column * depth),
                                false => b.as_ptr().wrapping_add(column),
                            },
                            b_depth: if copied { WIDTHS[width] } else { columns },
                            depth,
                            y: y.wrapping_add((row + within) * columns + column),
                            y_row: columns,
                            bias: std::ptr::null(),
                            residual: std::ptr::null(),
                            accumulate: self.accumulate || start > 0,
                            bounds: clamp(Activation::Linear),
                            next: left.as_ptr(),
                            next_step: 0,
                        };
                        // SAFETY: the lengths were compared before, and the panels hold `depth`
                        // lines.
                        unsafe { I::tile(width, height, &tile) };
                        within += height;
                    }
                }
            }
        }
    }
}

/// Copies `width` columns from `column` on of every line of a matrix one after the other.
#[inline(always)]
fn pack(lines: &[f32], columns: usize, column: usize, width: usize, to: &mut [f32]) {
    let lines = lines.chunks_exact(columns);
    match width {
        // Known lengths are copied without a call.
        32 => {
            for (line, to) in lines.zip(to.chunks_exact_mut(32)) {
                to.copy_from_slice(&line[column..column + 32]);
            }
        }
        14 => {
            for (line, to) in lines.zip(to.chunks_exact_mut(14)) {
                to.copy_from_slice(&line[column..column + 14]);
            }
        }
        _ => {
            for (line, to) in lines.zip(to.chunks_exact_mut(width)) {
                to.copy_from_slice(&line[column..column + width]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernel::simd::tests::at_every_level;

    fn wave(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin()).collect()
    }

    #[test]
    fn products_agree_with_plain_sums_at_every_level() {
        for (rows, depth, columns) in [
            (1, 1, 1),
            (29, 7, 57),
            (15, 333, 24),
            (5, 3, 100),
            // Rows that are copied apart.
            (30, 1024, 40),
        ] {
            let a = wave(rows * depth, 0.7);
            let b = wave(depth * columns, 1.3);
            let bias = wave(columns, 0.3);
            let residual = wave(rows * columns, 0.9);
            let packed = PackedMatrix::new(depth, columns, |k, c| b[k * columns + c]);
            let ones = vec![1.0; depth.max(columns)];
            let same = PackedMatrix::of_rows(&b, columns, Some(&ones));
            assert_eq!(packed.values, same.values);
            let turned: Vec<f32> = (0..b.len())
                .map(|i| b[i % depth * columns + i / depth])
                .collect();
            let same = PackedMatrix::of_columns(&turned, depth, Some(&ones));
            assert_eq!(packed.values, same.values);
            let transposed: Vec<f32> = (0..depth * rows)
                .map(|i| a[i % rows * depth + i / rows])
                .collect();
            at_every_level(|level| {
                let mut y = vec![f32::NAN; rows * columns];
                let epilogue = Epilogue {
                    bias: Some(&bias),
                    residual: Some(&residual),
                    activation: Activation::Relu,
                    accumulate: false,
                };
                product(&a, &packed, epilogue, &mut y);
                let mut added = vec![1.0; rows * columns];
                let scratch = &mut Vec::new();
                transposed_product(&transposed, rows, 0, &b, columns, true, &mut added, scratch);
                for r in 0..rows {
                    for c in 0..columns {
                        let at = r * columns + c;
                        let sum: f64 = (0..depth)
                            .map(|k| f64::from(a[r * depth + k]) * f64::from(b[k * columns + c]))
                            .sum();
                        let wanted = (sum + f64::from(bias[c] + residual[at])).max(0.0);
                        assert!((f64::from(y[at]) - wanted).abs() < 1e-4, "{level:?}");
                        assert!((f64::from(added[at]) - sum - 1.0).abs() < 1e-4, "{level:?}");
                    }
                }
            });
        }
    }
}
