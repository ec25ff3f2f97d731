//! Many experiments: from axes to trials, from trials to processes, from run directories to a table.
//!
//! What a trial came to is read from its run directory, as anybody could.

pub mod axes;
pub mod condition;
pub mod folder;
pub mod halving;
pub mod pool;
pub mod results;
pub mod statistics;
pub mod trial;

pub use condition::Condition;
pub use folder::SweepDir;
pub use pool::{Ended, Pool, Watcher};
pub use results::{Leaderboard, TrialResult};
pub use trial::Trial;
