//! Row 32: many passwords at one account, one password at many accounts, and a victim who is not to be locked out.

use std::net::IpAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Endpoint;

use crate::support::caller::reason;
use crate::support::{Admin, Caller, Countersign, Deployment, Servers, Shape, assert_refused};

/// Somebody at this address of loopback.
fn at(server: &Countersign, address: &str) -> Admin {
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
        password: "password of somebody else".to_owned(),
    });
    let refused = from
        .issue("", credential, &[], &[])
        .await
        .expect_err("the guess is wrong");
    reason(&refused).1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_guesses_do_not_lock_the_victim_out() {
    for shape in [Shape::Embedded, Shape::Clustered] {
        let deployment = Deployment::fresh(shape)
            .await
            .set("throttle.enabled", "true")
            .set("throttle.source", "100000/1m");
        deployment.add_user("ada", &[]);
        let server = deployment.serve();
        let home = at(&server, "127.0.0.9");
        home.login("", "ada", &[], &[])
            .await
            .expect("the victim has been here before");

        let mut attackers = JoinSet::new();
        for n in 0..20 {
            let attacker = at(&server, &format!("127.0.1.{}", n + 1));
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
        println!("{shape:?}: {logins} logins of the victim among 1,000 guesses");
        let stranger = at(&server, "127.0.2.1");
        let refused = stranger.login("", "ada", &[], &[]).await;
        assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
        home.login("", "ada", &[], &[]).await.expect("and afterwards");

        // The exemption has a limit of its own.
        for _ in 0..15 {
            guess(&home, "ada").await;
        }
        let refused = home.login("", "ada", &[], &[]).await;
        assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
        assert!(!home.events("login.throttled").await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_password_at_many_accounts_ends_at_the_source() {
    for shape in [Shape::Embedded, Shape::Clustered] {
        let deployment = Deployment::fresh(shape)
            .await
            .set("throttle.enabled", "true")
            .set("throttle.source", "60/1h")
            .set("throttle.global", "200/1h");
        deployment.add_user("ada", &[]);
        let server = deployment.serve();
        let sprayer = at(&server, "127.0.3.1");
        let mut answers = Vec::new();
        for n in 0..80 {
            answers.push(guess(&sprayer, &format!("user{n}")).await);
        }
        assert_eq!(answers.iter().filter(|why| *why == "INVALID_CREDENTIALS").count(), 60);
        assert!(answers[60..].iter().all(|why| why == "THROTTLED"));
        let refused = sprayer.login("", "ada", &[], &[]).await;
        assert!(retry_info(refused.as_ref().unwrap_err()), "it says when to try again");
        assert_refused(refused, Code::ResourceExhausted, "THROTTLED");
        at(&server, "127.0.3.2")
            .login("", "ada", &[], &[])
            .await
            .expect("others are left alone");
        // From many sources, all of them together reach the limit of everybody.
        let mut last = String::new();
        for n in 0..160 {
            last = guess(&at(&server, &format!("127.0.4.{}", n + 1)), &format!("user{n}")).await;
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
    let attacker = at(&server, "127.0.5.1");
    let mut answers = Vec::new();
    for n in 0..50 {
        answers.push(guess(&attacker, &format!("user{n}")).await);
    }
    let guesses = answers.iter().filter(|why| *why == "INVALID_CREDENTIALS").count();
    assert!((30..=32).contains(&guesses), "{answers:?}");
    assert_eq!(answers.last().unwrap(), "THROTTLED", "{answers:?}");
    // A victim is told the truth: nothing can be begun now. It is no answer about the password.
    let victim = at(&server, "127.0.5.2").login("", "ada", &[], &[]).await;
    assert_refused(victim, Code::Unavailable, "STORE_UNAVAILABLE");
}

fn retry_info(status: &tonic::Status) -> bool {
    use tonic_types::StatusExt as _;
    status
        .get_details_retry_info()
        .is_some_and(|info| info.retry_delay.is_some())
}
