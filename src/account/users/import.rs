//! Importing users of another system with their password hashes.

use std::collections::HashMap;
use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::sync::oneshot;

use super::{UserDraft, Users};
use crate::account::Principal;
use crate::model::{AuditType, CallerScope, Error, ErrorKind, Result, User, UserId, Username};
use crate::password;
use crate::secret::SecretText;
use crate::store::accounts::{Authority, NewUser};

/// An import with more rejected rows ends with an error, so that the response stays bounded. So many mean that the file is
/// probably the wrong one.
const MAX_REJECTED: usize = 10_000;

/// Rows that are imported at the same time.
const CONCURRENCY: usize = 32;

/// How often a row is tried again while the store is busy, and the pause before: half a minute in all.
const OVERLOADED_RETRIES: u32 = 300;
const OVERLOADED_PAUSE: Duration = Duration::from_millis(100);

/// One user to import.
#[derive(Debug)]
pub struct ImportRow {
    /// The fields of the user, as for `CreateUser`.
    pub user: UserDraft,
    /// A hash in one of the forms of `docs/import.md`; empty for a user without a password.
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
#[derive(Debug, Default)]
pub struct Imported {
    /// How many users were created.
    pub imported: u32,
    /// The rows that were not imported.
    pub rejected: Vec<RejectedRow>,
    /// Why the import ended before the last row, if it did.
    pub ended: Option<EndedImport>,
}

/// Why an import ended before the last row.
#[derive(Debug)]
pub struct EndedImport {
    /// The position of the row at which it ended, from 0.
    pub index: u32,
    /// The error. No row is its cause.
    pub error: Error,
}

impl Imported {
    /// The result of an import that read all rows; else the error that ended it, with the number of users that are in.
    pub fn complete(mut self) -> Result<Self> {
        let Some(EndedImport { index, mut error }) = self.ended.take() else {
            return Ok(self);
        };
        error.message = format!(
            "{}; the import ended at index {index}, and {} users are in; send all users again: those that are in are refused",
            error.message, self.imported
        )
        .into();
        Err(error)
    }

    /// Adds the rejected row. Returns the error itself if the row is not its cause, or if too many rows are rejected.
    fn reject(&mut self, index: u32, error: Error) -> Result<()> {
        let field = invalid_field(&error)?;
        if let [first, .., _] = &self.rejected[..]
            && self.rejected.len() == MAX_REJECTED
        {
            let message = format!(
                "more than {MAX_REJECTED} rows are invalid; the first is at index {}: {}: {}",
                first.index, first.field, first.message
            );
            return Err(Error::new(ErrorKind::InvalidRequest, message));
        }
        self.rejected.push(RejectedRow {
            index,
            field,
            message: error
                .violations
                .first()
                .map_or(error.message, |v| v.description.clone())
                .into_owned(),
        });
        Ok(())
    }
}

impl Users {
    /// Creates a user for each of `rows`; each row is imported as a whole or not at all. A row that could not be read is an
    /// `Err` that names its field. Of rows with the same username the first that can be imported wins.
    ///
    /// An invalid row is reported and the import goes on. A store that cannot be reached ends the import; rows before that
    /// stay imported. A second import of the same rows reports those as existing and imports the rest.
    pub async fn import(
        &self,
        principal: &Principal,
        rows: impl Stream<Item = Result<ImportRow>> + Send,
    ) -> Result<Imported> {
        principal.require(CallerScope::Users)?;
        let (mut done, mut turns) = (Imported::default(), Turns::default());
        let has_ended = AtomicBool::new(false);
        let rows = rows.take_while(|_| ready(!has_ended.load(Ordering::Relaxed)));
        // The store commits waiting rows together; `buffered` keeps the results in the order of the rows.
        let written = rows.enumerate().map(|(index, row)| {
            let row = row
                .and_then(|row| self.check_row(row))
                .map(|row| (turns.next(index, &row.user.username), row));
            async move {
                let (turn, row) = row?;
                turn.run(self.write_row(principal, &row)).await
            }
        });
        let mut written = std::pin::pin!(written.buffered(CONCURRENCY).enumerate());
        while let Some((index, written)) = written.next().await {
            let Err(error) = written else {
                done.imported += 1;
                continue;
            };
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            if let Err(error) = done.reject(index, error) {
                // Rows that are on their way are awaited, so that those that are written count.
                has_ended.store(true, Ordering::Relaxed);
                done.ended.get_or_insert(EndedImport { index, error });
            }
        }
        Ok(done)
    }

    /// Checks everything but whether the name is free.
    fn check_row(&self, row: ImportRow) -> Result<NewUser> {
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
        Ok(NewUser {
            user,
            password_hash: row.password_hash,
        })
    }

    async fn write_row(&self, principal: &Principal, row: &NewUser) -> Result<()> {
        for _ in 0..OVERLOADED_RETRIES {
            match self.import_user(principal, row).await {
                // The store did nothing, because other callers keep it busy. An import can wait.
                Err(error) if error.kind == ErrorKind::Overloaded => tokio::time::sleep(OVERLOADED_PAUSE).await,
                done => return done,
            }
        }
        self.import_user(principal, row).await
    }

    async fn import_user(&self, principal: &Principal, new: &NewUser) -> Result<()> {
        let User {
            id, username, roles, ..
        } = &new.user;
        let audit = self
            .trail
            .event(AuditType::UserImported, id, principal.origin())
            .with_detail("username", username.as_str())
            .with_detail("roles", roles.clone());
        self.store.create_user(new, Authority::Ordinary, &audit).await
    }
}

/// The order of rows with the same username. Rows are written at the same time, and the store would keep any one of them.
#[derive(Default)]
struct Turns {
    /// The latest row of each name that may still be written: its index, and the end of its write. A message says that the store
    /// failed; without one the row is written or refused.
    latest: HashMap<Username, (usize, oneshot::Receiver<()>)>,
}

impl Turns {
    /// The turn of the row at `index`. Call it in the order of the rows.
    fn next(&mut self, index: usize, name: &Username) -> Turn {
        // Rows that are further behind have been written, so the map stays small however many rows there are.
        if self.latest.len() >= 2 * CONCURRENCY {
            self.latest.retain(|_, (row, _)| *row + CONCURRENCY > index);
        }
        let (end, ended) = oneshot::channel();
        let before = self.latest.insert(name.clone(), (index, ended));
        Turn {
            before: before.map(|(_, ended)| ended),
            end,
        }
    }
}

/// The turn of one row. The next row of its name waits for its end.
struct Turn {
    before: Option<oneshot::Receiver<()>>,
    end: oneshot::Sender<()>,
}

impl Turn {
    /// Writes the row when earlier rows of its name have been written or refused. If one was neither, because the store failed,
    /// this one is not written either: the next import of the same rows decides which is the first.
    async fn run(self, write: impl Future<Output = Result<()>>) -> Result<()> {
        let Self { before, end } = self;
        let failed = match before {
            Some(before) => before.await.is_ok(),
            None => false,
        };
        let done = if failed {
            Err(Error::store_unavailable(
                "an earlier row with this name could not be written",
            ))
        } else {
            write.await
        };
        if done.as_ref().is_err_and(|error| invalid_field(error).is_err()) {
            // Nothing waits for the last row of a name.
            let _ = end.send(());
        }
        done
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn after_a_failure_of_the_store_no_later_row_of_the_name_is_written() {
        let (mut turns, name) = (Turns::default(), Username::parse("ada", "username").unwrap());
        let [first, second, third] = [0, 1, 2].map(|index| turns.next(index, &name));
        let exists = first.run(async { Err(ErrorKind::UserExists.into()) }).await;
        assert_eq!(exists.unwrap_err().kind, ErrorKind::UserExists);
        let gone = second.run(async { Err(Error::store_unavailable("gone")) }).await;
        assert_eq!(gone.unwrap_err().kind, ErrorKind::StoreUnavailable);
        let late = third.run(async { unreachable!("it must not be written") }).await;
        assert_eq!(late.unwrap_err().kind, ErrorKind::StoreUnavailable);
        // A row that is written lets the next one try.
        let [first, second] = [3, 4].map(|index| turns.next(index, &Username::parse("bob", "username").unwrap()));
        first.run(async { Ok(()) }).await.unwrap();
        second.run(async { Ok(()) }).await.unwrap();
    }
}
