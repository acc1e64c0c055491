//! Envoy itself, with the configuration of `deploy/envoy.yaml`.

use countersign::proto::revoke_request::Target;
use http::StatusCode;

use crate::application::{Answer, ask, start};
use crate::proxies::{Proxied, envoy};
use crate::site::{ACCESS, REFRESH, SECRET, Site, cookies};

struct Edge {
    site: Site,
    envoy: Proxied,
}

impl Edge {
    async fn start(changed: impl Fn(String) -> String) -> Self {
        let site = Site::start();
        let application = start().await;
        let envoy = envoy(site.server.grpc(), application, changed);
        Self { site, envoy }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        ask(self.envoy.address, method, path, headers).await
    }
}

#[tokio::test]
async fn good_tokens_pass_and_bad_ones_do_not() {
    let edge = Edge::start(|text| text).await;
    let tokens = edge.site.login("api", &["reports:read"]).await;
    let bearer = format!("Bearer {}", tokens.access_token);

    let passed = edge.ask("POST", "/", &[("authorization", &bearer)]).await;
    assert_eq!(passed.seen("x-auth-subject"), [edge.site.ada.as_str()]);
    assert_eq!(passed.seen("x-auth-session"), [tokens.session_id.as_str()]);
    assert_eq!(passed.seen("x-auth-roles"), ["author editor"]);
    assert_eq!(passed.seen("authorization"), [bearer.as_str()]);

    let nobody = edge.ask("GET", "/", &[]).await;
    assert_eq!(
        (nobody.status, nobody.header("www-authenticate")),
        (StatusCode::UNAUTHORIZED, "Bearer realm=\"api\"")
    );
    let bad = edge.ask("GET", "/", &[("authorization", "Bearer bad")]).await;
    assert_eq!(
        (bad.status, bad.error().as_str()),
        (StatusCode::UNAUTHORIZED, "invalid_token")
    );
    assert_eq!(bad.header("content-type"), "application/json");
    // Two of them, which Envoy joins.
    let two = [("authorization", bearer.as_str()), ("authorization", bearer.as_str())];
    assert_eq!(edge.ask("GET", "/", &two).await.status, StatusCode::UNAUTHORIZED);

    let elsewhere = edge.ask("GET", "/reports", &[("authorization", &bearer)]).await;
    assert_eq!(elsewhere.status, StatusCode::UNAUTHORIZED, "another audience");
    let reports = edge.site.login("reports", &["reports:read"]).await;
    let lacking = format!("Bearer {}", reports.access_token);
    let lacking = edge.ask("GET", "/reports", &[("authorization", &lacking)]).await;
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
    let both = edge.ask("GET", "/reports", &[("authorization", &both)]).await;
    assert_eq!(both.seen("x-auth-scopes"), ["reports:read reports:export"]);

    assert_eq!(
        edge.ask("POST", "/login", &[]).await.status,
        StatusCode::OK,
        "open to everybody"
    );
}

#[tokio::test]
async fn who_asks_is_said_by_nobody_else() {
    let lies = [
        ("x-auth-subject", "root"),
        ("x-auth-session", "root"),
        ("x-auth-client", "root"),
        ("x-auth-scopes", "root"),
        ("x-auth-roles", "root"),
        ("X_Auth_Roles", "root"),
    ];
    let as_delivered = Edge::start(|text| text).await;
    // Without Envoy's own care, only what Countersign told it protects the application.
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
        let passed = edge.ask("GET", "/", &headers).await;
        assert_eq!(passed.seen("x-auth-subject"), [edge.site.ada.as_str()]);
        assert_eq!(passed.seen("x-auth-session"), [tokens.session_id.as_str()]);
        assert_eq!(passed.seen("x-auth-roles"), ["author editor"]);
        assert!(!passed.body.contains("root"), "{}", passed.body);
    }
    let open = as_delivered.ask("GET", "/login", &lies).await;
    assert!(
        open.status == StatusCode::OK && !open.body.contains("root"),
        "{}",
        open.body
    );
}

#[tokio::test]
async fn cookies_are_renewed_on_the_way_and_cleared_when_stolen() {
    let edge = Edge::start(|text| text).await;
    let tokens = edge.site.login("api", &[]).await;
    let stale = cookies("", &tokens.refresh_token);

    let passed = edge.ask("GET", "/", &[("cookie", &stale)]).await;
    assert_eq!(passed.seen("x-auth-subject"), [edge.site.ada.as_str()]);
    assert_eq!(passed.seen("cookie"), ["theme=dark"]);
    let (access, refresh) = (passed.cookie(ACCESS).unwrap(), passed.cookie(REFRESH).unwrap());
    assert_eq!(
        passed.cookie("app").as_deref(),
        Some("1"),
        "the application's own cookie stays"
    );
    assert_eq!(passed.cookies().count(), 3);

    let fresh = cookies(&access, &refresh);
    let again = edge.ask("GET", "/", &[("cookie", &fresh)]).await;
    assert!(again.status == StatusCode::OK && again.cookie(ACCESS).is_none());
    let forged = [("cookie", fresh.as_str()), ("sec-fetch-site", "cross-site")];
    let forged = edge.ask("POST", "/", &forged).await;
    assert_eq!(
        (forged.status, forged.error().as_str()),
        (StatusCode::FORBIDDEN, "cross_site")
    );
    let own = [("cookie", fresh.as_str()), ("sec-fetch-site", "same-origin")];
    assert_eq!(edge.ask("POST", "/", &own).await.status, StatusCode::OK);
    let streaming = edge.ask("GET", "/events", &[("cookie", &cookies("", &refresh))]).await;
    assert_eq!(
        (streaming.status, streaming.cookies().count()),
        (StatusCode::UNAUTHORIZED, 0)
    );

    // One generation on, the first is older than any retry.
    let newer = edge.ask("GET", "/", &[("cookie", &cookies("", &refresh))]).await;
    assert!(newer.cookie(REFRESH).is_some());
    let stolen = edge.ask("GET", "/", &[("cookie", &stale)]).await;
    assert_eq!(stolen.status, StatusCode::UNAUTHORIZED);
    assert_eq!(stolen.cookie(ACCESS).as_deref(), Some(""));
    assert_eq!(stolen.cookie(REFRESH).as_deref(), Some(""));
    let out = edge.ask("GET", "/", &[("cookie", &cookies(&access, &refresh))]).await;
    assert_eq!(
        out.status,
        StatusCode::UNAUTHORIZED,
        "everything of that session is dead"
    );
    assert!(!edge.site.server.log().contains(SECRET));
}

#[tokio::test]
async fn an_outage_is_no_bad_token_and_envoy_decides() {
    let closed = Edge::start(|text| text).await;
    let bearer = format!("Bearer {}", closed.site.login("api", &[]).await.access_token);
    let headers = [("authorization", bearer.as_str()), ("x-auth-subject", "root")];
    let Edge { site, envoy } = closed;
    site.server.kill();
    let answer = ask(envoy.address, "GET", "/", &headers).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((answer.header("www-authenticate"), answer.cookies().count()), ("", 0));

    let open = Edge::start(|text| text.replace("failure_mode_allow: false", "failure_mode_allow: true")).await;
    let Edge { site, envoy } = open;
    site.server.kill();
    let answer = ask(envoy.address, "GET", "/", &headers).await;
    assert!(answer.seen("x-auth-subject").is_empty(), "let through as nobody");
}

#[tokio::test]
async fn envoys_own_reader_of_tokens_agrees_and_does_not_know_what_is_revoked() {
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
    let ask = |bearer: String| {
        let address = envoy.address;
        async move { ask(address, "GET", "/", &[("authorization", bearer.as_str())]).await }
    };
    assert_eq!(ask(bearer.clone()).await.seen("x-auth-subject"), [site.ada.as_str()]);
    let broken = ask(format!("{}x", &bearer[..bearer.len() - 4])).await;
    assert_eq!(broken.status, StatusCode::UNAUTHORIZED);
    assert!(broken.body.contains("Jwt"), "refused by Envoy itself: {}", broken.body);

    site.caller.revoke(Target::Token(tokens.refresh_token)).await.unwrap();
    let revoked = ask(bearer).await;
    assert_eq!(
        (revoked.status, revoked.error().as_str()),
        (StatusCode::UNAUTHORIZED, "invalid_token")
    );
}
