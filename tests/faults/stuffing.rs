//! Many passwords tried on one account, one password tried on many accounts, and a victim who must not be locked out.

use std::time::Duration;

use countersign::proto::issue_request::Credential;
use countersign::proto::{Grant, IssueRequest, PasswordCredential, SessionContext};
use futures_util::{StreamExt as _, stream};
use rstest::rstest;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::support::caller::reason;
use crate::support::raw::with_bearer;
use crate::support::{Admin, Caller, Deployment, DeploymentKind, Servers, assert_refused, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_guesses_do_not_lock_the_victim_out() {
    for deployment_kind in [DeploymentKind::Embedded, DeploymentKind::Clustered] {
        let deployment = Deployment::fresh(deployment_kind)
            .await
            .set("throttle.enabled", "true")
            // A lock that outlasts the test on any machine.
            .set("throttle.account_source", "10/24h")
            .set("throttle.account", "100/24h")
            .set("throttle.source", "100000/1m");
        deployment.add_user("ada", &[]);
        let server = deployment.serve();
        let home = Admin::from_address(&server, "127.0.0.9");
        home.login("", "ada", &[], &[])
            .await
            .expect("the victim logs in from a source that becomes known");

        let mut attackers = JoinSet::new();
        for n in 0..20 {
            let attacker = Admin::from_address(&server, &format!("127.0.1.{}", n + 1));
            attackers.spawn(async move {
                for _ in 0..50 {
                    assert_eq!(attacker.guess("ada").await, "INVALID_CREDENTIALS");
                }
            });
        }
        let mut logins = 0;
        while !attackers.is_empty() {
            home.login("", "ada", &[], &[])
                .await
                .expect("the right password from a known source");
            logins += 1;
            while let Some(done) = attackers.try_join_next() {
                done.unwrap();
            }
        }
        println!("{deployment_kind:?}: {logins} logins of the victim among 1,000 guesses");
        let stranger = Admin::from_address(&server, "127.0.2.1");
        let refused = stranger.login("", "ada", &[], &[]).await;
        assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
        home.login("", "ada", &[], &[]).await.expect("the victim still gets in");

        // The exemption of known sources has a limit of its own.
        for _ in 0..15 {
            home.guess("ada").await;
        }
        let refused = home.login("", "ada", &[], &[]).await;
        assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
        eventually("the audit row is written", Duration::from_secs(20), || async {
            (!home.events("login.throttled").await.is_empty()).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_password_tried_on_many_accounts_is_limited_by_source() {
    for deployment_kind in [DeploymentKind::Embedded, DeploymentKind::Clustered] {
        let deployment = Deployment::fresh(deployment_kind)
            .await
            .set("throttle.enabled", "true")
            .set("throttle.source", "60/1h")
            .set("throttle.global", "200/1h");
        deployment.add_user("ada", &[]);
        let server = deployment.serve();
        let sprayer = Admin::from_address(&server, "127.0.3.1");
        for n in 0..60 {
            assert_eq!(sprayer.guess(&format!("user{n}")).await, "INVALID_CREDENTIALS", "{n}");
        }
        // At once, because each refusal takes a quarter of a second.
        let more = at_once((60..80).map(|n| (sprayer.clone(), format!("user{n}")))).await;
        assert!(more.iter().all(|why| why == "THROTTLED"), "{more:?}");
        let refused = sprayer.login("", "ada", &[], &[]).await;
        assert!(retry_info(refused.as_ref().unwrap_err()), "the error has RetryInfo");
        assert_refused(refused, Code::ResourceExhausted, "THROTTLED");
        Admin::from_address(&server, "127.0.3.2")
            .login("", "ada", &[], &[])
            .await
            .expect("other sources are not limited");
        // Guesses from many sources together reach the global limit.
        let mut answers = Vec::new();
        for n in 0..10 {
            let sources = (0..16).map(|k| Admin::from_address(&server, &format!("127.0.4.{}", 16 * n + k + 1)));
            answers = at_once(sources.map(|from| (from, format!("user{n}")))).await;
        }
        assert!(answers.iter().all(|why| why == "THROTTLED"), "{answers:?}");
    }
}

/// Makes guesses at the same time. Returns the reasons of the refusals.
pub(crate) async fn at_once(guesses: impl Iterator<Item = (Admin, String)>) -> Vec<String> {
    let mut answers = JoinSet::new();
    for (from, name) in guesses {
        answers.spawn(async move { from.guess(&name).await });
    }
    answers.join_all().await
}

#[rstest]
#[tokio::test]
async fn a_lock_ends_although_the_client_keeps_trying(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind)
        .await
        .set("throttle.enabled", "true")
        .set("throttle.account_source", "3/12s");
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let ada = Admin::of(&server);
    for _ in 0..3 {
        assert_eq!(ada.guess("ada").await, "INVALID_CREDENTIALS");
    }
    // The lock of four seconds, and an attempt with the right password every tenth of one.
    let (began, mut refused) = (Instant::now(), 0);
    while let Err(status) = ada.login("", "ada", &[], &[]).await {
        assert_eq!(
            reason(&status),
            (Code::Unauthenticated, "INVALID_CREDENTIALS".to_owned())
        );
        assert!(!retry_info(&status), "the answer is that of a wrong password");
        assert!(began.elapsed() < Duration::from_mins(1), "locked for ever");
        refused += 1;
        sleep(Duration::from_millis(100)).await;
    }
    println!(
        "{deployment_kind:?}: {refused} refused attempts in {:?}",
        began.elapsed()
    );
    assert!(refused > 0, "three wrong passwords lock");
}

#[rstest]
#[tokio::test]
async fn rotating_ipv6_addresses_share_one_budget(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind)
        .await
        .set("throttle.enabled", "true")
        .set("throttle.source", "6/24h");
    let server = deployment.serve();
    let admin = Admin::of(&server);
    let secret = admin
        .client("web", &[Grant::ClientSecret], &["countersign:issue"], &[])
        .await;
    let token = admin
        .issue_with_secret("web", &secret, &["countersign:issue"], &[])
        .await;
    let token = token.unwrap().access_token;
    let guess = |n: usize, ip_address: &str| {
        let request = IssueRequest {
            credential: Some(Credential::Password(PasswordCredential {
                username: format!("user{n}"),
                password: "password of another user".into(),
            })),
            context: Some(SessionContext {
                ip_address: ip_address.to_owned(),
                ..SessionContext::default()
            }),
            ..IssueRequest::default()
        };
        let (mut tokens, request) = (admin.tokens.clone(), with_bearer(request, &token));
        async move { reason(&tokens.issue(request).await.unwrap_err()).1 }
    };
    let guesses = async |addresses: Vec<String>| {
        // Some at once, because each refusal takes a quarter of a second.
        let attempts = addresses.iter().enumerate().map(|(n, address)| guess(n, address));
        let answers: Vec<String> = stream::iter(attempts).buffer_unordered(8).collect().await;
        let checked = answers.iter().filter(|why| *why == "INVALID_CREDENTIALS").count();
        let refused = answers.iter().filter(|why| *why == "THROTTLED").count();
        assert_eq!(checked + refused, answers.len(), "{answers:?}");
        checked
    };
    let of_network = (0..30).map(|n| format!("2001:db8:1:2:{n:x}::{n:x}")).collect();
    assert_eq!(guesses(of_network).await, 6, "one /64");
    let of_site = (0..60).map(|n| format!("2001:DB8:1:{:x}::1", n + 16)).collect();
    assert_eq!(
        guesses(of_site).await,
        42,
        "one /48: eight times as many, with those of the first network"
    );
    let mapped = (0..12)
        .map(|n| ["192.0.2.7", "::ffff:192.0.2.7"][n % 2].to_owned())
        .collect();
    assert_eq!(guesses(mapped).await, 6, "two texts of one address");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_replica_counts_alone() {
    let mut servers = Servers::start(&[])
        .await
        .set("throttle.enabled", "true")
        .set("throttle.source", "30/1h");
    let server = servers.serve().await;
    Caller::of(&server).login("ada").await;
    servers.redis.kill();
    let attacker = Admin::from_address(&server, "127.0.5.1");
    let mut answers = Vec::new();
    for n in 0..50 {
        answers.push(attacker.guess(&format!("user{n}")).await);
    }
    let guesses = answers.iter().filter(|why| *why == "INVALID_CREDENTIALS").count();
    assert!((30..=32).contains(&guesses), "{answers:?}");
    assert_eq!(answers.last().unwrap(), "THROTTLED", "{answers:?}");
    // The victim gets STORE_UNAVAILABLE, which says nothing about the password: no session can begin now.
    let victim = Admin::from_address(&server, "127.0.5.2")
        .login("", "ada", &[], &[])
        .await;
    assert_refused(victim, Code::Unavailable, "STORE_UNAVAILABLE");
}

pub(crate) fn retry_info(status: &tonic::Status) -> bool {
    use tonic_types::StatusExt as _;
    status
        .get_details_retry_info()
        .is_some_and(|info| info.retry_delay.is_some())
}
