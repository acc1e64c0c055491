//! The rules for text that a person reads later, on a terminal or in a log: which characters could deceive them.

use super::error::{Error, Result};

/// The longest reason of a revocation, in bytes.
const MAX_REASON: usize = 256;

/// Whether `c` has no place in a name or a line of output: control characters, the separators U+2028 and U+2029, at
/// which some viewers break lines, and the embeddings, overrides and isolates of UAX #9, which reorder the text around
/// them.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether `c` is an implicit directional mark of UAX #9 (ALM, LRM, RLM). Names in right-to-left scripts need them; a
/// log line does not.
#[must_use]
pub fn is_directional_mark(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}')
}

/// Whether `text` can be the address of a login page, to which browsers are sent: a path, or an `http://` or `https://` URL,
/// of at most 512 visible ASCII characters.
#[must_use]
pub fn is_login_page(text: &str) -> bool {
    // Browsers read `//` and `/\` as the beginning of another host.
    let is_path = text.starts_with('/') && !text[1..].starts_with(['/', '\\']);
    let is_url = ["https://", "http://"].iter().any(|scheme| {
        text.strip_prefix(scheme)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    });
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"\"#<>".contains(&byte));
    text.len() <= 512 && is_plain && (is_path || is_url)
}

/// Checks the reason of a revocation, which goes to the audit trail.
///
/// # Errors
/// `INVALID_REQUEST` for more than 256 bytes, or control characters, which could break a line of the trail.
pub fn check_reason(reason: &str) -> Result<()> {
    if reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
        return Err(Error::invalid(
            "reason",
            "must be at most 256 bytes without control characters",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_a_reader_is_unprintable_and_letters_are_not() {
        for c in [
            '\0', '\n', '\u{1b}', '\u{85}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}',
        ] {
            assert!(is_unprintable(c) && !is_directional_mark(c), "{c:?}");
        }
        for c in ['\u{061c}', '\u{200e}', '\u{200f}'] {
            assert!(!is_unprintable(c) && is_directional_mark(c), "{c:?}");
        }
        // U+200D joins letters in Persian and in emoji.
        for c in ['a', 'é', 'א', '\u{200d}', ' '] {
            assert!(!is_unprintable(c) && !is_directional_mark(c), "{c:?}");
        }
    }

    #[test]
    fn a_login_page_is_a_path_or_a_web_address() {
        for good in [
            "/login",
            "/",
            "/a?b=c",
            "https://login.example.org/x",
            "http://localhost:8000",
        ] {
            assert!(is_login_page(good), "{good}");
        }
        let long = format!("/{}", "a".repeat(512));
        for bad in [
            "",
            "login",
            "//evil.example",
            "/\\evil",
            "javascript:x",
            "https://",
            "https:///x",
            "/a b",
            "/a\r\nb",
            "/a#b",
            "/é",
            &long,
        ] {
            assert!(!is_login_page(bad), "{bad}");
        }
    }

    #[test]
    fn a_reason_is_one_short_line() {
        assert!(check_reason("leaked in a log").is_ok());
        assert!(check_reason("").is_ok());
        for bad in ["a\0b", "a\r\nb", &"x".repeat(257)] {
            assert_eq!(check_reason(bad).unwrap_err().violations[0].field, "reason");
        }
    }
}
