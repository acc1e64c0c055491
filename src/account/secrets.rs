//! Secrets that we hand out once: 256 random bits in text, kept as SHA-256 of that text.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::secret::{Entropy, SecretBytes, SecretText, sha256};

/// How a client's secret begins, so that people and secret scanners know one when they see it.
pub const CLIENT_SECRET_PREFIX: &str = "css_";

/// How a token for a password reset begins.
pub const RESET_TOKEN_PREFIX: &str = "csp_";

/// A fresh secret with its stored form, the SHA-256 of its whole text. No slow hash: nobody guesses 256 bits.
pub(super) fn generate(prefix: &str, entropy: &dyn Entropy) -> (SecretText, [u8; 32]) {
    let bytes = SecretBytes::<32>::generate(entropy);
    let text = SecretText::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes.expose())));
    let hash = stored(&text);
    (text, hash)
}

/// The stored form of a secret.
pub(super) fn stored(text: &SecretText) -> [u8; 32] {
    sha256(text.expose().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SystemEntropy;

    #[test]
    fn secrets_are_256_bits_and_never_twice_the_same() {
        let (one, hash) = generate(CLIENT_SECRET_PREFIX, &SystemEntropy);
        let (two, _) = generate(CLIENT_SECRET_PREFIX, &SystemEntropy);
        assert_eq!(one.expose().len(), 4 + 43);
        assert!(one.expose().starts_with("css_") && one != two);
        assert_eq!(stored(&one), hash);
    }
}
