//! A flood of registrations, and of wrong password reset tokens. Both are limited by source and in all, before hashing.

use countersign::proto::{BeginPasswordResetRequest, CompletePasswordResetRequest, CreateUserRequest, Grant, User};
use rstest::rstest;
use tonic::{Code, Status};

use super::stuffing::retry_info;
use crate::support::raw::with_bearer;
use crate::support::web::metric;
use crate::support::{Admin, Deployment, DeploymentKind, PASSWORD, assert_refused};

/// The token of a client with the scope `countersign:users`.
async fn manager(deployment: &Deployment, admin: &Admin) -> String {
    let words = [
        "client",
        "add",
        "manager",
        "--grant",
        "client_secret",
        "--scope",
        "countersign:users",
    ];
    let made = deployment.storage.run(&words).json();
    let secret = made["clientSecret"].as_str().expect("a secret");
    let issued = admin
        .issue_with_secret("manager", secret, &["countersign:users"], &[])
        .await;
    issued.unwrap().access_token
}

/// Creates a user, without a token if it is empty.
async fn register(from: &Admin, name: &str, token: &str) -> Result<(), Status> {
    let request = CreateUserRequest {
        user: Some(User {
            username: name.to_owned(),
            ..User::default()
        }),
        password: PASSWORD.to_owned(),
    };
    from.users
        .clone()
        .create_user(with_bearer(request, token))
        .await
        .map(drop)
}

#[rstest]
#[tokio::test]
async fn a_flood_of_registrations_is_limited_by_source_and_in_all(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind)
        .await
        .set("throttle.enabled", "true")
        .set("throttle.registration", "5/24h")
        .set("throttle.registration_global", "12/24h")
        .set("server.anonymous_scopes", "countersign:issue")
        .set("users.registration", "open");
    let server = deployment.serve();
    let admin = Admin::of(&server);
    let flooder = Admin::from_address(&server, "127.0.9.1");
    for n in 0..5 {
        register(&flooder, &format!("flood{n}"), "").await.unwrap();
    }
    let hashes = metric(&server, "countersign_password_hash_seconds_count");
    for n in 5..100 {
        let refused = register(&flooder, &format!("flood{n}"), "").await;
        assert!(retry_info(refused.as_ref().unwrap_err()));
        assert_refused(refused, Code::ResourceExhausted, "THROTTLED");
    }
    let more = metric(&server, "countersign_password_hash_seconds_count") - hashes;
    assert!(more < 1.0, "{more} hashes for refused registrations");
    register(&Admin::from_address(&server, "127.0.9.2"), "ada", "")
        .await
        .expect("other sources have their own budget");
    let mut made = 6;
    for n in 3..60 {
        let from = Admin::from_address(&server, &format!("127.0.9.{n}"));
        made += usize::from(register(&from, &format!("spread{n}"), "").await.is_ok());
    }
    assert_eq!(made, 12, "all sources together");
    let token = manager(&deployment, &admin).await;
    for n in 0..10 {
        register(&flooder, &format!("managed{n}"), &token)
            .await
            .expect("a caller with countersign:users is not limited");
    }
}

#[rstest]
#[tokio::test]
async fn wrong_reset_tokens_are_limited_and_stop_no_right_one(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind)
        .await
        .set("throttle.enabled", "true")
        .set("throttle.source", "5/24h")
        .set("throttle.own_account", "4/24h");
    let ada = deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let admin = Admin::of(&server);
    let complete = async |reset_token: &str, new_password: &str| {
        let request = CompletePasswordResetRequest {
            reset_token: reset_token.to_owned(),
            new_password: new_password.to_owned(),
        };
        admin.users.clone().complete_password_reset(request).await
    };
    let mut users = admin.users.clone();
    let begin = users.begin_password_reset(BeginPasswordResetRequest { user_id: ada });
    let right = begin.await.unwrap().into_inner().reset_token;
    for n in 0..8 {
        let wrong = format!("{}{n}", &right[..right.len() - 1]);
        if wrong == right {
            continue;
        }
        match complete(&wrong, "another sentence of words").await.unwrap_err() {
            status if n < 4 => assert_refused::<()>(Err(status), Code::Unauthenticated, "RESET_TOKEN_INVALID"),
            status if n > 5 => assert_refused::<()>(Err(status), Code::ResourceExhausted, "THROTTLED"),
            _ => {}
        }
    }
    for _ in 0..3 {
        assert_refused(
            complete(&right, "short").await,
            Code::InvalidArgument,
            "PASSWORD_TOO_WEAK",
        );
    }
    complete(&right, "another sentence of words")
        .await
        .expect("the right token is not stopped by wrong ones from the same source");
    // The checks of new passwords for one user are limited.
    let secret = admin.client("x-y-z", &[Grant::ClientSecret], &["read"], &[]).await;
    admin
        .issue_with_secret("x-y-z", &secret, &[], &[])
        .await
        .expect("a right client secret passes as well");
}
