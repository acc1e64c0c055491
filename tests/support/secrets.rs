//! Looking for secrets where none may be.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// What must not be found, by name.
pub type Secrets = Vec<(&'static str, Vec<u8>)>;

/// Looks for each secret as it is, in hexadecimal and in base64, whichever way that is aligned.
pub fn assert_holds_none(place: &str, dump: &[u8], secrets: &Secrets) {
    assert!(!dump.is_empty(), "{place} is empty: nothing is shown by that");
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

/// One character a byte: the search in texts is quick also where the tests are not optimised.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}
