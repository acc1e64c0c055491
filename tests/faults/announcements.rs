//! Rows 21 and 22: announcements are lost on their way, or from the stream itself. Reconciliation has what they would
//! have said; whatever shows that something may be missing is a reason for one at once; and nobody claims to know more
//! than they do.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use countersign::proto::{ValidateBatchRequest, ValidateRequest};
use nix::sys::signal::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::recording_client::{Held, login, revoke, validate};
use crate::support::proxy::Weather;
use crate::support::redis::command;
use crate::support::{Caller, Fleet, History};

const STREAM: &str = "cs:revocations";

/// How many sessions are revoked while nobody hears of it.
const MISSED: usize = 1_000;

/// The last replica reconciles by itself when the test is long over: what it knows, it knows because of a gap.
async fn rarely_reconciling() -> Fleet {
    let mut fleet = Fleet::start(&[], &[("revocation.max_staleness", "2h")]).await;
    fleet.replicas[2]
        .launch_with("revocation.reconcile_interval", "1h")
        .await;
    fleet
}

async fn log_in(history: &History, callers: &[Caller], count: usize) -> Vec<Held> {
    let mut held = Vec::new();
    while held.len() < count {
        let some = (0..16.min(count - held.len())).map(|_| login(history, callers, "ada"));
        held.extend(futures_util::future::join_all(some).await);
    }
    held
}

/// Ends all of them, at the first replica.
async fn revoke_all(history: &History, caller: &Caller, held: &[Held]) {
    for some in held.chunks(16) {
        let calls = some.iter().map(|held| {
            let target = Target::Token(held.access.clone());
            async move {
                revoke(history, caller, &[held], target)
                    .await
                    .expect("it is acknowledged")
            }
        });
        futures_util::future::join_all(calls).await;
    }
}

/// How many of them are called good.
async fn good(caller: &Caller, held: &[Held]) -> usize {
    let mut good = 0;
    for some in held.chunks(256) {
        let requests = some.iter().map(|held| ValidateRequest {
            access_token: held.access.clone(),
            ..ValidateRequest::default()
        });
        let batch = ValidateBatchRequest {
            requests: requests.collect(),
        };
        let answers = caller.tokens.clone().validate_batch(batch).await.unwrap().into_inner();
        good += answers.responses.iter().filter(|answer| answer.active).count();
    }
    good
}

/// Waits until none of them is called good there; how long that took.
async fn until_all_are_bad(caller: &Caller, held: &[Held]) -> Duration {
    let start = Instant::now();
    while good(caller, held).await > 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "it never heard of some");
        sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stream_does_not_bring_the_reconciliation_has() {
    let fleet = Fleet::start(&[], &[]).await;
    let (history, callers) = (History::default(), fleet.callers());
    let held = log_in(&history, &callers[..2], MISSED).await;
    assert_eq!(good(&callers[2], &held).await, MISSED);

    let cut = Instant::now();
    fleet.replicas[2].to_redis.set(Weather::Cut);
    tokio::join!(revoke_all(&history, &callers[0], &held), async {
        // What it answers meanwhile is not more than it says it knows.
        while cut.elapsed() < Duration::from_secs(3) {
            for held in held.iter().step_by(97) {
                validate(&history, &callers[2], held).await;
            }
        }
    });
    let lag = until_all_are_bad(&callers[2], &held).await;
    println!(
        "{MISSED} revocations within {:?} without the stream: all known {lag:?} after the last was acknowledged",
        cut.elapsed()
    );
    fleet.replicas[2].to_redis.set(Weather::Fine(Duration::ZERO));
    history.assert_possible();
    fleet.assert_calm();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_can_hear_again_asks_what_was_said() {
    let fleet = rarely_reconciling().await;
    let (history, callers) = (History::default(), fleet.callers());
    let held = log_in(&history, &callers[..2], 50).await;
    assert_eq!(good(&callers[2], &held).await, held.len());
    fleet.replicas[2].to_redis.set(Weather::Cut);
    revoke_all(&history, &callers[0], &held).await;
    for held in &held {
        validate(&history, &callers[2], held).await;
    }
    fleet.replicas[2].to_redis.set(Weather::Fine(Duration::ZERO));
    let lag = until_all_are_bad(&callers[2], &held).await;
    println!(
        "{} revocations: all known {lag:?} after the stream was back",
        held.len()
    );
    history.assert_possible();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_the_stream_nothing_is_missed() {
    let mut fleet = rarely_reconciling().await;
    let (history, callers) = (History::default(), fleet.callers());
    let url = fleet.redis.url();
    let on_redis = |words: &[&str]| command(&url, words);
    // Another replica sees to it that there is a stream, and what it was like before.
    revoke_all(&history, &callers[0], &log_in(&history, &callers[..2], 3).await).await;
    on_redis(&["COPY", STREAM, "older", "REPLACE"]);
    for fault in ["trimmed", "deleted", "everything deleted", "an older one"] {
        let held = log_in(&history, &callers[..2], 20).await;
        assert_eq!(good(&callers[2], &held).await, held.len(), "{fault}");
        // It hears nothing while it does not run; the first of these waits for it, the others are gone when it looks.
        fleet.replicas[2].signal(Signal::SIGSTOP);
        revoke_all(&history, &callers[0], &held).await;
        match fault {
            "trimmed" => drop(on_redis(&["XTRIM", STREAM, "MAXLEN", "1"])),
            "deleted" => drop(on_redis(&["DEL", STREAM])),
            "everything deleted" => drop(on_redis(&["FLUSHALL"])),
            _ => drop(on_redis(&["COPY", "older", STREAM, "REPLACE"])),
        }
        fleet.replicas[2].signal(Signal::SIGCONT);
        for held in &held {
            validate(&history, &callers[2], held).await;
        }
        let lag = until_all_are_bad(&callers[2], &held).await;
        println!("the stream, {fault}: all known {lag:?} after it could look again");
        if fault == "everything deleted" {
            revoke_all(&history, &callers[0], &log_in(&history, &callers[..2], 3).await).await;
            on_redis(&["COPY", STREAM, "older", "REPLACE"]);
        }
    }
    history.assert_possible();
    fleet.assert_calm();
}

/// A snapshot of all of Redis, taken before: sessions and stream come back as they were.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_from_an_older_snapshot_revives_nothing() {
    let mut fleet = rarely_reconciling().await;
    let (history, callers) = (History::default(), fleet.callers());
    let held = log_in(&history, &callers[..2], 20).await;
    revoke_all(&history, &callers[0], &held[..2]).await;
    assert_eq!(good(&callers[2], &held[2..]).await, 18);
    fleet.redis.command(&["SAVE"]);
    fleet.replicas[2].signal(Signal::SIGSTOP);
    revoke_all(&history, &callers[0], &held).await;
    let redis = &mut fleet.redis;
    tokio::task::block_in_place(|| {
        redis.kill();
        redis.launch();
    });
    fleet.replicas[2].signal(Signal::SIGCONT);
    let lag = until_all_are_bad(&callers[2], &held).await;
    println!("all of Redis from before: all known {lag:?} after it could look again");
    let mut asked = JoinSet::new();
    for held in held {
        let caller = callers[1].clone();
        asked.spawn(async move { caller.insist(&held.refresh).await });
    }
    for answer in asked.join_all().await {
        let status = answer.expect_err("its end is in the durable record");
        assert_eq!(crate::support::caller::reason(&status).1, "SESSION_REVOKED");
    }
    history.assert_possible();
}
