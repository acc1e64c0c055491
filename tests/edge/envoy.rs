//! Envoy with the configuration of `deploy/envoy.yaml`.

use countersign::proto::revoke_request::Target;
use http::StatusCode;

use crate::application::{Response, send, start};
use crate::hostile::MALFORMED_BEARERS;
use crate::proxies::{RunningProxy, envoy};
use crate::site::{ACCESS, REFRESH, SECRET, Site, cookies};

struct Edge {
    site: Site,
    envoy: RunningProxy,
}

impl Edge {
    async fn start(changed: impl Fn(String) -> String) -> Self {
        let site = Site::start();
        let application = start().await;
        let envoy = envoy(site.server.grpc(), application, changed);
        Self { site, envoy }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        send(self.envoy.address, method, path, headers).await
    }
}

#[tokio::test]
async fn valid_tokens_pass_and_invalid_ones_do_not() {
    let edge = Edge::start(|text| text).await;
    let tokens = edge.site.login("api", &["reports:read"]).await;
    let bearer = format!("Bearer {}", tokens.access_token);

    let passed = edge.send("POST", "/", &[("authorization", &bearer)]).await;
    assert_eq!(passed.received_header("x-auth-subject"), [edge.site.ada.as_str()]);
    assert_eq!(passed.received_header("x-auth-session"), [tokens.session_id.as_str()]);
    assert_eq!(passed.received_header("x-auth-roles"), ["author editor"]);
    assert_eq!(passed.received_header("authorization"), [bearer.as_str()]);

    let anonymous = edge.send("GET", "/", &[]).await;
    assert_eq!(
        (anonymous.status, anonymous.header("www-authenticate")),
        (StatusCode::UNAUTHORIZED, "Bearer realm=\"api\"")
    );
    let bad = edge.send("GET", "/", &[("authorization", "Bearer bad")]).await;
    assert_eq!(
        (bad.status, bad.error().as_str()),
        (StatusCode::UNAUTHORIZED, "invalid_token")
    );
    assert_eq!(bad.header("content-type"), "application/json");
    // Two headers, which Envoy joins into one.
    let two = [("authorization", bearer.as_str()), ("authorization", bearer.as_str())];
    assert_eq!(edge.send("GET", "/", &two).await.status, StatusCode::UNAUTHORIZED);

    let elsewhere = edge.send("GET", "/reports", &[("authorization", &bearer)]).await;
    assert_eq!(elsewhere.status, StatusCode::UNAUTHORIZED, "another audience");
    let reports = edge.site.login("reports", &["reports:read"]).await;
    let lacking = format!("Bearer {}", reports.access_token);
    let lacking = edge.send("GET", "/reports", &[("authorization", &lacking)]).await;
    assert_eq!(
        (lacking.status, lacking.error().as_str()),
        (StatusCode::FORBIDDEN, "insufficient_scope")
    );
    assert!(
        lacking
            .header("www-authenticate")
            .contains("scope=\"reports:read reports:export\"")
    );
    let both = edge.site.login("reports", &["reports:read", "reports:export"]).await;
    let both = format!("Bearer {}", both.access_token);
    let both = edge.send("GET", "/reports", &[("authorization", &both)]).await;
    assert_eq!(both.received_header("x-auth-scopes"), ["reports:read reports:export"]);

    assert_eq!(
        edge.send("POST", "/login", &[]).await.status,
        StatusCode::OK,
        "the route is public"
    );
}

#[tokio::test]
async fn identity_headers_cannot_be_forged() {
    let lies = [
        ("x-auth-subject", "root"),
        ("x-auth-session", "root"),
        ("x-auth-client", "root"),
        ("x-auth-scopes", "root"),
        ("x-auth-roles", "root"),
        ("X_Auth_Roles", "root"),
        ("x-auth_roles", "root"),
        ("x-auth-user", "root"),
        ("X.Auth.Roles", "root"),
    ];
    let as_delivered = Edge::start(|text| text).await;
    // Without Envoy's own header mutation, only Countersign's answer protects the application.
    let careless = Edge::start(|text| {
        let start = text.find("                early_header_mutation_extensions:").unwrap();
        let end = text.find("                route_config:").unwrap();
        let text = format!("{}{}", &text[..start], &text[end..]);
        text.replace(
            "headers_with_underscores_action: DROP_HEADER",
            "headers_with_underscores_action: ALLOW",
        )
    })
    .await;
    for edge in [&as_delivered, &careless] {
        let tokens = edge.site.login("api", &[]).await;
        let bearer = format!("Bearer {}", tokens.access_token);
        let headers = [&lies[..], &[("authorization", &bearer)]].concat();
        let passed = edge.send("GET", "/", &headers).await;
        assert_eq!(passed.received_header("x-auth-subject"), [edge.site.ada.as_str()]);
        assert_eq!(passed.received_header("x-auth-session"), [tokens.session_id.as_str()]);
        assert_eq!(passed.received_header("x-auth-roles"), ["author editor"]);
        assert!(!passed.body.contains("root"), "{}", passed.body);
    }
    let open = as_delivered.send("GET", "/login", &lies).await;
    assert!(
        open.status == StatusCode::OK && !open.body.contains("root"),
        "{}",
        open.body
    );
}

#[tokio::test]
async fn a_malformed_bearer_beside_a_good_cookie_is_refused() {
    let edge = Edge::start(|text| text).await;
    let tokens = edge.site.login("api", &[]).await;
    let cookie = cookies(&tokens.access_token, &tokens.refresh_token);
    for value in MALFORMED_BEARERS {
        let headers = [("cookie", cookie.as_str()), ("authorization", value)];
        assert_eq!(
            edge.send("GET", "/", &headers).await.status,
            StatusCode::UNAUTHORIZED,
            "{value:?}"
        );
    }
    let other = [("cookie", cookie.as_str()), ("authorization", "Basic YTpi")];
    let other = edge.send("GET", "/", &other).await;
    assert_eq!(
        other.received_header("authorization"),
        ["Basic YTpi"],
        "for the application"
    );
}

#[tokio::test]
async fn cookies_are_renewed_by_the_proxy_and_cleared_after_reuse() {
    let edge = Edge::start(|text| text).await;
    let tokens = edge.site.login("api", &[]).await;
    let stale = cookies("", &tokens.refresh_token);

    let passed = edge.send("GET", "/", &[("cookie", &stale)]).await;
    assert_eq!(passed.received_header("x-auth-subject"), [edge.site.ada.as_str()]);
    assert_eq!(passed.received_header("cookie"), ["theme=dark"]);
    let (access, refresh) = (passed.cookie(ACCESS).unwrap(), passed.cookie(REFRESH).unwrap());
    assert_eq!(
        passed.cookie("app").as_deref(),
        Some("1"),
        "the application's own cookie stays"
    );
    assert_eq!(passed.cookies().count(), 3);

    let fresh = cookies(&access, &refresh);
    let again = edge.send("GET", "/", &[("cookie", &fresh)]).await;
    assert!(again.status == StatusCode::OK && again.cookie(ACCESS).is_none());
    let forged = [("cookie", fresh.as_str()), ("sec-fetch-site", "cross-site")];
    let forged = edge.send("POST", "/", &forged).await;
    assert_eq!(
        (forged.status, forged.error().as_str()),
        (StatusCode::FORBIDDEN, "cross_site")
    );
    let own = [("cookie", fresh.as_str()), ("sec-fetch-site", "same-origin")];
    assert_eq!(edge.send("POST", "/", &own).await.status, StatusCode::OK);
    let streaming = edge.send("GET", "/events", &[("cookie", &cookies("", &refresh))]).await;
    assert_eq!(
        (streaming.status, streaming.cookies().count()),
        (StatusCode::UNAUTHORIZED, 0)
    );

    // One generation later the first cookie is older than any retry.
    let newer = edge.send("GET", "/", &[("cookie", &cookies("", &refresh))]).await;
    assert!(newer.cookie(REFRESH).is_some());
    let stolen = edge.send("GET", "/", &[("cookie", &stale)]).await;
    assert_eq!(stolen.status, StatusCode::UNAUTHORIZED);
    assert_eq!(stolen.cookie(ACCESS).as_deref(), Some(""));
    assert_eq!(stolen.cookie(REFRESH).as_deref(), Some(""));
    let out = edge.send("GET", "/", &[("cookie", &cookies(&access, &refresh))]).await;
    assert_eq!(
        out.status,
        StatusCode::UNAUTHORIZED,
        "every token of the session is revoked"
    );
    assert!(!edge.site.server.log().contains(SECRET));
}

#[tokio::test]
async fn an_outage_is_not_a_refusal_and_envoy_decides() {
    let closed = Edge::start(|text| text).await;
    let bearer = format!("Bearer {}", closed.site.login("api", &[]).await.access_token);
    let headers = [("authorization", bearer.as_str()), ("x-auth-subject", "root")];
    let Edge { site, envoy } = closed;
    site.server.kill();
    let answer = send(envoy.address, "GET", "/", &headers).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((answer.header("www-authenticate"), answer.cookies().count()), ("", 0));

    let open = Edge::start(|text| text.replace("failure_mode_allow: false", "failure_mode_allow: true")).await;
    let Edge { site, envoy } = open;
    site.server.kill();
    let answer = send(envoy.address, "GET", "/", &headers).await;
    assert!(
        answer.received_header("x-auth-subject").is_empty(),
        "let through as anonymous"
    );
}

#[tokio::test]
async fn envoys_jwt_filter_agrees_but_does_not_know_revocations() {
    let site = Site::start();
    let application = start().await;
    let jwks = site.server.http_url();
    let (host, port) = jwks.trim_start_matches("http://").rsplit_once(':').unwrap();
    let reader = format!(
        r#"                  - name: envoy.filters.http.jwt_authn
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication
                      providers:
                        countersign:
                          issuer: https://countersign.local
                          audiences: [api]
                          forward: true
                          remote_jwks:
                            http_uri: {{ uri: "{jwks}/.well-known/jwks.json", cluster: jwks, timeout: 20s }}
                      rules:
                        - match: {{ prefix: / }}
                          requires: {{ provider_name: countersign }}
"#
    );
    let keys = format!(
        "    - name: jwks\n      type: STRICT_DNS\n      load_assignment:\n        cluster_name: jwks\n        endpoints:\n          \
         - lb_endpoints:\n              - endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} }}\n"
    );
    let envoy = envoy(site.server.grpc(), application, |text| {
        let filters = "                http_filters:\n";
        text.replace(filters, &format!("{filters}{reader}")) + &keys
    });
    let tokens = site.login("api", &[]).await;
    let bearer = format!("Bearer {}", tokens.access_token);
    let send = |bearer: String| {
        let address = envoy.address;
        async move { send(address, "GET", "/", &[("authorization", bearer.as_str())]).await }
    };
    assert_eq!(
        send(bearer.clone()).await.received_header("x-auth-subject"),
        [site.ada.as_str()]
    );
    let broken = send(format!("{}x", &bearer[..bearer.len() - 4])).await;
    assert_eq!(broken.status, StatusCode::UNAUTHORIZED);
    assert!(broken.body.contains("Jwt"), "refused by Envoy itself: {}", broken.body);

    site.caller.revoke(Target::Token(tokens.refresh_token)).await.unwrap();
    let revoked = send(bearer).await;
    assert_eq!(
        (revoked.status, revoked.error().as_str()),
        (StatusCode::UNAUTHORIZED, "invalid_token")
    );
}
