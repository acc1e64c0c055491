//! Wrong secrets, registrations and calls of users on their own account.

use uuid::Uuid;

use super::*;
use crate::model::{SessionId, UserId};

#[tokio::test]
async fn wrong_secrets_are_counted_apart_and_displace_no_counter_of_a_password() {
    let throttle = throttle();
    for _ in 0..10 {
        fail(&throttle, &ada(&throttle, HERE)).await;
    }
    let mut wrong = 0;
    for _ in 0..100 {
        let error = throttle.wrong_secret(source(HERE), ErrorKind::InvalidCredentials).await;
        wrong += usize::from(error.kind == ErrorKind::InvalidCredentials);
        assert!(error.kind != ErrorKind::Throttled || error.retry_after.is_some());
    }
    assert_eq!(wrong, 60);
    let ben = throttle
        .reserve(&throttle.user_login(&name("ben"), source(HERE)), HOUR)
        .await;
    ben.unwrap().succeed().await;
    // Secrets are free to send, so their counters may come from very many sources.
    for n in 0..120_000_u32 {
        let address = std::net::Ipv4Addr::from_bits(n);
        throttle
            .wrong_secret(Source::of(address.into()), ErrorKind::InvalidCredentials)
            .await;
    }
    let locked = throttle.reserve(&ada(&throttle, HERE), HOUR).await.unwrap();
    assert_eq!(locked.limit_state(), LimitState::Locked);
}

#[tokio::test]
async fn registrations_are_limited_by_source_and_in_all() {
    let throttle = throttle();
    let register = async |address: &str| throttle.registration(source(address)).await.map_err(|error| error.kind);
    for n in 0..8 {
        let answer = register(HERE).await;
        assert_eq!(answer, if n < 5 { Ok(()) } else { Err(ErrorKind::Throttled) });
    }
    let mut made = 5;
    for n in 0..40 {
        made += usize::from(register(&format!("198.51.100.{n}")).await.is_ok());
    }
    assert_eq!(made, 20);
}

#[tokio::test]
async fn a_users_own_calls_have_a_budget_and_each_session_a_reserve() {
    let throttle = throttle();
    let (ada, ben) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
    let (stolen, other) = (SessionId(Uuid::from_u128(3)), SessionId(Uuid::from_u128(4)));
    let calls = async |user, session| {
        let mut passed = 0;
        for _ in 0..100 {
            match throttle.own_account_call(user, session).await {
                Ok(()) => passed += 1,
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::Throttled);
                    assert!(error.retry_after.is_some());
                }
            }
        }
        passed
    };
    assert_eq!(calls(ada, stolen).await, 13);
    assert_eq!(
        calls(ada, other).await,
        3,
        "another session of the user still has its reserve"
    );
    assert_eq!(calls(ben, SessionId(Uuid::from_u128(5))).await, 13);
    let mut resets = 0;
    for _ in 0..100 {
        resets += usize::from(throttle.password_reset(ada).await.is_ok());
    }
    assert_eq!(resets, 10);
}

#[tokio::test]
async fn logins_with_the_right_password_have_a_limit_for_each_user() {
    let throttle = throttle();
    let name = |name: &str| Username::parse(name, "username").unwrap();
    for n in 0..20 {
        let allowed = n < 10;
        assert_eq!(throttle.check_logins(&name("ada")).await.is_ok(), allowed, "{n}");
        assert_eq!(throttle.count_login(&name("ada")).await.is_ok(), allowed, "{n}");
    }
    let refusal = throttle.check_logins(&name("ada")).await.unwrap_err();
    assert_eq!(refusal.kind, ErrorKind::Throttled);
    assert!(refusal.retry_after.is_some());
    assert!(throttle.check_logins(&name("ben")).await.is_ok());
}
