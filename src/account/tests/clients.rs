use super::*;
use crate::account::ClientDraft;
use crate::model::{ClientId, Grant};
use crate::secret::sha256;
use crate::store::ClientStore;

fn draft(id: &str, grants: &[Grant], scopes: &[&str]) -> ClientDraft {
    ClientDraft {
        client_id: id.into(),
        grants: grants.to_vec(),
        scopes: names(scopes),
        ..ClientDraft::default()
    }
}

async fn hashes(fixture: &Fixture, id: &str) -> Vec<[u8; 32]> {
    let id = ClientId::parse(id, "client_id").unwrap();
    fixture.store.machine_login(&id).await.unwrap().secret_hashes
}

#[tokio::test]
async fn a_client_gets_a_secret_if_a_grant_needs_one_and_the_store_keeps_its_hash() {
    let fixture = Fixture::new();
    let (web, none) = fixture
        .clients
        .create(&manager(), &draft("web", &[Grant::Password], &["*"]))
        .await
        .unwrap();
    assert!(none.is_none() && hashes(&fixture, id(&web)).await.is_empty());
    for (name, grant) in [("machine", Grant::ClientSecret), ("gateway", Grant::Exchange)] {
        let (_, secret) = fixture
            .clients
            .create(&manager(), &draft(name, &[grant], &[]))
            .await
            .unwrap();
        let secret = secret.unwrap();
        assert!(secret.expose().starts_with("css_"));
        assert_eq!(hashes(&fixture, name).await, [sha256(secret.expose().as_bytes())]);
    }
    let again = fixture.clients.create(&manager(), &draft("web", &[], &[])).await;
    assert_eq!(kind(again.map(|(client, _)| client)), ErrorKind::ClientExists);
}

#[tokio::test]
async fn a_caller_grants_only_its_own_scopes_and_changes_no_client_with_others() {
    let fixture = Fixture::new();
    let clients = &fixture.clients;
    let made = clients
        .create(&manager(), &draft("ops", &[Grant::ClientSecret], &["countersign:keys"]))
        .await;
    assert_eq!(kind(made.map(|(client, _)| client)), ErrorKind::CallerNotAllowed);
    clients
        .create(
            &Principal::owner(),
            &draft("ops", &[Grant::ClientSecret], &["countersign:keys"]),
        )
        .await
        .unwrap();
    clients
        .create(&manager(), &draft("helpdesk", &[], &["countersign:users"]))
        .await
        .unwrap();

    let scopes = names(&["scopes"]);
    let widened = clients
        .update(
            &manager(),
            &draft("helpdesk", &[], &["countersign:keys"]),
            &scopes,
            None,
        )
        .await;
    assert_eq!(kind(widened), ErrorKind::CallerNotAllowed);
    let display_name = names(&["display_name"]);
    for refused in [
        kind(
            clients
                .update(&manager(), &draft("ops", &[], &[]), &display_name, None)
                .await,
        ),
        kind(clients.update(&manager(), &draft("ops", &[], &[]), &scopes, None).await),
        kind(clients.rotate_secret(&manager(), "ops", None).await),
        kind(clients.delete(&manager(), "ops").await),
    ] {
        assert_eq!(refused, ErrorKind::CallerNotAllowed);
    }
    assert_eq!(fixture.revocations().await, 0);
    let narrowed = clients
        .update(&Principal::owner(), &draft("ops", &[], &["read"]), &scopes, None)
        .await
        .unwrap();
    assert_eq!(narrowed.scopes, ["read"]);
    assert_eq!(
        fixture.revocations().await,
        1,
        "the loss of a countersign scope revokes the tokens of the client"
    );
    clients.delete(&manager(), "ops").await.unwrap();
    assert_eq!(kind(clients.get(&manager(), "ops").await), ErrorKind::ClientNotFound);
}

#[tokio::test]
async fn an_old_secret_is_valid_only_for_the_overlap() {
    let fixture = Fixture::new();
    let (_, first) = fixture
        .clients
        .create(&manager(), &draft("job", &[Grant::ClientSecret], &[]))
        .await
        .unwrap();
    let old = sha256(first.unwrap().expose().as_bytes());
    let rotated = fixture.clients.rotate_secret(&manager(), "job", None).await.unwrap();
    let overlap = rotated.old_expires.since(fixture.clock.now());
    assert!(overlap > Duration::from_hours(23) && overlap <= Duration::from_hours(24));
    let new = sha256(rotated.secret.expose().as_bytes());
    let valid = hashes(&fixture, "job").await;
    assert!(valid.len() == 2 && valid.contains(&old) && valid.contains(&new));
    assert_eq!(fixture.revocations().await, 0);

    let last = fixture
        .clients
        .rotate_secret(&manager(), "job", Some(Duration::ZERO))
        .await
        .unwrap();
    assert_eq!(hashes(&fixture, "job").await, [sha256(last.secret.expose().as_bytes())]);
    assert_eq!(fixture.revocations().await, 1);
    let long = fixture
        .clients
        .rotate_secret(&manager(), "job", Some(Duration::from_hours(24 * 31)))
        .await;
    assert_eq!(field(long), "overlap");
    assert_eq!(
        kind(fixture.clients.rotate_secret(&manager(), "nobody", None).await),
        ErrorKind::ClientNotFound
    );
}

#[tokio::test]
async fn clients_are_listed_by_id_in_pages() {
    let fixture = Fixture::new();
    for name in ["ccc", "aaa", "bbb"] {
        fixture
            .clients
            .create(&manager(), &draft(name, &[], &[]))
            .await
            .unwrap();
    }
    let first = fixture.clients.list(&manager(), 2, "").await.unwrap();
    let rest = fixture
        .clients
        .list(&manager(), 2, &first.next_page_token)
        .await
        .unwrap();
    let ids: Vec<&str> = first.items.iter().chain(&rest.items).map(id).collect();
    assert_eq!(ids, ["aaa", "bbb", "ccc"]);
    let other = fixture.users.list(&manager(), 2, &first.next_page_token, "").await;
    assert_eq!(kind(other), ErrorKind::PageTokenInvalid);
    let (aaa, disabled) = (draft("aaa", &[], &[]), names(&["disabled"]));
    let stale = fixture
        .clients
        .update(&manager(), &aaa, &disabled, Some(crate::clock::UnixMillis(1)))
        .await;
    assert_eq!(kind(stale), ErrorKind::StaleUpdate);
}
