//! The experiment: schema, layered loading, diagnosis.

pub mod schema;

pub use schema::*;
