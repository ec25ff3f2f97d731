//! The bar that says what the colours of a picture stand for.

use super::axis::SMALL;
use super::canvas::{Align, Canvas, Color, Font, GREY, INK, Point};

/// Draws the colours of shares from 0 below to 1 above between two heights, in so many steps, with
/// texts beside some of them.
pub(super) fn scale(
    canvas: &mut Canvas,
    (left, top): Point,
    bottom: f64,
    (steps, color): (u32, impl Fn(f64) -> Color),
    texts: &[(f64, &str)],
) {
    let right = left + 16.0;
    let at = |share: f64| bottom - share * (bottom - top);
    for step in 0..steps {
        let [low, high] = [step, step + 1].map(|step| f64::from(step) / f64::from(steps));
        canvas.rect(
            (left, at(high)),
            (right, at(low)),
            color((low + high) / 2.0),
        );
    }
    canvas.frame((left, top), (right, bottom), GREY);
    for &(share, text) in texts {
        let y = at(share);
        canvas.line(&[(right, y), (right + 4.0, y)], GREY, 1.0);
        canvas.text(text, (right + 8.0, y), Align::Left, Font::new(SMALL, INK));
    }
}
