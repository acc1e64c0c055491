//! The real service with real stores, which runs the same steps.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use countersign::account::{Principal, UserDraft};
use countersign::app::App;
use countersign::clock::{Clock as _, Deadline, SystemClock};
use countersign::model::{Caller, Error, SessionContext, UserId};
use countersign::proto::convert::reason;
use countersign::secret::SecretText;
use countersign::token::{PasswordRequest, RefreshRequest, RevokeRequest, RevokeTarget};

use super::machine::{CLIENTS, Model, Outcome, Step};
use super::support::caller::generation;
use super::support::{Database, KeySpace};
use super::users::{Tokens, Users};

const PASSWORD: &str = "correct horse battery staple 42";

/// A deployment in this process.
pub(crate) struct System {
    pub(crate) app: Arc<App>,
    pub(crate) caller: Caller,
    pub(crate) redis: Option<KeySpace>,
    pub(crate) database: Option<Database>,
    pub(crate) serial: std::sync::atomic::AtomicU64,
    pub(crate) _folder: Option<tempfile::TempDir>,
}

impl System {
    /// Three new users.
    pub(crate) async fn users(&self) -> Users {
        let mut users = Users {
            names: Vec::new(),
            ids: Vec::new(),
            sessions: Vec::new(),
        };
        for _ in 0..3 {
            let n = self.serial.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let draft = UserDraft {
                username: format!("model-{n}"),
                ..UserDraft::default()
            };
            let (owner, password) = (Principal::owner(), PASSWORD.to_owned().into());
            let user = self.app.users.create(&owner, &draft, password, self.deadline()).await;
            users.ids.push(user.unwrap().id);
            users.names.push(draft.username);
        }
        users
    }

    fn deadline(&self) -> Duration {
        self.app.stores.clock.monotonic() + Duration::from_secs(30)
    }

    pub(crate) async fn apply(&self, users: &mut Users, step: &Step, model: &Model) -> Outcome {
        match step {
            Step::Issue { user, client } => self.issue(users, *user, *client).await,
            Step::RefreshNewest { session, attempt } => match users.pick(*session) {
                // The model has applied the step already, so `users` has the newest token from before it.
                Some(session) => self.refresh(users, session, users.newest(session), attempt).await,
                None => Outcome::Nothing,
            },
            Step::Refresh {
                session,
                generation,
                attempt,
            } => match users.pick(*session) {
                Some(session) => {
                    let generation = u32::try_from(generation.index(users.newest(session) as usize + 1)).unwrap();
                    self.refresh(users, session, generation, attempt).await
                }
                None => Outcome::Nothing,
            },
            Step::RefreshUnrecorded {
                session,
                generation,
                attempt,
            } => match users.pick(*session) {
                Some(session) => {
                    let generation = u32::try_from(generation.index(users.newest(session) as usize + 1)).unwrap();
                    self.database("ENABLE").await;
                    let seen = self.refresh(users, session, generation, attempt).await;
                    self.database("DISABLE").await;
                    seen
                }
                None => Outcome::Nothing,
            },
            Step::RevokeToken { session, generation } => {
                if let Some(session) = users.pick(*session) {
                    let generation = u32::try_from(generation.index(users.newest(session) as usize + 1)).unwrap();
                    let token = users.sessions[session].refresh[&generation].clone();
                    self.revoke(RevokeTarget::Token(SecretText::new(token))).await;
                }
                Outcome::Nothing
            }
            Step::RevokeSession { session } => {
                if let Some(session) = users.pick(*session) {
                    self.revoke(RevokeTarget::Session(users.sessions[session].id.clone()))
                        .await;
                }
                Outcome::Nothing
            }
            Step::RevokeUser { user, keep } => {
                let keep = keep.and_then(|index| model.pick(index));
                let keep = keep
                    .map(|session| users.sessions[session].id.clone())
                    .unwrap_or_default();
                self.revoke(RevokeTarget::User {
                    id: users.ids[*user].to_string(),
                    keep,
                })
                .await;
                Outcome::Nothing
            }
            Step::RevokeClient { client } => {
                self.revoke(RevokeTarget::Client(CLIENTS[*client].id.to_owned())).await;
                Outcome::Nothing
            }
            Step::RevokeEverything => {
                self.revoke(RevokeTarget::Everything).await;
                Outcome::Nothing
            }
            Step::SetDisabled { user, disabled } => {
                let id = users.ids[*user].to_string();
                self.app
                    .users
                    .set_disabled(&Principal::owner(), &id, *disabled)
                    .await
                    .unwrap();
                Outcome::Nothing
            }
            Step::Snapshot { user } => self.redis(users.ids[*user], "COPY", "s", "snapshot"),
            Step::Restore { user } => self.redis(users.ids[*user], "COPY", "snapshot", "s"),
            Step::Lose { user } => self.redis(users.ids[*user], "DEL", "s", ""),
        }
    }

    async fn issue(&self, users: &mut Users, user: usize, client: usize) -> Outcome {
        let request = PasswordRequest {
            client_id: CLIENTS[client].id.to_owned(),
            username: users.names[user].clone(),
            password: SecretText::new(PASSWORD),
            audience: Vec::new(),
            scope: Vec::new(),
            context: SessionContext::default(),
            deadline: self.deadline(),
        };
        match self.app.password_issuer.issue(&self.caller, request).await {
            Ok(issued) => {
                let refresh = issued.refresh.unwrap();
                users.sessions.push(Tokens {
                    id: refresh.session.to_string(),
                    access: issued.access.token.expose().to_owned(),
                    refresh: HashMap::from([(0, refresh.token.expose().to_owned())]),
                    forked: false,
                });
                Outcome::Tokens {
                    session: users.sessions.len() - 1,
                    generation: 0,
                    replayed: false,
                }
            }
            Err(error) => Outcome::Refused(refusal_reason(&error)),
        }
    }

    async fn refresh(&self, users: &mut Users, session: usize, presented: u32, attempt: &str) -> Outcome {
        let tokens = &mut users.sessions[session];
        let token = tokens.refresh[&presented].clone();
        match self.exchange(&token, attempt).await {
            Ok((given, access, replayed)) => {
                let generation = generation(&given);
                let known = tokens.refresh.entry(generation).or_insert_with(|| given.clone());
                tokens.forked |= *known != given;
                tokens.access = access;
                Outcome::Tokens {
                    session,
                    generation,
                    replayed,
                }
            }
            Err(why) => Outcome::Refused(why),
        }
    }

    /// Refreshes. Returns the new refresh token, its generation and whether it is a replay, or the reason of the
    /// refusal.
    pub(crate) async fn present(&self, token: &str, attempt: &str) -> Result<(String, u32, bool), &'static str> {
        let (given, _, replayed) = self.exchange(token, attempt).await?;
        let generation = generation(&given);
        Ok((given, generation, replayed))
    }

    /// Refreshes. Returns the new refresh token, the new access token, and whether it is a replay.
    async fn exchange(&self, token: &str, attempt: &str) -> Result<(String, String, bool), &'static str> {
        let request = RefreshRequest {
            refresh_token: SecretText::new(token),
            audience: Vec::new(),
            scope: Vec::new(),
            attempt_id: attempt.to_owned(),
            context: SessionContext::default(),
        };
        let deadline = Deadline::after(SystemClock::new().read(), Duration::MAX);
        let refreshed = self.app.refresher.refresh(&self.caller, request, deadline).await;
        let refreshed = refreshed.map_err(|error| refusal_reason(&error))?;
        let given = refreshed.issued.refresh.unwrap().token.expose().to_owned();
        let access = refreshed.issued.access.token.expose().to_owned();
        Ok((given, access, refreshed.replayed))
    }

    async fn revoke(&self, target: RevokeTarget) {
        let request = RevokeRequest {
            target,
            reason: String::new(),
        };
        self.app.revoker.revoke(&self.caller, request).await.unwrap();
    }

    /// Makes the database refuse revocations (`ENABLE`), or accept them again (`DISABLE`).
    async fn database(&self, verb: &str) {
        let database = self
            .database
            .as_ref()
            .expect("only a clustered deployment can refuse revocations");
        database
            .execute(&format!("ALTER TABLE revocations {verb} TRIGGER refuse"))
            .await;
    }

    /// Does to one user's sessions what a failover does, with commands of Redis.
    fn redis(&self, user: UserId, command: &str, from: &str, to: &str) -> Outcome {
        let redis = self
            .redis
            .as_ref()
            .expect("only a clustered deployment can lose sessions");
        let key = |kind: &str| format!("{}:{kind}:{{{user}}}", redis.prefix());
        let exists = |key: &str| redis.at(&["EXISTS", key]) == "1";
        if command == "DEL" {
            redis.at(&["DEL", &key(from)]);
        } else if exists(&key(from)) {
            redis.at(&["COPY", &key(from), &key(to), "REPLACE"]);
        } else if to == "snapshot" {
            // A snapshot without sessions: an empty hash is no key in Redis, so a marker key stands for it.
            redis.at(&["SET", &key("snapshot-empty"), "1"]);
            redis.at(&["DEL", &key("snapshot")]);
        } else if exists(&key("snapshot-empty")) {
            redis.at(&["DEL", &key(to)]);
        }
        if command == "COPY" && to == "snapshot" && exists(&key(from)) {
            redis.at(&["DEL", &key("snapshot-empty")]);
        }
        Outcome::Nothing
    }
}

fn refusal_reason(error: &Error) -> &'static str {
    reason::of_kind(error.kind).unwrap_or("no reason")
}
