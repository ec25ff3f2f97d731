//! Rotation, shear and translation, with Pillow's bilinear sampling.

use image::RgbImage;

/// Where the pixel of an output comes from: `(a x + b y + c, d x + e y + f)`. Coordinates count from
/// the picture's corner, so that the first pixel's centre is `(1/2, 1/2)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Affine([f64; 6]);

impl Affine {
    /// A turn by so many degrees counter-clockwise about a centre `[y, x]`.
    pub(super) fn rotation(degrees: f64, [y, x]: [f64; 2]) -> Self {
        let (sin, cos) = (-degrees.rem_euclid(360.0).to_radians()).sin_cos();
        // Right angles stay exact.
        let [sin, cos] = [sin, cos].map(|value| (value * 1e15).round() / 1e15);
        let (a, b, d, e) = (cos, sin, -sin, cos);
        Self([a, b, a * -x + b * -y + x, d, e, d * -x + e * -y + y])
    }

    /// Rows move to the left by `level` times their distance from the top.
    pub(super) fn shear_x(level: f64) -> Self {
        Self([1.0, level, 0.0, 0.0, 1.0, 0.0])
    }

    /// Columns move up by `level` times their distance from the left.
    pub(super) fn shear_y(level: f64) -> Self {
        Self([1.0, 0.0, 0.0, level, 1.0, 0.0])
    }

    /// A move by `x` pixels to the right and `y` down.
    pub(super) fn translation(x: f64, y: f64) -> Self {
        Self([1.0, 0.0, -x, 0.0, 1.0, -y])
    }

    /// The transformed picture from row and column `corner` on, `size` rows and columns of it.
    /// Black where it comes from outside.
    pub(super) fn sample(&self, source: &RgbImage, corner: [f64; 2], size: [u32; 2]) -> RgbImage {
        let Self([a, b, c, d, e, f]) = *self;
        let mut output = RgbImage::new(size[1], size[0]);
        let sampler = Sampler::new(source);
        for (row, line) in output.rows_mut().enumerate() {
            let y = corner[0] + row as f64 + 0.5;
            let (b, e) = (b * y, e * y);
            for (column, pixel) in line.enumerate() {
                let x = corner[1] + column as f64 + 0.5;
                if let Some(found) = sampler.at(a * x + b + c, d * x + e + f) {
                    pixel.0 = found;
                }
            }
        }
        output
    }
}

/// Reads between pixels.
struct Sampler<'a> {
    pixels: &'a [[u8; 3]],
    width: usize,
    height: usize,
}

impl<'a> Sampler<'a> {
    fn new(source: &'a RgbImage) -> Self {
        Self {
            pixels: source.as_chunks().0,
            width: source.width() as usize,
            height: source.height() as usize,
        }
    }

    /// The mean of the four pixels around, weighted by nearness and rounded down as Pillow does it;
    /// `None` outside the picture.
    #[inline]
    fn at(&self, x: f64, y: f64) -> Option<[u8; 3]> {
        let within = |at: f64, size: usize| at >= 0.0 && at < size as f64;
        if !within(x, self.width) || !within(y, self.height) {
            return None;
        }
        let ([left, right], across) = neighbours(x, self.width);
        let (rows, down) = neighbours(y, self.height);
        let [upper, lower] = rows.map(|row| &self.pixels[row * self.width..][..self.width]);
        let corners = [upper[left], upper[right], lower[left], lower[right]];
        Some(std::array::from_fn(|channel| {
            let [a, b, c, d] = corners.map(|pixel| f64::from(pixel[channel]));
            let (upper, lower) = (a + across * (b - a), c + across * (d - c));
            (upper + down * (lower - upper)) as u8
        }))
    }
}

/// The pixels whose centres lie on either side of a coordinate, and how far it is from the first.
/// Within half a pixel of the edge both are the outermost one.
#[inline]
fn neighbours(at: f64, size: usize) -> ([usize; 2], f64) {
    let next = (at + 0.5) as u32;
    let share = at - 0.5 - (f64::from(next) - 1.0);
    let next = next as usize;
    ([next.saturating_sub(1), next.min(size - 1)], share)
}
