//! Page tokens: opaque, and valid only for the query that returned them.
//!
//! A page token is a position in a list that its caller may read anyway. It needs no signature against forgery; a digest of
//! the query detects tokens that are used with another query by mistake.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::{Error, ErrorKind, Result};
use crate::secret::sha256;

const DEFAULT_SIZE: u32 = 50;
const MAX_SIZE: u32 = 1000;
const DIGEST_LEN: usize = 9;
/// In characters: more than any token that this module makes.
const MAX_TOKEN_LEN: usize = 512;

/// The query of a list without the page: makes and reads the page tokens of that query.
#[derive(Debug)]
pub struct ListQuery(Vec<u8>);

impl ListQuery {
    /// The query of `list` with these parameters, which must always be in the same order.
    #[must_use]
    pub fn new(list: &str, parameters: &[&str]) -> Self {
        let mut bytes = Vec::new();
        for part in std::iter::once(&list).chain(parameters) {
            // The length first, so that different parameters never give the same bytes.
            bytes.extend_from_slice(&part.len().to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        Self(bytes)
    }

    /// The token of the page that starts after `key`.
    #[must_use]
    pub fn page_token(&self, key: &str) -> String {
        let mut bytes = self.digest(key).to_vec();
        bytes.extend_from_slice(key.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The key after which the page of this token starts; `None` for an empty token, which means the first page.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID` if the token is not one of this query.
    pub fn page_key<K: std::str::FromStr>(&self, token: &str) -> Result<Option<K>> {
        if token.is_empty() {
            return Ok(None);
        }
        let key = self.read(token).and_then(|key| key.parse().ok());
        key.map(Some).ok_or_else(|| Error::from(ErrorKind::PageTokenInvalid))
    }

    fn read(&self, token: &str) -> Option<String> {
        if token.len() > MAX_TOKEN_LEN {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (digest, key) = bytes.split_at_checked(DIGEST_LEN)?;
        let key = std::str::from_utf8(key).ok()?;
        (digest == self.digest(key)).then(|| key.to_owned())
    }

    fn digest(&self, key: &str) -> [u8; DIGEST_LEN] {
        let mut bytes = self.0.clone();
        bytes.extend_from_slice(key.as_bytes());
        let mut digest = [0; DIGEST_LEN];
        digest.copy_from_slice(&sha256(&bytes)[..DIGEST_LEN]);
        digest
    }
}

/// The number of rows for a request's `page_size`: 0 means 50, and more than 1,000 means 1,000 (AIP-158).
pub(super) fn size(requested: i32) -> Result<u32> {
    match u32::try_from(requested) {
        Ok(0) => Ok(DEFAULT_SIZE),
        Ok(size) => Ok(size.min(MAX_SIZE)),
        Err(_) => Err(Error::invalid("page_size", "must not be negative")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_token_is_valid_for_its_own_query_only() {
        let query = ListQuery::new("users", &["ada", ""]);
        let token = query.page_token("key-1");
        assert_eq!(query.page_key::<String>(&token).unwrap().as_deref(), Some("key-1"));
        assert_eq!(query.page_key::<String>("").unwrap(), None);
        for other in [
            ListQuery::new("users", &["ad", "a"]),
            ListQuery::new("users", &["", "ada"]),
            ListQuery::new("clients", &["ada", ""]),
        ] {
            assert_eq!(
                other.page_key::<String>(&token).unwrap_err().kind,
                ErrorKind::PageTokenInvalid
            );
        }
    }

    #[test]
    fn other_text_is_not_a_page_token() {
        let query = ListQuery::new("users", &[]);
        let mut damaged = query.page_token("0190b6a8-1111-7000-8000-000000000000");
        damaged.replace_range(20..21, if &damaged[20..21] == "A" { "B" } else { "A" });
        for bad in [damaged.as_str(), "x", "====", "AAAA", "é\0", &"A".repeat(10_000)] {
            assert_eq!(
                query.page_key::<String>(bad).unwrap_err().kind,
                ErrorKind::PageTokenInvalid,
                "{bad}"
            );
        }
        assert!(
            query.page_key::<u32>(&query.page_token("not a number")).is_err(),
            "a key of another kind"
        );
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!([0, 1, 1000, i32::MAX].map(|n| size(n).unwrap()), [50, 1, 1000, 1000]);
        assert_eq!(size(-1).unwrap_err().violations[0].field, "page_size");
    }
}
