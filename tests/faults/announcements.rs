//! Revocation announcements are lost on their way, or the Redis stream loses them.
//!
//! Reconciliation with Postgres finds the revocations that were not announced. A replica that notices a gap in the
//! stream reconciles at once, and `revocations_as_of` never claims more than the replica knows.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use countersign::proto::{ValidateBatchRequest, ValidateRequest};
use nix::sys::signal::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::recording_client::{ClientSession, login, revoke, validate};
use crate::support::proxy::LinkState;
use crate::support::redis::command;
use crate::support::{Caller, Fleet, History};

const STREAM: &str = "cs:revocations";

/// How many sessions are revoked while the replica receives no announcements.
const MISSED: usize = 1_000;

/// The last replica does not reconcile by timer during the test: it learns of a missed revocation only because it
/// notices the gap.
async fn rarely_reconciling() -> Fleet {
    let mut fleet = Fleet::start(&[], &[("revocation.max_staleness", "2h")]).await;
    fleet.replicas[2]
        .launch_with("revocation.reconcile_interval", "1h")
        .await;
    fleet
}

async fn log_in(history: &History, callers: &[Caller], count: usize) -> Vec<ClientSession> {
    let mut sessions = Vec::new();
    while sessions.len() < count {
        let some = (0..16.min(count - sessions.len())).map(|_| login(history, callers, "ada"));
        sessions.extend(futures_util::future::join_all(some).await);
    }
    sessions
}

/// Revokes all these sessions at one replica.
async fn revoke_all(history: &History, caller: &Caller, sessions: &[ClientSession]) {
    for some in sessions.chunks(16) {
        let calls = some.iter().map(|session| {
            let target = Target::Token(session.access.clone());
            async move {
                revoke(history, caller, &[session], target)
                    .await
                    .expect("the revocation is acknowledged")
            }
        });
        futures_util::future::join_all(calls).await;
    }
}

/// How many of these sessions have an access token that Validate calls active.
async fn count_active(caller: &Caller, sessions: &[ClientSession]) -> usize {
    let mut active = 0;
    for some in sessions.chunks(256) {
        let requests = some.iter().map(|session| ValidateRequest {
            access_token: session.access.clone(),
            ..ValidateRequest::default()
        });
        let batch = ValidateBatchRequest {
            requests: requests.collect(),
        };
        let answers = caller.tokens.clone().validate_batch(batch).await.unwrap().into_inner();
        active += answers.responses.iter().filter(|answer| answer.active).count();
    }
    active
}

/// Waits until this replica rejects every one of these access tokens, and returns how long that took.
async fn until_all_rejected(caller: &Caller, sessions: &[ClientSession]) -> Duration {
    let start = Instant::now();
    while count_active(caller, sessions).await > 0 {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "the replica did not learn of every revocation"
        );
        sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn reconciliation_finds_revocations_that_the_stream_lost() {
    let fleet = Fleet::start(&[], &[]).await;
    let (history, callers) = (History::default(), fleet.callers());
    let sessions = log_in(&history, &callers[..2], MISSED).await;
    assert_eq!(count_active(&callers[2], &sessions).await, MISSED);

    let cut = Instant::now();
    fleet.replicas[2].to_redis.set(LinkState::Cut);
    tokio::join!(revoke_all(&history, &callers[0], &sessions), async {
        // Meanwhile its answers must agree with the `revocations_as_of` that it reports.
        while cut.elapsed() < Duration::from_secs(3) {
            for session in sessions.iter().step_by(97) {
                validate(&history, &callers[2], session).await;
            }
        }
    });
    let lag = until_all_rejected(&callers[2], &sessions).await;
    println!(
        "{MISSED} revocations within {:?} without the stream: all known {lag:?} after the last acknowledgement",
        cut.elapsed()
    );
    fleet.replicas[2].to_redis.set(LinkState::Up(Duration::ZERO));
    history.assert_consistent();
    fleet.assert_no_panics();
}

/// As after a call whose answer the database lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_failed_before_its_announcement_is_announced_by_the_next_call() {
    let mut fleet = rarely_reconciling().await;
    fleet.replicas[0]
        .launch_with("revocation.reconcile_interval", "1h")
        .await;
    let [first, _, last] = &fleet.callers()[..] else {
        panic!("three replicas")
    };
    let tokens = first.login("ada").await;
    last.assert_active(&tokens.access_token).await;
    let id = &tokens.session_id;
    let recorded = format!(
        "INSERT INTO revocations (level, id, epoch, expires, revoked)
         VALUES ('session', '{id}', 0, 4000000000000, 1000 * extract(epoch FROM now()))"
    );
    fleet.database.execute(&recorded).await;
    first.revoke(Target::SessionId(id.clone())).await.unwrap();
    last.until_revoked(&tokens.access_token).await;
    fleet.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconnected_subscriber_reconciles_at_once() {
    let fleet = rarely_reconciling().await;
    let (history, callers) = (History::default(), fleet.callers());
    let sessions = log_in(&history, &callers[..2], 50).await;
    assert_eq!(count_active(&callers[2], &sessions).await, sessions.len());
    fleet.replicas[2].to_redis.set(LinkState::Cut);
    revoke_all(&history, &callers[0], &sessions).await;
    for session in &sessions {
        validate(&history, &callers[2], session).await;
    }
    fleet.replicas[2].to_redis.set(LinkState::Up(Duration::ZERO));
    let lag = until_all_rejected(&callers[2], &sessions).await;
    println!(
        "{} revocations: all known {lag:?} after the stream came back",
        sessions.len()
    );
    history.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_revocation_is_missed_when_the_stream_is_trimmed_deleted_or_replaced() {
    let mut fleet = rarely_reconciling().await;
    let (history, callers) = (History::default(), fleet.callers());
    let url = fleet.redis.url();
    let on_redis = |words: &[&str]| command(&url, words);
    // Revocations at another replica create the stream; a copy of it is kept as the older version.
    revoke_all(&history, &callers[0], &log_in(&history, &callers[..2], 3).await).await;
    on_redis(&["COPY", STREAM, "older", "REPLACE"]);
    for fault in ["trimmed", "deleted", "everything deleted", "an older one"] {
        let sessions = log_in(&history, &callers[..2], 20).await;
        assert_eq!(count_active(&callers[2], &sessions).await, sessions.len(), "{fault}");
        // The replica is stopped, so it reads nothing. The first of these revocations answers its pending read; the
        // others are gone from the stream when it continues.
        fleet.replicas[2].signal(Signal::SIGSTOP);
        revoke_all(&history, &callers[0], &sessions).await;
        match fault {
            "trimmed" => drop(on_redis(&["XTRIM", STREAM, "MAXLEN", "1"])),
            "deleted" => drop(on_redis(&["DEL", STREAM])),
            "everything deleted" => drop(on_redis(&["FLUSHALL"])),
            _ => drop(on_redis(&["COPY", "older", STREAM, "REPLACE"])),
        }
        fleet.replicas[2].signal(Signal::SIGCONT);
        for session in &sessions {
            validate(&history, &callers[2], session).await;
        }
        let lag = until_all_rejected(&callers[2], &sessions).await;
        println!("the stream, {fault}: all known {lag:?} after the replica could read it again");
        if fault == "everything deleted" {
            revoke_all(&history, &callers[0], &log_in(&history, &callers[..2], 3).await).await;
            on_redis(&["COPY", STREAM, "older", "REPLACE"]);
        }
    }
    history.assert_consistent();
    fleet.assert_no_panics();
}

/// Redis is restored from an older snapshot: sessions and the stream are as they were then.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_restored_from_an_older_snapshot_reactivates_no_revoked_token() {
    let mut fleet = rarely_reconciling().await;
    let (history, callers) = (History::default(), fleet.callers());
    let sessions = log_in(&history, &callers[..2], 20).await;
    revoke_all(&history, &callers[0], &sessions[..2]).await;
    assert_eq!(count_active(&callers[2], &sessions[2..]).await, 18);
    fleet.redis.command(&["SAVE"]);
    fleet.replicas[2].signal(Signal::SIGSTOP);
    revoke_all(&history, &callers[0], &sessions).await;
    let redis = &mut fleet.redis;
    tokio::task::block_in_place(|| {
        redis.kill();
        redis.launch();
    });
    fleet.replicas[2].signal(Signal::SIGCONT);
    let lag = until_all_rejected(&callers[2], &sessions).await;
    println!("Redis restored from an older snapshot: all known {lag:?} after the replica could read it again");
    let mut asked = JoinSet::new();
    for session in sessions {
        let caller = callers[1].clone();
        asked.spawn(async move { caller.refresh_until_answered(&session.refresh).await });
    }
    for answer in asked.join_all().await {
        let status = answer.expect_err("the revocation is in Postgres");
        assert_eq!(crate::support::caller::reason(&status).1, "SESSION_REVOKED");
    }
    history.assert_consistent();
}
