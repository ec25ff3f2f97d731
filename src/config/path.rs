//! Paths of keys: `model.head[2].dense`.

use std::ops::Range;

/// Deeper paths are refused: no key lies anywhere near as deep.
const MOST_SEGMENTS: usize = 32;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

impl Segment {
    pub(super) fn key(text: impl Into<String>) -> Self {
        Self::Key(text.into())
    }

    /// The position that this segment names in an array: `[2]`, or a bare `2`.
    pub(super) fn index(&self) -> Option<usize> {
        match self {
            Self::Index(index) => Some(*index),
            Self::Key(key) => key.parse().ok(),
        }
    }
}

/// A path as one writes it; the root is the empty string.
pub(super) fn show(path: &[Segment]) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Index(index) => text.push_str(&format!("[{index}]")),
            Segment::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(&show_key(key));
            }
        }
    }
    text
}

fn show_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) {
        return key.into();
    }
    let escaped: String = key
        .chars()
        .flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            c if c.is_control() => vec!['\u{fffd}'],
            c => vec![c],
        })
        .collect();
    format!("\"{escaped}\"")
}

/// A path as every command writes it: `phase[0].lr` of `phase.0.lr`.
///
/// # Errors
/// What is wrong with the text, if it is no path of a key.
pub fn canonical(text: &str) -> Result<String, String> {
    let (path, end) = parse(text)?;
    if end < text.len() {
        return Err("there is an `=` in the key".into());
    }
    let numbered = path.into_iter().enumerate().map(|(at, (segment, _))| {
        match segment.index().filter(|_| at > 0) {
            Some(index) => Segment::Index(index),
            None => segment,
        }
    });
    Ok(show(&numbered.collect::<Vec<_>>()))
}

/// The value of a key, by its path, in a configuration.
pub fn step_into<'a>(value: &'a serde_json::Value, key: &str) -> Option<&'a serde_json::Value> {
    let (path, _) = parse(key).ok()?;
    path.iter()
        .try_fold(value, |value, (segment, _)| match segment {
            Segment::Key(key) if value.is_object() => value.get(key),
            _ => value.get(segment.index()?),
        })
}

/// A path with the bytes that each segment came from.
pub(super) type Spanned = Vec<(Segment, Range<usize>)>;

/// Reads the path at the start of `text` up to `=` or the end; gives it and the bytes read.
pub(super) fn parse(text: &str) -> Result<(Spanned, usize), String> {
    let bytes = text.as_bytes();
    let mut path = Spanned::new();
    let mut at = 0;
    loop {
        at = skip_blanks(bytes, at);
        let start = at;
        let key = match bytes.get(at) {
            Some(&quote @ (b'"' | b'\'')) => {
                let (key, end) = quoted(text, at, quote)?;
                at = end;
                key
            }
            _ => {
                let rest = &text[at..];
                let length = rest.find(['.', '[', '=']).unwrap_or(rest.len());
                at += length;
                rest[..length].trim_end().to_string()
            }
        };
        if key.is_empty() {
            return Err("a part of the key is empty".into());
        }
        let end = start + text[start..at].trim_end().len();
        path.push((Segment::Key(key), start..end));
        at = skip_blanks(bytes, at);
        while bytes.get(at) == Some(&b'[') {
            let Some(length) = text[at..].find(']') else {
                return Err("`[` without `]`".into());
            };
            let inner = text[at + 1..at + length].trim();
            let index = inner
                .parse()
                .map_err(|_| format!("`[{inner}]` is not an index; the first entry is `[0]`"))?;
            path.push((Segment::Index(index), at..at + length + 1));
            at = skip_blanks(bytes, at + length + 1);
        }
        if path.len() > MOST_SEGMENTS {
            return Err("the key has too many parts".into());
        }
        match bytes.get(at) {
            Some(b'.') => at += 1,
            Some(b'=') | None => return Ok((path, at)),
            Some(_) => return Err("expected `.`, `[` or `=` behind a part of the key".into()),
        }
    }
}

fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t')) {
        at += 1;
    }
    at
}

/// The key between the quotes that start at `at`, and the first byte behind them.
fn quoted(text: &str, at: usize, quote: u8) -> Result<(String, usize), String> {
    let mut key = String::new();
    let mut characters = text[at + 1..].char_indices();
    while let Some((offset, character)) = characters.next() {
        match character {
            '\\' if quote == b'"' => key.extend(characters.next().map(|(_, escaped)| escaped)),
            c if c == char::from(quote) => return Ok((key, at + 1 + offset + 1)),
            c => key.push(c),
        }
    }
    Err("a quote is not closed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back() {
        let path = vec![
            Segment::key("train"),
            Segment::key("a \"b\".c"),
            Segment::Index(12),
            Segment::key("x-1"),
        ];
        let text = show(&path);
        let (read, end) = parse(&text).unwrap();
        assert_eq!(end, text.len());
        assert_eq!(read.into_iter().map(|(s, _)| s).collect::<Vec<_>>(), path);
    }

    #[test]
    fn spans_cover_the_segments() {
        let text = "phase[0] . lr = 3";
        let (path, end) = parse(text).unwrap();
        let parts: Vec<_> = path.iter().map(|(_, span)| &text[span.clone()]).collect();
        assert_eq!(parts, ["phase", "[0]", "lr"]);
        assert_eq!(&text[end..], "= 3");
    }

    #[test]
    fn broken_paths_are_refused() {
        for text in ["", ".", "a.", "a[", "a[x]", "'a", "a[0]b", &"a.".repeat(99)] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
