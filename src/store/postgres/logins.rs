//! What logins and refreshes read: one statement each, so that all of it is of one moment.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::dead::{is_dead, party_is_dead};
use super::error::{Result, unreadable};
use super::rows::{self, CLIENT_COLUMNS, USER_COLUMNS, client_columns, now, user_columns};
use super::statement::{Statement, sql};
use crate::model::{ClientId, Epochs, SessionId, UserId, Username};
use crate::secret::SecretText;
use crate::store::{Login, MachineLogin, RefreshView};

pub(super) fn login(name: &Username, client: &ClientId) -> Statement {
    sql(concat!(
        "SELECT ",
        user_columns!(),
        ", ",
        client_columns!(),
        ", users.password_hash, meta.epoch, users.epoch, clients.epoch, meta.era
         FROM meta LEFT JOIN users ON users.username = $1 LEFT JOIN clients ON clients.id = $2"
    ))
    .bind(name.as_str().to_owned())
    .bind(client.as_str().to_owned())
}

pub(super) fn read_login(row: &PgRow) -> Result<Login> {
    const REST: usize = USER_COLUMNS + CLIENT_COLUMNS;
    let hash: Option<String> = row.try_get(REST)?;
    Ok(Login {
        user: rows::user(row, 0)?.zip(hash.map(SecretText::new)),
        client: rows::client(row, USER_COLUMNS)?,
        epochs: Epochs {
            global: row.try_get(REST + 1)?,
            user: epoch(row, REST + 2)?,
            client: epoch(row, REST + 3)?,
        },
        era: row.try_get(REST + 4)?,
    })
}

pub(super) fn machine_login(id: &ClientId) -> Statement {
    sql(concat!(
        "SELECT ",
        client_columns!(),
        ", meta.epoch, clients.epoch,
           ARRAY(SELECT hash FROM client_secrets
                 WHERE client_id = $1 AND (expires IS NULL OR expires > ",
        now!(),
        "))
         FROM meta LEFT JOIN clients ON clients.id = $1"
    ))
    .bind(id.as_str().to_owned())
}

pub(super) fn read_machine_login(row: &PgRow) -> Result<MachineLogin> {
    let hashes: Vec<Vec<u8>> = row.try_get(CLIENT_COLUMNS + 2)?;
    Ok(MachineLogin {
        client: rows::client(row, 0)?,
        secret_hashes: hashes
            .into_iter()
            .map(|hash| hash.try_into().map_err(|_| unreadable("not a SHA-256")))
            .collect::<Result<_>>()?,
        epochs: Epochs {
            global: row.try_get(CLIENT_COLUMNS)?,
            user: 0,
            client: epoch(row, CLIENT_COLUMNS + 1)?,
        },
    })
}

pub(super) fn refresh_view(user: UserId, client: &ClientId, session: SessionId, epochs: Epochs) -> Statement {
    sql(concat!(
        "SELECT ",
        user_columns!(),
        ", ",
        client_columns!(),
        ", meta.era, (SELECT id FROM signing_keys WHERE state = 'active'),
           ",
        is_dead!("session", "$3::text"),
        " OR ",
        party_is_dead!("$1", "$2", "$3", "$4", "$5", "$6"),
        " FROM meta LEFT JOIN users ON users.id = $1 LEFT JOIN clients ON clients.id = $2"
    ))
    .bind(user.0)
    .bind(client.as_str().to_owned())
    .bind(session.0)
    .bind(epochs.user)
    .bind(epochs.client)
    .bind(epochs.global)
}

pub(super) fn read_refresh_view(row: &PgRow) -> Result<RefreshView> {
    const REST: usize = USER_COLUMNS + CLIENT_COLUMNS;
    let active_key: Option<&str> = row.try_get(REST + 1)?;
    Ok(RefreshView {
        user: rows::user(row, 0)?,
        client: rows::client(row, USER_COLUMNS)?,
        revoked: row.try_get(REST + 2)?,
        active_key: active_key.map(|id| id.parse().map_err(unreadable)).transpose()?,
        era: row.try_get(REST)?,
    })
}

fn epoch(row: &PgRow, column: usize) -> Result<i64> {
    Ok(row.try_get::<Option<i64>, _>(column)?.unwrap_or(0))
}
