//! The only writer to the terminal: data to stdout, notes and warnings to stderr.

use std::io::{IsTerminal, Write};

use super::Failure;
use crate::config::Diagnostic;

/// What the global flags ask of the output.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    /// Say only warnings and errors on stderr.
    pub quiet: bool,
    /// Answer in JSON on stdout.
    pub json: bool,
    /// Say nothing at all: another rank does.
    pub mute: bool,
}

impl Printer {
    /// Writes a line of data to stdout. A closed pipe is no error.
    pub fn data(&self, text: impl AsRef<str>) {
        if self.mute {
            return;
        }
        // A reader that went away (`xp predict ... | head`) wants no more; there is nothing to report.
        let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
    }

    /// Writes a line of data to stdout at once, and says whether anybody still reads.
    pub fn line(&self, text: impl AsRef<str>) -> bool {
        let mut stdout = std::io::stdout();
        let written = writeln!(stdout, "{}", text.as_ref());
        written.and_then(|()| stdout.flush()).is_ok()
    }

    /// Writes a note to stderr, unless quiet.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
        }
    }

    /// Writes a warning to stderr.
    pub fn warning(&self, text: impl AsRef<str>) {
        if !self.mute {
            let _ = writeln!(std::io::stderr(), "warning: {}", text.as_ref());
        }
    }

    /// Asks on the terminal; `None` where nobody is there to answer.
    pub fn ask(&self, question: &str) -> std::io::Result<Option<String>> {
        let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
        if self.json || !stdin.is_terminal() || !stderr.is_terminal() {
            return Ok(None);
        }
        write!(stderr, "{question}")?;
        stderr.flush()?;
        let mut answer = String::new();
        stdin.read_line(&mut answer)?;
        Ok(Some(answer))
    }

    /// Writes the warnings of a configuration to stderr, each with its place.
    pub fn config_warnings(&self, warnings: &[Diagnostic]) {
        for warning in warnings.iter().filter(|_| !self.mute) {
            let _ = writeln!(std::io::stderr(), "{}", warning.render(self.coloured()));
        }
    }

    /// Writes why a command failed to stderr, with `--json` as one JSON object.
    pub fn failure(&self, failure: &Failure) {
        let text = failure.render(self.json, self.coloured());
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    /// Characters of a line of stdout; `None` if it is no terminal.
    pub fn width(&self) -> Option<usize> {
        let (width, _) = terminal_size::terminal_size_of(std::io::stdout())?;
        Some(usize::from(width.0))
    }

    /// Whether stderr is a terminal: progress bars instead of lines.
    pub fn interactive(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }

    /// Whether messages may be coloured: on a terminal, unless `NO_COLOR` is set.
    pub fn coloured(&self) -> bool {
        wants_colour() && std::io::stderr().is_terminal()
    }

    /// The same of data.
    pub fn coloured_data(&self) -> bool {
        wants_colour() && std::io::stdout().is_terminal()
    }
}

/// As <https://no-color.org> has it.
fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
