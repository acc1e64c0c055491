//! The `authorization` header with a bearer token (RFC 6750 §2.1). Every part of the service that takes such a header
//! reads it here.

use std::fmt;

/// The scheme, in lower case. Schemes have no case.
const SCHEME: &[u8] = b"bearer";

/// What the `authorization` headers of a request hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Authorization<'a> {
    /// There is no such header.
    Absent,
    /// The header uses another scheme, such as `Basic`.
    OtherScheme,
    /// One well-formed bearer token. It is not verified.
    Bearer(&'a str),
    /// Not one well-formed bearer token, but a lenient reader could find one: another separator than a space, other
    /// characters than those of `token68`, or a bearer token in a list of credentials.
    Malformed,
    /// There are several such headers. Which of them counts is ambiguous: a proxy may have read another one.
    Repeated,
}

impl<'a> Authorization<'a> {
    /// Reads the only `authorization` header of a request.
    ///
    /// `credentials = auth-scheme 1*SP token68` (RFC 9110 §11.4): the scheme in any case, one or more spaces, then the
    /// token. Spaces at the end do not belong to the value (RFC 9110 §5.5).
    ///
    /// A value that is not well-formed and names the scheme `Bearer` is [`Self::Malformed`], not [`Self::OtherScheme`]. A
    /// gateway forwards other schemes unverified, and services that split the value at any white space, or search it for
    /// `Bearer`, would take the token in it for verified.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Self {
        let scheme_len = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
        let (scheme, token) = value.split_at(scheme_len);
        if scheme.eq_ignore_ascii_case(SCHEME) {
            let token = trim_spaces(token);
            return match std::str::from_utf8(token) {
                Ok(text) if is_token68(token) => Self::Bearer(text),
                _ => Self::Malformed,
            };
        }
        if names_bearer(value) {
            Self::Malformed
        } else {
            Self::OtherScheme
        }
    }

    /// Reads all `authorization` headers of a request.
    #[must_use]
    pub fn from_values(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut values = values.into_iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => Self::parse(value),
            (Some(_), Some(_)) => Self::Repeated,
        }
    }
}

/// Hides the token.
impl fmt::Debug for Authorization<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::OtherScheme => "OtherScheme",
            Self::Bearer(_) => "Bearer",
            Self::Malformed => "Malformed",
            Self::Repeated => "Repeated",
        })
    }
}

/// Whether a word that begins with the scheme `Bearer` stands anywhere in the value and is followed by something: lenient
/// readers search for it. The characters of token68 do not separate words, so that credentials in base64 are one word.
fn names_bearer(value: &[u8]) -> bool {
    (0..value.len()).any(|start| {
        let begins_word = start == 0 || !is_token68(&value[start - 1..start]) && value[start - 1] != b'=';
        let rest = &value[start..];
        begins_word
            && rest
                .get(..SCHEME.len())
                .is_some_and(|word| word.eq_ignore_ascii_case(SCHEME))
            && !trim_spaces(&rest[SCHEME.len()..]).is_empty()
    })
}

fn trim_spaces(mut bytes: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = bytes {
        bytes = rest;
    }
    bytes
}

/// `token68 = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="` (RFC 9110 §11.2).
#[expect(
    clippy::needless_bitwise_bool,
    reason = "lazy operators would add branches to the loop"
)]
fn is_token68(token: &[u8]) -> bool {
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let text = &token[..token.len() - padding];
    // The loop has no early exit, so that the compiler checks sixteen bytes at once: this runs on every call.
    let in_range = |byte: u8, first: u8, last: u8| byte.wrapping_sub(first) <= last - first;
    let is_allowed = |byte: u8| {
        in_range(byte | 0x20, b'a', b'z')
            // `-`, `.`, `/` and the digits follow one another.
            | in_range(byte, b'-', b'9')
            | (byte == b'_')
            | (byte == b'~')
            | (byte == b'+')
    };
    !text.is_empty() && text.iter().fold(true, |all, byte| all & is_allowed(*byte))
}

#[cfg(test)]
mod tests {
    use super::Authorization::{Absent, Bearer, Malformed, OtherScheme, Repeated};
    use super::*;

    #[test]
    fn one_well_formed_bearer_token_or_none() {
        for (values, expected) in [
            (&[][..], Absent),
            (&["Bearer abc"], Bearer("abc")),
            (&["bearer abc"], Bearer("abc")),
            (&["bEaReR  abc "], Bearer("abc")),
            (&["Bearer a.b-c_d~e+f/g09=="], Bearer("a.b-c_d~e+f/g09==")),
            (&["Basic abc"], OtherScheme),
            (&["abc"], OtherScheme),
            (&[""], OtherScheme),
            (&["Basic Bearer"], OtherScheme),
            (&["Basic YWRh+Bearer/abc="], OtherScheme),
            (&["Digest realm=\"bearer of news\", a=b"], Malformed),
            (&["Basic abc Bearer def"], Malformed),
            (&["Basic abc;bearer def"], Malformed),
            (&[" Bearer abc"], Malformed),
            (&["\tBearer abc"], Malformed),
            (&["\u{a0}bearer abc"], Malformed),
            (&["Bearer\tabc"], Malformed),
            (&["Bearer\u{b}abc"], Malformed),
            (&["Bearer:abc"], Malformed),
            (&["Bearer=abc"], Malformed),
            (&["\"Bearer\" abc"], Malformed),
            (&["Bearerabc"], Malformed),
            (&["Basic abc,Bearer def"], Malformed),
            (&["Basic abc,\t beaRER:def"], Malformed),
            (&["Bearer"], Malformed),
            (&["Bearer "], Malformed),
            (&["Bearer   "], Malformed),
            (&["Bearer ="], Malformed),
            (&["Bearer a b"], Malformed),
            (&["Bearer \tabc"], Malformed),
            (&["Bearer a,Bearer b"], Malformed),
            (&["Bearer a=b"], Malformed),
            (&["Bearer \"abc\""], Malformed),
            (&["Bearer abcé"], Malformed),
            (&["Bearer abc", "Bearer abc"], Repeated),
            (&["Bearer abc", "Basic abc"], Repeated),
        ] {
            let read = Authorization::from_values(values.iter().map(|value| value.as_bytes()));
            assert!(read == expected, "{values:?} is {read:?}");
        }
    }

    #[test]
    fn the_characters_are_those_of_token68() {
        for byte in 0..=u8::MAX {
            let token = [b'a', byte, b'a'];
            let expected = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
            assert_eq!(is_token68(&token), expected, "{byte:#x}");
        }
        assert_eq!(Authorization::parse(b"Bearer a\xff"), Malformed);
    }

    #[test]
    fn debug_hides_the_token() {
        assert_eq!(format!("{:?}", Authorization::parse(b"Bearer canary")), "Bearer");
    }
}
