//! A Countersign with all authorization for proxies on, a caller, and a logged-in user.

use countersign::proto::Tokens;
use countersign::proto::envoy::service::auth::v3::CheckRequest;
use countersign::proto::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use countersign::proto::envoy::service::auth::v3::check_response::HttpResponse;
use countersign::proto::envoy::service::auth::v3::{AttributeContext, CheckResponse};
use countersign::proto::envoy::service::auth::v3::{DeniedHttpResponse, OkHttpResponse, attribute_context as context};
use countersign::proto::issue_request::Credential;
use countersign::proto::{IssueRequest, PasswordCredential};
use tonic::Status;

use crate::support::deployment::{add_user, for_tests};
use crate::support::serve::Storage;
use crate::support::{Caller, Countersign, PASSWORD};

/// The secret that a proxy must send to `/authorize`.
pub(crate) const SECRET: &str = "a-shared-secret-of-the-tests";

/// The names of the cookies.
pub(crate) const ACCESS: &str = "__Host-cs_at";
pub(crate) const REFRESH: &str = "__Host-cs_rt";

pub(crate) struct Site {
    pub(crate) storage: Storage,
    pub(crate) server: Countersign,
    pub(crate) caller: Caller,
    /// The id of the user `ada`.
    pub(crate) ada: String,
}

impl Site {
    /// Starts it embedded, with cookies and forward auth on.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts it with these further options.
    pub(crate) fn with(options: &[(&str, &str)]) -> Self {
        let storage = for_tests(Storage::embedded())
            .set("gateway.cookies", "true")
            .set("gateway.forward_auth", "true")
            .set("gateway.forward_auth_secret", SECRET);
        Self::on(
            options
                .iter()
                .fold(storage, |storage, (key, value)| storage.set(key, value)),
        )
    }

    fn on(storage: Storage) -> Self {
        let ada = add_user(&storage, "ada", &["--role", "editor", "--role", "author"]);
        let server = storage.serve(&[]);
        Self {
            caller: Caller::of(&server),
            storage,
            server,
            ada,
        }
    }

    /// Logs ada in for this audience with these scopes.
    pub(crate) async fn login(&self, audience: &str, scopes: &[&str]) -> Tokens {
        let request = IssueRequest {
            credential: Some(Credential::Password(PasswordCredential {
                username: "ada".to_owned(),
                password: PASSWORD.to_owned(),
            })),
            audience: vec![audience.to_owned()],
            scope: scopes.iter().map(ToString::to_string).collect(),
            ..IssueRequest::default()
        };
        let answer = self
            .caller
            .tokens
            .clone()
            .issue(request)
            .await
            .expect("the login succeeds");
        answer.into_inner().tokens.unwrap()
    }

    /// Check, as Envoy calls it, with these headers and these settings of the route.
    pub(crate) async fn check(
        &self,
        method: &str,
        headers: &[(&str, &str)],
        route: &[(&str, &str)],
    ) -> Result<CheckResponse, Status> {
        self.check_as(request(method, headers, route), None).await
    }

    /// Check with this request, by a caller with this token.
    pub(crate) async fn check_as(&self, request: CheckRequest, token: Option<&str>) -> Result<CheckResponse, Status> {
        let mut client = AuthorizationClient::connect(self.server.grpc_url()).await.unwrap();
        let mut request = tonic::Request::new(request);
        if let Some(token) = token {
            let bearer = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", bearer);
        }
        Ok(client.check(request).await?.into_inner())
    }
}

/// The request that Envoy sends.
pub(crate) fn request(method: &str, headers: &[(&str, &str)], route: &[(&str, &str)]) -> CheckRequest {
    let owned = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    };
    let http = context::HttpRequest {
        method: method.to_owned(),
        host: "app.example".to_owned(),
        path: "/".to_owned(),
        headers: owned(headers),
        header_map: None,
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: None,
            request: Some(context::Request { http: Some(http) }),
            context_extensions: owned(route),
        }),
    }
}

/// The two cookies as a browser sends them.
pub(crate) fn cookies(access: &str, refresh: &str) -> String {
    format!("theme=dark; {ACCESS}={access}; {REFRESH}={refresh}")
}

/// The part of the answer that lets the request pass.
#[track_caller]
pub(crate) fn allowed(answer: CheckResponse) -> OkHttpResponse {
    assert_eq!(answer.status.as_ref().map(|status| status.code), Some(0));
    match answer.http_response {
        Some(HttpResponse::OkResponse(ok)) => ok,
        other => panic!("not allowed: {}", body(other)),
    }
}

/// The status and the rest of an answer that refuses the request.
#[track_caller]
pub(crate) fn denied(answer: CheckResponse) -> (i32, DeniedHttpResponse) {
    assert_ne!(answer.status.as_ref().map(|status| status.code), Some(0));
    match answer.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => (denied.status.unwrap().code, denied),
        _ => panic!("not denied"),
    }
}

fn body(response: Option<HttpResponse>) -> String {
    match response {
        Some(HttpResponse::DeniedResponse(denied)) => denied.body,
        _ => "nothing".to_owned(),
    }
}

/// The values that an answer sets for a header.
pub(crate) fn values(
    headers: &[countersign::proto::envoy::config::core::v3::HeaderValueOption],
    name: &str,
) -> Vec<String> {
    headers
        .iter()
        .filter_map(|option| option.header.as_ref())
        .filter(|header| header.key == name)
        .map(|header| header.value.clone())
        .collect()
}

/// The value of one of Countersign's cookies among the `set-cookie`s of an answer.
pub(crate) fn set_cookie(
    headers: &[countersign::proto::envoy::config::core::v3::HeaderValueOption],
    name: &str,
) -> Option<String> {
    values(headers, "set-cookie")
        .iter()
        .find_map(|cookie| cookie.strip_prefix(name)?.strip_prefix('='))
        .map(|cookie| cookie.split(';').next().unwrap_or_default().to_owned())
}
