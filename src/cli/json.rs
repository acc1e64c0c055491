//! Converts protobuf messages to proto3 JSON with the field names of the proto files.

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
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false);
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
    use crate::proto::{InactiveReason, ListUsersResponse, User, ValidateResponse};
    use serde_json::json;

    #[test]
    fn names_are_those_of_the_proto_files_and_defaults_are_included() {
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
            "revocations_as_of": "1970-01-01T00:00:01.500Z",
        });
        assert_eq!(to_json(&response).unwrap().0, expected);
        let list = ListUsersResponse {
            users: vec![User::default()],
            ..ListUsersResponse::default()
        };
        let shown = to_json(&list).unwrap().0;
        assert_eq!(shown["next_page_token"], "");
        assert_eq!(shown["users"][0]["display_name"], "");
        assert_eq!(shown["users"][0]["roles"], json!([]));
    }
}
