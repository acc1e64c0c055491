//! Postgres: the server, the role, and what is in the database.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::{Broken, CANARY, Refuses, Starts, on_free_ports};
use crate::support::deployment::for_tests;
use crate::support::serve::Storage;
use crate::support::{Database, KeySpace, Postgres, eventually, ports};

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of set-ups")]
async fn faults_of_the_database_are_named_with_their_cure() {
    let postgres = Postgres::start(&[]);
    let keys = KeySpace::fresh();
    let at = |url: &str| on_free_ports(for_tests(Storage::clustered(url, keys.url(), keys.prefix())));
    let admin = postgres.database().await;
    admin
        .execute(
            "CREATE ROLE cs_pw LOGIN PASSWORD 'right'; CREATE ROLE cs_few LOGIN; CREATE ROLE cs_owner LOGIN;
             CREATE ROLE cs_full LOGIN CONNECTION LIMIT 0",
        )
        .await;
    admin
        .execute("CREATE DATABASE cs_ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
        .await;
    admin
        .execute("CREATE DATABASE cs_latin ENCODING 'LATIN1' TEMPLATE template0")
        .await;
    let hba = postgres.folder().join("data/pg_hba.conf");
    let rules = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("host all cs_pw 127.0.0.1/32 scram-sha-256\n{rules}")).unwrap();
    admin.execute("SELECT pg_reload_conf()").await;
    let (host, port) = admin.host();
    let url = |user: &str, database: &str| format!("postgres://{user}@{host}:{port}/{database}");
    eventually("the server wants a password", Duration::from_secs(20), || async {
        PgConnection::connect(&url("cs_pw", "postgres")).await.err()
    })
    .await;

    let (foreign, flyway, few, managed, read_only) = (
        postgres.database().await,
        postgres.database().await,
        postgres.database().await,
        postgres.database().await,
        postgres.database().await,
    );
    foreign.execute("CREATE TABLE users (id int)").await;
    flyway
        .execute("CREATE TABLE schema_version (installed_rank int, version text)")
        .await;
    // The schema exists, and the role of the service has no rights on it.
    at(few.url()).run(&["migrate"]).succeed();
    for database in [&managed, &read_only] {
        let sql = format!(
            "ALTER DATABASE {} OWNER TO cs_owner; GRANT ALL ON SCHEMA public TO cs_owner",
            database.name()
        );
        database.execute(&sql).await;
    }
    managed
        .execute("REVOKE EXECUTE ON FUNCTION pg_current_wal_lsn() FROM PUBLIC")
        .await;
    let sql = format!(
        "ALTER DATABASE {} SET default_transaction_read_only = on",
        read_only.name()
    );
    read_only.execute(&sql).await;
    let nowhere = ports::free();

    for broken in [
        Broken {
            name: "no server listens there",
            storage: at(&format!("postgres://cs:{CANARY}@127.0.0.1:{nowhere}/none")),
            check: ("database", "UNREACHABLE"),
            code: 69,
            says: &["127.0.0.1", "refused", "is PostgreSQL running there"],
            serve: Refuses(69, "is PostgreSQL running there"),
        },
        Broken {
            name: "the password is wrong",
            storage: at(&format!("postgres://cs_pw:{CANARY}@{host}:{port}/postgres")),
            check: ("database", "UNREACHABLE"),
            code: 69,
            says: &["password authentication failed", "check the user and password"],
            serve: Refuses(69, "check the user and password"),
        },
        Broken {
            name: "the database does not exist",
            storage: at(&url("postgres", "nowhere")),
            check: ("database", "UNREACHABLE"),
            code: 69,
            says: &["\"nowhere\" does not exist", "createdb"],
            serve: Refuses(69, "createdb"),
        },
        Broken {
            name: "no connection is free",
            storage: at(&url("cs_full", "postgres")),
            check: ("database", "UNREACHABLE"),
            code: 69,
            says: &["too many connections", "storage.database_pool"],
            serve: Refuses(69, "storage.database_pool"),
        },
        Broken {
            name: "the role may not create tables",
            storage: at(&url("cs_few", foreign.name())),
            check: ("database", "FAILED"),
            code: 1,
            says: &[
                "role cs_few may not create tables in schema public",
                "GRANT USAGE, CREATE ON SCHEMA",
            ],
            serve: Refuses(1, "may not create tables"),
        },
        Broken {
            name: "the role may not read the tables",
            storage: at(&url("cs_few", few.name())),
            check: ("database", "FAILED"),
            code: 1,
            says: &["permission denied for table", "GRANT"],
            serve: Refuses(1, "permission denied for table"),
        },
        Broken {
            name: "the encoding is SQL_ASCII",
            storage: at(&url("postgres", "cs_ascii")),
            check: ("database", "FAILED"),
            code: 1,
            says: &["encoding SQL_ASCII", "ENCODING 'UTF8'"],
            serve: Refuses(1, "encoding SQL_ASCII"),
        },
        Broken {
            name: "the encoding is LATIN1",
            storage: at(&url("postgres", "cs_latin")),
            check: ("database", "FAILED"),
            code: 1,
            says: &["encoding LATIN1", "ENCODING 'UTF8'"],
            serve: Refuses(1, "encoding LATIN1"),
        },
        Broken {
            name: "another program has a table of our name",
            storage: at(foreign.url()),
            check: ("database", "FAILED"),
            code: 1,
            says: &["table users in schema public", "a database of its own"],
            serve: Refuses(1, "table users in schema public"),
        },
        Broken {
            name: "another program numbers its migrations in our table",
            storage: at(flyway.url()),
            check: ("database", "FAILED"),
            code: 1,
            says: &["table schema_version in schema public", "a database of its own"],
            serve: Refuses(1, "table schema_version in schema public"),
        },
        Broken {
            name: "the database takes no writes",
            storage: at(read_only.url()),
            check: ("database", "FAILED"),
            code: 1,
            says: &["takes no writes", "name the primary"],
            serve: Refuses(69, "takes no writes"),
        },
        Broken {
            name: "the database does not tell its timeline",
            storage: at(&url("cs_owner", managed.name())),
            check: ("timeline", "WARNING"),
            code: 0,
            says: &[
                "permission denied for function pg_current_wal_lsn",
                "GRANT EXECUTE",
                "not noticed",
            ],
            serve: Starts,
        },
    ] {
        broken.check();
    }
    let half_made = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    for (database, tables) in [(&foreign, "1"), (&flyway, "1"), (&read_only, "0")] {
        assert_eq!(database.scalar(half_made).await, tables, "half a schema");
    }
    let latin = Database::at(&url("postgres", "cs_latin"));
    assert_eq!(latin.scalar(half_made).await, "0", "half a schema");
}
