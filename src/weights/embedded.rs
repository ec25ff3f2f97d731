//! Weights inside the binary, as safetensors bytes under `xp/...` names.

/// Names and bytes. What made each is in its file's header.
pub static EMBEDDED: &[(&str, &[u8])] = &[(
    "xp/mobilenet_v2_035.shapes",
    include_bytes!("embedded/mobilenet_v2_035.shapes.safetensors"),
)];

/// The bytes of that name.
pub fn find(name: &str) -> Option<(&'static str, &'static [u8])> {
    EMBEDDED.iter().find(|(known, _)| *known == name).copied()
}
