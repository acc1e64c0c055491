//! Reads the rows of a file of users, and remembers on which line each row begins.

use std::io::{self, BufRead, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::account::UserDraft;
use crate::account::users::ImportRow;
use crate::model::{Error, Result};
use crate::secret::SecretText;

const FIELDS: [&str; 7] = [
    "username",
    "email",
    "display_name",
    "roles",
    "attributes",
    "disabled",
    "password_hash",
];
/// The longest line in bytes: far more than a valid row needs.
const MAX_LINE: u64 = 64 * 1024;

/// The format of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileFormat {
    /// One JSON object on each line.
    JsonLines,
    /// Comma-separated values with a header.
    Csv,
}

impl FileFormat {
    /// The format by the extension of the file name.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

/// The rows of a file.
pub(super) struct Rows<R> {
    source: Source<R>,
    lines: Vec<u64>,
}

enum Source<R> {
    JsonLines {
        input: R,
        line: u64,
    },
    Csv {
        records: csv::StringRecordsIntoIter<R>,
        columns: Vec<&'static str>,
    },
}

impl<R: BufRead> Rows<R> {
    /// Starts to read, and reads the header of a CSV file. The error says what is wrong with the header.
    pub(super) fn read(format: FileFormat, input: R) -> Result<Self, String> {
        let source = match format {
            FileFormat::JsonLines => Source::JsonLines { input, line: 0 },
            FileFormat::Csv => {
                let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(input);
                let header = reader.headers().map_err(|error| error.to_string())?;
                let columns = header.iter().map(column).collect::<Result<Vec<_>, _>>()?;
                Source::Csv {
                    records: reader.into_records(),
                    columns,
                }
            }
        };
        Ok(Self {
            source,
            lines: Vec::new(),
        })
    }

    /// The line on which each row begins, from 1, for the rows that were read so far.
    pub(super) fn lines(&self) -> &[u64] {
        &self.lines
    }
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = Result<ImportRow>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.source {
            Source::JsonLines { input, line } => {
                let text = loop {
                    *line += 1;
                    match next_line(input) {
                        Ok(None) => return None,
                        Ok(Some(text)) if text.trim_ascii().is_empty() => {}
                        Ok(Some(text)) => break text,
                        Err(error) => return Some(Err(unreadable(&error))),
                    }
                };
                self.lines.push(*line);
                Some(json_row(&text))
            }
            Source::Csv { records, columns } => {
                let record = records.next()?;
                let at = match &record {
                    Ok(record) => record.position().map(csv::Position::line),
                    Err(error) => error.position().map(csv::Position::line),
                };
                self.lines.push(at.unwrap_or_default());
                Some(csv_row(record, columns))
            }
        }
    }
}

fn column(name: &str) -> Result<&'static str, String> {
    let name = name.trim().trim_start_matches('\u{feff}');
    let known = FIELDS.into_iter().find(|field| *field == name);
    known.ok_or_else(|| format!("unknown column {name:?}; the columns are {}", FIELDS.join(", ")))
}

/// The next line. A line longer than [`MAX_LINE`] bytes is cut, and the rest of it is skipped.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if !line.ends_with(b"\n") && line.len() as u64 == MAX_LINE {
        input.skip_until(b'\n')?;
    }
    Ok(Some(line))
}

/// A line of JSON: the fields of a user, or like the message of the import RPC, with the fields in `user`.
#[derive(Deserialize)]
#[serde(untagged)]
enum JsonRow {
    Nested(Nested),
    Flat(Flat),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nested {
    user: Fields,
    #[serde(default)]
    password_hash: String,
}

#[derive(Deserialize)]
struct Flat {
    #[serde(flatten)]
    user: Fields,
    #[serde(default)]
    password_hash: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    username: String,
    email: String,
    display_name: String,
    roles: Vec<String>,
    attributes: Map<String, Value>,
    disabled: bool,
}

fn json_row(text: &[u8]) -> Result<ImportRow> {
    let known = |name: &String| FIELDS.contains(&name.as_str());
    let object: Map<String, Value> =
        serde_json::from_slice(text).map_err(|_| Error::invalid("line", "must be one JSON object"))?;
    let user = object.get("user").and_then(Value::as_object);
    let unknown = match user {
        Some(user) => user.keys().find(|name| !known(name)),
        None => object.keys().find(|name| !known(name)),
    };
    if unknown.is_some() {
        return Err(Error::invalid(
            "line",
            format!("has a field that is not one of {}", FIELDS.join(", ")),
        ));
    }
    let row: JsonRow = serde_json::from_value(Value::Object(object))
        .map_err(|_| Error::invalid("line", "has a field of the wrong type"))?;
    let (user, password_hash) = match row {
        JsonRow::Nested(Nested { user, password_hash }) | JsonRow::Flat(Flat { user, password_hash }) => {
            (user, password_hash)
        }
    };
    Ok(ImportRow {
        user: UserDraft {
            username: user.username,
            email: user.email,
            display_name: user.display_name,
            roles: user.roles,
            attributes: user.attributes,
            disabled: user.disabled,
        },
        password_hash: SecretText::new(password_hash),
    })
}

fn csv_row(record: csv::Result<csv::StringRecord>, columns: &[&str]) -> Result<ImportRow> {
    let record = record.map_err(|error| match error.kind() {
        csv::ErrorKind::Io(error) => unreadable(error),
        csv::ErrorKind::Utf8 { .. } => Error::invalid("line", "must be UTF-8"),
        csv::ErrorKind::UnequalLengths { .. } => Error::invalid("line", "must have as many values as the header"),
        csv::ErrorKind::Seek | csv::ErrorKind::Serialize(_) | csv::ErrorKind::Deserialize { .. } | _ => {
            Error::invalid("line", "must be CSV")
        }
    })?;
    let field = |name: &str| {
        let at = columns.iter().position(|column| *column == name);
        at.and_then(|at| record.get(at)).unwrap_or_default()
    };
    let disabled = match field("disabled") {
        "" | "false" | "0" => false,
        "true" | "1" => true,
        _ => return Err(Error::invalid("user.disabled", "must be true or false")),
    };
    let attributes = match field("attributes") {
        "" => Map::new(),
        text => serde_json::from_str(text).map_err(|_| Error::invalid("user.attributes", "must be a JSON object"))?,
    };
    let roles = field("roles").split([' ', ',', ';']).filter(|role| !role.is_empty());
    Ok(ImportRow {
        user: UserDraft {
            username: field("username").to_owned(),
            email: field("email").to_owned(),
            display_name: field("display_name").to_owned(),
            roles: roles.map(str::to_owned).collect(),
            attributes,
            disabled,
        },
        password_hash: SecretText::new(field("password_hash")),
    })
}

/// The error of a file that cannot be read further; it ends the import.
fn unreadable(error: &io::Error) -> Error {
    Error::internal(format!("cannot read the file: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: FileFormat, text: &str) -> (Vec<Result<ImportRow>>, Vec<u64>) {
        let mut rows = Rows::read(format, text.as_bytes()).unwrap();
        let read = rows.by_ref().collect();
        (read, rows.lines().to_vec())
    }

    #[test]
    fn json_rows_are_flat_or_like_the_rpc_and_know_their_line() {
        let text = concat!(
            "{\"username\":\"ada\",\"roles\":[\"a\"],\"disabled\":true,\"password_hash\":\"$2b$x\"}\n",
            "\n",
            "{\"user\":{\"username\":\"bob\",\"attributes\":{\"n\":1}},\"password_hash\":\"h\"}\n",
            "not json\n",
            "{\"username\":\"eve\",\"is_admin\":true}\n",
            "{\"username\":7}",
        );
        let (rows, lines) = read(FileFormat::JsonLines, text);
        let ada = rows[0].as_ref().unwrap();
        assert_eq!((ada.user.username.as_str(), ada.user.disabled), ("ada", true));
        assert_eq!(ada.password_hash.expose(), "$2b$x");
        assert_eq!(rows[1].as_ref().unwrap().user.attributes["n"], 1);
        assert!(rows[2..].iter().all(Result::is_err));
        assert_eq!(lines, [1, 3, 4, 5, 6]);
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_and_the_next_one_read() {
        let text = format!(
            "{{\"username\":\"{}\"}}\n{{\"username\":\"bob\"}}\n",
            "x".repeat(100_000)
        );
        let (rows, lines) = read(FileFormat::JsonLines, &text);
        assert!(rows[0].is_err());
        assert_eq!(rows[1].as_ref().unwrap().user.username, "bob");
        assert_eq!(lines, [1, 2]);
    }

    #[test]
    fn csv_has_a_header_with_known_columns() {
        let text = "username,roles,password_hash,disabled,attributes\nada,a b;c,$2b$x,1,\"{\"\"n\"\": 1}\"\nbob,,,maybe,\nshort\n";
        let (rows, lines) = read(FileFormat::Csv, text);
        let ada = rows[0].as_ref().unwrap();
        assert_eq!(ada.user.roles, ["a", "b", "c"]);
        assert_eq!(ada.user.attributes["n"], 1);
        assert_eq!(rows[1].as_ref().unwrap_err().violations[0].field, "user.disabled");
        assert!(rows[2].is_err());
        assert_eq!(lines, [2, 3, 4]);
        assert!(Rows::read(FileFormat::Csv, &b"username,is_admin\n"[..]).is_err());
    }
}
