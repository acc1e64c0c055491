use countersign::clock::UnixMillis;
use countersign::model::{AuditType, ErrorKind, User, UserId};
use countersign::secret::{SecretText, SystemEntropy};
use countersign::store::accounts::{Authority, NewPassword, UserChange};

use super::fresh::{self, TestStore};
use super::samples::*;

on_each!([sqlite, postgres, pooled] [
    a_user_is_read_as_created,
    names_are_unique,
    an_update_changes_the_fields_it_names,
    an_update_of_a_row_that_changed_since_it_was_read_is_refused,
    only_an_admin_changes_an_admin,
    losing_admin_ends_older_sessions,
    disabling_ends_older_sessions_and_enabling_does_not,
    deletion_keeps_the_revocations,
    a_login_reads_user_client_and_epochs,
    a_login_is_recorded_and_replaces_only_the_verified_hash,
    a_list_finds_users_by_prefix_of_name_or_address,
    pages_are_stable_while_users_are_added_and_deleted,
    debug_output_contains_no_hash,
]);

fn roles(roles: &[&str]) -> UserChange {
    UserChange {
        roles: Some(roles.iter().map(ToString::to_string).collect()),
        ..UserChange::default()
    }
}

async fn a_user_is_read_as_created(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    assert_eq!(fresh.user(user.id).await.unwrap(), Some(user.clone()));
    assert_eq!(fresh.user_by_name(&user.username).await.unwrap(), Some(user.clone()));
    let (read, hash) = fresh.password_hash(user.id).await.unwrap().unwrap();
    assert_eq!((read, hash), (user, SecretText::new("$argon2id$canary-of-a-hash")));

    assert_eq!(fresh.user(UserId(uuid())).await.unwrap(), None);
    assert_eq!(fresh.user_by_name(&name("nobody")).await.unwrap(), None);
    assert!(fresh.password_hash(UserId(uuid())).await.unwrap().is_none());
}

async fn names_are_unique(fresh: TestStore) {
    let ada = make_user(&fresh, "ada").await;
    let bob = make_user(&fresh, "bob").await;
    let taken = event(AuditType::UserCreated, &"taken");
    let error = fresh
        .create_user(&new_user("ada"), Authority::Admin, &taken)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::UserExists);
    let rename = UserChange {
        username: Some(ada.username.clone()),
        ..UserChange::default()
    };
    let error = fresh
        .update_user(bob.id, &rename, None, Authority::Admin, &taken)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::UserExists);
    assert_eq!(events_on(&fresh, &"taken").await, 0, "no event without its change");

    // Of many creations at once, exactly one gets the name.
    let racers = (0..8).map(|_| {
        let fresh = fresh.clone();
        async move {
            fresh
                .create_user(&new_user("eve"), Authority::Admin, &some_event())
                .await
                .is_ok()
        }
    });
    let won = futures_util::future::join_all(racers).await;
    assert_eq!(won.into_iter().filter(|won| *won).count(), 1);

    fresh
        .delete_user(ada.id, Authority::Admin, &some_event())
        .await
        .unwrap();
    make_user(&fresh, "ada").await;
}

async fn an_update_changes_the_fields_it_names(fresh: TestStore) {
    let before = make_user(&fresh, "ada").await;
    let change = UserChange {
        username: Some(name("countess")),
        email: Some(String::new()),
        roles: Some(Vec::new()),
        ..UserChange::default()
    };
    let (after, revocation) = fresh
        .update_user(
            before.id,
            &change,
            None,
            Authority::Ordinary,
            &event(AuditType::UserUpdated, &before.id),
        )
        .await
        .unwrap();
    assert_eq!(revocation, None);
    assert!(after.updated > before.updated);
    let expected = User {
        username: name("countess"),
        email: String::new(),
        roles: Vec::new(),
        updated: after.updated,
        ..before
    };
    assert_eq!(after, expected);
    assert_eq!(fresh.user(after.id).await.unwrap(), Some(after.clone()));
    assert_eq!(events_on(&fresh, &after.id).await, 1);

    let error = fresh
        .update_user(UserId(uuid()), &change, None, Authority::Admin, &some_event())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::UserNotFound);
}

async fn an_update_of_a_row_that_changed_since_it_was_read_is_refused(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    let attempts = (0..8).map(|_| {
        let (fresh, id, seen) = (fresh.clone(), user.id, user.updated);
        async move {
            let event = event(AuditType::UserUpdated, &id);
            fresh
                .update_user(id, &roles(&["reader"]), Some(seen), Authority::Admin, &event)
                .await
        }
    });
    let done = futures_util::future::join_all(attempts).await;
    let lost: Vec<_> = done
        .iter()
        .filter_map(|done| done.as_ref().err().map(|e| e.kind))
        .collect();
    assert_eq!(
        lost,
        [ErrorKind::StaleUpdate; 7],
        "only one update read the current row"
    );
    assert_eq!(events_on(&fresh, &user.id).await, 1);
}

async fn only_an_admin_changes_an_admin(fresh: TestStore) {
    let ordinary = Authority::Ordinary;
    let refused = event(AuditType::UserUpdated, &"refused");
    let admin = make(&fresh, new_admin("root")).await;
    let user = make_user(&fresh, "ada").await;
    let password = NewPassword {
        user: admin.id,
        hash: SecretText::new("$argon2id$other"),
        verified: None,
        keep: None,
    };
    let errors = [
        fresh
            .create_user(&new_admin("eve"), ordinary, &refused)
            .await
            .unwrap_err(),
        fresh
            .update_user(admin.id, &roles(&["x"]), None, ordinary, &refused)
            .await
            .unwrap_err(),
        fresh
            .update_user(user.id, &roles(&["admin"]), None, ordinary, &refused)
            .await
            .unwrap_err(),
        fresh
            .update_user(admin.id, &disabled(true), None, ordinary, &refused)
            .await
            .unwrap_err(),
        fresh
            .update_user(admin.id, &disabled(false), None, ordinary, &refused)
            .await
            .unwrap_err(),
        fresh.delete_user(admin.id, ordinary, &refused).await.unwrap_err(),
        fresh.set_password(&password, ordinary, &refused).await.unwrap_err(),
        fresh
            .begin_password_reset(admin.id, [7; 32], UnixMillis(i64::MAX), ordinary, &refused)
            .await
            .unwrap_err(),
    ];
    assert_eq!(errors.map(|error| error.kind), [ErrorKind::CallerNotAllowed; 8]);
    assert_eq!(fresh.user(admin.id).await.unwrap(), Some(admin.clone()));
    assert_eq!(events_on(&fresh, &"refused").await, 0);
    assert_eq!(epochs(&fresh, &admin, "default").await.user, 0);
}

async fn losing_admin_ends_older_sessions(fresh: TestStore) {
    let admin = make(&fresh, new_admin("root")).await;
    let kept = roles(&["admin", "x"]);
    let (_, revocation) = fresh
        .update_user(admin.id, &kept, None, Authority::Admin, &some_event())
        .await
        .unwrap();
    assert_eq!(revocation, None, "nothing was lost");
    let (_, revocation) = fresh
        .update_user(admin.id, &roles(&["x"]), None, Authority::Admin, &some_event())
        .await
        .unwrap();
    let revocation = revocation.unwrap();
    assert_eq!(revocation.target, everything_of(admin.id));
    assert_eq!(epochs(&fresh, &admin, "default").await.user, revocation.epoch);
}

async fn disabling_ends_older_sessions_and_enabling_does_not(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    let set = async |yes| {
        fresh
            .update_user(user.id, &disabled(yes), None, Authority::Ordinary, &some_event())
            .await
            .unwrap()
    };
    let (changed, revocation) = set(true).await;
    assert!(changed.disabled && changed.updated > user.updated);
    let epoch = revocation.unwrap().epoch;
    assert_eq!(epochs(&fresh, &user, "default").await.user, epoch);
    let (enabled, revocation) = set(false).await;
    assert!(!enabled.disabled && revocation.is_none());
    assert_eq!(epochs(&fresh, &user, "default").await.user, epoch);
    let error = fresh
        .update_user(UserId(uuid()), &disabled(true), None, Authority::Admin, &some_event())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::UserNotFound);
}

async fn deletion_keeps_the_revocations(fresh: TestStore) {
    let new = new_user("ada");
    let user = make(&fresh, new.clone()).await;
    let revocation = fresh
        .delete_user(user.id, Authority::Ordinary, &some_event())
        .await
        .unwrap();
    assert_eq!(fresh.user(user.id).await.unwrap(), None);
    let loaded = fresh.load_revocations(UnixMillis(0)).await.unwrap();
    assert_eq!(loaded.rows, std::slice::from_ref(&revocation));

    // A new user with the same id: the epochs in old sessions must stay smaller.
    make(&fresh, new).await;
    assert_eq!(epochs(&fresh, &user, "default").await.user, revocation.epoch);

    let gone = fresh
        .delete_user(UserId(uuid()), Authority::Admin, &some_event())
        .await
        .unwrap_err();
    assert_eq!(gone.kind, ErrorKind::UserNotFound);
}

async fn a_login_reads_user_client_and_epochs(fresh: TestStore) {
    let nothing = fresh.login(&name("nobody"), &client_id("nothing")).await.unwrap();
    assert!(nothing.user.is_none() && nothing.client.is_none());
    assert_eq!((nothing.epochs.user, nothing.epochs.client), (0, 0));

    let user = make_user(&fresh, "ada").await;
    let client = make_client(&fresh, "web").await;
    let of_user = revoke(&fresh, everything_of(user.id)).await.unwrap();
    let of_client = revoke(&fresh, countersign::model::Target::Client(client.id.clone()))
        .await
        .unwrap();
    let of_all = revoke(&fresh, countersign::model::Target::Global).await.unwrap();
    let login = fresh.login(&user.username, &client.id).await.unwrap();
    assert_eq!(login.client, Some(client.clone()));
    let (read, hash) = login.user.unwrap();
    assert_eq!((read, hash.expose()), (user, "$argon2id$canary-of-a-hash"));
    assert_eq!(
        (login.epochs.user, login.epochs.client, login.epochs.global),
        (of_user.epoch, of_client.epoch, of_all.epoch)
    );
    let machine = fresh.machine_login(&client.id).await.unwrap();
    assert_eq!(machine.client, Some(client));
    assert_eq!(
        (machine.epochs.user, machine.epochs.client, machine.epochs.global),
        (0, of_client.epoch, of_all.epoch)
    );
}

async fn a_login_is_recorded_and_replaces_only_the_verified_hash(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    let rehash = |old: &str| Some((SecretText::new(old), SecretText::new("$argon2id$new")));
    let hash = async || fresh.password_hash(user.id).await.unwrap().unwrap().1;

    let at = UnixMillis(user.created.0 + 5);
    let event = event(AuditType::TokenIssued, &user.id);
    fresh
        .logged_in(user.id, at, rehash("$argon2id$changed-meanwhile"), &event)
        .await
        .unwrap();
    assert_eq!(hash().await.expose(), "$argon2id$canary-of-a-hash");
    fresh
        .logged_in(
            user.id,
            UnixMillis(1),
            rehash("$argon2id$canary-of-a-hash"),
            &some_event(),
        )
        .await
        .unwrap();
    assert_eq!(hash().await.expose(), "$argon2id$new");

    let read = fresh.user(user.id).await.unwrap().unwrap();
    assert_eq!(read.last_login, Some(at), "it never moves back");
    assert_eq!(read.updated, user.updated, "a login does not change `updated`");
    assert_eq!(events_on(&fresh, &user.id).await, 1);
}

async fn a_list_finds_users_by_prefix_of_name_or_address(fresh: TestStore) {
    for (username, email) in [
        ("ada", "lovelace@x.org"),
        ("adam", ""),
        ("b%b", "ADA@x.org"),
        ("über", "u@x.org"),
    ] {
        let mut new = new_user(username);
        email.clone_into(&mut new.user.email);
        make(&fresh, new).await;
    }
    let found = async |prefix: &str| -> Vec<String> {
        let page = fresh.list_users(prefix, None, 10).await.unwrap();
        let mut names: Vec<_> = page.items.iter().map(|user| user.username.to_string()).collect();
        // Users made in one millisecond are in any order.
        names.sort_unstable();
        names
    };
    assert_eq!(found("").await, ["ada", "adam", "b%b", "über"]);
    assert_eq!(found("ada").await, ["ada", "adam", "b%b"]);
    assert_eq!(found("lovelace@").await, ["ada"]);
    assert_eq!(found("ü").await, ["über"]);
    for nothing in ["%", "_da", "b_b", "da", "adamo", "*", "'", "\\"] {
        assert!(found(nothing).await.is_empty(), "{nothing}");
    }
    assert_eq!(found("b%").await, ["b%b"]);
}

async fn pages_are_stable_while_users_are_added_and_deleted(fresh: TestStore) {
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(make_user(&fresh, &format!("user{n}")).await.id);
    }
    // Users made in one millisecond are in any order.
    ids.sort_unstable();
    let first = fresh.list_users("user", None, 3).await.unwrap();
    assert_eq!(first.items.iter().map(|u| u.id).collect::<Vec<_>>(), ids[..3]);
    let next = first.next.unwrap().parse::<UserId>().unwrap();
    assert_eq!(next, ids[2]);

    // The last user of the page is deleted and others are added: none is returned twice or left out.
    fresh
        .delete_user(ids[2], Authority::Admin, &some_event())
        .await
        .unwrap();
    let mut last = new_user("user7");
    last.user.id = UserId::generate(now().plus(std::time::Duration::from_secs(1)), &SystemEntropy);
    ids.push(make(&fresh, last).await.id);
    let second = fresh.list_users("user", Some(next), 3).await.unwrap();
    assert_eq!(second.items.iter().map(|u| u.id).collect::<Vec<_>>(), ids[3..6]);
    let third = fresh.list_users("user", Some(ids[5]), 3).await.unwrap();
    assert_eq!(third.items.iter().map(|u| u.id).collect::<Vec<_>>(), ids[6..]);
    assert_eq!(third.next, None);
    let exact = fresh.list_users("user", Some(ids[5]), 2).await.unwrap();
    assert_eq!((exact.items.len(), exact.next), (2, None), "no page after the last row");
}

async fn debug_output_contains_no_hash(fresh: TestStore) {
    let new = new_user("ada");
    let user = make(&fresh, new.clone()).await;
    let login = fresh.login(&user.username, &client_id("web")).await.unwrap();
    let read = fresh.password_hash(user.id).await.unwrap();
    let shown = format!("{new:?} {login:?} {read:?}");
    assert!(!shown.contains("canary"), "{shown}");
}
