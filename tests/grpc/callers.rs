//! Authentication and authorization of callers.

use countersign::proto;
use countersign::proto::user_service_client::UserServiceClient;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::server::{Server, ServerSettings, reason, with_bearer};

#[tokio::test]
async fn scopes_decide_and_anonymous_callers_get_another_code() {
    let server = Server::start(ServerSettings::default()).await;
    let mut token = server.client().await;
    let mut user = UserServiceClient::new(server.channel().await);

    assert!(token.validate(proto::ValidateRequest::default()).await.is_ok());
    let known = with_bearer(proto::ValidateRequest::default(), "validator");
    assert!(token.validate(known).await.is_ok());
    let lacking = with_bearer(proto::ValidateRequest::default(), "user-manager");
    let error = token.validate(lacking).await.unwrap_err();
    assert_eq!(
        (error.code(), &*reason(&error)),
        (Code::PermissionDenied, "CALLER_NOT_ALLOWED")
    );

    let error = user.list_users(proto::ListUsersRequest::default()).await.unwrap_err();
    assert_eq!(
        (error.code(), &*reason(&error)),
        (Code::Unauthenticated, "CALLER_UNAUTHENTICATED")
    );
    // Authorized: the service of these tests has no user methods.
    let manager = with_bearer(proto::ListUsersRequest::default(), "user-manager");
    assert_eq!(user.list_users(manager).await.unwrap_err().code(), Code::Unimplemented);
    // A user may call methods about their own account, and no others.
    let own = with_bearer(proto::ListSessionsRequest::default(), "ada");
    assert_eq!(user.list_sessions(own).await.unwrap_err().code(), Code::Unimplemented);
    let all = with_bearer(proto::ListUsersRequest::default(), "ada");
    assert_eq!(user.list_users(all).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_invalid_bearer_is_refused_unless_the_method_needs_no_caller() {
    let server = Server::start(ServerSettings::default()).await;
    let mut token = server.client().await;
    let mut health = HealthClient::new(server.channel().await);
    assert!(token.get_keys(proto::GetKeysRequest {}).await.is_ok());
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());

    token
        .get_keys(with_bearer(proto::GetKeysRequest {}, "forged"))
        .await
        .unwrap();
    health
        .check(with_bearer(HealthCheckRequest::default(), "forged"))
        .await
        .unwrap();

    let bad = token
        .validate(with_bearer(proto::ValidateRequest::default(), "forged"))
        .await
        .unwrap_err();
    assert_eq!(
        (bad.code(), &*reason(&bad)),
        (Code::Unauthenticated, "CALLER_UNAUTHENTICATED")
    );

    let mut two = with_bearer(proto::ValidateRequest::default(), "validator");
    two.metadata_mut()
        .append("authorization", "Bearer validator".parse().unwrap());
    assert_eq!(token.validate(two).await.unwrap_err().code(), Code::Unauthenticated);

    let mut basic = tonic::Request::new(proto::ValidateRequest::default());
    basic
        .metadata_mut()
        .insert("authorization", "Basic YTpi".parse().unwrap());
    assert_eq!(token.validate(basic).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(server.observed.begun(), 0);
}

#[tokio::test]
async fn an_outage_during_authentication_is_unavailable_not_unauthenticated() {
    let server = Server::start(ServerSettings::default()).await;
    let slow = with_bearer(proto::ValidateRequest::default(), "slow");
    let error = server.client().await.validate(slow).await.unwrap_err();
    assert_eq!(
        (error.code(), &*reason(&error)),
        (Code::Unavailable, "STORE_UNAVAILABLE")
    );
}

#[tokio::test]
async fn the_service_gets_the_caller_but_not_the_token() {
    let server = Server::start(ServerSettings::default()).await;
    let mut request = with_bearer(proto::IssueRequest::default(), "validator");
    request
        .metadata_mut()
        .insert("x-request-id", "my-call".parse().unwrap());
    let answer = server.client().await.issue(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "my-call");
    let echoed = answer.into_inner().tokens.unwrap();
    assert_eq!(
        (echoed.session_id.as_str(), echoed.token_type.as_str()),
        ("my-call", "127.0.0.1")
    );
    assert!(!echoed.access_token.contains("validator"), "{}", echoed.access_token);
}
