//! The first client: each page that shows how to make it shows the same command, and with it users can be logged in, kept logged
//! in and logged out. A caller that lacks a scope is told which.

use std::path::Path;

use countersign::model::scope::CallerScope;
use countersign::proto::issue_request::Credential;
use countersign::proto::revoke_request::Target;
use countersign::proto::token_service_client::TokenServiceClient;
use countersign::proto::{
    ClientSecretCredential, IssueRequest, PasswordCredential, RefreshRequest, RevokeRequest, ValidateRequest,
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::support::caller::assert_refused;
use crate::support::deployment::{add_user, for_tests};
use crate::support::{Countersign, PASSWORD, Storage};

/// The pages that show the command.
const PAGES: [&str; 4] = [
    "README.md",
    "deploy/countersign.toml",
    "deploy/compose.yaml",
    "deploy/helm/countersign/templates/NOTES.txt",
];

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The commands of a page that make a client that logs users in: the words after `countersign`, without `--config FILE`.
fn commands(page: &str) -> Vec<Vec<String>> {
    let lines = page.lines().map(|line| line.trim_start_matches('#').trim());
    let mut joined = String::new();
    for line in lines {
        if let Some(part) = line.strip_suffix('\\') {
            joined += part;
        } else {
            joined += line;
            joined.push('\n');
        }
    }
    let found = joined.lines().filter_map(|line| {
        let (_, rest) = line.split_once("client add ")?;
        rest.contains("countersign:issue").then_some(rest)
    });
    found
        .map(|rest| {
            let mut words = vec!["client".to_owned(), "add".to_owned()];
            let mut rest = rest.split_whitespace();
            while let Some(word) = rest.next() {
                if word == "--config" {
                    rest.next();
                } else {
                    words.push(word.to_owned());
                }
            }
            words
        })
        .collect()
}

/// A server whose callers must authenticate, with the user ada.
fn closed() -> (Storage, Countersign) {
    let storage = for_tests(Storage::embedded()).set("server.anonymous_scopes", "");
    add_user(&storage, "ada", &[]);
    let server = storage.serve(&[]);
    (storage, server)
}

/// Makes a client with this command; returns its id, its scopes and a token with them.
async fn make(storage: &Storage, server: &Countersign, words: &[String]) -> (Vec<String>, String) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let printed = storage.run(&words).json();
    let secret = ["clientSecret", "client_secret"]
        .into_iter()
        .find_map(|name| printed[name].as_str());
    let scopes: Vec<String> = words
        .windows(2)
        .filter(|pair| pair[0] == "--scope")
        .map(|pair| pair[1].to_owned())
        .collect();
    let request = IssueRequest {
        client_id: words[2].to_owned(),
        credential: Some(Credential::ClientSecret(ClientSecretCredential {
            secret: secret.expect("the secret is printed").to_owned(),
        })),
        scope: scopes.clone(),
        ..IssueRequest::default()
    };
    let mut client = TokenServiceClient::connect(server.grpc_url()).await.unwrap();
    let tokens = client.issue(request).await.unwrap().into_inner().tokens.unwrap();
    (scopes, tokens.access_token)
}

fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    request
}

fn log_in() -> IssueRequest {
    IssueRequest {
        credential: Some(Credential::Password(PasswordCredential {
            username: "ada".to_owned(),
            password: PASSWORD.to_owned(),
        })),
        ..IssueRequest::default()
    }
}

fn log_out(token: &str) -> RevokeRequest {
    RevokeRequest {
        target: Some(Target::Token(token.to_owned())),
        ..RevokeRequest::default()
    }
}

#[tokio::test]
async fn the_first_client_of_every_page_logs_users_in_and_out() {
    let mut all = Vec::new();
    for name in PAGES {
        let found = commands(&page(name));
        assert!(!found.is_empty(), "{name} shows no first client");
        all.extend(found.into_iter().map(|words| (name, words)));
    }
    for (name, words) in &all {
        assert_eq!(words, &all[0].1, "{name} differs from {}", all[0].0);
        let (storage, server) = closed();
        let (_, token) = make(&storage, &server, words).await;
        let mut client = TokenServiceClient::connect(server.grpc_url()).await.unwrap();
        let tokens = client
            .issue(with(&token, log_in()))
            .await
            .unwrap()
            .into_inner()
            .tokens
            .unwrap();
        let refresh = |refresh_token: &str| RefreshRequest {
            refresh_token: refresh_token.to_owned(),
            ..RefreshRequest::default()
        };
        let next = client
            .refresh(with(&token, refresh(&tokens.refresh_token)))
            .await
            .unwrap();
        let next = next.into_inner().tokens.unwrap();
        let ended = client.revoke(with(&token, log_out(&next.refresh_token))).await.unwrap();
        assert_eq!(ended.into_inner().sessions_revoked, 1, "{name}");
        let refused = client.refresh(with(&token, refresh(&next.refresh_token))).await;
        assert_refused(refused, Code::Unauthenticated, "SESSION_REVOKED");
    }
}

/// The scope that an error names.
fn required_scope(refused: &Status) -> String {
    let details = refused.get_error_details();
    let info = details.error_info().expect("a reason");
    info.metadata.get("required_scope").cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_missing_scope_is_named_to_the_caller_and_in_a_few_lines_of_the_log() {
    let (storage, server) = closed();
    let words = [
        "client",
        "add",
        "half",
        "--grant",
        "client_secret",
        "--scope",
        "countersign:issue",
    ];
    let words = words.map(str::to_owned);
    let (_, token) = make(&storage, &server, &words).await;
    let mut client = TokenServiceClient::connect(server.grpc_url()).await.unwrap();
    let tokens = client
        .issue(with(&token, log_in()))
        .await
        .unwrap()
        .into_inner()
        .tokens
        .unwrap();
    for _ in 0..40 {
        let refused = client
            .revoke(with(&token, log_out(&tokens.refresh_token)))
            .await
            .unwrap_err();
        assert_eq!(required_scope(&refused), "countersign:revoke");
        assert_eq!(refused.message(), "the caller lacks the scope countersign:revoke");
        assert_refused(Err::<(), _>(refused), Code::PermissionDenied, "CALLER_NOT_ALLOWED");
    }
    let refused = client
        .validate(with(&token, ValidateRequest::default()))
        .await
        .unwrap_err();
    assert_eq!(required_scope(&refused), "countersign:validate");
    let anonymous = client.validate(ValidateRequest::default()).await.unwrap_err();
    assert_eq!(required_scope(&anonymous), "countersign:validate");
    assert_refused(Err::<(), _>(anonymous), Code::Unauthenticated, "CALLER_UNAUTHENTICATED");

    let log = server.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("lacks a scope") && line.contains("TokenService/Revoke"));
    let lines: Vec<&str> = lines.collect();
    // Ten lines of a kind in a minute; the calls may fall into two minutes.
    assert!((1..=20).contains(&lines.len()), "{log}");
    assert!(
        lines[0].contains("countersign:revoke") && lines[0].contains("half"),
        "{}",
        lines[0]
    );
    assert!(lines[0].contains("INFO"), "{}", lines[0]);
}

#[test]
fn the_readme_lists_every_scope() {
    let page = page("README.md");
    let rows: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `countersign:"))
        .collect();
    let listed: Vec<String> = rows
        .iter()
        .map(|row| format!("countersign:{}", row.split('`').next().unwrap()))
        .collect();
    assert_eq!(listed, CallerScope::ALL.map(|scope| scope.as_str().to_owned()));
}
