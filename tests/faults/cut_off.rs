//! Row 23: one replica is cut off from Postgres, from Redis, from both; or does not run for a while. It answers for as
//! long as it may, says so when it may not, and catches up before it answers again. The others do not notice.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::recording_client::{Held, login, revoke, validate};
use crate::support::caller::reason;
use crate::support::proxy::Weather;
use crate::support::{Caller, Fleet, History, Load, eventually};

const STALENESS: Duration = Duration::from_secs(8);

/// A caller of the other replicas, who must always be answered well.
fn bystander(caller: &Caller, held: &Held) -> Load {
    let (caller, token) = (caller.clone(), held.access.clone());
    Load::start(50, move |_| {
        let (caller, token) = (caller.clone(), token.clone());
        async move {
            let answer = caller.validate(&token).await?;
            assert!(answer.active);
            Ok(answer)
        }
    })
}

async fn until_stale(caller: &Caller, held: &Held) {
    eventually("Validate gives up", STALENESS * 6, || async {
        let status = caller.validate(&held.access).await.err()?;
        assert_eq!(
            reason(&status),
            (Code::Unavailable, "REVOCATIONS_STALE".to_owned()),
            "{status:?}"
        );
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_know_says_so_and_the_others_go_on() {
    let staleness = format!("{}s", STALENESS.as_secs());
    let fleet = Fleet::start(
        &[],
        &[
            ("revocation.max_staleness", &staleness),
            // It must not sit on a question for longer than it may be stale.
            ("storage.statement_timeout", "2s"),
            ("storage.acquire_timeout", "2s"),
        ],
    )
    .await;
    let (history, callers) = (History::default(), fleet.callers());
    let bystanding = login(&history, &callers, "ada").await;
    let loads = [bystander(&callers[0], &bystanding), bystander(&callers[1], &bystanding)];
    let cut_off = &fleet.replicas[2];

    for (what, weather, also_redis) in [
        ("Postgres silent", Weather::Blackhole, false),
        ("Postgres refuses", Weather::Cut, false),
        ("both silent", Weather::Blackhole, true),
    ] {
        let held = login(&history, &callers, "ada").await;
        callers[2].assert_active(&held.access).await;
        assert!(cut_off.ready().await, "{what}");
        let begun = Instant::now();
        cut_off.to_postgres.set(weather);
        if also_redis {
            cut_off.to_redis.set(weather);
        }
        revoke(&history, &callers[0], &[&held], Target::Token(held.access.clone()))
            .await
            .unwrap();
        // Redis alone tells it as well, but that is not to know everything.
        validate(&history, &callers[2], &held).await;
        until_stale(&callers[2], &held).await;
        let lasted = begun.elapsed();
        eventually("it says that it is not ready", Duration::from_secs(10), || async {
            (!cut_off.ready().await).then_some(())
        })
        .await;
        for other in &fleet.replicas[..2] {
            assert!(other.ready().await, "{what}: the others are as ever");
        }
        for target in [Target::Token(held.access.clone()), Target::SessionId(held.id.clone())] {
            let refused = callers[2].revoke(target).await.expect_err("it cannot be written down");
            assert_eq!(refused.code(), Code::Unavailable, "{what}: {refused:?}");
        }

        let back = Instant::now();
        cut_off.to_postgres.set(Weather::Fine(Duration::ZERO));
        cut_off.to_redis.set(Weather::Fine(Duration::ZERO));
        // The first answer that it gives is the right one.
        let first = eventually("it answers again", Duration::from_secs(30), || async {
            validate(&history, &callers[2], &held).await
        })
        .await;
        assert!(!first, "{what}: it answered before it had caught up");
        eventually("it is ready again", Duration::from_secs(30), || async {
            cut_off.ready().await.then_some(())
        })
        .await;
        println!(
            "{what}: it answered for {lasted:?}, and again {:?} after the cut",
            back.elapsed()
        );
    }
    for load in loads {
        let report = load.stop().await;
        println!("the others meanwhile: {report}");
        report.assert_only(&["Ok"]);
    }
    history.assert_possible();
    fleet.assert_calm();
}

/// As when a machine is suspended: both clocks have moved on when it wakes, and nothing else has.
#[tokio::test(flavor = "multi_thread")]
async fn who_wakes_knows_that_it_slept() {
    let mut fleet = Fleet::start(&[], &[("revocation.max_staleness", "4s")]).await;
    let (history, callers) = (History::default(), fleet.callers());
    for round in 0..5 {
        let held = login(&history, &callers, "ada").await;
        callers[2].assert_active(&held.access).await;
        fleet.replicas[2].signal(Signal::SIGSTOP);
        revoke(&history, &callers[0], &[&held], Target::Token(held.access.clone()))
            .await
            .unwrap();
        sleep(Duration::from_millis(4_200)).await;
        // It is asked while it sleeps: the question is the first thing that it finds when it wakes.
        let asked: Vec<_> = (0..20).map(|_| validate(&history, &callers[2], &held)).collect();
        let (answers, ()) = tokio::join!(futures_util::future::join_all(asked), async {
            sleep(Duration::from_millis(50)).await;
            fleet.replicas[2].signal(Signal::SIGCONT);
        });
        assert!(
            !answers.contains(&Some(true)),
            "round {round}: it answered as of before it slept"
        );
        println!(
            "round {round}: of 20 questions that it woke to, {} were answered well and {} not at all",
            answers.iter().flatten().count(),
            answers.iter().filter(|answer| answer.is_none()).count()
        );
    }
    history.assert_possible();
}
