//! Refresh: one round trip to the durable store, one script on the store of sessions, one signature.

use std::sync::Arc;

use smallvec::smallvec;
use tracing::Instrument as _;

use super::access_token::{AccessTokenDraft, AccessTokenInput, AccessTokenSigner, SubjectClaims, subject};
use super::client_limits::ClientLimits;
use super::permissions::{allowed_audiences, stated_address};
use super::refresh_token::RefreshToken;
use super::refresh_token_codec::RefreshTokenCodec;
use super::rotation::{ReuseHandler, count_rotation, refusal_error};
use super::{IssuedRefreshToken, IssuedTokens};
use crate::clock::{Clock, Deadline};
use crate::config::Tokens as TokenConfig;
use crate::keys::manager::Keys;
use crate::model::grant::{Allowed, parse_audiences, parse_scopes};
use crate::model::revocation::{EpochSet, RevocationSubject};
use crate::model::session::{Presented, Rotated};
use crate::model::{Caller, Client, Error, ErrorKind, Result, Rotation, SessionContext, TokenEpochs, User};
use crate::revocation::Feed;
use crate::secret::SecretText;
use crate::store::{RefreshView, SessionStore, UserStore};

/// The longest `attempt_id`, in bytes.
const MAX_ATTEMPT_ID: usize = 64;

/// A presented refresh token.
#[derive(Debug)]
pub struct RefreshRequest {
    /// The refresh token.
    pub refresh_token: SecretText,
    /// The requested audiences; empty means all of the session that are still allowed.
    pub audience: Vec<String>,
    /// The requested scopes; empty means all of the session that are still allowed.
    pub scope: Vec<String>,
    /// The same for every retry of one attempt: it tells a retry from the use of a stolen token.
    pub attempt_id: String,
    /// The device, for the list of sessions; empty fields leave what is recorded.
    pub context: SessionContext,
}

/// The answer to a refresh.
#[derive(Debug)]
pub struct Refreshed {
    /// The tokens.
    pub issued: IssuedTokens,
    /// Whether the same successor was issued before: this was a retry.
    pub replayed: bool,
}

/// Refreshes sessions.
pub struct Refresher {
    /// Users with their clients and revocations.
    pub users: Arc<dyn UserStore>,
    /// The live sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// The revocations that this replica knows: the store may have lost some when it was promoted or restored.
    pub feed: Arc<Feed>,
    /// The key ring: it follows the ACTIVE key of the store.
    pub keys: Arc<Keys>,
    /// Reads and writes refresh tokens.
    pub refresh_tokens: RefreshTokenCodec,
    /// Signs the access token.
    pub signer: Arc<AccessTokenSigner>,
    /// Reacts to reuse.
    pub reuse: ReuseHandler,
    /// The time of the request.
    pub clock: Arc<dyn Clock>,
    /// The configured lifetimes and audiences.
    pub config: Arc<TokenConfig>,
}

impl std::fmt::Debug for Refresher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refresher")
    }
}

impl Refresher {
    /// Reads a refresh token and checks its tag. No store is asked about a token that is not ours.
    ///
    /// # Errors
    /// `REFRESH_TOKEN_MALFORMED` if it is not ours. `STORE_UNAVAILABLE` if it names a key that cannot be loaded.
    pub async fn verify(&self, refresh_token: &SecretText) -> Result<RefreshToken> {
        let token = self.refresh_tokens.decode(refresh_token.expose()).await?;
        token.ok_or_else(|| ErrorKind::RefreshTokenMalformed.into())
    }

    /// Exchanges a refresh token for its successor and a new access token, by the table in `ARCHITECTURE.md`.
    /// Nothing is done after `deadline`, or if this process stood still for longer than the caller may have waited.
    ///
    /// # Errors
    /// Besides those of the rules: `STORE_UNAVAILABLE` after such a pause, `DEADLINE_EXCEEDED` after the deadline.
    pub async fn refresh(
        self: &Arc<Self>,
        caller: &Caller,
        request: RefreshRequest,
        deadline: Deadline,
    ) -> Result<Refreshed> {
        if request.refresh_token.is_empty() {
            return Err(Error::invalid("refresh_token", "must not be empty"));
        }
        if request.attempt_id.len() > MAX_ATTEMPT_ID {
            return Err(Error::invalid("attempt_id", "must be at most 64 bytes"));
        }
        let scope = parse_scopes(&request.scope, "scope")?;
        let audience = parse_audiences(&request.audience, "audience")?;
        let context = accepted_context(caller, request.context)?.cut();
        let token = self.verify(&request.refresh_token).await?;
        self.signer.check_skew()?;

        let mut view = self
            .users
            .refresh_view(token.user, &token.client, token.session, token.epochs)
            .await?;
        view.revoked |= self.feed.index().is_revoked(&revocation_subject(&token));
        self.keys.reload_if_active_differs(view.active_key.as_ref()).await?;
        if view.revoked {
            // The revocation may not have known the user, or may have been made while the store of sessions was down.
            self.sessions.drop_revoked(token.user, &[token.session]).await;
        }
        let (user, client, era) = admit(view)?;

        let limits = ClientLimits::of(&client, &self.config);
        let draft = self.signer.draft(self.token_input(&user, &client, &token));
        let max_claims_bytes = self.signer.max_claims_bytes(&draft).await?;
        let presented = Presented {
            user: user.id,
            session: token.session,
            secret_hash: token.secret_hash(),
            generation: token.generation,
            attempt_id: request.attempt_id,
            grace: limits.refresh_grace,
            policy: limits.reuse_policy,
            idle_ttl: limits.idle_ttl,
            refresh_key: self.refresh_tokens.newest_key_id()?,
            era,
            scope,
            audience,
            allowed_scope: Allowed::scopes_of_person(&client.scopes, user.is_admin()),
            allowed_audience: allowed_audiences(&client, &self.config),
            own_audience: self.config.caller_audience.clone(),
            max_claims_bytes,
            context,
            may_be_late: false,
            not_after: None,
        };
        // A task of its own: a caller that disconnects must not leave a tombstone without its revocation.
        let (this, caller) = (Arc::clone(self), caller.clone());
        let present = Box::pin(async move { this.present(&caller, draft, token, presented, deadline).await });
        let task = tokio::spawn(present.in_current_span());
        task.await.map_err(Error::internal)?
    }

    /// Rotates the token in the store of sessions, and completes what follows from the result.
    async fn present(
        &self,
        caller: &Caller,
        draft: AccessTokenDraft,
        token: RefreshToken,
        mut presented: Presented,
        deadline: Deadline,
    ) -> Result<Refreshed> {
        // Right before the command is sent. The store compares the time again, because the command may be held up on its way.
        self.feed.check_awake()?;
        presented.may_be_late = self.feed.may_be_late();
        let left = deadline.left_at(self.clock.read());
        if left.is_zero() {
            return Err(ErrorKind::DeadlineExceeded.into());
        }
        presented.not_after = self.sessions.time_in(presented.user, left);
        let rotation = self.sessions.rotate(&presented).await?;
        count_rotation(&rotation);
        let (rotated, replayed) = match rotation {
            Rotation::Rotated(rotated) => (rotated, false),
            Rotation::Replayed(rotated) => (rotated, true),
            Rotation::FastForwarded { rotated, lost } => {
                self.reuse.report_lost_rotations(caller, &token, lost).await;
                (rotated, false)
            }
            Rotation::Reused(evidence) => return Err(self.reuse.end_reused(caller, &token, evidence).await),
            Rotation::Late => {
                return Err(Error::store_unavailable(
                    "the call was held up for so long that its caller may have gone on elsewhere",
                ));
            }
            Rotation::Refused(refusal) => return Err(refusal_error(&refusal, &presented)),
            Rotation::Expired => return Err(ErrorKind::RefreshTokenExpired.into()),
            Rotation::Unknown | Rotation::TooFarAhead => return Err(ErrorKind::SessionNotFound.into()),
        };
        let issued = self.issue(draft, token, rotated).await?;
        Ok(Refreshed { issued, replayed })
    }

    /// Issues the successor and the access token after a rotation.
    async fn issue(&self, draft: AccessTokenDraft, token: RefreshToken, mut rotated: Rotated) -> Result<IssuedTokens> {
        let session = token.session;
        let successor = RefreshToken {
            generation: rotated.generation,
            ..token
        };
        let encoded = self.refresh_tokens.encode(&successor, rotated.refresh_key).await?;
        let access = self.signer.sign_draft(draft.of_session(&mut rotated)).await?;
        let refresh = IssuedRefreshToken {
            token: encoded,
            session,
            expires: rotated.idle_expires,
            session_expires: rotated.expires,
        };
        Ok(IssuedTokens {
            access,
            refresh: Some(refresh),
        })
    }

    /// The content of the access token that belongs to this refresh token, without what only the record of the session
    /// tells. In place of the time of the login it has the present one, which is as long.
    fn token_input(&self, user: &User, client: &Client, token: &RefreshToken) -> AccessTokenInput {
        AccessTokenInput {
            sub: subject(user.id),
            client: client.id.clone(),
            scope: Vec::new(),
            audience: Vec::new(),
            epochs: TokenEpochs {
                epochs: token.epochs,
                client_id: client.id.clone(),
            },
            person: Some(SubjectClaims::of(user, token.session, self.clock.now())),
            act: None,
            root: None,
            ttl: ClientLimits::of(client, &self.config).access_ttl,
            expires_at_most: token.expires,
        }
    }
}

/// What a revocation of this session concerns.
fn revocation_subject(token: &RefreshToken) -> RevocationSubject {
    let epochs = EpochSet {
        user: Some(token.user),
        client: token.client.clone(),
        session: Some(token.session),
        epochs: token.epochs,
    };
    RevocationSubject {
        sessions: smallvec![token.session],
        epochs: smallvec![epochs],
        ..RevocationSubject::default()
    }
}

/// The context without what this caller may not state. An empty field leaves what is recorded.
fn accepted_context(caller: &Caller, mut context: SessionContext) -> Result<SessionContext> {
    context.ip_address = stated_address(caller, &context)?.unwrap_or_default();
    Ok(context)
}

/// The user and the client, if both and the revocations let the session go on. The order of the checks is the precedence of
/// their errors.
fn admit(view: RefreshView) -> Result<(User, Arc<Client>, i64)> {
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
