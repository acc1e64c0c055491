use std::time::Duration;

use countersign::clock::{Clock as _, SystemClock, UnixMillis};
use countersign::model::audit::{Origin, Outcome};
use countersign::model::{AuditEvent, AuditType, ErrorKind, new_uuid};
use countersign::secret::SystemEntropy;
use countersign::store::AuditQuery;
use countersign::store::accounts::{Authority, UserChange};

use super::fresh::{self, TestStore};
use super::samples::*;

on_each!([sqlite, postgres, pooled] [
    an_event_is_read_as_written,
    a_change_and_its_event_are_stored_together_or_not_at_all,
    queries_find_by_subject_type_and_time,
    pages_go_from_the_newest_to_the_oldest,
    old_events_are_purged_in_batches,
    many_events_are_appended_at_once,
]);

/// An event of `time`.
fn at(time: UnixMillis, kind: AuditType, subject: &str) -> AuditEvent {
    AuditEvent {
        id: new_uuid(time, &SystemEntropy),
        time,
        ..event(kind, &subject)
    }
}

async fn found(fresh: &TestStore, query: AuditQuery) -> Vec<AuditEvent> {
    let page = fresh.list_audit(&query, None, 100).await.unwrap();
    assert_eq!(page.next, None);
    page.items
}

async fn an_event_is_read_as_written(fresh: TestStore) {
    let full = event(AuditType::TokenIssued, &"somebody");
    fresh.append_audit(&full).await.unwrap();
    let bare = AuditEvent::new(
        AuditType::Throttled,
        &"",
        &Origin::default(),
        SystemClock::new().now().plus(Duration::from_millis(5)),
        &SystemEntropy,
    );
    fresh.append_audit(&bare).await.unwrap();
    fresh.append_audit(&bare).await.unwrap();
    assert_eq!(
        found(&fresh, AuditQuery::default()).await,
        [bare, full],
        "the same event twice is one"
    );
}

async fn a_change_and_its_event_are_stored_together_or_not_at_all(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    make_user(&fresh, "bob").await;
    let event = event(AuditType::UserUpdated, &user.id);
    let taken = UserChange {
        username: Some(name("bob")),
        ..UserChange::default()
    };
    let error = fresh
        .update_user(user.id, &taken, None, Authority::Admin, &event)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::UserExists);
    assert_eq!(events_on(&fresh, &user.id).await, 0);

    // And no change without its event: if the event cannot be written, the change is rolled back.
    let mut unwritable = event.clone();
    unwritable.origin.request_id = "r\0".into();
    let error = fresh
        .update_user(user.id, &disabled(true), None, Authority::Admin, &unwritable)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert_eq!(fresh.user(user.id).await.unwrap(), Some(user.clone()));
    assert_eq!(epochs(&fresh, &user, "default").await.user, 0);
}

async fn queries_find_by_subject_type_and_time(fresh: TestStore) {
    let start = now();
    let moment = |n| UnixMillis(start.0 + n);
    let events = [
        at(moment(0), AuditType::TokenIssued, "ada"),
        at(moment(10), AuditType::TokenIssueFailed, "bob"),
        at(moment(20), AuditType::TokenRefreshReused, "ada"),
        at(moment(30), AuditType::UserCreated, "bob"),
    ];
    for event in &events {
        fresh.append_audit(event).await.unwrap();
    }
    let expect = async |query: AuditQuery, expected: &[usize]| {
        let described = format!("{query:?}");
        let expected: Vec<_> = expected.iter().map(|n| events[*n].id).collect();
        let ids: Vec<_> = found(&fresh, query).await.iter().map(|event| event.id).collect();
        assert_eq!(ids, expected, "{described}");
    };
    let kind = |kind: &str| AuditQuery {
        kind: kind.into(),
        ..AuditQuery::default()
    };
    let subject = |subject: &str| AuditQuery {
        subject: subject.into(),
        ..AuditQuery::default()
    };
    let between = |since, until| AuditQuery {
        since: Some(since),
        until: Some(until),
        ..AuditQuery::default()
    };
    expect(AuditQuery::default(), &[3, 2, 1, 0]).await;
    expect(subject("ada"), &[2, 0]).await;
    expect(subject("a"), &[]).await;
    expect(subject("%"), &[]).await;
    expect(kind("token.issued"), &[0]).await;
    expect(kind("token.issue"), &[]).await;
    expect(kind("token.issue*"), &[1, 0]).await;
    expect(kind("token."), &[2, 1, 0]).await;
    expect(kind("token.*"), &[2, 1, 0]).await;
    expect(kind("*"), &[3, 2, 1, 0]).await;
    expect(kind("%"), &[]).await;
    expect(between(moment(10), moment(30)), &[2, 1]).await;
    expect(between(UnixMillis(i64::MIN), UnixMillis(i64::MAX)), &[3, 2, 1, 0]).await;
    expect(between(moment(20), moment(20)), &[]).await;
    let all = AuditQuery {
        subject: "bob".into(),
        kind: "token.".into(),
        ..between(moment(0), moment(20))
    };
    expect(all, &[1]).await;
}

async fn pages_go_from_the_newest_to_the_oldest(fresh: TestStore) {
    let start = now();
    let mut ids = Vec::new();
    for n in 0..6 {
        let event = at(UnixMillis(start.0 + n), AuditType::TokenIssued, "ada");
        fresh.append_audit(&event).await.unwrap();
        ids.insert(0, event.id);
    }
    let page = async |before: Option<&str>| {
        let before = before.map(|text| text.parse().unwrap());
        let page = fresh.list_audit(&AuditQuery::default(), before, 4).await.unwrap();
        (page.items.iter().map(|event| event.id).collect::<Vec<_>>(), page.next)
    };
    let (first, next) = page(None).await;
    assert_eq!(first, ids[..4]);
    // New events come before the first page and do not shift the next one.
    fresh
        .append_audit(&at(UnixMillis(start.0 + 9), AuditType::TokenIssued, "ada"))
        .await
        .unwrap();
    let (second, end) = page(next.as_deref()).await;
    assert_eq!((second.as_slice(), end), (&ids[4..], None));
}

async fn old_events_are_purged_in_batches(fresh: TestStore) {
    let start = now();
    for n in 0..5 {
        let event = at(UnixMillis(start.0 + n), AuditType::TokenIssued, "ada");
        fresh.append_audit(&event).await.unwrap();
    }
    let before = UnixMillis(start.0 + 3);
    assert_eq!(fresh.purge_audit(before, 2).await.unwrap(), 2);
    assert_eq!(fresh.purge_audit(before, 2).await.unwrap(), 1);
    assert_eq!(fresh.purge_audit(before, 2).await.unwrap(), 0);
    let left = found(&fresh, AuditQuery::default()).await;
    assert!(left.len() == 2 && left.iter().all(|event| event.time >= before));
}

async fn many_events_are_appended_at_once(fresh: TestStore) {
    fresh.append_audit_events(&[]).await.unwrap();
    let start = now();
    let mut events: Vec<_> = (0..200)
        .map(|n| {
            let mut event = at(
                UnixMillis(start.0 + n),
                AuditType::TokenIssueFailed,
                "O'Brien \"\\ \u{1f980}",
            )
            .with_outcome(Outcome::Denied)
            .with_detail("count", n)
            .with_detail("nested", serde_json::json!({"a": [1, null, "b"]}));
            event.session_id = None;
            event
        })
        .collect();
    fresh.append_audit_events(&events[..150]).await.unwrap();
    // A repeated statement writes what is not there yet.
    fresh.append_audit_events(&events).await.unwrap();
    events.reverse();
    let page = fresh.list_audit(&AuditQuery::default(), None, 1000).await.unwrap();
    assert_eq!(page.items, events);

    let mut unwritable = at(UnixMillis(start.0 + 300), AuditType::TokenIssueFailed, "bob");
    unwritable.origin.request_id = "r\0".into();
    let good = at(UnixMillis(start.0 + 301), AuditType::TokenIssueFailed, "bob");
    let error = fresh.append_audit_events(&[good, unwritable]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    let page = fresh.list_audit(&AuditQuery::default(), None, 1000).await.unwrap();
    assert_eq!(page.items.len(), 200, "all or none");
}
