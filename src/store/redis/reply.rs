//! Replies of Redis, independent of the client library, and readers of their fields.

use bytes::Bytes;
use fred::types::Value;
use uuid::Uuid;

use crate::clock::UnixMillis;
use crate::model::{Error, Result};

/// One reply.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    Nil,
    Int(i64),
    Bytes(Bytes),
    List(Vec<Self>),
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        match value {
            Value::Integer(number) => Self::Int(number),
            Value::Boolean(yes) => Self::Int(yes.into()),
            Value::String(text) => Self::Bytes(text.into_inner()),
            Value::Bytes(bytes) => Self::Bytes(bytes),
            Value::Array(list) => Self::List(list.into_iter().map(Self::from).collect()),
            Value::Null | Value::Queued | Value::Double(_) | Value::Map(_) => Self::Nil,
        }
    }
}

impl Reply {
    /// A reader of the elements of a list.
    pub(super) fn fields(self) -> Result<Fields> {
        match self {
            Self::List(list) => Ok(Fields(list.into_iter())),
            Self::Nil | Self::Int(_) | Self::Bytes(_) => Err(self.unexpected("a list")),
        }
    }

    pub(super) fn int(&self) -> Result<i64> {
        match self {
            Self::Int(number) => Ok(*number),
            Self::Nil | Self::Bytes(_) | Self::List(_) => Err(self.unexpected("a number")),
        }
    }

    pub(super) fn bytes(self) -> Result<Bytes> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Nil | Self::Int(_) | Self::List(_) => Err(self.unexpected("a string")),
        }
    }

    pub(super) fn text(self) -> Result<String> {
        String::from_utf8(self.bytes()?.into())
            .map_err(|_| Error::internal("Redis answered a string that is not UTF-8"))
    }

    fn unexpected(&self, expected: &str) -> Error {
        let actual = match self {
            Self::Nil => "nothing",
            Self::Int(_) => "a number",
            Self::Bytes(_) => "a string",
            Self::List(_) => "a list",
        };
        Error::internal(format!("Redis answered {actual} instead of {expected}"))
    }
}

/// The elements of a list, read one after another.
pub(super) struct Fields(std::vec::IntoIter<Reply>);

impl Fields {
    pub(super) fn next(&mut self) -> Result<Reply> {
        self.0
            .next()
            .ok_or_else(|| Error::internal("Redis answered a list that is too short"))
    }

    pub(super) fn int(&mut self) -> Result<i64> {
        self.next()?.int()
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        u32::try_from(self.int()?).map_err(|_| Error::internal("Redis answered a number that is too large"))
    }

    pub(super) fn time(&mut self) -> Result<UnixMillis> {
        self.int().map(UnixMillis)
    }

    pub(super) fn text(&mut self) -> Result<String> {
        self.next()?.text()
    }

    /// A list of names, which is one string with a space between two names.
    pub(super) fn names(&mut self) -> Result<Vec<String>> {
        let text = self.text()?;
        Ok(text
            .split(' ')
            .filter(|name| !name.is_empty())
            .map(ToOwned::to_owned)
            .collect())
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid> {
        Uuid::from_slice(&self.next()?.bytes()?).map_err(Error::internal)
    }

    /// The next element, which is a list of lists.
    pub(super) fn lists(&mut self) -> Result<Vec<Self>> {
        self.next()?.fields()?.into_lists()
    }

    /// The remaining elements as pairs: a name, then its value.
    pub(super) fn into_pairs(mut self) -> Result<Vec<(Bytes, Bytes)>> {
        let mut pairs = Vec::new();
        while let Some(name) = self.0.next() {
            pairs.push((name.bytes()?, self.next()?.bytes()?));
        }
        Ok(pairs)
    }

    /// The remaining elements, each of which is a list.
    pub(super) fn into_lists(self) -> Result<Vec<Self>> {
        self.0.map(Reply::fields).collect()
    }
}
