//! One replica is cut off from Postgres, from Redis, or from both, or is suspended for a while. It answers Validate
//! until `max_staleness`, then fails with `UNAVAILABLE` and reports that it is not ready. It catches up before it
//! answers again. The other replicas are not affected.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::recording_client::{ClientSession, login, revoke, validate};
use crate::support::caller::reason;
use crate::support::proxy::LinkState;
use crate::support::{Caller, Fleet, History, Load, eventually};

const MAX_STALENESS: Duration = Duration::from_secs(8);

/// Load on another replica, which must answer well all the time.
fn load_on_other_replica(caller: &Caller, session: &ClientSession) -> Load {
    let (caller, token) = (caller.clone(), session.access.clone());
    Load::start(50, move |_| {
        let (caller, token) = (caller.clone(), token.clone());
        async move {
            let answer = caller.validate(&token).await?;
            assert!(answer.active);
            Ok(answer)
        }
    })
}

async fn until_stale(caller: &Caller, session: &ClientSession) {
    eventually("Validate fails", MAX_STALENESS * 6, || async {
        let status = caller.validate(&session.access).await.err()?;
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
async fn a_cut_off_replica_refuses_and_the_others_go_on() {
    let staleness = format!("{}s", MAX_STALENESS.as_secs());
    let fleet = Fleet::start(
        &[],
        &[
            ("revocation.max_staleness", &staleness),
            // A call must not wait longer than `max_staleness`.
            ("storage.statement_timeout", "2s"),
            ("storage.acquire_timeout", "2s"),
        ],
    )
    .await;
    let (history, callers) = (History::default(), fleet.callers());
    let bystanding = login(&history, &callers, "ada").await;
    let loads = [
        load_on_other_replica(&callers[0], &bystanding),
        load_on_other_replica(&callers[1], &bystanding),
    ];
    let cut_off = &fleet.replicas[2];

    for (what, weather, also_redis) in [
        ("Postgres silent", LinkState::Blackhole, false),
        ("Postgres refuses", LinkState::Cut, false),
        ("both silent", LinkState::Blackhole, true),
    ] {
        let session = login(&history, &callers, "ada").await;
        callers[2].assert_active(&session.access).await;
        assert!(cut_off.ready().await, "{what}");
        let begun = Instant::now();
        cut_off.to_postgres.set(weather);
        if also_redis {
            cut_off.to_redis.set(weather);
        }
        revoke(
            &history,
            &callers[0],
            &[&session],
            Target::Token(session.access.clone()),
        )
        .await
        .unwrap();
        // Announcements from Redis alone are not enough: the replica cannot know that it has received all of them.
        validate(&history, &callers[2], &session).await;
        until_stale(&callers[2], &session).await;
        let lasted = begun.elapsed();
        eventually(
            "the replica reports that it is not ready",
            Duration::from_secs(10),
            || async { (!cut_off.ready().await).then_some(()) },
        )
        .await;
        for other in &fleet.replicas[..2] {
            assert!(other.ready().await, "{what}: the other replicas stay ready");
        }
        for target in [
            Target::Token(session.access.clone()),
            Target::SessionId(session.id.clone()),
        ] {
            let refused = callers[2]
                .revoke(target)
                .await
                .expect_err("the revocation cannot be stored");
            assert_eq!(refused.code(), Code::Unavailable, "{what}: {refused:?}");
        }

        let back = Instant::now();
        cut_off.to_postgres.set(LinkState::Up(Duration::ZERO));
        cut_off.to_redis.set(LinkState::Up(Duration::ZERO));
        // The first answer after the cut must be correct.
        let first = eventually("the replica answers again", Duration::from_secs(30), || async {
            validate(&history, &callers[2], &session).await
        })
        .await;
        assert!(!first, "{what}: the replica answered before it had caught up");
        eventually("the replica is ready again", Duration::from_secs(30), || async {
            cut_off.ready().await.then_some(())
        })
        .await;
        println!(
            "{what}: the replica answered for {lasted:?}, and again {:?} after the cut",
            back.elapsed()
        );
    }
    for load in loads {
        let report = load.stop().await;
        println!("the other replicas meanwhile: {report}");
        report.assert_only(&["Ok"]);
    }
    history.assert_consistent();
    fleet.assert_no_panics();
}

/// The process is suspended as if the machine were: when it continues, both clocks have moved on and nothing else
/// has.
#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_replica_knows_that_its_data_is_stale() {
    let mut fleet = Fleet::start(&[], &[("revocation.max_staleness", "4s")]).await;
    let (history, callers) = (History::default(), fleet.callers());
    for round in 0..5 {
        let session = login(&history, &callers, "ada").await;
        // The replica may still have to catch up after the round before.
        eventually("the replica answers", Duration::from_secs(30), || async {
            validate(&history, &callers[2], &session).await.filter(|active| *active)
        })
        .await;
        fleet.replicas[2].signal(Signal::SIGSTOP);
        revoke(
            &history,
            &callers[0],
            &[&session],
            Target::Token(session.access.clone()),
        )
        .await
        .unwrap();
        sleep(Duration::from_millis(4_200)).await;
        // Calls arrive while the replica is suspended, so they are the first thing that it handles when it continues.
        let asked: Vec<_> = (0..20).map(|_| validate(&history, &callers[2], &session)).collect();
        let (answers, ()) = tokio::join!(futures_util::future::join_all(asked), async {
            sleep(Duration::from_millis(50)).await;
            fleet.replicas[2].signal(Signal::SIGCONT);
        });
        assert!(
            !answers.contains(&Some(true)),
            "round {round}: the replica answered from data older than its suspension"
        );
        println!(
            "round {round}: of 20 calls made during the suspension, {} were answered correctly and {} not at all",
            answers.iter().flatten().count(),
            answers.iter().filter(|answer| answer.is_none()).count()
        );
    }
    history.assert_consistent();
}
