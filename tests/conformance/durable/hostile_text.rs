//! Hostile text in every text field: it is read as written, or refused with `INVALID_REQUEST`.

use countersign::model::{AuditEvent, Client, Error, ErrorKind, Result};
use countersign::store::accounts::{Authority, UserChange};
use countersign::store::{AuditQuery, Page};

use super::fresh::{self, TestStore};
use super::samples::*;

on_each!([sqlite, postgres, pooled] [
    hostile_text_is_read_as_written,
    a_search_for_hostile_text_finds_nothing,
    nul_is_refused_in_every_text_field,
]);

/// The Big List of Naughty Strings, and some more.
pub(super) fn naughty() -> Vec<String> {
    let mut list: Vec<String> = serde_json::from_str(include_str!("../../vectors/strings/blns.json")).unwrap();
    list.extend(
        [
            "\r\nFLUSHALL\r\n",
            "{tag}",
            "*",
            "\u{1b}[31mred",
            "'); DROP TABLE users; --",
            "%_\\",
            "\u{10ffff}",
        ]
        .map(str::to_owned),
    );
    list
}

async fn hostile_text_is_read_as_written(fresh: TestStore) {
    let texts: Vec<String> = naughty().into_iter().filter(|text| !text.contains('\0')).collect();
    let mut new = new_user("ada");
    new.user.roles.clone_from(&texts);
    new.user.attributes = texts.iter().map(|text| (text.clone(), text.as_str().into())).collect();
    // Fields with an index take no very long text; the rules of the service allow none.
    let short: String = texts.concat().chars().take(400).collect();
    new.user.email.clone_from(&short);
    new.user.display_name = texts.concat();
    let user = make(&fresh, new).await;
    assert_eq!(fresh.user(user.id).await.unwrap(), Some(user));

    let client = Client {
        display_name: texts.concat(),
        audiences: texts.clone(),
        scopes: texts.clone(),
        ..new_client("web")
    };
    fresh.create_client(&client, None, &some_event()).await.unwrap();
    assert_eq!(fresh.client(&client.id).await.unwrap(), Some(client));

    let mut event = some_event();
    event.subject = short;
    event.origin.actor = texts.concat();
    event.origin.ip_address = texts.concat();
    event.origin.request_id = texts.concat();
    event.details = texts.iter().map(|text| (text.clone(), text.as_str().into())).collect();
    fresh.append_audit(&event).await.unwrap();
    let query = AuditQuery {
        subject: event.subject.clone(),
        ..AuditQuery::default()
    };
    assert_eq!(fresh.list_audit(&query, None, 10).await.unwrap().items, [event]);
}

async fn a_search_for_hostile_text_finds_nothing(fresh: TestStore) {
    make_user(&fresh, "ada").await;
    for text in naughty() {
        let text = text.to_lowercase();
        if text.is_empty() || "ada".starts_with(&text) || text.contains('\0') {
            continue;
        }
        let found = fresh.list_users(&text, None, 10).await.unwrap();
        assert!(found.items.is_empty(), "{text:?}");
        let query = AuditQuery {
            subject: text.clone(),
            ..AuditQuery::default()
        };
        let found = fresh.list_audit(&query, None, 10).await.unwrap();
        assert!(found.items.is_empty(), "{text:?}");
    }
}

async fn nul_is_refused_in_every_text_field(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    let client = make_client(&fresh, "web").await;
    let nul = || "a\0b".to_owned();
    let refused = |what: &str, done: Option<Error>| {
        let kind = done.map(|error| error.kind);
        assert_eq!(kind, Some(ErrorKind::InvalidRequest), "{what}");
    };

    for field in ["email", "display_name", "roles"] {
        let mut new = new_user("eve");
        let mut change = UserChange::default();
        match field {
            "email" => (new.user.email, change.email) = (nul(), Some(nul())),
            "display_name" => (new.user.display_name, change.display_name) = (nul(), Some(nul())),
            _ => (new.user.roles, change.roles) = (vec![nul()], Some(vec![nul()])),
        }
        refused(
            field,
            fresh.create_user(&new, Authority::Admin, &some_event()).await.err(),
        );
        let updated = fresh
            .update_user(user.id, &change, None, Authority::Admin, &some_event())
            .await;
        refused(field, updated.err());
    }
    for field in ["display_name", "audiences", "scopes"] {
        let mut new = new_client("eve");
        let mut change = countersign::model::ClientChange::default();
        match field {
            "display_name" => (new.display_name, change.display_name) = (nul(), Some(nul())),
            "audiences" => (new.audiences, change.audiences) = (vec![nul()], Some(vec![nul()])),
            _ => (new.scopes, change.scopes) = (vec![nul()], Some(vec![nul()])),
        }
        refused(field, fresh.create_client(&new, None, &some_event()).await.err());
        let updated = fresh
            .update_client(&client.id, &change, None, None, &some_event())
            .await;
        refused(field, updated.err());
    }
    refused("query", fresh.list_users(&nul(), None, 1).await.err());
    for query in [
        AuditQuery {
            subject: nul(),
            ..AuditQuery::default()
        },
        AuditQuery {
            kind: nul(),
            ..AuditQuery::default()
        },
    ] {
        let found: Result<Page<AuditEvent>> = fresh.list_audit(&query, None, 1).await;
        refused("audit query", found.err());
    }
    let spoil: [fn(&mut AuditEvent); 5] = [
        |e| e.subject.push('\0'),
        |e| e.origin.actor.push('\0'),
        |e| e.origin.ip_address.push('\0'),
        |e| e.origin.request_id.push('\0'),
        |e| e.client_id.push('\0'),
    ];
    for spoil in spoil {
        let mut event = some_event();
        spoil(&mut event);
        refused("event", fresh.append_audit(&event).await.err());
        refused(
            "event",
            fresh.delete_user(user.id, Authority::Admin, &event).await.err(),
        );
    }
    assert!(fresh.user(user.id).await.unwrap().is_some());
}
