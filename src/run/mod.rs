//! The run directory: the only layer that writes under it.

pub mod checkpoint;
pub mod dir;
mod error;
pub mod log;
pub mod manifest;
pub mod model;
mod tensors;

pub use checkpoint::Checkpoint;
pub use dir::{RunDir, Slot};
pub use error::RunError;
pub use log::{MetricsLog, MetricsWriter};
pub use manifest::{BestMetrics, Fingerprints, Manifest, ManifestWriter, Status};
pub use model::ModelFile;
pub use tensors::Tensors;
