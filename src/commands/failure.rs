//! How a command fails: one message with what, where and what to do, and an exit code.

use std::fmt;

use crate::config;
use crate::data::DataError;
use crate::export::checkpoint::Refusal;
use crate::fsx::FsError;
use crate::report::DrawError;
use crate::run::RunError;
use crate::sweep::LaunchError;
use crate::train::feed::FeedError;
use crate::train::fit::FitError;
use crate::train::selfcheck::{Fault, SelfCheckError};
use crate::weights::WeightsError;

/// Exit codes of the command line; see the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Anything without a code of its own.
    Other = 1,
    /// Usage or configuration.
    Config = 2,
    /// Data.
    Data = 3,
    /// Out of memory.
    Memory = 4,
    /// A loss or gradient is not finite.
    NonFinite = 5,
    /// Some trials of a sweep failed.
    Trials = 6,
    /// Interrupted and resumable.
    Interrupted = 75,
}

impl Exit {
    /// What a process of xp that ended with this code meant by it; `None` ended by a signal.
    pub fn of(code: Option<i32>) -> Self {
        let known = [
            Self::Config,
            Self::Data,
            Self::Memory,
            Self::NonFinite,
            Self::Trials,
            Self::Interrupted,
        ];
        let found = known.into_iter().find(|it| Some(*it as i32) == code);
        found.unwrap_or(Self::Other)
    }
}

/// A failed command.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What the process exits with.
    pub exit: Exit,
    /// What went wrong and where; may span lines.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The problems of a configuration, each with its own head; printed instead of the message.
    pub report: Option<config::Report>,
    /// Whether another process tells of it.
    pub untold: bool,
}

impl Failure {
    /// A failure with a message.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
            help: None,
            report: None,
            untold: false,
        }
    }

    /// Adds what to do.
    pub fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }

    /// The failure as lines for people, or as one JSON object.
    pub fn render(&self, json: bool, coloured: bool) -> String {
        if json {
            return self.to_json().to_string();
        }
        if let Some(report) = &self.report {
            return report.render(coloured).trim_end().to_string();
        }
        let (head, end) = if coloured {
            ("\x1b[1;31m", "\x1b[0m")
        } else {
            ("", "")
        };
        let help = self.help.iter().map(|help| format!("\n  help: {help}"));
        format!("{head}error{end}: {}", self.message) + &help.collect::<String>()
    }

    /// What is wrong, in a line that can stand within another message.
    pub fn reason(&self) -> &str {
        let message = self.message.strip_prefix("error: ");
        let message = message.unwrap_or(&self.message);
        message.lines().next().unwrap_or(message)
    }

    fn to_json(&self) -> serde_json::Value {
        let mut object = serde_json::json!({
            "error": self.message,
            "help": self.help,
            "exit": self.exit as u8,
        });
        if let Some(report) = &self.report {
            object["error"] = match report.diagnostics.as_slice() {
                [only] => only.message.clone().into(),
                several => format!("{} problems in the configuration", several.len()).into(),
            };
            let problems = report.diagnostics.iter().map(|problem| {
                let position = problem.place.as_ref().and_then(|place| place.position);
                serde_json::json!({
                    "error": problem.message,
                    "help": problem.help,
                    "origin": problem.place.as_ref().map(|place| &place.origin),
                    "line": position.map(|[line, _]| line),
                    "column": position.map(|[_, column]| column),
                })
            });
            object["problems"] = problems.collect();
        }
        object
    }
}

impl From<config::Report> for Failure {
    fn from(report: config::Report) -> Self {
        Self {
            report: Some(report.clone()),
            ..Self::new(Exit::Config, report)
        }
    }
}

/// The problems of many configurations, to be shown together.
#[derive(Debug, Default)]
pub struct Reports(Vec<config::Report>);

impl Reports {
    /// What is good; keeps the problems of the rest.
    ///
    /// # Errors
    /// What is no problem of a configuration ends it.
    pub fn sift<T>(
        &mut self,
        results: impl IntoIterator<Item = Result<T, Failure>>,
    ) -> Result<Vec<T>, Failure> {
        let mut good = Vec::new();
        for result in results {
            match result {
                Ok(value) => good.push(value),
                Err(Failure {
                    report: Some(report),
                    ..
                }) => self.0.push(report),
                Err(failure) => return Err(failure),
            }
        }
        Ok(good)
    }

    /// # Errors
    /// With all problems, each of them once.
    pub fn conclude(self) -> Result<(), Failure> {
        match config::Report::merged(self.0) {
            Some(report) => Err(report.into()),
            None => Ok(()),
        }
    }
}

/// A name on the command line that stands for nothing; of a configuration, problems are located.
impl From<config::Problem> for Failure {
    fn from(problem: config::Problem) -> Self {
        Self {
            help: problem.help,
            ..Self::new(Exit::Config, problem.message)
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Other, error)
    }
}

impl From<candle_core::Error> for Failure {
    fn from(error: candle_core::Error) -> Self {
        Self::new(Exit::Other, error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let exit = match error {
            RunError::NotARun { .. } | RunError::Foreign { .. } => Exit::Config,
            _ => Exit::Other,
        };
        let help = error.help().map(str::to_owned);
        Self {
            help,
            ..Self::new(exit, error)
        }
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::Run(error) => error.into(),
            LaunchError::Scheduler { .. } => Self::new(Exit::Other, error),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let exit = match refusal {
            Refusal::Unresolved(_) | Refusal::Tensor(_) => Exit::Other,
            _ => Exit::Config,
        };
        let help = refusal.help();
        Self {
            help,
            ..Self::new(exit, refusal)
        }
    }
}

impl From<FsError> for Failure {
    fn from(error: FsError) -> Self {
        Self::new(Exit::Other, error)
    }
}

impl From<DrawError> for Failure {
    fn from(error: DrawError) -> Self {
        Self::new(Exit::Other, error)
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        let exit = match error {
            // A contradiction within the configuration, not in the data.
            DataError::Crop { .. } | DataError::NoSource | DataError::SplitSource { .. } => {
                Exit::Config
            }
            _ => Exit::Data,
        };
        Self::new(exit, &error).help(error.help())
    }
}

impl From<WeightsError> for Failure {
    fn from(error: WeightsError) -> Self {
        let help = error.help();
        Self {
            help,
            ..Self::new(Exit::Other, error)
        }
    }
}

impl From<FeedError> for Failure {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Data(error) => error.into(),
            FeedError::Tensor(error) => error.into(),
            FeedError::Ranks(error) => error.into(),
            FeedError::Interrupted => Self::new(
                Exit::Interrupted,
                "interrupted; everything up to the last step is kept",
            ),
        }
    }
}

impl From<FitError> for Failure {
    fn from(error: FitError) -> Self {
        match error {
            FitError::Feed(error) => error.into(),
            FitError::Engine(error) => error.into(),
            FitError::NonFinite { .. } => Self::new(Exit::NonFinite, error).help(
                "lower the learning rate of that phase, or give its schedule a `warmup_epochs`",
            ),
            FitError::SelfCheck(SelfCheckError::Offences { ref offences, .. })
                if offences
                    .iter()
                    .any(|offence| matches!(offence.fault, Fault::NotFinite(_))) =>
            {
                Self::new(Exit::NonFinite, error)
            }
            FitError::SelfCheck(_) | FitError::Observer(_) => Self::new(Exit::Other, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_error_once() {
        let plain = Failure::new(Exit::Data, "no pictures in `x`").help("look there");
        assert_eq!(
            plain.render(false, false),
            "error: no pictures in `x`\n  help: look there"
        );
        assert_eq!(
            plain.render(true, false),
            r#"{"error":"no pictures in `x`","help":"look there","exit":3}"#
        );
        let report = config::load(std::path::Path::new("does-not-exist.toml"), &[]).unwrap_err();
        let text = Failure::from(report).render(false, false);
        assert_eq!(text.matches("error:").count(), 1, "{text}");
    }
}
