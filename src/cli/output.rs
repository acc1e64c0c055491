//! The output of commands: text, or proto3 JSON.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use prost::{Message, Name};
use serde_json::Value;

use super::text::{FieldTree, printable, table};
use super::{Failure, json};

/// The format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text for a terminal.
    Text,
    /// The response of the RPC as proto3 JSON.
    Json,
}

/// Prints responses to the standard output and notes to the standard error.
pub(super) struct Output {
    format: Format,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether the output is JSON.
    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints a message; as text, one line for each field.
    pub(super) fn message<M: Message + Name>(&self, message: &M) -> Result<(), Failure> {
        let (value, descriptor) = json::to_json(message)?;
        match self.format {
            Format::Json => print(&format!("{value:#}\n")),
            Format::Text => print(&FieldTree::of(&value, Some(&descriptor)).lines()),
        }
    }

    /// Prints a JSON value; as text, one line for each field.
    pub(super) fn value(&self, value: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Json => print(&format!("{value:#}\n")),
            Format::Text => print(&FieldTree::of(value, None).lines()),
        }
    }

    /// Prints one message of a stream on one line.
    pub(super) fn item<M: Message + Name>(&self, message: &M) -> Result<(), Failure> {
        let (value, descriptor) = json::to_json(message)?;
        match self.format {
            Format::Json => print(&format!("{value}\n")),
            Format::Text => print(&format!("{}\n", FieldTree::of(&value, Some(&descriptor)).line())),
        }
    }

    /// Prints a message that holds a list in its field `rows`; as text, a table of `columns` with one line for each row.
    pub(super) fn list<M: Message + Name>(&self, message: &M, rows: &str, columns: &[&str]) -> Result<(), Failure> {
        let (value, descriptor) = json::to_json(message)?;
        if self.is_json() {
            return print(&format!("{value:#}\n"));
        }
        let field = descriptor.get_field_by_name(rows);
        let row = field.as_ref().and_then(|field| field.kind().as_message().cloned());
        let rows = field.and_then(|field| value[field.json_name()].as_array());
        let rows = rows.map_or(&[][..], Vec::as_slice);
        let rows: Vec<FieldTree> = rows.iter().map(|value| FieldTree::of(value, row.as_ref())).collect();
        print(&table(&rows, columns))
    }

    /// Prints a note for a person to the standard error; nothing if the output is JSON.
    pub(super) fn note(&self, text: &str) {
        if self.format == Format::Text {
            self.remark(text);
        }
    }

    /// Prints a remark to the standard error, also if the output is JSON.
    #[expect(clippy::unused_self, reason = "all output goes through this type")]
    pub(super) fn remark(&self, text: &str) {
        // A failure to write to a closed stream is ignored.
        let _ = writeln!(anstream::stderr(), "{}", printable(text));
    }
}

/// A progress bar on the standard error; hidden if that is not a terminal.
pub(super) fn progress(steps: Option<u64>, template: &str) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template(template);
    ProgressBar::with_draw_target(steps, target).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Prints text to the standard output.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Prints an error as one line on the standard error.
pub(super) fn print_error(message: &str) {
    let message = printable(message);
    // A failure to write to a closed stream cannot be reported.
    let _ = writeln!(anstream::stderr(), "\x1b[1;31merror:\x1b[0m {message}");
}
