//! People.

use std::fmt;

use serde_json::{Map, Value};

use super::error::{Error, Result};
use super::ids::UserId;
use crate::clock::UnixMillis;

/// The role that only an admin may grant or take, and that `countersign:*` scopes come from.
pub const ADMIN: &str = "admin";

/// The most roles of one user; every access token carries them.
pub const MAX_ROLES: usize = 32;

/// The most bytes of a user's attributes, as JSON; every access token carries them.
pub const MAX_ATTRIBUTES: usize = 1024;

/// A person, as every operation but a login sees them. Holds no secret.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// The id: `sub` of their tokens.
    pub id: UserId,
    /// The name they log in with.
    pub username: Username,
    /// Empty if unknown.
    pub email: String,
    /// Empty if unknown.
    pub display_name: String,
    /// Sorted, without duplicates, at most [`MAX_ROLES`].
    pub roles: Vec<String>,
    /// What tokens carry under `ext`; at most [`MAX_ATTRIBUTES`] as JSON.
    pub attributes: Map<String, Value>,
    /// May neither log in nor refresh.
    pub disabled: bool,
    /// When the row was made.
    pub created: UnixMillis,
    /// When the row was last changed: the optimistic lock of an update.
    pub updated: UnixMillis,
    /// When the password was last set.
    pub password_changed: UnixMillis,
    /// When they last logged in with a password.
    pub last_login: Option<UnixMillis>,
}

impl User {
    /// Whether they hold the role `admin`.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.roles.iter().any(|role| role == ADMIN)
    }
}

/// A user name in the form in which it is stored and compared: RFC 8265 `UsernameCaseMapped`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Username(String);

impl Username {
    /// The longest name, in bytes after mapping.
    pub const MAX_LEN: usize = 128;

    /// Reads one that a request named in `field`.
    pub fn parse(text: &str, field: &'static str) -> Result<Self> {
        use precis_profiles::precis_core::profile::PrecisFastInvocation as _;
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return Err(Error::invalid(field, "must be 1-128 bytes"));
        }
        let refuse = || Error::invalid(field, "must be a user name of RFC 8265 (letters, digits, . _ - @ …)");
        let enforce = |text: &str| precis_profiles::UsernameCaseMapped::enforce(text).map(std::borrow::Cow::into_owned);
        let mapped = enforce(text).map_err(|_| refuse())?;
        // RFC 8264 §7: what is stored must map to itself, or its owner could not log in with the name that is shown.
        if enforce(&mapped).as_deref() != Ok(mapped.as_str()) {
            return Err(refuse());
        }
        if mapped.is_empty() || mapped.len() > Self::MAX_LEN {
            return Err(Error::invalid(field, "must be 1-128 bytes"));
        }
        Ok(Self(mapped))
    }

    /// A name read back from a store, where it was put in its mapped form.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_case_mapped_and_idempotent() {
        let name = Username::parse("Ada.Lovelace@Example.ORG", "username").unwrap();
        assert_eq!(name.as_str(), "ada.lovelace@example.org");
        assert_eq!(Username::parse(name.as_str(), "username").unwrap(), name);
        // Full width forms map to the plain letters, so they cannot pose as another user.
        assert_eq!(Username::parse("ａｄａ", "username").unwrap().as_str(), "ada");
    }

    #[test]
    fn names_hold_no_spaces_or_controls_and_map_to_themselves() {
        for bad in [
            "",
            " ",
            "a b",
            "a\0b",
            "a\r\nFLUSHALL",
            "\u{202e}ada",
            "Ꭰ",
            &"x".repeat(129),
        ] {
            assert!(Username::parse(bad, "username").is_err(), "{bad:?}");
        }
    }
}
