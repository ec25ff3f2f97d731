//! `xp export RUN`: a trained model as a file that other tools run.

use super::restored::Restored;
use super::{Exit, Failure, Printer};
use crate::cli::ExportArgs;
use crate::config::{Interpolation, size};
use crate::export::onnx::{self, Input, Network};
use crate::fsx;

/// Runs the command.
pub fn run(args: &ExportArgs, printer: &Printer) -> Result<(), Failure> {
    let model = Restored::open_checkpoint(&args.model, &args.checkpoint)?;
    let input = match args.pictures {
        true => Input::Pictures,
        false => Input::Scaled,
    };
    if args.pictures && model.preprocess.interpolation == Interpolation::Lanczos {
        let message = "ONNX has no Lanczos filter, which the model's pictures are resized with";
        let help = "leave `--pictures` out and resize before the model";
        return Err(Failure::new(Exit::Config, message).help(help));
    }
    let metadata = [
        ("xp.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("xp.backbone", model.experiment.model.backbone.clone()),
        ("xp.preprocess", model.preprocess.describe()),
        ("classes", serde_json::json!(model.classes).to_string()),
    ];
    let bytes = onnx::encode(
        &Network {
            graph: &model.graph,
            params: &model.params,
            preprocess: &model.preprocess,
            name: &model.experiment.name,
            metadata: &metadata,
        },
        input,
    )?;
    let path = match &args.output {
        Some(path) => {
            fsx::write_atomic(path, &bytes)?;
            path.clone()
        }
        None => model.write_beside(&name(args), &bytes)?,
    };
    if printer.json {
        let answer = serde_json::json!({
            "model": path,
            "bytes": bytes.len(),
            "input": match input {
                Input::Pictures => onnx::PICTURES,
                Input::Scaled => onnx::INPUT,
            },
            "outputs": [onnx::LOGITS, onnx::PROBABILITIES],
            "classes": model.classes,
        });
        printer.data(answer.to_string());
        return Ok(());
    }
    printer.data(path.display().to_string());
    let [height, width] = model.preprocess.image_size;
    let takes = match input {
        Input::Pictures => "`pictures`, bytes [batch, height, width, 3] of any size".to_owned(),
        Input::Scaled => format!(
            "`input`, floats [batch, 3, {height}, {width}] scaled as its metadata says (`--pictures` \
             has it do that)"
        ),
    };
    printer.note(format!(
        "{}; takes {takes}; gives `logits` and `probabilities` of {} classes",
        size::show(bytes.len() as u64),
        model.classes.len()
    ));
    Ok(())
}

/// `model.onnx`; other weights and another input have names of their own.
fn name(args: &ExportArgs) -> String {
    let last = if args.checkpoint == "last" {
        ".last"
    } else {
        ""
    };
    let pictures = if args.pictures { ".pictures" } else { "" };
    format!("model{last}{pictures}.onnx")
}
