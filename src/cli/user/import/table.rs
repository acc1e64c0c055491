//! Rows of CSV.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::fields::{Field, Fields, NAMES, shown, value_of_text};
use super::rows::NextRow;
use crate::model::{Error, Result};

/// The longest record in bytes, and what the reader reads ahead.
const MAX_RECORD: usize = 64 * 1024;
const READ_AHEAD: usize = 8 * 1024;

/// A CSV file whose header has been read.
pub(super) struct Table<R> {
    records: csv::StringRecordsIntoIter<Limited<R>>,
    columns: Vec<String>,
    left: Arc<AtomicUsize>,
}

/// Input of which only so many bytes are read for each record: after a quotation mark that is never closed, the rest of a file
/// would be one record.
struct Limited<R> {
    input: R,
    left: Arc<AtomicUsize>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            let problem = "a record has more than 64 KiB; is a quotation mark not closed?";
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let most = buffer.len().min(left);
        let read = self.input.read(&mut buffer[..most])?;
        self.left.store(left - read, Ordering::Relaxed);
        Ok(read)
    }
}

impl<R: Read> Table<R> {
    /// Reads the header. The error names the column that is wrong.
    pub(super) fn read(input: R) -> Result<Self, String> {
        let left = Arc::new(AtomicUsize::new(MAX_RECORD + READ_AHEAD));
        let input = Limited {
            input,
            left: Arc::clone(&left),
        };
        let mut reader = csv::ReaderBuilder::new()
            .flexible(false)
            .buffer_capacity(READ_AHEAD)
            .from_reader(input);
        let header = reader
            .headers()
            .map_err(|_| "the file is neither JSON lines nor CSV, in UTF-8".to_owned())?;
        let columns: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
        let mut seen = Vec::new();
        for name in &columns {
            let Some(field) = Field::named(name) else {
                return Err(unknown(name));
            };
            if seen.contains(&field) {
                return Err(format!("the column {name} stands twice"));
            }
            seen.push(field);
        }
        Ok(Self {
            records: reader.into_records(),
            columns,
            left,
        })
    }

    pub(super) fn next_row(&mut self) -> NextRow<Fields> {
        self.left.store(MAX_RECORD + READ_AHEAD, Ordering::Relaxed);
        let Some(record) = self.records.next() else {
            return Ok(None);
        };
        let at = match &record {
            Ok(record) => record.position().map(csv::Position::line),
            Err(error) => error.position().map(csv::Position::line),
        };
        let fields = match record {
            Ok(record) => self.fields(&record),
            Err(error) if error.is_io_error() => return Err(error.into()),
            Err(error) => Err(Error::invalid("line", problem(error.kind()))),
        };
        Ok(Some((at.unwrap_or_default(), fields)))
    }

    fn fields(&self, record: &csv::StringRecord) -> Result<Fields> {
        let mut fields = Fields::default();
        for (name, text) in self.columns.iter().zip(record) {
            fields.set(name, value_of_text(name, text)?)?;
        }
        Ok(fields)
    }
}

fn unknown(name: &str) -> String {
    let hint = if name.contains([';', '\t']) {
        "; separate the columns by commas"
    } else {
        ""
    };
    format!("unknown column {:?}; the columns are {NAMES}{hint}", shown(name))
}

fn problem(kind: &csv::ErrorKind) -> &'static str {
    match kind {
        csv::ErrorKind::Utf8 { .. } => "must be UTF-8",
        csv::ErrorKind::UnequalLengths { .. } => "must have as many values as the header",
        csv::ErrorKind::Io(_)
        | csv::ErrorKind::Seek
        | csv::ErrorKind::Serialize(_)
        | csv::ErrorKind::Deserialize { .. }
        | _ => "must be CSV",
    }
}
