//! Fixtures: small pictures and what Pillow makes of them (`tests/fixtures/make_pictures.py`).

/// The bytes of a picture.
pub(super) fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures");
    std::fs::read(format!("{folder}/{name}")).unwrap()
}

/// Pillow's width, height and RGB bytes of a picture.
pub(super) fn reference(name: &str) -> (u32, u32, Vec<u8>) {
    let bytes = fixture(&format!("{name}.rgb"));
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(0), number(4), bytes[8..].to_vec())
}

/// Mean absolute difference in levels.
pub(super) fn mean_difference(one: &[u8], other: &[u8]) -> f64 {
    assert_eq!(one.len(), other.len());
    let sum: u64 = one
        .iter()
        .zip(other)
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    sum as f64 / one.len() as f64
}
