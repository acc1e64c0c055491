//! Row 20: Redis and Postgres are killed (`kill -9`) at random, again and again, under callers at three replicas. The
//! full size is `COUNTERSIGN_NEMESIS_SECONDS=600 cargo test --all-features --test faults nemesis`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign::proto::revoke_request::Target;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::recording_client::{below, insist, login, refresh, revoke, unique, validate};
use crate::support::history::Answer;
use crate::support::{Caller, Fleet, History, size};

const CALLERS: usize = 6;

/// Redis writes what it has done to its disk before it says so.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// One session after the other, each to some end.
async fn live(history: Arc<History>, callers: Vec<Caller>, going: Arc<AtomicBool>) {
    while going.load(Ordering::SeqCst) {
        let mut held = login(&history, &callers, "ada").await;
        for _ in 0..=below(12) {
            let caller = &callers[below(callers.len())];
            match below(10) {
                0 => {
                    // Unanswered, it may be in force all the same; the history knows.
                    let _ = revoke(&history, caller, &[&held], Target::SessionId(held.id.clone())).await;
                }
                1 => {
                    let _ = revoke(&history, caller, &[&held], Target::Token(held.refresh.clone())).await;
                }
                2 | 3 => {
                    validate(&history, caller, &held).await;
                }
                4 => {
                    // A thief, somewhere else, at the same moment.
                    let thief = unique();
                    let (other, attempt) = (&callers[below(callers.len())], unique());
                    let (next, _) = tokio::join!(
                        insist(&history, &callers, &held, &attempt),
                        refresh(&history, other, &held, &thief)
                    );
                    held = next.unwrap_or(held);
                }
                _ => match insist(&history, &callers, &held, &unique()).await {
                    Some(next) => held = next,
                    None => break,
                },
            }
        }
        // Once more, whatever it was told: who is out stays out.
        let _ = insist(&history, &callers, &held, &unique()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_nothing_acknowledged_is_undone() {
    let long = Duration::from_secs(size("COUNTERSIGN_NEMESIS_SECONDS", 20));
    let settings = [
        ("tokens.refresh_grace", "5m"),
        ("storage.redis_timeout", "2s"),
        ("revocation.max_staleness", "5s"),
    ];
    let mut fleet = Fleet::start(&DURABLE, &settings).await;
    let (history, going) = (Arc::new(History::default()), Arc::new(AtomicBool::new(true)));
    let mut living = JoinSet::new();
    for _ in 0..CALLERS {
        living.spawn(live(history.clone(), fleet.callers(), going.clone()));
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
    living.join_all().await;
    let answered = |which: fn(&Answer) -> bool| history.count(|call| which(&call.answer));
    println!(
        "{:?}: Redis killed {} times, Postgres {}, both {}; {} calls: {} gave tokens, {} revocations were acknowledged, \
         {} refreshes refused, {} calls had no answer",
        start.elapsed(),
        kills[0],
        kills[1],
        kills[2],
        history.calls(),
        answered(|answer| matches!(answer, Answer::Tokens { .. })),
        answered(|answer| *answer == Answer::Done),
        answered(|answer| matches!(answer, Answer::Refused(_))),
        answered(|answer| *answer == Answer::Unknown),
    );
    history.assert_possible();
    fleet.assert_calm();
}
