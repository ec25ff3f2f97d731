//! Runs in formats that other programs read: TensorBoard's event files, MLflow's folders and its
//! REST interface. Works from rows and names alone, and knows no run directory.

mod events;
pub mod mlflow;
mod story;
pub mod tensorboard;

pub use story::{Ending, Point, State, Story, parameters, points};
