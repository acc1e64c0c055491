//! The claims of an access token (RFC 9068 §2.2, and ours).

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::epoch::TokenEpochs;
use super::ids::{ClientId, SessionId, TokenId};

/// The longest life of an access token: the ceiling of every access ttl, and `Validate` refuses longer ones as malformed.
pub const MAX_ACCESS_TOKEN_TTL: Duration = Duration::from_hours(24);

/// What an access token says. Serialised as the JWT's payload; read back only by `keys::verify`, which checks much
/// more than that the JSON fits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// `iss`: who issued it, exactly `tokens.issuer`.
    pub iss: String,
    /// `sub`: the user's id, or the client's id in a machine's token.
    pub sub: String,
    /// `aud`: whom it is for. Written as an array; a single string is read too.
    #[serde(deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// `client_id` (RFC 8693 §4.3): the client that holds it.
    pub client_id: ClientId,
    /// `iat`: seconds since the Unix epoch.
    pub iat: i64,
    /// `exp`: seconds since the Unix epoch.
    pub exp: i64,
    /// `nbf`: seconds since the Unix epoch. Never written by us, obeyed when present.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// `jti`: this token's own id.
    pub jti: TokenId,
    /// `scope`: space-separated (RFC 8693 §4.2); absent when there is none.
    #[serde(default, with = "space_separated", skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// `sid`: the session; absent in a machine's token.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionId>,
    /// `auth_time`: when the person proved who they are, seconds since the Unix epoch; absent in a machine's token.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// `roles` (RFC 9068 §2.2.3.1).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// `act` (RFC 8693 §4.1): who acts for `sub`; absent unless exchanged.
    #[serde(default, deserialize_with = "link", skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Actor>>,
    /// `epo`: the epochs under which the root token was made.
    #[serde(deserialize_with = "from_object")]
    pub epo: TokenEpochs,
    /// `root`: the `jti` of the root token, where that token had no session.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub root: Option<TokenId>,
    /// `ext`: the user's attributes.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub ext: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Claims {
    /// The links of the delegation chain, outermost first.
    pub fn actors(&self) -> impl Iterator<Item = &Actor> {
        std::iter::successors(self.act.as_deref(), |actor| actor.act.as_deref())
    }

    /// Whether this is a person's own token: it has a session and nobody acts for them.
    #[must_use]
    pub fn is_person(&self) -> bool {
        self.sid.is_some() && self.act.is_none()
    }

    /// Whether this is a machine's own token: a client speaking for itself.
    #[must_use]
    pub fn is_machine(&self) -> bool {
        self.sid.is_none() && self.act.is_none() && self.root.is_none() && self.sub == self.client_id.as_str()
    }
}

/// One link of the claim `act`: a service that acts for the subject, and what can revoke it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The actor: a client's id.
    pub sub: String,
    /// The client that held the actor token.
    pub client_id: ClientId,
    /// The actor token's session, if it had one.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionId>,
    /// The actor token's own id, where it had no session.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub jti: Option<TokenId>,
    /// The actor token's epochs.
    #[serde(deserialize_with = "from_object")]
    pub epo: TokenEpochs,
    /// Who acted before.
    #[serde(default, deserialize_with = "link", skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Self>>,
}

/// One string, or an array of strings (RFC 7519 §4.1.3).
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

/// A member that, when it is there, is not `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A link of `act`.
fn link<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<Actor>>, D::Error> {
    from_object(deserializer).map(Some)
}

/// A struct that is read from an object only: a derived one would be read from an array too, member by member.
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
