//! JSON objects: attributes, the claim `ext`, and details of audit events.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use serde_json::{Map, Number, Value};

use crate::model::{Error, Result};

/// 2^53: a `google.protobuf.Value` is a double and holds every integer up to this one exactly.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The deepest nesting that is accepted: more than any use needs, and far too little to exhaust the stack.
const MAX_DEPTH: usize = 32;

/// A JSON object as a message. Numbers become doubles.
#[must_use]
pub fn to_struct(object: &Map<String, Value>) -> prost_types::Struct {
    prost_types::Struct {
        fields: object
            .iter()
            .map(|(name, value)| (name.clone(), to_value(value)))
            .collect(),
    }
}

/// The JSON object of a message.
///
/// # Errors
/// `INVALID_REQUEST` for `field` if the message is nested too deeply or holds a value that JSON does not have.
pub fn to_object(message: &prost_types::Struct, field: &'static str) -> Result<Map<String, Value>> {
    object(&message.fields, field, MAX_DEPTH)
}

fn to_value(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(*truth),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(0.0)),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(list) => Kind::ListValue(prost_types::ListValue {
            values: list.iter().map(to_value).collect(),
        }),
        Value::Object(object) => Kind::StructValue(to_struct(object)),
    };
    prost_types::Value { kind: Some(kind) }
}

fn object(
    fields: &BTreeMap<String, prost_types::Value>,
    field: &'static str,
    depth: usize,
) -> Result<Map<String, Value>> {
    fields
        .iter()
        .map(|(name, value)| Ok((name.clone(), json(value, field, depth)?)))
        .collect()
}

fn json(value: &prost_types::Value, field: &'static str, depth: usize) -> Result<Value> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Error::invalid(field, "is nested too deeply"));
    };
    Ok(match &value.kind {
        None => return Err(Error::invalid(field, "holds a value without a kind")),
        Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(truth)) => Value::Bool(*truth),
        Some(Kind::NumberValue(number)) => Value::Number(
            json_number(*number)
                .ok_or_else(|| Error::invalid(field, "holds a number that JSON does not have (NaN or infinity)"))?,
        ),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::ListValue(list)) => Value::Array(
            list.values
                .iter()
                .map(|value| json(value, field, depth))
                .collect::<Result<_>>()?,
        ),
        Some(Kind::StructValue(message)) => Value::Object(object(&message.fields, field, depth)?),
    })
}

/// The JSON number of a double. An integer becomes `1`, not `1.0`, because tokens carry it as JSON.
fn json_number(number: f64) -> Option<Number> {
    if number.fract() == 0.0 && number.abs() <= MAX_EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole, and within ±2^53")]
        return Some(Number::from(number as i64));
    }
    Number::from_f64(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_survive_the_round_trip() {
        let value = json!({
            "null": null, "yes": true, "one": 1, "half": 0.5, "less": -3, "text": "é", "list": [1, "a", {}],
            "in": {"deeper": {"still": []}},
        });
        let object = value.as_object().unwrap();
        assert_eq!(to_object(&to_struct(object), "user.attributes").unwrap(), *object);
    }

    #[test]
    fn values_that_json_does_not_have_are_refused() {
        let of = |kind: Option<Kind>| prost_types::Struct {
            fields: [("a".to_owned(), prost_types::Value { kind })].into(),
        };
        let mut deep = of(Some(Kind::BoolValue(true)));
        for _ in 0..MAX_DEPTH {
            deep = of(Some(Kind::StructValue(deep)));
        }
        for bad in [
            of(None),
            of(Some(Kind::NumberValue(f64::NAN))),
            of(Some(Kind::NumberValue(f64::INFINITY))),
            deep,
        ] {
            let error = to_object(&bad, "user.attributes").unwrap_err();
            assert_eq!(error.violations[0].field, "user.attributes");
        }
    }
}
