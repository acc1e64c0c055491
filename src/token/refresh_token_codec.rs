//! Reading and writing refresh tokens with the keys of this replica.

use std::sync::Arc;

use super::refresh_token::RefreshToken;
use crate::keys::manager::Keys;
use crate::model::{Error, Result};
use crate::secret::SecretText;

/// A key id that is past the newest known one by less than this is looked up: another replica may have made the key, and
/// replicas make one key at a time.
const MAX_UNKNOWN_KEYS: u32 = 8;

/// Reads and writes refresh tokens with the keys of this replica.
#[derive(Clone, Debug)]
pub struct RefreshTokenCodec {
    keys: Arc<Keys>,
}

impl RefreshTokenCodec {
    /// A codec with these keys.
    #[must_use]
    pub const fn new(keys: Arc<Keys>) -> Self {
        Self { keys }
    }

    /// The id of the refresh key that new tokens are tagged with.
    pub(super) fn newest_key_id(&self) -> Result<u32> {
        let ring = self.keys.current();
        let (key_id, _) = ring.newest_refresh().ok_or_else(|| Error::internal("no refresh key"))?;
        Ok(key_id)
    }

    /// The token as text, tagged with the key of this id. A key that this replica does not know yet is loaded.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` if the key cannot be loaded.
    pub(super) async fn encode(&self, token: &RefreshToken, key_id: u32) -> Result<SecretText> {
        if self.keys.current().refresh_key(key_id).is_none() {
            // Another replica made it a moment ago.
            self.keys.look_up_refresh_key(key_id).await?;
        }
        let ring = self.keys.current();
        let key = ring
            .refresh_key(key_id)
            .ok_or_else(|| Error::store_unavailable("the refresh key of the new token is not loaded yet"))?;
        Ok(token.encode(key_id, key))
    }

    /// Reads a refresh token of ours; none if it is not ours. For a token that names a key just past the newest known one
    /// the keys are loaded, unless they were loaded so recently that they would contain it.
    pub(super) async fn decode(&self, text: &str) -> Result<Option<RefreshToken>> {
        let ring = self.keys.current();
        if let Some(token) = RefreshToken::decode(text, |id| ring.refresh_key(id)) {
            return Ok(Some(token));
        }
        let newest = ring.newest_refresh().map_or(0, |(id, _)| id);
        let just_past = newest.saturating_add(1)..newest.saturating_add(MAX_UNKNOWN_KEYS);
        let claimed = RefreshToken::claimed_key(text).filter(|id| just_past.contains(id));
        let Some(id) = claimed.filter(|id| ring.refresh_key(*id).is_none()) else {
            return Ok(None);
        };
        if !self.keys.look_up_presented_refresh_key(id).await? {
            return Ok(None);
        }
        let ring = self.keys.current();
        Ok(RefreshToken::decode(text, |id| ring.refresh_key(id)))
    }
}
