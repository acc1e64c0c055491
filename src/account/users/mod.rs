//! The rules of users.

mod draft;
mod import;
mod passwords;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

pub use draft::UserDraft;
pub use import::{ImportRow, Imported, Rejected};
pub use passwords::ResetToken;
pub use sessions::Sessions;
use unicode_normalization::UnicodeNormalization as _;

use super::{Listing, Principal, Trail, fields, paging};
use crate::clock::{Clock, UnixMillis};
use crate::model::{AuditEvent, AuditType, ErrorKind, Result, Revocation, User, UserId, Username};
use crate::password::Pool;
use crate::revocation::RevocationPublisher;
use crate::secret::{Entropy, SecretText};
use crate::store::UserStore;
use crate::store::accounts::{Authority, NewUser};
use crate::throttle::Throttle;

/// The scope that managing users needs.
const SCOPE: &str = "countersign:users";

/// Creating, reading, changing and deleting users, and their passwords.
pub struct Users {
    /// Where they are kept.
    pub store: Arc<dyn UserStore>,
    /// Checks and hashes passwords.
    pub hashing: Arc<Pool>,
    /// Counts attempts to prove a password.
    pub throttle: Arc<Throttle>,
    /// Where what was done is written down.
    pub trail: Trail,
    /// What follows a revocation.
    pub spread: Arc<RevocationPublisher>,
    /// For ids and times.
    pub clock: Arc<dyn Clock>,
    /// For ids and reset tokens.
    pub entropy: Arc<dyn Entropy>,
    /// Whether anybody may make themselves an account.
    pub open_registration: bool,
}

/// Which user is asked for.
#[derive(Clone, Copy, Debug)]
pub enum UserKey<'a> {
    /// By id.
    Id(&'a str),
    /// By the name they log in with.
    Name(&'a str),
}

impl Users {
    /// Makes a user. Who does not manage users may only register: name, e-mail, display name and password, where the
    /// configuration lets them. Without a password the user cannot log in until one is set.
    pub async fn create(
        &self,
        principal: &Principal,
        draft: &UserDraft,
        password: SecretText,
        deadline: Duration,
    ) -> Result<User> {
        let registers = !principal.holds(SCOPE) && self.open_registration;
        if registers {
            draft.check_registration()?;
        } else {
            principal.require(SCOPE)?;
        }
        let now = self.clock.now();
        let user = draft.check(UserId::generate(now, self.entropy.as_ref()), now)?;
        draft.check_roles(principal)?;
        let password_hash = if password.is_empty() && !registers {
            SecretText::default()
        } else {
            self.hash_new(&user, password, "password", deadline).await?
        };
        let audit = self
            .trail
            .event(AuditType::UserCreated, &user.id, principal.origin())
            .with_detail("username", user.username.as_str())
            .with_detail("roles", user.roles.clone())
            .with_detail("registered", registers);
        let new = NewUser { user, password_hash };
        self.store.create_user(&new, principal.authority(), &audit).await?;
        Ok(new.user)
    }

    /// One user; a person may read themselves.
    pub async fn get(&self, principal: &Principal, key: UserKey<'_>) -> Result<User> {
        let found = match key {
            UserKey::Id(id) => {
                let id = UserId::parse(id, "user_id")?;
                principal.require_or_self(SCOPE, id)?;
                self.store.user(id).await?
            }
            UserKey::Name(name) => {
                let name = Username::parse(name, "username")?;
                let found = self.store.user_by_name(&name).await?;
                // Whether a name exists is told to those alone who manage users.
                match &found {
                    Some(user) => principal.require_or_self(SCOPE, user.id)?,
                    None => principal.require(SCOPE)?,
                }
                found
            }
        };
        found.ok_or_else(|| ErrorKind::UserNotFound.into())
    }

    /// Users in the order in which they were made, whose name or e-mail starts with `query`.
    pub async fn list(
        &self,
        principal: &Principal,
        page_size: i32,
        page_token: &str,
        query: &str,
    ) -> Result<Listing<User>> {
        principal.require(SCOPE)?;
        let limit = paging::size(page_size)?;
        let prefix = match Username::parse(query, "query") {
            // The form in which names are kept, so that case and width do not matter.
            Ok(name) => name.as_str().to_owned(),
            // The beginning of a name or an e-mail need not be a name itself.
            Err(_) => fields::text(query, "query")?.to_lowercase().nfc().collect(),
        };
        let place = paging::Query::new("users", &[&prefix]);
        let after: Option<UserId> = place.key(page_token)?;
        let page = self.store.list_users(&prefix, after, limit).await?;
        Ok(Listing::of(page, &place))
    }

    /// Changes the fields that `mask` names; with `expected`, only if the user's `updated` is still that.
    pub async fn update(
        &self,
        principal: &Principal,
        id: &str,
        draft: &UserDraft,
        mask: &[String],
        expected: Option<UnixMillis>,
    ) -> Result<User> {
        principal.require(SCOPE)?;
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
        self.end(revocation.as_ref()).await;
        Ok(user)
    }

    /// Disables a user and ends everything of theirs, or enables one. Again changes nothing.
    pub async fn set_disabled(&self, principal: &Principal, id: &str, disabled: bool) -> Result<User> {
        let kind = if disabled {
            AuditType::UserDisabled
        } else {
            AuditType::UserEnabled
        };
        let (id, audit) = self.managed(principal, id, kind)?;
        let authority = principal.authority();
        let (user, revocation) = self.store.set_user_disabled(id, disabled, authority, &audit).await?;
        self.end(revocation.as_ref()).await;
        Ok(user)
    }

    /// Deletes a user and ends everything of theirs. The trail keeps the name.
    pub async fn delete(&self, principal: &Principal, id: &str) -> Result<()> {
        let (id, audit) = self.managed(principal, id, AuditType::UserDeleted)?;
        let user = self.existing(id).await?;
        let audit = audit.with_detail("username", user.username.as_str());
        let revocation = self.store.delete_user(id, principal.authority(), &audit).await?;
        self.end(Some(&revocation)).await;
        Ok(())
    }

    /// What every rule that only a manager of users may ask for starts with.
    fn managed(&self, principal: &Principal, id: &str, kind: AuditType) -> Result<(UserId, AuditEvent)> {
        principal.require(SCOPE)?;
        let id = UserId::parse(id, "user_id")?;
        Ok((id, self.trail.event(kind, &id, principal.origin())))
    }

    async fn existing(&self, id: UserId) -> Result<User> {
        let user = self.store.user(id).await?;
        user.ok_or_else(|| ErrorKind::UserNotFound.into())
    }

    /// Ends at once, everywhere, what a recorded revocation kills.
    async fn end(&self, revocation: Option<&Revocation>) {
        if let Some(revocation) = revocation {
            self.spread.spread(revocation).await;
        }
    }
}

/// An ordinary caller leaves admins alone. The store decides it against the row as it is then; asking before spares
/// the hashing.
fn may_touch(authority: Authority, user: &User) -> Result<()> {
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
