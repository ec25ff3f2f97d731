//! Problems of a configuration, located in the file, environment variable or flag they come from.

use std::fmt;
use std::ops::Range;

use thiserror::Error;

/// Longer source lines are cut around the place that is underlined.
const WIDEST_LINE: usize = 160;

/// Something wrong with a key, in words; where it stands is found by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the key, for example `model.head[2].dense` or `phase[1].freeze_before`.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Problem {
    /// A problem of a key.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
            help: None,
        }
    }

    /// Adds what to do.
    pub fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Nothing can be run.
    Error,
    /// It runs, but probably not as meant.
    Warning,
}

/// A problem with the place where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Where it stands, if anywhere.
    pub place: Option<Box<Place>>,
    /// Position among the problems of one configuration: source, then byte.
    pub(super) order: (usize, usize),
}

impl Diagnostic {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            help: None,
            place: None,
            order: (0, 0),
        }
    }
}

/// A stretch of one line of a file, of an environment variable or of a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as the user named it, `environment` or `command line`.
    pub origin: String,
    /// Line and column in the file, counted from 1.
    pub position: Option<[usize; 2]>,
    /// The line, printable.
    pub line: String,
    /// Characters of `line` to underline.
    pub underline: Range<usize>,
}

impl Place {
    /// The place of some bytes of a text; any range will do.
    pub(super) fn new(origin: &str, text: &str, span: Range<usize>, numbered: bool) -> Self {
        let start = floor(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line = text[line_start..line_end].trim_end_matches('\r');
        let number = text[..start].matches('\n').count() + 1;
        let from = line[..floor(line, start - line_start)].chars().count();
        let end = floor(line, span.end.clamp(start, line_end) - line_start);
        let to = line[..end].chars().count().max(from + 1);
        let (line, underline) = crop(line, from..to);
        Self {
            origin: origin.into(),
            position: numbered.then_some([number, from + 1]),
            line,
            underline,
        }
    }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The line as printed: no tabs or control characters, and not too wide.
fn crop(line: &str, underline: Range<usize>) -> (String, Range<usize>) {
    let characters: Vec<char> = line
        .chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect();
    if characters.len() <= WIDEST_LINE {
        return (characters.into_iter().collect(), underline);
    }
    let first = underline.start.saturating_sub(WIDEST_LINE / 3);
    let last = (first + WIDEST_LINE).min(characters.len());
    let head = if first > 0 { "... " } else { "" };
    let tail = if last < characters.len() { " ..." } else { "" };
    let middle: String = characters[first..last].iter().collect();
    let start = underline.start - first + head.len();
    let end = underline.end.min(last) - first + head.len();
    (format!("{head}{middle}{tail}"), start..end.max(start + 1))
}

/// Escape sequences around the parts of a rendered problem.
#[derive(Debug, Clone, Copy)]
struct Colours {
    head: &'static str,
    gutter: &'static str,
    end: &'static str,
}

impl Diagnostic {
    /// A block of lines: the message, the place with its source line underlined, what to do.
    pub fn render(&self, coloured: bool) -> String {
        let Colours { head, gutter, end } = match (coloured, self.severity) {
            (false, _) => Colours {
                head: "",
                gutter: "",
                end: "",
            },
            (true, severity) => Colours {
                head: match severity {
                    Severity::Error => "\x1b[1;31m",
                    Severity::Warning => "\x1b[1;33m",
                },
                gutter: "\x1b[1;34m",
                end: "\x1b[0m",
            },
        };
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut text = format!("{head}{word}{end}: {}\n", self.message);
        let mut indent = String::from(" ");
        if let Some(place) = &self.place {
            let number = place.position.map(|[line, _]| line.to_string());
            let number = number.unwrap_or_else(|| " ".into());
            let blank = " ".repeat(number.len());
            let at = place
                .position
                .map_or(String::new(), |[line, column]| format!(":{line}:{column}"));
            let before = " ".repeat(place.underline.start);
            let marks = "^".repeat(place.underline.len());
            text.push_str(&format!("{blank}{gutter}-->{end} {}{at}\n", place.origin));
            text.push_str(&format!("{blank} {gutter}|{end}\n"));
            let line = format!("{gutter}{number} |{end} {}", place.line);
            text.push_str(line.trim_end());
            text.push('\n');
            text.push_str(&format!(
                "{blank} {gutter}|{end} {before}{head}{marks}{end}\n"
            ));
            indent = blank + " ";
        }
        for line in self.help.iter().flat_map(|help| help.lines()) {
            text.push_str(&format!("{indent}{gutter}={end} help: {line}\n"));
        }
        text
    }
}

/// All problems of one or more configurations.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Report {
    /// One a problem, in the order of the sources.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    pub(super) fn new(mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|diagnostic| diagnostic.order);
        diagnostics.dedup();
        Self { diagnostics }
    }

    /// The problems of several configurations, each of them once; `None` if there are none.
    pub fn merged(reports: Vec<Self>) -> Option<Self> {
        let mut all: Vec<Diagnostic> = Vec::new();
        for diagnostic in reports.into_iter().flat_map(|report| report.diagnostics) {
            let same = |other: &Diagnostic| {
                (&other.message, &other.place) == (&diagnostic.message, &diagnostic.place)
            };
            if !all.iter().any(same) {
                all.push(diagnostic);
            }
        }
        (!all.is_empty()).then_some(Self { diagnostics: all })
    }

    /// One block a problem, and their number if there are several.
    pub fn render(&self, coloured: bool) -> String {
        let blocks: Vec<String> = self
            .diagnostics
            .iter()
            .map(|diagnostic| diagnostic.render(coloured))
            .collect();
        let mut text = blocks.join("\n");
        if blocks.len() > 1 {
            text.push_str(&format!("\n{} problems\n", blocks.len()));
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_shown_and_underlined() {
        let text = "a = 1\nänd = \"x\"\r\n";
        let start = text.find('"').unwrap();
        let diagnostic = Diagnostic {
            help: Some("do".into()),
            place: Some(Box::new(Place::new("c.toml", text, start..start + 3, true))),
            ..Diagnostic::new("bad")
        };
        insta::assert_snapshot!(diagnostic.render(false), @r#"
        error: bad
         --> c.toml:2:7
          |
        2 | änd = "x"
          |       ^^^
          = help: do
        "#);
        assert!(
            diagnostic
                .render(true)
                .contains("\x1b[1;31merror\x1b[0m: bad")
        );
    }

    #[test]
    fn any_range_of_any_text_has_a_place() {
        for text in ["", "\n", "é\té\n\u{1}", &"x é".repeat(300)] {
            for start in 0..text.len() + 3 {
                for end in [0, start, start + 1, start + 400] {
                    Place::new("f", text, start..end, true);
                }
            }
        }
    }
}
