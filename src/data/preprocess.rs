//! From a decoded picture to what the network sees: resize, crop, scale.

use fast_image_resize as fir;
use fir::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fir::pixels::U8x3;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::DataError;
use crate::config::{DataConfig, ImageSize, Interpolation, MeanStd, Normalize, NormalizeName};

/// Order of a picture's channels in the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelOrder {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red: networks that came from Caffe.
    Bgr,
}

impl ChannelOrder {
    fn is_rgb(&self) -> bool {
        *self == Self::Rgb
    }
}

/// From bytes to what a network sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// Mean and standard deviation of the input's channels, of values in [0, 1].
    pub mean_std: MeanStd,
    /// Order of the input's channels.
    pub order: ChannelOrder,
}

impl From<MeanStd> for Scaling {
    fn from(mean_std: MeanStd) -> Self {
        Self {
            mean_std,
            order: ChannelOrder::Rgb,
        }
    }
}

/// ImageNet's mean and standard deviation of red, green, blue.
pub const IMAGENET: MeanStd = MeanStd {
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
};

/// How pictures become the network's input; stored in model files.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Height and width of the input, in pixels.
    pub image_size: [u32; 2],
    /// Height and width to resize to before cropping; `None` resizes to `image_size`.
    pub resize: Option<[u32; 2]>,
    /// Resampling filter.
    pub interpolation: Interpolation,
    /// Mean of the input's channels, of values in [0, 1].
    pub mean: [f32; 3],
    /// Standard deviation of the input's channels.
    pub std: [f32; 3],
    /// Order of the input's channels; model files say nothing of the usual one.
    #[serde(default, skip_serializing_if = "ChannelOrder::is_rgb")]
    pub order: ChannelOrder,
}

impl Preprocess {
    /// What `[data]` says, with the backbone's input size and scaling where it says nothing.
    /// Fails if the crop is larger than what it is taken from.
    pub fn from_config(
        config: &DataConfig,
        default_size: [u32; 2],
        default_scaling: impl Into<Scaling>,
    ) -> Result<Self, DataError> {
        let Scaling { mean_std, order } = match &config.normalize {
            None => default_scaling.into(),
            Some(Normalize::MeanStd(given)) => (*given).into(),
            Some(Normalize::Named(name)) => named(*name),
        };
        let image_size = config
            .image_size
            .map_or(default_size, ImageSize::height_width);
        let preprocess = Self {
            image_size,
            resize: config.resize.map(ImageSize::height_width),
            interpolation: config.interpolation,
            mean: mean_std.mean,
            std: mean_std.std,
            order,
        };
        preprocess.check()?;
        Ok(preprocess)
    }

    /// Fails if the crop is larger than what it is taken from; for values read from a file.
    pub fn check(&self) -> Result<(), DataError> {
        let (size, resize) = (self.image_size, self.resized());
        if resize[0] < size[0] || resize[1] < size[1] {
            return Err(DataError::Crop { size, resize });
        }
        Ok(())
    }

    /// All that decides the input, as JSON in one line: to tell two preprocessings apart.
    pub fn describe(&self) -> String {
        // Plain numbers and names: nothing that could fail.
        serde_json::to_string(self).unwrap_or_else(|_| format!("{self:?}"))
    }

    /// Height and width of a picture after resizing and before cropping.
    pub fn resized(&self) -> [u32; 2] {
        self.resize.unwrap_or(self.image_size)
    }

    /// Number of values of one input: height x width x 3.
    pub fn values(&self) -> usize {
        self.image_size[0] as usize * self.image_size[1] as usize * 3
    }
}

/// A named scaling.
pub fn named(name: NormalizeName) -> Scaling {
    match name {
        NormalizeName::MinusOneOne => Scaling::from(MeanStd {
            mean: [0.5; 3],
            std: [0.5; 3],
        }),
        NormalizeName::ZeroOne => Scaling::from(MeanStd {
            mean: [0.0; 3],
            std: [1.0; 3],
        }),
        NormalizeName::Imagenet => IMAGENET.into(),
        NormalizeName::Caffe => Scaling {
            mean_std: MeanStd {
                mean: [103.939, 116.779, 123.68].map(|mean: f32| mean / 255.0),
                std: [1.0 / 255.0; 3],
            },
            order: ChannelOrder::Bgr,
        },
    }
}

/// A rectangle of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// First row.
    pub top: u32,
    /// First column.
    pub left: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

/// Resizes pictures; keeps its buffers from one to the next.
#[derive(Debug, Default)]
pub struct Resizer {
    inner: fir::Resizer,
    /// The part at its new width and its old height.
    narrowed: Vec<u8>,
}

impl Resizer {
    /// Resizes to `[height, width]`, antialiased like Pillow.
    pub fn resize(
        &mut self,
        picture: RgbImage,
        [height, width]: [u32; 2],
        interpolation: Interpolation,
    ) -> RgbImage {
        if (picture.width(), picture.height()) == (width, height) {
            return picture;
        }
        let whole = Part {
            top: 0,
            left: 0,
            height: picture.height(),
            width: picture.width(),
        };
        self.resize_part(&picture, whole, [height, width], interpolation)
    }

    /// Resizes a part of a picture as if there were nothing around it.
    pub fn resize_part(
        &mut self,
        picture: &RgbImage,
        part: Part,
        [height, width]: [u32; 2],
        interpolation: Interpolation,
    ) -> RgbImage {
        let algorithm = match interpolation {
            Interpolation::Nearest => fir::ResizeAlg::Nearest,
            Interpolation::Bilinear => fir::ResizeAlg::Convolution(fir::FilterType::Bilinear),
            Interpolation::Bicubic => fir::ResizeAlg::Convolution(fir::FilterType::CatmullRom),
            Interpolation::Lanczos => fir::ResizeAlg::Convolution(fir::FilterType::Lanczos3),
        };
        let mut output = RgbImage::new(width, height);
        let options = fir::ResizeOptions::new().resize_alg(algorithm);
        let (inner, narrowed) = (&mut self.inner, &mut self.narrowed);
        narrowed.resize(3 * width as usize * part.height as usize, 0);
        // Rows before columns, with whole levels between them, as Pillow goes about it. The sizes of
        // the buffers are right by construction, so no step can fail; a black picture stands in for
        // the impossible. Typed images: the dynamic ones compile every pixel type.
        if let (Ok(input), Ok(mut middle), Ok(mut resized)) = (
            TypedImageRef::<U8x3>::from_buffer(picture.width(), picture.height(), picture),
            TypedImage::<U8x3>::from_buffer(width, part.height, narrowed),
            TypedImage::<U8x3>::from_buffer(width, height, &mut output),
        ) && let Ok(input) =
            TypedCroppedImage::from_ref(&input, part.left, part.top, part.width, part.height)
        {
            let done = inner
                .resize_typed(&input, &mut middle, &options)
                .and_then(|()| inner.resize_typed(&middle, &mut resized, &options));
            debug_assert!(done.is_ok(), "{done:?}");
        }
        output
    }
}

/// `(value / 255 - mean) / std` for every byte and channel of the input.
#[derive(Debug, Clone)]
pub struct Scale {
    table: [[f32; 3]; 256],
    order: ChannelOrder,
}

impl Scale {
    /// The table of a preprocessing.
    pub fn new(preprocess: &Preprocess) -> Self {
        Self {
            table: std::array::from_fn(|value| {
                std::array::from_fn(|channel| {
                    (value as f32 / 255.0 - preprocess.mean[channel]) / preprocess.std[channel]
                })
            }),
            order: preprocess.order,
        }
    }

    /// Scales interleaved RGB bytes into as many floats, in the input's order of channels.
    pub fn apply(&self, bytes: &[u8], output: &mut [f32]) {
        let pixels = bytes.as_chunks().0;
        for (pixel, output) in pixels.iter().zip(output.as_chunks_mut().0) {
            *output = self.pixel(*pixel);
        }
    }

    /// The same with the last pixel first.
    pub fn apply_mirrored(&self, bytes: &[u8], output: &mut [f32]) {
        let pixels = bytes.as_chunks().0;
        for (pixel, output) in pixels.iter().rev().zip(output.as_chunks_mut().0) {
            *output = self.pixel(*pixel);
        }
    }

    #[inline]
    fn pixel(&self, mut pixel: [u8; 3]) -> [f32; 3] {
        if self.order == ChannelOrder::Bgr {
            pixel.reverse();
        }
        std::array::from_fn(|channel| self.table[usize::from(pixel[channel])][channel])
    }
}

/// The way back, for showing what the network sees: floats to RGB bytes, rounded and clamped.
pub fn unscale(preprocess: &Preprocess, values: &[f32]) -> Vec<u8> {
    let channels = preprocess.mean.iter().zip(&preprocess.std).cycle();
    let mut bytes: Vec<u8> = values
        .iter()
        .zip(channels)
        .map(|(value, (mean, std))| ((value * std + mean) * 255.0).round() as u8)
        .collect();
    if preprocess.order == ChannelOrder::Bgr {
        bytes.chunks_exact_mut(3).for_each(<[u8]>::reverse);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::decode::decode;
    use crate::data::testing::{fixture, mean_difference, reference};

    #[test]
    fn resizing_gives_what_pillow_gives() {
        let photo = decode(&fixture("photo.png")).unwrap();
        for (name, interpolation) in [
            ("resize_bilinear_20x27", Interpolation::Bilinear),
            ("resize_bicubic_20x27", Interpolation::Bicubic),
            ("resize_lanczos_20x27", Interpolation::Lanczos),
            ("resize_nearest_20x27", Interpolation::Nearest),
            ("resize_bilinear_90x100", Interpolation::Bilinear),
        ] {
            let (width, height, expected) = reference(name);
            let resized = Resizer::default().resize(photo.clone(), [height, width], interpolation);
            let difference = mean_difference(&resized, &expected);
            assert!(difference < 0.1, "{name}: {difference} levels");
        }
    }

    #[test]
    fn scaling_is_the_written_formula_and_can_be_undone() {
        let preprocess = Preprocess {
            image_size: [1, 2],
            resize: None,
            interpolation: Interpolation::Bilinear,
            mean: IMAGENET.mean,
            std: IMAGENET.std,
            order: ChannelOrder::Rgb,
        };
        let bytes = [0, 128, 255, 7, 70, 200];
        let mut values = [0.0; 6];
        Scale::new(&preprocess).apply(&bytes, &mut values);
        assert_eq!(values[1], (128.0 / 255.0 - 0.456) / 0.224);
        assert_eq!(unscale(&preprocess, &values), bytes);
    }

    #[test]
    fn caffes_scaling_is_that_of_keras() {
        let config: DataConfig = toml::from_str("root = 'x'\nnormalize = 'caffe'").unwrap();
        let preprocess = Preprocess::from_config(&config, [224, 224], IMAGENET).unwrap();
        let bytes = [0, 128, 255, 7, 70, 200];
        let mut values = [0.0; 6];
        // keras.applications.imagenet_utils.preprocess_input(mode="caffe").
        let expected = [151.061, 11.221, -123.68, 96.061, -46.779, -116.68];
        Scale::new(&preprocess).apply(&bytes, &mut values);
        for (value, expected) in values.into_iter().zip(expected) {
            assert!((value - expected).abs() < 1e-4, "{value} {expected}");
        }
        assert_eq!(unscale(&preprocess, &values), bytes);
        let mut mirrored = [0.0; 6];
        Scale::new(&preprocess).apply_mirrored(&bytes, &mut mirrored);
        assert_eq!(mirrored[..3], values[3..]);
        let stored: Preprocess = serde_json::from_str(&preprocess.describe()).unwrap();
        assert_eq!(stored, preprocess);
    }

    #[test]
    fn the_usual_order_of_channels_is_not_written_down() {
        let config: DataConfig = toml::from_str("root = 'x'").unwrap();
        let preprocess = Preprocess::from_config(&config, [224, 224], IMAGENET).unwrap();
        assert!(!preprocess.describe().contains("order"));
    }

    #[test]
    fn a_crop_larger_than_the_picture_is_refused() {
        let config: DataConfig =
            toml::from_str("root = 'x'\nimage_size = 160\nresize = [200, 150]").unwrap();
        let refused = Preprocess::from_config(&config, [224, 224], IMAGENET).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "cannot crop 160x160 out of 200x150 (height x width)"
        );
    }
}
