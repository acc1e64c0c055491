//! The primary of Postgres is replaced, and comes back at its address as a standby of its successor: it answers reads, and refuses
//! each write with an error of its own (25006).

use std::collections::BTreeSet;
use std::time::Duration;

use countersign::proto::revoke_request::Target;
use nix::sys::signal::Signal;
use tokio::task::block_in_place;
use tonic::{Code, Status};

use crate::support::caller::reason;
use crate::support::deployment::{add_user, for_tests};
use crate::support::replicated::{Replicated, serve};
use crate::support::{Caller, PASSWORD, Pooler, Proxy, Storage, eventually};

const SOON: Duration = Duration::from_mins(1);

/// How the replica reaches the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By one address, which an operator switches.
    Address,
    /// Through `PgBouncer`, which keeps the connections of its clients when it connects to the demoted server.
    Pooler,
    /// By a URL that names both servers.
    BothHosts,
}

/// The codes and reasons of failed calls.
#[derive(Debug, Default)]
struct Refusals(BTreeSet<(i32, String)>);

impl Refusals {
    /// Adds the failure of a call; returns whether it succeeded.
    fn add<T>(&mut self, answer: Result<T, Status>) -> bool {
        let Err(status) = answer else { return true };
        let (code, why) = reason(&status);
        self.0.insert((i32::from(code), why));
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_primary_is_an_outage_until_the_successor_is_used() {
    for way in [Way::Address, Way::Pooler, Way::BothHosts] {
        replace_the_primary(way).await;
    }
}

#[expect(clippy::print_stdout, reason = "a test says what it measured")]
async fn replace_the_primary(way: Way) {
    let Replicated {
        mut primary,
        standby,
        redis,
        database,
    } = Replicated::start().await;
    let proxy = Proxy::start(primary.address()).await;
    let mut pooler = Pooler::with_size(&database, 20);
    let url = match way {
        Way::Address => database.url_through(proxy.address()),
        Way::Pooler => database.url_through(pooler.address()),
        Way::BothHosts => {
            let hosts = format!("{},{}", primary.address(), standby.address());
            format!(
                "postgres://postgres@{hosts}/{}?target_session_attrs=read-write",
                database.name()
            )
        }
    };
    let storage = for_tests(Storage::clustered(&url, &redis.url(), "cs")).set("storage.acquire_timeout", "1s");
    block_in_place(|| add_user(&storage, "ada", &[]));
    let server = serve(&storage).await;
    let caller = Caller::of(&server);
    let mut token = caller.login("ada").await.refresh_token;
    let revoked = caller.login("ada").await;
    let mut refusals = Refusals::default();

    block_in_place(|| {
        // A clean stop: the standby gets all that was written.
        primary.stop(Signal::SIGINT);
        standby.promote();
        primary.launch_behind(&standby);
    });
    let call_all = async |token: &mut String, refusals: &mut Refusals| {
        let refreshed = caller.refresh(token).await;
        if let Ok((tokens, _)) = &refreshed {
            token.clone_from(&tokens.refresh_token);
        }
        let all = [
            refusals.add(refreshed),
            refusals.add(caller.issue("ada", PASSWORD).await),
            refusals.add(caller.revoke(Target::SessionId(revoked.session_id.clone())).await),
        ];
        all == [true; 3]
    };
    if way != Way::BothHosts {
        eventually("the loss is noticed", SOON, || async {
            let log = server.log();
            (log.contains("lost PostgreSQL") || log.contains("takes no writes")).then_some(())
        })
        .await;
        for _ in 0..10 {
            assert!(
                !call_all(&mut token, &mut refusals).await,
                "{way:?}: the demoted server takes no writes"
            );
        }
    }
    match way {
        Way::Address => proxy.redirect(standby.address()),
        Way::Pooler => pooler.switch(standby.address()),
        Way::BothHosts => {}
    }
    let begun = tokio::time::Instant::now();
    while !call_all(&mut token, &mut refusals).await {
        assert!(
            begun.elapsed() < SOON,
            "{way:?}: the successor is not used: {refusals:?}\n{}",
            server.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!(
        "{way:?}: all calls succeed after {:.1?}; refused meanwhile: {refusals:?}",
        begun.elapsed()
    );
    assert!(
        refusals.0.iter().all(|(code, _)| *code == i32::from(Code::Unavailable)),
        "{way:?}: {refusals:?}"
    );
    // On a slow machine the revocations became stale during the outage.
    eventually("the revoked token is refused", SOON, || async {
        let answer = caller.validate(&revoked.access_token).await.ok()?;
        (!answer.active).then_some(())
    })
    .await;
    assert!(!server.log().contains("INTERNAL"), "{}", server.log());
}
