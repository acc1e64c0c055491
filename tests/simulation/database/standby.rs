//! A standby of the database that is promoted: the database loses the revocations that the standby has not received.

use countersign::store::sqlite::{Database, Tx};

const FOLLOW: [&str; 4] = [
    "CREATE TABLE standby_users AS SELECT id, epoch, disabled FROM users",
    "CREATE TABLE standby_clients AS SELECT id, epoch FROM clients",
    "CREATE TABLE standby_meta AS SELECT epoch FROM meta",
    "CREATE TABLE standby_rows AS SELECT coalesce(max(seq), 0) AS seq FROM revocations",
];

const PROMOTE: [&str; 10] = [
    "UPDATE users SET epoch = s.epoch, disabled = s.disabled FROM standby_users AS s WHERE s.id = users.id",
    "UPDATE clients SET epoch = s.epoch FROM standby_clients AS s WHERE s.id = clients.id",
    "UPDATE meta SET epoch = s.epoch FROM standby_meta AS s",
    // Readers take it for another database, as they do after a change of the timeline.
    "UPDATE meta SET instance = substr(instance, 2) || substr(instance, 1, 1)",
    "DELETE FROM revocations WHERE seq > (SELECT seq FROM standby_rows)",
    "UPDATE sqlite_sequence SET seq = (SELECT seq FROM standby_rows) WHERE name = 'revocations'",
    "DROP TABLE standby_users",
    "DROP TABLE standby_clients",
    "DROP TABLE standby_meta",
    "DROP TABLE standby_rows",
];

/// From now on the standby receives nothing more.
pub(crate) async fn stop_following(database: &Database) {
    run(database, &FOLLOW).await;
}

/// The standby takes the place of the database.
pub(crate) async fn promote(database: &Database) {
    run(database, &PROMOTE).await;
}

async fn run(database: &Database, statements: &'static [&'static str]) {
    let all = move |tx: &mut Tx<'_>| {
        for statement in statements {
            tx.run(statement, [])?;
        }
        Ok(())
    };
    database.call(all).await.unwrap();
}
