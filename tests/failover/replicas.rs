//! A replica pauses.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::run::{run, sizes};
use crate::support::deployment::for_outages as storage;
use crate::support::random::Random;
use crate::support::{Countersign, Postgres, Redis};

/// How long the replica stands still: longer than the deadline of the calls that wait in its socket.
const PAUSE: Duration = Duration::from_secs(10);

/// A replica stands still, as a virtual machine does while it is moved. When it goes on, calls wait in its socket, and it has not
/// heard of the revocations of the last seconds. A refresh that its client has given up may wait there as well: meanwhile the client
/// has gone on at other replicas.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stood_still_answers_by_fresh_revocations() {
    for size in sizes() {
        let started = tokio::task::spawn_blocking(|| (Postgres::start(&[("fsync", "off")]), Redis::start(&[])));
        let stores = started.await.unwrap();
        let storage = storage(stores.0.database().await.url(), &stores.1.url());
        let fault = |_: &mut (Postgres, Redis), servers: &mut Vec<Countersign>, random: &mut Random| {
            let paused = random.below(servers.len());
            servers[paused].signal(Signal::SIGSTOP);
            std::thread::sleep(PAUSE);
            servers[paused].signal(Signal::SIGCONT);
        };
        let (judgement, _stores, _servers) = run("replica paused", size, [storage], stores, fault).await;
        judgement.assert_nothing_lost();
        assert!(judgement.seen_active.longest < PAUSE / 2, "{judgement}");
    }
}
