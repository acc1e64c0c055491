//! Whether an access token is genuine: the rules of RFC 8725 and RFC 9068, in the order of `InactiveReason`.

use std::time::Duration;

use super::json;
use super::jws::{Jws, MAX_LEN, Scratch};
use super::verifying::{KeyStatus, VerifyingKeys};
use crate::clock::UnixMillis;
use crate::model::claims::MAX_ACCESS_TOKEN_TTL;
use crate::model::{Claims, InactiveReason, KeyId};

/// The media type of our access tokens (RFC 9068 §2.1).
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// How our refresh tokens begin; no JWT can.
pub const REFRESH_TOKEN_PREFIX: &str = "csr_";

/// The most that clocks may differ.
pub const MAX_LEEWAY: Duration = Duration::from_secs(5);

/// How long after its retirement a key's signature is still taken for an honest one: the time in which every replica has
/// heard of the rotation, or is no replica any more.
pub const RETIREMENT_GRACE: Duration = Duration::from_secs(15);

/// What a verifier demands of every token.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The only issuer: `iss` must be exactly this text.
    pub issuer: String,
    /// How far the issuer's clock may be from ours; at most [`MAX_LEEWAY`] counts.
    pub leeway: Duration,
}

/// A genuine token that has not expired. Whether it is for this audience, wide enough and not revoked is the caller's to ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// What it says.
    pub claims: Claims,
    /// The key that signed it.
    pub key_id: KeyId,
}

/// Decides whether `token` is a genuine access token that is good at `now`, as far as the token alone can say.
///
/// Everything up to and including `EXPIRED` is checked here; of several faults the first in the order of
/// [`InactiveReason`] is the answer. Does no I/O and cannot panic.
pub fn verify(token: &str, keys: &VerifyingKeys, policy: &Policy, now: UnixMillis) -> Result<Verified, InactiveReason> {
    let verified = genuine(token, keys, policy)?;
    let claims = &verified.claims;
    let issued = UnixMillis::from_secs(claims.iat);
    let leeway = policy.leeway.min(MAX_LEEWAY);
    let begins = claims.nbf.map_or(issued, |nbf| issued.max(UnixMillis::from_secs(nbf)));
    if begins > now.plus(leeway) {
        return Err(InactiveReason::NotYetValid);
    }
    if UnixMillis::from_secs(claims.exp) <= now.minus(leeway) {
        return Err(InactiveReason::Expired);
    }
    Ok(verified)
}

/// Whether Countersign made `token`, however long ago: what [`verify`] checks before it looks at the time. A token that is
/// handed in to be revoked may be of any age.
pub fn genuine(token: &str, keys: &VerifyingKeys, policy: &Policy) -> Result<Verified, InactiveReason> {
    let mut scratch = Scratch::new();
    let jws = match Jws::parse(token, keys, &mut scratch) {
        Some(jws) => jws,
        None if token.len() <= MAX_LEN && token.starts_with(REFRESH_TOKEN_PREFIX) => {
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
    let known = jws.kid().and_then(|kid| keys.find(kid));
    let (key_id, status) = known.ok_or(InactiveReason::UnknownKey)?;
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
    Ok(Verified {
        claims,
        key_id: key_id.clone(),
    })
}

/// What a token says of its making. Nothing of it is verified: it serves to decide whether asking for newer keys could
/// help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The key that signed it.
    pub key: KeyId,
    /// When.
    pub issued: UnixMillis,
}

/// What `token` claims, if it looks like a token of ours.
#[must_use]
pub fn claimed(token: &str) -> Option<Claimed> {
    let mut scratch = Scratch::new();
    let nobody = VerifyingKeys::default();
    let jws = Jws::parse(token, &nobody, &mut scratch)?;
    let claims: Claims = json::own_object(jws.payload())?;
    Some(Claimed {
        key: KeyId::parse(jws.kid()?, "kid").ok()?,
        issued: UnixMillis::from_secs(claims.iat),
    })
}

/// What `token` says, for whoever was told by the service that it is good. Nothing is verified here.
#[must_use]
pub fn claims_on_trust(token: &str) -> Option<Claims> {
    let mut scratch = Scratch::new();
    let nobody = VerifyingKeys::default();
    json::own_object(Jws::parse(token, &nobody, &mut scratch)?.payload())
}

/// What the types of [`Claims`] do not say already (RFC 9068 §2.2).
fn is_well_formed(claims: &Claims) -> bool {
    let life = i128::from(claims.exp) - i128::from(claims.iat);
    !claims.sub.is_empty() && !claims.aud.is_empty() && life <= i128::from(MAX_ACCESS_TOKEN_TTL.as_secs())
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
