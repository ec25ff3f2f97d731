//! `xp new [FOLDER]`: looks at a folder of pictures and writes a commented configuration for it.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::starter::{Choice, Pictures, Starter};
use super::{Exit, Failure, Printer};
use crate::cli::NewArgs;
use crate::fsx;
use crate::graph::summary::thousands;

/// Runs the command.
pub fn run(args: &NewArgs, printer: &Printer) -> Result<(), Failure> {
    let choice = Choice::of(args)?;
    let folder = folder(args, printer)?;
    let name = name_of(&folder);
    let output = Output::of(args, &name)?;
    let pictures = Pictures::look(&folder)?;
    say_found(&folder, &pictures, printer);
    let file = output.shown(&name);
    let starter = Starter::new(name, pictures, &choice, &output.folder()?)?;
    let text = starter.text(&file);
    match &output {
        Output::Stdout => printer.data(text.trim_end()),
        Output::File(path) => {
            fsx::write_atomic(path, text.as_bytes())?;
            say_written(&file, &starter, printer);
        }
    }
    Ok(())
}

/// The folder that was named, or is when asked.
fn folder(args: &NewArgs, printer: &Printer) -> Result<PathBuf, Failure> {
    if let Some(folder) = &args.folder {
        return Ok(folder.clone());
    }
    let question = "Which folder holds the pictures, one folder a class? ";
    let answer = printer.ask(question)?.unwrap_or_default();
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match typed(&answer, home.as_deref()) {
        Some(folder) => Ok(folder),
        None => Err(Failure::new(Exit::Config, "no folder of pictures is named")
            .help("name one: `xp new FOLDER`; or a CSV file of paths and labels")),
    }
}

/// A path as people type it or drag it into a terminal: quoted, with escaped spaces, from `~` on.
fn typed(answer: &str, home: Option<&Path>) -> Option<PathBuf> {
    let answer = answer.trim();
    let quoted = ['\'', '"'].into_iter().find_map(|quote| {
        let inner = answer.strip_prefix(quote)?;
        inner.strip_suffix(quote)
    });
    let path = match quoted {
        Some(inner) => inner.to_owned(),
        None if cfg!(unix) => answer.replace("\\ ", " "),
        None => answer.to_owned(),
    };
    match (path.strip_prefix('~'), home) {
        _ if path.is_empty() => None,
        (Some(""), Some(home)) => Some(home.to_owned()),
        (Some(rest), Some(home)) if rest.starts_with('/') => Some(home.join(&rest[1..])),
        _ => Some(path.into()),
    }
}

/// A name for the experiment: the folder's, without what names may not hold.
fn name_of(folder: &Path) -> String {
    const LONGEST: usize = 60;
    // `.` and `..` have a name, too.
    let real = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let stem = match real.is_dir() {
        true => real.file_name(),
        false => real.file_stem(),
    };
    let stem = stem.map(|stem| stem.to_string_lossy().into_owned());
    let name: String = stem
        .unwrap_or_default()
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.' => c,
            _ => '_',
        })
        .take(LONGEST)
        .collect();
    match name.trim_matches(['.', '-', '_']) {
        "" => "experiment".into(),
        name => name.into(),
    }
}

/// Where the configuration goes.
enum Output {
    Stdout,
    File(PathBuf),
}

impl Output {
    fn of(args: &NewArgs, name: &str) -> Result<Self, Failure> {
        let path = match &args.output {
            Some(path) if path.as_os_str() == "-" => return Ok(Self::Stdout),
            Some(path) => path.clone(),
            None => format!("{name}.toml").into(),
        };
        if path.exists() && !args.force {
            let message = format!("`{}` exists already", path.display());
            return Err(Failure::new(Exit::Config, message)
                .help("`--force` replaces it, `--output OTHER.toml` writes elsewhere"));
        }
        Ok(Self::File(path))
    }

    /// The file, as commands name it.
    fn shown(&self, name: &str) -> String {
        match self {
            Self::Stdout => format!("{name}.toml"),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// The folder that paths in the configuration are relative to.
    fn folder(&self) -> Result<PathBuf, Failure> {
        let folder = match self {
            Self::Stdout => Path::new(""),
            Self::File(path) => path.parent().unwrap_or(Path::new("")),
        };
        Ok(std::env::current_dir()?.join(folder))
    }
}

/// What there is, on stderr.
fn say_found(folder: &Path, pictures: &Pictures, printer: &Printer) {
    printer.note(format!("{}: {}", folder.display(), pictures.found()));
    for warning in pictures.warnings() {
        printer.warning(warning);
    }
}

/// What was written and what comes next.
fn say_written(file: &str, starter: &Starter, printer: &Printer) {
    let [train, val, test] = starter.pictures.total();
    if printer.json {
        let mut answer = starter.json();
        answer["config"] = json!(file);
        printer.data(answer.to_string());
        return;
    }
    printer.data(format!(
        "{file}: {} at {} px, {} train, {} val, {} test pictures",
        starter.family.name,
        starter.size,
        thousands(train),
        thousands(val),
        thousands(test)
    ));
    printer.note(format!("next: xp run {file}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_as_people_type_them() {
        let home = Some(Path::new("/home/ada"));
        for (answer, path) in [
            ("flowers\n", Some("flowers")),
            ("  '/data/my flowers' ", Some("/data/my flowers")),
            ("\"a b\"", Some("a b")),
            ("~", Some("/home/ada")),
            ("~/flowers", Some("/home/ada/flowers")),
            ("~ada", Some("~ada")),
            ("\n", None),
            ("''", None),
        ] {
            assert_eq!(typed(answer, home), path.map(PathBuf::from), "{answer:?}");
        }
        if cfg!(unix) {
            let dragged = typed("/data/my\\ flowers ", None);
            assert_eq!(dragged, Some(PathBuf::from("/data/my flowers")));
        }
    }

    #[test]
    fn names_are_the_folders() {
        for (folder, name) in [
            ("no/such/flowers", "flowers"),
            ("no/such/my flowers (2)", "my_flowers__2"),
            ("no/such/...", "experiment"),
            ("no/such/花", "experiment"),
            ("no/such/list.csv", "list"),
        ] {
            assert_eq!(name_of(Path::new(folder)), name);
        }
    }
}
