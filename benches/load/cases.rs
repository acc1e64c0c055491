//! Validate, `ValidateBatch` and the local verifier.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign::client::{Verifier, VerifierConfig};
use countersign::proto::{ValidateBatchRequest, ValidateRequest};

use crate::bare::Bare;
use crate::generator::{Round, Source, Target, closed, framed, open};
use crate::place;
use crate::report::{Line, median};
use crate::world::World;

pub const VALIDATE: &str = "/countersign.v1.TokenService/Validate";
const BATCH: &str = "/countersign.v1.TokenService/ValidateBatch";

/// Streams at once on each connection.
pub const STREAMS: usize = 16;

pub fn round_length() -> Duration {
    Duration::from_secs_f64(from_environment("LOAD_SECONDS", 2.0))
}

pub fn rounds() -> usize {
    from_environment("LOAD_ROUNDS", 5)
}

pub fn from_environment<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

/// Requests to validate these tokens, in turn.
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

/// These requests one after the other, from where `next` stands.
pub fn in_turn(requests: &Arc<Vec<Bytes>>, next: &Arc<AtomicUsize>) -> impl FnMut() -> Source + use<> {
    let (requests, next) = (requests.clone(), next.clone());
    move || {
        let (requests, next) = (requests.clone(), next.clone());
        Box::new(move |_| requests[next.fetch_add(1, Ordering::Relaxed) % requests.len()].clone())
    }
}

/// These requests one after the other, from the first.
fn all_of(requests: &Arc<Vec<Bytes>>) -> impl FnMut() -> Source + use<> {
    in_turn(requests, &Arc::default())
}

/// Rounds of each, in turns; all answered `OK`.
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

/// Asks until what can be remembered is.
pub async fn warm_up(target: &Target, requests: &Arc<Vec<Bytes>>) {
    closed(target, STREAMS, Duration::from_millis(500), all_of(requests))
        .await
        .assert_ok();
}

pub fn speed(rounds: &[Round]) -> f64 {
    median(rounds.iter().map(Round::per_second))
}

fn cpu(rounds: &[Round]) -> f64 {
    median(rounds.iter().map(Round::cpu_per_call))
}

/// The size of the answer about an active token.
const ANSWER: usize = 330;

pub async fn validate(world: &World) -> Vec<Line> {
    let mut lines = Vec::new();
    let empty = Bare::empty(ANSWER);
    let (ours, theirs) = (world.target(VALIDATE), world.against(&empty, VALIDATE));

    let warm = requests(&world.tokens(1000));
    let garbage = requests(&garbage());
    warm_up(&ours, &warm).await;
    let all = [(&ours, &warm), (&theirs, &warm), (&ours, &garbage)];
    let [ours_warm, theirs_warm, ours_garbage] = alternate(all, STREAMS).await;
    let (warm_speed, empty_speed) = (speed(&ours_warm), speed(&theirs_warm));
    lines.push(Line::of("Validate, warm", "calls/s", warm_speed, empty_speed).at_least(0.90));
    lines.push(Line::of("Validate, warm: CPU", "µs/call", cpu(&ours_warm), cpu(&theirs_warm)).at_most(1.0 / 0.90));

    // At half of what the empty service can do, open loop: neither is saturated, and latency means something.
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
    lines.push(Line::of("Validate, warm: p99 at half load", "µs", our_tail, their_tail).at_most(1.25));

    // As many tokens as a round can ask about, never seen before; what is left over is not needed. One bound is a service
    // that checks a signature and does nothing else: empty call and verification, on a core as warm and as disturbed. The
    // other is what the two would take if a call left the caches as a loop of verifications does.
    let checking = Bare::verifying(ANSWER, &world.public_key());
    let bound = world.against(&checking, VALIDATE);
    let forged: Vec<String> = world.tokens(1000).into_iter().map(|token| forge(&token)).collect();
    let forged = requests(&forged);
    let mut speeds: [Vec<f64>; 5] = Default::default();
    for _ in 0..rounds() {
        let count = (empty_speed * round_length().as_secs_f64()) as usize;
        let fresh = world.tokens(count);
        speeds[0].push(place::on_server_core(|| {
            1e6 / world.bare_verification(&fresh[..count.min(5000)])
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
    let [bare, cold, bound, empty, forged] = speeds.map(|values| median(values.into_iter()));
    let name = "Validate, cold (against an empty call that checks a signature)";
    lines.push(Line::of(name, "calls/s", cold, bound).at_least(0.85));
    let alone = 1.0 / (1.0 / empty + 1.0 / bare);
    let name = "Validate, cold (against 1 / (1 / empty + a signature in a loop))";
    lines.push(Line::of(name, "calls/s", cold, alone).at_least(0.85));
    let name = "Validate, forged signature (against cold)";
    lines.push(Line::of(name, "calls/s", forged, cold).at_least(1.0));
    let name = "Validate, garbage (against warm)";
    lines.push(Line::of(name, "calls/s", speed(&ours_garbage), warm_speed).at_least(1.0));
    lines
}

/// The same token with another signature.
fn forge(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{other}{}", &signature[1..])
}

fn garbage() -> Vec<String> {
    let long = "garbage.".repeat(80);
    (0..1000).map(|n| format!("{n}.{long}")).collect()
}

pub async fn batch(world: &World) -> Vec<Line> {
    let empty = Bare::empty(ANSWER);
    let tokens = world.tokens(1024);
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
    let (ours, theirs) = (world.target(BATCH), world.against(&empty, VALIDATE));
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
    vec![Line::of("ValidateBatch(64)", "tokens/s", together, alone).at_least(8.0)]
}

pub async fn verifier(world: &World) -> Vec<Line> {
    let verifier = Verifier::start(world.client.clone(), VerifierConfig::new(world.issuer()));
    tokio::time::timeout(Duration::from_secs(10), verifier.ready())
        .await
        .expect("the feed comes");
    let check = |tokens: &[String]| {
        for token in tokens {
            let verdict = verifier.verify_local(token, "api", &[]).expect("it is fresh");
            assert!(verdict.is_ok(), "{verdict:?}");
        }
    };
    let (mut cold, mut bare, mut warm) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds() {
        let tokens = world.tokens(20_000);
        // In small turns, because the machine is shared: both meet it in the same state.
        let (mut bare_micros, mut spent) = (0.0, Duration::ZERO);
        for (n, some) in tokens.chunks(500).enumerate() {
            // As if they had just come in: in this core's caches.
            std::hint::black_box(some.iter().flat_map(|token| token.bytes()).map(u64::from).sum::<u64>());
            if n % 2 == 0 {
                bare_micros += world.bare_verification(some) * some.len() as f64;
            } else {
                let start = Instant::now();
                check(some);
                spent += start.elapsed();
            }
        }
        bare.push(tokens.len() as f64 / 2.0 / (bare_micros / 1e6));
        cold.push(tokens.len() as f64 / 2.0 / spent.as_secs_f64());
        let known = &tokens[500..1000];
        check(known);
        let start = Instant::now();
        for _ in 0..1000 {
            check(known);
        }
        warm.push(1000.0 * known.len() as f64 / start.elapsed().as_secs_f64());
        // The feed's heartbeat is read on this thread too.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let [warm, cold, bare] = [warm, cold, bare].map(|values| median(values.into_iter()));
    vec![
        Line::of("Verifier, warm (against 1,000,000)", "tokens/s", warm, 1e6).at_least(1.0),
        Line::of("Verifier, cold (against the signature alone)", "tokens/s", cold, bare).at_least(0.9),
    ]
}
