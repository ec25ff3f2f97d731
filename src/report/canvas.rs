//! A drawing: lines, areas and text in pixels, kept as what they are and written as PNG or SVG.
//!
//! The font is embedded, and its letters are drawn from their outlines in both: the same picture
//! everywhere.

mod font;
mod raster;
mod svg;

use image::RgbImage;
use plotters::style::RGBColor;
use thiserror::Error;

pub(super) use font::{Align, Font};

/// A picture that could not be drawn or encoded.
#[derive(Debug, Error)]
#[error("cannot draw the picture: {0}")]
pub struct DrawError(String);

/// How a drawing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Pixels.
    Png,
    /// Lines and outlines, sharp at any size.
    Svg,
}

impl Format {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Png, Self::Svg];

    /// `png` or `svg`: also the ending of such files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Svg => "svg",
        }
    }
}

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

/// What a drawing consists of, in the order in which it covers what is below.
#[derive(Debug, Clone)]
enum Shape {
    /// A line through points, with round joints and ends where it is bold.
    Line {
        points: Vec<Point>,
        color: Color,
        width: f64,
        /// Lengths of dash and gap.
        dashes: Option<(f64, f64)>,
    },
    Polygon {
        corners: Vec<Point>,
        color: Color,
    },
    Disc {
        centre: Point,
        radius: f64,
        color: Color,
    },
    Rect {
        top_left: Point,
        bottom_right: Point,
        color: Color,
    },
    /// Text from its first letter's place on the baseline.
    Text {
        text: String,
        start: Point,
        upward: bool,
        font: Font,
    },
    Picture {
        picture: RgbImage,
        top_left: Point,
        bottom_right: Point,
    },
}

/// A drawing of a size in pixels.
#[derive(Debug, Clone)]
pub struct Canvas {
    width: usize,
    height: usize,
    /// What it is called where it cannot be seen.
    title: String,
    shapes: Vec<Shape>,
}

impl Canvas {
    /// A white area.
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            title: String::new(),
            shapes: Vec::new(),
        }
    }

    /// Title in bold and a line below it, both shortened to fit.
    pub(super) fn head(&mut self, title: &str, subtitle: &str) {
        let (bold, plain) = (Font::new(19.0, INK).bold(), Font::new(15.0, GREY));
        let (left, width) = (20.0, self.width as f64 - 40.0);
        self.text(&bold.fit(title, width), (left, 26.0), Align::Left, bold);
        let fitting = plain.fit(subtitle, width);
        self.text(&fitting, (left, 52.0), Align::Left, plain);
        self.title = format!("{title}: {subtitle}");
    }

    /// A line through points, with round joints and ends.
    pub(super) fn line(&mut self, points: &[Point], color: Color, width: f64) {
        self.stroke(points, color, width, None);
    }

    /// A line of dashes, `dash` pixels drawn and `gap` left out, running on around corners.
    pub(super) fn dashed(
        &mut self,
        points: &[Point],
        color: Color,
        width: f64,
        dashes: (f64, f64),
    ) {
        self.stroke(points, color, width, Some(dashes));
    }

    fn stroke(&mut self, points: &[Point], color: Color, width: f64, dashes: Option<(f64, f64)>) {
        self.shapes.push(Shape::Line {
            points: points.to_vec(),
            color,
            width,
            dashes,
        });
    }

    /// A filled polygon.
    pub(super) fn polygon(&mut self, corners: &[Point], color: Color) {
        self.shapes.push(Shape::Polygon {
            corners: corners.to_vec(),
            color,
        });
    }

    /// A filled circle.
    pub(super) fn disc(&mut self, centre: Point, radius: f64, color: Color) {
        let inside = |at: f64, size: usize| (-radius..size as f64 + radius).contains(&at);
        if inside(centre.0, self.width) && inside(centre.1, self.height) {
            self.shapes.push(Shape::Disc {
                centre,
                radius,
                color,
            });
        }
    }

    /// A filled rectangle between two corners.
    pub(super) fn rect(&mut self, top_left: Point, bottom_right: Point, color: Color) {
        self.shapes.push(Shape::Rect {
            top_left,
            bottom_right,
            color,
        });
    }

    /// The outline of a rectangle.
    pub(super) fn frame(&mut self, (left, top): Point, (right, bottom): Point, color: Color) {
        let corners = [
            (left, top),
            (right, top),
            (right, bottom),
            (left, bottom),
            (left, top),
        ];
        self.line(&corners, color, 1.0);
    }

    /// A photograph, stretched between two corners.
    pub(super) fn picture(&mut self, picture: &RgbImage, top_left: Point, bottom_right: Point) {
        self.shapes.push(Shape::Picture {
            picture: picture.clone(),
            top_left,
            bottom_right,
        });
    }

    /// Text whose capitals are centred on the height of `point`.
    pub(super) fn text(&mut self, text: &str, point: Point, align: Align, font: Font) {
        let start = (point.0 - font.back(text, align), point.1 + font.below());
        self.place(text, start, false, font);
    }

    /// Text that runs upward, its capitals centred on the column of `point`.
    pub(super) fn text_upward(&mut self, text: &str, point: Point, align: Align, font: Font) {
        let start = (point.0 + font.below(), point.1 + font.back(text, align));
        self.place(text, start, true, font);
    }

    fn place(&mut self, text: &str, start: Point, upward: bool, font: Font) {
        self.shapes.push(Shape::Text {
            text: text.to_owned(),
            start,
            upward,
            font,
        });
    }

    /// The drawing as a file.
    ///
    /// # Errors
    /// If it cannot be encoded.
    pub fn encode(&self, format: Format) -> Result<Vec<u8>, DrawError> {
        match format {
            Format::Png => self.png(),
            Format::Svg => Ok(self.svg()?.into_bytes()),
        }
    }

    /// As a PNG file.
    ///
    /// # Errors
    /// If it cannot be encoded.
    pub fn png(&self) -> Result<Vec<u8>, DrawError> {
        raster::png(self)
    }

    /// As the text of an SVG file.
    ///
    /// # Errors
    /// If a photograph within cannot be encoded.
    pub fn svg(&self) -> Result<String, DrawError> {
        svg::svg(self)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// That a text is well-formed XML, as far as these files use it, and names no font.
    pub(in super::super) fn check_svg(svg: &str) {
        let mut open = Vec::new();
        let body = svg.split_once("?>").unwrap().1;
        for piece in body.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').unwrap();
            assert!(!text.contains('>'), "{piece}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "{piece}");
                continue;
            }
            let name = tag.split([' ', '/']).next().unwrap();
            let attributes = tag[name.len()..].trim_end_matches('/');
            // Outside of quotes only names; within them nothing that ends them.
            for (index, part) in attributes.split('"').enumerate() {
                let names = part
                    .trim()
                    .chars()
                    .all(|c| c.is_ascii_alphabetic() || "-=:".contains(c));
                assert!(index % 2 == 1 || names, "{piece}");
            }
            assert_eq!(attributes.matches('"').count() % 2, 0, "{piece}");
            // Words and pictures aside, all values are numbers that there are.
            let numbers = !attributes.contains("aria-label") && !attributes.contains("data:");
            let odd = attributes.contains("NaN") || attributes.contains("inf");
            assert!(!(numbers && odd), "{piece}");
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
        let control = |c: char| c.is_control() && c != '\n';
        assert!(!svg.contains(control) && !svg.contains("font-family") && !svg.contains("<text"));
        for reference in svg.split("xlink:href=\"#").skip(1) {
            let id = reference.split('"').next().unwrap();
            assert!(svg.contains(&format!("<path id=\"{id}\"")), "{id}");
        }
    }

    fn drawing() -> Canvas {
        let mut canvas = Canvas::new(120, 90);
        canvas.line(&[(10.0, 10.0), (60.5, 40.25), (110.0, 12.0)], GREY, 2.2);
        canvas.dashed(&[(10.0, 50.0), (110.0, 50.0)], INK, 1.4, (6.0, 4.0));
        canvas.disc((60.5, 40.25), 3.6, RGBColor(213, 94, 0));
        canvas.rect((5.0, 60.0), (40.0, 80.0), PALE);
        canvas.frame((5.0, 60.0), (40.0, 80.0), INK);
        canvas.polygon(&[(50.0, 60.0), (60.0, 80.0), (45.0, 85.0)], GREY);
        let font = Font::new(14.0, INK);
        canvas.text("Wo 93%", (118.0, 70.0), Align::Right, font);
        canvas.text_upward("up <&>\u{7}", (6.0, 58.0), Align::Left, font.bold());
        canvas
    }

    #[test]
    fn what_is_drawn_is_what_the_files_hold() {
        let canvas = drawing();
        let svg = canvas.svg().unwrap();
        check_svg(&svg);
        assert!(svg.contains("aria-label=\"up &lt;&amp;&gt; \""));
        let png = canvas.png().unwrap();
        let decoded = image::load_from_memory(&png).unwrap().into_rgb8();
        assert_eq!((decoded.width(), decoded.height()), (120, 90));
        assert_eq!(decoded.as_raw(), &super::raster::pixels(&canvas).unwrap());
        assert_eq!(decoded.get_pixel(20, 70).0, [228; 3]);
    }

    #[test]
    fn bands_leave_no_seams() {
        // A drawing and the same one moved down by less than a band.
        let drawn = |by: f64| {
            let mut canvas = Canvas::new(200, 200);
            canvas.line(&[(3.0, 5.0 + by), (180.0, 120.0 + by)], INK, 2.2);
            canvas.disc((100.0, 31.0 + by), 9.0, GREY);
            let font = Font::new(19.0, INK);
            canvas.text("Across bands", (20.0, 64.0 + by), Align::Left, font);
            canvas.text_upward("Across", (9.0, 140.0 + by), Align::Left, font);
            super::raster::pixels(&canvas).unwrap()
        };
        let row = 3 * 200;
        let (whole, moved) = (drawn(0.0), drawn(17.0));
        assert_eq!(whole[..row * 170], moved[row * 17..row * 187]);
    }

    #[test]
    fn numbers_that_are_none_do_no_harm() {
        let mut canvas = Canvas::new(20, 20);
        let far = [(f64::NAN, 3.0), (1e300, -1e300), (f64::INFINITY, 2.0)];
        canvas.polygon(&far, INK);
        canvas.disc(far[0], 2.0, INK);
        canvas.rect(far[1], far[2], INK);
        canvas.text("", (f64::NAN, 1.0), Align::Centre, Font::new(14.0, INK));
        canvas.png().unwrap();
        check_svg(&canvas.svg().unwrap());
        assert!(Canvas::new(0, 0).svg().is_ok());
    }
}
