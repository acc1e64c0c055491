//! Checks of request fields. An error names the path of the field and never contains its value.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization as _;
use unicode_security::{RestrictionLevel, RestrictionLevelDetection as _};

use crate::model::text::is_unprintable;
use crate::model::user::{MAX_ATTRIBUTES, MAX_ROLES};
use crate::model::{Error, Result, Username};

/// The longest free text (a display name, a reason), in bytes.
pub(super) const MAX_TEXT: usize = 256;
/// In bytes. RFC 5321 §4.5.3.1.3: a path is 256 octets with its angle brackets.
const MAX_EMAIL: usize = 254;
const MAX_LOCAL_PART: usize = 64;
const MAX_ROLE: usize = 64;
const MAX_ATTRIBUTE_DEPTH: usize = 8;

/// Checks the username of a new account. Beyond RFC 8265 it must not mix scripts in the way that look-alike names do (UTS 39
/// §5.2, moderately restrictive): a Cyrillic "а" among Latin letters is refused, "ада" is accepted.
pub(super) fn username(text: &str, field: &'static str) -> Result<Username> {
    let name = Username::parse(text, field)?;
    let letters: String = name
        .as_str()
        .chars()
        .filter(|c| !c.is_ascii() || c.is_ascii_alphanumeric())
        .collect();
    if !letters
        .as_str()
        .check_restriction_level(RestrictionLevel::ModeratelyRestrictive)
    {
        return Err(Error::invalid(
            field,
            "must not mix scripts or use look-alike characters",
        ));
    }
    Ok(name)
}

/// Checks free text: no control characters and nothing that changes the order of the text around it. Returns its NFC form.
pub(super) fn text(text: &str, field: impl Into<Cow<'static, str>>) -> Result<String> {
    if text.len() > MAX_TEXT {
        return Err(Error::invalid(field, format!("must be at most {MAX_TEXT} bytes")));
    }
    if text.chars().any(is_unprintable) {
        return Err(Error::invalid(field, "must not hold control characters"));
    }
    Ok(text.nfc().collect())
}

/// Checks an e-mail address; empty is accepted. Only the syntax is checked, not whether the address receives mail.
pub(super) fn email(text: &str, field: &'static str) -> Result<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let text: String = text.nfc().collect();
    let plausible = text.len() <= MAX_EMAIL
        && !text.chars().any(|c| c.is_whitespace() || is_unprintable(c))
        && text.rsplit_once('@').is_some_and(|(local, domain)| {
            (1..=MAX_LOCAL_PART).contains(&local.len()) && !local.contains('@') && is_domain(domain)
        });
    if plausible {
        Ok(text)
    } else {
        Err(Error::invalid(field, "must be an e-mail address of at most 254 bytes"))
    }
}

fn is_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let allowed = |c: char| c.is_alphanumeric() || c == '-' || !c.is_ascii();
        (1..=63).contains(&label.len())
            && label.chars().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

/// Checks roles: visible ASCII. Returns them sorted and without duplicates.
pub(super) fn roles(list: &[String], field: &'static str) -> Result<Vec<String>> {
    let shape = |role: &String| (1..=MAX_ROLE).contains(&role.len()) && role.bytes().all(|b| b.is_ascii_graphic());
    if let Some(index) = list.iter().position(|role| !shape(role)) {
        return Err(Error::invalid(
            format!("{field}[{index}]"),
            format!("must be 1-{MAX_ROLE} visible ASCII characters"),
        ));
    }
    let mut roles = list.to_vec();
    roles.sort();
    roles.dedup();
    if roles.len() > MAX_ROLES {
        return Err(Error::invalid(field, format!("must be at most {MAX_ROLES} roles")));
    }
    Ok(roles)
}

/// Checks attributes: size, depth, and no NUL characters, which Postgres cannot store in text.
pub(super) fn attributes(map: &Map<String, Value>, field: &'static str) -> Result<Map<String, Value>> {
    let length = serde_json::to_string(map).map_err(Error::internal)?.len();
    if length > MAX_ATTRIBUTES {
        return Err(Error::invalid(
            field,
            format!("must be at most {MAX_ATTRIBUTES} bytes as JSON"),
        ));
    }
    if map.keys().any(|key| has_nul(key)) || !map.values().all(|value| is_plain(value, MAX_ATTRIBUTE_DEPTH)) {
        return Err(Error::invalid(
            field,
            format!("must not hold NUL or be nested deeper than {MAX_ATTRIBUTE_DEPTH}"),
        ));
    }
    Ok(map.clone())
}

fn has_nul(text: &str) -> bool {
    text.contains('\0')
}

fn is_plain(value: &Value, depth: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => !has_nul(text),
        Value::Array(list) => depth > 0 && list.iter().all(|value| is_plain(value, depth - 1)),
        Value::Object(map) => {
            depth > 0
                && map
                    .iter()
                    .all(|(key, value)| !has_nul(key) && is_plain(value, depth - 1))
        }
    }
}

/// Checks that a duration is within `range` and rounds it down to milliseconds. `None` means the configured value.
pub(super) fn duration(
    value: Option<Duration>,
    field: &'static str,
    range: std::ops::RangeInclusive<Duration>,
) -> Result<Option<Duration>> {
    let Some(value) = value else { return Ok(None) };
    let value = Duration::from_millis(u64::try_from(value.as_millis()).unwrap_or(u64::MAX));
    if range.contains(&value) {
        return Ok(Some(value));
    }
    let (min, max) = (range.start().as_secs(), range.end().as_secs());
    Err(Error::invalid(field, format!("must be between {min} s and {max} s")))
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
