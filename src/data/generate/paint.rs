//! From a structure to a picture: geometry, light, colours, clutter and noise, for all classes
//! alike; and the small functions that structures are made of.

use image::{Rgb, RgbImage};
use rand::{Rng, RngCore};

use crate::rng::Stream;

/// A structure: `(x, y, pixel)` to a value from 0 to 1, where the picture spans [-1, 1] in both
/// directions and `pixel` is the width over which an edge is smoothed.
pub(super) type Structure = Box<dyn Fn(f32, f32, f32) -> f32>;

/// Uniform in `[low, high)`.
pub(super) fn uniform(rng: &mut Stream, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.random::<f32>()
}

/// True with probability `share`.
pub(super) fn chance(rng: &mut Stream, share: f32) -> bool {
    rng.random::<f32>() < share
}

/// An integer from 0 to `count - 1`.
pub(super) fn pick(rng: &mut Stream, count: u32) -> u32 {
    rng.random_range(0..count)
}

/// Inside (1) or outside (0) of a signed distance that is negative inside.
pub(super) fn inside(distance: f32, pixel: f32) -> f32 {
    (0.5 - distance / pixel).clamp(0.0, 1.0)
}

/// The next integer below, and what is left. Without SSE 4.1, `f32::floor` is a slow call.
pub(super) fn split(t: f32) -> (i32, f32) {
    let whole = t as i32;
    let whole = if t < whole as f32 { whole - 1 } else { whole };
    (whole, t - whole as f32)
}

/// Distance to the nearest integer: a triangle wave of period 1 between 0 and 0.5.
pub(super) fn triangle(t: f32) -> f32 {
    let (_, rest) = split(t);
    rest.min(1.0 - rest)
}

/// Bands of the given period, 1 where the phase is nearer to an integer than `duty / 2`.
pub(super) fn bands(t: f32, period: f32, duty: f32, pixel: f32) -> f32 {
    inside((triangle(t / period) - duty / 2.0) * period, pixel)
}

/// About sin(2 pi t), to 0.001: a parabola and a correction, the same on every machine.
pub(super) fn sine(t: f32) -> f32 {
    let t = split(t + 0.5).1 - 0.5;
    let y = t * (8.0 - 16.0 * t.abs());
    y * (0.775 + 0.225 * y.abs())
}

/// Angle of (x, y) in turns, -0.5 to 0.5, to 0.0001.
pub(super) fn angle(x: f32, y: f32) -> f32 {
    let (small, large) = (x.abs().min(y.abs()), x.abs().max(y.abs()).max(1e-9));
    let t = small / large;
    let eighth = t * (0.159_06 + t * t * (-0.051_3 + t * t * 0.017_4));
    let quarter = if y.abs() > x.abs() {
        0.25 - eighth
    } else {
        eighth
    };
    let half = if x < 0.0 { 0.5 - quarter } else { quarter };
    if y < 0.0 { -half } else { half }
}

/// A rotation with a shift.
#[derive(Clone, Copy)]
pub(super) struct Place {
    cos: f32,
    sin: f32,
    x: f32,
    y: f32,
}

impl Place {
    /// Rotated at will, its origin at most `reach` from the centre in both directions.
    pub(super) fn random(rng: &mut Stream, reach: f32) -> Self {
        Self::turned(rng.random(), rng, reach)
    }

    /// Rotated by `turns`.
    pub(super) fn turned(turns: f32, rng: &mut Stream, reach: f32) -> Self {
        let (cos, sin) = (sine(turns + 0.25), sine(turns));
        let norm = (cos * cos + sin * sin).sqrt();
        Self {
            cos: cos / norm,
            sin: sin / norm,
            x: uniform(rng, -reach, reach),
            y: uniform(rng, -reach, reach),
        }
    }

    /// Coordinates as seen from the place.
    pub(super) fn local(&self, x: f32, y: f32) -> (f32, f32) {
        let (x, y) = (x - self.x, y - self.y);
        (self.cos * x + self.sin * y, self.cos * y - self.sin * x)
    }
}

/// A random number from 0 to 1 for each cell of the plane.
pub(super) fn cell(seed: u32, column: i32, row: i32) -> f32 {
    let mut h = seed ^ (column as u32).wrapping_mul(0x9E37_79B1);
    h = (h ^ (h >> 15)).wrapping_mul(0x85EB_CA6B) ^ (row as u32).wrapping_mul(0xC2B2_AE35);
    h = (h ^ (h >> 13)).wrapping_mul(0x27D4_EB2F);
    h ^= h >> 16;
    (h >> 8) as f32 / 16_777_216.0
}

/// Smooth noise: random values on a periodic grid of unit cells, blended in between.
pub(super) struct Noise {
    rows: [Row; Noise::SIDE],
}

/// Noise along one line of constant y.
#[derive(Clone, Copy)]
pub(super) struct Row([f32; Noise::SIDE]);

impl Noise {
    const SIDE: usize = 16;

    pub(super) fn random(rng: &mut Stream) -> Self {
        Self {
            rows: std::array::from_fn(|_| Row(std::array::from_fn(|_| rng.random()))),
        }
    }

    /// Value at a point, 0 to 1.
    pub(super) fn at(&self, x: f32, y: f32) -> f32 {
        let (above, below, share) = self.around(y);
        let (above, below) = (above.at(x), below.at(x));
        above + share * (below - above)
    }

    /// The line at `y`, for all points of a row of pixels.
    fn row(&self, y: f32) -> Row {
        let (above, below, share) = self.around(y);
        Row(std::array::from_fn(|i| {
            above.0[i] + share * (below.0[i] - above.0[i])
        }))
    }

    fn around(&self, y: f32) -> (&Row, &Row, f32) {
        let (row, rest) = split(y);
        (&self.rows[wrap(row)], &self.rows[wrap(row + 1)], ease(rest))
    }
}

impl Row {
    fn at(&self, x: f32) -> f32 {
        let (column, rest) = split(x);
        let (left, right) = (self.0[wrap(column)], self.0[wrap(column + 1)]);
        left + ease(rest) * (right - left)
    }
}

fn wrap(index: i32) -> usize {
    index as usize % Noise::SIDE
}

fn ease(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

type Colour = [f32; 3];

fn blend(from: Colour, to: Colour, share: f32) -> Colour {
    std::array::from_fn(|i| from[i] + share * (to[i] - from[i]))
}

/// Two colours that differ enough to be told apart, either of them the lighter one.
fn palette(rng: &mut Stream) -> [Colour; 2] {
    let first: Colour = std::array::from_fn(|_| uniform(rng, 0.1, 0.9));
    let contrast = uniform(rng, 0.45, 0.8);
    let sign = if chance(rng, 0.5) { 1.0 } else { -1.0 };
    let direction: Colour = std::array::from_fn(|_| sign * uniform(rng, -0.25, 1.0));
    let length = direction.iter().map(|d| d * d).sum::<f32>().sqrt().max(0.2);
    // Around the middle of the two, so that neither leaves the range by much.
    let half = direction.map(|d| d / length * contrast * 0.87);
    [
        std::array::from_fn(|i| first[i] - half[i]),
        std::array::from_fn(|i| first[i] + half[i]),
    ]
}

/// Something in the way: a bar or an ellipse of one colour.
struct Clutter {
    place: Place,
    extent: [f32; 2],
    round: bool,
    colour: Colour,
}

impl Clutter {
    fn random(rng: &mut Stream) -> Self {
        let round = chance(rng, 0.5);
        let extent = if round {
            [uniform(rng, 0.08, 0.32), uniform(rng, 0.08, 0.32)]
        } else {
            [uniform(rng, 0.3, 1.2), uniform(rng, 0.015, 0.1)]
        };
        Self {
            place: Place::random(rng, 1.0),
            extent,
            round,
            colour: std::array::from_fn(|_| rng.random()),
        }
    }

    fn cover(&self, x: f32, y: f32, pixel: f32) -> f32 {
        let (x, y) = self.place.local(x, y);
        let [a, b] = self.extent;
        let distance = if self.round {
            let (u, v) = (x / a, y / b);
            ((u * u + v * v).sqrt() - 1.0) * a.min(b)
        } else {
            (x.abs() - a).max(y.abs() - b)
        };
        inside(distance, pixel)
    }
}

/// Paints a structure.
pub(super) fn render(
    rng: &mut Stream,
    size: u32,
    structure: &dyn Fn(f32, f32, f32) -> f32,
) -> RgbImage {
    let [low, high] = palette(rng);
    let light = Noise::random(rng);
    let light_strength = uniform(rng, 0.0, 0.3);
    let tint: Colour = std::array::from_fn(|_| uniform(rng, -0.3, 0.3));
    let warp = Noise::random(rng);
    let warp_strength = uniform(rng, 0.0, 0.2);
    let grain = Noise::random(rng);
    let grain_strength = uniform(rng, 0.0, 0.15);
    let grain_scale = uniform(rng, 3.0, 9.0);
    let clutter: Vec<Clutter> = (0..pick(rng, 3)).map(|_| Clutter::random(rng)).collect();
    let noise = uniform(rng, 0.01, 0.04);

    let pixel = 2.0 / size as f32;
    let edge = pixel * uniform(rng, 1.0, 2.2);
    let mut picture = RgbImage::new(size, size);
    for (row, pixels) in picture.rows_mut().enumerate() {
        let y = (row as f32 + 0.5) * pixel - 1.0;
        let (warp, light) = (warp.row(1.3 * y), light.row(1.1 * y));
        let grain = grain.row(grain_scale * y);
        for (column, Rgb(channels)) in pixels.enumerate() {
            let x = (column as f32 + 0.5) * pixel - 1.0;
            let dx = warp_strength * (warp.at(1.3 * x) - 0.5);
            let dy = warp_strength * (warp.at(1.3 * x + 8.0) - 0.5);
            let value = structure(x + dx, y + dy, edge);

            let shade = light_strength * (light.at(1.1 * x) - 0.5)
                + grain_strength * (grain.at(grain_scale * x) - 0.5);
            let drift = light.at(x + 8.0) - 0.5;
            let mut colour = blend(low, high, value);
            for (channel, tint) in colour.iter_mut().zip(tint) {
                *channel += shade + tint * drift;
            }
            for thing in &clutter {
                colour = blend(colour, thing.colour, thing.cover(x, y, edge));
            }
            let luma = bell(rng.next_u32());
            let chroma = rng.next_u32().to_le_bytes();
            for ((channel, colour), speck) in channels.iter_mut().zip(colour).zip(chroma) {
                let speckle = noise * (luma + f32::from(speck) / 255.0 - 0.5);
                *channel = ((colour + speckle) * 255.0 + 0.5).clamp(0.0, 255.0) as u8;
            }
        }
    }
    picture
}

/// Four bytes to a nearly normal number of mean 0 and deviation 1.
fn bell(bits: u32) -> f32 {
    let sum: u32 = bits.to_le_bytes().iter().map(|&byte| u32::from(byte)).sum();
    (sum as f32 - 510.0) / 147.8
}
