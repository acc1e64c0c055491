//! A flood of logins. At most as many password hashes run as there are hashing threads, a bounded number of logins
//! waits, the rest get an error at once, and Validate is hardly slowed.
//!
//! Full size, and the cost of logins compared with their hashes: `COUNTERSIGN_TEST_FLOOD=60
//! COUNTERSIGN_TEST_FLOOD_CALLERS=500 cargo test --release --all-features --test faults -- flood --nocapture
//! --include-ignored`.

use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::web::metric;
use crate::support::{Caller, Countersign, Deployment, DeploymentKind, Load, PASSWORD, eventually, size};

/// The default cost of a password hash.
const MEMORY_KIB: u32 = 19_456;
const ITERATIONS: u32 = 2;

fn seconds() -> Duration {
    Duration::from_secs(size("COUNTERSIGN_TEST_FLOOD", 4))
}

async fn deployment() -> Deployment {
    let deployment = Deployment::fresh(DeploymentKind::Embedded)
        .await
        .set("password.memory_kib", &MEMORY_KIB.to_string())
        .set("password.iterations", &ITERATIONS.to_string())
        .set("password.hash_threads", "1");
    deployment.add_user("ada", &[]);
    deployment
}

fn validations(caller: &Caller, token: &str) -> Load {
    let (caller, token) = (caller.clone(), token.to_owned());
    Load::start(200, move |_| {
        let (caller, token) = (caller.clone(), token.clone());
        async move { caller.validate(&token).await }
    })
}

/// Starts this many callers, each of which logs in again and again.
fn flood(server: &Countersign, callers: usize, span: Duration) -> JoinSet<Vec<String>> {
    let mut logins = JoinSet::new();
    let end = Instant::now() + span;
    for _ in 0..callers {
        let caller = Caller::of(server);
        logins.spawn(async move {
            let mut answers = Vec::new();
            while Instant::now() < end {
                answers.push(match caller.issue("ada", PASSWORD).await {
                    Ok(_) => "Ok".to_owned(),
                    Err(status) => {
                        // Without a pause after a refusal, this would measure how fast the server refuses.
                        sleep(Duration::from_millis(500)).await;
                        format!("{:?}", status.code())
                    }
                });
            }
            answers
        });
    }
    logins
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_logins_is_bounded_and_validations_go_on() {
    let callers = size("COUNTERSIGN_TEST_FLOOD_CALLERS", 150);
    let deployment = deployment().await;
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let token = caller.login("ada").await.access_token;

    let unloaded = validations(&caller, &token);
    sleep(seconds()).await;
    let unloaded = unloaded.stop().await;
    let before = server.resident_kib();
    let (logins, validated) = (flood(&server, callers, seconds()), validations(&caller, &token));
    let answers: Vec<String> = logins.join_all().await.concat();
    let loaded = validated.stop().await;
    let after = server.resident_kib();

    let count = |answer: &str| answers.iter().filter(|this| this.as_str() == answer).count();
    let ratio = loaded.quantile(0.99).as_secs_f64() / unloaded.quantile(0.99).as_secs_f64();
    println!(
        "Validate unloaded: {unloaded}\nValidate with {callers} logins: {loaded}\np99 ratio {ratio:.2}; logins: {} ok, {} refused, \
         {} too late; {before} KiB before, {after} KiB after",
        count("Ok"),
        count("ResourceExhausted"),
        count("DeadlineExceeded"),
    );
    unloaded.assert_only(&["Ok"]);
    loaded.assert_only(&["Ok"]);
    assert_eq!(
        count("Ok") + count("ResourceExhausted") + count("DeadlineExceeded"),
        answers.len(),
        "{answers:?}"
    );
    assert!(count("Ok") > 0 && count("ResourceExhausted") > 0);
    // The flood's callers run on the same cores as the server, so this bound is no measurement: it only tells a
    // blocked thread from a busy one.
    assert!(
        loaded.quantile(0.5) < Duration::from_secs(3).max(unloaded.quantile(0.5) * 20),
        "{loaded}"
    );
    assert!(
        after < before + u64::from(MEMORY_KIB) + 96 * 1024,
        "memory for one hash at a time and {callers} connections: {before} KiB became {after} KiB"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_of_cancelled_callers_are_dropped() {
    // Each hash takes a tenth of a second or more: on any machine few are done before the callers cancel.
    let deployment = deployment().await.set("password.iterations", "20");
    let server = deployment.serve();
    let hashes = || metric(&server, "countersign_password_hash_seconds_count");
    let before = hashes();
    let impatient = Caller::with_deadline(&server.grpc_url(), Duration::from_millis(60));
    let mut logins = JoinSet::new();
    for _ in 0..60 {
        let caller = impatient.clone();
        logins.spawn(async move { caller.issue("ada", PASSWORD).await.is_ok() });
    }
    logins.join_all().await;
    eventually("the queue is empty", Duration::from_mins(1), || async {
        (metric(&server, "countersign_password_queued") < 0.5).then_some(())
    })
    .await;
    Caller::of(&server).login("ada").await;
    let done = hashes() - before;
    println!("{done} hashes for 60 cancelled callers and one that waited");
    assert!((1.0..40.0).contains(&done), "{done}");
}

/// Argon2 hashes per second on one thread, without a server around them.
fn hash_rate(span: Duration) -> f64 {
    let params = Params::new(MEMORY_KIB, ITERATIONS, 1, Some(32)).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut blocks = vec![argon2::Block::new(); MEMORY_KIB as usize];
    let (start, mut count, mut tag) = (Instant::now(), 0_u32, [0; 32]);
    while start.elapsed() < span {
        argon2
            .hash_password_into_with_memory(PASSWORD.as_bytes(), &[7; 16], &mut tag, &mut blocks)
            .unwrap();
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures: on a quiet machine; see the head of the file"]
async fn logins_cost_little_more_than_their_hashes() {
    let deployment = deployment().await;
    let server = deployment.serve();
    Caller::of(&server).login("ada").await;
    // The two measurements alternate, so that other work on the machine affects both.
    let (mut hashes_alone, mut served_rate, rounds) = (0.0, 0.0, 3);
    for _ in 0..rounds {
        let span = seconds() / 2;
        hashes_alone += tokio::task::spawn_blocking(move || hash_rate(span)).await.unwrap() / f64::from(rounds);
        let start = Instant::now();
        let answers = flood(&server, 8, span).join_all().await.concat();
        assert!(answers.iter().all(|answer| answer == "Ok"), "{answers:?}");
        let count = u32::try_from(answers.len()).unwrap();
        served_rate += f64::from(count) / start.elapsed().as_secs_f64() / f64::from(rounds);
    }
    let ratio = served_rate / hashes_alone;
    println!("bare argon2 {hashes_alone:.1}/s, logins {served_rate:.1}/s: {ratio:.3}");
    assert!(ratio > 0.4, "{ratio}");
}
