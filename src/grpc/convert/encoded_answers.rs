//! Encoded answers that are cached with a verified token.

use std::sync::OnceLock;

use bytes::Bytes;

/// The encoded parts of answers that depend on the token alone, as an extension of the verified token: each is encoded
/// once and lives as long as the token is in the cache.
#[derive(Debug, Default)]
pub(super) struct EncodedAnswers {
    /// The claims, as `ValidateResponse` has them.
    pub(super) claims: OnceLock<Bytes>,
    /// The `CheckResponse` to a request that shows the token and that passes unchanged.
    pub(super) check_response: OnceLock<Bytes>,
}
