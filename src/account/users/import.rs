//! Users of another system, with the password hashes that it made.

use futures_util::{Stream, StreamExt as _};

use super::{SCOPE, UserDraft, Users};
use crate::account::Principal;
use crate::model::{AuditType, Error, ErrorKind, Result, UserId};
use crate::password;
use crate::secret::SecretText;
use crate::store::accounts::{Authority, NewUser};

/// So many refused rows mean that the file is not what its sender thinks, and no answer may grow without end.
const MAX_REJECTED: usize = 10_000;

/// Rows in flight.
const AT_ONCE: usize = 32;

/// One user to import.
#[derive(Debug)]
pub struct ImportRow {
    /// As for a creation.
    pub user: UserDraft,
    /// argon2, scrypt or PBKDF2 in PHC form, PBKDF2 in Django's, bcrypt; empty for none.
    pub password_hash: SecretText,
}

/// A row that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its place in the stream, from 0.
    pub index: u32,
    /// The field at fault.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// How many users were made.
    pub imported: u32,
    /// The others.
    pub rejected: Vec<Rejected>,
}

impl Users {
    /// Makes users of `rows`, each whole or not at all; a row that could not be read is an error that names its field. A row at fault is reported and does not stop the rest; a store
    /// that cannot be asked does, and what came before it stays imported: sending the rows again reports those as
    /// existing and goes on.
    pub async fn import(
        &self,
        principal: &Principal,
        rows: impl Stream<Item = Result<ImportRow>> + Send,
    ) -> Result<Imported> {
        principal.require(SCOPE)?;
        let mut done = Imported::default();
        // The store commits what waits together at once; the answers keep the order of the rows.
        let written = rows.map(|row| self.import_row(principal, row)).buffered(AT_ONCE);
        let mut written = std::pin::pin!(written.enumerate());
        while let Some((index, written)) = written.next().await {
            let Err(error) = written else {
                done.imported += 1;
                continue;
            };
            let field = field_at_fault(&error)?;
            if done.rejected.len() == MAX_REJECTED {
                let message = format!(
                    "more than {MAX_REJECTED} rows are at fault; {} users were imported",
                    done.imported
                );
                return Err(Error::new(ErrorKind::InvalidRequest, message));
            }
            done.rejected.push(Rejected {
                index: u32::try_from(index).unwrap_or(u32::MAX),
                field,
                message: error
                    .violations
                    .first()
                    .map_or(error.message, |v| v.description.clone())
                    .into_owned(),
            });
        }
        Ok(done)
    }

    async fn import_row(&self, principal: &Principal, row: Result<ImportRow>) -> Result<()> {
        let row = row?;
        if let Some(index) = row.user.admin_at() {
            return Err(Error::invalid(
                format!("user.roles[{index}]"),
                "the role admin cannot be imported",
            ));
        }
        let now = self.clock.now();
        let user = row.user.check(UserId::generate(now, self.entropy.as_ref()), now)?;
        if !row.password_hash.is_empty() {
            password::check_imported(&row.password_hash, "password_hash")?;
        }
        let audit = self
            .trail
            .event(AuditType::UserImported, &user.id, principal.origin())
            .with_detail("username", user.username.as_str())
            .with_detail("roles", user.roles.clone());
        let new = NewUser {
            user,
            password_hash: row.password_hash,
        };
        self.store.create_user(&new, Authority::Ordinary, &audit).await?;
        Ok(())
    }
}

/// The field to report for a row, or the error again if it is not the row's fault.
fn field_at_fault(error: &Error) -> Result<String> {
    match (error.kind, error.violations.first()) {
        (ErrorKind::UserExists, _) => Ok("user.username".to_owned()),
        (ErrorKind::InvalidRequest, Some(violation)) => Ok(violation.field.clone().into_owned()),
        _ => Err(error.clone()),
    }
}
