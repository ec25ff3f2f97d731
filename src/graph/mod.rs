//! The layer graph: a backbone and its head as one ordered list of named nodes.

mod auxiliary;
pub mod build;
mod cost;
pub mod cutoff;
mod head;
mod layers;
pub mod nearest;
pub mod node;
mod pattern;
pub mod places;
pub mod rates;
mod shapes;
pub mod stages;
pub mod summary;

pub use build::{Graph, GraphBuilder, GraphError};
pub use node::{Node, NodeId, Op, ParamKind, ParamSpec, Part, Shape};
