//! Converts protobuf messages to proto3 JSON. The names are in lowerCamelCase, as grpcurl and every protobuf library print them.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use super::Failure;
use crate::proto::FILE_DESCRIPTOR_SET;

static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());

/// The message as proto3 JSON, and its descriptor. Fields with default values are included, so that a script need not know
/// the defaults.
pub(super) fn to_json<M: Message + Name>(message: &M) -> Result<(Value, MessageDescriptor), Failure> {
    let internal = |what: &str| Failure::other(format!("cannot show {}: {what}", M::full_name()));
    let pool = POOL.as_ref().ok_or_else(|| internal("no descriptors"))?;
    let descriptor = pool
        .get_message_by_name(&M::full_name())
        .ok_or_else(|| internal("no descriptor"))?;
    let dynamic = DynamicMessage::decode(descriptor.clone(), message.encode_to_vec().as_slice())
        .map_err(|error| internal(&error.to_string()))?;
    let options = SerializeOptions::new().skip_default_fields(false);
    let mut value = dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| internal(&error.to_string()))?;
    restore_integers(&mut value);
    Ok((value, descriptor))
}

/// Turns whole doubles into integers. The numbers of a `Struct` are doubles, so the integer 1 arrives as `1.0`.
fn restore_integers(value: &mut Value) {
    /// 2^53: a double holds every integer up to this one exactly.
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => {
            let double = number
                .as_f64()
                .filter(|double| number.is_f64() && double.fract() == 0.0);
            if let Some(double) = double.filter(|double| double.abs() <= MAX_EXACT) {
                #[expect(clippy::cast_possible_truncation, reason = "whole, and within ±2^53")]
                let number = double as i64;
                *value = number.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(restore_integers),
        Value::Object(map) => map.values_mut().for_each(restore_integers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{AuditEvent, InactiveReason, ListUsersResponse, User, ValidateResponse};
    use serde_json::json;

    #[test]
    fn names_are_in_lower_camel_case_and_defaults_are_included() {
        let response = ValidateResponse {
            reason: InactiveReason::Expired.into(),
            revocations_as_of: Some(prost_types::Timestamp {
                seconds: 1,
                nanos: 500_000_000,
            }),
            ..ValidateResponse::default()
        };
        let expected = json!({
            "active": false,
            "reason": "INACTIVE_REASON_EXPIRED",
            "revocationsAsOf": "1970-01-01T00:00:01.500Z",
        });
        assert_eq!(to_json(&response).unwrap().0, expected);
        let list = ListUsersResponse {
            users: vec![User::default()],
            ..ListUsersResponse::default()
        };
        let shown = to_json(&list).unwrap().0;
        assert_eq!(shown["nextPageToken"], "");
        assert_eq!(shown["users"][0]["displayName"], "");
        assert_eq!(shown["users"][0]["roles"], json!([]));
    }

    #[test]
    fn names_within_a_struct_are_not_changed() {
        let text = |text: &str| prost_types::Value {
            kind: Some(prost_types::value::Kind::StringValue(text.to_owned())),
        };
        let event = AuditEvent {
            details: Some(prost_types::Struct {
                fields: [("first_unix_ms".to_owned(), text("snake_case"))].into(),
            }),
            ..AuditEvent::default()
        };
        let shown = to_json(&event).unwrap().0;
        assert_eq!(shown["details"], json!({"first_unix_ms": "snake_case"}));
    }
}
