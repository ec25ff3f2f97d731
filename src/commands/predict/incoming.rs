//! `xp predict --watch`: pictures as they come into folders.

use std::path::Path;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::{Model, Output};
use crate::cli::PredictArgs;
use crate::commands::{Exit, Failure, Printer, interrupt, pictures};
use crate::data::{self, Arrival, Arrivals, Fate};

/// Signals are answered within this time.
const PATIENCE: Duration = Duration::from_millis(50);

/// Looking at folders takes one part of so many at most.
const LOOKING: u32 = 10;

/// Classifies what comes until a signal does.
pub(super) fn run(args: &PredictArgs, model: &Model, printer: &Printer) -> Result<(), Failure> {
    if let Some(missing) = args.images.iter().find(|path| !path.exists()) {
        let message = format!("there is no `{}` to watch", missing.display());
        return Err(Failure::new(Exit::Data, message).help("make the folder first"));
    }
    interrupt::watch()?;
    let interval = Duration::from_secs_f64(args.interval);
    let mut arrivals = Arrivals::of(&args.images, args.only_new);
    let mut output = Output::new(args, printer, model.top(args));
    printer.note("waiting for pictures; Ctrl-C ends it");
    loop {
        let begun = Instant::now();
        let mut worked = Duration::ZERO;
        let warnings = arrivals.look(begun, &mut |due| {
            let begun = Instant::now();
            let fates = classify(due, model, &mut output)?;
            worked += begun.elapsed();
            Ok::<_, Failure>((output.open && !interrupt::asked()).then_some(fates))
        })?;
        for warning in warnings {
            printer.warning(warning);
        }
        let looked = begun.elapsed().saturating_sub(worked);
        let pause = interval.max((LOOKING - 1) * looked);
        let begun = Instant::now();
        while begun.elapsed() < pause {
            if interrupt::asked() || !output.open {
                return Ok(());
            }
            std::thread::sleep(PATIENCE.min(pause));
        }
    }
}

/// Answers those that can be read.
fn classify(due: &[Arrival], model: &Model, output: &mut Output<'_>) -> Result<Vec<Fate>, Failure> {
    let load = |arrival: &Arrival| {
        data::load_picture(
            &arrival.path,
            &model.classifier.preprocess,
            model.classifier.framing,
        )
    };
    let decoded: Vec<_> = due.par_iter().map(load).collect();
    let mut good: Vec<(&Path, Vec<f32>)> = Vec::new();
    let mut fates = Vec::new();
    for (arrival, picture) in due.iter().zip(decoded) {
        let fate = match picture {
            Ok(pixels) => {
                good.push((&arrival.path, pixels));
                Fate::Done
            }
            // Gone again, which is nobody's fault.
            Err(_) if !arrival.path.exists() => Fate::Done,
            Err(error) => {
                if arrival.last {
                    output.printer.warning(error.to_string());
                }
                Fate::Unreadable
            }
        };
        fates.push(fate);
    }
    let (paths, pixels): (Vec<&Path>, Vec<Vec<f32>>) = good.into_iter().unzip();
    if !paths.is_empty() {
        let batch = pictures::batch(pixels.concat(), paths.len(), &model.classifier.preprocess)?;
        model.answer(&paths, batch, output)?;
    }
    Ok(fates)
}
