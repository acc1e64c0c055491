//! Row 29: a flood of logins. Hashes are as many at a time as there are threads, a bounded number waits, the others are
//! told so, and whoever only validates hardly notices.
//!
//! Full size, and what logins cost beside their hashes: `COUNTERSIGN_TEST_FLOOD=60 COUNTERSIGN_TEST_FLOOD_CALLERS=500
//! cargo test --release --all-features --test faults -- flood --nocapture --include-ignored`.

use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::web::metric;
use crate::support::{Caller, Countersign, Deployment, Load, PASSWORD, Shape, eventually, size};

/// The default cost of a hash.
const MEMORY_KIB: u32 = 19_456;
const ITERATIONS: u32 = 2;

fn seconds() -> Duration {
    Duration::from_secs(size("COUNTERSIGN_TEST_FLOOD", 4))
}

async fn deployment() -> Deployment {
    let deployment = Deployment::fresh(Shape::Embedded)
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

/// So many callers that log in again and again.
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
                        // A refused caller that asks again at once would measure how fast refusals are.
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
        "Validate unloaded: {unloaded}\nValidate beside {callers} logins: {loaded}\np99 ratio {ratio:.2}; logins: {} ok, {} refused, \
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
    // The callers of the flood live on the same cores: this is no measurement, it tells a blocked thread from a busy one.
    assert!(
        loaded.quantile(0.5) < Duration::from_secs(3).max(unloaded.quantile(0.5) * 20),
        "{loaded}"
    );
    assert!(
        after < before + u64::from(MEMORY_KIB) + 96 * 1024,
        "one hash at a time, and {callers} connections: {before} KiB became {after} KiB"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_hashes_for_callers_that_are_gone() {
    // Of a tenth of a second and more: whatever the machine does, few are done before the callers are gone.
    let deployment = deployment().await.set("password.iterations", "20");
    let server = deployment.serve();
    let hashes = || metric(&server, "countersign_password_hash_seconds_count");
    let before = hashes();
    let impatient = Caller::patient(&server.grpc_url(), Duration::from_millis(60));
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
    println!("{done} hashes for 60 callers that were gone and one that was not");
    assert!((1.0..40.0).contains(&done), "{done}");
}

/// Hashes a second on one thread, with nothing around them.
fn bare(span: Duration) -> f64 {
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
    // In turns, so that what else the machine does falls on both.
    let (mut bare_rate, mut served_rate, rounds) = (0.0, 0.0, 3);
    for _ in 0..rounds {
        let span = seconds() / 2;
        bare_rate += tokio::task::spawn_blocking(move || bare(span)).await.unwrap() / f64::from(rounds);
        let start = Instant::now();
        let answers = flood(&server, 8, span).join_all().await.concat();
        assert!(answers.iter().all(|answer| answer == "Ok"), "{answers:?}");
        let count = u32::try_from(answers.len()).unwrap();
        served_rate += f64::from(count) / start.elapsed().as_secs_f64() / f64::from(rounds);
    }
    let ratio = served_rate / bare_rate;
    println!("bare argon2 {bare_rate:.1}/s, logins {served_rate:.1}/s: {ratio:.3}");
    assert!(ratio > 0.4, "{ratio}");
}
