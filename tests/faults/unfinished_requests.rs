//! Requests and streams that never end, from callers without a credential. Memory and places are bounded for each source and in
//! all, the calls of others go on, and the memory is given back.
//!
//! Full size: `COUNTERSIGN_TEST_UNFINISHED=60 COUNTERSIGN_TEST_UNFINISHED_CONNECTIONS=100 cargo test --release --all-features
//! --test faults unfinished_requests -- --nocapture`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use countersign::proto::WatchRevocationsRequest;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::load::Report;
use crate::support::source::{H2Connection, code_of, unfinished};
use crate::support::web::{get, metric};
use crate::support::{Caller, Countersign, Deployment, DeploymentKind, Load, eventually, size};

const WATCH: &str = "/grpc.health.v1.Health/Watch";
const VALIDATE: &str = "/countersign.v1.TokenService/Validate";

/// Streams that one connection may have open.
const STREAMS: usize = 100;

fn connections() -> usize {
    size("COUNTERSIGN_TEST_UNFINISHED_CONNECTIONS", 100)
}

fn seconds() -> Duration {
    Duration::from_secs(size("COUNTERSIGN_TEST_UNFINISHED", 6))
}

async fn serve() -> Countersign {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    deployment.add_user("ada", &[]);
    deployment.serve()
}

/// A user and a service that calls for them: Validate and Refresh at a steady rate.
struct GoodCallers {
    validations: Load,
    refreshes: Load,
}

impl GoodCallers {
    async fn start(server: &Countersign) -> Self {
        let caller = Caller::of(server);
        let tokens = caller.login("ada").await;
        let validating = (caller.clone(), tokens.access_token);
        let refresh_token = Arc::new(Mutex::new(tokens.refresh_token));
        Self {
            validations: Load::start(100, move |_| {
                let (caller, token) = validating.clone();
                async move { caller.validate(&token).await }
            }),
            refreshes: Load::start(10, move |_| {
                let (caller, token) = (caller.clone(), Arc::clone(&refresh_token));
                async move {
                    let mut token = token.lock().await;
                    let (tokens, _) = caller.refresh(&token).await?;
                    *token = tokens.refresh_token;
                    Ok(())
                }
            }),
        }
    }

    /// Prints what they saw, which must be success.
    #[expect(clippy::print_stdout, reason = "a test says what it measured")]
    async fn stop(self) {
        let (validations, refreshes): (Report, Report) = (self.validations.stop().await, self.refreshes.stop().await);
        println!("Validate: {validations}\nRefresh: {refreshes}");
        validations.assert_only(&["Ok"]);
        refreshes.assert_only(&["Ok"]);
    }
}

/// Opens calls that do not end on each connection, and new ones when they are refused, for some seconds. Returns how many. The
/// attackers have a thread of their own, so that the good callers of this process do not wait for them.
async fn flood(server: &Countersign, path: &'static str, source: fn(usize) -> Ipv4Addr, message: Bytes) -> u64 {
    let address = server.grpc();
    let attack = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(attack(address, path, source, message))
    };
    tokio::task::spawn_blocking(attack).await.unwrap()
}

async fn attack(address: SocketAddr, path: &'static str, source: fn(usize) -> Ipv4Addr, message: Bytes) -> u64 {
    let begun = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + seconds();
    let mut attackers = JoinSet::new();
    for n in 0..connections() {
        let (begun, message) = (Arc::clone(&begun), message.clone());
        attackers.spawn(async move {
            while Instant::now() < end {
                let Some(mut connection) = H2Connection::open(source(n), address).await else {
                    sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let mut calls = JoinSet::new();
                for _ in 0..STREAMS {
                    let Some((stream, response)) = connection.begin(path, message.clone(), false).await else {
                        break;
                    };
                    begun.fetch_add(1, Ordering::Relaxed);
                    calls.spawn(async move {
                        let code = code_of(response).await;
                        drop(stream);
                        code
                    });
                }
                let left = end.saturating_duration_since(Instant::now());
                let _ended = tokio::time::timeout(left, calls.join_all()).await;
                sleep(Duration::from_millis(100)).await;
            }
        });
    }
    attackers.join_all().await;
    begun.load(Ordering::Relaxed)
}

/// The largest resident memory while `work` runs, in KiB, and the result.
async fn peak<T>(server: &Countersign, work: impl Future<Output = T>) -> (u64, T) {
    let mut work = std::pin::pin!(work);
    let mut peak = 0;
    loop {
        tokio::select! {
            result = &mut work => return (peak, result),
            () = sleep(Duration::from_millis(50)) => peak = peak.max(server.resident_kib()),
        }
    }
}

/// A flood beside good callers, who must see nothing of it.
#[expect(clippy::print_stdout, reason = "a test says what it measured")]
async fn flood_beside_good_callers(path: &'static str, source: fn(usize) -> Ipv4Addr) {
    let server = serve().await;
    let good = GoodCallers::start(&server).await;
    sleep(Duration::from_secs(1)).await;
    let before = server.resident_kib();
    let message = unfinished(64 * 1024, 60_000);
    let (peak, begun) = peak(&server, flood(&server, path, source, message)).await;
    good.stop().await;
    println!(
        "{begun} unfinished requests on {} connections; {before} KiB before, {peak} KiB at most",
        connections()
    );
    assert!(peak < before + 250 * 1024, "{before} KiB became {peak} KiB");
    let allowed = before + 100 * 1024;
    let after = eventually("the memory is given back", Duration::from_secs(30), || async {
        let now = server.resident_kib();
        (now < allowed).then_some(now)
    })
    .await;
    println!("{after} KiB afterwards");
    assert!(metric(&server, "countersign_gate_refusals_total") > 0.0 || path == WATCH);
}

fn one_address(_: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 2)
}

fn ten_addresses(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, u8::try_from(n % 10).unwrap_or_default())
}

fn many_addresses(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 2, u8::try_from(n % 250).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_watches_with_unfinished_messages_cost_little() {
    flood_beside_good_callers(WATCH, one_address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_validations_cost_little_however_often_they_are_repeated() {
    flood_beside_good_callers(VALIDATE, one_address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_validations_from_ten_addresses_cost_little() {
    flood_beside_good_callers(VALIDATE, ten_addresses).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_of_anonymous_callers_leave_all_other_calls_alone_and_are_reported() {
    let server = serve().await;
    let good = GoodCallers::start(&server).await;
    let (mut connections, mut streams, mut refused) = (Vec::new(), Vec::new(), 0);
    for n in 0..164 {
        let mut connection = H2Connection::open(many_addresses(n), server.grpc()).await.unwrap();
        for _ in 0..STREAMS {
            let whole = unfinished(0, 0);
            let (_, response) = connection.begin(WATCH, whole, true).await.unwrap();
            let response = response.await.unwrap();
            if response.headers().contains_key("grpc-status") {
                refused += 1;
                break;
            }
            // A caller that does not read is cut off for that.
            streams.push(tokio::spawn(async move {
                let mut body = response.into_body();
                while let Some(Ok(data)) = body.data().await {
                    let _window = body.flow_control().release_capacity(data.len());
                }
            }));
        }
        connections.push(connection);
    }
    println!(
        "{} streams on {} connections, {refused} refused",
        streams.len(),
        connections.len()
    );
    assert!(refused > 0 && streams.len() > 1500, "{}", streams.len());
    let note = eventually("/readyz tells", Duration::from_secs(30), || async {
        let text = get(&server, "/readyz");
        text.contains("anonymous_streams").then_some(text)
    })
    .await;
    assert!(note.starts_with("ready\n"), "all other calls are answered: {note}");
    let mut watching = Caller::of(&server).tokens;
    let watch = watching.watch_revocations(WatchRevocationsRequest::default()).await;
    assert!(watch.is_ok(), "a stream of a caller with a scope: {watch:?}");
    good.stop().await;
    for stream in streams {
        stream.abort();
    }
    drop(connections);
    eventually("/readyz says no more", Duration::from_secs(30), || async {
        (get(&server, "/readyz") == "ready\n").then_some(())
    })
    .await;
}
