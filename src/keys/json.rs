//! Strict JSON: one object, no duplicate member at any depth, nothing after it (RFC 7515 §4, RFC 7519 §4).
//!
//! Of two members with one name `serde_json` keeps the last into a map, and other parsers keep the first. A token with
//! such members would mean different things to different readers.

use std::borrow::Cow;
use std::{fmt, io};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, de};

use crate::model::claims::from_object;

/// Reads `bytes` as one JSON object that fits `T`; `None` if it is anything else. `serde_json` bounds the depth (128).
pub(super) fn object<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Option<T> {
    let text = str::from_utf8(bytes).ok()?;
    let Object(object) = serde_json::from_str(text).ok()?;
    is_unique(text).then_some(object)
}

/// Like [`object`], and faster for input that this service wrote. If serialising `T` gives the same bytes, the input has
/// no duplicate members, so the slower check is skipped.
pub(super) fn own_object<'de, T: Deserialize<'de> + Serialize>(bytes: &'de [u8]) -> Option<T> {
    let text = str::from_utf8(bytes).ok()?;
    let Object(object) = serde_json::from_str(text).ok()?;
    let mut rest = Expected(bytes);
    let is_ours = serde_json::to_writer(&mut rest, &object).is_ok() && rest.0.is_empty();
    (is_ours || is_unique(text)).then_some(object)
}

/// A writer that accepts exactly these bytes.
struct Expected<'a>(&'a [u8]);

impl io::Write for Expected<'_> {
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        self.0 = self.0.strip_prefix(written).ok_or(io::ErrorKind::InvalidData)?;
        Ok(written.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_unique(json: &str) -> bool {
    let mut json = serde_json::Deserializer::from_str(json);
    Unique.deserialize(&mut json).is_ok() && json.end().is_ok()
}

/// A `T` that is read from an object only. A derived `Deserialize` would also accept an array of the members.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_object(deserializer).map(Self)
    }
}

/// Reads an optional member that must not be `null`. For `#[serde(default, deserialize_with)]`.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Like [`present`] for text; borrows it from the input if it holds no escapes.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    Text::deserialize(deserializer).map(|text| Some(text.0))
}

/// Whether a member is present, with any value. For `#[serde(default, deserialize_with)]`.
pub(super) fn seen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Accepts any JSON without duplicate members.
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
        // Sorting keeps the cost of an object with many small members below the square of their number.
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
        let read = object(text.as_bytes());
        assert_eq!(read, own_object(text.as_bytes()), "{text:.40}");
        read
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
    fn our_own_json_is_read_as_strictly() {
        #[derive(Deserialize, Serialize, PartialEq, Debug)]
        struct Known {
            a: u8,
        }
        let read = |text: &str| own_object::<Known>(text.as_bytes());
        for good in [r#"{"a":1}"#, r#"{ "a" : 1 }"#, r#"{"b":{"a":1},"a":1,"c":1}"#] {
            assert_eq!(read(good), Some(Known { a: 1 }), "{good}");
        }
        for twice in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":1,"b":1}"#,
            r#"{"a":1,"b":{"c":1,"c":1}}"#,
            r#"{"a":1,"b":[{"c":1,"c":1}]}"#,
        ] {
            assert_eq!(read(twice), None, "{twice}");
        }
        assert!(read(r#"{"a":1}{"a":1}"#).is_none() && read(r#"{"a":1} 1"#).is_none());
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
