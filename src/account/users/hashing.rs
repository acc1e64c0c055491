//! What the rules need of the room of passwords.

use std::sync::Arc;
use std::time::Duration;

use crate::model::Result;
use crate::password::Pool;
use crate::secret::SecretText;

/// The policy of passwords and the pool that hashes them.
#[derive(Debug)]
pub struct Passwords {
    /// The threads that do both.
    pub pool: Arc<Pool>,
}

impl Passwords {
    /// Whether a new password is good enough; `field` is its path, `context` what it must not be made of.
    pub(super) async fn check(
        &self,
        password: &SecretText,
        field: &'static str,
        context: &[&str],
        deadline: Duration,
    ) -> Result<()> {
        self.pool.check(password, field, context, deadline).await
    }

    /// The PHC string of a password. `deadline` is a moment of the clock's monotonic time.
    pub(super) async fn hash(&self, password: SecretText, deadline: Duration) -> Result<SecretText> {
        self.pool.hash(password, deadline).await
    }

    /// Whether the password is the stored one; takes as long if none is stored.
    pub(super) async fn verify(
        &self,
        stored: Option<SecretText>,
        password: SecretText,
        deadline: Duration,
    ) -> Result<bool> {
        Ok(self.pool.verify(stored, password, deadline).await?.matches)
    }
}
