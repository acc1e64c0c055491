use super::*;
use crate::account::users::UserKey;
use crate::model::{AuditType, SessionId};
use uuid::Uuid;

fn draft(name: &str) -> UserDraft {
    UserDraft {
        username: name.into(),
        ..UserDraft::default()
    }
}

#[tokio::test]
async fn usernames_are_unique_regardless_of_case_and_width() {
    let fixture = Fixture::new();
    let ada = fixture.user("Ada", &[]).await;
    assert_eq!(ada.username.as_str(), "ada");
    for name in ["ada", "ADA", "ａｄａ"] {
        let again = fixture
            .users
            .create(&Principal::owner(), &draft(name), text(GOOD), fixture.deadline())
            .await;
        assert_eq!(kind(again), ErrorKind::UserExists, "{name}");
        assert_eq!(
            fixture.users.get(&manager(), UserKey::Name(name)).await.unwrap().id,
            ada.id
        );
    }
    assert_eq!(fixture.trail_of(&ada.id).await, [AuditType::UserCreated.as_str()]);
}

#[tokio::test]
async fn creating_users_needs_the_scope_or_open_registration() {
    let closed = Fixture::new();
    let create = async |fixture: &Fixture, principal: Principal, draft: UserDraft, password: &str| {
        fixture
            .users
            .create(&principal, &draft, text(password), fixture.deadline())
            .await
    };
    let refused = create(&closed, anonymous(), draft("eve"), GOOD).await;
    assert_eq!(kind(refused), ErrorKind::CallerUnauthenticated);
    let refused = create(&closed, machine(&["countersign:clients"]), draft("eve"), GOOD).await;
    assert_eq!(kind(refused), ErrorKind::CallerNotAllowed);
    let mut admin = draft("mallory");
    admin.roles = names(&["admin"]);
    assert_eq!(
        kind(create(&closed, manager(), admin.clone(), GOOD).await),
        ErrorKind::CallerNotAllowed
    );
    assert!(
        create(&closed, Principal::owner(), admin.clone(), GOOD)
            .await
            .unwrap()
            .is_admin()
    );

    let mut later = draft("later");
    later.disabled = true;
    assert!(create(&closed, manager(), later.clone(), GOOD).await.unwrap().disabled);

    let open = Fixture::with_registration(true);
    let refused = create(&open, anonymous(), later, GOOD).await.unwrap_err();
    assert_eq!(refused.violations[0].field, "user.disabled");
    assert_eq!(
        create(&open, anonymous(), draft("bob"), GOOD)
            .await
            .unwrap()
            .username
            .as_str(),
        "bob"
    );
    admin.username = "eve".into();
    assert_eq!(field(create(&open, anonymous(), admin, GOOD).await), "user.roles");
    let without = create(&open, anonymous(), draft("eve"), "").await;
    assert_eq!(
        kind(without),
        ErrorKind::PasswordTooWeak,
        "a registration needs a password"
    );
    let invited = create(&open, manager(), draft("invited"), "").await.unwrap();
    assert!(
        !open.logs_in(invited.id, "").await,
        "a user without a password cannot log in with an empty one"
    );
}

#[tokio::test]
async fn only_an_admin_changes_an_admin() {
    let fixture = Fixture::new();
    let (chief, ada) = (fixture.user("root", &["admin"]).await, fixture.user("ada", &[]).await);
    let id = chief.id.to_string();
    let empty = UserDraft::default();
    let email = names(&["email"]);
    let roles = names(&["roles"]);
    let users = &fixture.users;
    for refused in [
        kind(users.update(&manager(), &id, &empty, &email, None).await),
        kind(users.update(&manager(), &id, &empty, &roles, None).await),
        kind(users.set_disabled(&manager(), &id, true).await),
        kind(users.delete(&manager(), &id).await),
        kind(
            users
                .set_password(&manager(), &id, text(BETTER), fixture.deadline())
                .await,
        ),
        kind(users.begin_reset(&manager(), &id).await),
        kind(
            users
                .change_password(&manager(), &id, text(GOOD), text(BETTER), "", fixture.deadline())
                .await,
        ),
    ] {
        assert_eq!(refused, ErrorKind::CallerNotAllowed);
    }
    assert_eq!(fixture.revocations().await, 0);

    let session = SessionId(Uuid::from_u128(1));
    let admin = person(ada.id, session, true, &["countersign:users"]);
    let user = users.update(&admin, &id, &empty, &roles, None).await.unwrap();
    assert!(!user.is_admin());
    assert_eq!(
        fixture.revocations().await,
        1,
        "the loss of admin revokes the sessions of the user"
    );
    users.set_disabled(&manager(), &id, true).await.unwrap();
    users.delete(&manager(), &id).await.unwrap();
    assert_eq!(
        kind(users.get(&manager(), UserKey::Id(&id)).await),
        ErrorKind::UserNotFound
    );
    let mut trail = fixture.trail_of(&chief.id).await;
    // Events of the same millisecond have no fixed order.
    trail.sort_unstable();
    assert_eq!(trail, ["user.created", "user.deleted", "user.disabled", "user.updated"]);
}

#[tokio::test]
async fn a_user_reads_their_own_row_and_learns_nothing_about_others() {
    let fixture = Fixture::new();
    let (ada, bob) = (fixture.user("ada", &[]).await, fixture.user("bob", &[]).await);
    let own = person(ada.id, SessionId(Uuid::from_u128(1)), false, &[]);
    let (ada_id, bob_id) = (ada.id.to_string(), bob.id.to_string());
    assert_eq!(fixture.users.get(&own, UserKey::Id(&ada_id)).await.unwrap(), ada);
    assert_eq!(fixture.users.get(&own, UserKey::Name("Ada")).await.unwrap(), ada);
    for key in [UserKey::Id(&bob_id), UserKey::Name("bob"), UserKey::Name("nobody")] {
        assert_eq!(
            kind(fixture.users.get(&own, key).await),
            ErrorKind::CallerNotAllowed,
            "{key:?}"
        );
    }
    assert_eq!(
        kind(fixture.users.list(&own, 0, "", "").await),
        ErrorKind::CallerNotAllowed
    );
    assert_eq!(field(fixture.users.get(&manager(), UserKey::Id("7")).await), "user_id");
}

#[tokio::test]
async fn pages_are_stable_under_inserts_and_bound_to_their_query() {
    let fixture = Fixture::new();
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(fixture.user(&format!("user{n}"), &[]).await.id);
    }
    let first = fixture.users.list(&manager(), 2, "", "USER").await.unwrap();
    fixture.user("user5", &[]).await;
    let second = fixture
        .users
        .list(&manager(), 2, &first.next_page_token, "user")
        .await
        .unwrap();
    let third = fixture
        .users
        .list(&manager(), 1000, &second.next_page_token, "user")
        .await
        .unwrap();
    let mut listed: Vec<_> = [first.items, second.items, third.items]
        .concat()
        .iter()
        .map(|user| user.id)
        .collect();
    let newest = listed.pop().unwrap();
    assert_eq!(listed, made);
    assert!(newest > made[4]);
    assert_eq!(third.next_page_token, "");
    let elsewhere = fixture.users.list(&manager(), 2, &first.next_page_token, "other").await;
    assert_eq!(kind(elsewhere), ErrorKind::PageTokenInvalid);
    assert_eq!(field(fixture.users.list(&manager(), -1, "", "").await), "page_size");
    assert_eq!(field(fixture.users.list(&manager(), 0, "", "a\0").await), "query");
    for wild in ["%", "_", "user_"] {
        let none = fixture.users.list(&manager(), 0, "", wild).await.unwrap();
        assert!(none.items.is_empty(), "{wild} is text, not a pattern");
    }
}

#[tokio::test]
async fn a_stale_update_and_a_taken_username_are_refused() {
    let fixture = Fixture::new();
    let (ada, _) = (fixture.user("ada", &[]).await, fixture.user("bob", &[]).await);
    let id = ada.id.to_string();
    let rename = |name: &str| (draft(name), names(&["username", "display_name"]));
    let (bob, mask) = rename("BOB");
    let taken = fixture.users.update(&manager(), &id, &bob, &mask, None).await;
    assert_eq!(kind(taken), ErrorKind::UserExists);
    let (lovelace, mask) = rename("lovelace");
    let updated = fixture
        .users
        .update(&manager(), &id, &lovelace, &mask, Some(ada.updated))
        .await
        .unwrap();
    assert_eq!(updated.username.as_str(), "lovelace");
    assert!(updated.updated > ada.updated);
    let stale = fixture
        .users
        .update(&manager(), &id, &lovelace, &mask, Some(ada.updated))
        .await;
    assert_eq!(kind(stale), ErrorKind::StaleUpdate);
    let unknown = fixture
        .users
        .update(&manager(), &Uuid::from_u128(9).to_string(), &lovelace, &mask, None)
        .await;
    assert_eq!(kind(unknown), ErrorKind::UserNotFound);
}
