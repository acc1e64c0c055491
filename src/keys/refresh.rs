//! Refresh keys: they tag refresh tokens, so that a forged token is refused without a call to a store.

use std::fmt;

use aws_lc_rs::hmac;

use crate::secret::{SecretBytes, same};

/// A key that tags refresh tokens: HMAC-SHA256 (RFC 2104), truncated to 16 bytes.
pub struct RefreshKey(hmac::Key);

impl RefreshKey {
    /// Makes the key from its secret bytes.
    #[must_use]
    pub fn new(secret: &SecretBytes<32>) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose()))
    }

    /// Computes the tag of `bytes`.
    #[must_use]
    pub fn tag(&self, bytes: &[u8]) -> [u8; 16] {
        let mut tag = [0; 16];
        tag.copy_from_slice(&hmac::sign(&self.0, bytes).as_ref()[..16]);
        tag
    }

    /// Whether `tag` is the tag of `bytes`. Compares in constant time.
    #[must_use]
    pub fn verifies(&self, bytes: &[u8], tag: &[u8; 16]) -> bool {
        same(&self.tag(bytes), tag)
    }
}

impl fmt::Debug for RefreshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_hmac_sha256_cut_to_sixteen_bytes() {
        // Computed with Python: hmac.new(bytes(range(32)), b"countersign", "sha256").digest()[:16]
        let key = RefreshKey::new(&SecretBytes::new(std::array::from_fn(|index| {
            u8::try_from(index).unwrap()
        })));
        let tag = key.tag(b"countersign");
        assert_eq!(tag, EXPECTED);
        assert!(key.verifies(b"countersign", &tag));
        assert!(!key.verifies(b"countersigm", &tag));
        for bit in 0..128 {
            let mut changed = tag;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.verifies(b"countersign", &changed), "bit {bit}");
        }
        assert!(!format!("{key:?}").contains("31"));
    }

    const EXPECTED: [u8; 16] = [
        0x1e, 0x48, 0xb4, 0x5d, 0xb9, 0x06, 0x77, 0x42, 0x37, 0x61, 0xed, 0x59, 0x3c, 0xfe, 0xc5, 0x13,
    ];
}
