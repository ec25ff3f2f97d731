//! A drawing as SVG: lines and areas as such, letters as outlines, so that no viewer puts a font of
//! its own in their place.

use std::collections::BTreeMap;
use std::fmt::Write;

use ab_glyph::{Font as _, GlyphId, OutlineCurve};
use image::RgbImage;

use super::{Canvas, Color, DrawError, Font, Point, Shape};
use crate::report::html::{escape, picture_address};

/// Of photographs within, 1 to 100.
const QUALITY: u8 = 85;

pub(super) fn svg(canvas: &Canvas) -> Result<String, DrawError> {
    let (width, height) = (canvas.width, canvas.height);
    let mut body = String::new();
    let mut letters = Letters::default();
    for shape in &canvas.shapes {
        match shape {
            Shape::Line {
                points,
                color,
                width,
                dashes,
            } => line(&mut body, points, *color, *width, *dashes),
            Shape::Polygon { corners, color } => {
                let path = path(corners);
                let _ = writeln!(body, "<path d=\"{path}Z\" fill=\"{}\"/>", hex(*color));
            }
            Shape::Disc {
                centre,
                radius,
                color,
            } => {
                let _ = writeln!(
                    body,
                    "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" fill=\"{}\"/>",
                    short(centre.0),
                    short(centre.1),
                    short(*radius),
                    hex(*color)
                );
            }
            Shape::Rect {
                top_left,
                bottom_right,
                color,
            } => {
                let _ = writeln!(
                    body,
                    "<rect {} fill=\"{}\"/>",
                    area(*top_left, *bottom_right),
                    hex(*color)
                );
            }
            Shape::Text {
                text,
                start,
                upward,
                font,
            } => letters.write(&mut body, text, *start, *upward, font),
            Shape::Picture {
                picture,
                top_left,
                bottom_right,
            } => {
                let _ = writeln!(
                    body,
                    "<image {} preserveAspectRatio=\"none\" xlink:href=\"{}\"/>",
                    area(*top_left, *bottom_right),
                    embedded(picture)?
                );
            }
        }
    }
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" \
         width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>{}</title>\n<defs>\n{}</defs>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n{body}</svg>\n",
        text(&canvas.title),
        letters.outlines
    ))
}

fn line(svg: &mut String, points: &[Point], color: Color, width: f64, dashes: Option<(f64, f64)>) {
    if points.is_empty() {
        return;
    }
    let _ = write!(
        svg,
        "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\"",
        path(points),
        hex(color),
        short(width)
    );
    match dashes {
        Some((dash, gap)) => {
            let _ = write!(svg, " stroke-dasharray=\"{} {}\"", short(dash), short(gap));
        }
        None if width > 1.5 => svg.push_str(" stroke-linecap=\"round\" stroke-linejoin=\"round\""),
        None => {}
    }
    svg.push_str("/>\n");
}

/// Outlines of the letters that are used, each once.
#[derive(Default)]
struct Letters {
    names: BTreeMap<(bool, GlyphId), Option<String>>,
    outlines: String,
}

impl Letters {
    fn write(&mut self, svg: &mut String, written: &str, start: Point, upward: bool, font: &Font) {
        let scale = font.scale();
        let turn = if upward { " rotate(-90)" } else { "" };
        let _ = write!(
            svg,
            "<g role=\"img\" aria-label=\"{}\" fill=\"{}\" transform=\"translate({} {}){turn} \
             scale({} {})\">",
            text(written),
            hex(font.color),
            short(start.0),
            short(start.1),
            exact(scale),
            exact(-scale)
        );
        for (letter, behind) in font.letters(written).0 {
            if let Some(name) = self.name(font.bold, letter) {
                let _ = write!(
                    svg,
                    "<use xlink:href=\"#{name}\" x=\"{}\"/>",
                    (behind / scale).round()
                );
            }
        }
        svg.push_str("</g>\n");
    }

    /// The name of a letter's outline, if it has one.
    fn name(&mut self, bold: bool, letter: GlyphId) -> Option<String> {
        let outlines = &mut self.outlines;
        let name = self.names.entry((bold, letter)).or_insert_with(|| {
            let outline = Font::face(bold)?.outline(letter)?;
            let name = format!("{}{}", if bold { "b" } else { "r" }, letter.0);
            let _ = writeln!(
                outlines,
                "<path id=\"{name}\" d=\"{}\"/>",
                of_curves(&outline.curves)
            );
            Some(name)
        });
        name.clone()
    }
}

fn of_curves(curves: &[OutlineCurve]) -> String {
    let mut path = String::new();
    let mut at = None;
    for curve in curves {
        let (start, end) = match curve {
            OutlineCurve::Line(start, end)
            | OutlineCurve::Quad(start, _, end)
            | OutlineCurve::Cubic(start, _, _, end) => (*start, *end),
        };
        if at != Some(start) {
            if at.is_some() {
                path.push('Z');
            }
            let _ = write!(path, "M{} {}", start.x, start.y);
        }
        let _ = match curve {
            OutlineCurve::Line(..) => write!(path, "L{} {}", end.x, end.y),
            OutlineCurve::Quad(_, a, _) => {
                write!(path, "Q{} {} {} {}", a.x, a.y, end.x, end.y)
            }
            OutlineCurve::Cubic(_, a, b, _) => {
                write!(path, "C{} {} {} {} {} {}", a.x, a.y, b.x, b.y, end.x, end.y)
            }
        };
        at = Some(end);
    }
    path.push('Z');
    path
}

fn path(points: &[Point]) -> String {
    let mut path = String::new();
    for (index, &(x, y)) in points.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{} {}", short(x), short(y));
    }
    path
}

fn area(top_left: Point, bottom_right: Point) -> String {
    format!(
        "x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"",
        short(top_left.0),
        short(top_left.1),
        short((bottom_right.0 - top_left.0).max(0.0)),
        short((bottom_right.1 - top_left.1).max(0.0))
    )
}

/// A photograph as an address that holds it.
fn embedded(picture: &RgbImage) -> Result<String, DrawError> {
    picture_address(picture, QUALITY).map_err(|error| DrawError(error.to_string()))
}

/// Text that XML can hold: control characters have no place in it.
fn text(text: &str) -> String {
    let shown = |c: char| match c {
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => ' ',
        c => c,
    };
    escape(&text.chars().map(shown).collect::<String>())
}

/// At most two decimals, and no more than needed.
fn short(value: f64) -> String {
    if !value.is_finite() {
        return "0".into();
    }
    // Not -0, and nothing that viewers of single precision cannot take.
    let value = value.clamp(-1e5, 1e5);
    format!("{}", (100.0 * value).round() / 100.0 + 0.0)
}

fn exact(value: f64) -> String {
    format!("{}", (1e8 * value).round() / 1e8)
}

fn hex(color: Color) -> String {
    format!("#{:02x}{:02x}{:02x}", color.0, color.1, color.2)
}
