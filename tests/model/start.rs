//! The deployments under test, some with a broken part.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use countersign::app::{self, Access, App, Stores};
use countersign::clock::UnixMillis;
use countersign::config::{Config, Layers};
use countersign::model::audit::Origin;
use countersign::model::{AuditEvent, AuditType, Caller, CallerScope, Client, ClientId, Grant, Identity, ReusePolicy};
use countersign::store::SessionStore;

use super::machine::CLIENTS;
use super::support::{Database, KeySpace};
use super::system::System;

/// A trigger that makes the database refuse revocations; disabled at first.
const REFUSE_REVOCATIONS: &str = "
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no revocations today' USING ERRCODE = 'configuration_limit_exceeded'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON revocations FOR EACH ROW EXECUTE FUNCTION refuse();
    ALTER TABLE revocations DISABLE TRIGGER refuse";

/// Replaces the session store, usually by a wrapper of the real one.
pub(crate) type Replace = fn(Arc<dyn SessionStore>, &KeySpace) -> Arc<dyn SessionStore>;

impl System {
    pub(crate) async fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data").to_str().unwrap().to_owned();
        Self {
            _folder: Some(folder),
            ..Self::start(&[("STORAGE__DATA_DIR", &data)], |_| {}).await
        }
    }

    pub(crate) async fn clustered(redis: KeySpace, replace: Option<Replace>) -> Self {
        let database = Database::fresh().await;
        let settings = [
            ("STORAGE__DATABASE_URL", database.url().to_owned()),
            ("STORAGE__REDIS_URL", redis.url().to_owned()),
            ("STORAGE__REDIS_PREFIX", redis.prefix().to_owned()),
            ("STORAGE__REDIS_TIMEOUT", "5s".to_owned()),
            ("STORAGE__ACQUIRE_TIMEOUT", "5s".to_owned()),
            ("STORAGE__STATEMENT_TIMEOUT", "5s".to_owned()),
            (
                "KEYS__MASTER_KEY",
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(),
            ),
        ];
        let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let system = Self::start(&settings, |stores| {
            if let Some(replace) = replace {
                stores.sessions = replace(stores.sessions.clone(), &redis);
            }
        })
        .await;
        database.execute(REFUSE_REVOCATIONS).await;
        Self {
            redis: Some(redis),
            database: Some(database),
            ..system
        }
    }

    /// A clustered deployment whose database is changed by `sql` to contain a defect.
    pub(crate) async fn mutated(redis: KeySpace, sql: &str) -> Self {
        let system = Self::clustered(redis, None).await;
        system
            .database
            .as_ref()
            .expect("the deployment is clustered")
            .execute(sql)
            .await;
        system
    }

    async fn start(settings: &[(&str, &str)], change: impl FnOnce(&mut Stores)) -> Self {
        let fixed = [
            ("PASSWORD__MEMORY_KIB", "64"),
            ("PASSWORD__ITERATIONS", "1"),
            ("TOKENS__ACCESS_TTL", "24h"),
            ("TOKENS__MAX_SESSIONS_PER_USER", "1000"),
            ("REVOCATION__MAX_STALENESS", "24h"),
            // Logins of disabled users count as failures, all from one source.
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
        let mut stores = app::open(&config, Access::Serve).await.unwrap();
        change(&mut stores);
        let app = App::build(&config, stores).await.unwrap();
        app.feed.reconcile(&*app.stores.durable).await.unwrap();
        for client in &CLIENTS {
            create_client(&app, client).await;
        }
        let caller = Caller {
            identity: Identity::Anonymous,
            scopes: CallerScope::ALL.map(|scope| scope.as_str().to_owned()).to_vec(),
            origin: Origin::system(),
        };
        Self {
            app,
            caller,
            redis: None,
            database: None,
            serial: 0.into(),
            _folder: None,
        }
    }
}

async fn create_client(app: &App, client: &super::machine::Client) {
    let now = UnixMillis(app.stores.clock.now().0);
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
    let event = AuditEvent::new(
        AuditType::ClientCreated,
        &row.id,
        &Origin::system(),
        now,
        &*app.stores.entropy,
    );
    app.stores.durable.create_client(&row, None, &event).await.unwrap();
}
