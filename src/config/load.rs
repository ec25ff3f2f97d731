//! Layers: defaults < `extends` < file < `XP_*` environment < `--set key=value`.

use std::path::Path;

use super::diagnose::{Problem, Report};
use super::schema::Experiment;

/// A configuration that passed every check that needs nothing but itself.
#[derive(Debug)]
pub struct Loaded {
    /// Every value in force, paths made absolute against the file that names them.
    pub experiment: Experiment,
    /// The file as written.
    pub text: String,
}

/// Loads and checks a configuration file.
pub fn load(_path: &Path, _sets: &[String]) -> Result<Loaded, Report> {
    todo!()
}

impl Loaded {
    /// Locates problems that only later stages can see (an unknown layer, a cutoff that freezes
    /// nothing) in the sources that this configuration came from.
    pub fn report(&self, _problems: &[Problem]) -> Report {
        todo!()
    }

    /// `resolved.toml`: every value in force, enough to run it again.
    pub fn resolved(&self) -> String {
        todo!()
    }
}
