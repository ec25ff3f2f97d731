//! Many experiments: from axes to trials, from trials to processes, from run directories to a table.
//!
//! What a trial came to is read from its run directory, as anybody could.

pub mod axes;
pub mod condition;
pub mod folder;
pub mod halving;
pub mod launcher;
pub mod pool;
pub mod results;
pub mod slurm;
pub mod statistics;
pub mod trial;

pub use condition::Condition;
pub use folder::SweepDir;
pub use launcher::{Ended, LaunchError, Launcher, Watcher};
pub use pool::Pool;
pub use results::{Leaderboard, TrialResult};
pub use slurm::Slurm;
pub use trial::Trial;
