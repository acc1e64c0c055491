//! Searches data for secrets.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Secrets that must not be found, each with a name.
pub type Secrets = Vec<(&'static str, Vec<u8>)>;

/// Asserts that the data contains no secret, neither as it is nor in hexadecimal or base64, at any base64 alignment.
pub fn assert_holds_none(place: &str, dump: &[u8], secrets: &Secrets) {
    assert!(!dump.is_empty(), "{place} is empty, so the search proves nothing");
    let text = latin(dump);
    for (name, secret) in secrets {
        let hex = secret
            .iter()
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let mut forms = vec![secret.clone(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
        for skip in 0..3 {
            let whole = &secret[skip..];
            let whole = &whole[..whole.len() / 3 * 3];
            forms.extend([
                URL_SAFE_NO_PAD.encode(whole).into_bytes(),
                STANDARD_NO_PAD.encode(whole).into_bytes(),
            ]);
        }
        for form in forms {
            assert!(!text.contains(&latin(&form)), "{place} holds {name}");
        }
    }
}

/// One character for each byte: text search is fast even where the tests are not optimised.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}
