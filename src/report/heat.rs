//! Heat on a picture: how much each place counts, in colours of evenly rising lightness.

/// The colour map inferno of matplotlib (Nathaniel Smith and Stéfan van der Walt, CC0) at even steps
/// from nothing to most.
const INFERNO: [[u8; 3]; 17] = [
    [0, 0, 4],
    [11, 7, 36],
    [33, 12, 74],
    [60, 9, 101],
    [87, 16, 109],
    [112, 25, 110],
    [137, 34, 106],
    [163, 43, 97],
    [187, 55, 85],
    [209, 70, 68],
    [227, 89, 50],
    [241, 113, 30],
    [249, 141, 10],
    [252, 171, 15],
    [249, 202, 50],
    [242, 232, 101],
    [252, 255, 164],
];

/// Share of the colour in what is drawn over a picture.
const COVER: f32 = 0.6;

/// The colour of a heat from 0 to 1.
pub(super) fn color(heat: f32) -> [u8; 3] {
    let last = INFERNO.len() - 1;
    // Not a number is nothing.
    let at = if heat > 0.0 { heat.min(1.0) } else { 0.0 } * last as f32;
    let first = (at as usize).min(last - 1);
    let share = at - first as f32;
    let mix = |channel: usize| {
        let [low, high] = [first, first + 1].map(|step| f32::from(INFERNO[step][channel]));
        (low + (high - low) * share).round() as u8
    };
    [mix(0), mix(1), mix(2)]
}

/// A picture in grey under its heat; both of the same size, RGB bytes and a value from 0 to 1 a pixel.
pub fn heated(picture: &[u8], heat: &[f32]) -> Vec<u8> {
    let pixels = picture.as_chunks::<3>().0.iter().zip(heat);
    pixels
        .flat_map(|(&[red, green, blue], &heat)| {
            let [red, green, blue] = [red, green, blue].map(f32::from);
            // Rec. 709's share of each in lightness.
            let grey = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
            let over = |color: u8| grey + (f32::from(color) - grey) * COVER;
            color(heat).map(|channel| over(channel).round() as u8)
        })
        .collect()
}

/// The colours as a gradient of CSS, from nothing on the left to most on the right.
pub(super) fn css() -> String {
    let stops: Vec<String> = INFERNO
        .iter()
        .map(|[red, green, blue]| format!("rgb({red},{green},{blue})"))
        .collect();
    format!("linear-gradient(to right,{})", stops.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CIE 1976 lightness.
    fn lightness(color: [u8; 3]) -> f64 {
        let linear = color.map(|value| {
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        });
        let luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
        if luminance > 0.008_856 {
            116.0 * luminance.cbrt() - 16.0
        } else {
            903.3 * luminance
        }
    }

    #[test]
    fn equal_steps_of_heat_are_about_equal_steps_of_lightness() {
        let all: Vec<f64> = (0..=100u8)
            .map(|step| lightness(color(f32::from(step) / 100.0)))
            .collect();
        assert!(all[0] < 1.0 && all[100] > 97.0);
        for (step, pair) in all.windows(2).enumerate() {
            let rise = pair[1] - pair[0];
            assert!((0.2..2.0).contains(&rise), "{step}: {rise}");
        }
    }

    #[test]
    fn heat_beyond_its_range_is_none_or_most() {
        assert_eq!(color(-1.0), color(0.0));
        assert_eq!(color(f32::NAN), color(0.0));
        assert_eq!(color(7.0), color(1.0));
        let [dark, bright] = [0.0, 1.0].map(|heat| heated(&[90, 90, 90], &[heat]));
        assert_eq!(dark.len(), 3);
        assert!(dark.iter().all(|&value| value < 50) && bright[1] > 180);
    }
}
