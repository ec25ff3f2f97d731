//! `xp schema`: the JSON Schema of a configuration, for editors.

use super::{Failure, Printer};
use crate::config;

/// Prints the schema.
pub fn run(printer: &Printer) -> Result<(), Failure> {
    printer.data(format!("{:#}", config::json_schema()));
    Ok(())
}
