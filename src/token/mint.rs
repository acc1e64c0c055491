//! Making an access token.

use std::sync::Arc;
use std::time::Duration;

use super::Tokens;
use crate::clock::UnixMillis;
use crate::keys::ring::KeyRing;
use crate::model::{Actor, Claims, ClientId, Error, Result, SessionId, TokenEpochs, TokenId, User, UserId};
use crate::secret::{SecretText, random};

/// The largest token that is made, in bytes: with room to spare below the 4 KiB that are verified, and below what
/// proxies take as a header.
const MAX_TOKEN: usize = 3584;

/// Tokens just made.
#[derive(Debug)]
pub struct IssuedTokens {
    /// The access token.
    pub access: IssuedAccessToken,
    /// The refresh token; none for a machine or an exchange.
    pub refresh: Option<IssuedRefreshToken>,
}

/// An access token just made.
#[derive(Debug)]
pub struct IssuedAccessToken {
    /// The JWT.
    pub token: SecretText,
    /// When it expires.
    pub expires: UnixMillis,
    /// When a client does well to refresh: between 70 and 85 % of its life.
    pub refresh_after: UnixMillis,
    /// What it may do.
    pub scope: Vec<String>,
    /// Whom it is for.
    pub audience: Vec<String>,
}

/// The refresh token of a session.
#[derive(Debug)]
pub struct IssuedRefreshToken {
    /// The refresh token.
    pub token: SecretText,
    /// The session.
    pub session: SessionId,
    /// When the session ends unless it is refreshed.
    pub expires: UnixMillis,
    /// When the session ends whatever happens.
    pub session_expires: UnixMillis,
}

/// What an access token is to say.
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
    /// The token does not outlive this.
    pub(super) ceiling: UnixMillis,
}

/// What a token says of a person.
#[derive(Clone, Debug, Default)]
pub(super) struct SubjectClaims {
    pub(super) session: Option<SessionId>,
    pub(super) auth_time: Option<i64>,
    pub(super) roles: Vec<String>,
    pub(super) ext: Option<serde_json::Map<String, serde_json::Value>>,
}

impl SubjectClaims {
    /// What a token of this session says of its user, as the user is now.
    pub(super) fn of(user: &User, session: SessionId, created: UnixMillis) -> Self {
        Self {
            session: Some(session),
            auth_time: Some(created.secs()),
            roles: user.roles.clone(),
            ext: (!user.attributes.is_empty()).then(|| user.attributes.clone()),
        }
    }
}

impl Tokens {
    /// Signs an access token with the ACTIVE key. `INVALID_REQUEST` if it would be too large.
    pub(super) async fn mint(&self, token_input: AccessTokenInput) -> Result<IssuedAccessToken> {
        let ring = self.signing_ring().await?;
        let now = self.clock.now();
        let claims = self.claims(token_input, now);
        let key = ring.active().ok_or_else(|| Error::internal("no active signing key"))?;
        let token = SecretText::new(key.sign(&claims)?);
        if token.expose().len() > MAX_TOKEN {
            return Err(too_large());
        }
        let expires = UnixMillis::from_secs(claims.exp);
        let life = expires.since(now);
        let refresh_after = now.plus(life.mul_f64(0.70 + 0.15 * self.unit()));
        Ok(IssuedAccessToken {
            token,
            expires,
            refresh_after,
            scope: claims.scope,
            audience: claims.aud,
        })
    }

    /// How many bytes of its payload a token would leave to scopes and audiences, of which `token_input` has none yet.
    pub(super) async fn room(&self, token_input: AccessTokenInput) -> Result<u32> {
        let ring = self.signing_ring().await?;
        let key = ring.active().ok_or_else(|| Error::internal("no active signing key"))?;
        let claims = self.claims(token_input, self.clock.now());
        let said = serde_json::to_vec(&claims).map_err(Error::internal)?.len();
        u32::try_from(key.payload_within(MAX_TOKEN).saturating_sub(said)).map_err(Error::internal)
    }

    fn claims(&self, token_input: AccessTokenInput, now: UnixMillis) -> Claims {
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
            ceiling,
        } = token_input;
        let person = person.unwrap_or_default();
        Claims {
            iss: self.config.issuer.clone(),
            sub,
            aud: audience,
            client_id: client,
            iat: now.secs(),
            exp: now.plus(self.jittered(ttl)).secs().min(ceiling.secs()),
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
        }
    }

    /// The ring to sign with: loaded lately, and not with a key that was revoked since.
    async fn signing_ring(&self) -> Result<Arc<KeyRing>> {
        let ring = self.keys.fresh().await?;
        if ring.active_id().is_some_and(|id| self.feed.index().key_revoked(id)) {
            self.keys.reload().await?;
            return Ok(self.keys.current());
        }
        Ok(ring)
    }

    /// `ttl`, shortened by up to the configured part of it: jitter only shortens.
    fn jittered(&self, ttl: Duration) -> Duration {
        ttl.mul_f64(1.0 - self.config.access_jitter * self.unit())
    }

    /// A random number from 0 to 1.
    fn unit(&self) -> f64 {
        f64::from(u32::from_be_bytes(random(&*self.entropy))) / f64::from(u32::MAX)
    }

    /// Refuses to make or move anything while this machine's clock is far from the store's.
    pub(super) fn check_skew(&self) -> Result<()> {
        self.feed.check_skew()
    }
}

/// What is asked for does not fit into one token.
pub(super) fn too_large() -> Error {
    Error::invalid("scope", "the access token would be larger than 3.5 KiB; ask for less")
        .because("scopes, audiences, roles and attributes together are too large")
}

/// The subject of a person's tokens.
pub(super) fn subject(user: UserId) -> String {
    user.to_string()
}
