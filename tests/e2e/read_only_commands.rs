//! What must not change because somebody looks, and who is let in with a token that is no good any more.

use countersign::proto::issue_request::Credential;
use countersign::proto::token_service_client::TokenServiceClient;
use countersign::proto::user_service_client::UserServiceClient;
use countersign::proto::{
    ClientSecretCredential, CompletePasswordResetRequest, GetKeysRequest, IssueRequest, PasswordCredential,
    ValidateRequest,
};
use rstest::rstest;
use tonic::{Code, Request};

use crate::support::{Caller, Deployment, PASSWORD, Shape, assert_refused};

/// A command that only reads is no replica: another configuration in the operator's shell must rotate nothing.
#[rstest]
#[tokio::test]
async fn looking_at_the_store_changes_no_key(#[values(Shape::Embedded, Shape::Clustered)] shape: Shape) {
    let deployment = Deployment::fresh(shape).await;
    let serving = deployment.storage.clone().set("tokens.algorithm", "ES256");
    let server = serving.serve(&[]);
    let keys = || deployment.storage.run(&["key", "list"]).json();
    let before = keys();
    assert_eq!(before["keys"][0]["algorithm"], "ES256", "{before}");
    for look in [
        &["user", "list"][..],
        &["client", "list"],
        &["key", "list"],
        &["audit", "query"],
    ] {
        deployment.storage.run(look).succeed();
    }
    deployment.add_user("ada", &[]);
    assert_eq!(keys(), before, "no standby of another algorithm, no rotation");
    Caller::of(&server).login("ada").await;
}

fn bearing<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

/// An interceptor puts the token that it has on every call, also the one that fetches the next.
#[tokio::test]
async fn a_token_that_is_no_good_keeps_nobody_from_what_needs_none() {
    let deployment = Deployment::fresh(Shape::Embedded).await;
    deployment.add_user("ada", &[]);
    let added = deployment
        .storage
        .run(&["client", "add", "robot", "--grant", "client_secret"])
        .json();
    let secret = added["client_secret"].as_str().unwrap().to_owned();
    let server = deployment.serve();
    let mut tokens = TokenServiceClient::connect(server.grpc_url()).await.unwrap();
    let mut users = UserServiceClient::connect(server.grpc_url()).await.unwrap();

    let not_for_us = Caller::of(&server).login("ada").await.access_token;
    for bad in ["garbage", not_for_us.as_str()] {
        tokens.get_keys(bearing(GetKeysRequest {}, bad)).await.unwrap();
        let by_secret = IssueRequest {
            client_id: "robot".into(),
            credential: Some(Credential::ClientSecret(ClientSecretCredential {
                secret: secret.clone(),
            })),
            ..IssueRequest::default()
        };
        tokens.issue(bearing(by_secret, bad)).await.unwrap();
        let reset = CompletePasswordResetRequest {
            reset_token: "csp_unknown".into(),
            new_password: PASSWORD.into(),
        };
        assert_refused(
            users.complete_password_reset(bearing(reset, bad)).await,
            Code::Unauthenticated,
            "RESET_TOKEN_INVALID",
        );
    }

    // Where the caller counts, it counts that they did not prove who they are, whatever nobody may do.
    let by_password = IssueRequest {
        credential: Some(Credential::Password(PasswordCredential {
            username: "ada".into(),
            password: PASSWORD.into(),
        })),
        ..IssueRequest::default()
    };
    assert_refused(
        tokens.issue(bearing(by_password, "garbage")).await,
        Code::Unauthenticated,
        "CALLER_UNAUTHENTICATED",
    );
    let validate = ValidateRequest {
        access_token: not_for_us,
        ..ValidateRequest::default()
    };
    assert_refused(
        tokens.validate(bearing(validate, "garbage")).await,
        Code::Unauthenticated,
        "CALLER_UNAUTHENTICATED",
    );
}
