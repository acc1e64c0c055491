//! The audit events in the structured log are those in the table.

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign::model::audit::LOG_TARGET;
use countersign::model::{AuditType, Target};
use countersign::store::accounts::Authority;
use countersign::store::keys::{CheckRow, KeyRows, SecretPurpose};
use countersign::store::{AuditQuery, Expiry, NewRevocation};
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::fresh::{self, TestStore};
use super::samples::*;

on_each!([sqlite, postgres, pooled][the_log_holds_the_events_of_the_table_and_no_others]);

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

async fn the_log_holds_the_events_of_the_table_and_no_others(fresh: TestStore) {
    let logged = LoggedIds::default();
    // Of this thread, on which the test runs.
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(logged.clone()));

    let ada = make_user(&fresh, "ada").await;
    let taken = fresh
        .create_user(&new_user("ada"), Authority::Admin, &some_event())
        .await;
    assert!(taken.is_err());
    let session = NewRevocation {
        target: Target::Session(session()),
        expires: Expiry::LongestSession,
    };
    let keys = KeyRows {
        signing: Vec::new(),
        secrets: vec![secret(SecretPurpose::Refresh, 1)],
        checks: vec![CheckRow {
            name: "first".into(),
            sealed: vec![1],
        }],
    };
    for first in [true, false] {
        fresh
            .update_user(ada.id, &disabled(true), None, Authority::Admin, &some_event())
            .await
            .unwrap();
        fresh.revoke(&session, &some_event()).await.unwrap();
        let created = fresh.create_client(&new_client("web"), None, &some_event()).await;
        assert_eq!(created.is_ok(), first);
        fresh.ensure_keys(&keys, &some_event()).await.unwrap();
        let removed = fresh.remove_secret(SecretPurpose::Refresh, 1, &some_event()).await;
        assert!(!removed.unwrap(), "the newest secret stays");
        let (era, _) = fresh.era().await.unwrap();
        let lost = event(AuditType::SessionsLost, &"sessions");
        fresh.store_counters(&[], Some(&lost), era).await.unwrap();
    }
    fresh.append_audit(&some_event()).await.unwrap();

    let listed = fresh.list_audit(&AuditQuery::default(), None, 1000).await.unwrap();
    let listed: BTreeSet<String> = listed.items.iter().map(|event| event.id.to_string()).collect();
    let logged = logged.0.lock().clone();
    assert_eq!(logged.len(), listed.len(), "no event is logged twice");
    assert_eq!(logged.into_iter().collect::<BTreeSet<_>>(), listed);
    // One user, five things the first time, two of them again, one event of its own.
    assert_eq!(listed.len(), 1 + 5 + 2 + 1);
}
