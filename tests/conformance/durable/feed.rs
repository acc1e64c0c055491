use std::time::Duration;

use countersign::clock::UnixMillis;
use countersign::model::{ErrorKind, Revocation, Target};
use countersign::store::{Changes, Cursor, Snapshot};

use super::fresh::{self, TestStore};
use super::samples::*;

on_each!([sqlite, postgres, pooled] [
    load_and_changes_together_contain_every_revocation,
    no_revocation_is_missed_while_many_write,
    only_recent_revocations_are_loaded,
    a_cursor_of_another_store_means_reload,
    other_text_is_not_a_cursor,
]);

async fn since(fresh: &TestStore, cursor: &Cursor) -> Snapshot {
    match fresh.revocations_since(cursor).await.unwrap() {
        Changes::Since(snapshot) => snapshot,
        Changes::Reload(_) => panic!("the store is the same"),
    }
}

async fn revoke_any(fresh: &TestStore) -> Revocation {
    revoke(fresh, Target::Session(session())).await.unwrap()
}

async fn load_and_changes_together_contain_every_revocation(fresh: TestStore) {
    let empty = fresh.load_revocations(UnixMillis(0)).await.unwrap();
    assert!(empty.rows.is_empty());
    let first = revoke_any(&fresh).await;
    let loaded = fresh.load_revocations(UnixMillis(0)).await.unwrap();
    assert_eq!(loaded.rows, std::slice::from_ref(&first));
    assert_eq!(since(&fresh, &empty.cursor).await.rows, [first]);
    assert!(loaded.as_of >= empty.as_of);

    let nothing = since(&fresh, &loaded.cursor).await;
    assert!(nothing.rows.is_empty());
    let asked = now();
    let second = revoke_any(&fresh).await;
    for cursor in [&loaded.cursor, &nothing.cursor] {
        let news = since(&fresh, cursor).await;
        assert_eq!(news.rows, std::slice::from_ref(&second));
        assert!(news.as_of >= asked && news.as_of <= now());
    }
    // Expired revocations are included as well, as long as they are not purged.
    let gone = countersign::store::NewRevocation {
        target: Target::Session(session()),
        expires: countersign::store::Expiry::At(UnixMillis(1)),
    };
    fresh.revoke(&gone, &some_event()).await.unwrap();
    assert_eq!(since(&fresh, &nothing.cursor).await.rows.len(), 2);
}

async fn no_revocation_is_missed_while_many_write(fresh: TestStore) {
    const WRITERS: usize = 4;
    let user = make_user(&fresh, "ada").await;
    let mut cursor = fresh.load_revocations(UnixMillis(0)).await.unwrap().cursor;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let fresh = fresh.clone();
        writers.spawn(async move {
            let mut written = Vec::new();
            for n in 0..25 {
                let target = if n % 2 == 0 {
                    everything_of(user.id)
                } else {
                    Target::Session(session())
                };
                written.push(revoke(&fresh, target).await.unwrap());
            }
            written
        });
    }
    let mut seen = Vec::new();
    let mut written = Vec::new();
    while written.len() < WRITERS {
        let news = since(&fresh, &cursor).await;
        seen.extend(news.rows);
        cursor = news.cursor;
        tokio::select! {
            Some(done) = writers.join_next() => written.push(done.unwrap()),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    }
    // Revocations that were acknowledged before the query are in its result.
    seen.extend(since(&fresh, &cursor).await.rows);
    let key = |row: &Revocation| (row.epoch, row.target.id());
    seen.sort_by_key(key);
    seen.dedup();
    let mut written = written.concat();
    written.sort_by_key(key);
    assert_eq!(seen, written);
    let reloaded = fresh.load_revocations(UnixMillis(0)).await.unwrap();
    assert!(written.iter().all(|row| reloaded.rows.contains(row)));
}

async fn only_recent_revocations_are_loaded(fresh: TestStore) {
    let row = revoke_any(&fresh).await;
    let load = async |since| fresh.load_revocations(UnixMillis(since)).await.unwrap().rows;
    assert_eq!(load(row.revoked.0 - 1).await, std::slice::from_ref(&row));
    assert!(load(row.revoked.0).await.is_empty());
}

async fn a_cursor_of_another_store_means_reload(fresh: TestStore) {
    let cursor = fresh.load_revocations(UnixMillis(0)).await.unwrap().cursor;
    let digits = |c: char| {
        if c.is_ascii_digit() {
            char::from(b'0' + (c as u8 - b'0' + 1) % 10)
        } else {
            c
        }
    };
    // Another instance, system or timeline: the first digits after the version.
    let mut fields: Vec<String> = cursor.0.split('.').map(str::to_owned).collect();
    fields[1] = fields[1].chars().map(digits).collect();
    let other = Cursor(fields.join("."));
    match fresh.revocations_since(&other).await {
        Ok(Changes::Reload(_)) => {}
        other => panic!("{other:?}"),
    }
}

async fn other_text_is_not_a_cursor(fresh: TestStore) {
    let good = fresh.load_revocations(UnixMillis(0)).await.unwrap().cursor.0;
    let mut bad: Vec<String> = super::hostile_text::naughty();
    bad.extend([
        String::new(),
        format!("{good} "),
        format!(" {good}"),
        format!("{good}0000000000000000000000000000000000"),
        format!("{good}:"),
        format!("{good},"),
        format!("{good}\0"),
        // Without its last field. Cut inside that field, which is a list of transactions, it may still be a cursor.
        good.rsplit_once('.').unwrap().0.to_owned(),
        good.to_uppercase(),
        good.replace('.', ".."),
        format!("{good};DROP TABLE users"),
        "1".repeat(1_000_000),
    ]);
    // Almost a cursor of SQLite or of PostgreSQL: a store writes each position in one form only.
    bad.extend(MALFORMED.iter().map(ToString::to_string));
    for text in bad {
        let error = fresh.revocations_since(&Cursor(text.clone())).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ResumeTokenInvalid, "{text:?}");
    }
}

const MALFORMED: [&str; 29] = [
    "s1",
    "s1..",
    "s1.0123456789abcdef0123456789abcdef.",
    "s1.0123456789abcdef0123456789abcdef.-1",
    "s1.0123456789abcdef0123456789abcdef.+7",
    "s1.0123456789abcdef0123456789abcdef.07",
    "s1.0123456789abcdef0123456789abcdef.7 ",
    "s1.0123456789abcdef0123456789abcdef.99999999999999999999",
    "s1.0123456789ABCDEF0123456789abcdef.7",
    "s1.0123.7",
    "p1.0123456789abcdef0123456789abcdef.7",
    "p1",
    "p1.1.00000001.5.741:741",
    "p1.1.00000001.5.741:741::",
    "p1.1.00000001.741:741:",
    "p1.1.00000001.5.6.741:741:",
    "p1.1.0000000a.5.741:741:",
    "p1.1.1.5.741:741:",
    "p1.01.00000001.5.741:741:",
    "p1.1.00000001.-5.741:741:",
    "p1.1.00000001.5.742:741:",
    "p1.1.00000001.5.741:745:745",
    "p1.1.00000001.5.741:745:740",
    "p1.1.00000001.5.741:745:743,741",
    "p1.1.00000001.5.741:745:741,741",
    "p1.1.00000001.5.+741:745:",
    "p1.1.00000001.5.741:745:,",
    "p1.1.00000001.5.741:18446744073709551616:",
    "\0",
];
