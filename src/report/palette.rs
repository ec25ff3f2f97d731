//! Colours and dashes that are told apart with every kind of colour vision.

use super::axis::{Marker, Stroke};
use super::canvas::Color;

/// Okabe and Ito's palette without its yellow, which is too pale for lines on white.
pub(super) const COLORS: [Color; 7] = {
    use plotters::style::RGBColor as C;
    [
        BLUE,
        VERMILION,
        C(0, 158, 115),
        C(204, 121, 167),
        C(86, 180, 233),
        ORANGE,
        C(60, 60, 60),
    ]
};
pub(super) const BLUE: Color = plotters::style::RGBColor(0, 114, 178);
pub(super) const VERMILION: Color = plotters::style::RGBColor(213, 94, 0);
pub(super) const ORANGE: Color = plotters::style::RGBColor(230, 159, 0);

/// A line that differs in its colour, and from eleven others in its dashes or marks, too.
pub(super) fn distinct(index: usize) -> Stroke {
    const DASHES: [Option<(f64, f64)>; 4] =
        [None, Some((9.0, 4.5)), Some((2.5, 3.0)), Some((18.0, 4.5))];
    Stroke {
        color: COLORS[index % COLORS.len()],
        dashes: DASHES[index % DASHES.len()],
        marker: [None, Some(Marker::Disc), Some(Marker::Diamond)][index / DASHES.len() % 3],
    }
}
