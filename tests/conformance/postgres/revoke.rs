use std::time::Duration;

use countersign::clock::{Clock as _, SystemClock};
use countersign::model::audit::Origin;
use countersign::model::revocation::RevocationSubject;
use countersign::model::{AuditEvent, AuditType, SessionId, Target};
use countersign::secret::SystemEntropy;
use countersign::store::{Expiry, NewRevocation};
use smallvec::smallvec;

use super::fresh;
use crate::support::eventually;

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

/// While the table is small, PostgreSQL likes to read it whole.
#[tokio::test]
async fn asking_for_revocations_reads_only_those_of_the_subject() {
    let (database, store) = fresh().await;
    database
        .execute(
            "INSERT INTO revocations (level, id, epoch, expires, revoked)
             SELECT 'session', gen_random_uuid(), 0, 4000000000000, 1 FROM generate_series(1, 15000)",
        )
        .await;
    database.execute("ANALYZE revocations").await;
    let scans = async |kind: &str| -> u64 {
        let sql = format!("SELECT {kind} FROM pg_stat_user_tables WHERE relname = 'revocations'");
        database.scalar(&sql).await.parse().unwrap()
    };
    let (whole, by_index) = (scans("seq_scan").await, scans("idx_scan").await);
    let now = SystemClock::new().now();
    let of_session = || RevocationSubject {
        sessions: smallvec![SessionId::generate(now, &SystemEntropy)],
        ..RevocationSubject::default()
    };
    let asked: Vec<_> = (0..10).map(|_| of_session()).collect();
    assert_eq!(store.revoked(&asked).await.unwrap(), [false; 10]);
    // A backend reports its statistics only when it is idle.
    eventually("the statistics include the scan", Duration::from_secs(20), || async {
        (scans("idx_scan").await > by_index || scans("seq_scan").await > whole).then_some(())
    })
    .await;
    assert_eq!(scans("seq_scan").await, whole, "the table was read as a whole");
}
