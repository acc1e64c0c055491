//! Malicious password hashes. None can be imported. One that is in the store nevertheless costs neither time nor
//! memory, matches no password and crashes nothing.

use std::time::Duration;

use countersign::proto::{ImportUsersRequest, User};
use rstest::rstest;
use tokio::time::Instant;
use tonic::Code;

use crate::support::{Admin, Caller, Deployment, DeploymentKind, PASSWORD, assert_refused, poll};

const SALT: &str = "c29tZXNhbHRzb21lc2FsdA";
const TAG: &str = "RdescudvJCsgt3ub+b0dWRWJTmaaJObGRdescudvJCs";

fn hostile() -> Vec<String> {
    let mut hashes = vec![
        format!("$argon2id$v=19$m=4194304,t=1,p=1${SALT}${TAG}"),
        format!("$argon2id$v=19$m=4294967295,t=1,p=1${SALT}${TAG}"),
        format!("$argon2id$v=19$m=1024,t=1000000,p=1${SALT}${TAG}"),
        format!("$argon2id$v=19$m=1024,t=1,p=16777216${SALT}${TAG}"),
        format!("$argon2id$v=19$m=1024,t=0,p=1${SALT}${TAG}"),
        format!("$argon2id$v=19$m=1024,t=1,p=1${SALT}$AAAAAA"),
        format!("$argon2d$v=19$m=4194304,t=1,p=1${SALT}${TAG}"),
        format!("$argon2id$v=19$m=1024,t=1,p=1$AA${TAG}"),
        format!("$argon2id$v=19$m=99999999999999999999,t=1,p=1${SALT}${TAG}"),
        "$argon2id$".to_owned(),
        "$2b$31$9nwMmWO4vN32xf8bTu23x.FMZtXTHWFGY4kav2Q6pQmZUDwj8Dmqa".to_owned(),
        "$2b$99$9nwMmWO4vN32xf8bTu23x.FMZtXTHWFGY4kav2Q6pQmZUDwj8Dmqa".to_owned(),
        // RUSTSEC-2026-0199: a multi-byte character where the parser takes a slice.
        "$2b$10$9nwMmWO4vN32xf8bTu23é.FMZtXTHWFGY4kav2Q6pQmZUDwj8Dmq".to_owned(),
        "$2b$1é$9nwMmWO4vN32xf8bTu23x.FMZtXTHWFGY4kav2Q6pQmZUDwj8Dmqa".to_owned(),
        format!("$scrypt$ln=40,r=8,p=1${SALT}${TAG}"),
        format!("$scrypt$ln=15,r=1073741823,p=1${SALT}${TAG}"),
        format!("pbkdf2_sha256$4294967295$salt${TAG}="),
        format!("$pbkdf2-sha256$i=4294967295,l=32${SALT}${TAG}"),
        "{SSHA}c29tZXRoaW5n".to_owned(),
        format!("$6$rounds=999999999$saltsalt${}", "x".repeat(86)),
        "$P$S2.qIBDR7PWlZ74w6o647SKRCymcDn1".to_owned(),
        format!("pbkdf2:sha512:4294967295$saltsalt${}", "0".repeat(128)),
        format!("scrypt:1073741824:8:1$saltsalt${}", "0".repeat(128)),
        // ASP.NET Identity with 2^31 iterations.
        "AQAAAAGAAAAAAAAAEF1bCfbcstU6X//GDErA1V+aiF640KgdoZkMfjkKbeIFpFBWIaZue/Xiwa+BuOCZvw==".to_owned(),
        "$bcrypt-sha256$v=2,t=2b,r=31$n79VH.0Q2TMWmt3Oqt9uku$Kq4Noyk3094Y2QlB8NdRT8SvGiI4ft2".to_owned(),
        "$fbscrypt$v=1,n=31,r=8,p=1,ss=Bw==,sk=YWJjZGVmZ2hpamtsbW5vcA==$32KO3nZpEl3YQw==$YWJjZGVmZ2hpamtsbW5vcA=="
            .to_owned(),
        "plain text".to_owned(),
    ];
    hashes.push(format!("$argon2id$v=19$m=1024,t=1,p=1${}${TAG}", "A".repeat(20_000)));
    hashes
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_hash_is_not_imported_and_is_harmless_in_the_store(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    let ada = deployment.add_user("ada", &[]);
    deployment.add_user("ben", &[]);
    let server = deployment.serve();
    let (admin, caller) = (Admin::of(&server), Caller::of(&server));
    caller.login("ben").await;

    let hashes = hostile();
    let rows = hashes.iter().enumerate().map(|(n, hash)| ImportUsersRequest {
        user: Some(User {
            username: format!("hostile{n}"),
            ..User::default()
        }),
        password_hash: hash.clone(),
    });
    let done = admin
        .users
        .clone()
        .import_users(futures_util::stream::iter(rows.collect::<Vec<_>>()))
        .await;
    let done = done.unwrap().into_inner();
    assert_eq!(done.imported, 0, "{done:?}");
    let refused: Vec<u32> = done.rejected.iter().map(|row| row.index).collect();
    assert_eq!(refused, (0..u32::try_from(hashes.len()).unwrap()).collect::<Vec<_>>());
    assert!(done.rejected.iter().all(|row| row.field == "password_hash"), "{done:?}");

    let before = server.resident_kib();
    for hash in &hashes {
        store_hash(&deployment, hash).await;
        // The better of two runs: the cost of a hash would show in each of them.
        let mut best = Duration::MAX;
        for _ in 0..2 {
            let start = Instant::now();
            assert_refused(
                caller.issue("ada", PASSWORD).await,
                Code::Unauthenticated,
                "INVALID_CREDENTIALS",
            );
            best = best.min(start.elapsed());
        }
        assert!(best < Duration::from_secs(3), "{hash:.40} took {best:?}");
    }
    let after = server.resident_kib();
    assert!(after < before + 32 * 1024, "{before} KiB became {after} KiB");
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    // The operator needs to know which user's password to reset.
    let logged_with_user = || {
        let log = server.log();
        let mut lines = log
            .lines()
            .filter(|line| line.contains("a stored password hash is refused"));
        lines.next().map(|line| line.contains(&ada))
    };
    assert_eq!(
        poll(Duration::from_secs(10), logged_with_user),
        Some(true),
        "{ada}: {log}"
    );
    caller.login("ben").await;
}

/// Writes a hash into the store, bypassing all checks.
async fn store_hash(deployment: &Deployment, hash: &str) {
    if let Some(database) = &deployment.database {
        let sql = format!("UPDATE users SET password_hash = '{hash}' WHERE username = 'ada'");
        database.execute(&sql).await;
        return;
    }
    let folder = std::fs::read_dir(deployment.storage.data()).unwrap();
    let file = folder
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "db"))
        .unwrap();
    let connection = rusqlite::Connection::open(file).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    let placed = connection.execute("UPDATE users SET password_hash = ?1 WHERE username = 'ada'", [hash]);
    assert_eq!(placed.unwrap(), 1);
}
