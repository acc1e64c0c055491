//! JSON read strictly: one object, no member twice at any depth, nothing after it (RFC 7515 §4, RFC 7519 §4).
//!
//! `serde_json` keeps the last of two equal members, other parsers the first: a token must not mean two things.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

/// Reads `bytes` as one JSON object that fits `T`; `None` if it is anything else. Depth is bounded by `serde_json` (128).
pub(super) fn object<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Option<T> {
    let mut check = serde_json::Deserializer::from_slice(bytes);
    Unique.deserialize(&mut check).ok()?;
    check.end().ok()?;
    serde_json::from_slice(bytes).ok().map(|Object(object)| object)
}

/// A `T` that is read from an object only: a derived struct would be read from an array too, member by member.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// A member that, when it is there, is not `null`. For `#[serde(default, deserialize_with)]`.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Like [`present`] for text, borrowed from the input where it holds no escapes.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    Text::deserialize(deserializer).map(|text| Some(text.0))
}

/// Whether a member is there, whatever it holds. For `#[serde(default, deserialize_with)]`.
pub(super) fn seen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

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

/// Accepts any JSON in which no object has a member twice.
struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names: Vec<Cow<'de, str>> = Vec::new();
        while let Some(Text(name)) = map.next_key()? {
            names.push(name);
            map.next_value_seed(Self)?;
        }
        // Sorted, so that an object of many small members costs no square of its size.
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(A::Error::custom("duplicate member"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, Value};

    fn read(text: &str) -> Option<Map<String, Value>> {
        object(text.as_bytes())
    }

    #[test]
    fn a_member_twice_is_refused_at_every_depth() {
        assert!(read(r#"{"a":1,"b":{"a":1}}"#).is_some());
        for twice in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[0,{"a":[{"b":1,"b":2}]}]}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert!(read(twice).is_none(), "{twice}");
        }
    }

    #[test]
    fn only_one_object_and_nothing_else_is_read() {
        assert!(read(" {} ").is_some());
        let deep = format!("{}{}", r#"{"a":"#.repeat(5000), "}".repeat(5000));
        for other in ["", "[]", "1", "null", "{} {}", "{}x", "{\"a\":1,}", "\u{feff}{}", &deep] {
            assert!(read(other).is_none(), "{other:.40}");
        }
        assert!(object::<Map<String, Value>>(b"{\"a\":\"\xff\"}").is_none(), "not UTF-8");
    }

    #[test]
    fn a_struct_is_not_read_from_an_array() {
        #[derive(Deserialize)]
        struct One {
            #[serde(rename = "a")]
            _a: u8,
        }
        assert!(object::<One>(br#"{"a":1}"#).is_some());
        assert!(object::<One>(b"[1]").is_none());
    }
}
