//! `xp export RUN`: a trained model as a file that other tools run, or load.

use std::path::PathBuf;

use super::restored::Restored;
use super::{Exit, Failure, Printer};
use crate::cli::{ExportArgs, ExportFormat, PackageName};
use crate::config::{Interpolation, size};
use crate::export::checkpoint::{self, Checkpoint, Package};
use crate::export::onnx::{self, Input};
use crate::fsx;

/// Runs the command.
pub fn run(args: &ExportArgs, printer: &Printer) -> Result<(), Failure> {
    check_flags(args)?;
    let model = Restored::open_checkpoint(&args.model, &args.checkpoint)?;
    match args.format {
        ExportFormat::Onnx => onnx(args, &model, printer),
        ExportFormat::Safetensors => safetensors(args, &model, printer),
    }
}

/// Fails if flags are given that go with the other format.
fn check_flags(args: &ExportArgs) -> Result<(), Failure> {
    let (given, format) = match args.format {
        ExportFormat::Onnx => (
            [
                ("--names", args.names.is_some()),
                ("--split-head", args.split_head),
            ],
            "safetensors",
        ),
        ExportFormat::Safetensors => ([("--pictures", args.pictures), ("", false)], "onnx"),
    };
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((flag, _)) => {
            let message = format!("`{flag}` goes with `--format {format}`");
            Err(Failure::new(Exit::Config, message).help("leave it out, or add the format"))
        }
    }
}

fn onnx(args: &ExportArgs, model: &Restored, printer: &Printer) -> Result<(), Failure> {
    let input = match args.pictures {
        true => Input::Pictures,
        false => Input::Scaled,
    };
    if args.pictures && model.preprocess.interpolation == Interpolation::Lanczos {
        let message = "ONNX has no Lanczos filter, which the model's pictures are resized with";
        let help = "leave `--pictures` out and resize before the model";
        return Err(Failure::new(Exit::Config, message).help(help));
    }
    let [version, backbone, classes] = about(model);
    let preprocess = ("xp.preprocess", model.preprocess.describe());
    let metadata = [version, backbone, preprocess, classes];
    let bytes = onnx::encode(
        &onnx::Network {
            graph: &model.graph,
            params: &model.params,
            preprocess: &model.preprocess,
            name: &model.experiment.name,
            metadata: &metadata,
        },
        input,
    )?;
    let pictures = if args.pictures { ".pictures" } else { "" };
    let path = write(args, model, &format!("{pictures}.onnx"), &bytes)?;
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

fn safetensors(args: &ExportArgs, model: &Restored, printer: &Printer) -> Result<(), Failure> {
    let network = checkpoint::Network {
        graph: &model.graph,
        params: &model.params,
        model: &model.experiment.model,
        flavour: model.flavour,
        preprocess: &model.preprocess,
    };
    let package = match args.names {
        Some(PackageName::Timm) => Package::Timm,
        Some(PackageName::Torchvision) => Package::Torchvision,
        None => Package::of(network.model, network.flavour),
    };
    let checkpoint = match args.split_head {
        true => Checkpoint::split(&network, package)?,
        false => Checkpoint::whole(&network, package)?,
    };
    let bytes = checkpoint.encode(&network, &about(model))?;
    let path = write(args, model, &format!(".{package}.safetensors"), &bytes)?;
    let architecture = &checkpoint.architecture;
    if printer.json {
        let answer = serde_json::json!({
            "model": path,
            "bytes": bytes.len(),
            "library": package.to_string(),
            "architecture": architecture.name,
            "arguments": architecture.arguments,
            "split_head": args.split_head,
            "classes": model.classes,
        });
        printer.data(answer.to_string());
        return Ok(());
    }
    printer.data(path.display().to_string());
    let head = match args.split_head {
        true => {
            "; the head beside it is `xp_head.N.*`, as the metadata says: load with strict=False"
        }
        false => " with strict=True",
    };
    let size = size::show(bytes.len() as u64);
    printer.note(format!("{size}; `{architecture}` loads it{head}"));
    Ok(())
}

/// What every export says of where it comes from.
fn about(model: &Restored) -> [(&'static str, String); 3] {
    [
        ("xp.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("xp.backbone", model.experiment.model.backbone.clone()),
        ("classes", serde_json::json!(model.classes).to_string()),
    ]
}

/// Writes what was asked for, beside the model as `model` and `suffix` if nothing else was named;
/// the last weights under a name of their own.
fn write(
    args: &ExportArgs,
    model: &Restored,
    suffix: &str,
    bytes: &[u8],
) -> Result<PathBuf, Failure> {
    if let Some(path) = &args.output {
        fsx::write_atomic(path, bytes)?;
        return Ok(path.clone());
    }
    let last = match args.checkpoint.as_str() {
        "last" => ".last",
        _ => "",
    };
    model.write_beside(&format!("model{last}{suffix}"), bytes)
}
