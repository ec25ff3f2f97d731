//! A drawing as a PNG file, over the bitmap backend of `plotters`.
//!
//! Everything is drawn three times as large and averaged down, because the backend does not smooth
//! lines. That happens a band of rows at a time, so that the enlarged rows stay in the processor's
//! cache; a band that nothing is drawn in is white.

use std::collections::BTreeMap;

use ab_glyph::{Font as _, GlyphId, PxScale};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use plotters::backend::{BitMapBackend, DrawingBackend};
use plotters::style::Color as _;

use super::{Canvas, Color, DrawError, Font, Point, Shape};

const OVERSAMPLING: usize = 3;
/// Rows of the finished picture that are drawn at a time.
const BAND: usize = 32;

/// Draws and encodes.
pub(super) fn png(canvas: &Canvas) -> Result<Vec<u8>, DrawError> {
    let pixels = pixels(canvas)?;
    let mut png = Vec::new();
    // Runs of a colour are found quicker and packed smaller than any difference of them.
    let encoder =
        PngEncoder::new_with_quality(&mut png, CompressionType::Level(1), FilterType::NoFilter);
    let (width, height) = (canvas.width as u32, canvas.height as u32);
    encoder
        .write_image(&pixels, width, height, ExtendedColorType::Rgb8)
        .map_err(|error| DrawError(error.to_string()))?;
    Ok(png)
}

/// The picture, RGB, row by row.
pub(super) fn pixels(canvas: &Canvas) -> Result<Vec<u8>, DrawError> {
    let stride = 3 * canvas.width * OVERSAMPLING;
    let mut pixels = vec![255; 3 * canvas.width * canvas.height];
    let mut enlarged = vec![255; stride * OVERSAMPLING * BAND];
    let mut sums = vec![0u16; stride];
    let mut letters = Letters::default();
    let extents: Vec<(f64, f64)> = canvas.shapes.iter().map(Shape::rows).collect();
    for (index, small) in pixels
        .chunks_mut((3 * canvas.width * BAND).max(1))
        .enumerate()
    {
        let top = index * BAND;
        let rows = small.len() / (3 * canvas.width).max(1);
        let touched = |&(low, high): &(f64, f64)| {
            high >= top as f64 - 1.0 && low <= (top + rows) as f64 + 1.0
        };
        if !extents.iter().any(touched) {
            continue;
        }
        let enlarged = &mut enlarged[..stride * OVERSAMPLING * rows];
        enlarged.fill(255);
        let mut band = Band {
            pixels: &mut *enlarged,
            width: canvas.width * OVERSAMPLING,
            rows: rows * OVERSAMPLING,
            top: (top * OVERSAMPLING) as i32,
        };
        let shapes = canvas.shapes.iter().zip(&extents);
        for (shape, _) in shapes.filter(|(_, extent)| touched(extent)) {
            band.shape(shape, &mut letters)?;
        }
        shrink(enlarged, &mut sums, small);
    }
    Ok(pixels)
}

/// Averages squares of pixels.
fn shrink(enlarged: &[u8], sums: &mut [u16], small: &mut [u8]) {
    const COUNT: u16 = (OVERSAMPLING * OVERSAMPLING) as u16;
    let stride = sums.len();
    let rows = enlarged.chunks_exact(stride * OVERSAMPLING);
    for (band, row) in rows.zip(small.chunks_exact_mut(stride / OVERSAMPLING)) {
        let (first, rest) = band.split_at(stride);
        let (second, third) = rest.split_at(stride);
        for (((sum, &a), &b), &c) in sums.iter_mut().zip(first).zip(second).zip(third) {
            *sum = u16::from(a) + u16::from(b) + u16::from(c);
        }
        let blocks = sums.chunks_exact(3 * OVERSAMPLING);
        for (block, pixel) in blocks.zip(row.chunks_exact_mut(3)) {
            for channel in 0..3 {
                let sum = block[channel] + block[channel + 3] + block[channel + 6];
                pixel[channel] = ((sum + COUNT / 2) / COUNT) as u8;
            }
        }
    }
}

impl Shape {
    /// The first and the last row that it may touch.
    fn rows(&self) -> (f64, f64) {
        let of = |points: &[Point], margin: f64| {
            let rows = points.iter().map(|point| point.1);
            let start = (f64::INFINITY, f64::NEG_INFINITY);
            let (low, high) = rows.fold(start, |(low, high), row| (low.min(row), high.max(row)));
            (low - margin, high + margin)
        };
        match self {
            Self::Line { points, width, .. } => of(points, width / 2.0),
            Self::Polygon { corners, .. } => of(corners, 0.0),
            Self::Disc { centre, radius, .. } => of(&[*centre], *radius),
            Self::Rect {
                top_left,
                bottom_right,
                ..
            }
            | Self::Picture {
                top_left,
                bottom_right,
                ..
            } => of(&[*top_left, *bottom_right], 0.0),
            Self::Text {
                text,
                start,
                upward,
                font,
            } => {
                let length = if *upward { font.width(text) } else { 0.0 };
                of(&[*start, (start.0, start.1 - length)], 1.2 * font.size)
            }
        }
    }
}

/// Pixels of an enlarged letter from its place on the baseline: along, down, and how much of 256 it
/// covers.
type Pixels = Vec<(i16, i16, u16)>;

/// Letters once drawn, by font, size and letter.
#[derive(Default)]
struct Letters(BTreeMap<(bool, u64, GlyphId), Pixels>);

impl Letters {
    fn pixels(&mut self, id: GlyphId, font: &Font) -> &[(i16, i16, u16)] {
        let key = (font.bold, font.size.to_bits(), id);
        self.0.entry(key).or_insert_with(|| drawn(id, font))
    }
}

/// A letter from its outline.
fn drawn(id: GlyphId, font: &Font) -> Pixels {
    let mut pixels = Vec::new();
    let Some(face) = Font::face(font.bold) else {
        return pixels;
    };
    let size = (font.scale() * OVERSAMPLING as f64) as f32 * face.height_unscaled();
    let letter = id.with_scale(PxScale::from(size));
    if let Some(outline) = face.outline_glyph(letter) {
        let min = outline.px_bounds().min;
        outline.draw(|column, row, cover| {
            let cover = (cover * 256.0).min(256.0) as u16;
            if cover > 0 {
                let (along, down) = (min.x as i16 + column as i16, min.y as i16 + row as i16);
                pixels.push((along, down, cover));
            }
        });
    }
    pixels
}

/// Some rows, enlarged.
struct Band<'a> {
    pixels: &'a mut [u8],
    width: usize,
    rows: usize,
    /// The row of the enlarged picture that they begin with.
    top: i32,
}

impl Band<'_> {
    fn shape(&mut self, shape: &Shape, letters: &mut Letters) -> Result<(), DrawError> {
        match shape {
            Shape::Line {
                points,
                color,
                width,
                dashes: None,
            } => self.line(points, *color, *width),
            Shape::Line {
                points,
                color,
                width,
                dashes: Some(dashes),
            } => self.dashed(points, *color, *width, *dashes),
            Shape::Polygon { corners, color } => self.polygon(corners, *color),
            Shape::Disc {
                centre,
                radius,
                color,
            } => self.disc(*centre, *radius, *color),
            Shape::Rect {
                top_left,
                bottom_right,
                color,
            } => {
                let corners = (self.place(*top_left), self.place(*bottom_right));
                self.draw(|backend| backend.draw_rect(corners.0, corners.1, color, true))
            }
            Shape::Text {
                text,
                start,
                upward,
                font,
            } => {
                self.text(text, *start, *upward, font, letters);
                Ok(())
            }
            Shape::Picture {
                picture,
                top_left,
                bottom_right,
            } => {
                self.picture(picture, *top_left, *bottom_right);
                Ok(())
            }
        }
    }

    fn draw<E: std::error::Error>(
        &mut self,
        with: impl FnOnce(&mut BitMapBackend<'_>) -> Result<(), E>,
    ) -> Result<(), DrawError> {
        let size = (self.width as u32, self.rows as u32);
        let mut backend = BitMapBackend::with_buffer(self.pixels, size);
        with(&mut backend).map_err(|error| DrawError(error.to_string()))
    }

    /// A place of the picture in the band.
    fn place(&self, (x, y): Point) -> (i32, i32) {
        let (x, y) = enlarged((x, y));
        (x, y.saturating_sub(self.top))
    }

    fn line(&mut self, points: &[Point], color: Color, width: f64) -> Result<(), DrawError> {
        for pair in points.windows(2) {
            self.segment(pair[0], pair[1], color, width)?;
        }
        if width > 1.5 {
            for &point in points {
                self.disc(point, width / 2.0, color)?;
            }
        }
        Ok(())
    }

    fn dashed(
        &mut self,
        points: &[Point],
        color: Color,
        width: f64,
        (dash, gap): (f64, f64),
    ) -> Result<(), DrawError> {
        let mut done = 0.0;
        for pair in points.windows(2) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let length = (x1 - x0).hypot(y1 - y0);
            if !(0.0..1e5).contains(&length) {
                continue;
            }
            let at = |t: f64| (x0 + (x1 - x0) * t / length, y0 + (y1 - y0) * t / length);
            let mut t = 0.0;
            while t < length {
                let phase = (done + t) % (dash + gap);
                let drawn = phase < dash;
                let rest = if drawn {
                    dash - phase
                } else {
                    dash + gap - phase
                };
                // A rest lost in rounding must not stop the walk.
                let next = (t + rest.max(0.01)).min(length);
                if drawn {
                    self.segment(at(t), at(next), color, width)?;
                }
                t = next;
            }
            done += length;
        }
        Ok(())
    }

    fn segment(
        &mut self,
        (x0, y0): Point,
        (x1, y1): Point,
        color: Color,
        width: f64,
    ) -> Result<(), DrawError> {
        let length = (x1 - x0).hypot(y1 - y0);
        if length == 0.0 {
            return Ok(());
        }
        let (dx, dy) = (
            (y1 - y0) / length * width / 2.0,
            (x0 - x1) / length * width / 2.0,
        );
        let corners = [
            (x0 + dx, y0 + dy),
            (x1 + dx, y1 + dy),
            (x1 - dx, y1 - dy),
            (x0 - dx, y0 - dy),
        ];
        self.polygon(&corners, color)
    }

    fn polygon(&mut self, corners: &[Point], color: Color) -> Result<(), DrawError> {
        let corners: Vec<_> = corners.iter().map(|&point| self.place(point)).collect();
        let ends = |of: fn(&(i32, i32)) -> i32| {
            let values = corners.iter().map(of);
            values.clone().min().zip(values.max())
        };
        let (Some((left, right)), Some((top, bottom))) = (ends(|it| it.0), ends(|it| it.1)) else {
            return Ok(());
        };
        if bottom < -1 || top > self.rows as i32 {
            return Ok(());
        }
        // Most lines of a drawing go straight across or down: the backend fills them at once, and no
        // further than the band.
        let straight =
            |&(x, y): &(i32, i32)| (x == left || x == right) && (y == top || y == bottom);
        if corners.len() == 4 && corners.iter().all(straight) {
            let behind = (right + 1, bottom + 1);
            return self.draw(|backend| backend.draw_rect((left, top), behind, &color, true));
        }
        self.draw(|backend| backend.fill_polygon(corners, &color))
    }

    fn disc(&mut self, centre: Point, radius: f64, color: Color) -> Result<(), DrawError> {
        let radius = (radius * OVERSAMPLING as f64).round() as u32;
        let centre = self.place(centre);
        if !(-i64::from(radius)..=self.rows as i64 + i64::from(radius))
            .contains(&i64::from(centre.1))
        {
            return Ok(());
        }
        let style = color.filled();
        self.draw(|backend| backend.draw_circle(centre, radius, &style, true))
    }

    /// Letters on whole pixels of the enlarged picture: the same ones look the same.
    fn text(&mut self, text: &str, start: Point, upward: bool, font: &Font, letters: &mut Letters) {
        let factor = OVERSAMPLING as f64;
        let (x, y) = (start.0 * factor, start.1 * factor - f64::from(self.top));
        for (id, behind) in font.letters(text).0 {
            let behind = behind * factor;
            let whole = |value: f64| value.clamp(-6e4, 6e4).round() as i32;
            let (x, y) = match upward {
                false => (whole(x + behind), whole(y)),
                true => (whole(x), whole(y - behind)),
            };
            for &(along, down, cover) in letters.pixels(id, font) {
                let (along, down) = (i32::from(along), i32::from(down));
                match upward {
                    false => self.blend(x + along, y + down, font.color, cover),
                    true => self.blend(x + down, y - along, font.color, cover),
                }
            }
        }
    }

    fn blend(&mut self, x: i32, y: i32, color: Color, cover: u16) {
        if let Some(pixel) = self.pixel(x, y) {
            for (old, new) in pixel.iter_mut().zip([color.0, color.1, color.2]) {
                let step = (i32::from(new) - i32::from(*old)) * i32::from(cover) / 256;
                *old = (i32::from(*old) + step) as u8;
            }
        }
    }

    fn pixel(&mut self, x: i32, y: i32) -> Option<&mut [u8]> {
        let (x, y) = (usize::try_from(x).ok()?, usize::try_from(y).ok()?);
        if x >= self.width || y >= self.rows {
            return None;
        }
        let at = 3 * (y * self.width + x);
        self.pixels.get_mut(at..at + 3)
    }

    fn picture(&mut self, picture: &RgbImage, top_left: Point, bottom_right: Point) {
        let ((left, top), (right, bottom)) = (self.place(top_left), self.place(bottom_right));
        let (width, height) = (i64::from(right - left), i64::from(bottom - top));
        let (columns, rows) = (i64::from(picture.width()), i64::from(picture.height()));
        if width <= 0 || height <= 0 || columns == 0 || rows == 0 {
            return;
        }
        for y in top.max(0)..bottom.min(self.rows as i32) {
            for x in left.max(0)..right.min(self.width as i32) {
                let column = i64::from(x - left) * columns / width;
                let row = i64::from(y - top) * rows / height;
                let source = picture.get_pixel(column as u32, row as u32).0;
                if let Some(pixel) = self.pixel(x, y) {
                    pixel.copy_from_slice(&source);
                }
            }
        }
    }
}

fn enlarged((x, y): Point) -> (i32, i32) {
    // What lies far outside is not to be swept over.
    let near = |value: f64| value.clamp(-2e4, 2e4);
    let scaled = |value: f64| (near(value) * OVERSAMPLING as f64).round() as i32;
    (scaled(x), scaled(y))
}
