//! Reads the rows of a file of users.

use std::io::{self, BufRead, Chain, Cursor, Read};
use std::path::Path;

use super::fields::Fields;
use super::{json, table};
use crate::account::users::ImportRow;
use crate::model::{Error, Result};

/// The longest line in bytes: far more than a valid row needs.
const MAX_LINE: u64 = 64 * 1024;

/// The bytes at the start of a file that tell its format.
const HEAD: u64 = 1024;

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";
const UTF16_MARKS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// The format of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// One JSON object on each line.
    JsonLines,
    /// Comma-separated values with a header.
    Csv,
}

impl FileFormat {
    /// The format by the extension of the file name; `None` if it says nothing.
    pub(in crate::cli) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// The format by the first bytes: a line of JSON begins with a brace.
    fn guess(head: &[u8]) -> Self {
        if head.trim_ascii_start().starts_with(b"{") {
            Self::JsonLines
        } else {
            Self::Csv
        }
    }
}

/// The rows of a file.
pub struct Rows<R> {
    source: Source<Chain<Cursor<Vec<u8>>, R>>,
}

/// A row, with the line on which it begins, from 1. `None` after the last row.
pub type NextRow<T> = io::Result<Option<(u64, Result<T>)>>;

enum Source<R> {
    JsonLines { input: R, line: u64 },
    Csv(table::Table<R>),
}

impl<R: BufRead> Rows<R> {
    /// Starts to read, and reads the header of a CSV file. Without a format, the content tells it. A byte order mark is skipped.
    /// The error says what is wrong with the file as a whole.
    ///
    /// # Errors
    /// The text for the user.
    pub fn read(format: Option<FileFormat>, mut input: R) -> Result<Self, String> {
        let mut head = Vec::new();
        let read = input.by_ref().take(HEAD).read_to_end(&mut head);
        read.map_err(|error| error.to_string())?;
        if UTF16_MARKS.iter().any(|mark| head.starts_with(mark)) {
            return Err("the file is UTF-16; save it as UTF-8".to_owned());
        }
        let head = head.strip_prefix(UTF8_MARK).unwrap_or(&head).to_vec();
        if head.trim_ascii_start().starts_with(b"[") {
            return Err(
                "the file is one JSON array; write one object on each line: `mongoexport` without --jsonArray, or `jq -c '.[]'`"
                    .to_owned(),
            );
        }
        let format = format.unwrap_or_else(|| FileFormat::guess(&head));
        let input = Cursor::new(head).chain(input);
        let source = match format {
            FileFormat::JsonLines => Source::JsonLines { input, line: 0 },
            FileFormat::Csv => Source::Csv(table::Table::read(input)?),
        };
        Ok(Self { source })
    }

    /// The next row. An error ends the file.
    pub fn next_row(&mut self) -> NextRow<ImportRow> {
        let next = match &mut self.source {
            Source::JsonLines { input, line } => next_object(input, line)?,
            Source::Csv(table) => table.next_row()?,
        };
        Ok(next.map(|(line, fields)| (line, fields.and_then(Fields::into_row))))
    }
}

fn next_object(input: &mut impl BufRead, line: &mut u64) -> NextRow<Fields> {
    loop {
        *line += 1;
        match next_line(input)? {
            None => return Ok(None),
            Some(text) if text.len() as u64 > MAX_LINE => {
                let problem = format!("is longer than {MAX_LINE} bytes");
                return Ok(Some((*line, Err(Error::invalid("line", problem)))));
            }
            Some(text) if text.trim_ascii().is_empty() => {}
            Some(text) => return Ok(Some((*line, json::fields(&text)))),
        }
    }
}

/// The next line. Of a line longer than [`MAX_LINE`] bytes the rest is skipped.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if input.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if !line.ends_with(b"\n") && line.len() as u64 > MAX_LINE {
        input.skip_until(b'\n')?;
    }
    Ok(Some(line))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
