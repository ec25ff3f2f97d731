//! MLflow: a tracking server, or a folder in its own layout.
//!
//! Telling is exact by being told anew: [`Mlflow::tell`] gets the whole run up to now, finds out what
//! is there already and adds the rest. So a run that was killed, or that another process goes on
//! with, has no value twice and misses none, and what failed once is simply told again.

mod folder;
mod server;

use std::path::Path;

pub use self::folder::Folder;
pub use self::server::Server;
use super::{Ending, Point, State, Story};
use crate::config::is_server;

/// The tag that tells a run from all others.
const IDENTITY: &str = "xp.run";

/// Who is told.
#[derive(Debug)]
pub enum Mlflow {
    /// A tracking server.
    Server(Box<Server>),
    /// A folder.
    Folder(Folder),
}

impl Mlflow {
    /// What `mlflow` names: an address or a folder. `authorization` is the header that a server
    /// may want.
    pub fn new(mlflow: &str, authorization: Option<String>) -> Self {
        match is_server(mlflow) {
            true => Self::Server(Box::new(Server::new(mlflow, authorization))),
            false => Self::Folder(Folder::new(Path::new(mlflow))),
        }
    }

    /// Makes MLflow's run what the run is: `points` are all its rows so far.
    ///
    /// # Errors
    /// Why it could not, in words; what was told by then stays.
    pub fn tell(
        &mut self,
        story: &Story,
        points: &[Point],
        ending: Option<&Ending>,
    ) -> Result<(), String> {
        match self {
            Self::Server(server) => server.tell(story, points, ending),
            Self::Folder(folder) => folder
                .tell(story, points, ending)
                .map_err(|error| error.to_string()),
        }
    }

    /// What was told but left something out, in words.
    pub fn left_out(&self) -> Option<&str> {
        match self {
            Self::Server(server) => server.left_out(),
            Self::Folder(_) => None,
        }
    }
}

/// Every tag of a run.
fn tags(story: &Story) -> Vec<(&str, &str)> {
    let own = [
        (IDENTITY, story.id.as_str()),
        ("mlflow.runName", story.name.as_str()),
        ("mlflow.source.name", "xp"),
        ("mlflow.source.type", "LOCAL"),
    ];
    let more = story.tags.iter().map(|(name, value)| (&**name, &**value));
    own.into_iter().chain(more).collect()
}

/// Values of a run as a whole belong to its last step.
fn last_step(points: &[Point]) -> i64 {
    points.last().map_or(0, |point| point.step)
}

/// Every value: name, value, time, step.
fn values<'a>(
    points: &'a [Point],
    ending: Option<&'a Ending>,
) -> impl Iterator<Item = (&'a str, f64, i64, i64)> {
    let rows = points.iter().flat_map(|point| {
        let values = point.values.iter();
        values.map(move |&(name, value)| (name, value, point.time, point.step))
    });
    let step = last_step(points);
    let results = ending.into_iter().flat_map(move |ending| {
        let results = ending.results.iter();
        results.map(move |(name, value)| (&**name, *value, ending.time, step))
    });
    rows.chain(results)
}

/// MLflow's word for a state, and its number.
fn status(state: State) -> (&'static str, u8) {
    match state {
        State::Running => ("RUNNING", 1),
        State::Finished => ("FINISHED", 3),
        State::Failed => ("FAILED", 4),
        State::Killed => ("KILLED", 5),
    }
}

#[cfg(test)]
mod tests;
