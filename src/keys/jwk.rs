//! A strict parser of JSON Web Keys (RFC 7517).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::json;
use super::public::PublicKey;
use crate::model::{Error, Result};

/// The largest accepted key set, in bytes: room for a hundred RSA keys of 4096 bits.
const MAX_SET: usize = 128 * 1024;

/// The known members of a JWK; others are ignored (RFC 7517 §4).
#[derive(Deserialize)]
pub(super) struct Members<'a> {
    #[serde(borrow)]
    kty: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "json::text")]
    kid: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "use", deserialize_with = "json::text")]
    usage: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "json::present")]
    key_ops: Option<Vec<String>>,
    #[serde(borrow, default, deserialize_with = "json::text")]
    alg: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "json::text")]
    crv: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "json::text")]
    x: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "json::text")]
    y: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "json::text")]
    pub(super) n: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "json::text")]
    pub(super) e: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) d: Option<Zeroizing<String>>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) p: Option<Zeroizing<String>>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) q: Option<Zeroizing<String>>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) dp: Option<Zeroizing<String>>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) dq: Option<Zeroizing<String>>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) qi: Option<Zeroizing<String>>,
    /// Whether the RSA key has more than two primes (RFC 7518 §6.3.2.7).
    #[serde(default, deserialize_with = "json::seen")]
    pub(super) oth: bool,
    /// Whether this is a symmetric key.
    #[serde(default, deserialize_with = "json::seen")]
    k: bool,
}

impl<'a> Members<'a> {
    /// Reads one JWK.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        json::object(bytes).ok_or_else(|| Error::invalid("key", "is not a JSON Web Key"))
    }

    /// The public key. `operation` is the intended use, which `key_ops` must allow: `verify`, or `sign` for a private key.
    pub(super) fn public(&self, operation: &str) -> Result<PublicKey> {
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err(Error::invalid("key", "`use` is not \"sig\""));
        }
        let allows = |ops: &Vec<String>| ops.iter().any(|op| op == operation);
        if !self.key_ops.as_ref().is_none_or(allows) {
            return Err(Error::invalid("key", "`key_ops` does not allow signatures"));
        }
        let key = match (&*self.kty, self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => PublicKey::ed25519(&number("x", self.x.as_deref())?)?,
            ("EC", Some("P-256")) => {
                PublicKey::p256(&number("x", self.x.as_deref())?, &number("y", self.y.as_deref())?)?
            }
            ("RSA", _) => PublicKey::rsa(&number("n", self.n.as_deref())?, &number("e", self.e.as_deref())?)?,
            ("OKP" | "EC", _) => return Err(Error::invalid("key", "the curve is neither Ed25519 nor P-256")),
            _ => return Err(Error::invalid("key", "the key type is none of OKP, EC and RSA")),
        };
        if self.alg.as_deref().is_some_and(|alg| alg != key.algorithm().as_str()) {
            return Err(Error::invalid("key", "`alg` does not fit the key type"));
        }
        Ok(key)
    }

    fn is_private(&self) -> bool {
        let rsa = [&self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi];
        self.k || self.oth || rsa.into_iter().any(Option::is_some)
    }
}

/// Decodes a member that holds bytes in base64url.
pub(super) fn number(name: &str, member: Option<&str>) -> Result<Zeroizing<Vec<u8>>> {
    let text = member.ok_or_else(|| Error::invalid("key", format!("`{name}` is missing")))?;
    URL_SAFE_NO_PAD
        .decode(text)
        .map(Zeroizing::new)
        .map_err(|_| Error::invalid("key", format!("`{name}` is not base64url")))
}

/// Reads a set of public keys, in order, each with its `kid`.
///
/// Keys of an unknown type are ignored (RFC 7517 §5).
///
/// # Errors
/// `INVALID_REQUEST` for the whole set if one key of a known type is unusable (wrong `use`, `alg` or curve, a weak RSA key,
/// a private or symmetric key), has no `kid`, or has the `kid` of another key: such a set is a mistake or an attack.
pub fn parse_set(text: &str) -> Result<Vec<(String, PublicKey)>> {
    #[derive(Deserialize)]
    struct Set<'a> {
        #[serde(borrow)]
        keys: Vec<json::Object<Members<'a>>>,
    }
    if text.len() > MAX_SET {
        return Err(Error::invalid("jwks", "is too long"));
    }
    let not_a_set = || Error::invalid("jwks", "is not a JSON Web Key Set");
    let set: Set<'_> = json::object(text.as_bytes()).ok_or_else(not_a_set)?;
    let mut keys: Vec<(String, PublicKey)> = Vec::with_capacity(set.keys.len());
    for json::Object(members) in set.keys {
        if members.is_private() {
            return Err(Error::invalid("jwks", "holds a private or symmetric key"));
        }
        if !matches!(&*members.kty, "OKP" | "EC" | "RSA" | "oct") {
            continue;
        }
        let key = members.public("verify")?;
        let kid = members
            .kid
            .ok_or_else(|| Error::invalid("jwks", "a key has no `kid`"))?;
        if keys.iter().any(|(known, _)| *known == kid) {
            return Err(Error::invalid("jwks", "two keys have the same `kid`"));
        }
        keys.push((kid.into_owned(), key));
    }
    Ok(keys)
}

/// Reads one public key (RFC 7517 §4); ignores its `kid`.
pub fn parse_public(text: &str) -> Result<PublicKey> {
    let members = Members::parse(text.as_bytes())?;
    if members.is_private() {
        return Err(Error::invalid(
            "key",
            "is a private or symmetric key; a public key is required",
        ));
    }
    members.public("verify")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::keys::verifying::VerifyingKeys;

    fn ed25519() -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            "use": "sig", "alg": "EdDSA", "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"})
    }

    fn p256() -> Value {
        json!({"kty": "EC", "crv": "P-256", "kid": "other",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})
    }

    fn read(keys: &Value) -> Result<Vec<(String, PublicKey)>> {
        parse_set(&json!({"keys": keys, "ignored": 1}).to_string())
    }

    #[test]
    fn a_set_is_read_in_order_without_keys_of_unknown_types() {
        let unknown = json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": "new"});
        let keys = read(&json!([p256(), unknown, ed25519()])).unwrap();
        let kids: Vec<&str> = keys.iter().map(|(kid, _)| kid.as_str()).collect();
        assert_eq!(kids, ["other", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"]);
        assert!(read(&json!([])).unwrap().is_empty());
    }

    #[test]
    fn a_set_with_a_wrong_key_is_refused() {
        let wrong = |name: &str, value: Value| {
            let mut key = ed25519();
            key[name] = value;
            key
        };
        for (why, key) in [
            ("use", wrong("use", json!("enc"))),
            ("use", wrong("use", Value::Null)),
            ("alg", wrong("alg", json!("ES256"))),
            ("alg", wrong("alg", json!("none"))),
            ("curve", wrong("crv", json!("Ed448"))),
            ("curve", wrong("crv", json!("P-256"))),
            ("type", wrong("kty", json!("EC"))),
            ("key_ops", wrong("key_ops", json!(["encrypt"]))),
            ("key_ops", wrong("key_ops", json!([]))),
            ("x", wrong("x", json!("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURp"))), // stray bits
            ("x", wrong("x", json!("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHUQ"))),
            ("x", wrong("x", json!(1))),
            (
                "private",
                wrong("d", json!("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")),
            ),
            ("symmetric", json!({"kty": "oct", "k": "AAAA", "kid": "k"})),
            (
                "no kid",
                json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
            ),
            ("kid twice", ed25519()),
            ("an array", json!(["OKP", "kid"])),
        ] {
            assert!(read(&json!([ed25519(), key])).is_err(), "{why}: {key}");
        }
        for text in ["", "[]", "{}", r#"{"keys":1}"#, r#"{"keys":[],"keys":[]}"#] {
            assert!(parse_set(text).is_err(), "{text}");
        }
        assert!(parse_set(&format!("{}{{\"keys\":[]}}", " ".repeat(MAX_SET))).is_err());
    }

    #[test]
    fn a_point_off_the_curve_is_refused() {
        // RFC 8725 §3.4: invalid-curve attacks begin with such a point.
        let mut key = p256();
        key["y"] = json!("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a8");
        assert!(read(&json!([key])).is_err());
    }

    #[test]
    fn a_kid_must_be_the_thumbprint() {
        let text = json!({"keys": [ed25519()]}).to_string();
        assert_eq!(VerifyingKeys::from_jwks(&text).unwrap().ids().count(), 1);
        assert!(VerifyingKeys::from_jwks(&json!({"keys": [p256()]}).to_string()).is_err());
    }
}
