use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;

use super::*;
use crate::clock::SystemClock;
use crate::model::{Error, ErrorKind, Result};
use crate::secret::SystemEntropy;
use crate::store::local::LocalThrottles;
use crate::store::throttles::{Charge, Take};

const HOUR: Duration = Duration::from_hours(1);

fn throttle_over(shared: Option<Arc<dyn ThrottleStore>>, change: impl FnOnce(&mut ThrottleConfig)) -> Arc<Throttle> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let rate = |count| Rate {
        count,
        per: Duration::from_hours(24),
    };
    let mut config = ThrottleConfig {
        enabled: true,
        account_source: rate(10),
        account: rate(20),
        source: rate(60),
        global: None,
        waiting: 1000,
    };
    change(&mut config);
    let master = Master::parse(&Master::generate(&SystemEntropy)).unwrap();
    let local = Arc::new(LocalThrottles::new(Arc::clone(&clock)));
    Arc::new(Throttle::new(shared, local, Arc::new(master), clock, config))
}

fn throttle() -> Arc<Throttle> {
    throttle_over(None, |_| {})
}

fn ada(throttle: &Throttle, source: &str) -> Attempt {
    throttle.person(&Username::parse("ada", "username").unwrap(), source)
}

/// So many attempts at once, which take a moment and are good or bad; how many were open.
async fn at_once(throttle: &Arc<Throttle>, count: usize, good: bool) -> usize {
    let mut attempts = JoinSet::new();
    for _ in 0..count {
        let throttle = Arc::clone(throttle);
        attempts.spawn(async move {
            let attempt = ada(&throttle, "here");
            let reservation = throttle.reserve(&attempt, HOUR).await.unwrap();
            tokio::task::yield_now().await;
            let open = reservation.limit_state() == LimitState::Open;
            if good && open {
                reservation.succeeded().await;
            } else {
                reservation.failed().await;
            }
            open
        });
    }
    attempts.join_all().await.into_iter().filter(|open| *open).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_once_are_no_more_than_guesses_in_a_row() {
    assert_eq!(at_once(&throttle(), 60, false).await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn good_attempts_at_once_do_not_stand_in_each_others_way() {
    let throttle = throttle();
    assert_eq!(at_once(&throttle, 500, true).await, 500);
    assert_eq!(at_once(&throttle, 60, false).await, 10, "and left no trace");
}

#[tokio::test]
async fn whoever_goes_away_has_failed_and_what_was_never_looked_at_has_not() {
    let throttle = throttle();
    let attempt = ada(&throttle, "here");
    for _ in 0..30 {
        throttle.reserve(&attempt, HOUR).await.unwrap().undone().await;
    }
    for _ in 0..10 {
        let reservation = throttle.reserve(&attempt, HOUR).await.unwrap();
        assert_eq!(reservation.limit_state(), LimitState::Open);
        drop(reservation);
    }
    let reservation = throttle.reserve(&attempt, HOUR).await.unwrap();
    assert_eq!(reservation.limit_state(), LimitState::Locked);
}

#[tokio::test]
async fn a_known_source_is_not_held_by_the_account() {
    let throttle = throttle();
    throttle
        .reserve(&ada(&throttle, "home"), HOUR)
        .await
        .unwrap()
        .succeeded()
        .await;
    for n in 0..40 {
        let attempt = ada(&throttle, &format!("{n}"));
        throttle.reserve(&attempt, HOUR).await.unwrap().failed().await;
    }
    let limit_state = async |source: &str| {
        let reservation = throttle.reserve(&ada(&throttle, source), HOUR).await.unwrap();
        let limit_state = reservation.limit_state();
        reservation.undone().await;
        limit_state
    };
    assert_eq!(limit_state("elsewhere").await, LimitState::Locked);
    assert_eq!(limit_state("home").await, LimitState::Open);
    for _ in 0..10 {
        throttle
            .reserve(&ada(&throttle, "home"), HOUR)
            .await
            .unwrap()
            .failed()
            .await;
    }
    assert_eq!(
        limit_state("home").await,
        LimitState::Locked,
        "that exemption has a limit"
    );
}

#[tokio::test]
async fn a_source_is_turned_away_and_a_proof_counts_with_the_logins() {
    let throttle = throttle();
    for n in 0..60 {
        let name = Username::parse(&format!("user{n}"), "username").unwrap();
        throttle
            .reserve(&throttle.person(&name, "here"), HOUR)
            .await
            .unwrap()
            .failed()
            .await;
    }
    let error = throttle.reserve(&ada(&throttle, "here"), HOUR).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Throttled);
    assert!(error.retry_after.is_some());
    let machine = throttle.machine("here");
    assert_eq!(
        throttle.reserve(&machine, HOUR).await.unwrap_err().kind,
        ErrorKind::Throttled
    );

    let name = Username::parse("ada", "username").unwrap();
    for _ in 0..10 {
        throttle
            .reserve(&throttle.proof(&name, "there"), HOUR)
            .await
            .unwrap()
            .failed()
            .await;
    }
    let login = throttle.reserve(&ada(&throttle, "there"), HOUR).await.unwrap();
    assert_eq!(login.limit_state(), LimitState::Locked);
}

#[tokio::test]
async fn waiting_is_bounded_in_number_and_time() {
    let throttle = throttle_over(None, |config| {
        config.account_source.count = 1;
        config.waiting = 1;
    });
    let attempt = ada(&throttle, "here");
    let first = throttle.reserve(&attempt, HOUR).await.unwrap();
    let soon = throttle.clock.monotonic() + Duration::from_millis(200);
    let (second, third) = tokio::join!(throttle.reserve(&attempt, soon), throttle.reserve(&attempt, soon));
    assert_eq!(second.unwrap_err().kind, ErrorKind::DeadlineExceeded);
    assert_eq!(third.unwrap_err().kind, ErrorKind::Overloaded);
    first.succeeded().await;
    let reservation = throttle.reserve(&attempt, HOUR).await.unwrap();
    assert_eq!(reservation.limit_state(), LimitState::Open);
}

/// Counters that cannot be reached.
struct Gone;

#[async_trait]
impl ThrottleStore for Gone {
    async fn wait(&self, _name: [u8; 16], _limit: Limit) -> Result<Duration> {
        Err(Error::store_unavailable("gone"))
    }

    async fn take(&self, _name: [u8; 16], _limit: Limit) -> Result<Take> {
        Err(Error::store_unavailable("gone"))
    }

    async fn refund(&self, _name: [u8; 16], _charge: Charge) -> Result<()> {
        Err(Error::store_unavailable("gone"))
    }

    async fn charge(&self, _name: [u8; 16], _limit: Limit) -> Result<()> {
        Err(Error::store_unavailable("gone"))
    }

    async fn remember(&self, _name: [u8; 16], _keep: Duration) -> Result<()> {
        Err(Error::store_unavailable("gone"))
    }

    async fn remembers(&self, _name: [u8; 16]) -> Result<bool> {
        Err(Error::store_unavailable("gone"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_shared_counters_each_replica_counts_alone() {
    let throttle = throttle_over(Some(Arc::new(Gone)), |_| {});
    assert_eq!(at_once(&throttle, 100, true).await, 100);
    assert_eq!(at_once(&throttle, 60, false).await, 10);
}
