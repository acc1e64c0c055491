//! What a refresh takes from memory holds until the moment in which it changes, whoever changes it.

use countersign::model::{ClientChange, ClientId, Epochs, KeyState, SessionId, Target, UserId};
use countersign::store::RefreshView;

use super::{fresh, store_with};
use crate::durable::fresh::TestStore;
use crate::durable::samples::*;

/// A replica's store, and the refresh that it is asked about.
struct Asked {
    replica: TestStore,
    user: UserId,
    client: ClientId,
    session: SessionId,
}

impl Asked {
    async fn view(&self) -> RefreshView {
        let view = self
            .replica
            .refresh_view(self.user, &self.client, self.session, Epochs::default());
        view.await.unwrap()
    }
}

#[tokio::test]
async fn a_change_of_a_client_or_key_is_seen_by_the_next_refresh() {
    let (database, other) = fresh().await;
    let replica = store_with(database.url(), |_| {}).await;
    let (user, client) = (make_user(&other, "ada").await, make_client(&other, "web").await);
    let key = signing(KeyState::Active);
    other.import_key(&key, &some_event()).await.unwrap();
    let asked = Asked {
        replica,
        user: user.id,
        client: client.id.clone(),
        session: session(),
    };
    // The second one finds the client in memory.
    for _ in 0..2 {
        let view = asked.view().await;
        assert_eq!(view.client.as_deref(), Some(&client));
        assert_eq!(view.active_key.as_ref(), Some(&key.id));
        assert!(!view.revoked);
    }

    let narrowed = ClientChange {
        scopes: Some(vec!["read".into()]),
        ..ClientChange::default()
    };
    other
        .update_client(&client.id, &narrowed, None, None, &some_event())
        .await
        .unwrap();
    assert_eq!(
        asked.view().await.client.unwrap().scopes,
        ["read"],
        "by another replica"
    );

    // A replica of an earlier version, or a person.
    database.execute("UPDATE clients SET disabled = true").await;
    assert!(asked.view().await.client.unwrap().disabled, "by SQL");
    database.execute("UPDATE clients SET disabled = false").await;

    database.execute("UPDATE signing_keys SET state = 'retired'").await;
    assert_eq!(asked.view().await.active_key, None);
    let next = signing(KeyState::Active);
    other.import_key(&next, &some_event()).await.unwrap();
    assert_eq!(asked.view().await.active_key, Some(next.id));

    revoke(&other, Target::Client(client.id.clone())).await;
    assert!(asked.view().await.revoked, "the epoch of the client");
    other.delete_client(&client.id, None, &some_event()).await.unwrap();
    let view = asked.view().await;
    assert!(view.client.is_none());
    assert!(view.user.is_some());
}

/// A standby that lacks the last changes is promoted, and others are made there.
#[tokio::test]
async fn another_history_of_the_same_length_is_told_apart() {
    let (database, other) = fresh().await;
    let asked = Asked {
        replica: store_with(database.url(), |_| {}).await,
        user: make_user(&other, "ada").await.id,
        client: make_client(&other, "web").await.id,
        session: session(),
    };
    asked.view().await;
    let before = database.scalar("SELECT clients_and_keys::text FROM meta").await;
    database
        .execute("UPDATE clients SET display_name = 'one history'")
        .await;
    assert_eq!(asked.view().await.client.unwrap().display_name, "one history");
    // As in a standby without that change.
    database
        .execute(&format!("UPDATE meta SET clients_and_keys = {before}"))
        .await;
    database
        .execute("UPDATE clients SET display_name = 'another history'")
        .await;
    assert_eq!(asked.view().await.client.unwrap().display_name, "another history");
}
