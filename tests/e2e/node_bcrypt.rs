//! Users of a Node application move over with their passwords: their bcrypt hashes are imported, they log in, and
//! their hashes become argon2id.
//!
//! Full size, 10,000 users: `(cd tests/node-bcrypt && npm ci && node make.js 10000 4 > /tmp/users.jsonl)`, then
//! `COUNTERSIGN_TEST_BCRYPT=/tmp/users.jsonl cargo test --all-features --test e2e -- node_bcrypt --nocapture`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

use crate::support::{Caller, Deployment, DeploymentKind, assert_refused};

/// The password of user `n`, as in `tests/node-bcrypt/make.js`.
fn password(n: usize) -> String {
    format!("node {n} kéyboard 🐎 battery")
}

fn users() -> PathBuf {
    std::env::var_os("COUNTERSIGN_TEST_BCRYPT").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/vectors/bcrypt/node_bcrypt.jsonl"
            ))
        },
        PathBuf::from,
    )
}

/// The beginnings of the stored hashes, each with its count.
async fn stored(deployment: &Deployment) -> Vec<(String, u64)> {
    let sql = "SELECT substr(password_hash, 1, 9), count(*) FROM users GROUP BY 1";
    if let Some(database) = &deployment.database {
        let rows = database.rows(sql).await.into_iter();
        return rows
            .map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap().parse().unwrap()))
            .collect();
    }
    let folder = std::fs::read_dir(deployment.storage.data()).unwrap();
    let file = folder
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "db"))
        .unwrap();
    let connection = rusqlite::Connection::open(file).unwrap();
    let mut query = connection.prepare(sql).unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())));
    rows.unwrap().map(Result::unwrap).collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn imported_bcrypt_users_log_in_and_get_argon2id_hashes(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind)
        .await
        .set("password.queue", "256")
        .set("server.default_deadline", "2m")
        .set("server.max_deadline", "2m");
    let file = users();
    let count = std::fs::read_to_string(&file).unwrap().lines().count();
    let start = Instant::now();
    let done = deployment
        .storage
        .run(&["user", "import", file.to_str().unwrap()])
        .json();
    assert_eq!(done["imported"], count, "{done}");
    println!("{count} users imported in {:?}", start.elapsed());
    assert!(
        stored(&deployment)
            .await
            .iter()
            .all(|(begin, _)| begin.starts_with("$2"))
    );

    let server = deployment.serve();
    let caller = Caller::with_deadline(&server.grpc_url(), Duration::from_mins(2));
    assert_refused(
        caller.issue("node0", &password(1)).await,
        Code::Unauthenticated,
        "INVALID_CREDENTIALS",
    );
    let (start, at_once) = (Instant::now(), Arc::new(Semaphore::new(16)));
    let mut logins = JoinSet::new();
    for n in 0..count {
        let (caller, at_once) = (caller.clone(), Arc::clone(&at_once));
        logins.spawn(async move {
            let _turn = at_once.acquire_owned().await.unwrap();
            caller.issue(&format!("node{n}"), &password(n)).await.map(drop)
        });
    }
    for login in logins.join_all().await {
        login.expect("the imported password is accepted");
    }
    println!("{count} logins in {:?}", start.elapsed());
    assert_eq!(
        stored(&deployment).await,
        [("$argon2id".to_owned(), u64::try_from(count).unwrap())]
    );
    caller
        .issue("node0", &password(0))
        .await
        .expect("the password is accepted again");
}
