//! Which part of a picture the network sees.

use image::RgbImage;

use super::augment::View;
use super::preprocess::{Preprocess, Resizer};

/// From a picture of any shape to one of the network's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Framing {
    /// Resized to what the preprocessing says, whatever its shape, then its centre.
    Resized,
    /// As publishers of weights evaluate them (timm, torchvision): scaled as it is until the
    /// shorter side, times this share, is as long as the network's, then its centre.
    Centre(f64),
}

/// Longer pictures lose their ends first, which the network would not see anyway: scaled whole, a
/// line of pixels would fill the memory.
const MOST_ASPECT: u32 = 16;

impl Framing {
    /// Bytes `[height, width, 3]` of `preprocess.image_size`.
    pub fn frame(self, picture: RgbImage, preprocess: &Preprocess) -> Vec<u8> {
        let (picture, resized) = match self {
            Self::Resized => (picture, preprocess.resized()),
            Self::Centre(share) => {
                let picture = without_ends(picture);
                let sides = [picture.height(), picture.width()];
                (picture, scaled(sides, preprocess.image_size, share))
            }
        };
        let size = preprocess.image_size;
        let picture = Resizer::default().resize(picture, resized, preprocess.interpolation);
        let mut view = View::centre(resized, size);
        if let Self::Centre(_) = self {
            let before = |room: u32| (f64::from(room) / 2.0).round_ties_even() as usize;
            view.top = before(resized[0] - size[0]);
            view.left = before(resized[1] - size[1]);
        }
        view.take(size, &picture).into_raw()
    }
}

fn without_ends(picture: RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let most = width.min(height).saturating_mul(MOST_ASPECT);
    if width.max(height) <= most {
        return picture;
    }
    let (wide, high) = (width.min(most), height.min(most));
    let (left, top) = ((width - wide) / 2, (height - high) / 2);
    image::imageops::crop_imm(&picture, left, top, wide, high).to_image()
}

/// Height and width after scaling: one side as long as the share asks, the other at least.
fn scaled([height, width]: [u32; 2], size: [u32; 2], share: f64) -> [u32; 2] {
    let least = size.map(|side| ((f64::from(side) / share) as u32).max(side));
    let along = |side: u32, from: u32, to: u32| {
        let exact = u64::from(side) * u64::from(to) / u64::from(from.max(1));
        u32::try_from(exact).unwrap_or(u32::MAX)
    };
    // Whichever side needs more magnification decides.
    if u64::from(least[0]) * u64::from(width) >= u64::from(least[1]) * u64::from(height) {
        [least[0], along(width, height, least[0]).max(least[1])]
    } else {
        [along(height, width, least[1]).max(least[0]), least[1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Interpolation;
    use crate::data::decode::decode;
    use crate::data::preprocess::ChannelOrder;
    use crate::data::testing::{fixture, mean_difference, reference};

    #[test]
    fn the_centre_is_what_timm_sees() {
        let photo = decode(&fixture("photo.png")).unwrap();
        for (name, interpolation) in [
            ("centre_bicubic_24", Interpolation::Bicubic),
            ("centre_bilinear_24", Interpolation::Bilinear),
        ] {
            let (width, height, expected) = reference(name);
            let preprocess = Preprocess {
                image_size: [height, width],
                resize: None,
                interpolation,
                mean: [0.0; 3],
                std: [1.0; 3],
                order: ChannelOrder::Rgb,
            };
            let seen = Framing::Centre(0.875).frame(photo.clone(), &preprocess);
            let difference = mean_difference(&seen, &expected);
            assert!(difference < 0.1, "{name}: {difference} levels");
        }
    }

    #[test]
    fn a_line_of_pixels_is_no_great_picture() {
        let preprocess = Preprocess {
            image_size: [8, 8],
            resize: None,
            interpolation: Interpolation::Bilinear,
            mean: [0.0; 3],
            std: [1.0; 3],
            order: ChannelOrder::Rgb,
        };
        let line = RgbImage::from_pixel(16_384, 1, image::Rgb([7, 8, 9]));
        let seen = Framing::Centre(0.875).frame(line, &preprocess);
        assert_eq!(seen, [7, 8, 9].repeat(64));
    }

    #[test]
    fn the_shorter_side_decides() {
        for (sides, size, share, expected) in [
            ([300, 400], [224, 224], 0.875, [256, 341]),
            ([400, 300], [224, 224], 0.875, [341, 256]),
            ([500, 500], [299, 299], 0.8975, [333, 333]),
            ([10, 10], [224, 224], 1.0, [224, 224]),
            ([100, 400], [64, 128], 1.0, [64, 256]),
            ([1, 16_384], [224, 224], 1.0, [224, 224 * 16_384]),
        ] {
            assert_eq!(scaled(sides, size, share), expected);
        }
    }
}
