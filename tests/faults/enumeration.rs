//! Neither the answer of a failed login nor the time it takes tells whether the user exists, is disabled or is
//! locked.
//!
//! The normal run compares the bytes of the answers. The full run measures the times and prints them:
//! `COUNTERSIGN_TEST_TIMING=2000 cargo test --release --all-features --test faults -- enumeration --ignored
//! --nocapture`.

use countersign::proto::issue_request::Credential;
use countersign::proto::{Grant, IssueRequest, PasswordCredential, SessionContext};
use tokio::time::{Duration, Instant};
use tonic::Status;

use crate::support::raw::with_bearer;
use crate::support::{Admin, Caller, Deployment, DeploymentKind, PASSWORD, size};

const CLASSES: [&str; 4] = ["unknown", "disabled", "locked", "wrong"];

/// A caller whose statements about the user's IP address are trusted.
struct TrustedCaller {
    admin: Admin,
    token: String,
}

impl TrustedCaller {
    async fn login(&self, username: &str, password: &str, from: &str) -> Result<(), Status> {
        let request = IssueRequest {
            credential: Some(Credential::Password(PasswordCredential {
                username: username.to_owned(),
                password: password.to_owned(),
            })),
            context: Some(SessionContext {
                ip_address: from.to_owned(),
                ..SessionContext::default()
            }),
            ..IssueRequest::default()
        };
        self.admin
            .tokens
            .clone()
            .issue(with_bearer(request, &self.token))
            .await
            .map(drop)
    }

    /// Attempt number `n` of a class of failure. Each comes from another address, except for the user who is locked
    /// for one address.
    async fn attempt(&self, class: &str, n: usize) -> Status {
        let elsewhere = format!("10.{}.{}.{}", (n >> 16) & 255, (n >> 8) & 255, n & 255);
        let (name, password, from) = match class {
            "unknown" => ("nobody", PASSWORD, elsewhere.as_str()),
            "disabled" => ("gone", PASSWORD, elsewhere.as_str()),
            "locked" => ("held", PASSWORD, "192.0.2.1"),
            _ => ("ada", "not the password at all", elsewhere.as_str()),
        };
        self.login(name, password, from).await.expect_err(class)
    }
}

/// Starts a service where every class of failure can be produced, with a trusted caller.
async fn front(deployment: &Deployment) -> (crate::support::Countersign, TrustedCaller) {
    for name in ["ada", "gone", "held"] {
        deployment.add_user(name, &[]);
    }
    deployment.storage.run(&["user", "disable", "gone"]).succeed();
    let server = deployment.serve();
    let admin = Admin::of(&server);
    let secret = admin
        .client("front", &[Grant::ClientSecret], &["countersign:issue"], &[])
        .await;
    let token = admin
        .issue_with_secret("front", &secret, &["countersign:issue"], &[])
        .await
        .unwrap()
        .access_token;
    let front = TrustedCaller { admin, token };
    front
        .login("held", PASSWORD, "192.0.2.1")
        .await
        .expect("the user is not locked yet");
    for _ in 0..15 {
        front
            .login("held", "not the password at all", "192.0.2.1")
            .await
            .unwrap_err();
    }
    front
        .login("held", PASSWORD, "192.0.2.2")
        .await
        .expect("the user is locked for the other address only");
    (server, front)
}

async fn deployment(deployment_kind: DeploymentKind) -> Deployment {
    Deployment::fresh(deployment_kind)
        .await
        .set("throttle.enabled", "true")
        .set("throttle.account_source", "10/1h")
        .set("throttle.account", "1000000/1m")
        .set("throttle.source", "1000000/1m")
}

/// Everything in an error response except the parts that differ between any two calls.
fn comparable(status: &Status) -> (i32, String, Vec<u8>, Vec<(String, String)>) {
    let mut metadata: Vec<(String, String)> = status
        .metadata()
        .clone()
        .into_headers()
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "date" | "x-request-id"))
        .map(|(name, value)| (name.to_string(), format!("{value:?}")))
        .collect();
    metadata.sort();
    (
        status.code().into(),
        status.message().to_owned(),
        status.details().to_vec(),
        metadata,
    )
}

#[tokio::test]
async fn all_login_failures_give_the_same_answer() {
    for deployment_kind in [DeploymentKind::Embedded, DeploymentKind::Clustered] {
        let deployment = deployment(deployment_kind).await;
        let (_server, front) = front(&deployment).await;
        let first = comparable(&front.attempt("wrong", 0).await);
        for n in 1..6 {
            for class in CLASSES {
                assert_eq!(comparable(&front.attempt(class, n).await), first, "{class}");
            }
        }
    }
}

/// Hashes are made at a low cost, and then the operator raises the cost 32 times.
#[tokio::test(flavor = "multi_thread")]
async fn after_the_hash_cost_was_raised_known_and_unknown_users_take_equally_long() {
    let deployment = deployment(DeploymentKind::Embedded)
        .await
        .set("throttle.enabled", "false");
    deployment.add_user("ada", &[]);
    let raised = deployment
        .set("password.memory_kib", "16384")
        .set("password.iterations", "2");
    let server = raised.serve();
    let caller = Caller::of(&server);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..21 {
        for (name, times) in ["ada", "nobody"].into_iter().zip(&mut times) {
            let start = Instant::now();
            caller.issue(name, "not the password at all").await.unwrap_err();
            times.push(start.elapsed());
        }
    }
    let [known, unknown] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    println!("median of a known user {known:?}, of an unknown one {unknown:?}");
    let ratio = known.as_secs_f64() / unknown.as_secs_f64();
    assert!((0.5..2.0).contains(&ratio), "{ratio}");
    // The next login replaces the hash.
    caller.login("ada").await;
}

/// The p-value of the Mann-Whitney rank sum test (normal approximation): the probability of samples that differ this
/// much if both come from the same distribution.
fn mann_whitney_p(one: &[Duration], other: &[Duration]) -> f64 {
    let first = one.iter().map(|took| (*took, true));
    let mut all: Vec<(Duration, bool)> = first.chain(other.iter().map(|took| (*took, false))).collect();
    all.sort_unstable();
    let ranked = (1_u32..).zip(&all).filter(|(_, (_, first))| *first);
    let ranks: f64 = ranked.map(|(rank, _)| f64::from(rank)).sum();
    let [size, rest] = [one.len(), other.len()].map(|count| f64::from(u32::try_from(count).unwrap()));
    let (mean, variance) = (
        size * (size + rest + 1.0) / 2.0,
        size * rest * (size + rest + 1.0) / 12.0,
    );
    two_tails((ranks - mean).abs() / variance.sqrt())
}

/// The probability that a normal variable is at least `far` standard deviations from its mean (Abramowitz and Stegun
/// 7.1.26).
fn two_tails(far: f64) -> f64 {
    let scaled = far / std::f64::consts::SQRT_2;
    let step = 1.0 / (1.0 + 0.327_591_1 * scaled);
    let series = [
        1.061_405_429,
        -1.453_152_027,
        1.421_413_741,
        -0.284_496_736,
        0.254_829_592,
    ];
    series.iter().fold(0.0, |sum, term| (sum + term) * step) * (-scaled * scaled).exp()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures: minutes on a quiet machine; see the head of the file"]
async fn all_login_failures_take_equally_long() {
    let samples = size("COUNTERSIGN_TEST_TIMING", 2000);
    for deployment_kind in [DeploymentKind::Embedded, DeploymentKind::Clustered] {
        // The default hash cost: the rest of a login then weighs as little as it does for a real attacker.
        let deployment = deployment(deployment_kind)
            .await
            .set("password.memory_kib", "19456")
            .set("password.iterations", "2");
        let (_server, front) = front(&deployment).await;
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); CLASSES.len()];
        for n in 0..samples {
            for turn in 0..CLASSES.len() {
                // Each round begins with another class.
                let class = (n + turn) % CLASSES.len();
                let start = Instant::now();
                front.attempt(CLASSES[class], n + 16).await;
                times[class].push(start.elapsed());
            }
        }
        let median = |times: &[Duration]| {
            let mut sorted = times.to_vec();
            sorted.sort_unstable();
            sorted[sorted.len() / 2]
        };
        let wrong = median(&times[3]);
        for (class, times_of) in CLASSES.iter().zip(&times) {
            let this = median(times_of);
            let apart = (this.as_secs_f64() / wrong.as_secs_f64() - 1.0) * 100.0;
            println!(
                "{deployment_kind:?} {class}: median {this:?}, {apart:+.2} % from wrong, p {:.3}",
                mann_whitney_p(times_of, &times[3])
            );
            assert!(apart.abs() < 5.0, "{class}: {apart} %");
        }
    }
}
