//! Small checks that the sections share. Each names the option and says what would be right.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::ConfigError;
use super::text::format_duration;

/// The result of a check.
pub(super) type Checked = Result<(), ConfigError>;

/// A number within its range.
pub(super) fn number<T: Copy + PartialOrd + Display>(key: &str, value: T, range: RangeInclusive<T>) -> Checked {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err(ConfigError::at(key, format!("must be {least} to {most}, is {value}")))
}

/// A duration within its range.
pub(super) fn span(key: &str, value: Duration, range: RangeInclusive<Duration>) -> Checked {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most, value) = (
        format_duration(*range.start()),
        format_duration(*range.end()),
        format_duration(value),
    );
    Err(ConfigError::at(key, format!("must be {least} to {most}, is {value}")))
}

/// `key` may not be longer than `limit_key`.
pub(super) fn at_most(key: &str, value: Duration, limit_key: &str, limit: Duration) -> Checked {
    if value <= limit {
        return Ok(());
    }
    let (value, limit) = (format_duration(value), format_duration(limit));
    let problem = format!("is {value}, which is longer than {limit_key} = {limit}");
    Err(ConfigError::at(key, problem))
}

/// An absolute http(s) URL without user, query and fragment.
pub(super) fn http_url(key: &str, text: &str) -> Checked {
    let wrong = |why: &str| {
        Err(ConfigError::at(
            key,
            format!("must be an http:// or https:// URL {why}"),
        ))
    };
    match url::Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => wrong("with a host"),
        Ok(url) if url.fragment().is_some() => wrong("without a fragment"),
        Ok(url) if url.query().is_some() => wrong("without a query"),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => wrong("without a user"),
        Ok(_) if text.len() > 256 => wrong("of at most 256 bytes"),
        Ok(_) if text.contains(|c: char| c.is_control() || c.is_whitespace()) => wrong("without spaces"),
        Ok(_) => Ok(()),
        Err(error) => wrong(&format!("({error})")),
    }
}

/// Visible ASCII, of which tokens are made.
pub(super) fn name(key: &str, text: &str) -> Checked {
    let good = (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good {
        return Ok(());
    }
    Err(ConfigError::at(
        key,
        "must be 1 to 256 visible ASCII characters without spaces",
    ))
}

/// A path, where people are tempted to give the content.
pub(super) fn pem_path(key: &str, path: Option<&std::path::Path>) -> Checked {
    match path {
        Some(path) if path.to_string_lossy().contains("-----BEGIN") => {
            Err(ConfigError::at(key, "must be the path of a PEM file, not its content"))
        }
        Some(_) | None => Ok(()),
    }
}
