//! `xp man`: manual pages, made from what `--help` says.

use std::fs;
use std::io::{self, Write};

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::{Failure, Printer};
use crate::cli::{Cli, ManArgs};
use crate::fsx::{self, FsError};

/// Prints the page of xp, or writes all pages into a folder.
pub fn run(args: &ManArgs, printer: &Printer) -> Result<(), Failure> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = &args.dir else {
        let page = page(&command)?;
        printer.data(String::from_utf8_lossy(&page).trim_end());
        return Ok(());
    };
    fs::create_dir_all(folder).map_err(FsError::at("create", folder))?;
    let mut paths = Vec::new();
    for command in all(&command) {
        let path = folder.join(format!("{}.1", name(command)));
        fsx::write_atomic(&path, &page(command)?)?;
        paths.push(path);
    }
    if printer.json {
        printer.data(serde_json::json!({ "pages": paths }).to_string());
        return Ok(());
    }
    for path in paths {
        printer.data(path.display().to_string());
    }
    Ok(())
}

/// A command and those below it.
fn all(command: &Command) -> Vec<&Command> {
    let below = command
        .get_subcommands()
        .filter(|it| it.get_name() != "help" && !it.is_hide_set());
    let mut found = vec![command];
    found.extend(below.flat_map(all));
    found
}

/// `xp-cache-gc`.
fn name(command: &Command) -> &str {
    let name = command.get_display_name();
    name.unwrap_or_else(|| command.get_name())
}

/// The page of a command.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .source(concat!("xp ", env!("CARGO_PKG_VERSION")))
        .manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let end = command.get_after_help().map(ToString::to_string);
    after_help(&end.unwrap_or_default(), &mut page)?;
    Ok(page)
}

/// Examples keep their lines; what comes below them is text.
fn after_help(text: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let mut kept = false;
    for line in text.lines() {
        if line == "Examples:" {
            writeln!(page, ".SH EXAMPLES\n.nf")?;
            kept = true;
        } else if line.is_empty() && kept {
            writeln!(page, ".fi\n.SH NOTES")?;
            kept = false;
        } else {
            writeln!(page, "{}", escaped(line))?;
        }
    }
    match kept {
        true => writeln!(page, ".fi"),
        false => Ok(()),
    }
}

/// A line as roff shows it: hyphens as they are typed, and no control line.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', r"\e").replace('-', r"\-");
    let control = line.starts_with(['.', '\'']);
    format!("{}{line}", if control { r"\&" } else { "" })
}
