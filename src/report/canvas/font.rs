//! The embedded font: how wide texts are, and where their letters stand.

use std::sync::OnceLock;

use ab_glyph::{Font as _, FontRef, GlyphId};

use super::Color;

/// Height of capitals and digits, in units of the font's size.
const CAP_HEIGHT: f64 = 0.729;

/// Where text stands against its point, along the line of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::report) enum Align {
    Left,
    Centre,
    Right,
}

/// Size, weight and colour of text.
#[derive(Debug, Clone, Copy)]
pub(in crate::report) struct Font {
    /// Nominal size in pixels.
    pub(in crate::report) size: f64,
    pub(in crate::report) bold: bool,
    pub(in crate::report) color: Color,
}

/// A letter and how far behind the start of its text it stands, in pixels.
pub(super) type Letter = (GlyphId, f64);

impl Font {
    pub(in crate::report) fn new(size: f64, color: Color) -> Self {
        Self {
            size,
            bold: false,
            color,
        }
    }

    pub(in crate::report) fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    /// The font's file. `None` is impossible, as it is a part of the program.
    pub(super) fn face(bold: bool) -> Option<&'static FontRef<'static>> {
        static FACES: [OnceLock<Option<FontRef<'static>>>; 2] = [const { OnceLock::new() }; 2];
        let face = FACES[usize::from(bold)].get_or_init(|| {
            let bytes = match bold {
                true => dejavu::sans::bold(),
                false => dejavu::sans::regular(),
            };
            FontRef::try_from_slice(bytes).ok()
        });
        face.as_ref()
    }

    /// Pixels of a unit of the font's outlines.
    pub(super) fn scale(&self) -> f64 {
        let face = Self::face(self.bold);
        let units = face.and_then(|face| face.units_per_em()).unwrap_or(2048.0);
        self.size / f64::from(units)
    }

    /// The letters of a text, and where it ends.
    pub(super) fn letters(&self, text: &str) -> (Vec<Letter>, f64) {
        let Some(face) = Self::face(self.bold) else {
            return (Vec::new(), 0.0);
        };
        let mut at = 0.0;
        let mut before: Option<GlyphId> = None;
        let mut letters = Vec::with_capacity(text.len());
        for letter in text.chars() {
            let glyph = face.glyph_id(letter);
            if let Some(before) = before {
                at += f64::from(face.kern_unscaled(before, glyph));
            }
            letters.push((glyph, at * self.scale()));
            at += f64::from(face.h_advance_unscaled(glyph));
            before = Some(glyph);
        }
        (letters, at * self.scale())
    }

    /// Width of a text in pixels.
    pub(in crate::report) fn width(&self, text: &str) -> f64 {
        self.letters(text).1
    }

    /// How far before its point a text begins.
    pub(super) fn back(&self, text: &str, align: Align) -> f64 {
        match align {
            Align::Left => 0.0,
            Align::Centre => self.width(text) / 2.0,
            Align::Right => self.width(text),
        }
    }

    /// From the middle of capitals down to the baseline.
    pub(super) fn below(&self) -> f64 {
        self.size * CAP_HEIGHT / 2.0
    }

    /// The text, or as much of its start and end as fits into `width` pixels around an ellipsis.
    pub(in crate::report) fn fit(&self, text: &str, width: f64) -> String {
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
        // No letter of a name is narrower than this; of a very long one not all cuts are tried.
        let most = (width / (0.2 * self.size)) as usize + 4;
        let kept = (1..letters.len().min(most)).rev();
        let mut candidates = kept.map(shortened);
        let fitting = candidates.find(|candidate| self.width(candidate) <= width);
        fitting.unwrap_or_else(|| "…".into())
    }
}
