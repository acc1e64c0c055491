//! Issuing tokens for a password.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::IssuedTokens;
use super::ignored_addresses::IgnoredAddresses;
use super::lost_epochs::check_epochs;
use super::permissions::{check_requested, may_log_in_at, may_use, stated_address};
use super::session_start::{AuthenticatedUser, SessionStarter};
use crate::attempts::{AttemptLog, Failure, Named, Subject};
use crate::config::Tokens as TokenConfig;
use crate::model::audit::Origin;
use crate::model::grant::{Allowed, parse_audiences, parse_scopes};
use crate::model::{AuditType, Caller, ClientId, Error, ErrorKind, Grant, Result, SessionContext, Source, Username};
use crate::password::{MAX_BYTES, PasswordCheck, Pool};
use crate::revocation::Feed;
use crate::secret::SecretText;
use crate::store::{Login, UserStore};
use crate::throttle::{Attempt, LimitState, Throttle};

/// A login with a password.
#[derive(Debug)]
pub struct PasswordRequest {
    /// The client; empty means the default one.
    pub client_id: String,
    /// The username.
    pub username: String,
    /// The user's password.
    pub password: SecretText,
    /// The requested audiences; empty means the configured default.
    pub audience: Vec<String>,
    /// The requested scopes; empty means the client's.
    pub scope: Vec<String>,
    /// The device, for the list of sessions.
    pub context: SessionContext,
    /// Until when the caller waits, by the monotonic clock.
    pub deadline: Duration,
}

/// Username and password.
struct Credentials {
    username: Username,
    password: SecretText,
    deadline: Duration,
}

/// Logs users in with a password.
pub struct PasswordIssuer {
    /// Users with their credentials.
    pub users: Arc<dyn UserStore>,
    /// Checks and hashes passwords.
    pub hashing: Arc<Pool>,
    /// Counts failed attempts.
    pub throttle: Arc<Throttle>,
    /// Starts the session.
    pub sessions: Arc<SessionStarter>,
    /// Knows how far this machine's clock is from the store's, and revocations that the store may have lost.
    pub feed: Arc<Feed>,
    /// Tells the operator about callers whose statements of addresses are ignored.
    pub ignored_addresses: IgnoredAddresses,
    /// The audit rows of frequent attempts.
    pub attempts: Arc<AttemptLog>,
    /// The configured audiences.
    pub config: Arc<TokenConfig>,
}

impl std::fmt::Debug for PasswordIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordIssuer")
    }
}

impl PasswordIssuer {
    /// Logs a user in. An unknown user, a wrong password and a disabled user get the same answer, in code, bytes and time.
    pub async fn issue(&self, caller: &Caller, request: PasswordRequest) -> Result<IssuedTokens> {
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
        self.feed.check_skew()?;
        let address = if let Some(address) = stated_address(caller, &request.context)? {
            address
        } else {
            self.ignored_addresses.report(caller, &client_id, &request.context);
            caller.origin.ip_address.clone()
        };
        let source = Source::of_peer(&address);
        let mut context = request.context.cut();
        context.ip_address = address;
        let credentials = Credentials {
            username: username.clone(),
            password: request.password,
            deadline: request.deadline,
        };
        let attempt = self.throttle.user_login(&credentials.username, source);
        let deadline = credentials.deadline;
        let authenticated = match self
            .authenticate(caller, credentials, &client_id, &attempt, &context.ip_address)
            .await
        {
            Ok(authenticated) => authenticated,
            Err(error) => {
                if error.kind == ErrorKind::Throttled {
                    let usual = self.hashing.usual_check_time();
                    self.throttle.hold_refusal(&attempt, usual, deadline).await;
                }
                return Err(error);
            }
        };
        let (user, client) = (&authenticated.user, &authenticated.client);
        let read_again = async { Ok::<_, Error>(self.users.login(&username, &client_id).await?.epochs) };
        check_epochs(
            &self.feed,
            (Some(user.id), &client.id),
            authenticated.epochs,
            read_again,
        )
        .await?;
        may_use(client, Grant::Password)?;
        let scope = if scope.is_empty() {
            client.default_scopes()
        } else {
            scope
        };
        let allowed = Allowed::scopes_of_person(&client.scopes, user.is_admin());
        let (scope, audience) = check_requested(client, &self.config, &allowed, scope, audience)?;
        // A task of its own: a caller that disconnects must not leave more sessions than the limit.
        let (sessions, mut caller) = (Arc::clone(&self.sessions), caller.clone());
        caller.origin.ip_address.clone_from(&context.ip_address);
        let start = Box::pin(async move { sessions.start(&caller, authenticated, scope, audience, context).await });
        let task = tokio::spawn(start.in_current_span());
        task.await.map_err(Error::internal)?
    }

    /// Checks the password. The attempt is counted before the check, and the count is taken back if the password is right.
    async fn authenticate(
        &self,
        caller: &Caller,
        credentials: Credentials,
        client_id: &ClientId,
        attempt: &Attempt,
        address: &str,
    ) -> Result<AuthenticatedUser> {
        let refused = |error: Error| {
            if error.kind == ErrorKind::Throttled {
                let subject = Subject::Other(Named::NotLookedUp(credentials.username.as_str()));
                let client = Named::NotLookedUp(client_id.as_str());
                self.record_failure(AuditType::Throttled, subject, client, caller, address);
            }
            error
        };
        let username = &credentials.username;
        self.throttle.check_logins(username).await.map_err(refused)?;
        let reservation = self.throttle.reserve(attempt, credentials.deadline).await;
        let reservation = reservation.map_err(refused)?;
        let (login, check) = match self.check_password(&credentials, client_id).await {
            Ok(checked) => checked,
            Err(error) => return Err(reservation.abandon(error).await),
        };
        let Login {
            user,
            client,
            epochs,
            era,
        } = login;
        if let Some((user, _)) = &user {
            check.log_unusable_hash(&user.id, &caller.origin.request_id);
        }
        let limit_state = reservation.limit_state();
        let (user_id, client_exists) = (user.as_ref().map(|(user, _)| user.id.to_string()), client.is_some());
        let accepted = check.matches && limit_state == LimitState::Open;
        let user = user.filter(|(user, _)| accepted && !user.disabled);
        let (Some((user, stored)), Some(client)) = (user, client) else {
            let refusal = reservation.fail().await;
            let (name, client) = (credentials.username.as_str(), client_id.as_str());
            let kind = match limit_state {
                LimitState::Open => AuditType::TokenIssueFailed,
                LimitState::Locked => AuditType::Throttled,
            };
            let subject = match &user_id {
                Some(id) => Subject::Account(id),
                None => Subject::Other(Named::Unknown(name)),
            };
            self.record_failure(kind, subject, Named::of(client, client_exists), caller, address);
            return Err(refusal);
        };
        reservation.succeed().await;
        if let Err(error) = self.throttle.count_login(username).await {
            let (id, client) = (user.id.to_string(), Named::Known(client.id.as_str()));
            self.record_failure(AuditType::Throttled, Subject::Account(&id), client, caller, address);
            return Err(error);
        }
        let rehash = if check.rehash_needed {
            // Only for a user who has proved the password. The login goes on if hashing fails.
            match self.hashing.hash(credentials.password, credentials.deadline).await {
                Ok(new) => Some((stored, new)),
                Err(error) => {
                    tracing::debug!(%error, user = %user.id, "cannot hash a password anew; the next login tries again");
                    None
                }
            }
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

    fn record_failure(&self, kind: AuditType, subject: Subject<'_>, client: Named<'_>, caller: &Caller, address: &str) {
        self.attempts.record(&Failure {
            kind,
            grant: Some(Grant::Password),
            subject,
            client: Some(client),
            origin: Origin {
                ip_address: address.to_owned(),
                ..caller.origin.clone()
            },
        });
    }

    /// Reads the stored hash and compares. The epochs are read with the hash and before the comparison: a revocation that
    /// is recorded meanwhile has a larger epoch and revokes the session that this login starts.
    async fn check_password(&self, credentials: &Credentials, client_id: &ClientId) -> Result<(Login, PasswordCheck)> {
        let login = self.users.login(&credentials.username, client_id).await?;
        let stored = login.user.as_ref().map(|(_, stored)| stored.clone());
        let check = self
            .hashing
            .verify(stored, credentials.password.clone(), credentials.deadline)
            .await?;
        Ok((login, check))
    }
}
