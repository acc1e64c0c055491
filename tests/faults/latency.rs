//! How soon one replica rejects a token that was revoked at another. The full size is `COUNTERSIGN_SAMPLES=10000
//! cargo test --all-features --test faults latency -- --nocapture`.

use std::time::Duration;

use countersign::proto::InactiveReason;
use countersign::proto::revoke_request::Target;
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::support::{Caller, Fleet, Load, PASSWORD, size};

/// How many sessions are begun together before the first of them is revoked.
const BATCH: usize = 8;

/// The times from the acknowledgement, and from the start of the call, until the other replica rejects the token.
struct Figures {
    acknowledged: Histogram<u64>,
    called: Histogram<u64>,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (what, times) in [("acknowledgement", &self.acknowledged), ("call", &self.called)] {
            let at = |part| Duration::from_micros(times.value_at_quantile(part));
            let (median, tail, worst) = (at(0.5), at(0.99), at(1.0));
            write!(f, "from the {what}: p50 {median:?}, p99 {tail:?}, worst {worst:?}; ")?;
        }
        write!(f, "{} samples", self.called.len())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}

async fn measure(here: &Caller, there: &Caller, samples: usize) -> Figures {
    let times = || Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
    let mut figures = Figures {
        acknowledged: times(),
        called: times(),
    };
    let mut left = samples;
    while left > 0 {
        let batch = BATCH.min(left);
        left -= batch;
        for session in join_all((0..batch).map(|_| here.login("ada"))).await {
            there.assert_active(&session.access_token).await;
            let start = Instant::now();
            let (acknowledged, refused) = tokio::join!(
                async {
                    here.revoke(Target::Token(session.access_token.clone())).await.unwrap();
                    start.elapsed()
                },
                async {
                    loop {
                        if let Some(why) = there.inactive_reason(&session.access_token).await {
                            assert_eq!(why, InactiveReason::Revoked);
                            return start.elapsed();
                        }
                        assert!(
                            start.elapsed() < Duration::from_secs(30),
                            "the replica did not learn of the revocation"
                        );
                    }
                }
            );
            figures.called.saturating_record(micros(refused));
            figures
                .acknowledged
                .saturating_record(micros(refused.saturating_sub(acknowledged)).max(1));
        }
    }
    figures
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_rejects_a_revoked_token_within_milliseconds() {
    let samples = size("COUNTERSIGN_SAMPLES", 150_usize);
    let fleet = Fleet::direct(&[], &[]).await;
    let (here, there) = (fleet.replicas[0].direct(), fleet.replicas[1].direct());
    println!("idle: {}", measure(&here, &there, samples).await);

    let load = Load::start(25, {
        let callers = fleet.callers();
        move |n| {
            let (one, other) = (
                callers[n % callers.len()].clone(),
                callers[(n + 1) % callers.len()].clone(),
            );
            async move {
                let session = one.issue("ada", PASSWORD).await?;
                let (next, _) = other.refresh(&session.refresh_token).await?;
                one.refresh(&next.refresh_token).await
            }
        }
    });
    println!("under load: {}", measure(&here, &there, samples).await);
    println!("the load, 25 logins with two refreshes a second: {}", load.stop().await);
    fleet.assert_no_panics();
}
