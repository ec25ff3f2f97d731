//! The run directory: the only layer that writes under it.

pub mod checkpoint;
pub mod compare;
pub mod dir;
mod error;
mod event_file;
mod events;
pub mod list;
mod lock;
pub mod log;
pub mod manifest;
pub mod model;
mod probabilities;
pub mod process;
mod tensors;

pub use checkpoint::Checkpoint;
pub use compare::Comparison;
pub use dir::{RunDir, Slot};
pub use error::RunError;
pub use event_file::EventsWriter;
pub use events::{Event, EventLog, Level};
pub use list::{Condition, Listed};
pub use log::{MetricsLog, MetricsWriter};
pub use manifest::{BestMetrics, Fingerprints, Manifest, ManifestWriter, Status};
pub use model::ModelFile;
pub use process::Process;
pub use tensors::Tensors;
