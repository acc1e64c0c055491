//! The table of all methods: which callers each lets through, and a request for it.

use countersign::proto;
use countersign::proto::issue_request::Credential;
use countersign::proto::revoke_request::Target;
use prost::Message as _;

use crate::support::PASSWORD;

/// Which callers a method lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Every caller.
    Anyone,
    /// Clients with this scope.
    Scope(&'static str),
    /// Clients with this scope, and users about themselves.
    ScopeOrOwn(&'static str),
    /// The same; a user who asks about another user gets the answer of a user that does not exist.
    ScopeOrOwnElseNotFound(&'static str),
}

/// A method, and a request that is the same for every caller except for the user it is about.
pub(super) struct Row {
    pub(super) path: &'static str,
    pub(super) access: Access,
    /// The request about the user with this id, who has these tokens.
    pub(super) request: fn(&str, &proto::Tokens) -> Vec<u8>,
}

macro_rules! rows {
    ($($path:expr, $access:expr, |$user:ident, $tokens:ident| $message:expr;)*) => {
        vec![$(Row {
            path: $path,
            access: $access,
            request: |$user: &str, $tokens: &proto::Tokens| {
                $message.encode_to_vec()
            },
        }),*]
    };
}

fn revoke(target: Target) -> proto::RevokeRequest {
    proto::RevokeRequest {
        target: Some(target),
        ..Default::default()
    }
}

pub(super) fn issue(credential: Credential) -> proto::IssueRequest {
    proto::IssueRequest {
        credential: Some(credential),
        ..Default::default()
    }
}

fn named(user_id: &str) -> proto::User {
    proto::User {
        user_id: user_id.to_owned(),
        ..Default::default()
    }
}

fn mask(path: &str) -> prost_types::FieldMask {
    prost_types::FieldMask {
        paths: vec![path.to_owned()],
    }
}

pub(super) fn rows() -> Vec<Row> {
    use Access::{Anyone, Scope, ScopeOrOwn, ScopeOrOwnElseNotFound};
    let users = Scope("countersign:users");
    let clients = Scope("countersign:clients");
    let keys = Scope("countersign:keys");
    rows! {
        "/countersign.v1.TokenService/Issue", Scope("countersign:issue"), |_user, _tokens| issue(Credential::Password(
            proto::PasswordCredential { username: "ada".into(), password: PASSWORD.into() }));
        "/countersign.v1.TokenService/Issue", Anyone, |_user, _tokens| issue(Credential::ClientSecret(
            proto::ClientSecretCredential { secret: "wrong".into() }));
        "/countersign.v1.TokenService/Issue", Anyone, |_user, tokens| issue(Credential::Exchange(
            proto::ExchangeCredential { subject_token: tokens.access_token.clone(), actor_token: "wrong".into() }));
        "/countersign.v1.TokenService/Refresh", Scope("countersign:refresh"), |_user, _tokens| proto::RefreshRequest {
            refresh_token: "csr_wrong".into(), ..Default::default() };
        "/countersign.v1.TokenService/Validate", Scope("countersign:validate"), |_user, tokens| proto::ValidateRequest {
            access_token: tokens.access_token.clone(), ..Default::default() };
        "/countersign.v1.TokenService/ValidateBatch", Scope("countersign:validate"), |_user, tokens|
            proto::ValidateBatchRequest { requests: vec![proto::ValidateRequest {
                access_token: tokens.access_token.clone(), ..Default::default() }] };
        "/countersign.v1.TokenService/WatchRevocations", Scope("countersign:watch"), |_user, _tokens|
            proto::WatchRevocationsRequest::default();
        "/countersign.v1.TokenService/GetKeys", Anyone, |_user, _tokens| proto::GetKeysRequest {};

        "/countersign.v1.UserService/CreateUser", users, |_user, _tokens| proto::CreateUserRequest {
            user: Some(proto::User::default()), password: String::new() };
        "/countersign.v1.UserService/GetUser", ScopeOrOwn("countersign:users"), |user, _tokens| proto::GetUserRequest {
            key: Some(proto::get_user_request::Key::UserId(user.into())) };
        "/countersign.v1.UserService/ListUsers", users, |_user, _tokens| proto::ListUsersRequest::default();
        "/countersign.v1.UserService/UpdateUser", users, |user, _tokens| proto::UpdateUserRequest {
            user: Some(named(user)), update_mask: Some(mask("display_name")) };
        "/countersign.v1.UserService/DisableUser", users, |user, _tokens| proto::DisableUserRequest { user_id: user.into() };
        "/countersign.v1.UserService/EnableUser", users, |user, _tokens| proto::EnableUserRequest { user_id: user.into() };
        "/countersign.v1.UserService/DeleteUser", users, |user, _tokens| proto::DeleteUserRequest { user_id: user.into() };
        "/countersign.v1.UserService/ChangePassword", ScopeOrOwn("countersign:users"), |user, _tokens|
            proto::ChangePasswordRequest { user_id: user.into(), old_password: "not the password".into(),
                new_password: "another sentence of words".into(), ..Default::default() };
        "/countersign.v1.UserService/SetPassword", users, |user, _tokens| proto::SetPasswordRequest {
            user_id: user.into(), new_password: "another sentence of words".into() };
        "/countersign.v1.UserService/BeginPasswordReset", users, |user, _tokens| proto::BeginPasswordResetRequest {
            user_id: user.into() };
        "/countersign.v1.UserService/CompletePasswordReset", Anyone, |_user, _tokens|
            proto::CompletePasswordResetRequest { reset_token: "csp_wrong".into(), new_password: PASSWORD.into() };
        "/countersign.v1.UserService/ListSessions", ScopeOrOwn("countersign:users"), |user, _tokens| proto::ListSessionsRequest {
            user_id: user.into() };
        "/countersign.v1.UserService/ImportUsers", users, |_user, _tokens| proto::ImportUsersRequest::default();

        "/countersign.v1.ClientService/CreateClient", clients, |_user, _tokens| proto::CreateClientRequest {
            client: Some(proto::Client::default()) };
        "/countersign.v1.ClientService/GetClient", clients, |_user, _tokens| proto::GetClientRequest {
            client_id: "no-such-client".into() };
        "/countersign.v1.ClientService/ListClients", clients, |_user, _tokens| proto::ListClientsRequest::default();
        "/countersign.v1.ClientService/UpdateClient", clients, |_user, _tokens| proto::UpdateClientRequest {
            client: Some(proto::Client { client_id: "no-such-client".into(), ..Default::default() }),
            update_mask: Some(mask("disabled")) };
        "/countersign.v1.ClientService/DeleteClient", clients, |_user, _tokens| proto::DeleteClientRequest {
            client_id: "no-such-client".into() };
        "/countersign.v1.ClientService/RotateClientSecret", clients, |_user, _tokens| proto::RotateClientSecretRequest {
            client_id: "no-such-client".into(), ..Default::default() };

        "/countersign.v1.KeyService/ListKeys", keys, |_user, _tokens| proto::ListKeysRequest::default();
        "/countersign.v1.KeyService/RotateKey", keys, |_user, _tokens| proto::RotateKeyRequest::default();
        "/countersign.v1.KeyService/RevokeKey", keys, |_user, _tokens| proto::RevokeKeyRequest {
            key_id: "A".repeat(43), ..Default::default() };
        "/countersign.v1.AuditService/ListAuditEvents", Scope("countersign:audit"), |_user, _tokens|
            proto::ListAuditEventsRequest::default();

        "/envoy.service.auth.v3.Authorization/Check", Scope("countersign:validate"), |_user, _tokens|
            proto::envoy::service::auth::v3::CheckRequest::default();
        "/grpc.health.v1.Health/Check", Anyone, |_user, _tokens| tonic_health::pb::HealthCheckRequest::default();
        "/grpc.health.v1.Health/Watch", Anyone, |_user, _tokens| tonic_health::pb::HealthCheckRequest::default();
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Anyone, |_user, _tokens|
            tonic_reflection::pb::v1::ServerReflectionRequest { host: String::new(), message_request: Some(
                tonic_reflection::pb::v1::server_reflection_request::MessageRequest::ListServices(String::new())) };
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Anyone, |_user, _tokens|
            tonic_reflection::pb::v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(
                tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest::ListServices(String::new())) };

        // Last, because they revoke sessions.
        "/countersign.v1.TokenService/Revoke", Scope("countersign:revoke"), |_user, _tokens|
            revoke(Target::ClientId("no-such-client".into()));
        "/countersign.v1.TokenService/Revoke", ScopeOrOwnElseNotFound("countersign:revoke"), |_user, tokens|
            revoke(Target::SessionId(tokens.session_id.clone()));
        "/countersign.v1.TokenService/Revoke", ScopeOrOwnElseNotFound("countersign:revoke"), |_user, tokens|
            revoke(Target::Token(tokens.refresh_token.clone()));
        "/countersign.v1.TokenService/Revoke", ScopeOrOwn("countersign:revoke"), |user, _tokens|
            revoke(Target::UserId(user.into()));
        "/countersign.v1.TokenService/Revoke", Scope("countersign:keys"), |_user, _tokens| revoke(Target::Everything(true));
    }
}
