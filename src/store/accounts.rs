//! Users, clients and the audit trail.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::clock::UnixMillis;
use crate::model::{
    AuditEvent, Client, ClientChange, ClientId, Epochs, KeyId, Result, Revocation, SessionId, User, UserId, Username,
};
use crate::secret::SecretText;

/// What a login with a password reads, in one statement: everything is of one moment, before any hashing.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user of that name, if there is one, with the stored password hash (empty: no password is set).
    pub user: Option<(User, SecretText)>,
    /// The client of that id, if there is one.
    pub client: Option<Client>,
    /// The epochs now; 0 where the row is missing.
    pub epochs: Epochs,
    /// The era of the store of sessions.
    pub era: i64,
}

/// What a client's own login reads, in one statement.
#[derive(Clone, Debug)]
pub struct MachineLogin {
    /// The client, if there is one.
    pub client: Option<Client>,
    /// SHA-256 of the secrets that are good now: the newest, and older ones while their overlap lasts.
    pub secret_hashes: Vec<[u8; 32]>,
    /// The epochs now; `user` is 0.
    pub epochs: Epochs,
}

/// What a refresh reads, in one round trip.
#[derive(Clone, Debug)]
pub struct RefreshView {
    /// The user, unless deleted.
    pub user: Option<User>,
    /// The client, unless deleted.
    pub client: Option<Client>,
    /// Whether a recorded revocation kills the session ([`crate::model::revocation::RevocationSubject::is_revoked_by`]).
    pub revoked: bool,
    /// The signing key that is ACTIVE: a ring that differs is reloaded.
    pub active_key: Option<KeyId>,
    /// The era of the store of sessions.
    pub era: i64,
}

/// A user to be made.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The row; its `created`, `updated` and `password_changed` are the caller's.
    pub user: User,
    /// The PHC string of the password; empty for none.
    pub password_hash: SecretText,
}

/// What an update of a user changes; `None` leaves a field alone.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are User's")]
pub struct UserChange {
    pub username: Option<Username>,
    pub email: Option<String>,
    pub display_name: Option<String>,
    pub roles: Option<Vec<String>>,
    pub attributes: Option<Map<String, Value>>,
}

/// The power of whoever changes a user: checked inside the transaction, against the row as it is then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// An admin, or the store's owner: anything.
    Admin,
    /// Anybody else: not a user who holds `admin`, and not the role itself (`CALLER_NOT_ALLOWED`).
    Ordinary,
}

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page starts (exclusive): the last row's sort key; none at the end.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The page of `limit` rows, of one more than that where there are more; `key` is a row's sort key.
    pub(super) fn of(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> Self {
        let limit = limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        Self {
            next: items.last().filter(|_| more).map(key),
            items,
        }
    }
}

/// A new password, and what it ends.
#[derive(Clone, Debug)]
pub struct NewPassword {
    /// Whose.
    pub user: UserId,
    /// Its PHC string.
    pub hash: SecretText,
    /// Only if the stored hash is still this one (a change proved the old password against it); none for a reset by an admin.
    pub verified: Option<SecretText>,
    /// The session that lives on.
    pub keep: Option<SessionId>,
}

/// Users.
#[async_trait]
pub trait UserStore: Send + Sync {
    /// Reads what a login needs, in one statement.
    async fn login(&self, name: &Username, client: &ClientId) -> Result<Login>;

    /// Reads what a refresh needs, in one round trip. `epochs` are the token's.
    async fn refresh_view(
        &self,
        user: UserId,
        client: &ClientId,
        session: SessionId,
        epochs: Epochs,
    ) -> Result<RefreshView>;

    /// Notes a login. `rehash` replaces the password hash if it is still the verified one (old, new).
    async fn logged_in(
        &self,
        user: UserId,
        at: UnixMillis,
        rehash: Option<(SecretText, SecretText)>,
        audit: &AuditEvent,
    ) -> Result<()>;

    /// Makes a user. `USER_EXISTS` if the name is taken.
    async fn create_user(&self, new: &NewUser, authority: Authority, audit: &AuditEvent) -> Result<()>;

    /// One user.
    async fn user(&self, id: UserId) -> Result<Option<User>>;

    /// One user, by name.
    async fn user_by_name(&self, name: &Username) -> Result<Option<User>>;

    /// The stored password hash (empty: none is set), to check an old password against.
    async fn password_hash(&self, id: UserId) -> Result<Option<(User, SecretText)>>;

    /// Users whose name or e-mail starts with `prefix` (case-mapped by the caller), sorted by id, after `after`.
    async fn list_users(&self, prefix: &str, after: Option<UserId>, limit: u32) -> Result<Page<User>>;

    /// Changes a user. With `expected`, only if `updated` is still that (`STALE_UPDATE`). Losing `admin` raises the
    /// epoch and is recorded as a revocation in the same transaction; gaining it voids an outstanding reset token.
    async fn update_user(
        &self,
        id: UserId,
        change: &UserChange,
        expected: Option<UnixMillis>,
        authority: Authority,
        audit: &AuditEvent,
    ) -> Result<(User, Option<Revocation>)>;

    /// Disables (with a revocation of everything of theirs) or enables a user.
    async fn set_user_disabled(
        &self,
        id: UserId,
        disabled: bool,
        authority: Authority,
        audit: &AuditEvent,
    ) -> Result<(User, Option<Revocation>)>;

    /// Deletes a user, with a revocation of everything of theirs. `USER_NOT_FOUND` if there is none.
    async fn delete_user(&self, id: UserId, authority: Authority, audit: &AuditEvent) -> Result<Revocation>;

    /// Sets a password, voids outstanding reset tokens, and revokes everything of theirs but `keep`.
    /// `INVALID_CREDENTIALS` if `verified` is no longer the stored hash.
    async fn set_password(&self, new: &NewPassword, authority: Authority, audit: &AuditEvent) -> Result<Revocation>;

    /// Notes a one-time token (its SHA-256) for a password reset; it replaces an outstanding one.
    async fn begin_password_reset(
        &self,
        id: UserId,
        token_hash: [u8; 32],
        expires: UnixMillis,
        authority: Authority,
        audit: &AuditEvent,
    ) -> Result<()>;

    /// Whose reset token this is, if it is good at `now`. Uses nothing up: the caller checks the policy first.
    async fn password_reset_user(&self, token_hash: [u8; 32], now: UnixMillis) -> Result<Option<User>>;

    /// Uses a reset token up and sets the password, in one transaction. `RESET_TOKEN_INVALID` if it is no longer good.
    async fn complete_password_reset(
        &self,
        token_hash: [u8; 32],
        hash: &SecretText,
        audit: &AuditEvent,
    ) -> Result<Revocation>;
}

/// Clients.
#[async_trait]
pub trait ClientStore: Send + Sync {
    /// Reads what a client's own login needs, in one statement.
    async fn machine_login(&self, id: &ClientId) -> Result<MachineLogin>;

    /// Makes a client. `CLIENT_EXISTS` if the id is taken. Its epoch starts from the largest ever recorded for that id.
    /// `session_ttl` raises the high-water mark of session lives.
    async fn create_client(&self, client: &Client, secret_hash: Option<[u8; 32]>, audit: &AuditEvent) -> Result<()>;

    /// Makes the client `default` unless there is one. Only one of several racing replicas makes it.
    async fn ensure_default_client(&self, client: &Client, audit: &AuditEvent) -> Result<bool>;

    /// One client.
    async fn client(&self, id: &ClientId) -> Result<Option<Client>>;

    /// Clients sorted by id, after `after`.
    async fn list_clients(&self, after: Option<&ClientId>, limit: u32) -> Result<Page<Client>>;

    /// Changes a client. Disabling it or taking a `countersign:*` scope from it raises its epoch and is recorded as a
    /// revocation in the same transaction. `callable` are the caller's own `countersign:*` scopes (none: the store's
    /// owner): a client that has one which is not among them is not changed (`CALLER_NOT_ALLOWED`).
    async fn update_client(
        &self,
        id: &ClientId,
        change: &ClientChange,
        expected: Option<UnixMillis>,
        callable: Option<&[String]>,
        audit: &AuditEvent,
    ) -> Result<(Client, Option<Revocation>)>;

    /// Deletes a client, with a revocation of everything at it. `callable` as in [`ClientStore::update_client`].
    async fn delete_client(&self, id: &ClientId, callable: Option<&[String]>, audit: &AuditEvent)
    -> Result<Revocation>;

    /// Sets a new secret; the old ones are good for `overlap` more. With no overlap everything at the client that is
    /// older is revoked. Answers when the old secret ends.
    async fn rotate_client_secret(
        &self,
        id: &ClientId,
        secret_hash: [u8; 32],
        overlap: Duration,
        callable: Option<&[String]>,
        audit: &AuditEvent,
    ) -> Result<(UnixMillis, Option<Revocation>)>;
}

/// Which events of the audit trail; empty fields are not looked at.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// On whom.
    pub subject: String,
    /// Of which type, exactly; ending in `.` or `*` a prefix.
    pub kind: String,
    /// Not before.
    pub since: Option<UnixMillis>,
    /// Before.
    pub until: Option<UnixMillis>,
}

impl AuditQuery {
    /// Where the ids lie: from the first, before the second. An event's id is a `UUIDv7` of its time.
    pub(super) fn ids(&self, before: Option<Uuid>) -> (Uuid, Uuid) {
        let first =
            |moment: UnixMillis| Uuid::from_u128(u128::from(moment.0.clamp(0, (1 << 48) - 1).unsigned_abs()) << 80);
        let until = self.until.map_or(Uuid::max(), first);
        (
            self.since.map_or(Uuid::nil(), first),
            before.map_or(until, |before| before.min(until)),
        )
    }

    /// Between which two texts the types lie, both included; equal where only one will do.
    pub(super) fn kinds(&self) -> (String, String) {
        let prefix = self.kind.strip_suffix('*').unwrap_or(&self.kind);
        if prefix.is_empty() || prefix.len() < self.kind.len() || prefix.ends_with('.') {
            return (prefix.to_owned(), format!("{prefix}{}", char::MAX));
        }
        (prefix.to_owned(), prefix.to_owned())
    }
}

/// The audit trail: append-only.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Appends one event that belongs to no other change.
    async fn append_audit(&self, event: &AuditEvent) -> Result<()>;

    /// Events, newest first, before the event with the id `before`.
    async fn list_audit(&self, query: &AuditQuery, before: Option<Uuid>, limit: u32) -> Result<Page<AuditEvent>>;

    /// Removes at most `limit` events older than `before`; how many it removed.
    async fn purge_audit(&self, before: UnixMillis, limit: u32) -> Result<u32>;
}
