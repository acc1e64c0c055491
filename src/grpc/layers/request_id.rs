//! The name of a call: found in its answer, in the logs and in the audit trail.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::secret::{Entropy, random};

/// Where it stands, in requests and answers.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest that a caller may choose, in bytes.
const MAX_LEN: usize = 64;

/// Makes request ids: unique, cheap, and no secret.
#[derive(Debug)]
pub struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Ids that no other process makes.
    #[must_use]
    pub fn new(entropy: &dyn Entropy) -> Self {
        Self {
            process: u64::from_be_bytes(random(entropy)),
            next: AtomicU64::new(0),
        }
    }

    /// The caller's id if it is a decent one, else one of ours.
    pub(super) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(REQUEST_ID) {
            Some(id) if is_valid(id.as_bytes()) => id.clone(),
            _ => self.make(),
        }
    }

    fn make(&self) -> HeaderValue {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut text = [b'-'; 33];
        // By hand: this runs on every call.
        hex(self.process, &mut text[..16]);
        hex(number, &mut text[17..]);
        let mut id = HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("-"));
        // Each is new: it is not worth a place in the peer's table of headers that come again (RFC 7541 §7.1.3).
        id.set_sensitive(true);
        id
    }
}

/// Sixteen hex digits.
fn hex(number: u64, out: &mut [u8]) {
    for (digit, place) in out.iter_mut().rev().zip(0..16) {
        let nibble = usize::try_from((number >> (4 * place)) & 15).unwrap_or(0);
        *digit = b"0123456789abcdef"[nibble];
    }
}

/// Visible ASCII, so that it can neither forge a log line nor move a terminal's cursor.
fn is_valid(id: &[u8]) -> bool {
    (1..=MAX_LEN).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SystemEntropy;

    #[test]
    fn decent_ids_are_kept_and_others_replaced() {
        let ids = RequestIds::new(&SystemEntropy);
        let of = |id: &[u8]| {
            let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_bytes(id).unwrap())]);
            ids.of(&headers)
        };
        assert_eq!(of(b"abc-123"), "abc-123");
        assert_eq!(of(&[b'x'; 64]).len(), 64);
        for bad in [&b""[..], &[b'x'; 65], b"a b", b"a\tb", "é".as_bytes()] {
            assert_ne!(of(bad).as_bytes(), bad);
        }
    }

    #[test]
    fn made_ids_differ() {
        let ids = RequestIds::new(&SystemEntropy);
        let made: std::collections::HashSet<_> = (0..1000).map(|_| ids.of(&HeaderMap::new())).collect();
        assert_eq!(made.len(), 1000);
        assert!(made.iter().all(|id| is_valid(id.as_bytes())));
    }
}
