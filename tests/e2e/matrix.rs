//! Authorization of every method of every service: called anonymously, by a client with a different scope, by one
//! with the right scope, by a user about their own account, and by a user about another account. A method that is
//! added without a row in `matrix/rows.rs` fails the test.

mod rows;

use std::collections::BTreeSet;

use countersign::grpc::policy::METHODS;
use countersign::model::CallerScope;
use countersign::proto::issue_request::Credential;
use countersign::proto::{self, Grant};
use prost::Message as _;
use tonic::{Code, Status};

use self::rows::{Access, Row, issue, rows};
use crate::support::caller::reason;
use crate::support::{Admin, Caller, Countersign, Deployment, DeploymentKind, PASSWORD, raw};

const TOKEN: &str = "/countersign.v1.TokenService/";
/// An id that no user has.
const UNKNOWN_ID: &str = "0190b6a8-1111-7000-8000-000000000000";

/// Whether the caller passed authorization; the request itself may still be refused.
fn passed_authorization(answer: &Result<Vec<u8>, Status>) -> bool {
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

fn assert_denied(path: &str, caller_name: &str, answer: &Result<Vec<u8>, Status>, why: &str) {
    let status = answer.as_ref().expect_err(&format!("{path} by {caller_name}"));
    let code = if why == "CALLER_UNAUTHENTICATED" {
        Code::Unauthenticated
    } else {
        Code::PermissionDenied
    };
    assert_eq!(
        reason(status),
        (code, why.to_owned()),
        "{path} by {caller_name}: {status:?}"
    );
}

/// A user with tokens for calls to Countersign about their own account.
struct LoggedInUser {
    id: String,
    tokens: proto::Tokens,
}

async fn logged_in_user(deployment: &Deployment, admin: &Admin, name: &str) -> LoggedInUser {
    let id = deployment.add_user(name, &[]);
    let tokens = admin.login("front", name, &[], &[]).await.unwrap();
    LoggedInUser { id, tokens }
}

/// A client token with only this scope.
async fn client_token(admin: &Admin, secret: &str, scope: &str) -> String {
    admin
        .issue_with_secret("robot", secret, &[scope], &[])
        .await
        .unwrap()
        .access_token
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table, used twice")]
async fn each_method_lets_through_only_the_callers_of_its_row() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded)
        .await
        .set("server.anonymous_scopes", "countersign:issue");
    let scopes = CallerScope::ALL.map(CallerScope::as_str);
    let mut words = vec!["client", "add", "robot", "--grant", "client_secret"];
    for scope in scopes {
        words.extend(["--scope", scope]);
    }
    let robot = deployment.storage.run(&words).json();
    let secret = robot["clientSecret"].as_str().unwrap().to_owned();
    deployment
        .storage
        .run(&["client", "add", "front", "--grant", "password", "--audience", "*"])
        .succeed();
    let (ada, ben, validating) = {
        let server = deployment.serve();
        let admin = Admin::of(&server);
        let (ada, ben) = (
            logged_in_user(&deployment, &admin, "ada").await,
            logged_in_user(&deployment, &admin, "ben").await,
        );
        let validating = client_token(&admin, &secret, "countersign:validate").await;
        assert_eq!(server.stop().code(), Some(0));
        (ada, ben, validating)
    };
    // From now on anonymous callers have no scopes.
    let deployment = deployment.set("server.anonymous_scopes", "");
    let server: Countersign = deployment.serve();
    let admin = Admin::of(&server);
    let good = Caller::of(&server);
    let is_active = async |tokens: &proto::Tokens| {
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
        let Row { path, access, request } = row;
        let call = |request: Vec<u8>, token: String| raw_call(&admin, path, request, token);
        let about_ada = || request(&ada.id, &ada.tokens);
        if *access == Access::Anyone {
            for (caller_name, token) in [("anonymous", ""), ("ben", &ben.tokens.access_token)] {
                let answer = call(about_ada(), token.to_owned()).await;
                assert!(passed_authorization(&answer), "{path} by {caller_name}: {answer:?}");
            }
            continue;
        }
        let (Access::Scope(scope) | Access::ScopeOrOwn(scope) | Access::ScopeOrOwnElseNotFound(scope)) = access else {
            unreachable!("handled above")
        };
        let anonymous = call(about_ada(), String::new()).await;
        assert_denied(path, "anonymous", &anonymous, "CALLER_UNAUTHENTICATED");
        // All other scopes together do not replace the right one.
        for wrong in scopes.iter().filter(|other| **other != *scope) {
            let token = client_token(&admin, &secret, wrong).await;
            let answer = call(about_ada(), token).await;
            assert_denied(path, wrong, &answer, "CALLER_NOT_ALLOWED");
        }
        let other = call(about_ada(), ben.tokens.access_token.clone()).await;
        match access {
            Access::ScopeOrOwnElseNotFound(_) => {
                assert!(passed_authorization(&other), "{path} by ben: {other:?}");
                assert!(is_active(&ada.tokens).await, "{path} by ben revoked ada's session");
            }
            Access::Anyone | Access::Scope(_) | Access::ScopeOrOwn(_) => {
                assert_denied(path, "ben", &other, "CALLER_NOT_ALLOWED");
            }
        }
        assert!(is_active(&ada.tokens).await, "{path}");
    }

    // Allowed callers: clients with the scope about any user, and users about themselves.
    for row in &rows {
        let Row { path, access, request } = row;
        let call = |request: Vec<u8>, token: String| raw_call(&admin, path, request, token);
        if let Access::Scope(scope) | Access::ScopeOrOwn(scope) | Access::ScopeOrOwnElseNotFound(scope) = access {
            let token = client_token(&admin, &secret, scope).await;
            let answer = call(
                request(
                    UNKNOWN_ID,
                    &proto::Tokens {
                        session_id: UNKNOWN_ID.into(),
                        refresh_token: "csr_x".into(),
                        ..ada.tokens.clone()
                    },
                ),
                token,
            )
            .await;
            assert!(passed_authorization(&answer), "{path} by {scope}: {answer:?}");
        }
        let fresh = client_token(&admin, &secret, "countersign:issue").await;
        let own = login(&admin, &fresh, "ada").await;
        let answer = call(request(&ada.id, &own), own.access_token.clone()).await;
        match access {
            Access::ScopeOrOwn(_) | Access::ScopeOrOwnElseNotFound(_) => {
                assert!(passed_authorization(&answer), "{path} by ada: {answer:?}");
            }
            Access::Scope(_) => assert_denied(path, "ada", &answer, "CALLER_NOT_ALLOWED"),
            Access::Anyone => {}
        }
        if path.ends_with("/Revoke") && matches!(access, Access::ScopeOrOwn(_) | Access::ScopeOrOwnElseNotFound(_)) {
            let request = proto::ValidateRequest {
                access_token: own.access_token.clone(),
                ..Default::default()
            };
            let validating = client_token(&admin, &secret, "countersign:validate").await;
            let answer = good
                .tokens
                .clone()
                .validate(raw::with_bearer(request, &validating))
                .await
                .unwrap()
                .into_inner();
            assert!(!answer.active, "a user revokes their own session");
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
        let token = client_token(&admin, &secret, "countersign:keys").await;
        let answer = raw_call(&admin, &unlisted, Vec::new(), token).await;
        assert_eq!(answer.unwrap_err().code(), Code::Unimplemented, "{unlisted}");
    }
}

/// The right of a client to call is not a user's right: an exchanged token gives no access to an account.
#[tokio::test]
async fn an_exchanged_token_gives_no_access_to_the_account() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    let ada = deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let admin = Admin::of(&server);
    let secret = admin
        .client("actor", &[Grant::ClientSecret, Grant::Exchange], &["*"], &["*"])
        .await;
    let user = admin.login("", "ada", &[], &["countersign"]).await.unwrap();
    let actor = admin
        .issue_with_secret("actor", &secret, &[], &["countersign"])
        .await
        .unwrap();
    let exchanged = admin
        .issue(
            "",
            Credential::Exchange(proto::ExchangeCredential {
                subject_token: user.access_token,
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
    assert_denied(path, "an exchanged token", &answer, "CALLER_NOT_ALLOWED");
}

async fn raw_call(admin: &Admin, path: &str, request: Vec<u8>, token: String) -> Result<Vec<u8>, Status> {
    raw::call(&admin.channel, path, request, &token).await
}

/// Logs the user in at the client `front`, through a caller with the scope `countersign:issue`.
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
