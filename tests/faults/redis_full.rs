//! Redis is configured to evict sessions, has no memory left, or no disk.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use countersign::proto::revoke_request::Target;
use tonic::Code;

use crate::support::caller::{assert_refused, reason};
use crate::support::guard::scratch;
use crate::support::{Caller, PASSWORD, Servers, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn logins_fail_when_redis_is_set_to_evict() {
    let servers = Servers::start(&["--maxmemory", "64mb"]).await;
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let session = caller.login("ada").await;
    servers
        .redis
        .command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    // The eviction policy is checked on every reconnection.
    servers
        .redis
        .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    eventually("logins are refused", Duration::from_secs(10), || async {
        let refused = caller.issue("ada", PASSWORD).await.err()?;
        (reason(&refused) == (Code::Unavailable, "STORE_UNAVAILABLE".into())).then_some(())
    })
    .await;
    caller.assert_active(&session.access_token).await;
    caller
        .revoke(Target::Token(session.access_token.clone()))
        .await
        .unwrap();
    servers
        .redis
        .command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    servers
        .redis
        .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    eventually("logins work", Duration::from_secs(70), || async {
        caller.issue("ada", PASSWORD).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revocations_succeed_when_redis_is_out_of_memory() {
    let servers = Servers::start(&["--maxmemory", "64mb"]).await;
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let (session, revoked) = (caller.login("ada").await, caller.login("ada").await);
    servers.redis.command(&["CONFIG", "SET", "maxmemory", "1"]);

    assert_refused(
        caller.issue("ada", PASSWORD).await,
        Code::ResourceExhausted,
        "STORE_FULL",
    );
    assert_refused(
        caller.refresh(&session.refresh_token).await,
        Code::ResourceExhausted,
        "STORE_FULL",
    );
    caller.assert_active(&session.access_token).await;
    assert_eq!(
        caller
            .revoke(Target::Token(revoked.refresh_token.clone()))
            .await
            .unwrap(),
        1
    );
    assert_refused(
        caller.refresh(&revoked.refresh_token).await,
        Code::Unauthenticated,
        "SESSION_REVOKED",
    );

    servers.redis.command(&["CONFIG", "SET", "maxmemory", "64mb"]);
    caller.refresh(&session.refresh_token).await.unwrap();
    caller.login("ada").await;
}

/// A file system of 1 MiB, unmounted when dropped.
struct SmallFileSystem<'a>(&'a Path);

impl<'a> SmallFileSystem<'a> {
    /// `None` if this process may not mount.
    fn mount(at: &'a Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(at)
            .output()
            .ok()?;
        mounted.status.success().then_some(Self(at))
    }

    /// Fills the file system to the last byte.
    fn fill(&self) {
        let mut chunk = 1 << 20;
        let mut filler = std::fs::File::create(self.0.join("filler")).unwrap();
        while chunk > 0 {
            if std::io::Write::write_all(&mut filler, &vec![0; chunk]).is_err() {
                chunk /= 2;
            }
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallFileSystem<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}

async fn revoke_with_a_full_disk(fsync: &str) -> &'static str {
    let folder = scratch("tiny");
    let Some(disk) = SmallFileSystem::mount(&folder) else {
        return "skipped: only root can mount a small file system";
    };
    let dir = folder.to_str().unwrap();
    let mut servers = Servers::start(&["--dir", dir, "--appendonly", "yes", "--appendfsync", fsync]).await;
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let (session, revoked) = (caller.login("ada").await, caller.login("ada").await);
    disk.fill();
    eventually("logins are refused", Duration::from_secs(20), || async {
        let refused = caller.issue("ada", PASSWORD).await.err()?;
        assert!(
            matches!(refused.code(), Code::Unavailable | Code::ResourceExhausted),
            "{refused:?}"
        );
        Some(())
    })
    .await;
    caller
        .revoke(Target::Token(revoked.refresh_token.clone()))
        .await
        .expect("a revocation in Postgres is enough");
    caller.until_revoked(&revoked.access_token).await;
    caller.assert_active(&session.access_token).await;

    disk.free();
    if !servers.redis.ready() {
        servers.redis.launch();
    }
    eventually("logins work", Duration::from_secs(20), || async {
        caller.issue("ada", PASSWORD).await.ok()
    })
    .await;
    assert_refused(
        caller.refresh(&revoked.refresh_token).await,
        Code::Unauthenticated,
        "SESSION_REVOKED",
    );
    drop(servers);
    "shown"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_undoes_no_revocation_with_fsync_every_second() {
    println!("{}", revoke_with_a_full_disk("everysec").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_undoes_no_revocation_with_fsync_always() {
    println!("{}", revoke_with_a_full_disk("always").await);
}
