//! The audit events in the structured log are those in the table.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use crate::clock::{Clock, SystemClock};
use crate::model::audit::{LOG_TARGET, Origin};
use crate::model::{AuditEvent, AuditType, Client, ClientId, SessionId, Target, User, UserId, Username};
use crate::secret::{SecretText, SystemEntropy, random};
use crate::store::accounts::{AuditQuery, AuditStore, Authority, ClientStore, NewUser, UserStore};
use crate::store::keys::{CheckRow, KeyRows, KeyStore, SecretPurpose, SecretRow};
use crate::store::revocations::{Expiry, NewRevocation, RevocationStore};
use crate::store::sqlite::{Database, Mode};

/// The ids of the events in the log.
#[derive(Clone, Default)]
struct LoggedIds(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for LoggedIds {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == LOG_TARGET {
            event.record(&mut Id(self));
        }
    }
}

struct Id<'a>(&'a LoggedIds);

impl Visit for Id<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "event_id" {
            self.0.0.lock().push(format!("{value:?}"));
        }
    }
}

fn event(kind: AuditType) -> AuditEvent {
    AuditEvent::new(
        kind,
        &"somebody",
        &Origin::system(),
        SystemClock::new().now(),
        &SystemEntropy,
    )
}

fn user(name: &str) -> NewUser {
    let now = SystemClock::new().now();
    NewUser {
        user: User {
            id: UserId::generate(now, &SystemEntropy),
            username: Username::parse(name, "username").unwrap(),
            email: String::new(),
            display_name: String::new(),
            roles: Vec::new(),
            attributes: serde_json::Map::new(),
            disabled: false,
            created: now,
            updated: now,
            password_changed: now,
            last_login: None,
        },
        password_hash: SecretText::default(),
    }
}

fn client() -> Client {
    let now = SystemClock::new().now();
    Client {
        id: ClientId::default(),
        display_name: String::new(),
        grants: Vec::new(),
        audiences: Vec::new(),
        scopes: Vec::new(),
        access_token_ttl: None,
        refresh_idle_ttl: None,
        session_ttl: None,
        refresh_grace: None,
        reuse_policy: None,
        max_sessions_per_user: 0,
        disabled: false,
        created: now,
        updated: now,
    }
}

fn keys() -> KeyRows {
    let sealed = random::<32>(&SystemEntropy).to_vec();
    let secret = SecretRow {
        purpose: SecretPurpose::Refresh,
        id: 1,
        sealed: sealed.clone(),
        created: SystemClock::new().now(),
    };
    KeyRows {
        signing: Vec::new(),
        secrets: vec![secret],
        checks: vec![CheckRow {
            name: "first".into(),
            sealed,
        }],
    }
}

#[tokio::test]
async fn the_log_holds_the_events_of_the_table_and_no_others() {
    let logged = LoggedIds::default();
    let subscriber = tracing_subscriber::registry().with(logged.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let folder = tempfile::tempdir().unwrap();
    let store = Database::open(&folder.path().join("data"), Mode::Serve, Arc::new(SystemClock::new())).unwrap();

    let ada = user("ada");
    store
        .create_user(&ada, Authority::Admin, &event(AuditType::UserCreated))
        .await
        .unwrap();
    assert!(
        store
            .create_user(&user("ada"), Authority::Admin, &event(AuditType::UserCreated))
            .await
            .is_err()
    );
    let session = NewRevocation {
        target: Target::Session(SessionId::generate(SystemClock::new().now(), &SystemEntropy)),
        expires: Expiry::LongestSession,
    };
    for _ in 0..2 {
        store
            .set_user_disabled(ada.user.id, true, Authority::Admin, &event(AuditType::UserDisabled))
            .await
            .unwrap();
        store.revoke(&session, &event(AuditType::SessionRevoked)).await.unwrap();
        store
            .ensure_default_client(&client(), &event(AuditType::ClientCreated))
            .await
            .unwrap();
        store.ensure_keys(&keys(), &event(AuditType::KeyCreated)).await.unwrap();
        store
            .remove_secret(SecretPurpose::Refresh, 1, &event(AuditType::KeyRemoved))
            .await
            .unwrap();
        let lost = event(AuditType::SessionsLost);
        let (era, _) = store.era().await.unwrap();
        store.store_counters(&[], Some(&lost), era).await.unwrap();
    }
    store.append_audit(&event(AuditType::TokenIssueFailed)).await.unwrap();

    let listed = store
        .list_audit(&AuditQuery::default(), None, 1000)
        .await
        .unwrap()
        .items;
    let listed: BTreeSet<String> = listed.into_iter().map(|event| event.id.to_string()).collect();
    let logged = logged.0.lock().clone();
    assert_eq!(logged.len(), listed.len(), "no event is logged twice");
    assert_eq!(logged.into_iter().collect::<BTreeSet<_>>(), listed);
    // One user, five things the first time (the newest secret stays), two of them again, one failure.
    assert_eq!(listed.len(), 1 + 5 + 2 + 1);
}
