//! The experiment: schema, layered loading, diagnosis.

pub mod diagnose;
mod layer;
pub mod load;
mod path;
mod place;
pub mod schema;
mod shape;
pub mod size;
mod sources;
mod suggest;
mod validate;
mod validate_augment;
mod validate_data;
mod validate_head;
mod validate_phase;
mod words;

pub use crate::activation::Activation;
pub use diagnose::{Diagnostic, Problem, Report, Severity};
pub use layer::WEIGHT_EXTENSIONS;
pub use load::{
    Loaded, Located, SweepFile, decides, load, load_sweep, load_trial, load_with, raw_trial,
};
pub use path::{canonical, step_into};
pub use schema::*;
pub use shape::json_schema;
