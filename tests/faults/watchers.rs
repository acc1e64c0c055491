//! A thousand watchers on one replica, and revocations at another. The full size is `COUNTERSIGN_WATCHERS=1000
//! COUNTERSIGN_WATCHED=10000 cargo test --all-features --test faults watchers -- --nocapture`;
//! `COUNTERSIGN_WATCH_PACE` is the number of revocations per second (100 by default).

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

/// Streams on one connection; a connection may carry a hundred.
const STREAMS_PER_CONNECTION: usize = 50;

/// Longer than the whole test takes when it succeeds.
const TIMEOUT: Duration = Duration::from_mins(15);

async fn watch(caller: &Caller) -> Streaming<WatchRevocationsResponse> {
    let mut stub = caller.tokens.clone();
    let begun = stub.watch_revocations(WatchRevocationsRequest::default()).await;
    let mut stream = begun.expect("the caller may watch").into_inner();
    // The first heartbeat marks the end of the snapshot.
    while !matches!(next(&mut stream).await, Message::Heartbeat(_)) {}
    stream
}

async fn next(stream: &mut Streaming<WatchRevocationsResponse>) -> Message {
    let message = stream
        .message()
        .await
        .expect("the stream is open")
        .expect("the stream has not ended");
    message.message.expect("a message")
}

/// Milliseconds since the revocation was stored.
fn age(revocation: &Revocation) -> u64 {
    let revoked = revocation.revoked_at.expect("the revocation has revoked_at");
    let revoked = revoked.seconds * 1000 + i64::from(revoked.nanos) / 1_000_000;
    u64::try_from(SystemClock::new().now().0 - revoked).unwrap_or(0)
}

/// Reads this many revocations, and returns how late each arrived.
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
async fn every_watcher_receives_every_revocation() {
    let watchers = size("COUNTERSIGN_WATCHERS", 100_usize);
    let count = size("COUNTERSIGN_WATCHED", 200_usize);
    let pace = size("COUNTERSIGN_WATCH_PACE", 100_u32);
    let fleet = Fleet::direct(&[], &[("server.max_connections", "4096")]).await;
    let server = fleet.replicas[1].server();
    let before = server.resident_kib();

    let mut reading = JoinSet::new();
    for _ in 0..watchers.div_ceil(STREAMS_PER_CONNECTION) {
        let caller = Caller::with_deadline(&server.grpc_url(), TIMEOUT);
        for _ in 0..STREAMS_PER_CONNECTION.min(watchers - reading.len()) {
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
        // At most as many at a time as the replica has database connections.
        if calls.len() >= 16 {
            calls
                .join_next()
                .await
                .expect("a revocation is under way")
                .expect("the revocation does not panic");
        }
        let caller = caller.clone();
        calls.spawn(async move {
            let id = SessionId::generate(SystemClock::new().now(), &SystemEntropy);
            // The session does not exist, which makes no difference to the stored revocation.
            caller
                .revoke(Target::SessionId(id.to_string()))
                .await
                .expect("the revocation is acknowledged");
        });
    }
    calls.join_all().await;
    let revoked = start.elapsed();
    let latencies = timeout(TIMEOUT, reading.join_all())
        .await
        .expect("every watcher received every revocation");
    let took = start.elapsed();
    let mut delays = Histogram::<u64>::new_with_bounds(1, 3_600_000, 3).unwrap();
    for some in latencies {
        assert_eq!(some.len(), count as u64);
        delays.add(some).unwrap();
    }
    println!(
        "{watchers} watchers, {count} revocations made within {revoked:?}: all received after {took:?}; p50 {} ms, p99 {} ms, \
         worst {} ms; memory {before} KiB before, {watched} KiB with the watchers, {} KiB afterwards",
        delays.value_at_quantile(0.5),
        delays.value_at_quantile(0.99),
        delays.max(),
        server.resident_kib(),
    );
    fleet.assert_no_panics();
}
