//! Users, clients, keys and events to test with.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use countersign::clock::{Clock as _, SystemClock, UnixMillis};
use countersign::model::audit::Origin;
use countersign::model::{
    Algorithm, AuditEvent, AuditType, Client, ClientId, Epochs, Grant, KeyId, KeyState, ReusePolicy, Revocation,
    SessionId, Target, User, UserId, Username, new_uuid,
};
use countersign::secret::{SecretText, SystemEntropy, random};
use countersign::store::accounts::{Authority, NewUser, UserChange};
use countersign::store::keys::{SecretPurpose, SecretRow, SigningRow};
use countersign::store::{Expiry, NewRevocation};
use uuid::Uuid;

use super::fresh::TestStore;

pub(crate) fn now() -> UnixMillis {
    SystemClock::new().now()
}

pub(crate) fn uuid() -> Uuid {
    new_uuid(now(), &SystemEntropy)
}

pub(crate) fn session() -> SessionId {
    SessionId(uuid())
}

pub(crate) fn client_id(id: &str) -> ClientId {
    ClientId::parse(id, "client_id").unwrap()
}

pub(crate) fn name(name: &str) -> Username {
    Username::parse(name, "username").unwrap()
}

/// An event about `subject`.
pub(crate) fn event(kind: AuditType, subject: &impl ToString) -> AuditEvent {
    let origin = Origin {
        actor: "cli".into(),
        ip_address: "192.0.2.7".into(),
        request_id: "r-1".into(),
    };
    AuditEvent::new(kind, subject, &origin, now(), &SystemEntropy)
        .with_client(&ClientId::default())
        .with_session(session())
        .with_detail("why", "a \"test\" \0 with everything: é, \u{1F98A}")
}

/// Any event.
pub(crate) fn some_event() -> AuditEvent {
    event(AuditType::UserUpdated, &"somebody")
}

/// A user with a value in every field.
pub(crate) fn new_user(username: &str) -> NewUser {
    let now = now();
    let attributes = serde_json::json!({ "tier": 2, "ratio": 0.1, "nested": { "a": [null, true, "\u{0}é"] } });
    NewUser {
        user: User {
            id: UserId(uuid()),
            username: name(username),
            email: format!("{username}@Example.org"),
            display_name: "Ada, Countess of Lovelace".into(),
            roles: vec!["editor".into(), "reader".into()],
            attributes: attributes.as_object().unwrap().clone(),
            disabled: false,
            created: now,
            updated: now,
            password_changed: now,
            last_login: None,
        },
        password_hash: SecretText::new("$argon2id$canary-of-a-hash"),
    }
}

pub(crate) fn new_admin(username: &str) -> NewUser {
    let mut new = new_user(username);
    new.user.roles = vec!["admin".into(), "reader".into()];
    new
}

/// A change that disables or enables a user.
pub(crate) fn disabled(disabled: bool) -> UserChange {
    UserChange {
        disabled: Some(disabled),
        ..UserChange::default()
    }
}

/// Creates a user.
pub(crate) async fn make(fresh: &TestStore, new: NewUser) -> User {
    fresh.create_user(&new, Authority::Admin, &some_event()).await.unwrap();
    new.user
}

/// Creates a user with a value in every field.
pub(crate) async fn make_user(fresh: &TestStore, username: &str) -> User {
    make(fresh, new_user(username)).await
}

/// A client with a value in every field.
pub(crate) fn new_client(id: &str) -> Client {
    let now = now();
    Client {
        id: client_id(id),
        display_name: "The shop".into(),
        grants: vec![Grant::Password, Grant::ClientSecret, Grant::Exchange],
        audiences: vec!["api".into(), "*".into()],
        scopes: vec!["read".into(), "countersign:issue".into()],
        access_token_ttl: Some(Duration::from_millis(900_001)),
        refresh_idle_ttl: None,
        session_ttl: Some(Duration::from_hours(48)),
        refresh_grace: Some(Duration::ZERO),
        reuse_policy: Some(ReusePolicy::Tolerant),
        max_sessions_per_user: 7,
        disabled: false,
        created: now,
        updated: now,
    }
}

/// Creates a client with a value in every field.
pub(crate) async fn make_client(fresh: &TestStore, id: &str) -> Client {
    let client = new_client(id);
    fresh.create_client(&client, None, &some_event()).await.unwrap();
    client
}

/// A random key id: 43 characters of base64url.
pub(crate) fn key_id() -> KeyId {
    KeyId::parse(
        &format!("{}{}", uuid().simple(), &uuid().simple().to_string()[..11]),
        "key_id",
    )
    .unwrap()
}

/// A key that is younger than all earlier ones. Lists are ordered by age, and two keys may be made in one millisecond.
pub(crate) fn signing(state: KeyState) -> SigningRow {
    static OFFSET: AtomicI64 = AtomicI64::new(0);
    let created = UnixMillis(now().0 + OFFSET.fetch_add(1, Ordering::Relaxed));
    let at = |is| (state == is).then(now);
    SigningRow {
        id: key_id(),
        algorithm: Algorithm::EdDsa,
        public_jwk: r#"{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#.into(),
        sealed: random::<48>(&SystemEntropy).to_vec(),
        state,
        created,
        activated: at(KeyState::Active),
        retired: at(KeyState::Retired),
        revoked: at(KeyState::Revoked),
    }
}

pub(crate) fn secret(purpose: SecretPurpose, id: u32) -> SecretRow {
    SecretRow {
        purpose,
        id,
        sealed: random::<48>(&SystemEntropy).to_vec(),
        created: now(),
    }
}

pub(crate) fn everything_of(user: UserId) -> Target {
    Target::User { id: user, keep: None }
}

/// Stores a revocation of `target` that expires in an hour.
pub(crate) async fn revoke(fresh: &TestStore, target: Target) -> Option<Revocation> {
    let new = NewRevocation {
        target,
        expires: Expiry::At(now().plus(Duration::from_hours(1))),
    };
    fresh.revoke(&new, &some_event()).await.unwrap().revocation
}

/// The epochs that a login would read.
pub(crate) async fn epochs(fresh: &TestStore, user: &User, client: &str) -> Epochs {
    fresh.login(&user.username, &client_id(client)).await.unwrap().epochs
}

/// How many events about `subject` are stored.
pub(crate) async fn events_on(fresh: &TestStore, subject: &impl ToString) -> usize {
    let query = countersign::store::AuditQuery {
        subject: subject.to_string(),
        ..Default::default()
    };
    fresh.list_audit(&query, None, 10_000).await.unwrap().items.len()
}
