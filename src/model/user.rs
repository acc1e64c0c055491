//! Users.

use std::fmt;

use serde_json::{Map, Value};

use super::error::{Error, Result};
use super::ids::UserId;
use crate::clock::UnixMillis;

/// The role that allows a user to hold `countersign:*` scopes. Only an admin may grant or remove it.
pub const ADMIN: &str = "admin";

/// The most roles of one user. Every access token of the user carries them.
pub const MAX_ROLES: usize = 32;

/// The most bytes of a user's attributes as JSON. Every access token of the user carries them.
pub const MAX_ATTRIBUTES: usize = 1024;

/// A user without the password hash, which only the operations on passwords read.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// The id: `sub` of the user's tokens.
    pub id: UserId,
    /// The name for logins.
    pub username: Username,
    /// The e-mail address; empty if unknown.
    pub email: String,
    /// The display name; empty if unknown.
    pub display_name: String,
    /// The roles: sorted, without duplicates, at most [`MAX_ROLES`].
    pub roles: Vec<String>,
    /// What access tokens carry as `ext`; at most [`MAX_ATTRIBUTES`] bytes as JSON.
    pub attributes: Map<String, Value>,
    /// Whether the user may neither log in nor refresh.
    pub disabled: bool,
    /// When the row was created.
    pub created: UnixMillis,
    /// When the row was last changed. An update may require this value (optimistic lock).
    pub updated: UnixMillis,
    /// When the password was last set.
    pub password_changed: UnixMillis,
    /// The last login with a password.
    pub last_login: Option<UnixMillis>,
}

impl User {
    /// Whether the user has the role `admin`.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.roles.iter().any(|role| role == ADMIN)
    }
}

/// A username in the form in which it is stored and compared: RFC 8265 `UsernameCaseMapped`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Username(String);

impl Username {
    /// The longest username, in bytes after mapping.
    pub const MAX_LEN: usize = 128;

    /// Parses a username from the request field `field`, which an error names.
    pub fn parse(text: &str, field: &'static str) -> Result<Self> {
        use precis_profiles::precis_core::profile::PrecisFastInvocation as _;
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return Err(Error::invalid(field, "must be 1-128 bytes"));
        }
        let refuse = || Error::invalid(field, "must be a user name of RFC 8265 (letters, digits, . _ - @ …)");
        let enforce = |text: &str| precis_profiles::UsernameCaseMapped::enforce(text).map(std::borrow::Cow::into_owned);
        let mapped = enforce(text).map_err(|_| refuse())?;
        // RFC 8264 §7: the stored name must map to itself. Else the user could not log in with the name that is shown.
        if enforce(&mapped).as_deref() != Ok(mapped.as_str()) {
            return Err(refuse());
        }
        if mapped.is_empty() || mapped.len() > Self::MAX_LEN {
            return Err(Error::invalid(field, "must be 1-128 bytes"));
        }
        Ok(Self(mapped))
    }

    /// A username from a store, which holds only mapped names.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The username as text.
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
    fn usernames_are_case_mapped_and_idempotent() {
        let name = Username::parse("Ada.Lovelace@Example.ORG", "username").unwrap();
        assert_eq!(name.as_str(), "ada.lovelace@example.org");
        assert_eq!(Username::parse(name.as_str(), "username").unwrap(), name);
        // Full-width letters map to plain letters, so they cannot imitate another user's name.
        assert_eq!(Username::parse("ａｄａ", "username").unwrap().as_str(), "ada");
    }

    #[test]
    fn usernames_hold_no_spaces_or_controls_and_map_to_themselves() {
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
