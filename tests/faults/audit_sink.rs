//! Audit events go to the log and to the database table: the log is blocked, or the table refuses rows.
//!
//! Log lines that the log cannot take are dropped and counted, and no call waits for them. A change whose audit row
//! cannot be written is not made.

use std::process::Stdio;
use std::time::Duration;

use countersign::proto::revoke_request::Target;
use countersign::proto::{InactiveReason, UpdateUserRequest, User};
use rstest::rstest;
use tokio::time::Instant;
use tonic::Code;

use crate::support::guard::{self, Ending};
use crate::support::{Admin, Caller, Deployment, DeploymentKind, PASSWORD, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_log_delays_no_call() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded)
        .await
        .set("telemetry.log_filter", "debug");
    deployment.add_user("ada", &[]);
    let (unread, sink) = std::io::pipe().unwrap();
    let folder = guard::scratch("unread");
    let ready = folder.join("ready.json");
    let sink_of = || Stdio::from(sink.try_clone().unwrap());
    let mut server = deployment
        .storage
        .command()
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--http-listen",
            "127.0.0.1:0",
            "--ready-file",
        ])
        .arg(&ready)
        .stdin(Stdio::null())
        .stdout(sink_of())
        .stderr(sink_of())
        .spawn()
        .unwrap();
    guard::watch(server.id(), Ending::Kill);
    let ready_file = eventually("the server answers", Duration::from_secs(30), || async {
        serde_json::from_slice::<serde_json::Value>(&std::fs::read(&ready).ok()?).ok()
    })
    .await;
    let caller = Caller::at(&format!("http://{}", ready_file["grpc"].as_str().unwrap()));

    // A pipe holds 64 KiB; the lines about the frames of these failed logins are many times that.
    for _ in 0..1500 {
        caller.issue("ada", "wrong").await.unwrap_err();
    }
    let mut waits = Vec::new();
    for _ in 0..20 {
        let session = caller.login("ada").await;
        let start = Instant::now();
        assert_eq!(caller.revoke(Target::Token(session.refresh_token)).await.unwrap(), 1);
        waits.push(start.elapsed());
        assert_eq!(
            caller.inactive_reason(&session.access_token).await,
            Some(InactiveReason::Revoked)
        );
    }
    waits.sort_unstable();
    println!("20 revocations took {waits:?}");
    assert!(waits[10] < Duration::from_secs(2));
    let admin = Admin::over(
        tonic::transport::Endpoint::from_shared(format!("http://{}", ready_file["grpc"].as_str().unwrap()))
            .unwrap()
            .connect_lazy(),
    );
    assert_eq!(
        admin.events("session.revoked").await.len(),
        20,
        "the table has every event"
    );
    let _ = (server.kill(), server.wait());
    guard::forget(&[server.id()]);
    drop((unread, sink));
}

#[rstest]
#[tokio::test]
async fn a_change_without_its_audit_row_is_rolled_back(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    let ada = deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let (admin, caller) = (Admin::of(&server), Caller::of(&server));
    let session = caller.login("ada").await;
    // The table takes no more rows, as if its disk were full.
    execute(
        &deployment,
        "ALTER TABLE audit_events ADD CONSTRAINT full_disk CHECK (false) NOT VALID",
        "CREATE TRIGGER full_disk BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'disk full'); END",
    )
    .await;
    let rename = || UpdateUserRequest {
        user: Some(User {
            user_id: ada.clone(),
            display_name: "Augusta".into(),
            ..User::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["display_name".into()],
        }),
    };
    admin.users.clone().update_user(rename()).await.unwrap_err();
    admin.user("new").await.unwrap_err();
    caller.revoke(Target::UserId(ada.clone())).await.unwrap_err();
    caller
        .revoke(Target::Token(session.refresh_token.clone()))
        .await
        .unwrap_err();
    // A login without an audit row fails. A wrong password is still refused as such.
    caller.issue("ada", PASSWORD).await.unwrap_err();
    let refused = caller.issue("ada", "wrong").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    caller.assert_active(&session.access_token).await;

    execute(
        &deployment,
        "ALTER TABLE audit_events DROP CONSTRAINT full_disk",
        "DROP TRIGGER full_disk",
    )
    .await;
    let found = admin
        .users
        .clone()
        .update_user(rename())
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    assert_eq!(found.display_name, "Augusta");
    caller
        .refresh(&session.refresh_token)
        .await
        .expect("no change was made");
    assert_eq!(
        caller.revoke(Target::UserId(ada)).await.unwrap(),
        1,
        "one session exists, not two"
    );
}

async fn execute(deployment: &Deployment, postgres: &str, sqlite: &str) {
    if let Some(database) = &deployment.database {
        database.execute(postgres).await;
        return;
    }
    let folder = std::fs::read_dir(deployment.storage.data()).unwrap();
    let file = folder
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "db"))
        .unwrap();
    let connection = rusqlite::Connection::open(file).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection.execute_batch(sqlite).unwrap();
}
