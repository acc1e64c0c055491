//! Importing users of another system with their password hashes.

use futures_util::{Stream, StreamExt as _};

use super::{UserDraft, Users};
use crate::account::Principal;
use crate::model::{AuditType, CallerScope, Error, ErrorKind, Result, UserId};
use crate::password;
use crate::secret::SecretText;
use crate::store::accounts::{Authority, NewUser};

/// An import with more rejected rows ends with an error, so that the response stays bounded. So many mean that the file is
/// probably the wrong one.
const MAX_REJECTED: usize = 10_000;

/// Rows that are imported at the same time.
const CONCURRENCY: usize = 32;

/// One user to import.
#[derive(Debug)]
pub struct ImportRow {
    /// The fields of the user, as for `CreateUser`.
    pub user: UserDraft,
    /// argon2, scrypt or PBKDF2 in PHC format, PBKDF2 in Django's format, or bcrypt; empty for a user without a password.
    pub password_hash: SecretText,
}

/// A row that was not imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRow {
    /// The position of the row in the stream, from 0.
    pub index: u32,
    /// The invalid field.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// The result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// How many users were created.
    pub imported: u32,
    /// The rows that were not imported.
    pub rejected: Vec<RejectedRow>,
}

impl Users {
    /// Creates a user for each of `rows`; each row is imported as a whole or not at all. A row that could not be read is an
    /// `Err` that names its field.
    ///
    /// An invalid row is reported and the import goes on. A store that cannot be reached ends the import; rows before that
    /// stay imported. A second import of the same rows reports those as existing and imports the rest.
    pub async fn import(
        &self,
        principal: &Principal,
        rows: impl Stream<Item = Result<ImportRow>> + Send,
    ) -> Result<Imported> {
        principal.require(CallerScope::Users)?;
        let mut done = Imported::default();
        // The store commits waiting rows together; `buffered` keeps the results in the order of the rows.
        let written = rows.map(|row| self.import_row(principal, row)).buffered(CONCURRENCY);
        let mut written = std::pin::pin!(written.enumerate());
        while let Some((index, written)) = written.next().await {
            let Err(error) = written else {
                done.imported += 1;
                continue;
            };
            let field = invalid_field(&error)?;
            if done.rejected.len() == MAX_REJECTED {
                let message = format!(
                    "more than {MAX_REJECTED} rows are invalid; {} users were imported",
                    done.imported
                );
                return Err(Error::new(ErrorKind::InvalidRequest, message));
            }
            done.rejected.push(RejectedRow {
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
        if let Some(index) = row.user.admin_role_index() {
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

/// The field to report for a rejected row. Returns the error itself if the row is not its cause.
fn invalid_field(error: &Error) -> Result<String> {
    match (error.kind, error.violations.first()) {
        (ErrorKind::UserExists, _) => Ok("user.username".to_owned()),
        (ErrorKind::InvalidRequest, Some(violation)) => Ok(violation.field.clone().into_owned()),
        _ => Err(error.clone()),
    }
}
