//! A user logs in, and a machine asks for tokens, as often as they can with the right credential. The rows that this writes
//! are limited; other users and clients go on.

use rstest::rstest;
use tokio::task::JoinSet;
use tonic::Code;

use super::stuffing::retry_info;
use crate::support::caller::reason;
use crate::support::{Admin, Deployment, DeploymentKind};

/// The logins of one user, with an interval that outlasts the test.
const LOGINS: usize = 12;

/// The tokens that the machine asks for.
const TOKENS: u64 = 300;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_logs_in_without_end_is_stopped_and_others_are_not(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind)
        .await
        .set("throttle.enabled", "true")
        .set("throttle.login", &format!("{LOGINS}/24h"))
        .set("server.anonymous_scopes", "countersign:issue");
    for name in ["ada", "ben"] {
        deployment.add_user(name, &[]);
    }
    let server = deployment.serve();
    let mut flood = JoinSet::new();
    for _ in 0..4 {
        let admin = Admin::of(&server);
        flood.spawn(async move {
            let mut passed = 0;
            for _ in 0..2 * LOGINS {
                match admin.login("", "ada", &[], &[]).await {
                    Ok(_) => passed += 1,
                    Err(status) => {
                        assert_eq!(reason(&status), (Code::ResourceExhausted, "THROTTLED".to_owned()));
                        assert!(retry_info(&status), "{status:?}");
                    }
                }
            }
            passed
        });
    }
    let admin = Admin::of(&server);
    for _ in 0..5 {
        admin.login("", "ben", &[], &[]).await.expect("another user logs in");
    }
    let passed: usize = flood.join_all().await.into_iter().sum();
    assert_eq!(passed, LOGINS);
    assert!(server.stop().success());
    let rows = audit(&deployment, "token.issued");
    assert_eq!(rows.len(), LOGINS + 5);
    let refused: u64 = audit(&deployment, "login.throttled").iter().map(count).sum();
    assert_eq!(
        refused,
        4 * 2 * LOGINS as u64 - LOGINS as u64,
        "every refusal is counted"
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_tokens_of_a_machine_write_few_rows_and_are_all_counted(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    let words = ["client", "add", "service", "--grant", "client_secret"];
    let made = deployment.storage.run(&words).json();
    let secret = made["clientSecret"].as_str().expect("a secret");
    let server = deployment.serve();
    let admin = Admin::of(&server);
    for _ in 0..TOKENS {
        admin
            .issue_with_secret("service", secret, &[], &[])
            .await
            .expect("a token");
    }
    // A stop writes the counts that are due.
    assert!(server.stop().success());
    let rows = audit(&deployment, "token.issued");
    assert_eq!(rows.iter().map(count).sum::<u64>(), TOKENS);
    // Those of the first minute, and those of one more on a slow machine.
    assert!((61..=122).contains(&rows.len()), "{}", rows.len());
}

/// The audit events of a type, of a deployment that is not running.
fn audit(deployment: &Deployment, kind: &str) -> Vec<serde_json::Value> {
    let query = ["audit", "query", "--type", kind, "--limit", "1000"];
    let listed = deployment.storage.run(&query).json();
    listed["events"].as_array().cloned().unwrap_or_default()
}

fn count(event: &serde_json::Value) -> u64 {
    event["details"]["count"].as_u64().unwrap_or(1)
}
