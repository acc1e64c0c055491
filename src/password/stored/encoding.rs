//! The encodings of numbers and bytes in stored hashes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// A number of decimal digits only; `str::parse` also accepts a sign.
pub(super) fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// Base64 with or without padding.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

/// Base64 of either alphabet, with or without padding: two exports of one system differ in it.
pub(super) fn base64_of_either_alphabet(text: &str) -> Option<Vec<u8>> {
    base64(&text.replace('-', "+").replace('_', "/"))
}

/// passlib's base64, which has `.` in place of `+`.
pub(super) fn base64_of_passlib(text: &str) -> Option<Vec<u8>> {
    base64(&text.replace('.', "+"))
}

/// The bytes of hexadecimal digits.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        u8::try_from((digit(0)? << 4) | digit(1)?).ok()
    };
    pairs
        .iter()
        .map(byte)
        .collect::<Option<_>>()
        .filter(|_| rest.is_empty())
}

/// The lower-case hexadecimal digits of `bytes`.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16);
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(digit)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_are_read() {
        assert_eq!(number("007"), Some(7));
        for bad in ["", "+1", "-1", " 1", "1 ", "4294967296", "١"] {
            assert_eq!(number(bad), None, "{bad}");
        }
        assert_eq!(hex("00fFa1").as_deref(), Some(&[0, 255, 161][..]));
        for bad in ["f", "+f", "0g", "00 "] {
            assert_eq!(hex(bad), None, "{bad}");
        }
        assert_eq!(to_hex(&[0, 255, 161]), "00ffa1");
    }
}
