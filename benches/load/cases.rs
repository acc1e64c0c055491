//! Validate, `ValidateBatch` and the local verifier.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign::client::{Verifier, VerifierConfig};
use countersign::model::Algorithm;
use countersign::proto::{ValidateBatchRequest, ValidateRequest};

use crate::baseline::Baseline;
use crate::cores;
use crate::figures::{cpu, median, round_length, rounds, speed};
use crate::generator::{Round, Source, Target, closed, framed, open};
use crate::report::ReportRow;
use crate::server::Server;

pub const VALIDATE: &str = "/countersign.v1.TokenService/Validate";
const BATCH: &str = "/countersign.v1.TokenService/ValidateBatch";

/// Concurrent streams on each connection.
pub const STREAMS: usize = 16;

/// Validate requests for these tokens, in their order.
pub fn requests(tokens: &[String]) -> Arc<Vec<Bytes>> {
    let one = |token: &String| {
        framed(&ValidateRequest {
            access_token: token.clone(),
            audience: "api".to_owned(),
            ..ValidateRequest::default()
        })
    };
    Arc::new(tokens.iter().map(one).collect())
}

/// A source of these requests in a cycle, from position `next`.
pub fn in_turn(requests: &Arc<Vec<Bytes>>, next: &Arc<AtomicUsize>) -> impl FnMut() -> Source + use<> {
    let (requests, next) = (requests.clone(), next.clone());
    move || {
        let (requests, next) = (requests.clone(), next.clone());
        Box::new(move |_| Some(requests[next.fetch_add(1, Ordering::Relaxed) % requests.len()].clone()))
    }
}

/// A source of these requests in a cycle, from the first.
fn all_of(requests: &Arc<Vec<Bytes>>) -> impl FnMut() -> Source + use<> {
    in_turn(requests, &Arc::default())
}

/// Runs alternating rounds of the targets; asserts that all calls return OK.
pub async fn alternate<const N: usize>(asked: [(&Target, &Arc<Vec<Bytes>>); N], streams: usize) -> [Vec<Round>; N] {
    let mut all = [const { Vec::new() }; N];
    let mut sources = asked.map(|(_, requests)| all_of(requests));
    for _ in 0..rounds() {
        for (((target, _), source), of_it) in asked.iter().zip(&mut sources).zip(&mut all) {
            let round = closed(target, streams, round_length(), source).await;
            round.assert_ok();
            of_it.push(round);
        }
    }
    all
}

/// Sends the requests until the server has cached their tokens.
pub async fn warm_up(target: &Target, requests: &Arc<Vec<Bytes>>) {
    closed(target, STREAMS, Duration::from_millis(500), all_of(requests))
        .await
        .assert_ok();
}

/// The size of a response for an active token, in bytes.
pub const ANSWER: usize = 330;

pub async fn validate(server: &Server) -> Vec<ReportRow> {
    let mut rows = Vec::new();
    let empty = Baseline::empty(ANSWER);
    let (ours, theirs) = (server.target(VALIDATE), server.against(&empty, VALIDATE));

    let warm = requests(&server.tokens(1000));
    let garbage = requests(&garbage());
    warm_up(&ours, &warm).await;
    let all = [(&ours, &warm), (&theirs, &warm), (&ours, &garbage)];
    let [ours_warm, theirs_warm, ours_garbage] = alternate(all, STREAMS).await;
    let (warm_speed, empty_speed) = (speed(&ours_warm), speed(&theirs_warm));
    rows.push(ReportRow::new("Validate, warm", "calls/s", warm_speed, empty_speed).at_least(0.90));
    rows.push(ReportRow::new("Validate, warm: CPU", "µs/call", cpu(&ours_warm), cpu(&theirs_warm)).at_most(1.0 / 0.90));

    // An open loop at half of the speed of the empty service: neither server is saturated, so latency is meaningful.
    let rate = empty_speed / 2.0;
    let mut tails = [Vec::new(), Vec::new()];
    for _ in 0..rounds() {
        for (target, tails) in [&ours, &theirs].into_iter().zip(&mut tails) {
            let round = open(target, rate, round_length(), all_of(&warm)).await;
            round.assert_ok();
            tails.push(round.latency.value_at_quantile(0.99) as f64);
        }
    }
    let [our_tail, their_tail] = tails.map(|tails| median(tails.into_iter()));
    rows.push(ReportRow::new("Validate, warm: p99 at half load", "µs", our_tail, their_tail).at_most(1.25));

    // Each round gets new tokens, more than it can send. One baseline is a service that only checks a signature: an empty
    // call and a verification, on a core in the same state. The other is the computed sum of both, as if a call did not
    // displace from the caches what a loop of verifications keeps in them.
    let checking = Baseline::verifying(ANSWER, &server.public_key());
    let bound = server.against(&checking, VALIDATE);
    let forged: Vec<String> = server.tokens(1000).into_iter().map(|token| forge(&token)).collect();
    let forged = requests(&forged);
    let mut speeds: [Vec<f64>; 5] = Default::default();
    for _ in 0..rounds() {
        let count = (empty_speed * round_length().as_secs_f64()) as usize;
        let fresh = server.tokens(count);
        speeds[0].push(cores::on_server_core(|| {
            1e6 / server.bare_verification(&fresh[..count.min(5000)])
        }));
        let fresh = requests(&fresh);
        let asked = [(&ours, &fresh), (&bound, &fresh), (&theirs, &fresh), (&ours, &forged)];
        for ((target, requests), speeds) in asked.into_iter().zip(&mut speeds[1..]) {
            let round = closed(target, STREAMS, round_length(), all_of(requests)).await;
            round.assert_ok();
            let once = Arc::ptr_eq(requests, &forged) || round.calls() <= count as u64;
            assert!(once || target.pid == theirs.pid, "a token came twice");
            speeds.push(round.per_second());
        }
    }
    let [baseline, cold, bound, empty, forged] = speeds.map(|values| median(values.into_iter()));
    let name = "Validate, cold (against an empty call that checks a signature)";
    rows.push(ReportRow::new(name, "calls/s", cold, bound).at_least(0.85));
    let alone = 1.0 / (1.0 / empty + 1.0 / baseline);
    let name = "Validate, cold (against 1 / (1 / empty + a signature in a loop))";
    rows.push(ReportRow::new(name, "calls/s", cold, alone).at_least(0.85));
    let name = "Validate, forged signature (against cold)";
    rows.push(ReportRow::new(name, "calls/s", forged, cold).at_least(1.0));
    let name = "Validate, garbage (against warm)";
    rows.push(ReportRow::new(name, "calls/s", speed(&ours_garbage), warm_speed).at_least(1.0));
    rows
}

/// The token with a wrong signature.
fn forge(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{other}{}", &signature[1..])
}

fn garbage() -> Vec<String> {
    let long = "garbage.".repeat(80);
    (0..1000).map(|n| format!("{n}.{long}")).collect()
}

pub async fn batch(server: &Server) -> Vec<ReportRow> {
    let empty = Baseline::empty(ANSWER);
    let tokens = server.tokens(1024);
    let single = requests(&tokens);
    let batches: Vec<Bytes> = tokens
        .chunks(64)
        .map(|tokens| {
            let one = |token: &String| ValidateRequest {
                access_token: token.clone(),
                audience: "api".to_owned(),
                ..ValidateRequest::default()
            };
            framed(&ValidateBatchRequest {
                requests: tokens.iter().map(one).collect(),
            })
        })
        .collect();
    let batches = Arc::new(batches);
    let (ours, theirs) = (server.target(BATCH), server.against(&empty, VALIDATE));
    closed(&ours, 4, Duration::from_millis(500), all_of(&batches))
        .await
        .assert_ok();
    let (mut together, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..rounds() {
        let round = closed(&ours, 4, round_length(), all_of(&batches)).await;
        round.assert_ok();
        together.push(round.per_second() * 64.0);
        let round = closed(&theirs, STREAMS, round_length(), all_of(&single)).await;
        round.assert_ok();
        alone.push(round.per_second());
    }
    let (together, alone) = (median(together.into_iter()), median(alone.into_iter()));
    vec![ReportRow::new("ValidateBatch(64)", "tokens/s", together, alone).at_least(8.0)]
}

/// The local verifier, with each kind of signature.
pub async fn verifiers(server: &Server) -> Vec<ReportRow> {
    let mut rows = verifier(server, Algorithm::EdDsa).await;
    for algorithm in [Algorithm::Es256, Algorithm::Rs256] {
        rows.extend(verifier(&Server::signing(algorithm).await, algorithm).await);
    }
    rows
}

async fn verifier(server: &Server, algorithm: Algorithm) -> Vec<ReportRow> {
    let verifier = Verifier::start(server.client.clone(), VerifierConfig::new(server.issuer()));
    tokio::time::timeout(Duration::from_secs(10), verifier.ready())
        .await
        .expect("the feed comes");
    let check = |tokens: &[String]| {
        for token in tokens {
            let verdict = verifier.verify_local(token, "api", &[]).expect("it is fresh");
            assert!(verdict.is_ok(), "{verdict:?}");
        }
    };
    let (mut cold, mut baseline, mut warm) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds() {
        let tokens = server.tokens(20_000);
        // In small alternating chunks: the machine may be shared, and both must find it in the same state.
        let (mut bare_micros, mut spent) = (0.0, Duration::ZERO);
        for (n, some) in tokens.chunks(500).enumerate() {
            // Loads the tokens into the caches of this core, as if they had just been received.
            std::hint::black_box(some.iter().flat_map(|token| token.bytes()).map(u64::from).sum::<u64>());
            if n % 2 == 0 {
                bare_micros += server.bare_verification(some) * some.len() as f64;
            } else {
                let start = Instant::now();
                check(some);
                spent += start.elapsed();
            }
        }
        baseline.push(tokens.len() as f64 / 2.0 / (bare_micros / 1e6));
        cold.push(tokens.len() as f64 / 2.0 / spent.as_secs_f64());
        let known = &tokens[500..1000];
        check(known);
        let start = Instant::now();
        for _ in 0..1000 {
            check(known);
        }
        warm.push(1000.0 * known.len() as f64 / start.elapsed().as_secs_f64());
        // The heartbeats of the feed are read on this thread too, and those that waited say nothing about their age.
        let is_fresh = || verifier.staleness().is_some_and(|age| age < Duration::from_secs(1));
        while !is_fresh() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let [warm, cold, baseline] = [warm, cold, baseline].map(|values| median(values.into_iter()));
    let name = algorithm.as_str();
    let cold_name = format!("Verifier, cold, {name} (against the signature alone)");
    vec![
        ReportRow::new(
            format!("Verifier, warm, {name} (against 1,000,000)"),
            "tokens/s",
            warm,
            1e6,
        )
        .at_least(1.0),
        ReportRow::new(cold_name, "tokens/s", cold, baseline).at_least(0.9),
    ]
}
