//! Managing users.

mod draft;
mod import;
mod passwords;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

pub use draft::UserDraft;
pub use import::{EndedImport, ImportRow, Imported, RejectedRow};
pub use passwords::ResetToken;
pub use sessions::Sessions;
use unicode_normalization::UnicodeNormalization as _;

use super::{AuditTrail, ListPage, Principal, fields, paging};
use crate::attempts::AttemptLog;
use crate::clock::{Clock, UnixMillis};
use crate::model::{AuditEvent, AuditType, CallerScope, ErrorKind, Result, Revocation, User, UserId, Username};
use crate::password::Pool;
use crate::revocation::RevocationPublisher;
use crate::secret::{Entropy, SecretText};
use crate::store::UserStore;
use crate::store::accounts::{Authority, NewUser, UserChange};
use crate::throttle::Throttle;

/// Creating, reading, changing and deleting users, and their passwords.
pub struct Users {
    /// The store of users.
    pub store: Arc<dyn UserStore>,
    /// Checks and hashes passwords.
    pub hashing: Arc<Pool>,
    /// Limits failed password checks, registrations and calls of users on their own account.
    pub throttle: Arc<Throttle>,
    /// Makes the audit events.
    pub trail: AuditTrail,
    /// The audit rows of failed attempts.
    pub attempts: Arc<AttemptLog>,
    /// Tells every replica about a recorded revocation.
    pub publisher: Arc<RevocationPublisher>,
    /// The clock for ids and times.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids and reset tokens.
    pub entropy: Arc<dyn Entropy>,
    /// Whether every caller may create an account (`users.registration = "open"`).
    pub open_registration: bool,
}

/// How a request names a user.
#[derive(Clone, Copy, Debug)]
pub enum UserKey<'a> {
    /// The id.
    Id(&'a str),
    /// The username.
    Name(&'a str),
}

impl Users {
    /// Creates a user. A principal without `countersign:users` may only register, if the configuration allows it, with a
    /// username, an e-mail address, a display name and a password, and is limited per source. Without a password the user
    /// cannot log in until one is set.
    pub async fn create(
        &self,
        principal: &Principal,
        draft: &UserDraft,
        password: SecretText,
        deadline: Duration,
    ) -> Result<User> {
        let is_registration = !principal.holds(CallerScope::Users) && self.open_registration;
        if is_registration {
            draft.check_registration()?;
        } else {
            principal.require(CallerScope::Users)?;
        }
        let now = self.clock.now();
        let user = draft.check(UserId::generate(now, self.entropy.as_ref()), now)?;
        draft.check_roles(principal)?;
        if is_registration {
            self.throttle.registration(principal.source()).await?;
        }
        let password_hash = if password.is_empty() && !is_registration {
            SecretText::default()
        } else {
            self.hash_new(&user, password, "password", deadline).await?
        };
        let audit = self
            .trail
            .event(AuditType::UserCreated, &user.id, principal.origin())
            .with_detail("username", user.username.as_str())
            .with_detail("roles", user.roles.clone())
            .with_detail("registered", is_registration);
        let new = NewUser { user, password_hash };
        self.store.create_user(&new, principal.authority(), &audit).await?;
        Ok(new.user)
    }

    /// Returns one user. A user may read their own row without a scope.
    pub async fn get(&self, principal: &Principal, key: UserKey<'_>) -> Result<User> {
        let found = match key {
            UserKey::Id(id) => {
                let id = UserId::parse(id, "user_id")?;
                principal.require_or_self(CallerScope::Users, id)?;
                self.store.user(id).await?
            }
            UserKey::Name(name) => {
                let name = Username::parse(name, "username")?;
                let found = self.store.user_by_name(&name).await?;
                // Only a principal that manages users may learn whether a username exists.
                match &found {
                    Some(user) => principal.require_or_self(CallerScope::Users, user.id)?,
                    None => principal.require(CallerScope::Users)?,
                }
                found
            }
        };
        found.ok_or_else(|| ErrorKind::UserNotFound.into())
    }

    /// Lists users whose username or e-mail address starts with `query`, in the order in which they were created.
    pub async fn list(
        &self,
        principal: &Principal,
        page_size: i32,
        page_token: &str,
        query: &str,
    ) -> Result<ListPage<User>> {
        principal.require(CallerScope::Users)?;
        let limit = paging::size(page_size)?;
        let prefix = match Username::parse(query, "query") {
            // The stored form of usernames, so that case and width do not matter.
            Ok(name) => name.as_str().to_owned(),
            // The start of a username or e-mail address need not be a valid username.
            Err(_) => fields::text(query, "query")?.to_lowercase().nfc().collect(),
        };
        let query = paging::ListQuery::new("users", &[&prefix]);
        let after: Option<UserId> = query.page_key(page_token)?;
        let page = self.store.list_users(&prefix, after, limit).await?;
        Ok(ListPage::of(page, &query))
    }

    /// Changes the fields that `mask` names. With `expected`, only if the user's `updated` still has that value.
    pub async fn update(
        &self,
        principal: &Principal,
        id: &str,
        draft: &UserDraft,
        mask: &[String],
        expected: Option<UnixMillis>,
    ) -> Result<User> {
        principal.require(CallerScope::Users)?;
        let id = UserId::parse(id, "user.user_id")?;
        let change = draft.change(mask)?;
        let mut audit = self
            .trail
            .event(AuditType::UserUpdated, &id, principal.origin())
            .with_detail("fields", mask.to_vec());
        if let Some(roles) = &change.roles {
            draft.check_roles(principal)?;
            audit = audit.with_detail("roles", roles.clone());
        }
        if let Some(username) = &change.username {
            audit = audit.with_detail("username", username.as_str());
        }
        let authority = principal.authority();
        let (user, revocation) = self.store.update_user(id, &change, expected, authority, &audit).await?;
        self.publish(revocation.as_ref()).await;
        Ok(user)
    }

    /// Disables a user and revokes their sessions and tokens, or enables a user. Repeating it changes nothing.
    pub async fn set_disabled(&self, principal: &Principal, id: &str, disabled: bool) -> Result<User> {
        let kind = if disabled {
            AuditType::UserDisabled
        } else {
            AuditType::UserEnabled
        };
        let (id, audit) = self.authorize(principal, id, kind)?;
        let authority = principal.authority();
        let change = UserChange {
            disabled: Some(disabled),
            ..UserChange::default()
        };
        let (user, revocation) = self.store.update_user(id, &change, None, authority, &audit).await?;
        self.publish(revocation.as_ref()).await;
        Ok(user)
    }

    /// Deletes a user and revokes their sessions and tokens. The audit trail keeps the username.
    pub async fn delete(&self, principal: &Principal, id: &str) -> Result<()> {
        let (id, audit) = self.authorize(principal, id, AuditType::UserDeleted)?;
        let user = self.require_user(id).await?;
        let audit = audit.with_detail("username", user.username.as_str());
        let revocation = self.store.delete_user(id, principal.authority(), &audit).await?;
        self.publish(Some(&revocation)).await;
        Ok(())
    }

    /// The first step of an operation that needs `countersign:users`: checks the scope, parses the user id and starts the
    /// audit event.
    fn authorize(&self, principal: &Principal, id: &str, kind: AuditType) -> Result<(UserId, AuditEvent)> {
        principal.require(CallerScope::Users)?;
        let id = UserId::parse(id, "user_id")?;
        Ok((id, self.trail.event(kind, &id, principal.origin())))
    }

    async fn require_user(&self, id: UserId) -> Result<User> {
        let user = self.store.user(id).await?;
        user.ok_or_else(|| ErrorKind::UserNotFound.into())
    }

    /// Tells every replica about a revocation that the store has recorded.
    async fn publish(&self, revocation: Option<&Revocation>) {
        if let Some(revocation) = revocation {
            self.publisher.publish(revocation).await;
        }
    }
}

/// Refuses a principal that is not an admin if `user` is one. The store decides this again against the current row; checking
/// it first saves the cost of hashing a password.
fn require_authority_over(authority: Authority, user: &User) -> Result<()> {
    match authority {
        Authority::Ordinary if user.is_admin() => Err(ErrorKind::CallerNotAllowed.into()),
        Authority::Ordinary | Authority::Admin => Ok(()),
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Users")
    }
}
