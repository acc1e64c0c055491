//! What an operator should know about the standbys of the server and its room for connections.

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::error::Result;

/// The standbys of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standbys {
    /// The server's `synchronous_standby_names`.
    pub names: String,
    /// The connections of standbys. A backup that runs has one too.
    pub connected: i64,
}

/// How many connections the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Those that the role may use, at most.
    pub connections: i64,
}

/// For how many standbys each commit waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synchronous {
    /// How many must confirm a commit.
    pub needed: usize,
    /// How many are named; none if every standby counts (`*`).
    pub named: Option<usize>,
}

impl Standbys {
    /// For how many standbys each commit waits; none if for none.
    #[must_use]
    pub fn synchronous(&self) -> Option<Synchronous> {
        parse(&self.names)
    }
}

/// Reads a value of `synchronous_standby_names`, which the server has accepted.
fn parse(names: &str) -> Option<Synchronous> {
    let text = names.trim();
    if text.is_empty() {
        return None;
    }
    let (head, list) = match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        Some((head, list)) if !head.contains('"') => (head, list),
        _ => ("1", text),
    };
    let number = |word: &str| word.parse().ok();
    let needed = head.split_whitespace().find_map(number).unwrap_or(1);
    let (mut standbys, mut every, mut quoted, mut name) = (1, false, false, String::new());
    for letter in list.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                every |= name.trim() == "*";
                name.clear();
                standbys += 1;
                continue;
            }
            _ => {}
        }
        name.push(letter);
    }
    every |= name.trim() == "*";
    Some(Synchronous {
        needed,
        named: (!every).then_some(standbys),
    })
}

pub(super) async fn look(connection: &mut PgConnection) -> Result<Standbys> {
    // Every role may count the rows of pg_stat_replication; a role without pg_monitor sees nothing else in them.
    let asked = sqlx::raw_sql("SELECT current_setting('synchronous_standby_names'), count(*) FROM pg_stat_replication");
    let row = asked.fetch_one(connection).await?;
    Ok(Standbys {
        names: row.try_get(0)?,
        connected: row.try_get(1)?,
    })
}

pub(super) async fn room(connection: &mut PgConnection) -> Result<Room> {
    let asked = sqlx::raw_sql(
        "SELECT least(
             current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
                 - coalesce(current_setting('reserved_connections', true)::bigint, 0),
             (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
             (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()))",
    );
    let row = asked.fetch_one(connection).await?;
    Ok(Room {
        connections: row.try_get(0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_setting_is_read() {
        for (text, needed, named) in [
            ("s1", 1, Some(1)),
            ("s1, s2", 1, Some(2)),
            ("*", 1, None),
            ("FIRST 1 (s1)", 1, Some(1)),
            ("first 2 (s1, s2,s3)", 2, Some(3)),
            ("ANY 1 (s1, s2)", 1, Some(2)),
            ("2 (s1, s2)", 2, Some(2)),
            ("ANY 2 (*)", 2, None),
            ("any 1 (\"a, (b)\", s2)", 1, Some(2)),
            ("\"a (b)\"", 1, Some(1)),
        ] {
            assert_eq!(parse(text), Some(Synchronous { needed, named }), "{text}");
        }
        assert_eq!(parse(" "), None);
    }
}
