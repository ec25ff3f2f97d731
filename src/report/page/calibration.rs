//! Whether confidence is what it claims to be: Guo et al., 2017, "On Calibration of Modern Neural
//! Networks".

use std::fmt::Write;

use crate::records::PredictionRow;

/// Bins of equal width.
const BINS: usize = 15;

/// Accuracy by confidence.
#[derive(Debug, PartialEq)]
pub(super) struct Calibration {
    /// Of each bin: pictures, mean confidence, accuracy.
    bins: Vec<(usize, f64, f64)>,
    /// Mean distance of confidence and accuracy over the pictures.
    pub(super) error: f64,
}

impl Calibration {
    /// Of predictions; `None` of none.
    pub(super) fn of(predictions: &[PredictionRow]) -> Option<Self> {
        if predictions.is_empty() {
            return None;
        }
        let mut bins = vec![(0usize, 0.0, 0.0); BINS];
        for row in predictions {
            let bin = (row.confidence * BINS as f64).ceil() as usize;
            let (count, confidence, correct) = &mut bins[bin.clamp(1, BINS) - 1];
            *count += 1;
            *confidence += row.confidence;
            *correct += f64::from(u8::from(row.correct));
        }
        for (count, confidence, correct) in &mut bins {
            *confidence /= (*count).max(1) as f64;
            *correct /= (*count).max(1) as f64;
        }
        let gap = |(count, confidence, correct): &(usize, f64, f64)| {
            *count as f64 * (confidence - correct).abs()
        };
        let error = bins.iter().map(gap).sum::<f64>() / predictions.len() as f64;
        Some(Self { bins, error })
    }

    /// The reliability diagram.
    pub(super) fn svg(&self) -> String {
        const SIDE: f64 = 300.0;
        const LEFT: f64 = 50.0;
        let at = |share: f64| LEFT + share * SIDE;
        let up = |share: f64| 12.0 + (1.0 - share) * SIDE;
        let mut svg = String::from(
            "<svg viewBox=\"0 0 370 356\" role=\"img\" aria-label=\"Reliability diagram: accuracy by \
             confidence\">\n",
        );
        for tick in [0.0, 0.2, 0.4, 0.6, 0.8, 1.0] {
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/><text x=\"{}\" \
                 y=\"{}\" text-anchor=\"end\">{:.0} %</text><text x=\"{}\" y=\"{}\" \
                 text-anchor=\"middle\">{:.0} %</text>",
                at(1.0),
                LEFT - 6.0,
                up(tick) + 4.0,
                100.0 * tick,
                at(tick),
                up(0.0) + 17.0,
                100.0 * tick,
                y = up(tick),
            );
        }
        let _ = writeln!(
            svg,
            "<line class=\"phase\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>",
            at(0.0),
            up(0.0),
            at(1.0),
            up(1.0)
        );
        let most = self.bins.iter().map(|bin| bin.0).max().unwrap_or(1).max(1);
        for &(count, confidence, accuracy) in self.bins.iter().filter(|bin| bin.0 > 0) {
            // The area tells how many pictures a point stands for.
            let radius = 3.0 + 9.0 * (count as f64 / most as f64).sqrt();
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\" fill=\"var(--first)\" \
                 fill-opacity=\"0.75\"><title>{count} pictures: confidence {:.1} %, accuracy {:.1} \
                 %</title></circle>",
                at(confidence),
                up(accuracy),
                100.0 * confidence,
                100.0 * accuracy
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"350\" text-anchor=\"middle\">confidence</text>\n<text x=\"14\" y=\"{}\" \
             text-anchor=\"middle\" transform=\"rotate(-90 14 {})\">accuracy</text>\n</svg>\n",
            at(0.5),
            up(0.5),
            up(0.5)
        );
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_mean_gap() {
        let row = |confidence: f64, correct: bool| PredictionRow {
            path: String::new(),
            class: String::new(),
            predicted: String::new(),
            correct,
            confidence,
        };
        assert_eq!(Calibration::of(&[]), None);
        let sure = [row(1.0, true), row(1.0, true)];
        assert_eq!(Calibration::of(&sure).unwrap().error, 0.0);
        // 0.9 is right once in two, 0.6 always: gaps of 0.4 and 0.4.
        let rows = [
            row(0.9, true),
            row(0.9, false),
            row(0.6, true),
            row(0.6, true),
        ];
        let error = Calibration::of(&rows).unwrap().error;
        assert!((error - 0.4).abs() < 1e-12, "{error}");
        assert!(Calibration::of(&[row(f64::NAN, false)]).is_some());
    }
}
