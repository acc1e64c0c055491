//! Every method of every service, called by nobody, by a machine with another right, by one with the right, by a person
//! about their own account and by a person about somebody else's. What is not in this table is not served: a method that
//! is added without a row fails here.

use std::collections::BTreeSet;

use countersign::grpc::policy::METHODS;
use countersign::model::CallerScope;
use countersign::proto::issue_request::Credential;
use countersign::proto::revoke_request::Target;
use countersign::proto::{self, Grant};
use prost::Message as _;
use tonic::{Code, Status};

use crate::support::caller::reason;
use crate::support::{Admin, Caller, Countersign, Deployment, PASSWORD, Shape, raw};

/// Who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum May {
    /// Anybody.
    Anyone,
    /// Who holds this scope.
    Scope(&'static str),
    /// Who holds this scope, and a person about themselves.
    Own(&'static str),
    /// The same; a person who asks about somebody else gets the answer of something that does not exist.
    OwnElseNothing(&'static str),
}

/// A call: the same of everybody, but for whom it is about.
struct Row {
    path: &'static str,
    may: May,
    /// The request about a user with this id, of whom this is a token.
    request: fn(&str, &proto::Tokens) -> Vec<u8>,
}

const TOKEN: &str = "/countersign.v1.TokenService/";
/// Nobody's id.
const NOBODY: &str = "0190b6a8-1111-7000-8000-000000000000";

macro_rules! rows {
    ($($path:expr, $may:expr, |$user:ident, $tokens:ident| $message:expr;)*) => {
        vec![$(Row {
            path: $path,
            may: $may,
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

fn issue(credential: Credential) -> proto::IssueRequest {
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

fn rows() -> Vec<Row> {
    use May::{Anyone, Own, OwnElseNothing, Scope};
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
        "/countersign.v1.UserService/GetUser", Own("countersign:users"), |user, _tokens| proto::GetUserRequest {
            key: Some(proto::get_user_request::Key::UserId(user.into())) };
        "/countersign.v1.UserService/ListUsers", users, |_user, _tokens| proto::ListUsersRequest::default();
        "/countersign.v1.UserService/UpdateUser", users, |user, _tokens| proto::UpdateUserRequest {
            user: Some(named(user)), update_mask: Some(mask("display_name")) };
        "/countersign.v1.UserService/DisableUser", users, |user, _tokens| proto::DisableUserRequest { user_id: user.into() };
        "/countersign.v1.UserService/EnableUser", users, |user, _tokens| proto::EnableUserRequest { user_id: user.into() };
        "/countersign.v1.UserService/DeleteUser", users, |user, _tokens| proto::DeleteUserRequest { user_id: user.into() };
        "/countersign.v1.UserService/ChangePassword", Own("countersign:users"), |user, _tokens|
            proto::ChangePasswordRequest { user_id: user.into(), old_password: "not the password".into(),
                new_password: "another sentence of words".into(), ..Default::default() };
        "/countersign.v1.UserService/SetPassword", users, |user, _tokens| proto::SetPasswordRequest {
            user_id: user.into(), new_password: "another sentence of words".into() };
        "/countersign.v1.UserService/BeginPasswordReset", users, |user, _tokens| proto::BeginPasswordResetRequest {
            user_id: user.into() };
        "/countersign.v1.UserService/CompletePasswordReset", Anyone, |_user, _tokens|
            proto::CompletePasswordResetRequest { reset_token: "csp_wrong".into(), new_password: PASSWORD.into() };
        "/countersign.v1.UserService/ListSessions", Own("countersign:users"), |user, _tokens| proto::ListSessionsRequest {
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

        // Last, because they end sessions.
        "/countersign.v1.TokenService/Revoke", Scope("countersign:revoke"), |_user, _tokens|
            revoke(Target::ClientId("no-such-client".into()));
        "/countersign.v1.TokenService/Revoke", OwnElseNothing("countersign:revoke"), |_user, tokens|
            revoke(Target::SessionId(tokens.session_id.clone()));
        "/countersign.v1.TokenService/Revoke", OwnElseNothing("countersign:revoke"), |_user, tokens|
            revoke(Target::Token(tokens.refresh_token.clone()));
        "/countersign.v1.TokenService/Revoke", Own("countersign:revoke"), |user, _tokens|
            revoke(Target::UserId(user.into()));
        "/countersign.v1.TokenService/Revoke", Scope("countersign:keys"), |_user, _tokens| revoke(Target::Everything(true));
    }
}

/// Whether the caller was let through; what is asked for may still be refused for what it is.
fn passed(answer: &Result<Vec<u8>, Status>) -> bool {
    let Err(status) = answer else { return true };
    let (code, why) = reason(status);
    assert!(
        !matches!(
            code,
            Code::Unimplemented | Code::Unknown | Code::Internal | Code::Unavailable
        ),
        "{status:?}"
    );
    !matches!(why.as_str(), "CALLER_UNAUTHENTICATED" | "CALLER_NOT_ALLOWED")
}

fn assert_turned_away(path: &str, who: &str, answer: &Result<Vec<u8>, Status>, why: &str) {
    let status = answer.as_ref().expect_err(&format!("{path} by {who}"));
    let code = if why == "CALLER_UNAUTHENTICATED" {
        Code::Unauthenticated
    } else {
        Code::PermissionDenied
    };
    assert_eq!(reason(status), (code, why.to_owned()), "{path} by {who}: {status:?}");
}

/// Somebody who is logged in, and whose token may call Countersign about themselves.
struct Somebody {
    id: String,
    tokens: proto::Tokens,
}

async fn somebody(deployment: &Deployment, admin: &Admin, name: &str) -> Somebody {
    let id = deployment.add_user(name, &[]);
    let tokens = admin.login("front", name, &[], &[]).await.unwrap();
    Somebody { id, tokens }
}

/// A machine's token with just this right.
async fn machine(admin: &Admin, secret: &str, scope: &str) -> String {
    admin
        .machine("robot", secret, &[scope], &[])
        .await
        .unwrap()
        .access_token
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table, asked twice")]
async fn each_method_is_for_those_of_its_row_and_nobody_else() {
    let deployment = Deployment::fresh(Shape::Embedded)
        .await
        .set("server.anonymous_scopes", "countersign:issue");
    let scopes = CallerScope::ALL.map(CallerScope::as_str);
    let mut words = vec!["client", "add", "robot", "--grant", "client_secret"];
    for scope in scopes {
        words.extend(["--scope", scope]);
    }
    let robot = deployment.storage.run(&words).json();
    let secret = robot["client_secret"].as_str().unwrap().to_owned();
    deployment
        .storage
        .run(&["client", "add", "front", "--grant", "password", "--audience", "*"])
        .succeed();
    let (ada, ben, validating) = {
        let server = deployment.serve();
        let admin = Admin::of(&server);
        let (ada, ben) = (
            somebody(&deployment, &admin, "ada").await,
            somebody(&deployment, &admin, "ben").await,
        );
        let validating = machine(&admin, &secret, "countersign:validate").await;
        assert_eq!(server.stop().code(), Some(0));
        (ada, ben, validating)
    };
    // From now on nobody may do anything unless they show who they are.
    let deployment = deployment.set("server.anonymous_scopes", "");
    let server: Countersign = deployment.serve();
    let admin = Admin::of(&server);
    let good = Caller::of(&server);
    let alive = async |tokens: &proto::Tokens| {
        let request = proto::ValidateRequest {
            access_token: tokens.access_token.clone(),
            ..Default::default()
        };
        let answer = good
            .tokens
            .clone()
            .validate(raw::with_bearer(request, &validating))
            .await;
        answer.unwrap().into_inner().active
    };

    let rows = rows();
    for row in &rows {
        let Row { path, may, request } = row;
        let call = |request: Vec<u8>, token: String| raw_call(&admin, path, request, token);
        let about_ada = || request(&ada.id, &ada.tokens);
        if *may == May::Anyone {
            for (who, token) in [("nobody", ""), ("ben", &ben.tokens.access_token)] {
                let answer = call(about_ada(), token.to_owned()).await;
                assert!(passed(&answer), "{path} by {who}: {answer:?}");
            }
            continue;
        }
        let (May::Scope(scope) | May::Own(scope) | May::OwnElseNothing(scope)) = may else {
            unreachable!("the other kind went on above")
        };
        let nobody = call(about_ada(), String::new()).await;
        assert_turned_away(path, "nobody", &nobody, "CALLER_UNAUTHENTICATED");
        // Every other right together does not make up for the one.
        for wrong in scopes.iter().filter(|other| **other != *scope) {
            let token = machine(&admin, &secret, wrong).await;
            let answer = call(about_ada(), token).await;
            assert_turned_away(path, wrong, &answer, "CALLER_NOT_ALLOWED");
        }
        let other = call(about_ada(), ben.tokens.access_token.clone()).await;
        match may {
            May::OwnElseNothing(_) => {
                assert!(passed(&other), "{path} by ben: {other:?}");
                assert!(alive(&ada.tokens).await, "{path} by ben ended ada's session");
            }
            May::Anyone | May::Scope(_) | May::Own(_) => {
                assert_turned_away(path, "ben", &other, "CALLER_NOT_ALLOWED");
            }
        }
        assert!(alive(&ada.tokens).await, "{path}");
    }

    // Those who may: by right about nobody, by being themselves about themselves.
    for row in &rows {
        let Row { path, may, request } = row;
        let call = |request: Vec<u8>, token: String| raw_call(&admin, path, request, token);
        if let May::Scope(scope) | May::Own(scope) | May::OwnElseNothing(scope) = may {
            let token = machine(&admin, &secret, scope).await;
            let answer = call(
                request(
                    NOBODY,
                    &proto::Tokens {
                        session_id: NOBODY.into(),
                        refresh_token: "csr_x".into(),
                        ..ada.tokens.clone()
                    },
                ),
                token,
            )
            .await;
            assert!(passed(&answer), "{path} by {scope}: {answer:?}");
        }
        let fresh = machine(&admin, &secret, "countersign:issue").await;
        let own = login(&admin, &fresh, "ada").await;
        let answer = call(request(&ada.id, &own), own.access_token.clone()).await;
        match may {
            May::Own(_) | May::OwnElseNothing(_) => assert!(passed(&answer), "{path} by ada: {answer:?}"),
            May::Scope(_) => assert_turned_away(path, "ada", &answer, "CALLER_NOT_ALLOWED"),
            May::Anyone => {}
        }
        if path.ends_with("/Revoke") && matches!(may, May::Own(_) | May::OwnElseNothing(_)) {
            let request = proto::ValidateRequest {
                access_token: own.access_token.clone(),
                ..Default::default()
            };
            let judge = machine(&admin, &secret, "countersign:validate").await;
            let answer = good
                .tokens
                .clone()
                .validate(raw::with_bearer(request, &judge))
                .await
                .unwrap()
                .into_inner();
            assert!(!answer.active, "a person ends their own session");
        }
    }

    let listed: BTreeSet<&str> = rows.iter().map(|row| row.path).collect();
    let table: BTreeSet<&str> = METHODS.iter().map(|method| method.path).collect();
    assert_eq!(listed, table, "a method without a row");
    for unlisted in [
        format!("{TOKEN}Forge"),
        "/countersign.v1.Secrets/Open".into(),
        "/x/y".into(),
    ] {
        let token = machine(&admin, &secret, "countersign:keys").await;
        let answer = raw_call(&admin, &unlisted, Vec::new(), token).await;
        assert_eq!(answer.unwrap_err().code(), Code::Unimplemented, "{unlisted}");
    }
}

/// A client's right to call is not a person's: an exchanged token opens nobody's account.
#[tokio::test]
async fn a_delegate_has_no_account() {
    let deployment = Deployment::fresh(Shape::Embedded).await;
    let ada = deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let admin = Admin::of(&server);
    let secret = admin
        .client("actor", &[Grant::ClientSecret, Grant::Exchange], &["*"], &["*"])
        .await;
    let person = admin.login("", "ada", &[], &["countersign"]).await.unwrap();
    let actor = admin.machine("actor", &secret, &[], &[]).await.unwrap();
    let exchanged = admin
        .issue(
            "",
            Credential::Exchange(proto::ExchangeCredential {
                subject_token: person.access_token,
                actor_token: actor.access_token,
            }),
            &[],
            &["countersign"],
        )
        .await
        .unwrap();
    let request = proto::GetUserRequest {
        key: Some(proto::get_user_request::Key::UserId(ada)),
    };
    let path = "/countersign.v1.UserService/GetUser";
    let answer = raw_call(&admin, path, request.encode_to_vec(), exchanged.access_token).await;
    assert_turned_away(path, "a delegate", &answer, "CALLER_NOT_ALLOWED");
}

async fn raw_call(admin: &Admin, path: &str, request: Vec<u8>, token: String) -> Result<Vec<u8>, Status> {
    raw::call(&admin.channel, path, request, &token).await
}

/// A session at the client `front`, made by a caller that may log people in.
async fn login(admin: &Admin, token: &str, name: &str) -> proto::Tokens {
    let request = proto::IssueRequest {
        client_id: "front".into(),
        ..issue(Credential::Password(proto::PasswordCredential {
            username: name.into(),
            password: PASSWORD.into(),
        }))
    };
    let answer = admin
        .tokens
        .clone()
        .issue(raw::with_bearer(request, token))
        .await
        .unwrap();
    answer.into_inner().tokens.unwrap()
}
