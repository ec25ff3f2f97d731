//! A drawing area over the bitmap backend of `plotters`: smooth edges, text placed by its baseline.
//!
//! Everything is drawn three times as large and averaged down, because the backend does not smooth
//! lines and places letters on whole pixels. The font is embedded: the same picture everywhere.

use std::sync::Once;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use plotters::backend::{BitMapBackend, DrawingBackend};
use plotters::style::{
    Color as _, FontDesc, FontStyle, FontTransform, IntoFont, RGBColor, TextStyle, register_font,
};
use thiserror::Error;

/// A picture that could not be drawn or encoded.
#[derive(Debug, Error)]
#[error("cannot draw the picture: {0}")]
pub struct DrawError(String);

/// Red, green and blue.
pub(super) type Color = RGBColor;
/// A place in pixels of the finished picture, from its top left.
pub(super) type Point = (f64, f64);

pub(super) const WHITE: Color = RGBColor(255, 255, 255);
/// Text and frames.
pub(super) const INK: Color = RGBColor(38, 38, 38);
/// Text and lines of lesser weight.
pub(super) const GREY: Color = RGBColor(105, 105, 105);
/// Grid lines.
pub(super) const PALE: Color = RGBColor(228, 228, 228);

const FONT: &str = "DejaVu Sans";
/// Ascent plus descent of the font, in units of its nominal size.
const LINE_HEIGHT: f64 = 1.164;
/// Height of capitals and digits.
const CAP_HEIGHT: f64 = 0.729;
const OVERSAMPLING: usize = 3;

/// Where text stands against its point, along the line of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Centre,
    Right,
}

/// Size, weight and colour of text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Font {
    /// Nominal size in pixels.
    pub(super) size: f64,
    pub(super) bold: bool,
    pub(super) color: Color,
}

impl Font {
    pub(super) fn new(size: f64, color: Color) -> Self {
        Self {
            size,
            bold: false,
            color,
        }
    }

    pub(super) fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    fn enlarged(&self) -> FontDesc<'static> {
        static REGISTER: Once = Once::new();
        REGISTER.call_once(|| {
            // Only a broken font file is refused, and these are part of the program.
            let _ = register_font(FONT, FontStyle::Normal, dejavu::sans::regular());
            let _ = register_font(FONT, FontStyle::Bold, dejavu::sans::bold());
        });
        let style = if self.bold {
            FontStyle::Bold
        } else {
            FontStyle::Normal
        };
        let size = self.size * LINE_HEIGHT * OVERSAMPLING as f64;
        (FONT, size, style).into_font()
    }

    /// Width of a text in pixels.
    pub(super) fn width(&self, text: &str) -> f64 {
        let layout = self.enlarged().layout_box(text);
        layout.map_or(0.0, |((left, _), (right, _))| {
            f64::from(right - left) / OVERSAMPLING as f64
        })
    }

    /// How far before its point a text begins.
    fn back(&self, text: &str, align: Align) -> f64 {
        match align {
            Align::Left => 0.0,
            Align::Centre => self.width(text) / 2.0,
            Align::Right => self.width(text),
        }
    }

    /// From the middle of capitals to where the backend starts: it puts the baseline half a line
    /// height below the point that it is given.
    fn above(&self) -> f64 {
        self.size * (LINE_HEIGHT - CAP_HEIGHT) / 2.0
    }

    /// The text, or as much of its start and end as fits into `width` pixels around an ellipsis.
    pub(super) fn fit(&self, text: &str, width: f64) -> String {
        if self.width(text) <= width {
            return text.to_owned();
        }
        let letters: Vec<char> = text.chars().collect();
        let shortened = |kept: usize| -> String {
            // The end often tells names apart (`..._v2`), so a third of what is kept is taken there.
            let tail = kept / 3;
            let head = letters[..kept - tail].iter();
            let tail = letters[letters.len() - tail..].iter();
            head.chain(['…'].iter()).chain(tail).collect()
        };
        let kept = (1..letters.len()).rev();
        let mut candidates = kept.map(shortened);
        let fitting = candidates.find(|candidate| self.width(candidate) <= width);
        fitting.unwrap_or_else(|| "…".into())
    }
}

/// An RGB picture being drawn.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    /// Enlarged, RGB, row by row.
    pixels: Vec<u8>,
    /// The first thing that went wrong; told when the picture is finished.
    error: Option<DrawError>,
}

impl Canvas {
    /// A white picture of a size in pixels.
    pub(super) fn new(width: usize, height: usize) -> Self {
        let area = width * height * OVERSAMPLING * OVERSAMPLING;
        Self {
            width,
            height,
            pixels: vec![255; 3 * area],
            error: None,
        }
    }

    fn draw<E: std::error::Error>(
        &mut self,
        with: impl FnOnce(&mut BitMapBackend<'_>) -> Result<(), E>,
    ) {
        let size = (self.width * OVERSAMPLING, self.height * OVERSAMPLING);
        let mut backend =
            BitMapBackend::with_buffer(&mut self.pixels, (size.0 as u32, size.1 as u32));
        if let Err(error) = with(&mut backend) {
            self.error.get_or_insert(DrawError(error.to_string()));
        }
    }

    /// A line through points, with round joints and ends.
    pub(super) fn line(&mut self, points: &[Point], color: Color, width: f64) {
        for pair in points.windows(2) {
            self.segment(pair[0], pair[1], color, width);
        }
        if width > 1.5 {
            for &point in points {
                self.disc(point, width / 2.0, color);
            }
        }
    }

    /// A line of dashes, `dash` pixels drawn and `gap` left out, running on around corners.
    pub(super) fn dashed(
        &mut self,
        points: &[Point],
        color: Color,
        width: f64,
        (dash, gap): (f64, f64),
    ) {
        let mut done = 0.0;
        for pair in points.windows(2) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let length = (x1 - x0).hypot(y1 - y0);
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
                    self.segment(at(t), at(next), color, width);
                }
                t = next;
            }
            done += length;
        }
    }

    fn segment(&mut self, (x0, y0): Point, (x1, y1): Point, color: Color, width: f64) {
        let length = (x1 - x0).hypot(y1 - y0);
        if length == 0.0 {
            return;
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
        self.polygon(&corners, color);
    }

    /// A filled polygon.
    pub(super) fn polygon(&mut self, corners: &[Point], color: Color) {
        let corners: Vec<_> = corners.iter().map(|&point| enlarged(point)).collect();
        self.draw(|backend| backend.fill_polygon(corners, &color));
    }

    /// A filled circle.
    pub(super) fn disc(&mut self, centre: Point, radius: f64, color: Color) {
        let inside = |at: f64, size: usize| (-radius..size as f64 + radius).contains(&at);
        if !inside(centre.0, self.width) || !inside(centre.1, self.height) {
            return;
        }
        let radius = (radius * OVERSAMPLING as f64).round() as u32;
        let style = color.filled();
        self.draw(|backend| backend.draw_circle(enlarged(centre), radius, &style, true));
    }

    /// A filled rectangle between two corners.
    pub(super) fn rect(&mut self, top_left: Point, bottom_right: Point, color: Color) {
        let corners = (enlarged(top_left), enlarged(bottom_right));
        self.draw(|backend| backend.draw_rect(corners.0, corners.1, &color, true));
    }

    /// Text whose capitals are centred on the height of `point`.
    pub(super) fn text(&mut self, text: &str, point: Point, align: Align, font: Font) {
        let (x, y) = (point.0 - font.back(text, align), point.1 - font.above());
        self.place(text, (x, y), FontTransform::None, font);
    }

    /// Text that runs upward, its capitals centred on the column of `point`.
    pub(super) fn text_upward(&mut self, text: &str, point: Point, align: Align, font: Font) {
        let (x, y) = (point.0 - font.above(), point.1 + font.back(text, align));
        self.place(text, (x, y), FontTransform::Rotate270, font);
    }

    fn place(&mut self, text: &str, start: Point, transform: FontTransform, font: Font) {
        let style = TextStyle::from(font.enlarged().transform(transform)).color(&font.color);
        self.draw(|backend| backend.draw_text(text, &style, enlarged(start)));
    }

    /// A picture, as large as it is, its top left at a whole pixel.
    pub(super) fn image(&mut self, (left, top): Point, picture: &RgbImage) {
        let stride = 3 * self.width * OVERSAMPLING;
        let (left, top) = (left as usize * OVERSAMPLING, top as usize * OVERSAMPLING);
        for (row, pixels) in picture.rows().enumerate() {
            let bytes: Vec<u8> = pixels
                .flat_map(|pixel| [pixel.0; OVERSAMPLING])
                .flatten()
                .collect();
            for line in 0..OVERSAMPLING {
                let start = (top + row * OVERSAMPLING + line) * stride + 3 * left;
                // What lies outside is left out.
                if let Some(place) = self.pixels.get_mut(start..start + bytes.len()) {
                    place.copy_from_slice(&bytes);
                }
            }
        }
    }

    /// The finished picture as a PNG file.
    pub(super) fn png(self) -> Result<Vec<u8>, DrawError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let (width, height) = (self.width, self.height);
        let mut small = Vec::with_capacity(3 * width * height);
        let stride = 3 * width * OVERSAMPLING;
        let count = (OVERSAMPLING * OVERSAMPLING) as u32;
        let mut sums = vec![0u16; stride];
        for band in self.pixels.chunks_exact(stride * OVERSAMPLING) {
            sums.fill(0);
            for row in band.chunks_exact(stride) {
                for (sum, &value) in sums.iter_mut().zip(row) {
                    *sum += u16::from(value);
                }
            }
            for block in sums.chunks_exact(3 * OVERSAMPLING) {
                for channel in 0..3 {
                    let values = block.iter().skip(channel).step_by(3);
                    let sum: u32 = values.map(|&value| u32::from(value)).sum();
                    small.push(((sum + count / 2) / count) as u8);
                }
            }
        }
        let mut png = Vec::new();
        let encoder = PngEncoder::new(&mut png);
        encoder
            .write_image(&small, width as u32, height as u32, ExtendedColorType::Rgb8)
            .map_err(|error| DrawError(error.to_string()))?;
        Ok(png)
    }
}

fn enlarged((x, y): Point) -> (i32, i32) {
    let scaled = |value: f64| (value * OVERSAMPLING as f64).round() as i32;
    (scaled(x), scaled(y))
}
