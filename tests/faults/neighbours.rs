//! A neighbour behind the same proxy or NAT fails logins without end. Right client secrets and users who logged in from
//! there before get in, and no answer tells which users those are.

use std::time::Duration;

use countersign::proto::Grant;
use countersign::proto::PasswordCredential;
use countersign::proto::issue_request::Credential;
use rstest::rstest;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::stuffing::{at_once, retry_info};
use crate::support::caller::reason;
use crate::support::web::metric;
use crate::support::{Admin, Countersign, Deployment, DeploymentKind, Load, PASSWORD, assert_refused, size};

/// The proxy's address.
const SHARED: &str = "127.0.7.1";

/// The most failures that the limit of a source checks.
const FAILURES: u64 = 60;

/// A service with the users `ada`, who has logged in through the proxy, and `ben`, who has not.
async fn service(deployment_kind: DeploymentKind) -> (Deployment, Countersign, Admin) {
    let deployment = Deployment::fresh(deployment_kind)
        .await
        .set("throttle.enabled", "true")
        .set("throttle.account_source", "20/24h")
        .set("throttle.source", &format!("{FAILURES}/24h"))
        .set("throttle.global", "80/24h");
    for name in ["ada", "ben"] {
        deployment.add_user(name, &[]);
    }
    let server = deployment.serve();
    let shared = Admin::from_address(&server, SHARED);
    shared.login("", "ada", &[], &[]).await.expect("nothing is limited yet");
    (deployment, server, shared)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn right_secrets_and_known_users_get_in_beside_a_noisy_neighbour(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let (_deployment, server, shared) = service(deployment_kind).await;
    let secret = shared
        .client("machine", &[Grant::ClientSecret], &["read"], &["api"])
        .await;

    // The neighbour uses up the limit of the source, and others the rest of the global one.
    for n in 0..4 {
        let names = (0..16).map(|k| (shared.clone(), format!("user{}", 16 * n + k)));
        at_once(names).await;
    }
    let others = (1..32).map(|n| {
        (
            Admin::from_address(&server, &format!("127.0.8.{n}")),
            "nobody".to_owned(),
        )
    });
    at_once(others).await;
    for from in [&shared, &Admin::from_address(&server, "127.0.8.99")] {
        assert_eq!(from.guess("carol").await, "THROTTLED");
    }

    // It goes on with 20 wrong passwords and 20 wrong secrets a second.
    let neighbour = Admin::from_address(&server, SHARED);
    let guesser = neighbour.clone();
    let guesses = Load::start(20, move |n| {
        let guesser = guesser.clone();
        async move { wrong_password(&guesser, &format!("user{n}")).await }
    });
    let wrong_secrets = Load::start(20, move |n| {
        let neighbour = neighbour.clone();
        async move {
            let id = if n % 2 == 0 { "machine" } else { "nonexistent" };
            neighbour.issue_with_secret(id, "not the secret", &[], &[]).await
        }
    });
    let known = shared.clone();
    let people = Load::start(5, move |_| {
        let known = known.clone();
        async move { known.login("", "ada", &[], &[]).await }
    });
    let same_secret = secret.clone();
    let machine = shared.clone();
    let machines = Load::start(10, move |_| {
        let (machine, secret) = (machine.clone(), same_secret.clone());
        async move { machine.issue_with_secret("machine", &secret, &[], &[]).await }
    });
    sleep(Duration::from_secs(size("COUNTERSIGN_TEST_NEIGHBOUR", 3))).await;
    let (people, machines) = (people.stop().await, machines.stop().await);
    let (guesses, wrong_secrets) = (guesses.stop().await, wrong_secrets.stop().await);
    println!(
        "{deployment_kind:?}: known users: {people}\nright secrets: {machines}\nwrong passwords: {guesses}\nwrong secrets: \
         {wrong_secrets}"
    );
    people.assert_only(&["Ok"]);
    machines.assert_only(&["Ok"]);
    let (checked, refused) = ("Unauthenticated INVALID_CREDENTIALS", "ResourceExhausted THROTTLED");
    guesses.assert_only(&[refused]);
    wrong_secrets.assert_only(&[checked, refused]);
    assert!(wrong_secrets.count(checked) <= FAILURES, "{wrong_secrets}");
    assert!(metric(&server, "countersign_throttled_total") > 0.0);

    // A user who never logged in from here has to wait, and is told how long.
    let stranger = shared.login("", "ben", &[], &[]).await;
    assert!(retry_info(stranger.as_ref().unwrap_err()), "{stranger:?}");
    assert_refused(stranger, Code::ResourceExhausted, "THROTTLED");
}

async fn wrong_password(from: &Admin, name: &str) -> Result<(), Status> {
    let credential = Credential::Password(PasswordCredential {
        username: name.to_owned(),
        password: format!("{PASSWORD}, but another one"),
    });
    from.issue("", credential, &[], &[]).await.map(drop)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_tells_which_users_are_known_at_the_source(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let (_deployment, _server, shared) = service(deployment_kind).await;
    for n in 0..FAILURES {
        assert_eq!(shared.guess(&format!("user{n}")).await, "INVALID_CREDENTIALS", "{n}");
    }
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..8 {
        for (name, times) in ["ada", "ben", "nobody"].into_iter().zip(&mut times) {
            let began = Instant::now();
            let status = wrong_password(&shared, name).await.unwrap_err();
            times.push(began.elapsed());
            assert_eq!(
                reason(&status),
                (Code::ResourceExhausted, "THROTTLED".to_owned()),
                "{name}"
            );
            assert_eq!(status.message(), "too many attempts; try again later");
            assert!(retry_info(&status), "{status:?}");
        }
    }
    for (name, times) in ["known", "unknown here", "unknown"].into_iter().zip(&mut times) {
        times.sort_unstable();
        println!(
            "{deployment_kind:?} {name}: fastest {:?}, median {:?}",
            times[0], times[4]
        );
        assert!(times[0] >= Duration::from_millis(240), "{name}: answered at once");
    }
    // The right password of the known user still counts, until the limit of that user at this source.
    shared.login("", "ada", &[], &[]).await.expect("the right password");
}
