//! Who may call.

use countersign::proto;
use countersign::proto::user_service_client::UserServiceClient;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::server::{Server, Setup, borne, reason};

#[tokio::test]
async fn scopes_decide_and_the_known_are_told_from_the_unknown() {
    let server = Server::start(Setup::default()).await;
    let mut token = server.client().await;
    let mut user = UserServiceClient::new(server.channel().await);

    assert!(token.validate(proto::ValidateRequest::default()).await.is_ok());
    let known = borne(proto::ValidateRequest::default(), "validator");
    assert!(token.validate(known).await.is_ok());
    let lacking = borne(proto::ValidateRequest::default(), "user-manager");
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
    // Past the frame: the service of these tests has no users.
    let manager = borne(proto::ListUsersRequest::default(), "user-manager");
    assert_eq!(user.list_users(manager).await.unwrap_err().code(), Code::Unimplemented);
    // A person may ask for what may be their own, and nothing else.
    let own = borne(proto::ListSessionsRequest::default(), "ada");
    assert_eq!(user.list_sessions(own).await.unwrap_err().code(), Code::Unimplemented);
    let all = borne(proto::ListUsersRequest::default(), "ada");
    assert_eq!(user.list_users(all).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_bad_bearer_is_refused_unless_nobody_is_asked_who_they_are() {
    let server = Server::start(Setup::default()).await;
    let mut token = server.client().await;
    let mut health = HealthClient::new(server.channel().await);
    assert!(token.get_keys(proto::GetKeysRequest {}).await.is_ok());
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());

    token.get_keys(borne(proto::GetKeysRequest {}, "forged")).await.unwrap();
    health
        .check(borne(HealthCheckRequest::default(), "forged"))
        .await
        .unwrap();

    let bad = token
        .validate(borne(proto::ValidateRequest::default(), "forged"))
        .await
        .unwrap_err();
    assert_eq!(
        (bad.code(), &*reason(&bad)),
        (Code::Unauthenticated, "CALLER_UNAUTHENTICATED")
    );

    let mut two = borne(proto::ValidateRequest::default(), "validator");
    two.metadata_mut()
        .append("authorization", "Bearer validator".parse().unwrap());
    assert_eq!(token.validate(two).await.unwrap_err().code(), Code::Unauthenticated);

    let mut basic = tonic::Request::new(proto::ValidateRequest::default());
    basic
        .metadata_mut()
        .insert("authorization", "Basic YTpi".parse().unwrap());
    assert_eq!(token.validate(basic).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(server.seen.begun(), 0);
}

#[tokio::test]
async fn a_caller_whom_no_store_can_name_is_an_outage_not_a_stranger() {
    let server = Server::start(Setup::default()).await;
    let slow = borne(proto::ValidateRequest::default(), "slow");
    let error = server.client().await.validate(slow).await.unwrap_err();
    assert_eq!(
        (error.code(), &*reason(&error)),
        (Code::Unavailable, "STORE_UNAVAILABLE")
    );
}

#[tokio::test]
async fn the_service_learns_who_calls_and_never_sees_the_token() {
    let server = Server::start(Setup::default()).await;
    let mut request = borne(proto::IssueRequest::default(), "validator");
    request
        .metadata_mut()
        .insert("x-request-id", "my-call".parse().unwrap());
    let answer = server.client().await.issue(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "my-call");
    let told = answer.into_inner().tokens.unwrap();
    assert_eq!(
        (told.session_id.as_str(), told.token_type.as_str()),
        ("my-call", "127.0.0.1")
    );
    assert!(!told.access_token.contains("validator"), "{}", told.access_token);
}
