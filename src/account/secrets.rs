//! Secrets that a caller sees once: 256 random bits as text. The store keeps the SHA-256 of that text.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::secret::{Entropy, SecretBytes, SecretText, sha256};

/// Prefix of a client secret. Secret scanners can find it.
pub const CLIENT_SECRET_PREFIX: &str = "css_";

/// Prefix of a password reset token.
pub const RESET_TOKEN_PREFIX: &str = "csp_";

/// A new secret and its stored form. A fast hash is enough, because 256 random bits cannot be guessed.
pub(super) fn generate(prefix: &str, entropy: &dyn Entropy) -> (SecretText, [u8; 32]) {
    let bytes = SecretBytes::<32>::generate(entropy);
    let text = SecretText::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes.expose())));
    let hash = hash(&text);
    (text, hash)
}

/// The stored form of a secret: the SHA-256 of its whole text.
pub(super) fn hash(text: &SecretText) -> [u8; 32] {
    sha256(text.expose().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SystemEntropy;

    #[test]
    fn secrets_are_256_bits_and_always_different() {
        let (one, stored) = generate(CLIENT_SECRET_PREFIX, &SystemEntropy);
        let (two, _) = generate(CLIENT_SECRET_PREFIX, &SystemEntropy);
        assert_eq!(one.expose().len(), 4 + 43);
        assert!(one.expose().starts_with("css_") && one != two);
        assert_eq!(hash(&one), stored);
    }
}
