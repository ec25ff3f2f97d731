//! `xp completions`: completions for a shell.

use clap::CommandFactory;

use super::{Failure, Printer};
use crate::cli::{Cli, CompletionsArgs};

/// Prints the completion script.
pub fn run(args: &CompletionsArgs, printer: &Printer) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "xp", &mut script);
    printer.data(String::from_utf8_lossy(&script));
    Ok(())
}
