//! Issue with a password.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::Tokens;
use super::allowed::{may_log_in_at, may_use, source};
use super::begin::AuthenticatedUser;
use super::mint::IssuedTokens;
use crate::model::audit::Outcome;
use crate::model::grant::{Allowed, parse_audiences, parse_scopes};
use crate::model::{AuditType, Caller, ClientId, Error, ErrorKind, Grant, Result, SessionContext, Username};
use crate::password::{MAX_BYTES, PasswordCheck};
use crate::secret::SecretText;
use crate::store::Login;
use crate::throttle::LimitState;

/// A login with a password.
#[derive(Debug)]
pub struct PasswordRequest {
    /// At which client; empty means the default one.
    pub client_id: String,
    /// Who.
    pub username: String,
    /// Their password.
    pub password: SecretText,
    /// Asked for; empty means the configuration's.
    pub audience: Vec<String>,
    /// Asked for; empty means the client's.
    pub scope: Vec<String>,
    /// For people.
    pub context: SessionContext,
    /// How long the caller waits: a moment of the clock's monotonic time.
    pub deadline: Duration,
}

/// What a person offers as proof.
struct Proof {
    username: Username,
    password: SecretText,
    deadline: Duration,
}

impl Tokens {
    /// Logs a person in. Unknown user, wrong password and disabled are one answer, in code, bytes and time.
    pub async fn issue_with_password(
        self: &Arc<Self>,
        caller: &Caller,
        request: PasswordRequest,
    ) -> Result<IssuedTokens> {
        let client_id = ClientId::parse_or_default(&request.client_id, "client_id")?;
        may_log_in_at(caller, &client_id)?;
        let username = Username::parse(&request.username, "password.username")?;
        if request.password.is_empty() || request.password.expose().len() > MAX_BYTES {
            return Err(Error::invalid(
                "password.password",
                format!("must be 1-{MAX_BYTES} bytes"),
            ));
        }
        let scope = parse_scopes(&request.scope, "scope")?;
        let audience = parse_audiences(&request.audience, "audience")?;
        self.check_skew()?;
        let mut context = request.context.cut();
        context.ip_address = source(caller, &context).to_owned();
        let proof = Proof {
            username,
            password: request.password,
            deadline: request.deadline,
        };
        let authenticated = self.prove(caller, proof, &client_id, source(caller, &context)).await?;
        let (user, client) = (&authenticated.user, &authenticated.client);
        may_use(client, Grant::Password)?;
        let scope = if scope.is_empty() {
            client.default_scopes()
        } else {
            scope
        };
        let allowed = Allowed::scopes_of_person(&client.scopes, user.is_admin());
        let (scope, audience) = self.granted(client, &allowed, scope, audience)?;
        // A task of its own: a caller that goes away must not leave more sessions than there may be.
        let (this, caller) = (Arc::clone(self), caller.clone());
        let begin = Box::pin(async move { this.begin(&caller, authenticated, scope, audience, context).await });
        let task = tokio::spawn(begin.in_current_span());
        task.await.map_err(Error::internal)?
    }

    /// Checks the password. The attempt is counted before that, and taken back if it was good.
    async fn prove(
        &self,
        caller: &Caller,
        proof: Proof,
        client_id: &ClientId,
        source: &str,
    ) -> Result<AuthenticatedUser> {
        let attempt = self.throttle.user_login(&proof.username, source);
        let reservation = self.throttle.reserve(&attempt, proof.deadline).await?;
        let (login, verdict) = match self.look(&proof, client_id).await {
            Ok(looked) => looked,
            // It may have been looked at, if too late to tell.
            Err(error) if error.kind == ErrorKind::DeadlineExceeded => return Err(error),
            Err(error) => {
                reservation.cancel().await;
                return Err(error);
            }
        };
        let Login {
            user,
            client,
            epochs,
            era,
        } = login;
        if let Some((user, _)) = &user {
            verdict.log_unusable_hash(&user.id, &caller.origin.request_id);
        }
        let limit_state = reservation.limit_state();
        let good = verdict.matches && limit_state == LimitState::Open;
        let user = user.filter(|(user, _)| good && !user.disabled);
        let (Some((user, stored)), Some(client)) = (user, client) else {
            reservation.fail().await;
            self.login_failed(caller, &proof.username, client_id, limit_state).await;
            return Err(ErrorKind::InvalidCredentials.into());
        };
        reservation.succeed().await;
        let rehash = if verdict.rehash_needed {
            // Spent only on somebody who has just proved the password; a failure to hash does not stop a login.
            let new = self.hashing.hash(proof.password, proof.deadline).await.ok();
            new.map(|new| (stored, new))
        } else {
            None
        };
        Ok(AuthenticatedUser {
            user,
            client,
            epochs,
            era,
            rehash,
        })
    }

    /// Reads the credential and hashes. The epochs are read with the credential and before the hashing: a revocation that
    /// lands meanwhile has a larger epoch and kills what this login makes.
    async fn look(&self, proof: &Proof, client_id: &ClientId) -> Result<(Login, PasswordCheck)> {
        let login = self.durable.login(&proof.username, client_id).await?;
        let stored = login.user.as_ref().map(|(_, stored)| stored.clone());
        let verdict = self
            .hashing
            .verify(stored, proof.password.clone(), proof.deadline)
            .await?;
        Ok((login, verdict))
    }

    async fn login_failed(&self, caller: &Caller, username: &Username, client: &ClientId, limit_state: LimitState) {
        let kind = match limit_state {
            LimitState::Open => AuditType::TokenIssueFailed,
            LimitState::Locked => AuditType::Throttled,
        };
        let event = self
            .event(kind, &username, caller)
            .with_client(client)
            .with_outcome(Outcome::Denied)
            .with_detail("grant", Grant::Password.as_str());
        self.audit_best_effort(&event).await;
    }
}
