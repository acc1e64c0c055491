//! What a refresh reads, all of one moment: the user, the client, the revocations that concern its session, and the ACTIVE key.
//!
//! Clients and keys change seldom, and reading a client takes the database longer than everything else together. So a
//! statement reads `meta.clients_and_keys` in their place, which is another number after each change of one of them. While it
//! is the number of the last reading, that reading still holds; otherwise everything is read again.

use std::fmt;
use std::sync::Arc;

use quick_cache::sync::Cache;

use super::Backend;
use super::clients::{self, CLIENT_COLUMNS, client_columns};
use super::columns::{Columns, one_column};
use super::revocations::is_revoked;
use super::statement::{Statement, sql};
use super::users::{self, USER_COLUMNS, user_columns};
use crate::model::{Client, ClientId, Epochs, KeyId, Result, SessionId, User, UserId};
use crate::store::RefreshView;

/// How many clients are kept. Further ones are read each time.
const CLIENTS: usize = 4_096;

/// The clients as last read.
pub(crate) struct KnownClients(Cache<ClientId, Arc<KnownClient>>);

impl KnownClients {
    pub(crate) fn new() -> Self {
        Self(Cache::new(CLIENTS))
    }
}

impl fmt::Debug for KnownClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnownClients")
    }
}

/// A client and the ACTIVE key.
struct KnownClient {
    /// `meta.clients_and_keys` when they were read.
    version: i64,
    /// The client, unless deleted.
    client: Option<Arc<Client>>,
    epoch: i64,
    active_key: Option<KeyId>,
}

/// What is read for each refresh.
struct Moment {
    version: i64,
    user: Option<User>,
    user_epoch: i64,
    is_session_revoked: bool,
    global_epoch: i64,
    era: i64,
}

/// The columns that [`read_moment`] reads. `$1` is the user, `$2` the session.
macro_rules! moment_columns {
    () => {
        concat!(
            user_columns!(),
            ", meta.clients_and_keys, users.epoch, ",
            is_revoked!("session", "CAST($2 AS text)"),
            ", meta.epoch, meta.era"
        )
    };
}

fn moment(user: UserId, session: SessionId) -> Statement {
    sql!(
        "SELECT ",
        moment_columns!(),
        " FROM meta LEFT JOIN users ON users.id = $1"
    )
    .bind(user)
    .bind(session)
}

fn moment_with_client(user: UserId, session: SessionId, client: &ClientId) -> Statement {
    sql!(
        "SELECT ",
        moment_columns!(),
        ", ",
        client_columns!(),
        ", clients.epoch, (SELECT id FROM signing_keys WHERE state = 'active')
         FROM meta LEFT JOIN users ON users.id = $1 LEFT JOIN clients ON clients.id = $3"
    )
    .bind(user)
    .bind(session)
    .bind(client)
}

/// Is there a revocation of the user with an epoch above `$2` that does not keep the session `$3`?
fn user_revocation(user: UserId, epoch: i64, session: SessionId) -> Statement {
    sql!(
        "SELECT EXISTS (SELECT 1 FROM revocations AS r
                        WHERE r.level = 'user' AND r.id = CAST($1 AS text) AND r.epoch > 0 AND r.epoch > $2
                              AND (r.keep IS NULL OR r.keep IS DISTINCT FROM $3))"
    )
    .bind(user)
    .bind(epoch)
    .bind(session)
}

fn read_moment(columns: &mut Columns<'_>) -> Result<Moment> {
    Ok(Moment {
        user: columns.joined(USER_COLUMNS, users::read)?,
        version: columns.take()?,
        user_epoch: columns.maybe()?.unwrap_or(0),
        is_session_revoked: columns.take()?,
        global_epoch: columns.take()?,
        era: columns.take()?,
    })
}

fn read_moment_with_client(columns: &mut Columns<'_>) -> Result<(Moment, Arc<KnownClient>)> {
    let moment = read_moment(columns)?;
    let known = KnownClient {
        version: moment.version,
        client: columns.joined(CLIENT_COLUMNS, clients::read)?.map(Arc::new),
        epoch: columns.maybe()?.unwrap_or(0),
        active_key: columns.maybe()?,
    };
    Ok((moment, Arc::new(known)))
}

/// Reads the view of a refresh. `epochs` are those of the token.
pub(super) async fn refresh_view(
    backend: &impl Backend,
    user: UserId,
    client: &ClientId,
    session: SessionId,
    epochs: Epochs,
) -> Result<RefreshView> {
    let clients = &backend.known_clients().0;
    let mut found = None;
    if let Some(known) = clients.get(client) {
        let moment = backend.only(moment(user, session), read_moment).await?;
        found = Some((moment, known)).filter(|(moment, known)| moment.version == known.version);
    }
    let (moment, known) = if let Some(found) = found {
        found
    } else {
        let statement = moment_with_client(user, session, client);
        let read = backend.only(statement, read_moment_with_client).await?;
        clients.insert(client.clone(), Arc::clone(&read.1));
        read
    };
    // A revocation raises the epoch of its user or client, or the global one, in the same transaction. They begin at 0.
    let raised = |now: i64, at_login: i64| now > at_login.max(0);
    let mut revoked =
        moment.is_session_revoked || raised(moment.global_epoch, epochs.global) || raised(known.epoch, epochs.client);
    if !revoked && raised(moment.user_epoch, epochs.user) {
        // It may have kept this session.
        let statement = user_revocation(user, epochs.user, session);
        revoked = backend.only(statement, one_column).await?;
    }
    Ok(RefreshView {
        user: moment.user,
        client: known.client.clone(),
        revoked,
        active_key: known.active_key.clone(),
        era: moment.era,
    })
}
