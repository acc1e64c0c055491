//! A database for one test.

use std::net::ToSocketAddrs as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::Postgres;
use super::postgres::{programs, run};

/// A database for one test.
#[derive(Debug)]
pub struct Database {
    url: String,
    maintenance: String,
    name: String,
    drop: bool,
}

impl Database {
    /// A fresh database on the server of `COUNTERSIGN_TEST_DATABASE_URL`, or else on the server of this test process.
    pub async fn fresh() -> Self {
        match std::env::var_os("COUNTERSIGN_TEST_DATABASE_URL") {
            Some(url) => Self::create(url.to_str().expect("the URL is text"), true).await,
            None => Postgres::shared().database().await,
        }
    }

    /// A database that exists, and that is not dropped.
    pub fn at(url: &str) -> Self {
        let options: PgConnectOptions = url.parse().expect("a URL");
        Self {
            url: url.to_owned(),
            maintenance: url.to_owned(),
            name: options.get_database().expect("the URL names a database").to_owned(),
            drop: false,
        }
    }

    pub(super) async fn create(maintenance: &str, drop: bool) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "cs_test_{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        execute(maintenance, &format!("CREATE DATABASE {name}")).await;
        Self {
            url: with_path(maintenance, &name),
            maintenance: maintenance.to_owned(),
            name,
            drop,
        }
    }

    /// Its URL: `postgres://…`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its URL by way of another address, such as that of a proxy.
    pub fn url_through(&self, address: std::net::SocketAddr) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap();
        let (authority, path) = rest.split_once('/').unwrap();
        let credentials = authority
            .rsplit_once('@')
            .map_or(String::new(), |(user, _)| format!("{user}@"));
        format!("{scheme}://{credentials}{address}/{path}")
    }

    /// The host and port of its server.
    pub fn host(&self) -> (String, u16) {
        let options: PgConnectOptions = self.url.parse().expect("a URL");
        (options.get_host().to_owned(), options.get_port())
    }

    /// The address of its server, for a [`super::Proxy`].
    pub fn address(&self) -> std::net::SocketAddr {
        let mut addresses = self.host().to_socket_addrs().expect("its host has an address");
        addresses.next().expect("an address")
    }

    /// The user that connects to it.
    pub fn user(&self) -> String {
        let options: PgConnectOptions = self.url.parse().expect("a URL");
        options.get_username().to_owned()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs statements.
    pub async fn execute(&self, sql: &str) {
        execute(&self.url, sql).await;
    }

    /// The rows of a query, as text.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let rows = with(&self.url, async |connection| {
            sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await
        })
        .await;
        rows.iter().map(texts).collect()
    }

    /// The first column of the first row, as text; empty for NULL.
    pub async fn scalar(&self, sql: &str) -> String {
        let mut rows = self.rows(sql).await;
        assert!(!rows.is_empty(), "no row: {sql}");
        rows.swap_remove(0).swap_remove(0).unwrap_or_default()
    }

    /// A connection of the test itself, for a transaction that the test holds open.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url)
            .await
            .expect("the test database answers")
    }

    /// The whole database as SQL: what a thief of a dump would find.
    pub fn dump(&self) -> Vec<u8> {
        run(Command::new(programs().join("pg_dump")).args(["--inserts", "--dbname", &self.url]))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !self.drop {
            return;
        }
        let (maintenance, sql) = (
            self.maintenance.clone(),
            format!("DROP DATABASE {} WITH (FORCE)", self.name),
        );
        // A thread of its own: the runtime of the test must not be blocked, and may be ending.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(execute(&maintenance, &sql));
        });
        let _ = dropped.join();
    }
}

async fn execute(url: &str, sql: &str) {
    with(url, async |connection| {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await
    })
    .await;
}

async fn with<T>(url: &str, work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>) -> T {
    let mut connection = PgConnection::connect(url).await.expect("the test database answers");
    let done = work(&mut connection).await.expect("the test's own SQL is right");
    let _ = connection.close().await;
    done
}

fn texts(row: &PgRow) -> Vec<Option<String>> {
    // The simple query protocol sends every type as text.
    (0..row.len())
        .map(|column| row.try_get_unchecked(column).expect("text"))
        .collect()
}

fn with_path(url: &str, path: &str) -> String {
    let (head, query) = url
        .split_once('?')
        .map_or((url, String::new()), |(head, query)| (head, format!("?{query}")));
    let authority = head.find("://").expect("a URL") + 3;
    let end = head[authority..]
        .find('/')
        .map_or(head.len(), |slash| authority + slash);
    format!("{}/{path}{query}", &head[..end])
}
