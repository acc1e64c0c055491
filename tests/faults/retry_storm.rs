//! When an outage ends, the clients that failed must not all retry at the same moment.
//!
//! The full run: `RETRY_STORM_CLIENTS=2000 RETRY_STORM_SECONDS=30 cargo test --all-features --test faults
//! retry_storm`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use countersign::client::Client;
use countersign::proto::RefreshRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::support::{Countersign, PASSWORD, Servers, eventually};

/// Calls per second of all clients together: few enough for a debug build on two shared cores.
const RATE: f64 = 100.0;

#[expect(clippy::disallowed_methods, reason = "the size of a test is no configuration")]
fn size(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_spread_their_retries_after_an_outage() {
    let mut servers = Servers::start(&["--appendonly", "yes"]).await;
    let server = servers.serve().await;
    // All clients live in this process. If it stalls for a second, all their calls are late together, which looks
    // like a storm. A real storm would show in every round.
    for round in 1.. {
        let (before, after) = outage(&mut servers, &server).await;
        if after < 2.0 * before.max(RATE) {
            break;
        }
        assert!(round < 5, "{after} a second, {before} before");
    }
}

/// An outage of Redis with new clients. Returns the calls in the busiest second before it and after it.
#[expect(clippy::print_stdout, reason = "a test says what it measured")]
async fn outage(servers: &mut Servers, server: &Countersign) -> (f64, f64) {
    let (clients, outage) = (size("RETRY_STORM_CLIENTS", 200), size("RETRY_STORM_SECONDS", 6));
    let period = Duration::from_secs_f64(f64::from(clients) / RATE);
    let (running, succeeded) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for n in 0..clients {
        // Each client stands for a process of its own, with its own connection and retry budget.
        let client = Client::builder(server.grpc_url())
            .deadline(Duration::from_secs(10))
            .connect_lazy()
            .unwrap();
        let session = eventually("the client is logged in", Duration::from_mins(1), || async {
            client.log_in("ada", PASSWORD).await.ok()
        })
        .await;
        let (running, succeeded) = (running.clone(), succeeded.clone());
        tasks.spawn(async move {
            let mut token = session.tokens().refresh_token;
            let mut attempt = 0_u64;
            let mut due = Instant::now() + period.mul_f64(f64::from(n) / f64::from(clients));
            while running.load(Ordering::Relaxed) {
                sleep_until(due).await;
                let request = RefreshRequest {
                    refresh_token: token.clone(),
                    attempt_id: attempt.to_string(),
                    ..RefreshRequest::default()
                };
                if let Ok(answer) = client.refresh(request).await {
                    token = answer.tokens.unwrap().refresh_token;
                    attempt += 1;
                    succeeded.fetch_add(1, Ordering::Relaxed);
                }
                // A late client does not make up for missed calls.
                due = (due + period).max(Instant::now());
            }
        });
    }

    sleep(period.max(Duration::from_secs(2))).await;
    let before = busiest_second(server, 3 * Duration::from_secs(1)).await;
    servers.redis.kill();
    sleep(Duration::from_secs(u64::from(outage))).await;
    let during = busiest_second(server, 2 * Duration::from_secs(1)).await;
    servers.redis.launch();
    let count = succeeded.load(Ordering::Relaxed);
    // Counted from the restart: a storm would fill the first second after it.
    let after = busiest_second(server, Duration::from_secs(8)).await;
    println!("{clients} clients, calls in the busiest second: before {before}, during {during}, after {after}");
    eventually("refreshes succeed again", Duration::from_mins(1), || async {
        (succeeded.load(Ordering::Relaxed) > count + u64::from(clients)).then_some(())
    })
    .await;
    running.store(false, Ordering::Relaxed);
    while tasks.join_next().await.is_some() {}
    (before, after)
}

/// The most Refresh calls within any one second of this span, by the server's own metric.
async fn busiest_second(server: &Countersign, span: Duration) -> f64 {
    const STEP: Duration = Duration::from_millis(250);
    let mut seen = vec![(Instant::now(), arrivals(server).await)];
    while seen[0].0.elapsed() < span {
        sleep(STEP).await;
        seen.push((Instant::now(), arrivals(server).await));
    }
    let second = usize::try_from(Duration::from_secs(1).as_millis() / STEP.as_millis()).unwrap();
    let rates = seen.iter().zip(&seen[second.min(seen.len() - 1)..]);
    rates
        .map(|((since, few), (until, many))| (many - few) / (*until - *since).as_secs_f64())
        .fold(0.0, f64::max)
}

async fn arrivals(server: &Countersign) -> f64 {
    let address = server.http_url().trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text.lines()
        .filter(|line| line.starts_with("countersign_grpc_calls_total") && line.contains("method=\"Refresh\""))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}
