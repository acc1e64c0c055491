//! Envoy's `Check`, called directly: bearer tokens, and malformed requests.

use countersign::proto::envoy::config::core::v3::{HeaderMap, HeaderValue};
use countersign::proto::envoy::service::auth::v3::CheckRequest;
use countersign::proto::revoke_request::Target;
use tonic::Code;

use crate::site::{Site, allowed, denied, request, values};
use crate::support::assert_refused;

#[tokio::test]
async fn a_valid_bearer_passes_and_adds_headers_about_the_caller() {
    let site = Site::start();
    let tokens = site.login("api", &["read", "write"]).await;
    let bearer = format!("Bearer {}", tokens.access_token);
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-auth-subject", "root"),
        ("x_auth_roles", "admin"),
        ("cookie", "theme=dark"),
    ];
    let answer = site.check("POST", &headers, &[("scopes", "read")]).await.unwrap();
    let metadata = answer.dynamic_metadata.clone().unwrap().fields;
    let ok = allowed(answer);
    for (name, value) in [
        ("x-auth-subject", site.ada.as_str()),
        ("x-auth-session", &tokens.session_id),
        ("x-auth-client", "default"),
        ("x-auth-scopes", "read write"),
        ("x-auth-roles", "author editor"),
    ] {
        assert_eq!(values(&ok.headers, name), [value], "{name}");
    }
    // OVERWRITE_IF_EXISTS_OR_ADD: values that the client sent under these names are gone.
    assert!(ok.headers.iter().all(|option| option.append_action == 2));
    assert_eq!(ok.headers_to_remove, ["x_auth_roles"]);
    assert!(ok.response_headers_to_add.is_empty());
    for claim in [
        "iss",
        "sub",
        "aud",
        "client_id",
        "scope",
        "sid",
        "jti",
        "exp",
        "iat",
        "roles",
    ] {
        assert!(metadata.contains_key(claim), "{claim}");
    }
    assert!(!metadata.contains_key("epo"));

    site.caller.revoke(Target::Token(tokens.refresh_token)).await.unwrap();
    let (status, refusal) = denied(site.check("GET", &headers, &[]).await.unwrap());
    assert_eq!(status, 401);
    assert!(refusal.body.contains("revoked"), "{}", refusal.body);
}

#[tokio::test]
async fn headers_without_a_value_are_removed_and_the_token_if_configured() {
    let site = Site::with(&[("gateway.strip_token", "true")]);
    let tokens = site.login("api", &[]).await;
    let bearer = format!("Bearer {}", tokens.access_token);
    let ok = allowed(site.check("GET", &[("authorization", &bearer)], &[]).await.unwrap());
    assert_eq!(ok.headers_to_remove, ["x-auth-scopes", "authorization"]);
}

#[tokio::test]
async fn a_refusal_has_the_challenge_of_rfc_6750() {
    let site = Site::start();
    let bearer = format!("Bearer {}", site.login("api", &["read"]).await.access_token);
    let good = ("authorization", bearer.as_str());
    let challenge = |refusal: &_| values(refusal, "www-authenticate").concat();

    let (status, refusal) = denied(site.check("GET", &[], &[]).await.unwrap());
    assert_eq!(
        (status, challenge(&refusal.headers).as_str()),
        (401, "Bearer realm=\"api\"")
    );
    let (status, refusal) = denied(
        site.check("GET", &[("authorization", "Basic YTpi")], &[])
            .await
            .unwrap(),
    );
    assert_eq!(
        (status, challenge(&refusal.headers).as_str()),
        (401, "Bearer realm=\"api\"")
    );

    let doubled = format!("{bearer},{bearer}");
    let long = format!("Bearer {}", "a".repeat(20_000));
    for bad in [
        "Bearer nonsense",
        "Bearer",
        "Bearer a b",
        &doubled,
        &long,
        "Bearer a.b.c",
    ] {
        let (status, refusal) = denied(site.check("GET", &[("authorization", bad)], &[]).await.unwrap());
        assert_eq!(status, 401, "{bad}");
        let challenge_header = challenge(&refusal.headers);
        assert!(
            challenge_header.starts_with("Bearer error=\"invalid_token\""),
            "{challenge_header}"
        );
        assert_eq!(values(&refusal.headers, "content-type"), ["application/json"]);
        assert!(refusal.body.contains("\"error\":\"invalid_token\""));
    }
    let (status, _) = denied(site.check("GET", &[good], &[("audience", "reports")]).await.unwrap());
    assert_eq!(status, 401, "for another audience");
    let (status, refusal) = denied(site.check("GET", &[good], &[("scopes", "read write")]).await.unwrap());
    assert_eq!(
        (status, challenge(&refusal.headers).as_str()),
        (403, "Bearer error=\"insufficient_scope\", scope=\"read write\"")
    );
}

#[tokio::test]
async fn a_malformed_check_is_an_error_and_raw_headers_are_read() {
    let site = Site::start();
    let bearer = format!("Bearer {}", site.login("api", &[]).await.access_token);
    assert_refused(
        site.check_as(CheckRequest::default(), None).await,
        Code::InvalidArgument,
        "INVALID_REQUEST",
    );
    let mut bare = request("GET", &[], &[]);
    bare.attributes.as_mut().unwrap().request = None;
    assert_refused(
        site.check_as(bare, None).await,
        Code::InvalidArgument,
        "INVALID_REQUEST",
    );
    for setting in [
        ("streaming", "perhaps"),
        ("optional", "yes"),
        ("login", "//evil.example"),
    ] {
        let odd = request("GET", &[], &[setting]);
        assert_refused(site.check_as(odd, None).await, Code::InvalidArgument, "INVALID_REQUEST");
    }

    let raw = |values: &[&str]| {
        let mut request = request("GET", &[], &[]);
        let http = request.attributes.as_mut().unwrap().request.as_mut().unwrap();
        let headers = values.iter().map(|value| HeaderValue {
            key: "authorization".to_owned(),
            raw_value: value.as_bytes().to_vec(),
            ..HeaderValue::default()
        });
        http.http.as_mut().unwrap().header_map = Some(HeaderMap {
            headers: headers.collect(),
        });
        request
    };
    allowed(site.check_as(raw(&[&bearer]), None).await.unwrap());
    denied(site.check_as(raw(&[&bearer, &bearer]), None).await.unwrap());
    let large = request("GET", &[("x", &"y".repeat(1_200_000)), ("authorization", &bearer)], &[]);
    allowed(site.check_as(large, None).await.unwrap());
    let huge = request("GET", &[("x", &"y".repeat(1_400_000))], &[]);
    let refused = site.check_as(huge, None).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
}

#[tokio::test]
async fn only_callers_with_the_validate_scope_may_check() {
    let site = Site::with(&[
        ("server.anonymous_scopes", "countersign:issue"),
        ("gateway.forward_auth", "false"),
    ]);
    let bearer = format!("Bearer {}", site.login("api", &[]).await.access_token);
    let asked = request("GET", &[("authorization", &bearer)], &[]);
    assert_refused(
        site.check_as(asked, None).await,
        Code::Unauthenticated,
        "CALLER_UNAUTHENTICATED",
    );
    let off = Site::with(&[("gateway.ext_authz", "false")]);
    let refused = off.check("GET", &[], &[]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test]
async fn tokens_of_another_client_are_refused_where_a_client_is_required() {
    let site = Site::with(&[("gateway.client_id", "web")]);
    site.storage
        .run(&["client", "add", "web", "--grant", "password", "--audience", "api"])
        .succeed();
    let bearer = format!("Bearer {}", site.login("api", &[]).await.access_token);
    let (status, _) = denied(site.check("GET", &[("authorization", &bearer)], &[]).await.unwrap());
    assert_eq!(status, 401);
}
