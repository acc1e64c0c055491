//! Redis and Postgres are killed (`kill -9`) at random, again and again, while clients call three replicas. Nothing
//! that was acknowledged is undone. The full size is `COUNTERSIGN_NEMESIS_SECONDS=600 cargo test --all-features
//! --test faults nemesis`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign::proto::revoke_request::Target;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::recording_client::{below, login, refresh, refresh_until_answered, revoke, unique, validate};
use crate::support::history::Outcome;
use crate::support::{Caller, Fleet, History, size};

const CALLERS: usize = 6;

/// Redis writes every change to its disk before it acknowledges it.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// Begins one session after the other, and uses each in random ways until it ends.
async fn run_sessions(history: Arc<History>, callers: Vec<Caller>, going: Arc<AtomicBool>) {
    while going.load(Ordering::SeqCst) {
        let mut session = login(&history, &callers, "ada").await;
        for _ in 0..=below(12) {
            let caller = &callers[below(callers.len())];
            match below(10) {
                0 => {
                    // A revocation without an answer may be in force all the same; the history allows for that.
                    let _ = revoke(&history, caller, &[&session], Target::SessionId(session.id.clone())).await;
                }
                1 => {
                    let _ = revoke(&history, caller, &[&session], Target::Token(session.refresh.clone())).await;
                }
                2 | 3 => {
                    validate(&history, caller, &session).await;
                }
                4 => {
                    // An attacker refreshes at another replica at the same moment.
                    let thief = unique();
                    let (other, attempt) = (&callers[below(callers.len())], unique());
                    let (next, _) = tokio::join!(
                        refresh_until_answered(&history, &callers, &session, &attempt),
                        refresh(&history, other, &session, &thief)
                    );
                    session = next.unwrap_or(session);
                }
                _ => match refresh_until_answered(&history, &callers, &session, &unique()).await {
                    Some(next) => session = next,
                    None => break,
                },
            }
        }
        // Once more, whatever the last answer was: a revoked session stays revoked.
        let _ = refresh_until_answered(&history, &callers, &session, &unique()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_stores_undoes_nothing_that_was_acknowledged() {
    let long = Duration::from_secs(size("COUNTERSIGN_NEMESIS_SECONDS", 20));
    let settings = [
        ("tokens.refresh_grace", "5m"),
        ("storage.redis_timeout", "2s"),
        ("revocation.max_staleness", "5s"),
    ];
    let mut fleet = Fleet::start(&DURABLE, &settings).await;
    let (history, going) = (Arc::new(History::default()), Arc::new(AtomicBool::new(true)));
    let mut running = JoinSet::new();
    for _ in 0..CALLERS {
        running.spawn(run_sessions(history.clone(), fleet.callers(), going.clone()));
    }
    let (start, mut kills) = (Instant::now(), [0; 3]);
    while start.elapsed() < long {
        sleep(Duration::from_millis(500 + below(1_500) as u64)).await;
        let which = below(3);
        kills[which] += 1;
        let mut moved = fleet;
        fleet = tokio::task::spawn_blocking(move || {
            if which != 1 {
                moved.redis.kill();
            }
            if which != 0 {
                moved.postgres.kill();
            }
            std::thread::sleep(Duration::from_millis(below(800) as u64));
            if which != 0 {
                moved.postgres.launch();
            }
            if which != 1 {
                moved.redis.launch();
            }
            moved
        })
        .await
        .unwrap();
    }
    going.store(false, Ordering::SeqCst);
    running.join_all().await;
    let answered = |which: fn(&Outcome) -> bool| history.count(|call| which(&call.outcome));
    println!(
        "{:?}: Redis killed {} times, Postgres {}, both {}; {} calls: {} gave tokens, {} revocations were acknowledged, \
         {} refreshes refused, {} calls had no answer",
        start.elapsed(),
        kills[0],
        kills[1],
        kills[2],
        history.calls(),
        answered(|answer| matches!(answer, Outcome::Tokens { .. })),
        answered(|answer| *answer == Outcome::Done),
        answered(|answer| matches!(answer, Outcome::Refused(_))),
        answered(|answer| *answer == Outcome::Unknown),
    );
    history.assert_consistent();
    fleet.assert_no_panics();
}
