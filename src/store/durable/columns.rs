//! How rows are read, whichever database they come from.

use std::time::Duration;

use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::clock::UnixMillis;
use crate::model::error::Cause;
use crate::model::{ClientId, Error, KeyId, Result, SessionId, UserId, Username};

/// A row, as a database's driver hands it over. A NULL is read as `None`; see [`super::statement::Value`] for the
/// types.
pub(crate) trait Row {
    fn is_null(&self, column: usize) -> Result<bool>;
    fn boolean(&self, column: usize) -> Result<Option<bool>>;
    fn integer(&self, column: usize) -> Result<Option<i64>>;
    fn text(&self, column: usize) -> Result<Option<&str>>;
    fn bytes(&self, column: usize) -> Result<Option<&[u8]>>;
    fn uuid(&self, column: usize) -> Result<Option<Uuid>>;
    fn list(&self, column: usize) -> Result<Option<Vec<String>>>;
}

/// Reads a row into a value.
pub(crate) type Read<T> = fn(&mut Columns<'_>) -> Result<T>;

/// Reads the columns of a row one after another.
pub(crate) struct Columns<'r> {
    row: &'r dyn Row,
    next: usize,
}

impl<'r> Columns<'r> {
    /// Reads `row` from its first column on.
    pub(crate) const fn new(row: &'r dyn Row) -> Self {
        Self { row, next: 0 }
    }

    /// The next column, which is never NULL.
    pub(crate) fn take<T: Column>(&mut self) -> Result<T> {
        let column = self.next;
        self.maybe()?
            .ok_or_else(|| unreadable(format!("column {column} is NULL")))
    }

    /// The next column; `None` if it is NULL.
    pub(crate) fn maybe<T: Column>(&mut self) -> Result<Option<T>> {
        self.next += 1;
        T::read(self.row, self.next - 1)
    }

    /// The next column, which holds a name out of a closed set.
    pub(crate) fn named<T>(&mut self, named: fn(&str) -> Option<T>) -> Result<T> {
        self.maybe_named(named)?.ok_or_else(|| unreadable("a name is NULL"))
    }

    /// Like [`Columns::named`]; `None` if the column is NULL.
    pub(crate) fn maybe_named<T>(&mut self, named: fn(&str) -> Option<T>) -> Result<Option<T>> {
        self.next += 1;
        let name = self.row.text(self.next - 1)?;
        name.map(|name| named(name).ok_or_else(|| unreadable("unknown name")))
            .transpose()
    }

    /// The next column, which holds JSON text.
    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        self.next += 1;
        let text = self
            .row
            .text(self.next - 1)?
            .ok_or_else(|| unreadable("JSON is NULL"))?;
        serde_json::from_str(text).map_err(unreadable)
    }

    /// What `read` makes of the next `count` columns; `None` if an outer join found no row for them.
    pub(crate) fn joined<T>(&mut self, count: usize, read: Read<T>) -> Result<Option<T>> {
        if self.row.is_null(self.next)? {
            self.next += count;
            return Ok(None);
        }
        read(self).map(Some)
    }
}

/// A row that this version of the program cannot have written.
#[derive(Debug, thiserror::Error)]
#[error("unreadable row: {0}")]
struct UnreadableRow(#[source] Cause);

/// Reads a row of one column, which is never NULL.
pub(crate) fn one_column<T: Column>(columns: &mut Columns<'_>) -> Result<T> {
    columns.take()
}

/// The error for a row that this version of the program cannot have written.
pub(crate) fn unreadable(cause: impl Into<Cause>) -> Error {
    Error::internal(UnreadableRow(cause.into()))
}

/// A type that a column is read as.
pub(crate) trait Column: Sized {
    /// Reads the column; `None` if it is NULL.
    fn read(row: &dyn Row, column: usize) -> Result<Option<Self>>;
}

macro_rules! columns {
    ($($type:ty: |$row:ident, $column:ident| $read:expr;)+) => {
        $(impl Column for $type {
            fn read($row: &dyn Row, $column: usize) -> Result<Option<Self>> {
                $read
            }
        })+
    };
}

columns! {
    bool: |row, column| row.boolean(column);
    i64: |row, column| row.integer(column);
    String: |row, column| Ok(row.text(column)?.map(str::to_owned));
    Vec<u8>: |row, column| Ok(row.bytes(column)?.map(<[u8]>::to_vec));
    [u8; 32]: |row, column| row.bytes(column)?.map(<[u8; 32]>::try_from).transpose().map_err(unreadable);
    Uuid: |row, column| row.uuid(column);
    Vec<String>: |row, column| row.list(column);
    u32: |row, column| row.integer(column)?.map(u32::try_from).transpose().map_err(unreadable);
    UnixMillis: |row, column| Ok(row.integer(column)?.map(UnixMillis));
    UserId: |row, column| Ok(row.uuid(column)?.map(UserId));
    SessionId: |row, column| Ok(row.uuid(column)?.map(SessionId));
    Username: |row, column| Ok(String::read(row, column)?.map(Username::from_stored));
    ClientId: |row, column| row.text(column)?.map(str::parse).transpose().map_err(unreadable);
    KeyId: |row, column| row.text(column)?.map(str::parse).transpose().map_err(unreadable);
    // Stored in milliseconds.
    Duration: |row, column| {
        let millis = row.integer(column)?.map(u64::try_from).transpose().map_err(unreadable)?;
        Ok(millis.map(Duration::from_millis))
    };
}
