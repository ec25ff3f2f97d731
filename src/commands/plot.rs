//! `xp plot`: one run's drawings made again, or several runs overlaid.

use std::path::{Path, PathBuf};

use super::drawings::{self, Drawings};
use super::{Exit, Failure, Printer};
use crate::cli::PlotArgs;
use crate::fsx;
use crate::records::MetricsRow;
use crate::report::{self, Format, Kind};
use crate::run::RunDir;

/// Draws from what the run directory holds alone, so that runs of any age can be drawn again.
pub fn run(args: &PlotArgs, printer: &Printer) -> Result<(), Failure> {
    let wanted = Wanted::of(args)?;
    let runs = args.runs.iter().map(|path| load(path, printer));
    let runs: Vec<Loaded> = runs.collect::<Result<_, _>>()?;
    let drawn = match runs.as_slice() {
        [one] => draw_one(one, &wanted, printer)?,
        several => draw_several(several, &wanted)?,
    };
    if printer.json {
        printer.data(serde_json::json!({ "pictures": drawn }).to_string());
    } else {
        for path in drawn {
            printer.data(path.display().to_string());
        }
    }
    Ok(())
}

/// What the command line asks for.
#[derive(Debug)]
struct Wanted {
    /// Kinds, in order, each once.
    kinds: Vec<Kind>,
    /// Whether a kind that cannot be drawn is passed over.
    lenient: bool,
    format: Format,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// The run's directory; the working directory for several runs.
    Usual,
    Folder(PathBuf),
    File(PathBuf),
}

impl Place {
    fn of(output: Option<&Path>) -> Self {
        match output {
            None => Self::Usual,
            Some(path) if path.is_dir() => Self::Folder(path.to_path_buf()),
            Some(path) => Self::File(path.to_path_buf()),
        }
    }
}

impl Wanted {
    fn of(args: &PlotArgs) -> Result<Self, Failure> {
        let usage = |message: String, help: &str| Failure::new(Exit::Config, message).help(help);
        let place = Place::of(args.output.as_deref());
        let given = args.kinds.iter().flat_map(|kind| kind.kinds());
        let mut kinds: Vec<Kind> = Vec::new();
        for kind in given {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        // `all` is what there is, and so is what is drawn unasked.
        let lenient = kinds.is_empty() || kinds.len() == Kind::ALL.len();
        if args.runs.len() > 1 {
            if let Some(kind) = kinds.iter().find(|kind| **kind != Kind::Curves) {
                let message = format!("`{}` is drawn of one run at a time", kind.name());
                return Err(usage(
                    message,
                    "of several runs only their `curves` are overlaid",
                ));
            }
            kinds = vec![Kind::Curves];
        } else if kinds.is_empty() {
            kinds = match place {
                Place::File(_) => vec![Kind::Curves],
                _ => vec![Kind::Curves, Kind::Confusion],
            };
        }
        if let (Place::File(path), true) = (&place, kinds.len() > 1) {
            let (path, count) = (path.display(), kinds.len());
            let message = format!("`{path}` is no folder, and cannot hold {count} pictures");
            return Err(usage(message, "give a folder that exists, or one `--kind`"));
        }
        let ending = match &place {
            Place::File(path) => path
                .extension()
                .map(|it| it.to_string_lossy().to_lowercase()),
            _ => None,
        };
        let told = Format::ALL
            .into_iter()
            .find(|format| ending.as_deref() == Some(format.name()));
        let asked = args.format.map(|format| format.format());
        if let (Some(told), Some(asked), Some(path)) = (told, asked, &args.output)
            && told != asked
        {
            let (path, asked) = (path.display(), asked.name());
            let message = format!("`{path}` does not end as `--format {asked}` does");
            return Err(usage(
                message,
                "change one of them, or leave out `--format`",
            ));
        }
        Ok(Self {
            kinds,
            lenient,
            format: asked.or(told).unwrap_or(Format::Png),
            place,
        })
    }
}

struct Loaded {
    dir: RunDir,
    rows: Vec<MetricsRow>,
}

fn load(path: &Path, printer: &Printer) -> Result<Loaded, Failure> {
    let dir = RunDir::open(path).map_err(|error| Failure {
        exit: Exit::Config,
        ..error.into()
    })?;
    let file = dir.metrics_csv();
    if !file.exists() {
        return Err(
            Failure::new(Exit::Other, format!("`{}` is not there", file.display()))
                .help("the run ended before its first epoch; run it again with `xp run`"),
        );
    }
    let log = dir.metrics()?;
    if log.torn {
        printer.warning(format!(
            "`{}` ends in the middle of a row; that row is left out",
            file.display()
        ));
    }
    if log.rows.is_empty() {
        return Err(
            Failure::new(Exit::Other, format!("`{}` has no rows", file.display()))
                .help("the run has not finished an epoch; wait for the first one"),
        );
    }
    Ok(Loaded {
        dir,
        rows: log.rows,
    })
}

fn draw_one(
    Loaded { dir, rows }: &Loaded,
    wanted: &Wanted,
    printer: &Printer,
) -> Result<Vec<PathBuf>, Failure> {
    let drawings = Drawings {
        run: dir,
        rows,
        title: &dir.name(),
        dataset: None,
    };
    let mut drawn = Vec::new();
    for &kind in &wanted.kinds {
        let name = drawings::file_name(kind, wanted.format);
        let elsewhere = match &wanted.place {
            Place::Usual => None,
            Place::Folder(folder) => Some(folder.join(&name)),
            Place::File(path) => Some(path.clone()),
        };
        let written = match elsewhere {
            None => drawings.write(kind, wanted.format, printer),
            Some(path) => {
                let drawing = drawings.draw(kind, printer);
                drawing.and_then(|drawing| save(&drawing, wanted.format, path))
            }
        };
        match written {
            Ok(path) => drawn.push(path),
            // What all of them lack is said once, below.
            Err(_) if kind.needs_test() && !drawings.is_tested() && wanted.lenient => {}
            Err(failure) if wanted.lenient && kind != Kind::Curves => {
                let reason = failure.reason();
                printer.warning(format!("`{name}` is not drawn: {reason}"));
            }
            Err(failure) => return Err(failure),
        }
    }
    if wanted.kinds.len() == Kind::ALL.len() && !drawings.is_tested() {
        let missing = dir.test_json();
        printer.note(format!(
            "`{}` is not there: drawn is what needs no test",
            missing.display()
        ));
    }
    Ok(drawn)
}

fn save(drawing: &report::Canvas, format: Format, path: PathBuf) -> Result<PathBuf, Failure> {
    fsx::write_atomic(&path, &drawing.encode(format)?)?;
    Ok(path)
}

fn draw_several(runs: &[Loaded], wanted: &Wanted) -> Result<Vec<PathBuf>, Failure> {
    let names: Vec<String> = runs.iter().map(|run| run.dir.name()).collect();
    let named = runs.iter().zip(&names).map(|(run, name)| {
        // Runs of one experiment are told apart by their folders' names.
        let repeated = names.iter().filter(|other| *other == name).count() > 1;
        let name = if repeated {
            run.dir.folder_name()
        } else {
            name.clone()
        };
        (name, run.rows.clone())
    });
    let drawing = report::overlay(&named.collect::<Vec<_>>());
    let name = format!("compare.{}", wanted.format.name());
    let output = match &wanted.place {
        Place::Usual => PathBuf::from(name),
        Place::Folder(folder) => folder.join(name),
        Place::File(path) => path.clone(),
    };
    Ok(vec![save(&drawing, wanted.format, output)?])
}
