//! An access token that was verified.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock::UnixMillis;
use crate::model::revocation::RevocationSubject;
use crate::model::{Claims, KeyId};

/// How many types of values [`Extensions`] can hold: the encoded answers, and the caller that the token stands for.
const MAX_EXTENSIONS: usize = 2;

/// An access token whose signature and claims are good. Expiry, audience, scopes and revocation are checked at every use,
/// by [`crate::validator::check`].
#[derive(Debug)]
pub struct VerifiedToken {
    /// The claims.
    pub claims: Arc<Claims>,
    /// The key that signed the token.
    pub key_id: KeyId,
    /// The ids and epochs by which the token can be revoked.
    pub revocation_subject: RevocationSubject,
    /// When the token expires, leeway included.
    pub expires: UnixMillis,
    /// Values that are derived from the token and cached with it.
    pub extensions: Extensions,
}

impl VerifiedToken {
    /// The token with these verified claims, which this key signed.
    #[must_use]
    pub fn new(claims: Claims, key_id: KeyId, leeway: Duration) -> Self {
        Self {
            revocation_subject: RevocationSubject::of_claims(&claims, key_id.clone()),
            expires: UnixMillis::from_secs(claims.exp).plus(leeway),
            claims: Arc::new(claims),
            key_id,
            extensions: Extensions::default(),
        }
    }
}

/// The extensions do not count: they are derived from the rest.
impl PartialEq for VerifiedToken {
    fn eq(&self, other: &Self) -> bool {
        self.claims == other.claims && self.key_id == other.key_id && self.expires == other.expires
    }
}

/// Values that other modules derive from a token, at most one of each type. The cache of verified tokens keeps them as
/// long as the token, so that an encoded answer, for example, is encoded once. Reading takes no lock.
#[derive(Default)]
pub struct Extensions {
    values: [OnceLock<Box<dyn Any + Send + Sync>>; MAX_EXTENSIONS],
}

impl Extensions {
    /// The value of type `T`, created with its default at the first call. None if as many other types as fit are here
    /// already; the caller then works without a cached value.
    #[must_use]
    pub fn get<T: Default + Send + Sync + 'static>(&self) -> Option<&T> {
        let create = || Box::<T>::default() as Box<dyn Any + Send + Sync>;
        self.values
            .iter()
            .find_map(|value| value.get_or_init(create).downcast_ref())
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.values.iter().filter(|value| value.get().is_some()).count();
        f.debug_struct("Extensions").field("count", &count).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_hold_one_value_of_each_type() {
        let extensions = Extensions::default();
        let first: &OnceLock<u32> = extensions.get().unwrap();
        first.set(1).unwrap();
        let second: &OnceLock<String> = extensions.get().unwrap();
        second.set("two".to_owned()).unwrap();
        assert_eq!(extensions.get::<OnceLock<u32>>().unwrap().get(), Some(&1));
        assert_eq!(
            extensions.get::<OnceLock<String>>().unwrap().get().map(String::as_str),
            Some("two")
        );
        assert!(
            extensions.get::<OnceLock<u8>>().is_none(),
            "there is no room for a third"
        );
    }
}
