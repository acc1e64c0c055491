//! Rows of JSON: one object on each line, also in the extended JSON that `mongoexport` writes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::fields::Fields;
use crate::clock::UnixMillis;
use crate::model::{Error, Result};
use crate::proto::convert::time::timestamp;

/// The fields of a line: those of a user, or like the message of the import RPC, with those of the user in `user`.
pub(super) fn fields(line: &[u8]) -> Result<Fields> {
    let object: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
        // The error itself may quote the line, which holds a hash.
        let problem = format!("must be one JSON object (see column {})", error.column());
        Error::invalid("line", problem)
    })?;
    let mut fields = Fields::default();
    for (name, value) in object {
        if name == "user"
            && let Value::Object(user) = value
        {
            for (name, value) in user {
                fields.set(&name, plain(value))?;
            }
        } else {
            fields.set(&name, plain(value))?;
        }
    }
    Ok(fields)
}

/// A value without the types of MongoDB's extended JSON (canonical or relaxed): ids, dates and UUIDs become text, numbers become
/// numbers.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(object) => match extended(&object) {
            Some(value) => value,
            None => Value::Object(object.into_iter().map(|(name, value)| (name, plain(value))).collect()),
        },
        Value::Array(values) => Value::Array(values.into_iter().map(plain).collect()),
        value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => value,
    }
}

/// The value of `{"$oid": …}` and its like.
fn extended(object: &Map<String, Value>) -> Option<Value> {
    let mut members = object.iter();
    let (name, value) = members.next()?;
    if members.next().is_some() {
        return None;
    }
    match name.as_str() {
        "$oid" | "$uuid" | "$symbol" | "$numberDecimal" => value.as_str().map(Value::from),
        "$numberInt" | "$numberLong" => value.as_str()?.parse::<i64>().ok().map(Value::from),
        "$numberDouble" => value.as_str()?.parse::<f64>().ok().map(Value::from),
        "$date" => date(value),
        "$binary" => binary(value.as_object()?),
        _ => None,
    }
}

/// A date as RFC 3339. It is in milliseconds, or text in that form already.
fn date(value: &Value) -> Option<Value> {
    if let Some(text) = value.as_str() {
        return Some(Value::from(text));
    }
    let millis = match value.as_object() {
        Some(object) => extended(object)?.as_i64()?,
        None => value.as_i64()?,
    };
    Some(Value::from(timestamp(UnixMillis(millis)).to_string()))
}

/// A UUID as text. Other binary values stay as they are.
fn binary(value: &Map<String, Value>) -> Option<Value> {
    if !matches!(value.get("subType")?.as_str()?, "03" | "04" | "3" | "4") {
        return None;
    }
    let bytes = STANDARD.decode(value.get("base64")?.as_str()?).ok()?;
    Some(Value::from(Uuid::from_slice(&bytes).ok()?.to_string()))
}
