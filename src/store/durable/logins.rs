//! The statements of logins. Each login reads with one statement, so that all its data is of one moment.

use super::audit;
use super::clients::{self, CLIENT_COLUMNS, client_columns};
use super::columns::Columns;
use super::statement::{Statement, sql, sql_with_event};
use super::users::{self, USER_COLUMNS, user_columns};
use crate::clock::UnixMillis;
use crate::model::{AuditEvent, ClientId, Epochs, Result, UserId, Username};
use crate::secret::SecretText;
use crate::store::{Login, MachineLogin};

pub(super) fn login(name: &Username, client: &ClientId) -> Statement {
    sql!(
        "SELECT ",
        user_columns!(),
        ", ",
        client_columns!(),
        ", users.password_hash, meta.epoch, users.epoch, clients.epoch, meta.era
         FROM meta LEFT JOIN users ON users.username = $1 LEFT JOIN clients ON clients.id = $2"
    )
    .bind(name)
    .bind(client)
}

pub(super) fn read_login(columns: &mut Columns<'_>) -> Result<Login> {
    let user = columns.joined(USER_COLUMNS, users::read)?;
    let client = columns.joined(CLIENT_COLUMNS, clients::read)?;
    let hash = columns.maybe::<String>()?;
    Ok(Login {
        user: user.zip(hash.map(SecretText::new)),
        client,
        epochs: Epochs {
            global: columns.take()?,
            user: columns.maybe()?.unwrap_or(0),
            client: columns.maybe()?.unwrap_or(0),
        },
        era: columns.take()?,
    })
}

/// Notes the time of a login, and replaces the password hash if it is still the verified one (old, new).
pub(super) fn logged_in(
    id: UserId,
    at: UnixMillis,
    rehash: Option<&(SecretText, SecretText)>,
    event: &AuditEvent,
) -> Result<Statement> {
    let note = sql_with_event!(
        Always,
        "UPDATE users SET last_login = ",
        greatest,
        "(coalesce(last_login, $13), $13),
                          password_hash = CASE WHEN password_hash = $14 THEN $15 ELSE password_hash END
         WHERE id = $12"
    );
    Ok(audit::bind_event(note, event)?
        .bind(id)
        .bind(at)
        .bind(rehash.map(|(verified, _)| verified.expose()))
        .bind(rehash.map(|(_, new)| new.expose())))
}

/// Returns one row for each valid secret; one row if there is none.
pub(super) fn machine_login(id: &ClientId) -> Statement {
    sql!(
        "SELECT ",
        client_columns!(),
        ", meta.epoch, clients.epoch, secrets.hash
         FROM meta LEFT JOIN clients ON clients.id = $1
         LEFT JOIN client_secrets AS secrets
              ON secrets.client_id = clients.id AND (secrets.expires IS NULL OR secrets.expires > ",
        now,
        ")"
    )
    .bind(id)
}

/// Reads the login with the secret of one row.
pub(super) fn read_machine_login(columns: &mut Columns<'_>) -> Result<MachineLogin> {
    Ok(MachineLogin {
        client: columns.joined(CLIENT_COLUMNS, clients::read)?,
        epochs: Epochs {
            global: columns.take()?,
            user: 0,
            client: columns.maybe()?.unwrap_or(0),
        },
        secret_hashes: columns.maybe()?.into_iter().collect(),
    })
}
