//! The claims of an access token: those of RFC 9068 §2.2 and Countersign's own.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::epoch::TokenEpochs;
use super::ids::{ClientId, SessionId, TokenId};

/// The longest lifetime of an access token. It limits every configured lifetime, and `Validate` reports a token with a
/// longer one as malformed.
pub const MAX_ACCESS_TOKEN_TTL: Duration = Duration::from_hours(24);

/// The payload of an access token. Only `keys::verify` parses it; it checks more than this type does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// `iss`: the issuer, exactly `tokens.issuer`.
    pub iss: String,
    /// `sub`: the user id, or the client id in a client's own token.
    pub sub: String,
    /// `aud`: the audiences. Written as an array; a single string is accepted too.
    #[serde(deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// `client_id` (RFC 8693 §4.3): the client that holds the token.
    pub client_id: ClientId,
    /// `iat`: seconds since the Unix epoch.
    pub iat: i64,
    /// `exp`: seconds since the Unix epoch.
    pub exp: i64,
    /// `nbf`: seconds since the Unix epoch. Countersign does not write it, but respects it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// `jti`: the id of this token.
    pub jti: TokenId,
    /// `scope`: separated by spaces (RFC 8693 §4.2); absent if there are none.
    #[serde(default, with = "space_separated", skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// `sid`: the session; absent in a client's own token.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionId>,
    /// `auth_time`: when the user logged in, in seconds since the Unix epoch; absent in a client's own token.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// `roles` (RFC 9068 §2.2.3.1).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// `act` (RFC 8693 §4.1): the actor that acts for `sub`; only in an exchanged token.
    #[serde(default, deserialize_with = "actor", skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Actor>>,
    /// `epo`: the epochs with which the root token was issued.
    #[serde(deserialize_with = "from_object")]
    pub epo: TokenEpochs,
    /// `root`: the `jti` of the root token, if that token has no session. The root token is the first one in a chain of
    /// token exchanges.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub root: Option<TokenId>,
    /// `ext`: the user's attributes.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub ext: Option<serde_json::Map<String, serde_json::Value>>,
    /// `preferred_username`: the name of the user, if `tokens.username_claim` is on.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub preferred_username: Option<String>,
}

impl Claims {
    /// The actors of the delegation chain, outermost first.
    pub fn actors(&self) -> impl Iterator<Item = &Actor> {
        std::iter::successors(self.act.as_deref(), |actor| actor.act.as_deref())
    }

    /// Whether this is a user's own token: it has a session and no actor.
    #[must_use]
    pub fn is_person(&self) -> bool {
        self.sid.is_some() && self.act.is_none()
    }

    /// Whether this is a client's own token.
    #[must_use]
    pub fn is_machine(&self) -> bool {
        self.sid.is_none() && self.act.is_none() && self.root.is_none() && self.sub == self.client_id.as_str()
    }
}

/// An actor in the claim `act`: a service that acts for the subject, with the ids and epochs by which its token can be
/// revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The client id of the actor.
    pub sub: String,
    /// The client that held the actor token.
    pub client_id: ClientId,
    /// The session of the actor token, if it had one.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionId>,
    /// The id of the actor token, if it had no session.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub jti: Option<TokenId>,
    /// The epochs of the actor token.
    #[serde(deserialize_with = "from_object")]
    pub epo: TokenEpochs,
    /// The previous actor.
    #[serde(default, deserialize_with = "actor", skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Self>>,
}

/// Reads one string or an array of strings (RFC 7519 §4.1.3).
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMany;

    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or an array of strings")
        }

        fn visit_str<E: de::Error>(self, one: &str) -> Result<Vec<String>, E> {
            Ok(vec![one.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, many: A) -> Result<Vec<String>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(many))
        }
    }

    deserializer.deserialize_any(OneOrMany)
}

/// Reads a member that may be absent but must not be `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads an actor of `act`.
fn actor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<Actor>>, D::Error> {
    from_object(deserializer).map(Some)
}

/// Reads a struct from an object only. Derived deserialization would also accept an array of its members.
pub(crate) fn from_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Members<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Members(PhantomData))
}

mod space_separated {
    use std::fmt;

    use serde::de::{self, Visitor};

    pub(super) fn serialize<S: serde::Serializer>(list: &[String], serializer: S) -> Result<S::Ok, S::Error> {
        match list {
            [one] => serializer.serialize_str(one),
            list => serializer.serialize_str(&list.join(" ")),
        }
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
        struct Names;

        impl Visitor<'_> for Names {
            type Value = Vec<String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<String>, E> {
                let names = text.split(' ').filter(|name| !name.is_empty());
                Ok(names.map(str::to_owned).collect())
            }
        }

        deserializer.deserialize_str(Names)
    }
}
