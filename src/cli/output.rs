//! Answers: text for people, or proto3 JSON.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::ValueEnum;
use prost::{Message, Name};
use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

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
        self.value(&json::of(message)?)
    }

    /// One value: a line a field.
    pub(super) fn value(&self, value: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Json => print(&format!("{value:#}\n")),
            Format::Text => print(&fields(value)),
        }
    }

    /// One of a stream of messages: a line.
    pub(super) fn item<M: Message + Name>(&self, message: &M) -> Result<(), Failure> {
        let value = json::of(message)?;
        match self.format {
            Format::Json => print(&format!("{value}\n")),
            Format::Text => {
                let line: Vec<String> = flat(&value)
                    .into_iter()
                    .map(|(name, text)| format!("{name}={text}"))
                    .collect();
                print(&format!("{}\n", line.join(" ")))
            }
        }
    }

    /// Tells people what was done; a script that asked for JSON is not told.
    pub(super) fn note(&self, text: &str) {
        if self.format == Format::Text {
            // Nothing depends on whether anybody reads it.
            let _ = writeln!(anstream::stderr(), "{}", printable(text));
        }
    }
}

/// One line on the standard error that says what is wrong.
pub(super) fn complain(message: &str) {
    let message = printable(message);
    // If nobody reads it there is nobody to tell.
    let _ = writeln!(anstream::stderr(), "\x1b[1;31merror:\x1b[0m {message}");
}

/// `text` on one line, with what a terminal would obey instead of show made visible.
pub(super) fn printable(text: &str) -> String {
    let hidden = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.trim_end()
        .chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            match c {
                '\n' => out.push(' '),
                c if hidden(c) => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
            out
        })
}

/// Prints text that is the answer as it is.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// A line a field: the name, then the value. What is empty is left out.
fn fields(value: &Value) -> String {
    let lines = flat(value);
    let width = lines.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
    let mut shown = String::new();
    for (name, text) in &lines {
        let _ = writeln!(shown, "{name:width$}  {text}");
    }
    shown
}

/// The fields of a message with those of the messages in it, by path.
fn flat(value: &Value) -> Vec<(String, String)> {
    fn walk(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
        if let Value::Object(map) = value {
            for (name, value) in map {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                walk(&path, value, found);
            }
        } else {
            let text = cell(value);
            if !text.is_empty() {
                found.push((printable(path), text));
            }
        }
    }
    let mut found = Vec::new();
    walk("", value, &mut found);
    found
}

/// A value as people read it.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Object(_) => printable(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_aligned_and_empty_ones_left_out() {
        let value = json!({"active": true, "claims": {"scope": ["a", "b"], "subject": "s"}, "reason": "", "n": 0});
        assert_eq!(
            fields(&value),
            "active          true\nclaims.scope    a b\nclaims.subject  s\nn               0\n"
        );
    }
}
