//! `[tracking]`: runs in formats that other programs read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[tracking]`: what other programs get to see of a run, while it goes on. Results do not depend
/// on it, and a server that is away or slow holds nothing up; `xp track` sends the rest later.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackingConfig {
    /// Whether the run directory gets an event file for TensorBoard: `tensorboard --logdir runs`.
    #[serde(default)]
    pub tensorboard: bool,
    /// Where MLflow gets to see the run: the address of a tracking server,
    /// `"http://localhost:5000"`, or a folder in MLflow's own layout, `"mlruns"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mlflow: Option<String>,
    /// MLflow's experiment that the run belongs to. Default: `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<String>,
}

impl TrackingConfig {
    /// Whether it asks for nothing.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether MLflow is a server, not a folder.
pub fn is_server(mlflow: &str) -> bool {
    mlflow.starts_with("http://") || mlflow.starts_with("https://")
}
