//! The request id: sent back to the caller, and written to the logs and the audit trail.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::secret::{Entropy, random};

/// The header that carries the request id, in requests and responses.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that a caller may choose, in bytes.
const MAX_LEN: usize = 64;

/// Generates request ids. They are unique and cheap, and need not be secret.
#[derive(Debug)]
pub struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// A generator whose ids begin with a random number of this process, so that no other process makes the same.
    #[must_use]
    pub fn new(entropy: &dyn Entropy) -> Self {
        Self {
            process: u64::from_be_bytes(random(entropy)),
            next: AtomicU64::new(0),
        }
    }

    /// The caller's id if it is valid, else a new one.
    pub(super) fn accept_or_generate(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(REQUEST_ID) {
            Some(id) if is_valid(id.as_bytes()) => id.clone(),
            _ => self.generate(),
        }
    }

    fn generate(&self) -> HeaderValue {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut text = [b'-'; 33];
        // Not `format!`: this runs on every call.
        hex(self.process, &mut text[..16]);
        hex(number, &mut text[17..]);
        let mut id = HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("-"));
        // Each id is used once, so "never indexed" keeps it out of the peer's dynamic header table (RFC 7541 §7.1.3).
        id.set_sensitive(true);
        id
    }
}

/// Writes `number` as sixteen hex digits.
fn hex(number: u64, out: &mut [u8]) {
    for (digit, position) in out.iter_mut().rev().zip(0..16) {
        let nibble = usize::try_from((number >> (4 * position)) & 15).unwrap_or(0);
        *digit = b"0123456789abcdef"[nibble];
    }
}

/// Whether the id has at most `MAX_LEN` bytes, all visible ASCII: it can neither forge a log line nor control a
/// terminal.
fn is_valid(id: &[u8]) -> bool {
    (1..=MAX_LEN).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SystemEntropy;

    #[test]
    fn valid_ids_are_kept_and_others_replaced() {
        let ids = RequestIds::new(&SystemEntropy);
        let of = |id: &[u8]| {
            let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_bytes(id).unwrap())]);
            ids.accept_or_generate(&headers)
        };
        assert_eq!(of(b"abc-123"), "abc-123");
        assert_eq!(of(&[b'x'; 64]).len(), 64);
        for bad in [&b""[..], &[b'x'; 65], b"a b", b"a\tb", "é".as_bytes()] {
            assert_ne!(of(bad).as_bytes(), bad);
        }
    }

    #[test]
    fn generated_ids_differ() {
        let ids = RequestIds::new(&SystemEntropy);
        let generated: std::collections::HashSet<_> =
            (0..1000).map(|_| ids.accept_or_generate(&HeaderMap::new())).collect();
        assert_eq!(generated.len(), 1000);
        assert!(generated.iter().all(|id| is_valid(id.as_bytes())));
    }
}
