//! Any bytes as a picture, decoded and resized.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xp::config::Interpolation;
use xp::data::decode::{self, MAX_PIXELS, MAX_SIDE};
use xp::data::preprocess::Resizer;

fuzz_target!(|bytes: &[u8]| match xp::data::decode_guarded(bytes) {
    Ok(picture) => {
        let (width, height) = picture.dimensions();
        assert!(width <= MAX_SIDE && height <= MAX_SIDE);
        assert!(u64::from(width) * u64::from(height) <= MAX_PIXELS);
        assert_ne!(decode::sniff(bytes), decode::Kind::Other);
        let resized = Resizer::default().resize(picture, [31, 40], Interpolation::Bilinear);
        assert_eq!(resized.dimensions(), (40, 31));
    }
    Err(flaw) => drop(flaw.to_string()),
});
