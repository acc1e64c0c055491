//! Replies of Redis, and readers of their fields. They are stricter than the conversions of the client library, which read
//! one type as another and cut off large numbers.

use bytes::Bytes;
use fred::types::Value;
use uuid::Uuid;

use crate::clock::UnixMillis;
use crate::model::{Error, Result};

/// One reply.
pub(super) struct Reply(pub(super) Value);

impl Reply {
    /// A reader of the elements of a list.
    pub(super) fn fields(self) -> Result<Fields> {
        let Value::Array(list) = self.0 else {
            return Err(self.unexpected("a list"));
        };
        Ok(Fields(list.into_iter()))
    }

    pub(super) fn int(&self) -> Result<i64> {
        let Value::Integer(number) = self.0 else {
            return Err(self.unexpected("a number"));
        };
        Ok(number)
    }

    pub(super) fn bytes(self) -> Result<Bytes> {
        if let Value::String(text) = self.0 {
            return Ok(text.into_inner());
        }
        let Value::Bytes(bytes) = self.0 else {
            return Err(self.unexpected("a string"));
        };
        Ok(bytes)
    }

    pub(super) fn text(self) -> Result<String> {
        String::from_utf8(self.bytes()?.into())
            .map_err(|_| Error::internal("Redis answered a string that is not UTF-8"))
    }

    fn unexpected(&self, expected: &str) -> Error {
        Error::internal(format!("Redis answered {:?} instead of {expected}", self.0.kind()))
    }
}

/// The elements of a list, read one after another.
pub(super) struct Fields(std::vec::IntoIter<Value>);

impl Fields {
    pub(super) fn next(&mut self) -> Result<Reply> {
        let next = self.0.next().map(Reply);
        next.ok_or_else(|| Error::internal("Redis answered a list that is too short"))
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
            pairs.push((Reply(name).bytes()?, self.next()?.bytes()?));
        }
        Ok(pairs)
    }

    /// The remaining elements, each of which is a text.
    pub(super) fn into_texts(self) -> Result<Vec<String>> {
        self.0.map(|text| Reply(text).text()).collect()
    }

    /// The remaining elements, each of which is a list.
    pub(super) fn into_lists(self) -> Result<Vec<Self>> {
        self.0.map(|list| Reply(list).fields()).collect()
    }
}
