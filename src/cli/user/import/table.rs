//! Rows of CSV.

use std::io::Read;

use super::fields::{Field, Fields, value_of_text};
use super::rows::NextRow;
use crate::model::{Error, Result};

/// A CSV file whose header has been read.
pub(super) struct Table<R> {
    records: csv::StringRecordsIntoIter<R>,
    columns: Vec<String>,
}

impl<R: Read> Table<R> {
    /// Reads the header. The error names the column that is wrong.
    pub(super) fn read(input: R) -> Result<Self, String> {
        let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(input);
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
        })
    }

    pub(super) fn next_row(&mut self) -> NextRow<Fields> {
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
    format!(
        "unknown column {:?}; the columns are {}{hint}",
        name.chars().take(80).collect::<String>(),
        super::fields::NAMES
    )
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
