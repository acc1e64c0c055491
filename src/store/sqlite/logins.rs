//! What logins and refreshes read: in one transaction each, so that all of it is of one moment.

use rusqlite::{Row, params};

use super::Tx;
use super::feed;
use super::rows::{self, USER_COLUMNS, client_columns, unreadable, user_columns};
use crate::model::revocation::RevocationSubject;
use crate::model::{ClientId, Epochs, Error, Result, SessionId, UserId, Username};
use crate::secret::SecretText;
use crate::store::{Login, MachineLogin, RefreshView};

pub(super) fn login(tx: &Tx<'_>, name: &Username, client: &ClientId) -> Result<Login> {
    tx.first(
        concat!(
            "SELECT meta.era, meta.epoch, users.epoch, clients.epoch, users.password_hash, ",
            user_columns!(),
            ", ",
            client_columns!(),
            " FROM meta LEFT JOIN users ON users.username = ?1 LEFT JOIN clients ON clients.id = ?2"
        ),
        params![name.as_str(), client.as_str()],
        |row| {
            let hash: Option<String> = row.get(4)?;
            Ok(Login {
                user: rows::user(row, 5)?.zip(hash.map(SecretText::new)),
                client: rows::client(row, 5 + USER_COLUMNS)?,
                epochs: epochs(row, 1)?,
                era: row.get(0)?,
            })
        },
    )?
    .ok_or_else(without_meta)
}

pub(super) fn machine_login(tx: &Tx<'_>, id: &ClientId) -> Result<MachineLogin> {
    tx.first(
        concat!(
            "SELECT meta.epoch, 0, clients.epoch,
                    (SELECT group_concat(hex(hash), '') FROM client_secrets
                     WHERE client_id = ?1 AND (expires IS NULL OR expires > ?2)), ",
            client_columns!(),
            " FROM meta LEFT JOIN clients ON clients.id = ?1"
        ),
        params![id.as_str(), tx.now().0],
        |row| {
            let hashes: Option<String> = row.get(3)?;
            Ok(MachineLogin {
                client: rows::client(row, 4)?,
                secret_hashes: read_hashes(&hashes.unwrap_or_default())?,
                epochs: epochs(row, 0)?,
            })
        },
    )?
    .ok_or_else(without_meta)
}

pub(super) fn refresh_view(
    tx: &Tx<'_>,
    user: UserId,
    client: &ClientId,
    session: SessionId,
    epochs: Epochs,
) -> Result<RefreshView> {
    let revocation_subject = RevocationSubject::of_session(user, session, client.clone(), epochs);
    let revoked = feed::is_dead(tx, &revocation_subject)?;
    tx.first(
        concat!(
            "SELECT meta.era, (SELECT id FROM signing_keys WHERE state = 'active'), ",
            user_columns!(),
            ", ",
            client_columns!(),
            " FROM meta LEFT JOIN users ON users.id = ?1 LEFT JOIN clients ON clients.id = ?2"
        ),
        params![user.to_string(), client.as_str()],
        |row| {
            let active_key: Option<String> = row.get(1)?;
            Ok(RefreshView {
                user: rows::user(row, 2)?,
                client: rows::client(row, 2 + USER_COLUMNS)?,
                revoked,
                active_key: active_key.map(|id| id.parse().map_err(unreadable)).transpose()?,
                era: row.get(0)?,
            })
        },
    )?
    .ok_or_else(without_meta)
}

fn epochs(row: &Row<'_>, first: usize) -> Result<Epochs> {
    let epoch = |column| Ok::<_, Error>(row.get::<_, Option<i64>>(column)?.unwrap_or(0));
    Ok(Epochs {
        global: epoch(first)?,
        user: epoch(first + 1)?,
        client: epoch(first + 2)?,
    })
}

/// Hashes of 32 bytes in hexadecimal digits, one after the other.
fn read_hashes(text: &str) -> Result<Vec<[u8; 32]>> {
    text.as_bytes()
        .chunks(64)
        .map(|digits| {
            let mut hash = [0; 32];
            for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
                let pair = std::str::from_utf8(pair).map_err(unreadable)?;
                *byte = u8::from_str_radix(pair, 16).map_err(unreadable)?;
            }
            Ok(hash)
        })
        .collect()
}

fn without_meta() -> Error {
    unreadable("meta is empty")
}
