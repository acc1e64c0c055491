use std::time::Duration;

use countersign::clock::UnixMillis;
use countersign::config::DatabaseUrl;
use countersign::model::{ErrorKind, Target};
use countersign::store::postgres::PostgresStore;
use countersign::store::{NewRevocation, RevocationStore as _, UserStore as _};
use futures_util::future::join_all;

use super::fresh;
use crate::durable::fresh::config;
use crate::durable::samples::*;
use crate::support::Database;

#[tokio::test]
async fn of_many_migrations_at_once_one_runs() {
    for _ in 0..3 {
        let database = Database::fresh().await;
        let migrations = (0..6).map(|_| async {
            let store = PostgresStore::connect(&config(database.url())).await.unwrap();
            store.migrate().await.unwrap()
        });
        let mut steps = join_all(migrations).await;
        steps.sort_unstable();
        assert_eq!(steps[..5], [0; 5]);
        assert!(steps[5] > 0, "one applies all steps");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let (database, _) = fresh().await;
    database.execute("UPDATE schema_version SET version = 999").await;
    let store = PostgresStore::connect(&config(database.url())).await.unwrap();
    let error = store.migrate().await.unwrap_err();
    assert!(error.message.contains("newer version"), "{error}");
    assert!(!error.message.contains("999"), "{error}");
}

#[tokio::test]
async fn every_table_and_column_has_a_comment() {
    let (database, _) = fresh().await;
    let silent = "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                  WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
                  AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid, 'pg_class') IS NULL)";
    assert_eq!(database.rows(silent).await, Vec::<Vec<Option<String>>>::new());
}

#[tokio::test]
async fn a_role_without_ownership_can_serve() {
    let (database, _) = fresh().await;
    let role = format!("{}_serves", database.name());
    database
        .execute(&format!(
            "CREATE ROLE {role} LOGIN;
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};"
        ))
        .await;
    let url = database.url().replace("://postgres@", &format!("://{role}@"));
    let store = PostgresStore::connect(&config(&url)).await.unwrap();
    assert_eq!(store.migrate().await.unwrap(), 0);
    let new = NewRevocation {
        target: Target::Session(session()),
        expires: countersign::store::Expiry::LongestSession,
    };
    let revoked = store.revoke(&new, &some_event()).await.unwrap().revocation.unwrap();
    let loaded = store.load_revocations(UnixMillis(0)).await.unwrap();
    assert_eq!(loaded.rows, [revoked]);
    store.revocations_since(&loaded.cursor).await.unwrap();
    drop(store);
    database
        .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}

#[tokio::test]
async fn a_missing_database_is_one_clear_error() {
    let (database, _) = fresh().await;
    let urls = [
        database.url().replace(database.name(), "no_such_database"),
        "postgres://nobody@127.0.0.1:1/nothing".to_owned(),
        "postgres://nobody:canary@host.invalid/nothing".to_owned(),
    ];
    let misspelt = "postgres://nobody:canary@127.0.0.1:port/nothing";
    let error = DatabaseUrl::parse(&misspelt.into()).unwrap_err();
    assert!(!format!("{error:?} {error}").contains("canary"), "{error}");
    for url in urls {
        let mut config = config(&url);
        config.acquire_timeout = Duration::from_millis(500);
        let error = PostgresStore::connect(&config).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::StoreUnavailable, "{error}");
        assert!(!format!("{error:?} {config:?}").contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn a_missing_schema_is_an_error_and_not_an_empty_result() {
    let database = Database::fresh().await;
    let store = PostgresStore::connect(&config(database.url())).await.unwrap();
    let error = store.login(&name("ada"), &client_id("web")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal, "{error}");
}
