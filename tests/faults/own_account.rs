//! A user calls Revoke, `ChangePassword` and `ListSessions` with their own token as fast as possible. The budget stops that
//! user; other users, services and the user's other sessions go on.

use countersign::proto::revoke_request::Target;
use countersign::proto::{ChangePasswordRequest, ListSessionsRequest, RevokeRequest, Tokens};
use rstest::rstest;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::stuffing::retry_info;
use crate::support::caller::reason;
use crate::support::raw::with_bearer;
use crate::support::{Admin, Caller, Deployment, DeploymentKind, PASSWORD, assert_refused, size};

/// The budget, with an interval that outlasts the test.
const BUDGET: usize = 20;

/// The calls of each session beyond the budget.
const RESERVE: usize = 3;

/// A user with the tokens of one session.
#[derive(Clone)]
struct Person {
    admin: Admin,
    id: String,
    tokens: Tokens,
}

impl Person {
    async fn revoke_others(&self) -> Result<(), Status> {
        let request = RevokeRequest {
            target: Some(Target::UserId(self.id.clone())),
            keep_session_id: self.tokens.session_id.clone(),
            ..RevokeRequest::default()
        };
        let mut calls = self.admin.tokens.clone();
        calls
            .revoke(with_bearer(request, &self.tokens.access_token))
            .await
            .map(drop)
    }

    async fn list(&self) -> Result<(), Status> {
        let request = ListSessionsRequest {
            user_id: self.id.clone(),
        };
        let mut calls = self.admin.users.clone();
        calls
            .list_sessions(with_bearer(request, &self.tokens.access_token))
            .await
            .map(drop)
    }

    async fn change_password(&self) -> Result<(), Status> {
        let request = ChangePasswordRequest {
            user_id: self.id.clone(),
            old_password: PASSWORD.to_owned(),
            new_password: PASSWORD.to_owned(),
            ..ChangePasswordRequest::default()
        };
        let mut calls = self.admin.users.clone();
        calls
            .change_password(with_bearer(request, &self.tokens.access_token))
            .await
            .map(drop)
    }

    /// Call number `n` of all three kinds in turn.
    async fn call(&self, n: usize) -> Result<(), Status> {
        match n % 3 {
            0 => self.revoke_others().await,
            1 => self.list().await,
            _ => self.change_password().await,
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_calls_without_end_is_stopped_and_others_are_not(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind)
        .await
        .set("throttle.enabled", "true")
        .set("throttle.own_account", &format!("{BUDGET}/24h"))
        .set("server.anonymous_scopes", "countersign:issue,countersign:refresh");
    let ids = ["ada", "ben"].map(|name| deployment.add_user(name, &[]));
    let words = [
        "client",
        "add",
        "service",
        "--grant",
        "client_secret",
        "--scope",
        "countersign:revoke",
    ];
    let made = deployment.storage.run(&words).json();
    let server = deployment.serve();
    let admin = Admin::of(&server);
    let person = async |name: &str, id: &str| Person {
        admin: Admin::of(&server),
        id: id.to_owned(),
        tokens: admin.login("", name, &[], &[]).await.unwrap(),
    };
    let (first, ada) = (person("ada", &ids[0]).await, person("ada", &ids[0]).await);

    // What the user does: as many calls as the connection takes.
    let mut flood = JoinSet::new();
    let began = Instant::now();
    let calls = size("COUNTERSIGN_TEST_OWN_ACCOUNT", 240);
    for lane in 0..8 {
        let ada = ada.clone();
        flood.spawn(async move {
            let mut passed = 0;
            for n in (lane..calls).step_by(8) {
                match ada.call(n).await {
                    Ok(()) => passed += 1,
                    // A change of the password to itself at the same time as another one fails.
                    Err(status) if reason(&status).0 != Code::ResourceExhausted => passed += 1,
                    Err(status) => assert!(retry_info(&status), "{status:?}"),
                }
            }
            passed
        });
    }
    // What another user sees meanwhile.
    let mut ben = person("ben", &ids[1]).await;
    let mut times = Vec::new();
    let mut passed = 0;
    while !flood.is_empty() {
        let start = Instant::now();
        let caller = Caller::of(&server);
        let (tokens, _) = caller
            .refresh(&ben.tokens.refresh_token)
            .await
            .expect("another user's refresh");
        ben.tokens = tokens;
        times.push(start.elapsed());
        while let Some(done) = flood.try_join_next() {
            passed += done.unwrap();
        }
    }
    let took = began.elapsed();
    for _ in 0..5 {
        ben.list().await.expect("the budget is per user");
    }
    times.sort_unstable();
    println!(
        "{deployment_kind:?}: {passed} of {calls} calls passed in {took:?}; {} refreshes of another user, all good, p99 {:?}",
        times.len(),
        times[times.len() * 99 / 100]
    );
    assert!(passed <= BUDGET + RESERVE, "{passed}");
    assert_refused(ada.revoke_others().await, Code::ResourceExhausted, "THROTTLED");

    // The user's other session was ended by the first call; a new one can still end the session of a thief.
    drop(first);
    let again = person("ada", &ids[0]).await;
    again.revoke_others().await.expect("each session has a reserve");
    // A service is not limited.
    let secret = made["clientSecret"].as_str().unwrap();
    let token = admin
        .issue_with_secret("service", secret, &["countersign:revoke"], &[])
        .await;
    let token = token.unwrap().access_token;
    for _ in 0..2 * BUDGET {
        let request = RevokeRequest {
            target: Some(Target::UserId(ids[0].clone())),
            ..RevokeRequest::default()
        };
        let revoked = admin.tokens.clone().revoke(with_bearer(request, &token)).await;
        revoked.expect("a service with countersign:revoke");
    }
}
