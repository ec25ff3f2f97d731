//! Every command's help ends with examples, every one of which parses; manual pages hold them, too.

use clap::{Command, CommandFactory, Parser};
use xp::cli::Cli;

use super::experiments::{succeeds, xp};

/// The commands and those below them, `help` aside.
fn commands(command: &Command) -> Vec<Command> {
    let below = command.get_subcommands();
    let below = below.filter(|it| it.get_name() != "help" && !it.is_hide_set());
    let mut found = vec![command.clone()];
    found.extend(below.flat_map(commands));
    found
}

fn all() -> Vec<Command> {
    let mut command = Cli::command();
    command.build();
    commands(&command)
}

/// The lines under `Examples:`, without what is said of them.
fn examples(command: &Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string);
    let help = help.unwrap_or_default();
    let Some((_, examples)) = help.split_once("Examples:\n") else {
        return Vec::new();
    };
    let lines = examples.lines().take_while(|line| !line.is_empty());
    let lines = lines.filter_map(|line| line.strip_prefix("  xp "));
    lines.map(|line| format!("xp {line}")).collect()
}

/// The words of a shell's line up to a redirection or what is said of it.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line;
    while !rest.is_empty() && !rest.starts_with([' ', '>', '|', '(']) {
        let mut word = String::new();
        let mut quoted = false;
        let mut length = 0;
        for c in rest.chars() {
            if c == ' ' && !quoted {
                break;
            }
            length += c.len_utf8();
            match c {
                '\'' => quoted = !quoted,
                c => word.push(c),
            }
        }
        assert!(!quoted, "{line}");
        words.push(word);
        rest = &rest[length..];
        rest = rest.strip_prefix(' ').unwrap_or(rest);
    }
    words
}

#[test]
fn every_example_parses() {
    let mut count = 0;
    for command in all() {
        let name = command.get_bin_name().unwrap_or("xp").to_owned();
        let lines = examples(&command);
        let most = if name == "xp" { 12 } else { 3 };
        assert!((1..=most).contains(&lines.len()), "`{name}` has {lines:?}");
        for line in lines {
            let words = words(&line);
            let parsed = Cli::try_parse_from(&words);
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            let own = name
                .split(' ')
                .all(|part| words.iter().any(|word| word == part));
            assert!(own, "`{line}` is no example of `{name}`");
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
}

#[test]
fn lines_of_examples_are_short() {
    for command in all() {
        let help = command.get_after_help().map(ToString::to_string);
        for line in help.unwrap_or_default().lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let page = succeeds(xp(&["man"]));
    assert!(
        page.contains(".TH xp 1") && page.contains(".SH EXAMPLES"),
        "{page}"
    );
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("man1");
    let said = succeeds(xp(&["man", "--dir", folder.to_str().unwrap()]));
    assert_eq!(said.lines().count(), all().len());
    for command in all() {
        let name = command.get_display_name().unwrap_or("xp");
        let page = std::fs::read_to_string(folder.join(format!("{name}.1"))).unwrap();
        let example = examples(&command).swap_remove(0).replace('-', "\\-");
        assert!(page.contains(&example), "{page}");
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
}
