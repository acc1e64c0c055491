//! Answers: text for people, or proto3 JSON.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use prost::{Message, Name};
use serde_json::Value;

use super::text::{Tree, printable, table};
use super::{Failure, json};

/// What an answer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// The RPC's response as proto3 JSON.
    Json,
}

/// Where answers go.
pub(super) struct Out {
    format: Format,
}

impl Out {
    pub(super) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether the answer is JSON.
    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// One message: a line a field.
    pub(super) fn message<M: Message + Name>(&self, message: &M) -> Result<(), Failure> {
        let (value, descriptor) = json::of(message)?;
        match self.format {
            Format::Json => print(&format!("{value:#}\n")),
            Format::Text => print(&Tree::of(&value, Some(&descriptor)).lines()),
        }
    }

    /// One value that is no message: a line a field.
    pub(super) fn value(&self, value: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Json => print(&format!("{value:#}\n")),
            Format::Text => print(&Tree::of(value, None).lines()),
        }
    }

    /// One of a stream of messages: a line.
    pub(super) fn item<M: Message + Name>(&self, message: &M) -> Result<(), Failure> {
        let (value, descriptor) = json::of(message)?;
        match self.format {
            Format::Json => print(&format!("{value}\n")),
            Format::Text => print(&format!("{}\n", Tree::of(&value, Some(&descriptor)).line())),
        }
    }

    /// A message that is a list: a table of `columns` with a line for each of the messages in its field `rows`.
    pub(super) fn list<M: Message + Name>(&self, message: &M, rows: &str, columns: &[&str]) -> Result<(), Failure> {
        let (value, descriptor) = json::of(message)?;
        if self.is_json() {
            return print(&format!("{value:#}\n"));
        }
        let row = descriptor
            .get_field_by_name(rows)
            .and_then(|field| field.kind().as_message().cloned());
        let rows = value[rows].as_array().map_or(&[][..], Vec::as_slice);
        let rows: Vec<Tree> = rows.iter().map(|value| Tree::of(value, row.as_ref())).collect();
        print(&table(&rows, columns))
    }

    /// Tells people what was done; a script that asked for JSON is not told.
    pub(super) fn note(&self, text: &str) {
        if self.format == Format::Text {
            // Nothing depends on whether anybody reads it.
            let _ = writeln!(anstream::stderr(), "{}", printable(text));
        }
    }
}

/// How far a long piece of work has come, drawn for people who look on: on the error stream, if that is a terminal.
pub(super) fn progress(steps: Option<u64>, template: &str) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template(template);
    ProgressBar::with_draw_target(steps, target).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Prints text that is the answer as it is.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// One line on the standard error that says what is wrong.
pub(super) fn complain(message: &str) {
    let message = printable(message);
    // If nobody reads it there is nobody to tell.
    let _ = writeln!(anstream::stderr(), "\x1b[1;31merror:\x1b[0m {message}");
}
