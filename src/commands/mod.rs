//! One file a command, each a column of values. The only layer that prints and decides exit codes.

pub mod blueprint;
pub mod cache;
pub mod card;
pub mod changes;
pub mod check;
pub mod classifier;
pub mod compare;
pub mod completions;
pub mod data;
mod device;
pub mod diff;
pub mod drawings;
pub mod dry_run;
pub mod evaluate;
pub mod experiment;
pub mod explain;
mod explained;
pub mod export;
pub mod failure;
pub mod feature_file;
pub mod features;
pub mod follow;
pub mod handed;
pub mod interrupt;
pub mod logging;
pub mod lr_find;
pub mod man;
pub mod memory;
pub mod models;
pub mod network;
pub mod new;
pub mod outcome;
pub mod overlays;
pub mod page;
pub mod pictures;
pub mod plot;
pub mod predict;
pub mod pretrained;
pub mod printer;
pub mod progress;
pub mod ranks;
pub mod recorder;
pub mod restored;
pub mod results;
pub mod resume;
pub mod run;
pub mod runs;
pub mod schema;
pub mod serve;
pub mod starter;
pub mod state;
pub mod summary;
pub mod sweep;
pub mod sweep_page;
pub mod table;
pub mod terminal;
pub mod testing;
pub mod thumbnails;
pub mod track;
pub mod tracked;
pub mod tracker;
pub mod trials;
pub mod verify_resume;
pub mod watch;

pub use failure::{Exit, Failure};
pub use printer::Printer;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::ranks::Ranks;

/// Parses the command line, runs the command, prints a failure once, gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut printer = Printer {
        quiet: cli.global.quiet,
        json: cli.global.json,
        mute: false,
    };
    logging::init(printer.coloured());
    let done = ranks::of(&cli.command, &printer).and_then(|ranks| {
        if !ranks.is_first() {
            printer.quiet = true;
            printer.mute = true;
        }
        ranks::conclude(dispatch(&cli.command, &ranks, &printer), &ranks)
    });
    match done {
        Ok(code) => code,
        Err(failure) => {
            if !failure.untold {
                printer.failure(&failure);
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn dispatch(command: &Command, ranks: &Ranks, printer: &Printer) -> Result<ExitCode, Failure> {
    match command {
        Command::New(args) => new::run(args, printer),
        Command::Run(args) if args.dry_run => dry_run::run(&args.config, printer),
        Command::Run(args) => run::run(args, ranks, printer),
        Command::Sweep(args) => sweep::run(args, printer),
        Command::Compare(args) => compare::run(args, printer),
        Command::Runs(args) => runs::run(args, printer),
        Command::Watch(args) => watch::run(args, printer),
        Command::Diff(args) => return diff::run(args, printer),
        Command::Resume(args) => resume::run(args, ranks, printer),
        Command::VerifyResume(args) => verify_resume::run(args, printer),
        Command::Check(args) => check::run(args, printer),
        Command::LrFind(args) => lr_find::run(args, printer),
        Command::Schema => schema::run(printer),
        Command::Data(args) => data::run(args, printer),
        Command::Plot(args) => plot::run(args, printer),
        Command::Report(args) => page::run(args, printer),
        Command::Evaluate(args) => evaluate::run(args, printer),
        Command::Track(args) => track::run(args, printer),
        Command::Predict(args) => predict::run(args, printer),
        Command::Explain(args) => explain::run(args, printer),
        Command::Export(args) => export::run(args, printer),
        Command::Serve(args) => serve::run(args, printer),
        Command::Features(args) => features::run(args, printer),
        Command::Models => models::run(printer),
        Command::Cache(args) => cache::run(args, printer),
        Command::Completions(args) => completions::run(args, printer),
        Command::Man(args) => man::run(args, printer),
        Command::Summary(args) => summary::run(args, printer),
    }?;
    Ok(ExitCode::SUCCESS)
}
