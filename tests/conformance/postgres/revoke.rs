use std::time::Duration;

use countersign::clock::{Clock as _, SystemClock};
use countersign::model::audit::Origin;
use countersign::model::{AuditEvent, AuditType, SessionId, Target};
use countersign::secret::SystemEntropy;
use countersign::store::{Expiry, NewRevocation};

use super::fresh;

/// A load reads all numbers of the sequence between the first row and the last, so numbers must not be used up.
#[tokio::test]
async fn a_second_revocation_takes_no_number() {
    let (database, store) = fresh().await;
    let now = SystemClock::new().now();
    let id = SessionId::generate(now, &SystemEntropy);
    let new = NewRevocation {
        target: Target::Session(id),
        expires: Expiry::At(now.plus(Duration::from_hours(1))),
    };
    let event = || AuditEvent::new(AuditType::SessionRevoked, &id, &Origin::system(), now, &SystemEntropy);
    assert!(store.revoke(&new, &event()).await.unwrap().new);
    let number = async || database.scalar("SELECT last_value FROM revocations_seq_seq").await;
    let before = number().await;
    for _ in 0..3 {
        assert!(!store.revoke(&new, &event()).await.unwrap().new);
    }
    assert_eq!(number().await, before);
    assert_eq!(database.scalar("SELECT count(*) FROM audit_events").await, "1");
}
