//! The device that a configuration names, opened when something is computed on it.

use candle_core::Device;

use super::Printer;
use crate::config::{Experiment, Problem};
use crate::engine::params::Params;
use crate::gpu::Gpu;
use crate::precision::Precision;
use crate::ranks::Ranks;

/// Where tensors lie: in main memory, but for Apple's GPUs, which must be asked for. An error if this build of xp cannot
/// compute there.
pub(super) fn of_tensors(name: &str) -> Result<Device, Problem> {
    match name {
        // What has never run on an Apple GPU is not what anybody gets who did not ask for it.
        "cpu" | "auto" => Ok(Device::Cpu),
        "metal" => apple().map_err(|error| {
            Problem::new("device", format!("`metal` cannot be used: {error}"))
                .help("use `device = \"cpu\"` or `\"auto\"`")
        }),
        _ if cfg!(feature = "cuda") => Ok(Device::Cpu),
        other => {
            let message =
                format!("this build of xp cannot compute on `{other}`: it was built without CUDA");
            let help = "use `device = \"cpu\"` or `\"auto\"`, or build xp with \
                        `cargo build --release --features cuda`";
            Err(Problem::new("device", message).help(help))
        }
    }
}

#[cfg(feature = "metal")]
fn apple() -> Result<Device, String> {
    Device::new_metal(0).map_err(|error| error.to_string())
}

#[cfg(not(feature = "metal"))]
fn apple() -> Result<Device, String> {
    Err("this build of xp has no Metal".into())
}

/// Opens the NVIDIA GPU that the configuration asks for; `None` if it computes elsewhere. `auto`
/// takes the first that there is, and says why it takes none where it could have been. Several
/// processes share steps on the CPU alone.
pub(super) fn open(
    experiment: &Experiment,
    ranks: &Ranks,
    printer: &Printer,
) -> Result<Option<Gpu>, Problem> {
    let name = experiment.device.as_str();
    let opened = match name {
        "cpu" => return Ok(None),
        "auto" if !ranks.is_alone() => return Ok(None),
        _ if !ranks.is_alone() => {
            let message = format!("`{name}` computes for one process, and these are several");
            let help = "use `device = \"cpu\"` with several processes, or one process";
            return Err(Problem::new("device", message).help(help));
        }
        "metal" => return Ok(None),
        _ => nvidia(experiment),
    };
    match opened {
        Ok(Some(gpu)) => {
            let precision = gpu.precision().name();
            printer.note(format!("device: {}, {precision}", gpu.describe()));
            Ok(Some(gpu))
        }
        Ok(None) => {
            rounds_nothing(experiment, printer);
            Ok(None)
        }
        Err(reason) if name == "auto" => {
            printer.note(format!("device: the CPU, as {reason}"));
            rounds_nothing(experiment, printer);
            Ok(None)
        }
        Err(reason) => Err(
            Problem::new("device", format!("`{name}` cannot be used: {reason}"))
                .help("use `device = \"cpu\"` or `\"auto\"`, or mend what is said to be missing"),
        ),
    }
}

/// Says so where a precision was asked for that only a GPU has.
fn rounds_nothing(experiment: &Experiment, printer: &Printer) {
    if let Some(precision) = experiment.precision.filter(|it| *it != Precision::F32) {
        printer.warning(format!(
            "`precision = \"{}\"` has no effect on the CPU, which computes in f32",
            precision.name()
        ));
    }
}

#[cfg(feature = "cuda")]
fn nvidia(experiment: &Experiment) -> Result<Option<Gpu>, String> {
    let number = experiment.device.strip_prefix("cuda:");
    let number = number.and_then(|it| it.parse().ok()).unwrap_or(0);
    let precision = experiment.precision.unwrap_or(Precision::Tf32);
    let opened = crate::gpu::cuda::open(number, precision, experiment.deterministic);
    opened.map(Some).map_err(|error| error.to_string())
}

#[cfg(not(feature = "cuda"))]
fn nvidia(experiment: &Experiment) -> Result<Option<Gpu>, String> {
    match experiment.device.as_str() {
        "auto" => Ok(None),
        _ => Err("this build of xp has no CUDA".into()),
    }
}

/// What computes, for people: the device and how it does.
pub(super) fn describe(params: &Params, gpu: Option<&Gpu>) -> String {
    match gpu.or_else(|| params.gpu()) {
        Some(gpu) => format!("{}, {}", gpu.describe(), gpu.precision().name()),
        None if params.device().is_metal() => "metal".into(),
        None => "cpu".into(),
    }
}
