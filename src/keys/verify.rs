//! Whether an access token is genuine: the rules of RFC 8725 and RFC 9068, in the order of `InactiveReason`.

use std::time::Duration;

use super::json;
use super::jws::{Jws, MAX_LEN, Scratch};
use super::verified::VerifiedToken;
use super::verifying::{KeyStatus, VerifyingKeys};
use crate::clock::UnixMillis;
use crate::model::claims::MAX_ACCESS_TOKEN_TTL;
use crate::model::{Claims, InactiveReason, KeyId};

/// The media type of our access tokens (RFC 9068 §2.1).
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// The first characters of our refresh tokens; no JWT starts with them.
pub const REFRESH_TOKEN_PREFIX: &str = "csr_";

/// The largest clock difference that can be tolerated.
pub const MAX_LEEWAY: Duration = Duration::from_secs(5);

/// How long after its retirement a key may still sign honestly. Within this time every replica has learnt of the rotation,
/// or no longer counts as a replica.
pub const RETIREMENT_GRACE: Duration = Duration::from_secs(15);

/// What a verifier requires of every token.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The only issuer: `iss` must be exactly this text.
    pub issuer: String,
    /// How far the issuer's clock may differ from ours; at most [`MAX_LEEWAY`] counts.
    pub leeway: Duration,
}

/// Verifies that `access_token` is a genuine access token and within its lifetime at `now`. Audience, scopes and
/// revocation are checked at each use, by [`crate::validator::check`].
///
/// Everything up to and including `EXPIRED` is checked here; of several faults the first in the order of
/// [`InactiveReason`] is the answer. Does no I/O and cannot panic.
pub fn verify(
    access_token: &str,
    keys: &VerifyingKeys,
    policy: &Policy,
    now: UnixMillis,
) -> Result<VerifiedToken, InactiveReason> {
    let (claims, key_id) = genuine_claims(access_token, keys, policy)?;
    let issued = UnixMillis::from_secs(claims.iat);
    let leeway = policy.leeway.min(MAX_LEEWAY);
    let begins = claims.nbf.map_or(issued, |nbf| issued.max(UnixMillis::from_secs(nbf)));
    if begins > now.plus(leeway) {
        return Err(InactiveReason::NotYetValid);
    }
    if UnixMillis::from_secs(claims.exp) <= now.minus(leeway) {
        return Err(InactiveReason::Expired);
    }
    Ok(VerifiedToken::new(claims, key_id.clone(), leeway))
}

/// The claims of a token that Countersign issued, however long ago: the checks of [`verify`] except the lifetime. A token
/// that is presented to be revoked may be of any age.
pub fn verify_any_age(access_token: &str, keys: &VerifyingKeys, policy: &Policy) -> Result<Claims, InactiveReason> {
    genuine_claims(access_token, keys, policy).map(|(claims, _)| claims)
}

/// The claims of a genuine token, and the key that signed it.
fn genuine_claims<'k>(
    access_token: &str,
    keys: &'k VerifyingKeys,
    policy: &Policy,
) -> Result<(Claims, &'k KeyId), InactiveReason> {
    let mut scratch = Scratch::new();
    let jws = match Jws::parse(access_token, keys, &mut scratch) {
        Some(jws) => jws,
        None if access_token.len() <= MAX_LEN && access_token.starts_with(REFRESH_TOKEN_PREFIX) => {
            return Err(InactiveReason::WrongType);
        }
        None => return Err(InactiveReason::Malformed),
    };
    let claims: Claims = json::own_object(jws.payload()).ok_or(InactiveReason::Malformed)?;
    if !is_well_formed(&claims) {
        return Err(InactiveReason::Malformed);
    }
    jws.algorithm().ok_or(InactiveReason::Unsupported)?;
    if !jws.is_type(ACCESS_TOKEN_TYPE) {
        return Err(InactiveReason::WrongType);
    }
    let found = jws.kid().and_then(|kid| keys.find(kid));
    let (key_id, status) = found.ok_or(InactiveReason::UnknownKey)?;
    let (key, retired) = match status {
        KeyStatus::Good { key, retired } => (key, *retired),
        KeyStatus::Revoked => return Err(InactiveReason::RevokedKey),
    };
    jws.check_signature(key)?;
    let issued = UnixMillis::from_secs(claims.iat);
    if !jws.is_canonical(key) || retired.is_some_and(|retired| issued > retired.plus(RETIREMENT_GRACE)) {
        return Err(InactiveReason::BadSignature);
    }
    if claims.iss != policy.issuer {
        return Err(InactiveReason::WrongIssuer);
    }
    Ok((claims, key_id))
}

/// What an unverified token claims about its origin. It only decides whether loading newer keys can help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The key that is said to have signed it.
    pub key: KeyId,
    /// When it is said to have been issued.
    pub issued: UnixMillis,
}

/// Reads the claimed key and time of issue of `access_token`, unverified. None if it does not look like one of our tokens.
#[must_use]
pub fn claimed(access_token: &str) -> Option<Claimed> {
    let mut scratch = Scratch::new();
    let no_keys = VerifyingKeys::default();
    let jws = Jws::parse(access_token, &no_keys, &mut scratch)?;
    let claims: Claims = json::own_object(jws.payload())?;
    Some(Claimed {
        key: KeyId::parse(jws.kid()?, "kid").ok()?,
        issued: UnixMillis::from_secs(claims.iat),
    })
}

/// Reads the claims of `access_token` unverified, for a caller to whom the service has just said that the token is active.
#[must_use]
pub fn unverified_claims(access_token: &str) -> Option<Claims> {
    let mut scratch = Scratch::new();
    let no_keys = VerifyingKeys::default();
    json::own_object(Jws::parse(access_token, &no_keys, &mut scratch)?.payload())
}

/// The rules of RFC 9068 §2.2 that the types of [`Claims`] do not enforce.
fn is_well_formed(claims: &Claims) -> bool {
    let life = i128::from(claims.exp) - i128::from(claims.iat);
    !claims.sub.is_empty() && !claims.aud.is_empty() && life <= i128::from(MAX_ACCESS_TOKEN_TTL.as_secs())
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
