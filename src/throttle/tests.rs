use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;

use super::*;
use crate::clock::SystemClock;
use crate::model::{Error, ErrorKind, Result};
use crate::secret::SystemEntropy;
use crate::store::local::LocalThrottles;
use crate::store::throttles::{Charge, LimitDecision};

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
    let master = MasterKeyring::parse(&MasterKeyring::generate(&SystemEntropy)).unwrap();
    let local = Arc::new(LocalThrottles::new(Arc::clone(&clock)));
    Arc::new(Throttle::new(shared, local, Arc::new(master), clock, config))
}

fn throttle() -> Arc<Throttle> {
    throttle_over(None, |_| {})
}

fn ada(throttle: &Throttle, source: &str) -> Attempt {
    throttle.user_login(&Username::parse("ada", "username").unwrap(), source)
}

/// Makes `count` attempts at once, all right or all wrong. Returns how many found their limits open.
async fn attempt_at_once(throttle: &Arc<Throttle>, count: usize, right: bool) -> usize {
    let mut attempts = JoinSet::new();
    for _ in 0..count {
        let throttle = Arc::clone(throttle);
        attempts.spawn(async move {
            let attempt = ada(&throttle, "here");
            let reservation = throttle.reserve(&attempt, HOUR).await.unwrap();
            tokio::task::yield_now().await;
            let open = reservation.limit_state() == LimitState::Open;
            if right && open {
                reservation.succeed().await;
            } else {
                reservation.fail().await;
            }
            open
        });
    }
    attempts.join_all().await.into_iter().filter(|open| *open).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_made_at_once_are_limited_like_guesses_in_a_row() {
    assert_eq!(attempt_at_once(&throttle(), 60, false).await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn successful_attempts_at_once_do_not_fail_because_of_each_other() {
    let throttle = throttle();
    assert_eq!(attempt_at_once(&throttle, 500, true).await, 500);
    assert_eq!(
        attempt_at_once(&throttle, 60, false).await,
        10,
        "the successful ones left no charge"
    );
}

#[tokio::test]
async fn a_dropped_reservation_counts_as_a_failure_and_a_cancelled_one_does_not() {
    let throttle = throttle();
    let attempt = ada(&throttle, "here");
    for _ in 0..30 {
        throttle.reserve(&attempt, HOUR).await.unwrap().cancel().await;
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
async fn a_known_source_is_not_locked_by_the_limit_of_the_account() {
    let throttle = throttle();
    throttle
        .reserve(&ada(&throttle, "home"), HOUR)
        .await
        .unwrap()
        .succeed()
        .await;
    for n in 0..40 {
        let attempt = ada(&throttle, &format!("{n}"));
        throttle.reserve(&attempt, HOUR).await.unwrap().fail().await;
    }
    let limit_state = async |source: &str| {
        let reservation = throttle.reserve(&ada(&throttle, source), HOUR).await.unwrap();
        let limit_state = reservation.limit_state();
        reservation.cancel().await;
        limit_state
    };
    assert_eq!(limit_state("elsewhere").await, LimitState::Locked);
    assert_eq!(limit_state("home").await, LimitState::Open);
    for _ in 0..10 {
        throttle
            .reserve(&ada(&throttle, "home"), HOUR)
            .await
            .unwrap()
            .fail()
            .await;
    }
    assert_eq!(
        limit_state("home").await,
        LimitState::Locked,
        "a known source has its own limit"
    );
}

#[tokio::test]
async fn the_limit_of_a_source_rejects_and_a_password_proof_counts_with_the_logins() {
    let throttle = throttle();
    for n in 0..60 {
        let name = Username::parse(&format!("user{n}"), "username").unwrap();
        throttle
            .reserve(&throttle.user_login(&name, "here"), HOUR)
            .await
            .unwrap()
            .fail()
            .await;
    }
    let error = throttle.reserve(&ada(&throttle, "here"), HOUR).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Throttled);
    assert!(error.retry_after.is_some());
    let client_login = throttle.client_login("here");
    assert_eq!(
        throttle.reserve(&client_login, HOUR).await.unwrap_err().kind,
        ErrorKind::Throttled
    );

    let name = Username::parse("ada", "username").unwrap();
    for _ in 0..10 {
        throttle
            .reserve(&throttle.password_proof(&name, "there"), HOUR)
            .await
            .unwrap()
            .fail()
            .await;
    }
    let login = throttle.reserve(&ada(&throttle, "there"), HOUR).await.unwrap();
    assert_eq!(login.limit_state(), LimitState::Locked);
}

#[tokio::test]
async fn waiting_is_limited_in_number_and_time() {
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
    first.succeed().await;
    let reservation = throttle.reserve(&attempt, HOUR).await.unwrap();
    assert_eq!(reservation.limit_state(), LimitState::Open);
}

/// Counters that cannot be reached.
struct UnreachableCounters;

#[async_trait]
impl ThrottleStore for UnreachableCounters {
    async fn wait_time(&self, _counter: CounterKey, _limit: Limit) -> Result<Duration> {
        Err(Error::store_unavailable("unreachable"))
    }

    async fn try_charge(&self, _counter: CounterKey, _limit: Limit) -> Result<LimitDecision> {
        Err(Error::store_unavailable("unreachable"))
    }

    async fn refund(&self, _counter: CounterKey, _charge: Charge) -> Result<()> {
        Err(Error::store_unavailable("unreachable"))
    }

    async fn charge(&self, _counter: CounterKey, _limit: Limit) -> Result<()> {
        Err(Error::store_unavailable("unreachable"))
    }

    async fn remember(&self, _key: CounterKey, _ttl: Duration) -> Result<()> {
        Err(Error::store_unavailable("unreachable"))
    }

    async fn is_remembered(&self, _key: CounterKey) -> Result<bool> {
        Err(Error::store_unavailable("unreachable"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_shared_counters_are_unreachable_each_replica_counts_alone() {
    let throttle = throttle_over(Some(Arc::new(UnreachableCounters)), |_| {});
    assert_eq!(attempt_at_once(&throttle, 100, true).await, 100);
    assert_eq!(attempt_at_once(&throttle, 60, false).await, 10);
}
