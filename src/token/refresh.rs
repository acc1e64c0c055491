//! Refresh: one round trip to the durable store, one script on the store of sessions, one signature.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::Tokens;
use super::allowed::believes_address;
use super::mint::{AccessTokenInput, IssuedRefreshToken, IssuedTokens, SubjectClaims, subject};
use super::refresh_token::RefreshToken;
use super::verdict::{count_verdict, refused};
use crate::clock::UnixMillis;
use crate::model::grant::{Allowed, parse_audiences, parse_scopes};
use crate::model::session::{Presented, Rotated};
use crate::model::{
    Caller, Client, Error, ErrorKind, Result, ReusePolicy, Rotation, SessionContext, TokenEpochs, User,
};
use crate::secret::SecretText;
use crate::store::RefreshView;

/// The longest `attempt_id`, in bytes.
const MAX_ATTEMPT_ID: usize = 64;

/// How long a page may take to load, with everything on it.
const COOKIE_GRACE: Duration = Duration::from_mins(5);

/// A presented refresh token.
#[derive(Debug)]
pub struct RefreshRequest {
    /// The token.
    pub refresh_token: SecretText,
    /// Asked for; empty means all of the grant that is still allowed.
    pub audience: Vec<String>,
    /// Likewise.
    pub scope: Vec<String>,
    /// The same for every retry of one attempt, so that a retry is told from a thief.
    pub attempt_id: String,
    /// For people; empty fields leave what is recorded.
    pub context: SessionContext,
    /// Whether it came in a browser's cookie. The requests of one page bring it at once, and some of them late; nobody
    /// there keeps an `attempt_id`. All get the same successor, for 300 s unless the client has its own.
    pub by_cookie: bool,
}

/// What a refresh gives.
#[derive(Debug)]
pub struct Refreshed {
    /// The tokens.
    pub issued: IssuedTokens,
    /// Whether the same successor was given before: a retry.
    pub replayed: bool,
}

impl Tokens {
    /// Exchanges a refresh token for its successor and a new access token, as the table in `ARCHITECTURE.md` says.
    pub async fn refresh(self: &Arc<Self>, caller: &Caller, request: RefreshRequest) -> Result<Refreshed> {
        if request.refresh_token.is_empty() {
            return Err(Error::invalid("refresh_token", "must not be empty"));
        }
        if request.attempt_id.len() > MAX_ATTEMPT_ID {
            return Err(Error::invalid("attempt_id", "must be at most 64 bytes"));
        }
        let scope = parse_scopes(&request.scope, "scope")?;
        let audience = parse_audiences(&request.audience, "audience")?;
        // No store is asked about a token that we did not make.
        let token = self.read_refresh_token(request.refresh_token.expose()).await?;
        let token = token.ok_or(ErrorKind::RefreshTokenMalformed)?;
        self.check_skew()?;

        let view = self
            .durable
            .refresh_view(token.user, &token.client, token.session, token.epochs)
            .await?;
        self.keys.reload_if_active_differs(view.active_key.as_ref()).await?;
        let (user, client, era) = admit(view)?;

        let (grace, policy) = if request.by_cookie {
            (client.refresh_grace.unwrap_or(COOKIE_GRACE), ReusePolicy::Tolerant)
        } else {
            (self.config.grace(&client), self.config.policy(&client))
        };

        let room = self
            .room(self.token_input(&user, &client, &token, self.clock.now()))
            .await?;
        let ring = self.keys.current();
        let presented = Presented {
            user: user.id,
            session: token.session,
            secret_hash: token.secret_hash(),
            generation: token.generation,
            attempt_id: request.attempt_id,
            grace,
            policy,
            idle_ttl: self.config.idle_ttl(&client),
            refresh_key: ring
                .newest_refresh()
                .ok_or_else(|| Error::internal("no refresh key"))?
                .0,
            era,
            scope,
            audience,
            allowed_scope: Allowed::scopes_of_person(&client.scopes, user.is_admin()),
            allowed_audience: self.audiences(&client),
            own_audience: self.config.caller_audience.clone(),
            max_claims_bytes: room,
            context: believed(caller, request.context).cut(),
        };
        // A task of its own: a caller that goes away must not leave a tombstone without its revocation.
        let (this, caller) = (Arc::clone(self), caller.clone());
        let present = Box::pin(async move { this.present(&caller, user, client, token, presented).await });
        let task = tokio::spawn(present.in_current_span());
        task.await.map_err(Error::internal)?
    }

    /// Presents the token to the store of sessions and does what follows, to its end.
    async fn present(
        &self,
        caller: &Caller,
        user: User,
        client: Client,
        token: RefreshToken,
        presented: Presented,
    ) -> Result<Refreshed> {
        let rotation = self.sessions.rotate(&presented).await?;
        count_verdict(&rotation);
        let (rotated, replayed) = match rotation {
            Rotation::Rotated(rotated) => (rotated, false),
            Rotation::Replayed(rotated) => (rotated, true),
            Rotation::FastForwarded { rotated, lost } => {
                self.fast_forwarded(caller, &token, lost).await;
                (rotated, false)
            }
            Rotation::Reused(evidence) => return Err(self.reused(caller, &token, evidence).await),
            Rotation::Refused(refusal) => return Err(refused(&refusal, &presented)),
            Rotation::Expired => return Err(ErrorKind::RefreshTokenExpired.into()),
            Rotation::Unknown | Rotation::TooFarAhead => return Err(ErrorKind::SessionNotFound.into()),
        };
        let issued = self.succeed(&user, &client, token, rotated).await?;
        Ok(Refreshed { issued, replayed })
    }

    /// Makes the successor and the access token that a rotation gives.
    async fn succeed(
        &self,
        user: &User,
        client: &Client,
        token: RefreshToken,
        rotated: Rotated,
    ) -> Result<IssuedTokens> {
        let Rotated {
            generation,
            refresh_key,
            scope,
            audience,
            created,
            idle_expires,
            expires,
            now: _,
        } = rotated;
        if self.keys.current().refresh_key(refresh_key).is_none() {
            // Another replica made it a moment ago.
            self.keys.look_up_refresh_key(refresh_key).await?;
        }
        let ring = self.keys.current();
        let key = ring
            .refresh_key(refresh_key)
            .ok_or_else(|| Error::store_unavailable("the successor's refresh key is not loaded yet"))?;
        let access = self
            .mint(AccessTokenInput {
                scope,
                audience,
                ceiling: expires,
                ..self.token_input(user, client, &token, created)
            })
            .await?;
        let session = token.session;
        let successor = RefreshToken { generation, ..token };
        let refresh = IssuedRefreshToken {
            token: successor.encode(refresh_key, key),
            session,
            expires: idle_expires,
            session_expires: expires,
        };
        Ok(IssuedTokens {
            access,
            refresh: Some(refresh),
        })
    }

    /// The access token that this refresh token gives, but for its scopes and audiences.
    fn token_input(&self, user: &User, client: &Client, token: &RefreshToken, created: UnixMillis) -> AccessTokenInput {
        AccessTokenInput {
            sub: subject(user.id),
            client: client.id.clone(),
            scope: Vec::new(),
            audience: Vec::new(),
            epochs: TokenEpochs {
                epochs: token.epochs,
                client_id: client.id.clone(),
            },
            person: Some(SubjectClaims::of(user, token.session, created)),
            act: None,
            root: None,
            ttl: self.config.access_ttl(client),
            ceiling: token.expires,
        }
    }

    /// Reads a refresh token of ours. One that names a refresh key just past the newest known is looked up once: another
    /// replica may have made it.
    pub(super) async fn read_refresh_token(&self, text: &str) -> Result<Option<RefreshToken>> {
        let ring = self.keys.current();
        if let Some(token) = RefreshToken::decode(text, |id| ring.refresh_key(id)) {
            return Ok(Some(token));
        }
        let newest = ring.newest_refresh().map_or(0, |(id, _)| id);
        let just_past = newest.saturating_add(1)..newest.saturating_add(8);
        let unknown = RefreshToken::claimed_key(text).filter(|id| just_past.contains(id));
        let Some(id) = unknown.filter(|id| ring.refresh_key(*id).is_none()) else {
            return Ok(None);
        };
        if !self.keys.look_up_refresh_key(id).await? {
            return Ok(None);
        }
        let ring = self.keys.current();
        Ok(RefreshToken::decode(text, |id| ring.refresh_key(id)))
    }
}

/// The context as far as this caller is believed: an address only from one that has proved who it is and may log people
/// in. What is not believed leaves what is recorded.
fn believed(caller: &Caller, mut context: SessionContext) -> SessionContext {
    if !believes_address(caller) {
        context.ip_address.clear();
    }
    context
}

/// Whether the user, the client and the revocations let the session go on; in the order in which errors take precedence.
fn admit(view: RefreshView) -> Result<(User, Client, i64)> {
    let user = view.user.filter(|user| !user.disabled).ok_or(ErrorKind::UserDisabled)?;
    if view.revoked {
        return Err(ErrorKind::SessionRevoked.into());
    }
    let client = view
        .client
        .filter(|client| !client.disabled)
        .ok_or(ErrorKind::SessionRevoked)?;
    Ok((user, client, view.era))
}
