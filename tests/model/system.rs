//! The real rules over real stores, driven by the same steps.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use countersign::account::{Principal, UserDraft};
use countersign::app::App;
use countersign::model::{Caller, Error, SessionContext, UserId};
use countersign::proto::convert::reason;
use countersign::secret::SecretText;
use countersign::token::{PasswordRequest, RefreshRequest, RevokeRequest, RevokeTarget};

use super::machine::{CLIENTS, Model, Step, Verdict};
use super::people::{People, Tokens};
use super::support::caller::generation;
use super::support::{Database, KeySpace};

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
    /// Three new people.
    pub(crate) async fn people(&self) -> People {
        let mut people = People {
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
            people.ids.push(user.unwrap().id);
            people.names.push(draft.username);
        }
        people
    }

    fn deadline(&self) -> Duration {
        self.app.clock.monotonic() + Duration::from_secs(30)
    }

    pub(crate) async fn take(&self, people: &mut People, step: &Step, model: &Model) -> Verdict {
        match step {
            Step::Issue { user, client } => self.issue(people, *user, *client).await,
            Step::RefreshNewest { session, attempt } => match people.pick(*session) {
                // The model has taken the step: what was newest before it is what people hold.
                Some(session) => self.refresh(people, session, people.newest(session), attempt).await,
                None => Verdict::Nothing,
            },
            Step::Refresh {
                session,
                generation,
                attempt,
            } => match people.pick(*session) {
                Some(session) => {
                    let generation = u32::try_from(generation.index(people.newest(session) as usize + 1)).unwrap();
                    self.refresh(people, session, generation, attempt).await
                }
                None => Verdict::Nothing,
            },
            Step::RefreshUnrecorded {
                session,
                generation,
                attempt,
            } => match people.pick(*session) {
                Some(session) => {
                    let generation = u32::try_from(generation.index(people.newest(session) as usize + 1)).unwrap();
                    self.database("ENABLE").await;
                    let seen = self.refresh(people, session, generation, attempt).await;
                    self.database("DISABLE").await;
                    seen
                }
                None => Verdict::Nothing,
            },
            Step::RevokeToken { session, generation } => {
                if let Some(session) = people.pick(*session) {
                    let generation = u32::try_from(generation.index(people.newest(session) as usize + 1)).unwrap();
                    let token = people.sessions[session].refresh[&generation].clone();
                    self.revoke(RevokeTarget::Token(SecretText::new(token))).await;
                }
                Verdict::Nothing
            }
            Step::RevokeSession { session } => {
                if let Some(session) = people.pick(*session) {
                    self.revoke(RevokeTarget::Session(people.sessions[session].id.clone()))
                        .await;
                }
                Verdict::Nothing
            }
            Step::RevokeUser { user, keep } => {
                let keep = keep.and_then(|index| model.pick(index));
                let keep = keep
                    .map(|session| people.sessions[session].id.clone())
                    .unwrap_or_default();
                self.revoke(RevokeTarget::User {
                    id: people.ids[*user].to_string(),
                    keep,
                })
                .await;
                Verdict::Nothing
            }
            Step::RevokeClient { client } => {
                self.revoke(RevokeTarget::Client(CLIENTS[*client].id.to_owned())).await;
                Verdict::Nothing
            }
            Step::RevokeEverything => {
                self.revoke(RevokeTarget::Everything).await;
                Verdict::Nothing
            }
            Step::SetDisabled { user, disabled } => {
                let id = people.ids[*user].to_string();
                self.app
                    .users
                    .set_disabled(&Principal::owner(), &id, *disabled)
                    .await
                    .unwrap();
                Verdict::Nothing
            }
            Step::Remember { user } => self.redis(people.ids[*user], "COPY", "s", "picture"),
            Step::ComeBack { user } => self.redis(people.ids[*user], "COPY", "picture", "s"),
            Step::Lose { user } => self.redis(people.ids[*user], "DEL", "s", ""),
        }
    }

    async fn issue(&self, people: &mut People, user: usize, client: usize) -> Verdict {
        let request = PasswordRequest {
            client_id: CLIENTS[client].id.to_owned(),
            username: people.names[user].clone(),
            password: SecretText::new(PASSWORD),
            audience: Vec::new(),
            scope: Vec::new(),
            context: SessionContext::default(),
            deadline: self.deadline(),
        };
        match self.app.tokens.issue_with_password(&self.caller, request).await {
            Ok(issued) => {
                let refresh = issued.refresh.unwrap();
                people.sessions.push(Tokens {
                    id: refresh.session.to_string(),
                    access: issued.access.token.expose().to_owned(),
                    refresh: HashMap::from([(0, refresh.token.expose().to_owned())]),
                    forked: false,
                });
                Verdict::Tokens {
                    session: people.sessions.len() - 1,
                    generation: 0,
                    replayed: false,
                }
            }
            Err(error) => Verdict::Refused(why(&error)),
        }
    }

    async fn refresh(&self, people: &mut People, session: usize, presented: u32, attempt: &str) -> Verdict {
        let held = &mut people.sessions[session];
        let token = held.refresh[&presented].clone();
        match self.exchange(&token, attempt).await {
            Ok((given, access, replayed)) => {
                let generation = generation(&given);
                let known = held.refresh.entry(generation).or_insert_with(|| given.clone());
                held.forked |= *known != given;
                held.access = access;
                Verdict::Tokens {
                    session,
                    generation,
                    replayed,
                }
            }
            Err(why) => Verdict::Refused(why),
        }
    }

    /// Refreshes: the new refresh token, its generation and whether it was given before, or why not.
    pub(crate) async fn present(&self, token: &str, attempt: &str) -> Result<(String, u32, bool), &'static str> {
        let (given, _, replayed) = self.exchange(token, attempt).await?;
        let generation = generation(&given);
        Ok((given, generation, replayed))
    }

    /// Refreshes: the new refresh token, the new access token, and whether the former was given before.
    async fn exchange(&self, token: &str, attempt: &str) -> Result<(String, String, bool), &'static str> {
        let request = RefreshRequest {
            refresh_token: SecretText::new(token),
            audience: Vec::new(),
            scope: Vec::new(),
            attempt_id: attempt.to_owned(),
            context: SessionContext::default(),
            by_cookie: false,
        };
        let refreshed = self.app.tokens.refresh(&self.caller, request).await;
        let refreshed = refreshed.map_err(|error| why(&error))?;
        let given = refreshed.issued.refresh.unwrap().token.expose().to_owned();
        let access = refreshed.issued.access.token.expose().to_owned();
        Ok((given, access, refreshed.replayed))
    }

    async fn revoke(&self, target: RevokeTarget) {
        let request = RevokeRequest {
            target,
            reason: String::new(),
        };
        self.app.tokens.revoke(&self.caller, request).await.unwrap();
    }

    /// Makes the database refuse revocations, or take them again.
    async fn database(&self, verb: &str) {
        let database = self
            .database
            .as_ref()
            .expect("only a database of a test's own is asked to");
        database
            .execute(&format!("ALTER TABLE revocations {verb} TRIGGER refuse"))
            .await;
    }

    /// What a failover does to one user's sessions, by commands of Redis itself.
    fn redis(&self, user: UserId, command: &str, from: &str, to: &str) -> Verdict {
        let redis = self.redis.as_ref().expect("only a store that can lose is asked to");
        let key = |kind: &str| format!("{}:{kind}:{{{user}}}", redis.prefix());
        let exists = |key: &str| redis.at(&["EXISTS", key]) == "1";
        if command == "DEL" {
            redis.at(&["DEL", &key(from)]);
        } else if exists(&key(from)) {
            redis.at(&["COPY", &key(from), &key(to), "REPLACE"]);
        } else if to == "picture" {
            // A picture of nothing: what is copied back is an empty hash, which is no key at all.
            redis.at(&["SET", &key("picture-empty"), "1"]);
            redis.at(&["DEL", &key("picture")]);
        } else if exists(&key("picture-empty")) {
            redis.at(&["DEL", &key(to)]);
        }
        if command == "COPY" && to == "picture" && exists(&key(from)) {
            redis.at(&["DEL", &key("picture-empty")]);
        }
        Verdict::Nothing
    }
}

fn why(error: &Error) -> &'static str {
    reason::of_kind(error.kind).unwrap_or("no reason")
}
