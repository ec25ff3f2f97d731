//! What people should see of a run's log.

use serde::Serialize;

use crate::commands::table;
use crate::run::{Event, Level};

/// A line of the log that people should see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Whether it is a warning or an error.
    pub warning: bool,
    /// In words.
    pub text: String,
}

/// What people should see of an event: warnings and errors, phases and rows.
pub(super) fn message(event: &Event) -> Option<Message> {
    let warning = event.level >= Level::Warn;
    let text = match event.message() {
        _ if warning => with_fields(event),
        "evaluation" => row_line(event),
        "phase" => format!("phase {}", event.text("phase").unwrap_or("?")),
        "stopped early" => {
            let phase = event.text("phase").unwrap_or("?");
            format!("phase {phase} stopped early: no more improvement")
        }
        _ => return None,
    };
    Some(Message {
        warning,
        text: table::printable(&text),
    })
}

fn with_fields(event: &Event) -> String {
    let mut text = event.message().to_owned();
    for (name, value) in event.fields.iter().filter(|(name, _)| *name != "message") {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        text.push_str(&match text.is_empty() {
            true => format!("{name}: {value}"),
            false => format!(" ({name}: {value})"),
        });
    }
    text
}

fn row_line(event: &Event) -> String {
    let mut line = match event.number("epoch") {
        Some(epoch) => format!("epoch {epoch}"),
        None => "evaluation".into(),
    };
    for (field, name) in [("train_loss", "loss"), ("val_loss", "val_loss")] {
        if let Some(value) = event.number(field) {
            line.push_str(&format!("  {name} {value:.4}"));
        }
    }
    if let Some(accuracy) = event.number("val_accuracy") {
        line.push_str(&format!("  val_acc {accuracy:.3}"));
    }
    line
}
