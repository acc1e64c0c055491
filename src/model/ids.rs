//! Ids. They are parsed when a request arrives; a value of these types is always well formed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::error::Error;
use crate::clock::UnixMillis;
use crate::secret::{Entropy, random};

/// A new `UUIDv7` (RFC 9562): it sorts by `now`, and its last 74 bits are random.
#[must_use]
pub fn new_uuid(now: UnixMillis, entropy: &dyn Entropy) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(now.0).unwrap_or(0), &random(entropy)).into_uuid()
}

macro_rules! uuid_id {
    ($name:ident, $field:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id ([`new_uuid`]).
            #[must_use]
            pub fn generate(now: UnixMillis, entropy: &dyn Entropy) -> Self {
                Self(new_uuid(now, entropy))
            }

            /// The 16 bytes of the id.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Parses an id from the request field `field`, which an error names.
            pub fn parse(text: &str, field: &'static str) -> Result<Self, Error> {
                // Only the hyphenated form of 36 characters is accepted; `urn:uuid:` and braces are refused.
                if text.len() != 36 {
                    return Err(Error::invalid(field, "must be a UUID"));
                }
                Uuid::try_parse(text)
                    .map(Self)
                    .map_err(|_| Error::invalid(field, "must be a UUID"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Self::parse(text, $field)
            }
        }
    };
}

uuid_id!(UserId, "user_id", "The id of a user.");
uuid_id!(
    SessionId,
    "session_id",
    "The id of a session: one login on one device, from `Issue` until it ends."
);
uuid_id!(
    TokenId,
    "token_id",
    "The id of an access token: its `jti` (RFC 7519 §4.1.7)."
);

/// The id of a client (RFC 6749 §1.1): an application that requests tokens. 3–64 characters of `a-z 0-9 . _ -`, never a
/// UUID, so that a client id in `sub` cannot be confused with a user id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// The client that exists in every deployment; an empty `client_id` in a request means this client.
    pub const DEFAULT: &'static str = "default";

    /// Parses an id from the request field `field`, which an error names.
    pub fn parse(text: &str, field: &'static str) -> Result<Self, Error> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        if !(3..=64).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(Error::invalid(field, "must be 3-64 of a-z 0-9 . _ -"));
        }
        if Uuid::try_parse(text).is_ok() {
            return Err(Error::invalid(field, "must not be a UUID"));
        }
        Ok(Self(text.into()))
    }

    /// Like [`ClientId::parse`], but empty text means [`ClientId::DEFAULT`].
    pub fn parse_or_default(text: &str, field: &'static str) -> Result<Self, Error> {
        if text.is_empty() {
            Ok(Self::default())
        } else {
            Self::parse(text, field)
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ClientId {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

/// The id of a signing key: its RFC 7638 thumbprint (SHA-256, base64url, 43 characters), the `kid` of tokens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// Parses an id from the request field `field`, which an error names.
    pub fn parse(text: &str, field: &'static str) -> Result<Self, Error> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if text.len() != 43 || !text.bytes().all(allowed) {
            return Err(Error::invalid(field, "must be a key id (43 characters of base64url)"));
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_id {
    ($name:ident, $field:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Self::parse(text, $field)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;

                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a ", $field))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::parse(text, $field).map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Text)
            }
        }
    };
}

text_id!(ClientId, "client_id");
text_id!(KeyId, "key_id");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_short_ascii_and_never_uuids() {
        for good in ["web", "a.b_c-9", &"x".repeat(64)] {
            assert_eq!(ClientId::parse(good, "client_id").unwrap().as_str(), good);
        }
        for bad in [
            "",
            "ab",
            "Web",
            "a b c",
            "wéb",
            "a\0b",
            &"x".repeat(65),
            "0190b6a8-1111-7000-8000-000000000000",
        ] {
            assert!(ClientId::parse(bad, "client_id").is_err(), "{bad:?}");
        }
        assert_eq!(
            ClientId::parse_or_default("", "client_id").unwrap(),
            ClientId::default()
        );
    }

    #[test]
    fn only_the_hyphenated_form_of_a_uuid_is_parsed() {
        assert!(UserId::parse("0190b6a8-1111-7000-8000-000000000000", "user_id").is_ok());
        for bad in [
            "",
            "0190b6a8111170008000000000000000",
            "urn:uuid:0190b6a8-1111-7000-8000-000000000000",
        ] {
            assert!(UserId::parse(bad, "user_id").is_err(), "{bad:?}");
        }
    }
}
