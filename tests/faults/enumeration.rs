//! Row 31: whether a user exists, is disabled or locked is told neither by what a login answers nor by how long it takes.
//!
//! The bytes are compared here. The times are measured by the full run, which publishes them:
//! `COUNTERSIGN_TEST_TIMING=2000 cargo test --release --all-features --test faults -- enumeration --ignored --nocapture`.

use countersign::proto::issue_request::Credential;
use countersign::proto::{Grant, IssueRequest, PasswordCredential, SessionContext};
use tokio::time::{Duration, Instant};
use tonic::Status;

use crate::support::raw::shown;
use crate::support::{Admin, Deployment, PASSWORD, Shape, size};

const CLASSES: [&str; 4] = ["unknown", "disabled", "locked", "wrong"];

/// A caller that is believed when it says where a person is.
struct Front {
    admin: Admin,
    token: String,
}

impl Front {
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
            .issue(shown(request, &self.token))
            .await
            .map(drop)
    }

    /// The attempt number `n` of a class: each from elsewhere, but for the one that is locked for where it comes from.
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

/// A service where every class of failure can be had at once.
async fn front(deployment: &Deployment) -> (crate::support::Countersign, Front) {
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
        .machine("front", &secret, &["countersign:issue"], &[])
        .await
        .unwrap()
        .access_token;
    let front = Front { admin, token };
    front.login("held", PASSWORD, "192.0.2.1").await.expect("not held yet");
    for _ in 0..15 {
        front
            .login("held", "not the password at all", "192.0.2.1")
            .await
            .unwrap_err();
    }
    front
        .login("held", PASSWORD, "192.0.2.2")
        .await
        .expect("held there alone");
    (server, front)
}

async fn deployment(shape: Shape) -> Deployment {
    Deployment::fresh(shape)
        .await
        .set("throttle.enabled", "true")
        .set("throttle.account_source", "10/1h")
        .set("throttle.account", "1000000/1m")
        .set("throttle.source", "1000000/1m")
}

/// All that an answer says, but for what differs from call to call.
fn said(status: &Status) -> (i32, String, Vec<u8>, Vec<(String, String)>) {
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
async fn four_failures_are_one_answer() {
    for shape in [Shape::Embedded, Shape::Clustered] {
        let deployment = deployment(shape).await;
        let (_server, front) = front(&deployment).await;
        let first = said(&front.attempt("wrong", 0).await);
        for n in 1..6 {
            for class in CLASSES {
                assert_eq!(said(&front.attempt(class, n).await), first, "{class}");
            }
        }
    }
}

/// By the rank sum of Mann and Whitney (normal approximation): the probability of samples so different if they are of one
/// distribution.
fn same(one: &[Duration], other: &[Duration]) -> f64 {
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

/// How likely a normal variable is so far from its mean, in standard deviations (Abramowitz and Stegun 7.1.26).
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
async fn four_failures_take_equally_long() {
    let samples = size("COUNTERSIGN_TEST_TIMING", 2000);
    for shape in [Shape::Embedded, Shape::Clustered] {
        // The default cost: what is around a hash counts for less, as it does for those who attack.
        let deployment = deployment(shape)
            .await
            .set("password.memory_kib", "19456")
            .set("password.iterations", "2");
        let (_server, front) = front(&deployment).await;
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); CLASSES.len()];
        for n in 0..samples {
            for turn in 0..CLASSES.len() {
                // Another one goes first each time.
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
                "{shape:?} {class}: median {this:?}, {apart:+.2} % from wrong, p {:.3}",
                same(times_of, &times[3])
            );
            assert!(apart.abs() < 5.0, "{class}: {apart} %");
        }
    }
}
