//! The only writer to the terminal: data to stdout, notes and warnings to stderr.

use std::io::{IsTerminal, Write};

/// What the global flags ask of the output.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    /// Say only warnings and errors on stderr.
    pub quiet: bool,
    /// Answer in JSON on stdout.
    pub json: bool,
}

impl Printer {
    /// Writes a line of data to stdout. A closed pipe is no error.
    pub fn data(&self, text: impl AsRef<str>) {
        // A reader that went away (`xp models | head`) wants no more; there is nothing to report.
        let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
    }

    /// Writes a note to stderr, unless quiet.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
        }
    }

    /// Writes a warning to stderr.
    pub fn warning(&self, text: impl AsRef<str>) {
        let _ = writeln!(std::io::stderr(), "warning: {}", text.as_ref());
    }

    /// Whether stderr is a terminal: progress bars instead of lines.
    pub fn interactive(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }
}

impl Printer {
    /// Writes why a command failed to stderr.
    pub fn failure(&self, failure: &super::Failure) {
        let mut stderr = std::io::stderr().lock();
        let _ = writeln!(stderr, "error: {}", failure.message);
        if let Some(help) = &failure.help {
            let _ = writeln!(stderr, "  help: {help}");
        }
    }
}
