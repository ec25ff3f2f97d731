//! Which part of a picture a random resized crop takes.

use rand::Rng;

use crate::config::ResizedCropRanges;
use crate::data::preprocess::Part;
use crate::rng::Stream;

/// Attempts at a part that fits the picture.
const ATTEMPTS: usize = 10;

/// A part of a picture of `[height, width]`, as torchvision's `RandomResizedCrop` draws it: of a
/// random area and shape at a random place, or the largest centre if ten attempts do not fit.
pub(super) fn draw(
    ranges: &ResizedCropRanges,
    [height, width]: [u32; 2],
    stream: &mut Stream,
) -> Part {
    let (rows, columns) = (f64::from(height), f64::from(width));
    for _ in 0..ATTEMPTS {
        let [across, down] = sides(rows * columns, ranges.scale, ranges.ratio, stream);
        if 0.0 < across && across <= columns && 0.0 < down && down <= rows {
            let (across, down) = (across as u32, down as u32);
            return Part {
                top: stream.random_range(0..=height - down),
                left: stream.random_range(0..=width - across),
                height: down,
                width: across,
            };
        }
    }
    let [narrowest, widest] = ranges.ratio;
    let shape = columns / rows;
    let (down, across) = if shape < narrowest {
        ((columns / narrowest).round_ties_even() as u32, width)
    } else if shape > widest {
        (height, (rows * widest).round_ties_even() as u32)
    } else {
        (height, width)
    };
    let (down, across) = (down.clamp(1, height), across.clamp(1, width));
    Part {
        top: (height - down) / 2,
        left: (width - across) / 2,
        height: down,
        width: across,
    }
}

/// Two sides of a rectangle of a random share of an area: the first over the second is drawn
/// evenly on a logarithmic scale.
pub(super) fn sides(area: f64, scale: [f64; 2], ratio: [f64; 2], stream: &mut Stream) -> [f64; 2] {
    let area = area * between(scale, stream);
    let ratio = between(ratio.map(f64::ln), stream).exp();
    [(area * ratio).sqrt(), (area / ratio).sqrt()].map(f64::round_ties_even)
}

/// A number drawn evenly.
pub(super) fn between([least, most]: [f64; 2], stream: &mut Stream) -> f64 {
    least + (most - least) * stream.random::<f64>()
}

/// Pictures whose shorter side is longer than this are scaled down to it before random parts are
/// taken: the smallest part then still has the network's resolution.
pub fn least_side(ranges: &ResizedCropRanges, size: [u32; 2]) -> u32 {
    let longest = f64::from(size[0].max(size[1]));
    (longest / ranges.scale[0].sqrt()).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::augment::fixtures::fixture;
    use crate::rng;

    fn parts(ranges: &ResizedCropRanges, size: [u32; 2], count: u64) -> Vec<Part> {
        let draw = |item| draw(ranges, size, &mut rng::stream(2, "parts", &[item]));
        (0..count).map(draw).collect()
    }

    #[test]
    fn area_shape_and_place_are_spread_as_torchvision_spreads_them() {
        let (height, width) = (300, 400);
        let ranges = ResizedCropRanges::default();
        let parts = parts(&ranges, [height, width], 20_000);
        let numbers = |part: &Part| {
            let [down, across] = [part.height, part.width].map(f64::from);
            let area = down * across / 120_000.0;
            [
                area,
                (across / down).ln(),
                part.top.into(),
                part.left.into(),
            ]
        };
        let found: Vec<_> = parts.iter().map(numbers).collect();
        fixture().statistics["resized_crop"].check(&found);
        let fits =
            |part: &Part| part.top + part.height <= height && part.left + part.width <= width;
        assert!(parts.iter().all(fits));
    }

    #[test]
    fn what_fits_no_shape_gives_its_centre() {
        let ranges = ResizedCropRanges {
            scale: [1.0, 1.0],
            ..ResizedCropRanges::default()
        };
        let centre = |size| parts(&ranges, size, 1)[0];
        let part = |top, left, height, width| Part {
            top,
            left,
            height,
            width,
        };
        assert_eq!(centre([100, 1000]), part(0, 433, 100, 133));
        assert_eq!(centre([1000, 90]), part(440, 0, 120, 90));
        assert_eq!(centre([1, 500]), part(0, 249, 1, 1));
    }

    #[test]
    fn the_smallest_part_keeps_the_resolution() {
        assert_eq!(least_side(&ResizedCropRanges::default(), [160, 160]), 566);
        let whole = ResizedCropRanges {
            scale: [1.0, 1.0],
            ..ResizedCropRanges::default()
        };
        assert_eq!(least_side(&whole, [160, 224]), 224);
    }
}
