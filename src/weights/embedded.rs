//! Weights inside the binary, as safetensors bytes under `xp/...` names.

/// Names and bytes.
pub static EMBEDDED: &[(&str, &[u8])] = &[];

/// The bytes of that name.
pub fn find(name: &str) -> Option<(&'static str, &'static [u8])> {
    EMBEDDED.iter().find(|(known, _)| *known == name).copied()
}
