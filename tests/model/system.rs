//! The real rules over real stores, driven by the same steps.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use countersign::account::{Mandate, UserDraft};
use countersign::app::{self, Access, App};
use countersign::clock::UnixMillis;
use countersign::config::{Config, Layers};
use countersign::model::audit::Origin;
use countersign::model::grant::OWN_SCOPES;
use countersign::model::{
    AuditEvent, AuditType, Caller, Client, ClientId, Error, Grant, Identity, ReusePolicy, SessionContext, UserId,
};
use countersign::proto::convert::reason;
use countersign::secret::SecretText;
use countersign::token::{PasswordRequest, RefreshRequest, RevokeRequest, RevokeTarget, ValidateRequest};

use super::machine::{CLIENTS, Model, Step, Verdict};
use super::support::{Database, KeySpace};

const PASSWORD: &str = "correct horse battery staple 42";

/// A deployment in this process.
pub(crate) struct System {
    app: Arc<App>,
    caller: Caller,
    redis: Option<KeySpace>,
    serial: std::sync::atomic::AtomicU64,
    _kept: Box<dyn std::any::Any>,
}

/// Three users, and the tokens that they were given.
pub(crate) struct People {
    names: Vec<String>,
    ids: Vec<UserId>,
    sessions: Vec<Tokens>,
}

struct Tokens {
    id: String,
    access: String,
    refresh: HashMap<u32, String>,
    /// What was given a second time for a generation, where it was not the same.
    forked: bool,
}

impl System {
    pub(crate) async fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data").to_str().unwrap().to_owned();
        Self::start(&[("STORAGE__DATA_DIR", &data)], None, Box::new(folder)).await
    }

    pub(crate) async fn clustered(redis: KeySpace) -> Self {
        let database = Database::fresh().await;
        let settings = [
            ("STORAGE__DATABASE_URL", database.url().to_owned()),
            ("STORAGE__REDIS_URL", redis.url().to_owned()),
            ("STORAGE__REDIS_PREFIX", redis.prefix().to_owned()),
            ("STORAGE__REDIS_TIMEOUT", "2s".to_owned()),
            (
                "KEYS__MASTER_KEY",
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(),
            ),
        ];
        let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Self::start(&settings, Some(redis), Box::new(database)).await
    }

    async fn start(settings: &[(&str, &str)], redis: Option<KeySpace>, kept: Box<dyn std::any::Any>) -> Self {
        let fixed = [
            ("PASSWORD__MEMORY_KIB", "64"),
            ("PASSWORD__ITERATIONS", "1"),
            ("TOKENS__ACCESS_TTL", "24h"),
            ("TOKENS__MAX_SESSIONS_PER_USER", "1000"),
            ("REVOCATION__MAX_STALENESS", "24h"),
            // Logins of the disabled are failures, all from one source.
            ("THROTTLE__ENABLED", "false"),
        ];
        let environment = settings
            .iter()
            .chain(&fixed)
            .map(|(name, value)| (OsString::from(format!("COUNTERSIGN_{name}")), OsString::from(value)))
            .collect();
        let config = Config::load(&Layers {
            file: None,
            environment,
            flags: Vec::new(),
        })
        .unwrap();
        let stores = app::open(&config, Access::Serve).await.unwrap();
        let app = App::build(&config, stores).await.unwrap();
        app.feed.reconcile(&*app.durable).await.unwrap();
        for client in &CLIENTS {
            create_client(&app, client).await;
        }
        let caller = Caller {
            identity: Identity::Anonymous,
            scopes: OWN_SCOPES.map(str::to_owned).to_vec(),
            origin: Origin::system(),
        };
        Self {
            app,
            caller,
            redis,
            serial: 0.into(),
            _kept: kept,
        }
    }

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
            let (owner, password) = (Mandate::owner(), PASSWORD.to_owned().into());
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
                    .set_disabled(&Mandate::owner(), &id, *disabled)
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
            Err(error) => refused(&error),
        }
    }

    async fn refresh(&self, people: &mut People, session: usize, generation: u32, attempt: &str) -> Verdict {
        let held = &mut people.sessions[session];
        let request = RefreshRequest {
            refresh_token: SecretText::new(held.refresh[&generation].clone()),
            audience: Vec::new(),
            scope: Vec::new(),
            attempt_id: attempt.to_owned(),
            context: SessionContext::default(),
            by_cookie: false,
        };
        match self.app.tokens.refresh(&self.caller, request).await {
            Ok(refreshed) => {
                let given = refreshed.issued.refresh.unwrap().token.expose().to_owned();
                // Which generation it is, the token itself says: bytes 37 to 40.
                let generation = generation_of(&given);
                let known = held.refresh.entry(generation).or_insert_with(|| given.clone());
                held.forked |= *known != given;
                refreshed.issued.access.token.expose().clone_into(&mut held.access);
                Verdict::Tokens {
                    session,
                    generation,
                    replayed: refreshed.replayed,
                }
            }
            Err(error) => refused(&error),
        }
    }

    async fn revoke(&self, target: RevokeTarget) {
        let request = RevokeRequest {
            target,
            reason: String::new(),
        };
        self.app.tokens.revoke(&self.caller, request).await.unwrap();
    }

    /// What a failover does to one user's sessions, by commands of Redis itself.
    fn redis(&self, user: UserId, command: &str, from: &str, to: &str) -> Verdict {
        let redis = self.redis.as_ref().expect("only a store that can lose is asked to");
        let key = |kind: &str| format!("{}:{kind}:{{{user}}}", redis.prefix());
        let exists = |key: &str| redis.command(&["EXISTS", key]) == ["1"];
        if command == "DEL" {
            redis.command(&["DEL", &key(from)]);
        } else if exists(&key(from)) {
            redis.command(&["COPY", &key(from), &key(to), "REPLACE"]);
        } else if to == "picture" {
            // A picture of nothing: what is copied back is an empty hash, which is no key at all.
            redis.command(&["SET", &key("picture-empty"), "1"]);
            redis.command(&["DEL", &key("picture")]);
        } else if exists(&key("picture-empty")) {
            redis.command(&["DEL", &key(to)]);
        }
        if command == "COPY" && to == "picture" && exists(&key(from)) {
            redis.command(&["DEL", &key("picture-empty")]);
        }
        Verdict::Nothing
    }
}

impl People {
    fn pick(&self, index: proptest::sample::Index) -> Option<usize> {
        (!self.sessions.is_empty()).then(|| index.index(self.sessions.len()))
    }

    fn newest(&self, session: usize) -> u32 {
        self.sessions[session].refresh.keys().copied().max().unwrap()
    }

    /// Whether every generation of the session has had one token only.
    pub(crate) fn one_successor(&self, session: usize, generation: u32) -> bool {
        !self.sessions[session].forked && self.sessions[session].refresh.contains_key(&generation)
    }

    pub(crate) async fn access_is_active(&self, system: &System, session: usize) -> bool {
        let request = ValidateRequest {
            token: &self.sessions[session].access,
            audience: "",
            required_scopes: &[],
            strong: false,
            asked: std::time::Duration::MAX,
        };
        system.app.tokens.validate(request).await.unwrap().verdict.is_ok()
    }
}

fn refused(error: &Error) -> Verdict {
    Verdict::Refused(reason::of_kind(error.kind).unwrap_or("no reason"))
}

fn generation_of(token: &str) -> u32 {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(token.strip_prefix("csr_").unwrap())
        .unwrap();
    u32::from_be_bytes(bytes[37..41].try_into().unwrap())
}

async fn create_client(app: &App, client: &super::machine::Client) {
    let now = UnixMillis(app.clock.now().0);
    let row = Client {
        id: ClientId::parse(client.id, "client_id").unwrap(),
        display_name: String::new(),
        grants: vec![Grant::Password],
        audiences: vec!["*".to_owned()],
        scopes: vec!["*".to_owned()],
        access_token_ttl: None,
        refresh_idle_ttl: None,
        session_ttl: None,
        refresh_grace: Some(if client.grace {
            Duration::from_mins(5)
        } else {
            Duration::ZERO
        }),
        reuse_policy: Some(if client.tolerant {
            ReusePolicy::Tolerant
        } else {
            ReusePolicy::Strict
        }),
        max_sessions_per_user: 0,
        disabled: false,
        created: now,
        updated: now,
    };
    let event = AuditEvent::new(AuditType::ClientCreated, &row.id, &Origin::system(), now, &*app.entropy);
    app.durable.create_client(&row, None, &event).await.unwrap();
}
