//! One file a command, each a column of values. The only layer that prints and decides exit codes.

pub mod failure;
pub mod printer;
pub mod summary;

pub use failure::{Exit, Failure};
pub use printer::Printer;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

/// Parses the command line, runs the command, prints a failure once, gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let printer = Printer {
        quiet: cli.global.quiet,
        json: cli.global.json,
    };
    match dispatch(&cli.command, &printer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            printer.failure(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn dispatch(command: &Command, printer: &Printer) -> Result<(), Failure> {
    match command {
        Command::Summary(args) => summary::run(args, printer),
        other => Err(Failure::new(
            Exit::Other,
            format!("not built yet: {other:?}"),
        )),
    }
}
