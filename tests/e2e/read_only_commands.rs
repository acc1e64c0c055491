//! Commands that only read change nothing, and an invalid bearer token does not block calls that need none.

use countersign::proto::issue_request::Credential;
use countersign::proto::token_service_client::TokenServiceClient;
use countersign::proto::user_service_client::UserServiceClient;
use countersign::proto::{
    ClientSecretCredential, CompletePasswordResetRequest, GetKeysRequest, IssueRequest, PasswordCredential,
    ValidateRequest,
};
use rstest::rstest;
use tonic::{Code, Request};

use crate::support::{Caller, Deployment, DeploymentKind, PASSWORD, assert_refused};

/// A command that only reads is not a replica: a different configuration in the operator's shell must not rotate
/// keys.
#[rstest]
#[tokio::test]
async fn reading_commands_change_no_key(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    let serving = deployment.storage.clone().set("tokens.algorithm", "ES256");
    let server = serving.serve(&[]);
    let keys = || deployment.storage.run(&["key", "list"]).json();
    let before = keys();
    assert_eq!(before["keys"][0]["algorithm"], "ES256", "{before}");
    for command in [
        &["user", "list"][..],
        &["client", "list"],
        &["key", "list"],
        &["audit", "query"],
    ] {
        deployment.storage.run(command).succeed();
    }
    deployment.add_user("ada", &[]);
    assert_eq!(keys(), before, "no standby key of another algorithm, no rotation");
    Caller::of(&server).login("ada").await;
}

fn with_bearer<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

/// An interceptor sends its token with every call, including the call that gets the next token.
#[tokio::test]
async fn an_invalid_bearer_does_not_block_calls_that_need_no_caller() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    deployment.add_user("ada", &[]);
    let added = deployment
        .storage
        .run(&["client", "add", "robot", "--grant", "client_secret"])
        .json();
    let secret = added["clientSecret"].as_str().unwrap().to_owned();
    let server = deployment.serve();
    let mut tokens = TokenServiceClient::connect(server.grpc_url()).await.unwrap();
    let mut users = UserServiceClient::connect(server.grpc_url()).await.unwrap();

    let not_for_us = Caller::of(&server).login("ada").await.access_token;
    for bad in ["garbage", not_for_us.as_str()] {
        tokens.get_keys(with_bearer(GetKeysRequest {}, bad)).await.unwrap();
        let by_secret = IssueRequest {
            client_id: "robot".into(),
            credential: Some(Credential::ClientSecret(ClientSecretCredential {
                secret: secret.clone(),
            })),
            ..IssueRequest::default()
        };
        tokens.issue(with_bearer(by_secret, bad)).await.unwrap();
        let reset = CompletePasswordResetRequest {
            reset_token: "csp_unknown".into(),
            new_password: PASSWORD.into(),
        };
        assert_refused(
            users.complete_password_reset(with_bearer(reset, bad)).await,
            Code::Unauthenticated,
            "RESET_TOKEN_INVALID",
        );
    }

    // Where the caller matters, an invalid token is an error, whatever anonymous callers may do.
    let by_password = IssueRequest {
        credential: Some(Credential::Password(PasswordCredential {
            username: "ada".into(),
            password: PASSWORD.into(),
        })),
        ..IssueRequest::default()
    };
    assert_refused(
        tokens.issue(with_bearer(by_password, "garbage")).await,
        Code::Unauthenticated,
        "CALLER_UNAUTHENTICATED",
    );
    let validate = ValidateRequest {
        access_token: not_for_us,
        ..ValidateRequest::default()
    };
    assert_refused(
        tokens.validate(with_bearer(validate, "garbage")).await,
        Code::Unauthenticated,
        "CALLER_UNAUTHENTICATED",
    );
}
