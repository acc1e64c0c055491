use futures_util::stream;

use super::*;
use crate::account::users::{ImportRow, UserKey};
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
    let ended = fixture.users.import(&manager(), stream::iter(rows)).await;
    assert_eq!(kind(ended), ErrorKind::StoreUnavailable);
    assert!(
        fixture.users.get(&manager(), UserKey::Name("ada")).await.is_ok(),
        "earlier rows stay imported"
    );
    let refused = fixture.users.import(&anonymous(), stream::iter(Vec::new())).await;
    assert_eq!(kind(refused), ErrorKind::CallerUnauthenticated);
}
