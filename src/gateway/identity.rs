//! The identity headers, which tell the service behind the proxy about the caller.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use crate::keys::verified::VerifiedToken;

/// The identity headers of every token. A client cannot set them: the proxy overwrites or removes each. Other headers of the
/// form `x-auth-…` do not reach the service at all, unless Countersign sets them: `x-auth-username` and those of attributes.
pub const IDENTITY: [&str; 5] = [
    "x-auth-subject",
    "x-auth-session",
    "x-auth-client",
    "x-auth-scopes",
    "x-auth-roles",
];

/// The header with the name of the user, if the token has it (`tokens.username_claim`).
const USERNAME: &str = "x-auth-username";

/// An attribute of the user that services get in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeHeader {
    /// Name of the attribute.
    pub attribute: String,
    /// Name of the header.
    pub header: String,
}

impl AttributeHeader {
    /// The header of an attribute: `x-auth-` and its name in lower case, with `-` for `_`.
    #[must_use]
    pub fn of(attribute: &str) -> Self {
        Self {
            attribute: attribute.to_owned(),
            header: format!("x-auth-{}", attribute.to_ascii_lowercase().replace('_', "-")),
        }
    }
}

/// The headers for the service about the caller of an admitted request.
#[derive(Clone, Debug)]
pub struct IdentityHeaders {
    /// `None` for a request that passes without a credential.
    pub(super) token: Option<Arc<VerifiedToken>>,
    pub(super) attributes: Arc<[AttributeHeader]>,
}

impl IdentityHeaders {
    /// Every header by its name; `None` where it must be absent. The first are those of [`IDENTITY`], in that order.
    #[must_use]
    pub fn all(&self) -> Vec<(&str, Option<Cow<'_, str>>)> {
        let claims = self.token.as_ref().map(|token| &token.claims);
        let list = |names: &[String]| (!names.is_empty()).then(|| Cow::Owned(names.join(" ")));
        let values = claims.map_or([None, None, None, None, None], |claims| {
            [
                Some(Cow::Borrowed(claims.sub.as_str())),
                claims.sid.map(|session| Cow::Owned(session.to_string())),
                Some(Cow::Borrowed(claims.client_id.as_str())),
                list(&claims.scope),
                list(&claims.roles),
            ]
        });
        let mut headers: Vec<_> = IDENTITY.into_iter().zip(values).collect();
        let username = claims.and_then(|claims| claims.preferred_username.as_deref());
        if let Some(username) = username.filter(|name| is_header_text(name)) {
            headers.push((USERNAME, Some(Cow::Borrowed(username))));
        }
        let ext = claims.and_then(|claims| claims.ext.as_ref());
        headers.extend(self.attributes.iter().map(|AttributeHeader { attribute, header }| {
            let value = ext.and_then(|ext| ext.get(attribute)).and_then(text);
            (header.as_str(), value.filter(|value| is_header_text(value)))
        }));
        headers
    }

    /// Whether `name` is a header that this request's service gets, other than those of [`IDENTITY`].
    pub(super) fn sets(&self, name: &str) -> bool {
        let headers = self.all();
        let mut set = headers.iter().skip(IDENTITY.len()).filter(|(_, value)| value.is_some());
        set.any(|(header, _)| header.eq_ignore_ascii_case(name))
    }
}

/// The text of an attribute: a string, a number, a truth value, or a list of them, separated by spaces.
fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(truth) => Some(Cow::Owned(truth.to_string())),
        Value::Array(items) => {
            let items: Option<Vec<_>> = items
                .iter()
                .map(|item| text(item).filter(|_| !item.is_array()))
                .collect();
            items
                .filter(|items| !items.is_empty())
                .map(|items| Cow::Owned(items.join(" ")))
        }
        Value::Null | Value::Object(_) => None,
    }
}

/// Whether a header can hold the text: a line break would begin another header.
fn is_header_text(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn attributes_are_text_and_never_break_a_header() {
        for (value, expected) in [
            (json!("blue"), Some("blue")),
            (json!(4711), Some("4711")),
            (json!(true), Some("true")),
            (json!(["a", 1, false]), Some("a 1 false")),
            (json!([]), None),
            (json!([["a"]]), None),
            (json!(["a", {}]), None),
            (json!(null), None),
            (json!({"a": 1}), None),
        ] {
            assert_eq!(text(&value).as_deref(), expected, "{value}");
        }
        assert!(is_header_text("Zoë") && !is_header_text("a\r\nx-auth-roles: admin") && !is_header_text(""));
    }

    #[test]
    fn an_attribute_has_a_header_of_its_name() {
        assert_eq!(AttributeHeader::of("Legacy_ID").header, "x-auth-legacy-id");
    }
}
