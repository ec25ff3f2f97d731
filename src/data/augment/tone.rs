//! Changes of single values and of neighbours: posterize, solarize, autocontrast, equalize,
//! sharpness, and what colour changes share. Pillow's arithmetic on bytes.

use image::RgbImage;

/// Brightness of a colour (ITU-R 601), rounded.
pub(super) fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471;
    ((sum + 0x8000) >> 16) as u8
}

/// From `a` (factor 0) to `b` (factor 1) and beyond, rounded down and kept within a byte.
#[inline]
pub(super) fn mix(a: u8, b: u8, factor: f32) -> u8 {
    let (a, b) = (f32::from(a), f32::from(b));
    (a + factor * (b - a)) as u8
}

/// Changes every value alike.
pub(super) fn each_byte(picture: &mut RgbImage, change: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|value| change(value as u8));
    for value in picture.iter_mut() {
        *value = table[usize::from(*value)];
    }
}

/// Keeps so many bits of every value.
pub(super) fn posterize(picture: &mut RgbImage, bits: u32) {
    let mask = u8::MAX.checked_shl(8 - bits.min(8)).unwrap_or(0);
    each_byte(picture, |value| value & mask);
}

/// Turns values from the threshold on into their negative.
pub(super) fn solarize(picture: &mut RgbImage, threshold: f64) {
    each_byte(picture, |value| match f64::from(value) < threshold {
        true => value,
        false => 255 - value,
    });
}

/// Stretches each channel to the whole range.
pub(super) fn autocontrast(picture: &mut RgbImage) {
    each_channel(picture, |counts| {
        let used = |&value: &usize| counts[value] > 0;
        let least = (0..256).find(used).unwrap_or(0) as f64;
        let most = (0..256).rfind(used).unwrap_or(0) as f64;
        std::array::from_fn(|value| {
            if most <= least {
                return value as u8;
            }
            let scale = 255.0 / (most - least);
            (value as f64 * scale - least * scale) as u8
        })
    });
}

/// Spreads each channel's values evenly.
pub(super) fn equalize(picture: &mut RgbImage) {
    each_channel(picture, |counts| {
        let total: u32 = counts.iter().sum();
        let last = counts.iter().rfind(|count| **count > 0);
        let step = (total - last.copied().unwrap_or(0)) / 255;
        let mut below = step / 2;
        std::array::from_fn(|value| match step {
            0 => value as u8,
            _ => {
                let spread = (below / step).min(255) as u8;
                below += counts[value];
                spread
            }
        })
    });
}

/// Changes each channel by a table made from how often each value occurs.
fn each_channel(picture: &mut RgbImage, table: impl Fn(&[u32; 256]) -> [u8; 256]) {
    let mut counts = [[0; 256]; 3];
    let pixels: &[[u8; 3]] = picture.as_chunks().0;
    for pixel in pixels {
        for (counts, value) in counts.iter_mut().zip(pixel) {
            counts[usize::from(*value)] += 1;
        }
    }
    let tables = counts.each_ref().map(table);
    for pixel in picture.as_chunks_mut::<3>().0 {
        for (table, value) in tables.iter().zip(pixel) {
            *value = table[usize::from(*value)];
        }
    }
}

/// Moves away from the smoothed picture, or towards it. The outermost pixels stay.
pub(super) fn sharpness(picture: &RgbImage, factor: f32) -> RgbImage {
    let mut output = picture.clone();
    let stride = picture.width() as usize * 3;
    let (values, rows) = (picture.as_raw(), picture.height() as usize);
    let smoothed: &mut [u8] = &mut output;
    for row in 1..rows.saturating_sub(1) {
        let [above, own, below] =
            [row - 1, row, row + 1].map(|row| &values[row * stride..][..stride]);
        let to = &mut smoothed[row * stride..][..stride];
        for at in 3..stride.saturating_sub(3) {
            let three = |line: &[u8]| {
                u32::from(line[at - 3]) + u32::from(line[at]) + u32::from(line[at + 3])
            };
            // The kernel is 1 around 5, over 13; its sum is rounded.
            let sum = three(above) + three(own) + three(below) + 4 * u32::from(own[at]);
            let smooth = ((2 * sum + 13) / 26) as u8;
            to[at] = mix(smooth, own[at], factor);
        }
    }
    output
}
