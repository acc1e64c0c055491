//! A thousand watchers on one replica, revocations at another. The full size is
//! `COUNTERSIGN_WATCHERS=1000 COUNTERSIGN_WATCHED=10000 cargo test --all-features --test faults watchers -- --nocapture`;
//! `COUNTERSIGN_WATCH_PACE` says how many revocations are made a second (100 unless it is set).

use std::time::Duration;

use countersign::clock::{Clock as _, SystemClock};
use countersign::model::SessionId;
use countersign::proto::revoke_request::Target;
use countersign::proto::watch_revocations_response::Message;
use countersign::proto::{Revocation, WatchRevocationsRequest, WatchRevocationsResponse};
use countersign::secret::SystemEntropy;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tonic::Streaming;

use crate::support::{Caller, Fleet, size};

/// A connection carries a hundred streams.
const OF_A_CONNECTION: usize = 50;

/// Longer than any of this takes where it works.
const PATIENCE: Duration = Duration::from_mins(15);

async fn watch(caller: &Caller) -> Streaming<WatchRevocationsResponse> {
    let mut stub = caller.tokens.clone();
    let begun = stub.watch_revocations(WatchRevocationsRequest::default()).await;
    let mut stream = begun.expect("it may watch").into_inner();
    // The snapshot is over with the first heartbeat.
    while !matches!(next(&mut stream).await, Message::Heartbeat(_)) {}
    stream
}

async fn next(stream: &mut Streaming<WatchRevocationsResponse>) -> Message {
    let message = stream.message().await.expect("the stream goes on").expect("and on");
    message.message.expect("a message")
}

/// Milliseconds since the revocation was written down.
fn age(revocation: &Revocation) -> u64 {
    let revoked = revocation.revoked_at.expect("it says when");
    let revoked = revoked.seconds * 1000 + i64::from(revoked.nanos) / 1_000_000;
    u64::try_from(SystemClock::new().now().0 - revoked).unwrap_or(0)
}

/// Reads until so many revocations have come; how late each was.
async fn read(mut stream: Streaming<WatchRevocationsResponse>, count: usize) -> Histogram<u64> {
    let mut delays = Histogram::new_with_bounds(1, 3_600_000, 3).unwrap();
    while delays.len() < count as u64 {
        if let Message::Event(revocation) = next(&mut stream).await {
            delays.saturating_record(age(&revocation).max(1));
        }
    }
    delays
}

#[tokio::test(flavor = "multi_thread")]
async fn every_watcher_hears_of_every_revocation() {
    let watchers = size("COUNTERSIGN_WATCHERS", 100_usize);
    let count = size("COUNTERSIGN_WATCHED", 200_usize);
    let pace = size("COUNTERSIGN_WATCH_PACE", 100_u32);
    let fleet = Fleet::direct(&[], &[("server.max_connections", "4096")]).await;
    let server = fleet.replicas[1].server();
    let before = server.resident_kib();

    let mut reading = JoinSet::new();
    for _ in 0..watchers.div_ceil(OF_A_CONNECTION) {
        let caller = Caller::patient(&server.grpc_url(), PATIENCE);
        for _ in 0..OF_A_CONNECTION.min(watchers - reading.len()) {
            let stream = watch(&caller).await;
            reading.spawn(read(stream, count));
        }
    }
    let watched = server.resident_kib();
    let start = Instant::now();
    let (caller, mut calls) = (fleet.replicas[0].direct(), JoinSet::new());
    let mut ticks = interval(Duration::from_secs(1) / pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..count {
        ticks.tick().await;
        // No more at once than the replica has connections for.
        if calls.len() >= 16 {
            calls
                .join_next()
                .await
                .expect("there are some")
                .expect("it does not panic");
        }
        let caller = caller.clone();
        calls.spawn(async move {
            let id = SessionId::generate(SystemClock::new().now(), &SystemEntropy);
            // Of a session that nobody has heard of: what is written down is the same.
            caller
                .revoke(Target::SessionId(id.to_string()))
                .await
                .expect("it is acknowledged");
        });
    }
    calls.join_all().await;
    let revoked = start.elapsed();
    let heard = timeout(PATIENCE, reading.join_all())
        .await
        .expect("all have heard of all");
    let took = start.elapsed();
    let mut delays = Histogram::<u64>::new_with_bounds(1, 3_600_000, 3).unwrap();
    for some in heard {
        assert_eq!(some.len(), count as u64);
        delays.add(some).unwrap();
    }
    println!(
        "{watchers} watchers, {count} revocations made within {revoked:?}: all heard after {took:?}; p50 {} ms, p99 {} ms, \
         worst {} ms; memory {before} KiB before, {watched} KiB with the watchers, {} KiB afterwards",
        delays.value_at_quantile(0.5),
        delays.value_at_quantile(0.99),
        delays.max(),
        server.resident_kib(),
    );
    fleet.assert_calm();
}
