//! What the rules need of the room of passwords.

use std::time::Duration;

use async_trait::async_trait;

use crate::model::Result;
use crate::secret::SecretText;

/// The policy of passwords and the pool that hashes them.
#[async_trait]
pub trait Passwords: Send + Sync {
    /// Whether a new password is good enough; `field` is its path, `context` what it must not be made of.
    fn check(&self, password: &SecretText, field: &'static str, context: &[&str]) -> Result<()>;

    /// The PHC string of a password.
    async fn hash(&self, password: SecretText, deadline: Duration) -> Result<SecretText>;

    /// Whether the password is the stored one; takes as long if none is stored.
    async fn verify(&self, stored: Option<SecretText>, password: SecretText, deadline: Duration) -> Result<bool>;

    /// Whether a hash that another system made is of a known form and affordable.
    fn check_imported(&self, hash: &SecretText) -> Result<()>;
}
