//! Failed attempts from rotating addresses, at users and clients that do not exist: they cost the caller nothing, so
//! audit rows and log lines are limited, and the rows say how many attempts there were.
//!
//! Full size: `COUNTERSIGN_TEST_SOURCES=60000 cargo test --release --all-features --test faults failed_attempts --
//! --nocapture`.

use std::net::IpAddr;
use std::time::Duration;

use countersign::proto::issue_request::Credential;
use countersign::proto::{ClientSecretCredential, PasswordCredential};
use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Endpoint;

use crate::support::caller::reason;
use crate::support::secrets::assert_holds_none;
use crate::support::web::metric;
use crate::support::{Admin, Caller, Countersign, Deployment, DeploymentKind, Load, PASSWORD, poll, size};

/// The types of the rows.
const FAILED: [&str; 2] = ["token.issue.failed", "login.throttled"];

/// The limit of audit rows in a minute.
const ROWS: usize = 100;

/// Typed into the field of the user name by mistake. User names are stored in lower case.
const TYPED: &str = "Canary-Tr0ub4dor-6b1e";

/// Rounds of guesses from each address: fewer than the throttle of a source admits.
const ROUNDS: usize = 2;

/// Attackers that call at the same time.
const ATTACKERS: usize = 8;

/// A caller from attacker's address `n`: each is in a network of its own.
fn attacker(server: &Countersign, n: usize) -> Admin {
    let address: IpAddr = format!("127.{}.{}.7", 1 + n / 250 % 250, n % 250).parse().unwrap();
    let endpoint = Endpoint::from_shared(server.grpc_url()).unwrap();
    let endpoint = endpoint.local_address(Some(address)).timeout(Duration::from_secs(20));
    Admin::over(endpoint.connect_lazy())
}

/// Three guesses at a client's secret and one at a user's password; how many were refused as wrong.
async fn guess(from: &Admin) -> u32 {
    let secret = ClientSecretCredential {
        secret: "wrong".to_owned(),
    };
    let password = PasswordCredential {
        username: TYPED.to_owned(),
        password: "wrong".to_owned(),
    };
    let secrets = [(); 3].map(|()| ("no-such-client", Credential::ClientSecret(secret.clone())));
    let guesses = secrets.into_iter().chain([("", Credential::Password(password))]);
    let mut wrong = 0;
    for (client, credential) in guesses {
        let refused = from.issue(client, credential, &[], &[]).await.unwrap_err();
        let why = reason(&refused).1;
        assert_ne!(why, "THROTTLED");
        wrong += u32::from(why == "INVALID_CREDENTIALS");
    }
    wrong
}

/// All audit events of this type, read by the command line.
fn events(deployment: &Deployment, kind: &str) -> Vec<Value> {
    let query = ["audit", "query", "--type", kind, "--limit", "1000000"];
    let listed = deployment.storage.run(&query).json();
    listed["events"].as_array().cloned().unwrap_or_default()
}

/// How many attempts the events stand for.
fn attempts(events: &[Value]) -> u32 {
    let number = |event: &Value| event["details"]["count"].as_f64().unwrap_or(1.0);
    let sum: f64 = events.iter().map(number).sum();
    format!("{sum:.0}").parse().unwrap()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn failures_from_rotating_addresses_fill_neither_the_database_nor_the_log(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind)
        .await
        .set("throttle.enabled", "true")
        .set("telemetry.audit_failures_per_minute", &ROWS.to_string());
    deployment.add_user("ada", &[]);
    let mut server = deployment.serve();
    let good = Caller::of(&server);
    let token = good.login("ada").await.access_token;
    let log_before = server.log().len();

    let (validating, logging_in) = (good.clone(), good);
    let validations = Load::start(40, move |_| {
        let (caller, token) = (validating.clone(), token.clone());
        async move { caller.validate(&token).await }
    });
    let logins = Load::start(2, move |_| {
        let caller = logging_in.clone();
        async move { caller.issue("ada", PASSWORD).await }
    });
    let sources = size("COUNTERSIGN_TEST_SOURCES", 250);
    let start = Instant::now();
    let mut attackers = JoinSet::new();
    for turn in 0..ATTACKERS {
        let callers: Vec<Admin> = (turn..sources)
            .step_by(ATTACKERS)
            .map(|n| attacker(&server, n))
            .collect();
        attackers.spawn(async move {
            let mut wrong = 0;
            for caller in callers {
                for _ in 0..ROUNDS {
                    wrong += guess(&caller).await;
                }
            }
            wrong
        });
    }
    let made: u32 = attackers.join_all().await.into_iter().sum();
    let took = start.elapsed();
    let (validations, logins) = (validations.stop().await, logins.stop().await);
    let counted = metric(&server, "countersign_audit_failures_total");

    // The last rows are written at the shutdown.
    server.signal(Signal::SIGTERM);
    let status = poll(Duration::from_secs(30), || server.exited());
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    let log = server.log();
    let lines_of = |kinds: &[&str]| {
        log.lines()
            .filter(|line| kinds.iter().any(|kind| line.contains(kind)))
            .count()
    };
    let (lines, successes) = (lines_of(&FAILED), lines_of(&["token.issued"]));
    // The name is locked after a hundred guesses: the rest are of another type.
    let rows = FAILED.map(|kind| events(&deployment, kind)).concat();
    println!(
        "{deployment_kind:?}: {made} failures in {took:?}: {} audit rows, {lines} log lines beside {successes} of good \
         logins, log {} KiB; Validate: {validations}; logins: {logins}",
        rows.len(),
        (log.len() - log_before) / 1024,
    );
    assert!((f64::from(attempts(&rows)) - counted).abs() < 0.5, "the counts add up");
    // On a slow machine an answer may be lost after the attempt was recorded.
    assert!(attempts(&rows) >= made && made > 0, "{} of {made}", attempts(&rows));
    // One row for each type and grant says how many failures are beyond the limit of rows.
    let intervals = 2 + usize::try_from(took.as_secs() / 60).unwrap();
    assert!(rows.len() <= intervals * (ROWS + 3), "{} rows", rows.len());
    assert!(lines <= intervals * (ROWS + 3), "{lines} lines");
    validations.assert_only(&["Ok"]);
    // A slow disk may delay a login. The attack must neither refuse nor limit one.
    logins.assert_only(&["Ok", "Unavailable STORE_UNAVAILABLE", "DeadlineExceeded"]);

    // The mistyped name is nowhere. Equal names have equal pseudonyms.
    let secret = vec![("the typed password", TYPED.to_lowercase().into_bytes())];
    assert_holds_none("the log", log.to_lowercase().as_bytes(), &secret);
    let printed = serde_json::to_vec(&rows).unwrap();
    assert_holds_none("the trail", &printed.to_ascii_lowercase(), &secret);
    let of_one = rows
        .iter()
        .find(|row| row["details"]["grant"] == "password" && row["subject"] != "");
    let name = of_one.expect("a row of one name")["subject"].as_str().unwrap();
    assert!(name.starts_with("unknown:"), "{name}");
    let query = ["audit", "query", "--subject", name, "--limit", "1000"];
    let same = deployment.storage.run(&query).json();
    assert!(same["events"].as_array().unwrap().len() > 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn failures_at_an_account_have_rows_of_their_own_and_then_a_count(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    let ada = deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    for _ in 0..60 {
        caller.issue("ada", "a wrong guess").await.unwrap_err();
    }
    caller.issue("no-such-user", "a wrong guess").await.unwrap_err();
    assert!(server.stop().success(), "the last rows are written at the shutdown");
    let mut rows = events(&deployment, "token.issue.failed");
    rows.retain(|row| !row["subject"].as_str().unwrap().starts_with("unknown:"));
    assert_eq!(attempts(&rows), 60);
    assert!(rows.len() <= 33, "{} rows", rows.len());
    assert!(rows.iter().filter(|row| row["details"]["count"].is_null()).count() >= 10);
    // The subject is the id of the user, who may get another name. A query takes both.
    assert!(rows.iter().all(|row| row["subject"] == ada), "{rows:#?}");
    let about = |subject: &str| -> Vec<Value> {
        let query = [
            "audit",
            "query",
            "--type",
            "token.issue.failed",
            "--subject",
            subject,
            "--limit",
            "1000",
        ];
        let listed = deployment.storage.run(&query).json();
        listed["events"].as_array().cloned().unwrap_or_default()
    };
    for subject in ["ada", "ADA", &ada] {
        assert_eq!(attempts(&about(subject)), 60, "a query for {subject} finds all of them");
    }
    // A name that no user has is kept as a pseudonym, which a query for the name finds.
    assert_eq!(attempts(&about("no-such-user")), 1);
    assert!(about("nobody-tried-this").is_empty());
}
