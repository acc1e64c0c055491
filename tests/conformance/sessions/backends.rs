//! The backends of the session store, and sessions to test them with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use countersign::clock::{Clock as _, SystemClock, UnixMillis};
use countersign::model::grant::Allowed;
use countersign::model::session::{NewSession, Presented, Rotated};
use countersign::model::{ClientId, Epochs, ReusePolicy, Rotation, SessionContext, SessionId, UserId};
use countersign::secret::SystemEntropy;
use countersign::store::SessionStore;
use countersign::store::sqlite::{Database, Mode};

use crate::redis::connect;
use crate::support::{KeySpace, RedisCluster};

pub const IDLE: Duration = Duration::from_hours(1);
pub const LIFE: Duration = Duration::from_hours(30);

/// A grace longer than any test.
pub const LONG: Duration = Duration::from_mins(5);

static CLUSTER: LazyLock<RedisCluster> = LazyLock::new(|| RedisCluster::start(3, &[]));

/// One store of sessions, with the resources that must live as long.
pub struct Backend {
    pub store: Arc<dyn SessionStore>,
    _keep: Box<dyn std::any::Any + Send + Sync>,
}

pub async fn sqlite() -> Backend {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), Mode::Serve, Arc::new(SystemClock::new())).unwrap();
    Backend {
        store: Arc::new(database),
        _keep: Box::new(folder),
    }
}

pub async fn redis() -> Backend {
    // Starting the server blocks the thread.
    let keys = tokio::task::spawn_blocking(KeySpace::fresh).await.unwrap();
    Backend {
        store: Arc::new(connect(keys.url(), keys.prefix()).await.unwrap()),
        _keep: Box::new(keys),
    }
}

pub async fn cluster() -> Backend {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let prefix = format!("c{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let url = tokio::task::spawn_blocking(|| CLUSTER.url()).await.unwrap();
    Backend {
        store: Arc::new(connect(&url, &prefix).await.unwrap()),
        _keep: Box::new(()),
    }
}

impl Backend {
    /// Stores a session and returns it.
    pub async fn begin(&self, new: NewSession) -> NewSession {
        self.store.create(&new, 1000).await.unwrap();
        new
    }

    pub async fn rotate(&self, presented: &Presented) -> Rotation {
        self.store.rotate(presented).await.unwrap()
    }
}

pub fn now() -> UnixMillis {
    SystemClock::new().now()
}

pub fn user() -> UserId {
    UserId::generate(now(), &SystemEntropy)
}

pub fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

pub fn session_of(user: UserId) -> NewSession {
    let now = now();
    NewSession {
        id: SessionId::generate(now, &SystemEntropy),
        user,
        client: ClientId::default(),
        secret_hash: [7; 32],
        refresh_key: 3,
        scope: names(&["read", "write"]),
        audience: names(&["api"]),
        created: now,
        idle_ttl: IDLE,
        expires: now.plus(LIFE),
        epochs: Epochs {
            global: 10,
            user: 20,
            client: 30,
        },
        era: 1,
        context: SessionContext::default(),
    }
}

pub fn session() -> NewSession {
    session_of(user())
}

pub fn present(of: &NewSession, generation: u32) -> Presented {
    let anything = Allowed {
        any: true,
        ..Allowed::default()
    };
    Presented {
        user: of.user,
        session: of.id,
        secret_hash: of.secret_hash,
        generation,
        attempt_id: String::new(),
        grace: LONG,
        policy: ReusePolicy::Strict,
        idle_ttl: IDLE,
        refresh_key: 4,
        era: of.era,
        scope: Vec::new(),
        audience: Vec::new(),
        allowed_scope: anything.clone(),
        allowed_audience: anything,
        own_audience: "countersign".into(),
        max_claims_bytes: 2000,
        context: SessionContext::default(),
        may_be_late: false,
        not_after: None,
    }
}

pub fn attempt(of: &NewSession, generation: u32, attempt: &str) -> Presented {
    Presented {
        attempt_id: attempt.into(),
        ..present(of, generation)
    }
}

/// The successor of a rotation or replay; panics otherwise.
pub fn successor(rotation: &Rotation) -> &Rotated {
    rotation.success().unwrap_or_else(|| panic!("no token: {rotation:?}"))
}
