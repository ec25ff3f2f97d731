//! Bytes to RGB pictures: by content and never by name, upright, 8 bits a channel.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use thiserror::Error;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;

/// Largest side of a picture, in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// Largest area of a picture, in pixels.
pub const MAX_PIXELS: u64 = 100_000_000;
/// Most memory that a decoder may ask for: 16-bit RGBA of the largest area, twice.
const MAX_BYTES: u64 = MAX_PIXELS * 16;

/// Why bytes are no picture that can be used.
#[derive(Debug, Error)]
pub enum Flaw {
    /// No known signature.
    #[error("not a picture in a known format")]
    NotAPicture,
    /// Known, but not read.
    #[error("{0} pictures are not supported; convert it to PNG or JPEG")]
    Unsupported(&'static str),
    /// Nothing in the file.
    #[error("the file is empty")]
    Empty,
    /// Too large to decode safely.
    #[error("{width}x{height} pixels, more than {MAX_SIDE} a side or 100 megapixels")]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// Cut off.
    #[error("truncated: the end of the picture is missing")]
    Truncated,
    /// Anything else that a decoder says.
    #[error("cannot be decoded: {0}")]
    Broken(String),
}

/// What the first bytes of a file say that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A format that [`decode`] reads.
    Picture(ImageFormat),
    /// A picture in a format that it does not read.
    Foreign(&'static str),
    /// No picture.
    Other,
}

/// Tells the format by content.
pub fn sniff(bytes: &[u8]) -> Kind {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, WebP};
    match image::guess_format(bytes) {
        Ok(format @ (Jpeg | Png | WebP | Bmp | Gif)) => Kind::Picture(format),
        Ok(ImageFormat::Tiff) => Kind::Foreign("TIFF"),
        Ok(ImageFormat::Avif) => Kind::Foreign("AVIF"),
        Ok(ImageFormat::Ico) => Kind::Foreign("ICO"),
        Ok(ImageFormat::OpenExr) => Kind::Foreign("OpenEXR"),
        Ok(ImageFormat::Pnm) => Kind::Foreign("PNM"),
        _ if bytes.get(4..8) == Some(b"ftyp") && bytes.get(8..11) == Some(b"hei") => {
            Kind::Foreign("HEIC")
        }
        _ => Kind::Other,
    }
}

/// Decodes a picture: grey, palette, 16-bit, CMYK and YCCK become RGB, alpha is dropped, an EXIF
/// orientation is applied, an animation gives its first frame.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, Flaw> {
    match sniff(bytes) {
        Kind::Picture(ImageFormat::Jpeg) => jpeg(bytes),
        Kind::Picture(format) => other(bytes, format),
        Kind::Foreign(name) => Err(Flaw::Unsupported(name)),
        Kind::Other if bytes.is_empty() => Err(Flaw::Empty),
        Kind::Other => Err(Flaw::NotAPicture),
    }
}

fn check_size(width: u32, height: u32) -> Result<(), Flaw> {
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Flaw::TooLarge { width, height });
    }
    Ok(())
}

fn jpeg(bytes: &[u8]) -> Result<RgbImage, Flaw> {
    // The decoder fills what is missing with grey, so a cut-off file must be told from its end.
    if !jpeg_is_whole(bytes) {
        return Err(Flaw::Truncated);
    }
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let broken = |error: zune_jpeg::errors::DecodeErrors| Flaw::Broken(error.to_string());
    decoder.decode_headers().map_err(broken)?;
    let (width, height) = decoder.dimensions().ok_or(Flaw::Truncated)?;
    let (width, height) = (width as u32, height as u32);
    check_size(width, height)?;
    let orientation = decoder
        .exif()
        .and_then(|exif| Orientation::from_exif_chunk(exif));
    let pixels = decoder.decode().map_err(broken)?;
    let picture = RgbImage::from_raw(width, height, pixels)
        .ok_or_else(|| Flaw::Broken("unexpected amount of pixels".into()))?;
    Ok(upright(picture, orientation))
}

/// Whether the end-of-image marker is there, found by walking over segments and scans, so that an
/// embedded thumbnail's does not count.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        // To the next marker: FF followed by neither stuffing, a restart nor fill bytes.
        let marker = loop {
            let Some(found) = bytes
                .get(at..)
                .and_then(|rest| rest.iter().position(|&b| b == 0xFF))
            else {
                return false;
            };
            at += found + 1;
            match bytes.get(at) {
                None => return false,
                Some(0xFF) => {}
                Some(0x00 | 0x01 | 0xD0..=0xD7) => at += 1,
                Some(&marker) => {
                    at += 1;
                    break marker;
                }
            }
        };
        if marker == 0xD9 {
            return true;
        }
        let Some(&[high, low]) = bytes.get(at..at + 2) else {
            return false;
        };
        at += usize::from(u16::from_be_bytes([high, low]));
    }
}

fn other(bytes: &[u8], format: ImageFormat) -> Result<RgbImage, Flaw> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // Sizes are checked here, so that the reason can name them.
    reader.limits(Limits::no_limits());
    let mut decoder = reader.into_decoder().map_err(flaw)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    decoder.set_limits(limits).map_err(flaw)?;
    let orientation = decoder.orientation().ok();
    let picture = DynamicImage::from_decoder(decoder).map_err(flaw)?;
    Ok(upright(picture.into_rgb8(), orientation))
}

fn flaw(error: image::ImageError) -> Flaw {
    match error {
        image::ImageError::IoError(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => {
            Flaw::Truncated
        }
        error => Flaw::Broken(error.to_string()),
    }
}

fn upright(picture: RgbImage, orientation: Option<Orientation>) -> RgbImage {
    match orientation {
        None | Some(Orientation::NoTransforms) => picture,
        Some(orientation) => {
            let mut picture = DynamicImage::ImageRgb8(picture);
            picture.apply_orientation(orientation);
            picture.into_rgb8()
        }
    }
}
