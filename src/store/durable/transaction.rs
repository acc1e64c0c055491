//! A transaction as a transition sees it, on either database.

use std::borrow::Borrow;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use super::audit;
use super::columns::{Columns, Read, Row, one_column};
use super::statement::{EventRule, Statement, sql};
use crate::clock::UnixMillis;
use crate::model::{AuditEvent, Error, Result, Revocation, Target};
use crate::store::{Expiry, NewRevocation};

/// What a database does inside an open transaction.
#[async_trait]
pub(crate) trait Driver: Send {
    /// Runs a statement and returns how many rows it changed.
    async fn run(&mut self, statement: &Statement) -> Result<u64>;

    /// Runs a query and hands each row to `each`.
    async fn query(&mut self, statement: &Statement, each: &mut EachRow<'_>) -> Result<()>;

    /// Runs a statement of [`super::statement::sql_with_event`] and returns whether it changed a row.
    async fn run_audited(&mut self, statement: &Statement, event: &AuditEvent) -> Result<bool>;

    /// Like [`super::Backend::record`].
    async fn record(&mut self, new: &NewRevocation, event: &AuditEvent) -> Result<Option<Revocation>>;
}

/// Receives the rows of a query.
pub(crate) type EachRow<'e> = dyn FnMut(&dyn Row) -> Result<()> + Send + 'e;

/// A transition: it runs in one transaction, and an `Err` of it leaves nothing behind. It borrows its arguments because
/// PostgreSQL runs it a second time if the connection broke and nothing was committed.
pub(crate) type Transition<A, T> = for<'t> fn(&'t mut Transaction<'_>, &'t A) -> BoxFuture<'t, Result<T>>;

/// An open transaction, with the audit event of the transition.
pub(crate) struct Transaction<'t> {
    driver: &'t mut dyn Driver,
    event: Option<&'t AuditEvent>,
    audited: bool,
}

impl<'t> Transaction<'t> {
    pub(crate) const fn new(driver: &'t mut dyn Driver, event: Option<&'t AuditEvent>) -> Self {
        Self {
            driver,
            event,
            audited: false,
        }
    }

    /// Whether the event was written.
    pub(crate) const fn audited(&self) -> bool {
        self.audited
    }

    /// Runs a statement and returns how many rows it changed.
    pub(crate) async fn run(&mut self, statement: impl Borrow<Statement> + Send + Sync) -> Result<u64> {
        self.driver.run(statement.borrow()).await
    }

    /// Like [`super::Backend::run_audited`].
    pub(crate) async fn run_audited(&mut self, statement: &Statement) -> Result<bool> {
        let event = self.event()?;
        let changed = self.driver.run_audited(statement, event).await?;
        self.audited = changed || statement.event_rule == EventRule::Always;
        Ok(changed)
    }

    /// The rows of a query.
    pub(crate) async fn all<T: Send>(
        &mut self,
        statement: impl Borrow<Statement> + Send + Sync,
        read: Read<T>,
    ) -> Result<Vec<T>> {
        let mut all = Vec::new();
        let mut each = |row: &dyn Row| {
            all.push(read(&mut Columns::new(row))?);
            Ok(())
        };
        self.driver.query(statement.borrow(), &mut each).await?;
        Ok(all)
    }

    /// The only row of a query, if there is one.
    pub(crate) async fn first<T: Send>(&mut self, statement: Statement, read: Read<T>) -> Result<Option<T>> {
        Ok(self.all(statement, read).await?.into_iter().next())
    }

    /// The database's time now.
    pub(crate) async fn now(&mut self) -> Result<UnixMillis> {
        let now = self.first(sql!("SELECT ", now), one_column).await?;
        now.ok_or_else(|| Error::internal("the database did not tell its time"))
    }

    /// Appends the event to the audit trail.
    pub(crate) async fn audit(&mut self) -> Result<()> {
        let event = self.event()?;
        self.driver.run(&audit::append(event)?).await?;
        self.audited = true;
        Ok(())
    }

    /// Appends the event if `done`, and returns `done`.
    pub(crate) async fn audit_if(&mut self, done: bool) -> Result<bool> {
        if done {
            self.audit().await?;
        }
        Ok(done)
    }

    /// Like [`super::Backend::record`].
    pub(crate) async fn record(&mut self, new: &NewRevocation) -> Result<Option<Revocation>> {
        let event = self.event()?;
        let recorded = self.driver.record(new, event).await?;
        self.audited = recorded.is_some();
        Ok(recorded)
    }

    /// Records a revocation of a row that this transaction has locked, and appends the event. The revocation is kept for
    /// as long as any session can last.
    pub(crate) async fn revoke(&mut self, target: Target) -> Result<Revocation> {
        let new = NewRevocation {
            target,
            expires: Expiry::LongestSession,
        };
        let recorded = self.record(&new).await?;
        recorded.ok_or_else(|| Error::internal("the row to revoke has gone"))
    }

    /// Appends the event; if `due`, together with a revocation of `target`.
    pub(crate) async fn audit_or_revoke(&mut self, due: bool, target: Target) -> Result<Option<Revocation>> {
        if due {
            return self.revoke(target).await.map(Some);
        }
        self.audit().await?;
        Ok(None)
    }

    fn event(&self) -> Result<&'t AuditEvent> {
        self.event
            .ok_or_else(|| Error::internal("a transition without an event cannot write one"))
    }
}
