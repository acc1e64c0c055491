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
async fn a_name_is_taken_whatever_its_case_and_width() {
    let room = Room::new();
    let ada = room.user("Ada", &[]).await;
    assert_eq!(ada.username.as_str(), "ada");
    for name in ["ada", "ADA", "ａｄａ"] {
        let again = room
            .users
            .create(&Principal::owner(), &draft(name), text(GOOD), room.deadline())
            .await;
        assert_eq!(kind(again), ErrorKind::UserExists, "{name}");
        assert_eq!(
            room.users.get(&manager(), UserKey::Name(name)).await.unwrap().id,
            ada.id
        );
    }
    assert_eq!(room.trail_of(&ada.id).await, [AuditType::UserCreated.as_str()]);
}

#[tokio::test]
async fn who_may_make_users() {
    let closed = Room::new();
    let create = async |room: &Room, principal: Principal, draft: UserDraft, password: &str| {
        room.users
            .create(&principal, &draft, text(password), room.deadline())
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

    let open = Room::with_registration(true);
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
    assert!(!open.logs_in(invited.id, "").await, "no password is no empty password");
}

#[tokio::test]
async fn only_an_admin_touches_an_admin() {
    let room = Room::new();
    let (chief, ada) = (room.user("root", &["admin"]).await, room.user("ada", &[]).await);
    let id = chief.id.to_string();
    let empty = UserDraft::default();
    let email = names(&["email"]);
    let roles = names(&["roles"]);
    let users = &room.users;
    for refused in [
        kind(users.update(&manager(), &id, &empty, &email, None).await),
        kind(users.update(&manager(), &id, &empty, &roles, None).await),
        kind(users.set_disabled(&manager(), &id, true).await),
        kind(users.delete(&manager(), &id).await),
        kind(users.set_password(&manager(), &id, text(BETTER), room.deadline()).await),
        kind(users.begin_reset(&manager(), &id).await),
        kind(
            users
                .change_password(&manager(), &id, text(GOOD), text(BETTER), "", room.deadline())
                .await,
        ),
    ] {
        assert_eq!(refused, ErrorKind::CallerNotAllowed);
    }
    assert_eq!(room.revocations().await, 0);

    let session = SessionId(Uuid::from_u128(1));
    let admin = person(ada.id, session, true, &["countersign:users"]);
    let user = users.update(&admin, &id, &empty, &roles, None).await.unwrap();
    assert!(!user.is_admin());
    assert_eq!(
        room.revocations().await,
        1,
        "the loss of admin ends what the person has"
    );
    users.set_disabled(&manager(), &id, true).await.unwrap();
    users.delete(&manager(), &id).await.unwrap();
    assert_eq!(
        kind(users.get(&manager(), UserKey::Id(&id)).await),
        ErrorKind::UserNotFound
    );
    let mut trail = room.trail_of(&chief.id).await;
    // Within a millisecond the order is a matter of chance.
    trail.sort_unstable();
    assert_eq!(trail, ["user.created", "user.deleted", "user.disabled", "user.updated"]);
}

#[tokio::test]
async fn people_read_themselves_and_learn_of_nobody_else() {
    let room = Room::new();
    let (ada, bob) = (room.user("ada", &[]).await, room.user("bob", &[]).await);
    let own = person(ada.id, SessionId(Uuid::from_u128(1)), false, &[]);
    let (ada_id, bob_id) = (ada.id.to_string(), bob.id.to_string());
    assert_eq!(room.users.get(&own, UserKey::Id(&ada_id)).await.unwrap(), ada);
    assert_eq!(room.users.get(&own, UserKey::Name("Ada")).await.unwrap(), ada);
    for key in [UserKey::Id(&bob_id), UserKey::Name("bob"), UserKey::Name("nobody")] {
        assert_eq!(
            kind(room.users.get(&own, key).await),
            ErrorKind::CallerNotAllowed,
            "{key:?}"
        );
    }
    assert_eq!(
        kind(room.users.list(&own, 0, "", "").await),
        ErrorKind::CallerNotAllowed
    );
    assert_eq!(field(room.users.get(&manager(), UserKey::Id("7")).await), "user_id");
}

#[tokio::test]
async fn pages_are_stable_under_inserts_and_bound_to_their_query() {
    let room = Room::new();
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(room.user(&format!("user{n}"), &[]).await.id);
    }
    let first = room.users.list(&manager(), 2, "", "USER").await.unwrap();
    room.user("user5", &[]).await;
    let second = room
        .users
        .list(&manager(), 2, &first.next_page_token, "user")
        .await
        .unwrap();
    let third = room
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
    let elsewhere = room.users.list(&manager(), 2, &first.next_page_token, "other").await;
    assert_eq!(kind(elsewhere), ErrorKind::PageTokenInvalid);
    assert_eq!(field(room.users.list(&manager(), -1, "", "").await), "page_size");
    assert_eq!(field(room.users.list(&manager(), 0, "", "a\0").await), "query");
    for wild in ["%", "_", "user_"] {
        let none = room.users.list(&manager(), 0, "", wild).await.unwrap();
        assert!(none.items.is_empty(), "{wild} is text, not a pattern");
    }
}

#[tokio::test]
async fn a_stale_update_is_refused_and_a_name_can_be_taken_over() {
    let room = Room::new();
    let (ada, _) = (room.user("ada", &[]).await, room.user("bob", &[]).await);
    let id = ada.id.to_string();
    let rename = |name: &str| (draft(name), names(&["username", "display_name"]));
    let (bob, mask) = rename("BOB");
    let taken = room.users.update(&manager(), &id, &bob, &mask, None).await;
    assert_eq!(kind(taken), ErrorKind::UserExists);
    let (lovelace, mask) = rename("lovelace");
    let updated = room
        .users
        .update(&manager(), &id, &lovelace, &mask, Some(ada.updated))
        .await
        .unwrap();
    assert_eq!(updated.username.as_str(), "lovelace");
    assert!(updated.updated > ada.updated);
    let stale = room
        .users
        .update(&manager(), &id, &lovelace, &mask, Some(ada.updated))
        .await;
    assert_eq!(kind(stale), ErrorKind::StaleUpdate);
    let unknown = room
        .users
        .update(&manager(), &Uuid::from_u128(9).to_string(), &lovelace, &mask, None)
        .await;
    assert_eq!(kind(unknown), ErrorKind::UserNotFound);
}
