//! Keys as other libraries see them: the published JSON Web Keys, and a check that `jsonwebtoken`, an independent library,
//! verifies a token through them.
//!
//! AWS-LC both signs and verifies here, so this service alone would not notice a key that only it can read. The check
//! parses a private and a public key, which takes about a millisecond: it stays off the paths of calls.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{CommonParameters, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};

use super::public::PublicKey;
use super::signing::SigningKey;
use super::verify::ACCESS_TOKEN_TYPE;
use crate::model::{Algorithm, Error, Result};

/// The JWK in the published key set (RFC 7517): the members that RFC 7638 hashes, with `use`, `alg` and `kid`.
pub fn jwk(key: &PublicKey) -> Result<Jwk> {
    Ok(Jwk {
        common: CommonParameters {
            public_key_use: Some(PublicKeyUse::Signature),
            key_algorithm: Some(match key.algorithm() {
                Algorithm::EdDsa => KeyAlgorithm::EdDSA,
                Algorithm::Es256 => KeyAlgorithm::ES256,
                Algorithm::Rs256 => KeyAlgorithm::RS256,
            }),
            key_id: Some(key.id().to_string()),
            ..CommonParameters::default()
        },
        algorithm: serde_json::from_str(key.canonical_jwk()).map_err(Error::internal)?,
    })
}

/// The JSON Web Key Set (RFC 7517 §5) of these keys.
pub(super) fn set<'k>(keys: impl Iterator<Item = &'k PublicKey>) -> String {
    // Neither step can fail for a key that `PublicKey` accepted; a key that failed would be missing in the set.
    let keys = keys.filter_map(|key| jwk(key).ok()).collect();
    serde_json::to_string(&JwkSet { keys }).unwrap_or_else(|_| r#"{"keys":[]}"#.to_owned())
}

/// Signs a probe with `key` and has `jsonwebtoken` verify it through the JWK in `published`, a key set as text.
///
/// The probe is no valid token: it has expired, and it names no issuer that a verifier trusts.
///
/// # Errors
/// Why the library cannot read it, in a form that continues "the key …".
pub fn check(key: &SigningKey, published: &str) -> Result<(), String> {
    #[cfg(test)]
    if seam::is_refused(key.algorithm()) {
        return Err("is refused by this test".to_owned());
    }
    let id = key.id().as_str();
    let unreadable = |error: jsonwebtoken::errors::Error| format!("cannot be read by jsonwebtoken: {error}");
    let claims = json!({"iss": "probe", "sub": "probe", "aud": ["probe"], "iat": 0, "exp": 1, "jti": id});
    let token = key
        .sign_payload(claims.to_string().as_bytes())
        .map_err(|error| format!("cannot sign: {error}"))?;

    let set: JwkSet = serde_json::from_str(published).map_err(|error| format!("is in an unreadable set: {error}"))?;
    let jwk = set.find(id).ok_or("is not in the published key set")?;
    let thumbprint = jwk.thumbprint(ThumbprintHash::SHA256).map_err(unreadable)?;
    if thumbprint != id {
        return Err(format!("has the thumbprint {thumbprint} for jsonwebtoken (RFC 7638)"));
    }
    let header = decode_header(&token).map_err(unreadable)?;
    if header.kid.as_deref() != Some(id) || header.typ.as_deref() != Some(ACCESS_TOKEN_TYPE) {
        return Err("signs tokens with another `kid` or `typ`".to_owned());
    }
    if jwk.common.key_algorithm != Some(header.alg.into()) {
        return Err("signs with another algorithm than its JWK names".to_owned());
    }
    let mut rules = Validation::new(header.alg);
    rules.required_spec_claims.clear();
    rules.validate_exp = false;
    rules.validate_aud = false;
    let public = DecodingKey::from_jwk(jwk).map_err(unreadable)?;
    let read = decode::<Value>(&token, &public, &rules).map_err(unreadable)?;
    if read.claims != claims {
        return Err("signs tokens with other claims than it was given".to_owned());
    }
    // A library that accepts every signature would prove nothing.
    let (signed, signature) = token.rsplit_once('.').unwrap_or_default();
    let mut forged = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
    if let Some(first) = forged.first_mut() {
        *first ^= 1;
    }
    let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(forged));
    if decode::<Value>(&forged, &public, &rules).is_ok() {
        return Err("was given a forged signature, and jsonwebtoken accepts it".to_owned());
    }
    Ok(())
}

/// Like [`check`], for a key that is not published yet.
///
/// # Errors
/// As [`check`].
pub(super) fn check_new(key: &SigningKey) -> Result<(), String> {
    check(key, &set(std::iter::once(key.public())))
}

/// Makes [`check`] refuse keys, because no key is known that AWS-LC accepts and `jsonwebtoken` does not.
#[cfg(test)]
pub(super) mod seam {
    use std::cell::Cell;

    use crate::model::Algorithm;

    thread_local! {
        static REFUSED: Cell<Option<Algorithm>> = const { Cell::new(None) };
    }

    /// Refuses keys of this algorithm on this thread from now on; with `None`, no key.
    pub(in crate::keys) fn refuse(algorithm: Option<Algorithm>) {
        REFUSED.set(algorithm);
    }

    pub(in crate::keys) fn is_refused(algorithm: Algorithm) -> bool {
        REFUSED.get() == Some(algorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SystemEntropy;

    fn key(algorithm: Algorithm) -> SigningKey {
        SigningKey::generate(algorithm, &SystemEntropy).unwrap()
    }

    #[test]
    fn a_key_is_read_back_through_its_published_form() {
        for algorithm in Algorithm::ALL {
            let key = key(algorithm);
            assert_eq!(check_new(&key), Ok(()));
            let published: Value = serde_json::from_str(&set([key.public()].into_iter())).unwrap();
            let jwk = &published["keys"][0];
            assert_eq!((&jwk["use"], &jwk["kid"]), (&json!("sig"), &json!(key.id().as_str())));
            assert_eq!(jwk["alg"], algorithm.as_str());
            let canonical: Value = serde_json::from_str(key.public().canonical_jwk()).unwrap();
            for (name, value) in canonical.as_object().unwrap() {
                assert_eq!(jwk[name], *value, "{name}");
            }
            let members = jwk.as_object().unwrap().len();
            assert_eq!(members, canonical.as_object().unwrap().len() + 3, "{jwk}");
        }
    }

    #[test]
    fn a_key_that_is_published_wrongly_is_refused() {
        for algorithm in Algorithm::ALL {
            let (key, other) = (key(algorithm), key(algorithm));
            let id = key.id().as_str();
            let good: Value = serde_json::from_str(&set([key.public()].into_iter())).unwrap();
            let wrong = |change: &dyn Fn(&mut Value)| {
                let mut set = good.clone();
                change(&mut set["keys"][0]);
                check(&key, &set.to_string()).unwrap_err()
            };
            // Another key under this id, as if the rows were mixed up.
            let mixed = set([other.public()].into_iter()).replace(other.id().as_str(), id);
            assert!(check(&key, &mixed).unwrap_err().contains("thumbprint"));
            assert!(
                check(&key, r#"{"keys":[]}"#)
                    .unwrap_err()
                    .contains("not in the published")
            );
            assert!(check(&key, "[]").unwrap_err().contains("unreadable set"));
            assert!(wrong(&|jwk| jwk["alg"] = json!("HS256")).contains("algorithm"));
            assert!(wrong(&|jwk| jwk["alg"] = json!("PS256")).contains("algorithm"));
            assert!(wrong(&|jwk| jwk["kty"] = json!("oct")).contains("jsonwebtoken"));
            assert!(wrong(&|jwk| jwk["kid"] = json!("other")).contains("not in the published"));
        }
    }
}
