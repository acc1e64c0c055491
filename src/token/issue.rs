//! Issue with a password.

use std::time::Duration;

use super::Tokens;
use super::mint::{Issued, Minting, Person, Refreshable, subject};
use super::refresh_token::RefreshToken;
use super::throttle::Standing;
use crate::model::audit::Outcome;
use crate::model::grant::{Allowed, OWN_PREFIX, parse_audiences, parse_scopes};
use crate::model::session::NewSession;
use crate::model::{
    AuditEvent, AuditType, Caller, Client, ClientId, Epochs, Error, ErrorKind, Grant, Identity, Result, SessionContext,
    SessionId, TokenEpochs, User, Username,
};
use crate::secret::{SecretBytes, SecretText};
use crate::store::Login;

/// The longest password that is looked at, in bytes.
const MAX_PASSWORD: usize = 1024;

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

/// A person who has proved who they are, with what was read before the proof.
struct Proven {
    user: User,
    client: Client,
    epochs: Epochs,
    era: i64,
    /// The stored hash, and the one to put in its place.
    rehash: Option<(SecretText, SecretText)>,
}

impl Tokens {
    /// Logs a person in. Unknown user, wrong password and disabled are one answer, in code, bytes and time.
    pub async fn issue_with_password(&self, caller: &Caller, request: PasswordRequest) -> Result<Issued> {
        let client_id = ClientId::parse_or_default(&request.client_id, "client_id")?;
        may_log_in_at(caller, &client_id)?;
        let username = Username::parse(&request.username, "password.username")?;
        if request.password.is_empty() || request.password.expose().len() > MAX_PASSWORD {
            return Err(Error::invalid("password.password", "must be 1-1024 bytes"));
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
        let proven = self.prove(caller, proof, &client_id, source(caller, &context)).await?;
        let (user, client) = (&proven.user, &proven.client);
        may_use(client, Grant::Password)?;
        let scope = if scope.is_empty() {
            client.default_scopes()
        } else {
            scope
        };
        let allowed = Allowed::scopes_of_person(&client.scopes, user.is_admin());
        let (scope, audience) = self.granted(client, &allowed, scope, audience)?;
        self.begin(caller, proven, scope, audience, context).await
    }

    /// Checks the password. The epochs are read with the credential and before the hashing: a revocation that lands
    /// meanwhile has a larger epoch and kills what this login makes.
    async fn prove(&self, caller: &Caller, proof: Proof, client_id: &ClientId, source: &str) -> Result<Proven> {
        let Proof {
            username,
            password,
            deadline,
        } = proof;
        let attempt = self.throttle.person(&username, source);
        let standing = self.throttle.admit(&attempt).await?;
        let Login {
            user,
            client,
            epochs,
            era,
        } = self.durable.login(&username, client_id).await?;
        let (user, stored) = user.map_or((None, None), |(user, hash)| (Some(user), Some(hash)));
        let verdict = self.hashing.verify(stored.clone(), password.clone(), deadline).await?;
        let good = verdict.matches && standing == Standing::Open;
        let (Some(user), Some(client)) = (user.filter(|user| good && !user.disabled), client) else {
            self.throttle.failed(&attempt).await;
            self.login_failed(caller, &username, client_id, standing).await;
            return Err(ErrorKind::InvalidCredentials.into());
        };
        self.throttle.succeeded(&attempt).await;
        let rehash = match stored {
            // Spent only on somebody who has just proved the password; a failure to hash does not stop a login.
            Some(old) if verdict.rehash_needed => {
                self.hashing.hash(password, deadline).await.ok().map(|new| (old, new))
            }
            _ => None,
        };
        Ok(Proven {
            user,
            client,
            epochs,
            era,
            rehash,
        })
    }

    /// Begins the session of somebody who has proved who they are.
    async fn begin(
        &self,
        caller: &Caller,
        proven: Proven,
        scope: Vec<String>,
        audience: Vec<String>,
        context: SessionContext,
    ) -> Result<Issued> {
        let Proven {
            user,
            client,
            epochs,
            era,
            rehash,
        } = proven;
        let now = self.clock.now();
        let session = SessionId::generate(now, &*self.entropy);
        let expires = now.plus(self.config.session_ttl(&client));
        let access = self
            .mint(Minting {
                sub: subject(user.id),
                client: client.id.clone(),
                scope,
                audience,
                epochs: TokenEpochs {
                    epochs,
                    client_id: client.id.clone(),
                },
                person: Some(Person::of(&user, session, now)),
                act: None,
                root: None,
                ttl: self.config.access_ttl(&client),
                ceiling: expires,
            })
            .await?;
        let token = RefreshToken {
            user: user.id,
            session,
            generation: 0,
            epochs,
            expires,
            client: client.id.clone(),
            secret: SecretBytes::generate(&*self.entropy),
        };
        let ring = self.keys.current();
        let (key_id, key) = ring.newest_refresh().ok_or_else(|| Error::internal("no refresh key"))?;
        let new = NewSession {
            id: session,
            user: user.id,
            client: client.id.clone(),
            secret_hash: token.secret_hash(),
            refresh_key: key_id,
            scope: access.scope.clone(),
            audience: access.audience.clone(),
            created: now,
            idle_ttl: self.config.idle_ttl(&client),
            expires,
            epochs,
            era,
            context,
        };
        let created = self.sessions.create(&new, self.config.max_sessions(&client)).await?;
        let event = self
            .event(AuditType::TokenIssued, &user.id, caller)
            .with_client(&client.id)
            .with_session(session)
            .with_detail("grant", Grant::Password.as_str());
        if let Err(error) = self.durable.logged_in(user.id, now, rehash, &event).await {
            // A login that is not on the trail is not a login.
            drop(self.sessions.end(user.id, session).await);
            return Err(error);
        }
        self.evict(&user, &client, created.crowded).await?;
        let refresh = Refreshable {
            token: token.encode(key_id, key),
            session,
            expires: created.idle_expires,
            session_expires: expires,
        };
        Ok(Issued {
            access,
            refresh: Some(refresh),
        })
    }

    /// Checks what is asked for against what may be had, and fills in what is not asked for.
    pub(super) fn granted(
        &self,
        client: &Client,
        allowed: &Allowed,
        scope: Vec<String>,
        audience: Vec<String>,
    ) -> Result<(Vec<String>, Vec<String>)> {
        if let Some(refused) = scope.iter().position(|name| !allowed.allows(name)) {
            return Err(not_allowed(ErrorKind::ScopeNotAllowed, "scope", refused));
        }
        let own = scope.iter().any(|name| name.starts_with(OWN_PREFIX));
        let audience = match (audience.is_empty(), own) {
            (true, true) => vec![self.config.caller_audience.clone()],
            (true, false) => vec![self.config.default_audience.clone()],
            (false, _) => audience,
        };
        // A right on Countersign must not lie in the hands of every service that is sent the token.
        if own && audience != [self.config.caller_audience.as_str()] {
            return Err(Error::at(
                ErrorKind::AudienceNotAllowed,
                "audience",
                "a token with countersign:* scopes is for Countersign alone",
            ));
        }
        let audiences = self.audiences(client);
        // A right on Countersign brings the audience with it.
        let refused = audience.iter().position(|name| !(own || audiences.allows(name)));
        if let Some(refused) = refused {
            return Err(not_allowed(ErrorKind::AudienceNotAllowed, "audience", refused));
        }
        Ok((scope, audience))
    }

    /// Whom the client's tokens may be for; a client that lists nobody may name the default audience.
    pub(super) fn audiences(&self, client: &Client) -> Allowed {
        let mut allowed = Allowed::audiences(&client.audiences);
        if client.audiences.is_empty() {
            allowed.names.push(self.config.default_audience.clone());
        }
        allowed
    }

    async fn login_failed(&self, caller: &Caller, username: &Username, client: &ClientId, standing: Standing) {
        let kind = match standing {
            Standing::Open => AuditType::TokenIssueFailed,
            Standing::Locked => AuditType::Throttled,
        };
        let event = self
            .event(kind, &username, caller)
            .with_client(client)
            .with_outcome(Outcome::Denied)
            .with_detail("grant", Grant::Password.as_str());
        self.audit_best_effort(&event).await;
    }

    /// Writes an event of something refused: what was refused changed nothing, so a trail that cannot be written does
    /// not turn the answer into an outage.
    pub(super) async fn audit_best_effort(&self, event: &AuditEvent) {
        if let Err(error) = self.durable.append_audit(event).await {
            tracing::warn!(%error, kind = event.kind, "an audit event could not be written");
        }
    }

    pub(super) fn event(&self, kind: AuditType, subject: &impl ToString, caller: &Caller) -> AuditEvent {
        AuditEvent::new(kind, subject, &caller.origin, self.clock.now(), &*self.entropy)
    }
}

/// A client that calls with its own token but without `countersign:issue` logs people in at itself only.
fn may_log_in_at(caller: &Caller, client: &ClientId) -> Result<()> {
    let own = matches!(&caller.identity, Identity::Machine { client: own } if own == client);
    if own || caller.has("countersign:issue") {
        Ok(())
    } else if caller.is_authenticated() {
        Err(ErrorKind::CallerNotAllowed.into())
    } else {
        Err(ErrorKind::CallerUnauthenticated.into())
    }
}

/// Where a login comes from: the person's address where an authenticated caller that may log people in tells it, else
/// the peer's.
pub(super) fn source<'a>(caller: &'a Caller, context: &'a SessionContext) -> &'a str {
    if believes_address(caller) && !context.ip_address.is_empty() {
        &context.ip_address
    } else {
        &caller.origin.ip_address
    }
}

/// Whether this caller is believed when it says where a person is.
pub(super) fn believes_address(caller: &Caller) -> bool {
    caller.is_authenticated() && caller.has("countersign:issue")
}

/// Whether the client, which has proved who it is or whose user has, may get tokens in this way.
pub(super) fn may_use(client: &Client, grant: Grant) -> Result<()> {
    if client.disabled {
        return Err(ErrorKind::ClientDisabled.into());
    }
    if client.may(grant) {
        Ok(())
    } else {
        Err(ErrorKind::GrantNotAllowed.into())
    }
}

pub(super) fn not_allowed(kind: ErrorKind, field: &'static str, index: usize) -> Error {
    Error::at(kind, format!("{field}[{index}]"), "not allowed")
}
