//! The experiment: schema, layered loading, diagnosis.

pub mod diagnose;
pub mod load;
pub mod schema;

pub use diagnose::{Problem, Report};
pub use load::{Loaded, load};
pub use schema::*;
