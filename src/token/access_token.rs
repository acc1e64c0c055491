//! Signing access tokens.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, UnixMillis};
use crate::config::Tokens as TokenConfig;
use crate::keys::manager::Keys;
use crate::keys::ring::KeyRing;
use crate::model::session::Rotated;
use crate::model::{Actor, Claims, ClientId, Error, Result, SessionId, TokenEpochs, TokenId, User, UserId};
use crate::revocation::Feed;
use crate::secret::{Entropy, SecretText, random};

/// The largest token that is issued, in bytes. Verifiers accept 4 KiB, and proxies accept a header of this length.
const MAX_TOKEN: usize = 3584;

/// An issued access token.
#[derive(Debug)]
pub struct IssuedAccessToken {
    /// The JWT.
    pub token: SecretText,
    /// When it expires.
    pub expires: UnixMillis,
    /// When a client should refresh: after 70 to 85 % of the token's life.
    pub refresh_after: UnixMillis,
    /// Its scopes.
    pub scope: Vec<String>,
    /// Its audiences.
    pub audience: Vec<String>,
}

/// The content of an access token that is to be issued.
#[derive(Debug)]
pub(super) struct AccessTokenInput {
    pub(super) sub: String,
    pub(super) client: ClientId,
    pub(super) scope: Vec<String>,
    pub(super) audience: Vec<String>,
    pub(super) epochs: TokenEpochs,
    pub(super) person: Option<SubjectClaims>,
    pub(super) act: Option<Box<Actor>>,
    pub(super) root: Option<TokenId>,
    pub(super) ttl: Duration,
    /// The latest expiry, whatever `ttl` says.
    pub(super) expires_at_most: UnixMillis,
}

/// The claims about a user.
#[derive(Clone, Debug, Default)]
pub(super) struct SubjectClaims {
    pub(super) session: Option<SessionId>,
    pub(super) auth_time: Option<i64>,
    pub(super) roles: Vec<String>,
    pub(super) ext: Option<serde_json::Map<String, serde_json::Value>>,
    pub(super) username: Option<String>,
}

impl SubjectClaims {
    /// The claims about the user of a session, with the user's present roles and attributes.
    pub(super) fn of(user: &User, session: SessionId, created: UnixMillis) -> Self {
        Self {
            session: Some(session),
            auth_time: Some(created.secs()),
            roles: user.roles.clone(),
            ext: (!user.attributes.is_empty()).then(|| user.attributes.clone()),
            username: Some(user.username.as_str().to_owned()),
        }
    }
}

/// An access token that is not signed yet.
#[derive(Debug)]
pub(super) struct AccessTokenDraft {
    claims: Claims,
    issued: UnixMillis,
}

impl AccessTokenDraft {
    /// This token with what the store of sessions knows of its session.
    pub(super) fn of_session(mut self, rotated: &mut Rotated) -> Self {
        self.claims.scope = std::mem::take(&mut rotated.scope);
        self.claims.aud = std::mem::take(&mut rotated.audience);
        self.claims.auth_time = Some(rotated.created.secs());
        self.claims.exp = self.claims.exp.min(rotated.expires.secs());
        self
    }
}

/// Signs access tokens with the ACTIVE key.
pub struct AccessTokenSigner {
    /// The key ring.
    pub keys: Arc<Keys>,
    /// The revocations: a key that was revoked must not sign, even before the ring is loaded again.
    pub feed: Arc<Feed>,
    /// The clock for `iat` and `exp`.
    pub clock: Arc<dyn Clock>,
    /// The randomness for `jti` and jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Issuer and jitter.
    pub config: Arc<TokenConfig>,
}

impl std::fmt::Debug for AccessTokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessTokenSigner")
            .field("issuer", &self.config.issuer)
            .finish_non_exhaustive()
    }
}

impl AccessTokenSigner {
    /// Signs an access token. `INVALID_REQUEST` if it would be too large.
    pub(super) async fn sign(&self, input: AccessTokenInput) -> Result<IssuedAccessToken> {
        self.sign_draft(self.draft(input)).await
    }

    /// A token of this moment that is not signed yet.
    pub(super) fn draft(&self, input: AccessTokenInput) -> AccessTokenDraft {
        let issued = self.clock.now();
        AccessTokenDraft {
            claims: self.claims(input, issued),
            issued,
        }
    }

    /// How many bytes of the payload are left for the scopes and audiences of a draft that has none yet.
    pub(super) async fn max_claims_bytes(&self, draft: &AccessTokenDraft) -> Result<u32> {
        let ring = self.signing_ring().await?;
        let key = ring.active().ok_or_else(|| Error::internal("no active signing key"))?;
        let used = serde_json::to_vec(&draft.claims).map_err(Error::internal)?.len();
        u32::try_from(key.payload_within(MAX_TOKEN).saturating_sub(used)).map_err(Error::internal)
    }

    /// Signs a draft. `INVALID_REQUEST` if the token would be too large.
    pub(super) async fn sign_draft(&self, draft: AccessTokenDraft) -> Result<IssuedAccessToken> {
        let AccessTokenDraft { claims, issued } = draft;
        let ring = self.signing_ring().await?;
        let key = ring.active().ok_or_else(|| Error::internal("no active signing key"))?;
        let token = SecretText::new(key.sign(&claims)?);
        if token.expose().len() > MAX_TOKEN {
            return Err(too_large());
        }
        let expires = UnixMillis::from_secs(claims.exp);
        let life = expires.since(issued);
        let refresh_after = issued.plus(life.mul_f64(0.70 + 0.15 * self.random_unit()));
        Ok(IssuedAccessToken {
            token,
            expires,
            refresh_after,
            scope: claims.scope,
            audience: claims.aud,
        })
    }

    /// Refuses to issue anything while this machine's clock differs too much from the store's. `STORE_UNAVAILABLE`.
    pub(super) fn check_skew(&self) -> Result<()> {
        self.feed.check_skew()
    }

    fn claims(&self, input: AccessTokenInput, now: UnixMillis) -> Claims {
        let AccessTokenInput {
            sub,
            client,
            scope,
            audience,
            epochs,
            person,
            act,
            root,
            ttl,
            expires_at_most,
        } = input;
        let person = person.unwrap_or_default();
        Claims {
            iss: self.config.issuer.clone(),
            sub,
            aud: audience,
            client_id: client,
            iat: now.secs(),
            exp: now.plus(self.with_jitter(ttl)).secs().min(expires_at_most.secs()),
            nbf: None,
            jti: TokenId::generate(now, &*self.entropy),
            scope,
            sid: person.session,
            auth_time: person.auth_time,
            roles: person.roles,
            act,
            epo: epochs,
            root,
            ext: person.ext,
            preferred_username: person.username.filter(|_| self.config.username_claim),
        }
    }

    /// The key ring, loaded recently, whose ACTIVE key is not revoked.
    async fn signing_ring(&self) -> Result<Arc<KeyRing>> {
        let ring = self.keys.fresh().await?;
        if ring.active_id().is_some_and(|id| self.feed.index().key_revoked(id)) {
            self.keys.reload().await?;
            return Ok(self.keys.current());
        }
        Ok(ring)
    }

    /// `ttl`, shortened by a random part of it up to the configured one.
    fn with_jitter(&self, ttl: Duration) -> Duration {
        ttl.mul_f64(1.0 - self.config.access_jitter * self.random_unit())
    }

    /// A random number from 0 to 1.
    fn random_unit(&self) -> f64 {
        f64::from(u32::from_be_bytes(random(&*self.entropy))) / f64::from(u32::MAX)
    }
}

/// The error for a token that would be too large.
pub(super) fn too_large() -> Error {
    Error::invalid("scope", "the access token would be larger than 3.5 KiB; ask for less")
        .because("scopes, audiences, roles and attributes together are too large")
}

/// The `sub` of a user's tokens.
pub(super) fn subject(user: UserId) -> String {
    user.to_string()
}
