//! Many passwords tried on one account, one password tried on many accounts, and a victim who must not be locked out.

use std::net::IpAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Endpoint;

use crate::support::caller::reason;
use crate::support::{Admin, Caller, Countersign, Deployment, DeploymentKind, Servers, assert_refused};

/// A caller from this loopback address.
fn caller_from(server: &Countersign, address: &str) -> Admin {
    let address: IpAddr = address.parse().unwrap();
    let endpoint = Endpoint::from_shared(server.grpc_url()).unwrap();
    Admin::over(
        endpoint
            .local_address(Some(address))
            .timeout(Duration::from_secs(20))
            .connect_lazy(),
    )
}

async fn guess(from: &Admin, name: &str) -> String {
    use countersign::proto::PasswordCredential;
    use countersign::proto::issue_request::Credential;
    let credential = Credential::Password(PasswordCredential {
        username: name.to_owned(),
        password: "password of another user".to_owned(),
    });
    let refused = from
        .issue("", credential, &[], &[])
        .await
        .expect_err("the guess is wrong");
    reason(&refused).1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_guesses_do_not_lock_the_victim_out() {
    for deployment_kind in [DeploymentKind::Embedded, DeploymentKind::Clustered] {
        let deployment = Deployment::fresh(deployment_kind)
            .await
            .set("throttle.enabled", "true")
            .set("throttle.source", "100000/1m");
        deployment.add_user("ada", &[]);
        let server = deployment.serve();
        let home = caller_from(&server, "127.0.0.9");
        home.login("", "ada", &[], &[])
            .await
            .expect("the victim logs in from a source that becomes known");

        let mut attackers = JoinSet::new();
        for n in 0..20 {
            let attacker = caller_from(&server, &format!("127.0.1.{}", n + 1));
            attackers.spawn(async move {
                for _ in 0..50 {
                    assert_eq!(guess(&attacker, "ada").await, "INVALID_CREDENTIALS");
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
        let stranger = caller_from(&server, "127.0.2.1");
        let refused = stranger.login("", "ada", &[], &[]).await;
        assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
        home.login("", "ada", &[], &[]).await.expect("the victim still gets in");

        // The exemption of known sources has a limit of its own.
        for _ in 0..15 {
            guess(&home, "ada").await;
        }
        let refused = home.login("", "ada", &[], &[]).await;
        assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
        assert!(!home.events("login.throttled").await.is_empty());
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
        let sprayer = caller_from(&server, "127.0.3.1");
        let mut answers = Vec::new();
        for n in 0..80 {
            answers.push(guess(&sprayer, &format!("user{n}")).await);
        }
        assert_eq!(answers.iter().filter(|why| *why == "INVALID_CREDENTIALS").count(), 60);
        assert!(answers[60..].iter().all(|why| why == "THROTTLED"));
        let refused = sprayer.login("", "ada", &[], &[]).await;
        assert!(retry_info(refused.as_ref().unwrap_err()), "the error has RetryInfo");
        assert_refused(refused, Code::ResourceExhausted, "THROTTLED");
        caller_from(&server, "127.0.3.2")
            .login("", "ada", &[], &[])
            .await
            .expect("other sources are not limited");
        // Guesses from many sources together reach the global limit.
        let mut last = String::new();
        for n in 0..160 {
            last = guess(
                &caller_from(&server, &format!("127.0.4.{}", n + 1)),
                &format!("user{n}"),
            )
            .await;
        }
        assert_eq!(last, "THROTTLED");
    }
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
    let attacker = caller_from(&server, "127.0.5.1");
    let mut answers = Vec::new();
    for n in 0..50 {
        answers.push(guess(&attacker, &format!("user{n}")).await);
    }
    let guesses = answers.iter().filter(|why| *why == "INVALID_CREDENTIALS").count();
    assert!((30..=32).contains(&guesses), "{answers:?}");
    assert_eq!(answers.last().unwrap(), "THROTTLED", "{answers:?}");
    // The victim gets STORE_UNAVAILABLE, which says nothing about the password: no session can begin now.
    let victim = caller_from(&server, "127.0.5.2").login("", "ada", &[], &[]).await;
    assert_refused(victim, Code::Unavailable, "STORE_UNAVAILABLE");
}

fn retry_info(status: &tonic::Status) -> bool {
    use tonic_types::StatusExt as _;
    status
        .get_details_retry_info()
        .is_some_and(|info| info.retry_delay.is_some())
}
