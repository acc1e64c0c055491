//! Users, clients and the audit trail.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::clock::UnixMillis;
use crate::model::{
    AuditEvent, Client, ClientChange, ClientId, Epochs, KeyId, Result, Revocation, SessionId, User, UserId, Username,
};
use crate::secret::SecretText;

/// The data for a login with a password, read in one statement, so that all of it is of one moment.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user of that name, if there is one, with the stored password hash (empty if no password is set).
    pub user: Option<(User, SecretText)>,
    /// The client of that id, if there is one.
    pub client: Option<Client>,
    /// The epochs now; 0 where the row is missing.
    pub epochs: Epochs,
    /// The era of the store of sessions.
    pub era: i64,
}

/// The data for a client's own login, read in one statement.
#[derive(Clone, Debug)]
pub struct MachineLogin {
    /// The client, if there is one.
    pub client: Option<Client>,
    /// SHA-256 of the valid secrets: the newest, and older ones until their overlap ends.
    pub secret_hashes: Vec<[u8; 32]>,
    /// The epochs now; `user` is 0.
    pub epochs: Epochs,
}

/// The data for a refresh, all of one moment.
#[derive(Clone, Debug)]
pub struct RefreshView {
    /// The user, unless deleted.
    pub user: Option<User>,
    /// The client, unless deleted.
    pub client: Option<Arc<Client>>,
    /// Whether the session is revoked ([`crate::model::revocation::RevocationSubject::is_revoked_by`]).
    pub revoked: bool,
    /// The signing key that is ACTIVE. A replica whose key ring has another one reloads it.
    pub active_key: Option<KeyId>,
    /// The era of the store of sessions.
    pub era: i64,
}

/// A user to be created.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The row. The caller sets `created`, `updated` and `password_changed`.
    pub user: User,
    /// The PHC string of the password; empty for no password.
    pub password_hash: SecretText,
}

/// The fields that an update of a user sets; `None` leaves a field unchanged.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are User's")]
pub struct UserChange {
    pub username: Option<Username>,
    pub email: Option<String>,
    pub display_name: Option<String>,
    pub roles: Option<Vec<String>>,
    pub attributes: Option<Map<String, Value>>,
    pub disabled: Option<bool>,
}

/// The rights of the caller that changes a user. They are checked inside the transaction, against the locked row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// An admin, or the operator on the store itself: may change everything.
    Admin,
    /// Any other caller: may neither change a user that has the role `admin` nor give that role (`CALLER_NOT_ALLOWED`).
    Ordinary,
}

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// The sort key of the last row, after which the next page starts; none on the last page.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page of at most `limit` rows. A further item tells that there is a next page. `key` is a row's sort key.
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

/// A new password of a user.
#[derive(Clone, Debug)]
pub struct NewPassword {
    /// The user.
    pub user: UserId,
    /// The PHC string.
    pub hash: SecretText,
    /// The stored hash against which the old password was verified; it must not have changed since. None for a reset by
    /// an admin.
    pub verified: Option<SecretText>,
    /// The session that is not revoked.
    pub keep: Option<SessionId>,
}

/// The store of users.
#[async_trait]
pub trait UserStore: Send + Sync {
    /// Reads the data for a login, in one statement. `STORE_UNAVAILABLE` also if the store is known to take no writes: a login
    /// ends with one.
    async fn login(&self, name: &Username, client: &ClientId) -> Result<Login>;

    /// Reads the data for a refresh, nearly always in one round trip. `epochs` are those of the token.
    async fn refresh_view(
        &self,
        user: UserId,
        client: &ClientId,
        session: SessionId,
        epochs: Epochs,
    ) -> Result<RefreshView>;

    /// Records the time of a login. `rehash` replaces the password hash if it is still the verified one (old, new).
    async fn logged_in(
        &self,
        user: UserId,
        at: UnixMillis,
        rehash: Option<(SecretText, SecretText)>,
        audit: &AuditEvent,
    ) -> Result<()>;

    /// Creates a user. `USER_EXISTS` if the name is taken.
    async fn create_user(&self, new: &NewUser, authority: Authority, audit: &AuditEvent) -> Result<()>;

    /// Reads one user.
    async fn user(&self, id: UserId) -> Result<Option<User>>;

    /// Reads one user, by name.
    async fn user_by_name(&self, name: &Username) -> Result<Option<User>>;

    /// Reads a user with the stored password hash (empty if no password is set).
    async fn password_hash(&self, id: UserId) -> Result<Option<(User, SecretText)>>;

    /// Lists the users after `after` whose name or e-mail starts with `prefix` (case-mapped by the caller), sorted by
    /// id.
    async fn list_users(&self, prefix: &str, after: Option<UserId>, limit: u32) -> Result<Page<User>>;

    /// Changes a user. With `expected`, only if `updated` still has that value (`STALE_UPDATE`). Disabling the user or
    /// taking the role `admin` away raises the epoch and records a revocation in the same transaction; giving that role
    /// voids an outstanding reset token.
    async fn update_user(
        &self,
        id: UserId,
        change: &UserChange,
        expected: Option<UnixMillis>,
        authority: Authority,
        audit: &AuditEvent,
    ) -> Result<(User, Option<Revocation>)>;

    /// Deletes a user and revokes all sessions and tokens of the user. `USER_NOT_FOUND` if there is none.
    async fn delete_user(&self, id: UserId, authority: Authority, audit: &AuditEvent) -> Result<Revocation>;

    /// Sets a password, voids an outstanding reset token, and revokes all sessions and tokens of the user except those
    /// of the session `keep`. `INVALID_CREDENTIALS` if `verified` is no longer the stored hash.
    async fn set_password(&self, new: &NewPassword, authority: Authority, audit: &AuditEvent) -> Result<Revocation>;

    /// Stores a one-time token (its SHA-256) for a password reset; it replaces an outstanding one.
    async fn begin_password_reset(
        &self,
        id: UserId,
        token_hash: [u8; 32],
        expires: UnixMillis,
        authority: Authority,
        audit: &AuditEvent,
    ) -> Result<()>;

    /// Reads the user of a reset token that is valid at `now`. The token can be used afterwards: the caller first
    /// checks the new password against the policy.
    async fn password_reset_user(&self, token_hash: [u8; 32], now: UnixMillis) -> Result<Option<User>>;

    /// Uses up a reset token and sets the password, in one transaction. `RESET_TOKEN_INVALID` if it is no longer valid.
    async fn complete_password_reset(
        &self,
        token_hash: [u8; 32],
        hash: &SecretText,
        audit: &AuditEvent,
    ) -> Result<Revocation>;
}

/// The store of clients.
#[async_trait]
pub trait ClientStore: Send + Sync {
    /// Reads the data for a client's own login, in one statement.
    async fn machine_login(&self, id: &ClientId) -> Result<MachineLogin>;

    /// Creates a client. `CLIENT_EXISTS` if the id is taken. The epoch starts at the largest that was recorded for that
    /// id. `session_ttl` raises the high-water mark of session lives.
    async fn create_client(&self, client: &Client, secret_hash: Option<[u8; 32]>, audit: &AuditEvent) -> Result<()>;

    /// Reads one client.
    async fn client(&self, id: &ClientId) -> Result<Option<Client>>;

    /// Lists the clients after `after`, sorted by id.
    async fn list_clients(&self, after: Option<&ClientId>, limit: u32) -> Result<Page<Client>>;

    /// Changes a client. Disabling it or taking a `countersign:*` scope from it raises its epoch and records a
    /// revocation in the same transaction. `callable` are the caller's own `countersign:*` scopes; none for the
    /// operator on the store itself. A client with such a scope that the caller lacks is not changed
    /// (`CALLER_NOT_ALLOWED`).
    async fn update_client(
        &self,
        id: &ClientId,
        change: &ClientChange,
        expected: Option<UnixMillis>,
        callable: Option<&[String]>,
        audit: &AuditEvent,
    ) -> Result<(Client, Option<Revocation>)>;

    /// Deletes a client and revokes all its sessions and tokens. `callable` as in [`ClientStore::update_client`].
    async fn delete_client(&self, id: &ClientId, callable: Option<&[String]>, audit: &AuditEvent)
    -> Result<Revocation>;

    /// Sets a new secret; the old ones stay valid for `overlap`. An overlap of zero revokes all sessions and tokens of
    /// the client. Returns the time at which the old secrets end.
    async fn rotate_client_secret(
        &self,
        id: &ClientId,
        secret_hash: [u8; 32],
        overlap: Duration,
        callable: Option<&[String]>,
        audit: &AuditEvent,
    ) -> Result<(UnixMillis, Option<Revocation>)>;
}

/// A filter for the audit trail; empty fields match every event.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// The id of the user, client or key that the event concerns.
    pub subject: String,
    /// The type; a value that ends in `.` or `*` is a prefix.
    pub kind: String,
    /// The earliest time, inclusive.
    pub since: Option<UnixMillis>,
    /// The latest time, exclusive.
    pub until: Option<UnixMillis>,
}

impl AuditQuery {
    /// Inclusive lower and exclusive upper bound for the ids. The id of an event is a `UUIDv7` of its time.
    pub(super) fn ids(&self, before: Option<Uuid>) -> (Uuid, Uuid) {
        let first =
            |moment: UnixMillis| Uuid::from_u128(u128::from(moment.0.clamp(0, (1 << 48) - 1).unsigned_abs()) << 80);
        let until = self.until.map_or(Uuid::max(), first);
        (
            self.since.map_or(Uuid::nil(), first),
            before.map_or(until, |before| before.min(until)),
        )
    }

    /// Inclusive lower and upper bound for the `kind` filter; equal for an exact match.
    pub(super) fn kinds(&self) -> (String, String) {
        let prefix = self.kind.strip_suffix('*').unwrap_or(&self.kind);
        if prefix.is_empty() || prefix.len() < self.kind.len() || prefix.ends_with('.') {
            return (prefix.to_owned(), format!("{prefix}{}", char::MAX));
        }
        (prefix.to_owned(), prefix.to_owned())
    }
}

/// The audit trail, to which events are only appended.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Appends an event that belongs to no change of the store.
    async fn append_audit(&self, event: &AuditEvent) -> Result<()>;

    /// Appends events that belong to no change of the store and to no session: all or none, in one statement.
    async fn append_audit_events(&self, events: &[AuditEvent]) -> Result<()>;

    /// Lists the events that are older than the event `before`, newest first.
    async fn list_audit(&self, query: &AuditQuery, before: Option<Uuid>, limit: u32) -> Result<Page<AuditEvent>>;

    /// Removes at most `limit` events older than `before` and returns how many.
    async fn purge_audit(&self, before: UnixMillis, limit: u32) -> Result<u32>;
}
