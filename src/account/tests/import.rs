use futures_util::stream;

use super::*;
use crate::account::users::{ImportRow, Imported, UserKey};
use crate::model::Error;

fn row(name: &str, hash: &str) -> ImportRow {
    ImportRow {
        user: UserDraft {
            username: name.into(),
            ..UserDraft::default()
        },
        password_hash: text(hash),
    }
}

#[tokio::test]
async fn an_invalid_row_is_reported_and_the_rest_imported() {
    let fixture = Fixture::new();
    let bcrypt = bcrypt::hash(GOOD, 5).unwrap();
    let mut admin = row("eve", "");
    admin.user.roles = names(&["staff", "admin"]);
    let mut disabled = row("bob", "");
    disabled.user.disabled = true;
    let rows = vec![
        Ok(row("ada", &bcrypt)),
        Ok(row("ADA", &bcrypt)),
        Ok(row("a b", &bcrypt)),
        Ok(admin),
        Ok(row(
            "mallory",
            "$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        )),
        Ok(row("trent", "plain text")),
        Err(Error::invalid("user.attributes", "holds a value without a kind")),
        Ok(disabled),
    ];
    let done = fixture.users.import(&manager(), stream::iter(rows)).await.unwrap();
    assert_eq!(done.imported, 2);
    let rejected: Vec<(u32, &str)> = done
        .rejected
        .iter()
        .map(|row| (row.index, row.field.as_str()))
        .collect();
    let expected = [
        (1, "user.username"),
        (2, "user.username"),
        (3, "user.roles[1]"),
        (4, "password_hash"),
        (5, "password_hash"),
        (6, "user.attributes"),
    ];
    assert_eq!(rejected, expected);
    let ada = fixture.users.get(&manager(), UserKey::Name("ada")).await.unwrap();
    assert!(fixture.logs_in(ada.id, GOOD).await);
    assert!(
        fixture
            .users
            .get(&manager(), UserKey::Name("bob"))
            .await
            .unwrap()
            .disabled
    );
}

#[tokio::test]
async fn an_error_of_the_store_ends_the_import() {
    let fixture = Fixture::new();
    let rows = vec![
        Ok(row("ada", "")),
        Err(Error::store_unavailable("gone")),
        Ok(row("bob", "")),
    ];
    let ended = fixture.users.import(&manager(), stream::iter(rows)).await.unwrap();
    let reported = ended.ended.as_ref().unwrap();
    assert_eq!((reported.index, reported.error.kind), (1, ErrorKind::StoreUnavailable));
    // The third row was on its way when the second failed; what was written is counted.
    assert_eq!(ended.imported, 2);
    for name in ["ada", "bob"] {
        assert!(
            fixture.users.get(&manager(), UserKey::Name(name)).await.is_ok(),
            "{name}"
        );
    }
    let error = ended.complete().unwrap_err();
    assert_eq!(error.kind, ErrorKind::StoreUnavailable);
    assert!(error.message.contains("2 users are in"), "{error}");

    let many = (0..500).map(|n| {
        if n == 100 {
            Err(Error::store_unavailable("gone"))
        } else {
            Ok(row(&format!("u{n}"), ""))
        }
    });
    let ended = fixture.users.import(&manager(), stream::iter(many)).await.unwrap();
    assert!(
        (100..200).contains(&ended.imported),
        "no new row is begun after the error: {ended:?}"
    );
    let refused = fixture.users.import(&anonymous(), stream::iter(Vec::new())).await;
    assert_eq!(kind(refused), ErrorKind::CallerUnauthenticated);
}

#[tokio::test]
async fn an_import_of_the_wrong_file_ends_and_says_what_is_wrong() {
    let fixture = Fixture::new();
    let rows = (0..20_000).map(|_| Ok(row("a b", "")));
    let done = fixture.users.import(&manager(), stream::iter(rows)).await.unwrap();
    assert_eq!((done.imported, done.rejected.len()), (0, 10_000));
    let error = done.complete().unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert!(error.message.contains("user.username"), "{error}");
}

#[tokio::test]
async fn of_rows_with_one_name_the_first_that_can_be_imported_wins() {
    let fixture = Fixture::new();
    let mut rows = Vec::new();
    for n in 0..100 {
        for (copy, hash) in [("bad", "no hash"), ("first", ""), ("second", ""), ("third", "")] {
            let mut row = row(&format!("{}{n}", if copy == "third" { "USER" } else { "user" }), hash);
            row.user.display_name = copy.into();
            rows.push(Ok(row));
        }
    }
    let done: Imported = fixture.users.import(&manager(), stream::iter(rows)).await.unwrap();
    assert_eq!(done.imported, 100);
    let refused: Vec<(u32, &str)> = done
        .rejected
        .iter()
        .map(|row| (row.index, row.field.as_str()))
        .collect();
    let expected = (0..100).flat_map(|n| {
        [
            (4 * n, "password_hash"),
            (4 * n + 2, "user.username"),
            (4 * n + 3, "user.username"),
        ]
    });
    assert_eq!(refused, expected.collect::<Vec<_>>());
    for n in 0..100 {
        let user = fixture
            .users
            .get(&manager(), UserKey::Name(&format!("user{n}")))
            .await
            .unwrap();
        assert_eq!(user.display_name, "first");
    }
}
