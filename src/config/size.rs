//! Sizes in bytes, as people write them.

/// What a size may look like, for messages.
pub const EXAMPLES: &str = "write `\"4GB\"`, `\"512MiB\"` or `\"0\"`";

const UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
];

/// Bytes of `4GB`, `1.5 TB`, `512MiB` or a bare number of bytes; `None` if it is no size.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.trim().to_ascii_lowercase();
    let factor = match unit.as_str() {
        "tib" => 1 << 40,
        unit => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    if let Ok(number) = number.parse::<u64>() {
        return number.checked_mul(factor);
    }
    let bytes = number.parse::<f64>().ok()? * factor as f64;
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// Bytes in the decimal unit that leaves one to three digits before the point: `1.5 GB`.
pub fn show(bytes: u64) -> String {
    let unit = |&&(name, factor): &&(&str, u64)| {
        matches!(name, "kb" | "mb" | "gb" | "tb") && bytes >= factor
    };
    match UNITS.iter().rfind(unit) {
        Some(("kb", factor)) => format!("{} kB", (bytes + factor / 2) / factor),
        Some((name, factor)) => {
            let name = name.to_ascii_uppercase();
            format!("{:.1} {name}", bytes as f64 / *factor as f64)
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes) in [
            ("0", 0),
            ("123", 123),
            ("10GB", 10_000_000_000),
            ("1.5 kb", 1_500),
            ("4GiB", 4 << 30),
            ("2TiB", 2 << 40),
            (" 7 MB ", 7_000_000),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "GB",
            "-1",
            "1e9",
            "4 parsecs",
            "1.2.3MB",
            "99999999999TB",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_500, "2 kB"),
            (4_300_000, "4.3 MB"),
            (20_000_000_000, "20.0 GB"),
            (3_000_000_000_000, "3.0 TB"),
        ] {
            assert_eq!(show(bytes), text);
        }
    }
}
