//! Tests of users, clients and the audit trail on the embedded store.

mod clients;
mod import;
mod passwords;
mod users;

use std::sync::Arc;
use std::time::Duration;

use super::audit::AuditRequest;
use super::principal::tests::{anonymous, machine, person};
use super::{AuditTrail, Clients, Principal, UserDraft, Users};
use crate::attempts::AttemptLog;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Layers, OnStale, Revocation as RevocationConfig};
use crate::keys::seal::MasterKeyring;
use crate::model::{Client, ErrorKind, Result, User, UserId};
use crate::password::{Peppers, Pool};
use crate::revocation::{Feed, RevocationPublisher};
use crate::secret::{Entropy, SecretText, SystemEntropy};
use crate::store::local::LocalThrottles;
use crate::store::sqlite::{Database, Mode};
use crate::store::throttles::Rate;
use crate::store::{RevocationStore, UserStore};
use crate::throttle::{Throttle, ThrottleConfig};

const GOOD: &str = "correct horse battery staple";
const BETTER: &str = "an even longer sentence of words";

/// Users, clients and the audit trail on a fresh embedded store.
struct Fixture {
    store: Database,
    users: Users,
    clients: Clients,
    trail: AuditTrail,
    clock: Arc<dyn Clock>,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::with_registration(false)
    }

    fn with_registration(open_registration: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let database = Database::open(&folder.path().join("data"), Mode::Serve, clock.clone()).unwrap();
        let store = database.clone();
        let feed = Feed::new(
            clock.clone(),
            entropy.clone(),
            RevocationConfig {
                reconcile_interval: Duration::from_secs(1),
                max_staleness: Duration::from_secs(30),
                on_stale: OnStale::FailClosed,
            },
        );
        let publisher = Arc::new(RevocationPublisher::new(feed, Arc::new(database), None));
        let trail = AuditTrail::new(Arc::new(store.clone()), clock.clone(), entropy.clone());
        let mut config = Config::load(&Layers::default()).unwrap().password;
        (config.memory_kib, config.iterations) = (64, 1);
        let pool = Pool::start(&config, Peppers::default(), clock.clone(), entropy.clone()).unwrap();
        let master = Arc::new(MasterKeyring::parse(&MasterKeyring::generate(&SystemEntropy)).unwrap());
        let rate = Rate {
            count: 5,
            per: Duration::from_hours(24),
        };
        let limits = ThrottleConfig {
            enabled: true,
            account_source: rate,
            account: rate,
            source: rate,
            global: None,
            registration: rate,
            registration_global: rate,
            login: rate,
            own_account: Rate { count: 50, ..rate },
            waiting: 8,
        };
        let local = Arc::new(LocalThrottles::new(clock.clone()));
        let users = Users {
            attempts: Arc::new(AttemptLog::new(
                Arc::new(store.clone()),
                master.clone(),
                clock.clone(),
                entropy.clone(),
                300,
            )),
            throttle: Arc::new(Throttle::new(None, local, master, clock.clone(), limits)),
            store: Arc::new(store.clone()),
            hashing: Arc::new(pool),
            trail: trail.clone(),
            publisher: publisher.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            open_registration,
        };
        let clients = Clients {
            store: Arc::new(store.clone()),
            trail: trail.clone(),
            publisher,
            clock: clock.clone(),
            entropy,
        };
        Self {
            store,
            users,
            clients,
            trail,
            clock,
            _folder: folder,
        }
    }

    fn deadline(&self) -> Duration {
        self.clock.monotonic() + Duration::from_secs(30)
    }

    /// Creates a user with the password [`GOOD`].
    async fn user(&self, name: &str, roles: &[&str]) -> User {
        let draft = UserDraft {
            username: name.into(),
            roles: roles.iter().map(ToString::to_string).collect(),
            ..UserDraft::default()
        };
        self.users
            .create(&Principal::owner(), &draft, text(GOOD), self.deadline())
            .await
            .unwrap()
    }

    /// Whether this is the user's current password.
    async fn logs_in(&self, user: UserId, password: &str) -> bool {
        let (_, stored) = self.store.password_hash(user).await.unwrap().unwrap();
        let pool = &self.users.hashing;
        pool.verify(Some(stored), text(password), self.deadline())
            .await
            .unwrap()
            .matches
    }

    /// The number of recorded revocations.
    async fn revocations(&self) -> usize {
        self.store
            .load_revocations(crate::clock::UnixMillis(0))
            .await
            .unwrap()
            .rows
            .len()
    }

    /// The types of the audit events about this subject, newest first.
    async fn trail_of(&self, subject: &impl ToString) -> Vec<String> {
        self.users.attempts.flush().await.unwrap();
        let request = AuditRequest {
            subject: subject.to_string(),
            ..AuditRequest::default()
        };
        let listed = self.trail.list(&Principal::owner(), request).await.unwrap();
        listed.items.into_iter().map(|event| event.kind).collect()
    }
}

fn text(text: &str) -> SecretText {
    SecretText::new(text)
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind
}

fn manager() -> Principal {
    machine(&["countersign:users", "countersign:clients"])
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn field<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().violations[0].field.clone().into_owned()
}

fn id(client: &Client) -> &str {
    client.id.as_str()
}
