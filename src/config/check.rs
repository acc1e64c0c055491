//! Checks that several sections use. An error names the option and says which values are valid.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::ConfigError;
use super::text::format_duration;
use crate::model::grant::is_name;

/// The result of a check.
pub(super) type CheckResult = Result<(), ConfigError>;

/// Checks that a number is within its range.
pub(super) fn number<T: Copy + PartialOrd + Display>(key: &str, value: T, range: RangeInclusive<T>) -> CheckResult {
    if range.contains(&value) {
        return Ok(());
    }
    let (min, max) = range.into_inner();
    Err(ConfigError::at(key, format!("must be {min} to {max}, is {value}")))
}

/// Checks that a duration is within its range.
pub(super) fn duration(key: &str, value: Duration, range: RangeInclusive<Duration>) -> CheckResult {
    if range.contains(&value) {
        return Ok(());
    }
    let (min, max, value) = (
        format_duration(*range.start()),
        format_duration(*range.end()),
        format_duration(value),
    );
    Err(ConfigError::at(key, format!("must be {min} to {max}, is {value}")))
}

/// Checks that the duration `key` is not longer than the duration `limit_key`.
pub(super) fn at_most(key: &str, value: Duration, limit_key: &str, limit: Duration) -> CheckResult {
    if value <= limit {
        return Ok(());
    }
    let (value, limit) = (format_duration(value), format_duration(limit));
    let problem = format!("is {value}, which is longer than {limit_key} = {limit}");
    Err(ConfigError::at(key, problem))
}

/// Checks that `text` is an absolute http(s) URL without user, query and fragment.
pub(super) fn http_url(key: &str, text: &str) -> CheckResult {
    let invalid = |condition: &str| {
        Err(ConfigError::at(
            key,
            format!("must be an http:// or https:// URL {condition}"),
        ))
    };
    match url::Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => invalid("with a host"),
        Ok(url) if url.fragment().is_some() => invalid("without a fragment"),
        Ok(url) if url.query().is_some() => invalid("without a query"),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => invalid("without a user"),
        Ok(_) if text.len() > 256 => invalid("of at most 256 bytes"),
        Ok(_) if text.contains(|c: char| c.is_control() || c.is_whitespace()) => invalid("without spaces"),
        Ok(_) => Ok(()),
        Err(error) => invalid(&format!("({error})")),
    }
}

/// Checks that `text` can be a scope or audience of a token.
pub(super) fn name(key: &str, text: &str) -> CheckResult {
    if is_name(text) {
        return Ok(());
    }
    Err(ConfigError::at(
        key,
        "must be 1 to 256 visible ASCII characters without spaces, quotes or backslashes",
    ))
}

/// Checks that an option is a path and not the content of a PEM file, which is a common mistake.
pub(super) fn pem_path(key: &str, path: Option<&std::path::Path>) -> CheckResult {
    match path {
        Some(path) if path.to_string_lossy().contains("-----BEGIN") => {
            Err(ConfigError::at(key, "must be the path of a PEM file, not its content"))
        }
        Some(_) | None => Ok(()),
    }
}
