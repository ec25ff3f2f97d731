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
/// Largest file that is read as a picture.
pub const MAX_FILE_BYTES: u64 = 512 << 20;
/// Most memory that a decoder may ask for: 16-bit RGBA of the largest area, twice.
const MAX_BYTES: u64 = MAX_PIXELS * 16;
/// Most memory that it may ask for before the size is known, for colour profiles and the like.
const MAX_HEADER_BYTES: u64 = 64 << 20;

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
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(found) = memchr::memchr(0xFF, rest) else {
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
    let mut unsized_limits = Limits::no_limits();
    unsized_limits.max_alloc = Some(MAX_HEADER_BYTES);
    reader.limits(unsized_limits);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::{fixture, mean_difference, reference};

    /// Decodes a fixture and compares with Pillow's `exif_transpose(...).convert("RGB")`.
    fn check(name: &str, tolerance: f64) {
        let picture = decode(&fixture(name)).unwrap_or_else(|flaw| panic!("{name}: {flaw}"));
        let (width, height, pixels) = reference(name);
        assert_eq!(picture.dimensions(), (width, height), "{name}");
        let difference = mean_difference(picture.as_raw(), &pixels);
        assert!(difference <= tolerance, "{name}: {difference} levels");
    }

    #[test]
    fn a_cut_picture_is_refused_or_whole() {
        for name in [
            "plain.jpg",
            "sampled.jpg",
            "progressive.jpg",
            "cmyk.jpg",
            "turned_6.jpg",
            "plain.png",
            "grey_16.png",
            "palette.png",
            "plain.webp",
            "lossy.webp",
            "plain.bmp",
            "plain.gif",
            "animated.gif",
        ] {
            let bytes = fixture(name);
            let whole = decode(&bytes).unwrap();
            for length in 0..bytes.len() {
                // Of some formats the last bytes say nothing of the (first) picture.
                match crate::data::decode_guarded(&bytes[..length]) {
                    Ok(cut) => {
                        assert!(!name.ends_with("jpg"), "{name} at {length}");
                        assert!(cut == whole, "{name} at {length}");
                    }
                    Err(Flaw::Broken(reason)) => {
                        assert_ne!(reason, "the decoder failed", "{name} at {length}");
                    }
                    Err(_) => {}
                }
            }
        }
    }

    fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let mut sum = flate2::Crc::new();
        sum.update(kind);
        sum.update(content);
        let mut bytes = (content.len() as u32).to_be_bytes().to_vec();
        bytes.extend(kind);
        bytes.extend(content);
        bytes.extend(sum.sum().to_be_bytes());
        bytes
    }

    fn png(width: u32, height: u32, between: &[u8]) -> Vec<u8> {
        let mut header = width.to_be_bytes().to_vec();
        header.extend(height.to_be_bytes());
        header.extend([8, 2, 0, 0, 0]);
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        bytes.extend(chunk(b"IHDR", &header));
        bytes.extend(between);
        bytes.extend(chunk(b"IDAT", &[0x78, 0x9c, 3, 0, 0, 0, 0, 1]));
        bytes.extend(chunk(b"IEND", &[]));
        bytes
    }

    #[test]
    fn sizes_are_refused_before_anything_is_allocated() {
        let mut bmp = fixture("plain.bmp");
        bmp[18..26].copy_from_slice(&[0x30, 0x75, 0, 0, 0x30, 0x75, 0, 0]);
        let mut gif = fixture("plain.gif");
        gif[6..10].copy_from_slice(&[0x30, 0x75, 0x30, 0x75]);
        let mut webp = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0".to_vec();
        webp.extend([0x2f, 0x75, 0, 0x2f, 0x75, 0]);
        webp.extend(b"VP8 \x0a\0\0\0\x30\x01\0\x9d\x01\x2a\x30\x35\x30\x35");
        let mut jpeg = fixture("plain.jpg");
        let frame = jpeg.windows(2).position(|it| it == [0xFF, 0xC0]).unwrap();
        jpeg[frame + 5..frame + 9].copy_from_slice(&[0x75, 0x30, 0x75, 0x30]);
        for (name, bytes) in [
            ("png", png(30_000, 30_000, &[])),
            ("bmp", bmp),
            ("gif", gif),
            ("jpeg", jpeg),
        ] {
            match decode(&bytes) {
                Err(Flaw::TooLarge { width, .. }) => assert!(width >= 30_000, "{name}"),
                other => panic!("{name}: {:?}", other.map(|it| it.dimensions())),
            }
        }
        // Whatever the reason.
        assert!(decode(&webp).is_err());
        assert!(decode(&png(u32::MAX >> 1, 1, &[])).is_err());
    }

    #[test]
    fn a_colour_profile_cannot_fill_the_memory() {
        use std::io::Write;
        let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..300 {
            writer.write_all(&vec![0; 1 << 20]).unwrap();
        }
        let mut profile = b"x\0\0".to_vec();
        profile.extend(writer.finish().unwrap());
        let bomb = png(4, 4, &chunk(b"iCCP", &profile));
        assert!(bomb.len() < 400_000);
        // Whether the profile is passed over or the picture refused, it takes no time.
        let started = std::time::Instant::now();
        let _ = decode(&bomb);
        assert!(started.elapsed().as_secs() < 2);
    }

    #[test]
    fn every_format_gives_what_pillow_gives() {
        for name in ["plain.jpg", "sampled.jpg", "progressive.jpg", "grey.jpg"] {
            check(name, 0.7);
        }
        for name in ["cmyk.jpg", "ycck.jpg"] {
            check(name, 1.0);
        }
        for name in [
            "plain.png",
            "alpha.png",
            "grey.png",
            "grey_alpha.png",
            "one_bit.png",
            "palette.png",
            "palette_alpha.png",
            "turned.png",
            "grey_16.png",
            "plain.webp",
            "alpha.webp",
            "plain.bmp",
            "palette.bmp",
            "plain.gif",
            "animated.gif",
        ] {
            check(name, 0.0);
        }
        check("lossy.webp", 0.7);
    }

    #[test]
    fn orientation_is_applied() {
        for orientation in 1..=8 {
            check(&format!("turned_{orientation}.jpg"), 0.7);
        }
    }

    #[test]
    fn a_cut_off_picture_is_broken_wherever_it_is_cut() {
        for name in [
            "plain.jpg",
            "progressive.jpg",
            "turned_6.jpg",
            "plain.png",
            "plain.bmp",
        ] {
            let whole = fixture(name);
            let picture = decode(&whole).unwrap();
            for length in 0..whole.len() {
                // A PNG whose last marker alone is missing still has all its pixels.
                if name == "plain.png" && decode(&whole[..length]).is_ok_and(|cut| cut == picture) {
                    assert!(length + 16 >= whole.len());
                    continue;
                }
                assert!(
                    decode(&whole[..length]).is_err(),
                    "{name} cut to {length} bytes"
                );
            }
        }
    }

    #[test]
    fn damaged_bytes_never_panic() {
        for name in [
            "plain.jpg",
            "progressive.jpg",
            "palette.png",
            "lossy.webp",
            "animated.gif",
        ] {
            let whole = fixture(name);
            for at in (0..whole.len()).step_by(3) {
                let mut damaged = whole.clone();
                damaged[at] ^= 0xA5;
                let _ = decode(&damaged);
            }
        }
    }

    #[test]
    fn bytes_after_the_end_do_no_harm() {
        let mut bytes = fixture("plain.jpg");
        bytes.extend([0xFF, 0xD8, 0x00, 0x12]);
        assert!(decode(&bytes).is_ok());
    }

    #[test]
    fn huge_pictures_are_refused_before_they_are_decoded() {
        // Width and height in the header of a PNG (and its checksum), rest as it was.
        let mut bytes = fixture("plain.png");
        bytes[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
        let sum = crc(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&sum.to_be_bytes());
        assert!(matches!(
            decode(&bytes),
            Err(Flaw::TooLarge { width: 65536, .. })
        ));
        // The same of a JPEG: height and width of its frame header.
        let mut bytes = fixture("plain.jpg");
        let frame = bytes
            .windows(2)
            .position(|pair| pair == [0xFF, 0xC0])
            .unwrap();
        bytes[frame + 5..frame + 9].copy_from_slice(&[0xF0, 0, 0xF0, 0]);
        assert!(matches!(
            decode(&bytes),
            Err(Flaw::TooLarge { height: 61440, .. })
        ));
    }

    /// The checksum of PNG chunks.
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                if crc & 1 == 1 {
                    crc >> 1 ^ 0xEDB8_8320
                } else {
                    crc >> 1
                }
            })
        })
    }
}
