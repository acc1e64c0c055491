//! How single values are read and written: durations, lists, tables, optional texts, secrets, keywords.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::text::{format_duration, parse_duration};
use crate::model::Network;
use crate::secret::SecretText;

/// Written in place of a secret when the configuration is shown.
pub(super) const REDACTED: &str = "[redacted]";

/// A duration such as `15m`, for `#[serde(with = "duration")]`.
pub(super) mod duration {
    use std::time::Duration;

    use super::{Deserialize as _, Deserializer, de, format_duration, parse_duration};

    pub(in crate::config) fn serialize<S: serde::Serializer>(span: &Duration, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&format_duration(*span))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        parse_duration(&String::deserialize(input)?).map_err(de::Error::custom)
    }
}

/// An optional value that is not secret. Empty text means not set, because `${UNSET:-}` in a compose file gives empty text.
pub(super) fn optional<'de, D: Deserializer<'de>, T: std::str::FromStr<Err: fmt::Display>>(
    input: D,
) -> Result<Option<T>, D::Error> {
    match Option::<String>::deserialize(input)? {
        Some(text) if !text.is_empty() => text.parse().map(Some).map_err(de::Error::custom),
        Some(_) | None => Ok(None),
    }
}

/// An optional secret, written as [`REDACTED`]. Empty text means not set.
pub(super) mod secret {
    use super::{Deserialize as _, Deserializer, REDACTED, SecretText};

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(in crate::config) fn serialize<S: serde::Serializer>(
        secret: &Option<SecretText>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match secret {
            Some(_) => out.serialize_some(REDACTED),
            None => out.serialize_none(),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<SecretText>, D::Error> {
        let text = Option::<String>::deserialize(input)?;
        Ok(text.filter(|text| !text.is_empty()).map(SecretText::from))
    }
}

/// An optional URL that may contain a password, written without the password.
pub(super) mod secret_url {
    pub(in crate::config) use super::secret::deserialize;
    use super::{SecretText, redact_url};

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(in crate::config) fn serialize<S: serde::Serializer>(
        url: &Option<SecretText>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match url {
            Some(url) => out.serialize_some(&redact_url(url.expose())),
            None => out.serialize_none(),
        }
    }
}

/// The URL with its host and path, without its password and without the values of query parameters that could contain one.
#[must_use]
pub fn redact_url(text: &str) -> String {
    const HARMLESS: [&str; 8] = [
        "sslmode",
        "sslrootcert",
        "node",
        "sentinelServiceName",
        "host",
        "port",
        "db",
        "target_session_attrs",
    ];
    let Ok(mut url) = url::Url::parse(text) else {
        let redacted = super::store_url::redact(text, |name| HARMLESS.contains(&name));
        return redacted.unwrap_or_else(|| REDACTED.to_owned());
    };
    let password = url.password().is_some() && url.set_password(Some("redacted")).is_err();
    if password || url.cannot_be_a_base() {
        return REDACTED.to_owned();
    }
    let parameters: Vec<(String, String)> = url
        .query_pairs()
        .map(|(name, value)| {
            let harmless = HARMLESS.contains(&name.as_ref());
            let value = if harmless {
                value.into_owned()
            } else {
                "redacted".to_owned()
            };
            (name.into_owned(), value)
        })
        .collect();
    url.set_fragment(None);
    if !parameters.is_empty() {
        url.query_pairs_mut().clear().extend_pairs(parameters);
    }
    url.into()
}

/// `EdDSA`, `ES256` or `RS256`.
pub(super) mod algorithm {
    use super::{Deserialize as _, Deserializer, de};
    use crate::model::Algorithm;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(in crate::config) fn serialize<S: serde::Serializer>(it: &Algorithm, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(it.as_str())
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Algorithm, D::Error> {
        let text = String::deserialize(input)?;
        Algorithm::named(&text).ok_or_else(|| de::Error::custom(format!("{text:?} must be EdDSA, ES256 or RS256")))
    }
}

/// `strict` or `tolerant`.
pub(super) mod reuse_policy {
    use super::{Deserialize as _, Deserializer, de};
    use crate::model::ReusePolicy;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(in crate::config) fn serialize<S: serde::Serializer>(it: &ReusePolicy, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(it.as_str())
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<ReusePolicy, D::Error> {
        let text = String::deserialize(input)?;
        ReusePolicy::named(&text).ok_or_else(|| de::Error::custom(format!("{text:?} must be strict or tolerant")))
    }
}

/// One of the keywords of an enum. The error lists the keywords.
pub(super) fn keyword<'de, D: Deserializer<'de>, T: de::DeserializeOwned>(input: D) -> Result<T, D::Error> {
    let text = String::deserialize(input)?;
    T::deserialize(de::IntoDeserializer::<de::value::Error>::into_deserializer(text)).map_err(de::Error::custom)
}

/// An optional [`keyword`].
pub(super) fn optional_keyword<'de, D: Deserializer<'de>, T: de::DeserializeOwned>(
    input: D,
) -> Result<Option<T>, D::Error> {
    keyword(input).map(Some)
}

/// A list, or text with commas, as in an environment variable. Empty text means an empty list.
pub(super) fn list<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    struct List;

    impl<'de> Visitor<'de> for List {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list, or text with commas between the values")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            let items = text.split(',').map(str::trim);
            Ok(items.filter(|item| !item.is_empty()).map(str::to_owned).collect())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                list.push(item);
            }
            Ok(list)
        }
    }

    input.deserialize_any(List)
}

/// A [`list`] of networks, such as `10.0.0.0/8`.
pub(super) fn networks<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Network>, D::Error> {
    let texts = list(input)?;
    texts
        .iter()
        .map(|text| text.parse().map_err(de::Error::custom))
        .collect()
}

/// Writes values as their texts.
pub(super) fn as_texts<S: serde::Serializer, T: fmt::Display>(values: &[T], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(values.iter().map(ToString::to_string))
}

/// An optional [`list`]: an empty list differs from an unset one.
pub(super) fn optional_list<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<String>>, D::Error> {
    list(input).map(Some)
}

/// A table of text, or text `NAME=VALUE,NAME=VALUE`, as in an environment variable. The last `=` separates name and value,
/// because the URI of a certificate may contain `=`.
pub(super) fn table<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Table;

    impl<'de> Visitor<'de> for Table {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table, or text as NAME=VALUE,NAME=VALUE")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
            pairs
                .map(|pair| match pair.rsplit_once('=') {
                    Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
                    None => Err(E::custom("must be NAME=VALUE,NAME=VALUE")),
                })
                .collect()
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut table = BTreeMap::new();
            while let Some((name, value)) = entries.next_entry()? {
                table.insert(name, value);
            }
            Ok(table)
        }
    }

    input.deserialize_any(Table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redacted_url_keeps_its_host_and_loses_its_password() {
        for (text, shown) in [
            (
                "postgres://ada:canary@db:5432/cs?sslmode=require",
                "postgres://ada:redacted@db:5432/cs?sslmode=require",
            ),
            ("redis://:canary@r:6379/0", "redis://:redacted@r:6379/0"),
            ("postgres://db/cs?password=canary", "postgres://db/cs?password=redacted"),
            (
                "postgres://db/cs?p%61ssword=canary#canary",
                "postgres://db/cs?password=redacted",
            ),
            (
                "redis-sentinel://a:1?node=b:2&sentinelServiceName=m&sentinelPassword=canary",
                "redis-sentinel://a:1?node=b%3A2&sentinelServiceName=m&sentinelPassword=redacted",
            ),
            (
                "postgres://ada:canary@a:5432,[::1]:5433/cs?password=canary&sslmode=require",
                "postgres://ada:redacted@a:5432,[::1]:5433/cs?password=redacted&sslmode=require",
            ),
            (
                "redis+unix://:canary@/run/redis.sock?db=3",
                "redis+unix://:redacted@/run/redis.sock?db=3",
            ),
            ("canary without a scheme", REDACTED),
            ("data:canary", REDACTED),
        ] {
            assert_eq!(redact_url(text), shown);
        }
    }
}
