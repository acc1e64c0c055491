//! Memory use and stability. These cases take minutes and run only when they are named.
//!
//! `cargo bench --bench load memory` validates `LOAD_TOKENS` (1,000,000) different live tokens; `… mixed` runs a mixed
//! load for `LOAD_MIXED_SECONDS` (600).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign::proto::{RefreshRequest, ValidateRequest};

use crate::cases::{in_turn, requests};
use crate::figures::from_environment;
use crate::generator::{Round, closed, framed, open};
use crate::report::ReportRow;
use crate::server::Server;
use crate::support::PASSWORD;

const VALIDATE: &str = "/countersign.v1.TokenService/Validate";
const BATCH: &str = "/countersign.v1.TokenService/ValidateBatch";

/// The limit of the cache of verified tokens, in KiB.
const CACHE_KIB: f64 = 64.0 * 1024.0;

/// How many tokens are made at a time.
const CHUNK: usize = 50_000;

pub async fn memory(server: &Server) -> Vec<ReportRow> {
    let target = server.target(VALIDATE);
    let count: usize = from_environment("LOAD_TOKENS", 1_000_000);
    let begin = server.resident_kib();
    let mut largest = begin;
    for _ in 0..count.div_ceil(CHUNK) {
        let chunk = requests(&server.tokens(CHUNK));
        let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        // Each token once: stop when all of the chunk have been sent.
        let mut left = CHUNK;
        while left > 0 {
            let before = next.load(std::sync::atomic::Ordering::Relaxed);
            let round = closed(&target, 16, Duration::from_millis(500), in_turn(&chunk, &next)).await;
            round.assert_ok();
            left = left.saturating_sub(next.load(std::sync::atomic::Ordering::Relaxed) - before);
        }
        largest = largest.max(server.resident_kib());
    }
    let grown = largest.saturating_sub(begin) as f64;
    vec![
        ReportRow::new(
            "memory after so many live tokens (against the cache)",
            "KiB",
            grown,
            CACHE_KIB,
        )
        .at_most(1.5),
    ]
}

pub async fn mixed(server: &Server) -> Vec<ReportRow> {
    let span = Duration::from_secs(from_environment("LOAD_MIXED_SECONDS", 600));
    let (validate, batch) = (server.target(VALIDATE), server.target(BATCH));
    let warm = requests(&server.tokens(2000));
    let mut odd = server.tokens(500);
    odd.extend((0..500).map(|n| format!("garbage.{n}.garbage")));
    let odd = requests(&odd);
    let many = countersign::proto::ValidateBatchRequest {
        requests: server
            .tokens(64)
            .into_iter()
            .map(|access_token| ValidateRequest {
                access_token,
                ..ValidateRequest::default()
            })
            .collect(),
    };
    let many = Arc::new(vec![framed(&many)]);
    let session = server.client.log_in("ada", PASSWORD).await.unwrap();
    let mut token = session.tokens().refresh_token;

    let start = Instant::now();
    let slice = span / 10;
    let (mut resident, mut tails) = (Vec::new(), Vec::new());
    while start.elapsed() < span {
        let of = |requests: &Arc<Vec<Bytes>>| in_turn(requests, &Arc::default());
        let refreshing = async {
            let since = Instant::now();
            while since.elapsed() < slice {
                let request = RefreshRequest {
                    refresh_token: token.clone(),
                    ..RefreshRequest::default()
                };
                let answer = server
                    .client
                    .refresh(request)
                    .await
                    .expect("a refresh of a live session");
                token = answer.tokens.unwrap().refresh_token;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let (usual, strange, batches, ()) = tokio::join!(
            open(&validate, 2000.0, slice, of(&warm)),
            open(&validate, 200.0, slice, of(&odd)),
            open(&batch, 50.0, slice, of(&many)),
            refreshing,
        );
        for round in [&usual, &strange, &batches] {
            round.assert_ok();
        }
        resident.push(server.resident_kib() as f64);
        tails.push(tail(&usual));
        println!(
            "{:>4} s: {:>8} KiB, p99 {:>6} µs",
            start.elapsed().as_secs(),
            server.resident_kib(),
            tail(&usual)
        );
    }
    // The first slice fills pools and caches.
    let (last, second) = (resident.len() - 1, 1.min(resident.len() - 1));
    vec![
        ReportRow::new(
            "mixed load: memory at the end (against the second tenth)",
            "KiB",
            resident[last],
            resident[second],
        )
        .at_most(1.1),
        ReportRow::new(
            "mixed load: p99 at the end (against the second tenth)",
            "µs",
            tails[last],
            tails[second],
        )
        .at_most(1.5),
    ]
}

fn tail(round: &Round) -> f64 {
    round.latency.value_at_quantile(0.99) as f64
}
