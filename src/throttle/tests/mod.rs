mod calls;

use async_trait::async_trait;
use tokio::task::JoinSet;

use super::*;
use crate::clock::SystemClock;
use crate::model::Result;
use crate::secret::SystemEntropy;
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
        registration: rate(5),
        registration_global: rate(20),
        login: rate(10),
        own_account: rate(10),
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

fn source(address: &str) -> Source {
    Source::parse(address).unwrap()
}

fn name(text: &str) -> Username {
    Username::parse(text, "username").unwrap()
}

const HERE: &str = "192.0.2.1";
const HOME: &str = "192.0.2.2";
const ELSEWHERE: &str = "192.0.2.3";

fn ada(throttle: &Throttle, address: &str) -> Attempt {
    throttle.user_login(&name("ada"), source(address))
}

async fn fail(throttle: &Throttle, attempt: &Attempt) -> ErrorKind {
    match throttle.reserve(attempt, HOUR).await {
        Ok(reservation) => reservation.fail().await.kind,
        Err(error) => error.kind,
    }
}

/// Makes `count` attempts at once, all right or all wrong. Returns how many found their limits open.
async fn attempt_at_once(throttle: &Arc<Throttle>, count: usize, right: bool) -> usize {
    let mut attempts = JoinSet::new();
    for _ in 0..count {
        let throttle = Arc::clone(throttle);
        attempts.spawn(async move {
            let attempt = ada(&throttle, HERE);
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
    let attempt = ada(&throttle, HERE);
    for _ in 0..30 {
        let reservation = throttle.reserve(&attempt, HOUR).await.unwrap();
        let error = reservation.abandon(ErrorKind::StoreUnavailable.into()).await;
        assert_eq!(error.kind, ErrorKind::StoreUnavailable);
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
        .reserve(&ada(&throttle, HOME), HOUR)
        .await
        .unwrap()
        .succeed()
        .await;
    for n in 0..40 {
        fail(&throttle, &ada(&throttle, &format!("198.51.100.{n}"))).await;
    }
    let limit_state = async |source: &str| {
        let reservation = throttle.reserve(&ada(&throttle, source), HOUR).await.unwrap();
        let limit_state = reservation.limit_state();
        reservation.abandon(ErrorKind::StoreUnavailable.into()).await;
        limit_state
    };
    assert_eq!(limit_state(ELSEWHERE).await, LimitState::Locked);
    assert_eq!(limit_state(HOME).await, LimitState::Open);
    for _ in 0..10 {
        fail(&throttle, &ada(&throttle, HOME)).await;
    }
    assert_eq!(
        limit_state(HOME).await,
        LimitState::Locked,
        "a known source has its own limit"
    );
}

#[tokio::test]
async fn the_limit_of_a_source_rejects_and_a_password_proof_counts_with_the_logins() {
    let throttle = throttle();
    for n in 0..60 {
        fail(
            &throttle,
            &throttle.user_login(&name(&format!("user{n}")), source(HERE)),
        )
        .await;
    }
    let error = throttle.reserve(&ada(&throttle, HERE), HOUR).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Throttled);
    assert!(error.retry_after.is_some());

    for _ in 0..10 {
        fail(&throttle, &throttle.password_proof(&name("ada"), source(HOME))).await;
    }
    let login = throttle.reserve(&ada(&throttle, HOME), HOUR).await.unwrap();
    assert_eq!(login.limit_state(), LimitState::Locked);
}

#[tokio::test]
async fn a_user_known_at_a_source_passes_its_limit_and_no_answer_tells_so() {
    let throttle = throttle_over(None, |config| {
        config.global = Some(Rate {
            count: 70,
            per: Duration::from_hours(24),
        });
    });
    let reservation = throttle.reserve(&ada(&throttle, HERE), HOUR).await.unwrap();
    reservation.succeed().await;
    for n in 0..100 {
        let address = if n < 65 { HERE } else { ELSEWHERE };
        fail(
            &throttle,
            &throttle.user_login(&name(&format!("user{n}")), source(address)),
        )
        .await;
    }
    // Both limits are used up. The right password passes, again and again.
    for _ in 0..50 {
        let reservation = throttle.reserve(&ada(&throttle, HERE), HOUR).await.unwrap();
        assert_eq!(reservation.limit_state(), LimitState::Open);
        reservation.succeed().await;
    }
    // A wrong one, and an outage, are answered as for a user who is not known.
    let stranger = throttle.user_login(&name("ben"), source(HERE));
    assert_eq!(fail(&throttle, &stranger).await, ErrorKind::Throttled);
    let reservation = throttle.reserve(&ada(&throttle, HERE), HOUR).await.unwrap();
    let error = reservation.abandon(ErrorKind::StoreUnavailable.into()).await;
    assert_eq!(error.kind, ErrorKind::Throttled);
    for n in 0..12 {
        let reservation = throttle.reserve(&ada(&throttle, HERE), HOUR).await;
        // Beyond the limit of the account at the source no password is checked any more.
        assert_eq!(reservation.is_ok(), n < 10, "{n}");
        match reservation {
            Ok(reservation) => assert_eq!(reservation.fail().await.kind, ErrorKind::Throttled),
            Err(error) => assert_eq!(error.kind, ErrorKind::Throttled),
        }
    }
}

#[tokio::test]
async fn refusals_of_a_source_are_sent_at_the_same_time_whether_or_not_a_password_was_checked() {
    let throttle = throttle();
    let waited = async |checked: Duration| {
        let attempt = ada(&throttle, HERE);
        tokio::time::sleep(checked).await;
        throttle.hold_refusal(&attempt, Duration::ZERO, HOUR).await;
        throttle.clock.monotonic().saturating_sub(attempt.began)
    };
    assert!(waited(Duration::ZERO).await >= REFUSAL_STEP);
    assert!(waited(REFUSAL_STEP / 5).await >= REFUSAL_STEP);
    assert!(waited(REFUSAL_STEP * 6 / 5).await >= REFUSAL_STEP * 2);
    // The deadline of the caller leaves time for the answer.
    let attempt = ada(&throttle, HERE);
    let deadline = attempt.began + REFUSAL_STEP;
    throttle.hold_refusal(&attempt, Duration::from_mins(1), deadline).await;
    assert!(throttle.clock.monotonic() < attempt.began + Duration::from_mins(1));
}

#[tokio::test]
async fn attempts_at_a_locked_account_do_not_extend_any_lock_of_it() {
    let throttle = throttle();
    for _ in 0..10 {
        fail(&throttle, &ada(&throttle, HERE)).await;
    }
    let account = throttle.account_keys(&name("ada"), source(HERE));
    let local = &throttle.passwords.local;
    let waits = async || {
        let account_source = local.wait_time(account.account_source, throttle.account_source_limit());
        let account = local.wait_time(account.account, throttle.account_limit());
        (account_source.await.unwrap(), account.await.unwrap())
    };
    let (before, _) = waits().await;
    assert!(!before.is_zero());
    for _ in 0..40 {
        let reservation = throttle.reserve(&ada(&throttle, HERE), HOUR).await.unwrap();
        assert_eq!(reservation.limit_state(), LimitState::Locked);
        assert_eq!(reservation.fail().await.kind, ErrorKind::InvalidCredentials);
    }
    let (after, account) = waits().await;
    assert!(after <= before, "{before:?}, then {after:?}");
    assert_eq!(account, Duration::ZERO, "40 refused attempts at a limit of 20");
    let elsewhere = throttle.reserve(&ada(&throttle, ELSEWHERE), HOUR).await.unwrap();
    assert_eq!(elsewhere.limit_state(), LimitState::Open);
}

#[tokio::test]
async fn the_addresses_of_an_ipv6_network_share_one_budget_and_a_site_has_eight() {
    let throttle = throttle();
    let attempt = |n: u16, address: String| throttle.user_login(&name(&format!("user{n}")), source(&address));
    let mut passed = 0;
    for n in 0..100 {
        let answer = fail(&throttle, &attempt(n, format!("2001:db8:1:2::{n:x}"))).await;
        passed += usize::from(answer == ErrorKind::InvalidCredentials);
    }
    assert_eq!(passed, 60, "one /64");
    for n in 0..1_000 {
        let answer = fail(&throttle, &attempt(n, format!("2001:db8:1:{n:x}::1"))).await;
        passed += usize::from(answer == ErrorKind::InvalidCredentials);
    }
    assert_eq!(passed, 480, "one /48");
    let other = attempt(0, "2001:db8:2::1".into());
    assert_eq!(fail(&throttle, &other).await, ErrorKind::InvalidCredentials);
    for address in [HERE.to_owned(), format!("::ffff:{HERE}")] {
        for n in 0..30 {
            fail(&throttle, &attempt(n, address.clone())).await;
        }
    }
    assert_eq!(fail(&throttle, &ada(&throttle, HERE)).await, ErrorKind::Throttled);
}

#[tokio::test]
async fn waiting_is_limited_in_number_and_time() {
    let throttle = throttle_over(None, |config| {
        config.account_source.count = 1;
        config.waiting = 1;
    });
    let attempt = ada(&throttle, HERE);
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
