//! What routes state behind each of the four proxies: that a credential is optional, the roles that they need; further headers
//! about the caller; and an outage, which is the same answer everywhere.

use std::net::SocketAddr;

use countersign::proto::revoke_request::Target;
use http::StatusCode;
use tonic_types::StatusExt as _;

use crate::application::{Response, send, start};
use crate::proxies::RunningProxy;
use crate::recipes::Kind;
use crate::site::{REFRESH, Site, allowed, cookies, denied, set_cookie, values};

async fn get(proxy: &RunningProxy, path: &str, headers: &[(&str, &str)]) -> Response {
    send(proxy.address, "GET", path, headers).await
}

#[tokio::test]
async fn an_optional_route_admits_requests_without_a_credential_and_names_users() {
    let (site, application) = (Site::start(), start().await);
    for kind in Kind::ALL {
        let proxy = kind
            .start(&site, application, kind.with_settings(&[("optional", "true")]))
            .await;
        let tokens = site.login("api", &[]).await;
        let bearer = format!("Bearer {}", tokens.access_token);
        let anonymous = get(&proxy, "/", &[("x-auth-subject", "root")]).await;
        assert!(anonymous.received_header("x-auth-subject").is_empty(), "{kind:?}");
        assert!(!anonymous.body.contains("root"), "{kind:?}: {}", anonymous.body);
        let known = get(&proxy, "/", &[("authorization", &bearer)]).await;
        assert_eq!(known.received_header("x-auth-subject"), [site.ada.as_str()], "{kind:?}");
        let stale = cookies("", &tokens.refresh_token);
        let renewed = get(&proxy, "/", &[("cookie", &stale)]).await;
        assert_eq!(
            renewed.received_header("x-auth-subject"),
            [site.ada.as_str()],
            "{kind:?}"
        );
        assert!(
            renewed.cookie(REFRESH).is_some_and(|token| !token.is_empty()),
            "{kind:?}"
        );

        // A bearer token that is not good is refused: its client must get a new one.
        for bad in ["Bearer bad", "Bearer", "Bearer:x"] {
            let refused = get(&proxy, "/", &[("authorization", bad)]).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{kind:?} {bad}");
        }
        // A browser whose session is over, or whose request another site has caused, is a visitor.
        let forged = [("cookie", stale.as_str()), ("sec-fetch-site", "cross-site")];
        let forged = send(proxy.address, "POST", "/", &forged).await;
        assert!(forged.received_header("x-auth-subject").is_empty(), "{kind:?}");
        assert_eq!(forged.received_header("cookie"), ["theme=dark"], "{kind:?}");
        site.caller.revoke(Target::Token(tokens.refresh_token)).await.unwrap();
        let over = get(&proxy, "/", &[("cookie", &stale)]).await;
        assert!(over.received_header("x-auth-subject").is_empty(), "{kind:?}");
        assert_eq!(over.received_header("cookie"), ["theme=dark"], "{kind:?}");
        assert_eq!(
            over.cookie(REFRESH).as_deref(),
            Some(""),
            "{kind:?}: the cookie is removed"
        );
    }
}

#[tokio::test]
async fn a_route_with_roles_admits_users_who_have_one_of_them() {
    let (site, application) = (Site::start(), start().await);
    let tokens = site.login("api", &[]).await;
    let bearer = format!("Bearer {}", tokens.access_token);
    let good = ("authorization", bearer.as_str());
    for kind in Kind::ALL {
        // In a query, `+` is a space.
        let separator = if kind == Kind::Envoy { " " } else { "+" };
        let roles = |names: [&str; 2]| names.join(separator);
        let open = kind
            .start(
                &site,
                application,
                kind.with_settings(&[("roles", &roles(["chief", "editor"]))]),
            )
            .await;
        let passed = get(&open, "/", &[good]).await;
        assert_eq!(
            passed.received_header("x-auth-subject"),
            [site.ada.as_str()],
            "{kind:?}"
        );
        assert_eq!(get(&open, "/", &[]).await.status, StatusCode::UNAUTHORIZED, "{kind:?}");

        let closed = kind
            .start(
                &site,
                application,
                kind.with_settings(&[("roles", &roles(["chief", "edit"]))]),
            )
            .await;
        let html = ("accept", "text/html");
        let refused = get(&closed, "/", &[("cookie", &cookies(&tokens.access_token, "")), html]).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{kind:?}: {refused:?}");
        assert!(
            kind == Kind::Nginx || refused.error() == "insufficient_role",
            "{kind:?}: {refused:?}"
        );
        assert_eq!(
            get(&closed, "/", &[good]).await.status,
            StatusCode::FORBIDDEN,
            "{kind:?}"
        );
    }
    // Envoy's own example.
    let envoy = Kind::Envoy.start(&site, application, |text| text).await;
    assert_eq!(get(&envoy, "/desk", &[good]).await.status, StatusCode::OK);
    assert_eq!(get(&envoy, "/news", &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_misspelt_setting_of_a_route_opens_nothing() {
    let (site, application) = (Site::start(), start().await);
    let bearer = format!("Bearer {}", site.login("api", &[]).await.access_token);
    for setting in ["role", "Roles", "scope", "audiences", ""] {
        let refused = site
            .check("GET", &[("authorization", &bearer)], &[(setting, "admin")])
            .await;
        let status = refused.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{setting}: {status:?}");
        let field = format!("context_extensions[\"{setting}\"]");
        assert!(
            status.get_error_details().bad_request().is_some_and(|bad| {
                bad.field_violations
                    .iter()
                    .any(|violation| violation.field.ends_with(&field))
            }),
            "{status:?}"
        );
    }
    for kind in Kind::ALL {
        let proxy = kind
            .start(&site, application, kind.with_settings(&[("role", "admin")]))
            .await;
        let answer = get(&proxy, "/", &[("authorization", &bearer)]).await;
        assert!(
            answer.status.is_client_error() || answer.status.is_server_error(),
            "{kind:?}: {}",
            answer.status
        );
    }
}

#[tokio::test]
async fn the_user_name_and_chosen_attributes_are_in_headers_that_no_client_can_set() {
    let site = Site::with(&[
        ("tokens.username_claim", "true"),
        ("gateway.attributes", "legacy_id,tags,absent"),
    ]);
    site.storage
        .run(&[
            "user",
            "update",
            "ada",
            "--attributes",
            r#"{"legacy_id": 4711, "tags": ["a", "ü"], "secret": "s3"}"#,
        ])
        .succeed();
    let application = start().await;
    let bearer = format!("Bearer {}", site.login("api", &[]).await.access_token);
    let good = ("authorization", bearer.as_str());
    let more = ["legacy-id", "tags", "absent"];
    for kind in Kind::ALL {
        // What the comments of the recipes say to add.
        let with_attributes = |text: String| match kind {
            Kind::Nginx => {
                let add = |name: &str| {
                    let variable = name.replace('-', "_");
                    format!(
                        "auth_request_set $auth_{variable} $upstream_http_x_auth_{variable};\n    \
                         proxy_set_header X-Auth-{name} $auth_{variable};\n    "
                    )
                };
                let at = "    auth_request_set $auth_rest";
                text.replace(at, &format!("    {}{}", more.map(add).concat(), at.trim_start()))
            }
            Kind::Caddy => {
                let names = more.map(|name| format!("X-Auth-{name} ")).concat();
                text.replace("copy_headers ", &format!("copy_headers {names}"))
            }
            Kind::Envoy | Kind::Traefik => text,
        };
        let proxy = kind.start(&site, application, with_attributes).await;
        let passed = get(&proxy, "/", &[good]).await;
        for (name, value) in [
            ("x-auth-username", "ada"),
            ("x-auth-legacy-id", "4711"),
            ("x-auth-tags", "a ü"),
        ] {
            assert_eq!(passed.received_header(name), [value], "{kind:?}");
        }
        assert!(
            passed.received_header("x-auth-absent").is_empty() && !passed.body.contains("s3"),
            "{kind:?}"
        );

        for name in [
            "x-auth-username",
            "x-auth-legacy-id",
            "x-auth-absent",
            "x-auth-secret",
            "X_Auth_Legacy_Id",
        ] {
            let lie = get(&proxy, "/", &[good, (name, "root")]).await;
            if lie.status == StatusCode::FORBIDDEN {
                assert_ne!(kind, Kind::Envoy, "Envoy removes the header");
                continue;
            }
            assert_eq!(lie.received_header("x-auth-username"), ["ada"], "{kind:?} {name}");
            assert_eq!(lie.received_header("x-auth-legacy-id"), ["4711"], "{kind:?} {name}");
            assert!(!lie.body.contains("root"), "{kind:?} {name}: {}", lie.body);
        }
    }

    // A proxy that does not know the header does not overwrite it, so the request is refused.
    let secret = ("x-forward-auth-secret", crate::site::SECRET);
    let side_port: SocketAddr = crate::forward_auth::side_port(&site);
    let refused = send(
        side_port,
        "GET",
        "/authorize",
        &[good, secret, ("x-auth-username", "root")],
    )
    .await;
    assert_eq!(
        (refused.status, refused.error().as_str()),
        (StatusCode::FORBIDDEN, "reserved_header")
    );
    // Check, without Envoy's own removal.
    let ok = allowed(
        site.check("GET", &[good, ("X-Auth-Username", "root")], &[])
            .await
            .unwrap(),
    );
    assert_eq!(values(&ok.headers, "x-auth-username"), ["ada"]);
    assert!(!ok.headers_to_remove.contains(&"X-Auth-Username".to_owned()));
    assert!(ok.headers_to_remove.contains(&"x-auth-absent".to_owned()));
}

#[tokio::test]
async fn without_the_name_in_the_token_a_client_cannot_set_it_either() {
    let site = Site::start();
    let bearer = format!("Bearer {}", site.login("api", &[]).await.access_token);
    let headers = [("authorization", bearer.as_str()), ("x-auth-username", "root")];
    let ok = allowed(site.check("GET", &headers, &[]).await.unwrap());
    assert!(values(&ok.headers, "x-auth-username").is_empty());
    assert!(ok.headers_to_remove.contains(&"x-auth-username".to_owned()));
}

#[tokio::test]
async fn check_sends_browsers_to_the_login_page_of_the_configuration_too() {
    let site = Site::with(&[("gateway.login_url", "https://login.example/start")]);
    let page = [("accept", "text/html"), ("sec-fetch-mode", "navigate")];
    let (status, refusal) = denied(site.check("GET", &page, &[]).await.unwrap());
    assert_eq!(
        (status, values(&refusal.headers, "location").concat().as_str()),
        (
            303,
            "https://login.example/start?return_to=https%3A%2F%2Fapp.example%2F"
        )
    );
    let (status, refusal) = denied(site.check("GET", &page, &[("login", "/enter")]).await.unwrap());
    assert_eq!(
        (status, values(&refusal.headers, "location").concat().as_str()),
        (303, "/enter?return_to=%2F")
    );
    assert_eq!(set_cookie(&refusal.headers, REFRESH), None);
    // nginx does not take the redirect.
    let application = start().await;
    let nginx = Kind::Nginx.start(&site, application, |text| text).await;
    let sent = get(&nginx, "/", &page).await;
    assert_eq!(
        (sent.status, sent.header("location")),
        (StatusCode::SEE_OTHER, "/login?return_to=%2F")
    );
}

#[tokio::test]
async fn an_outage_is_503_with_retry_after_in_every_proxy_and_errors_of_the_application_stay() {
    for kind in Kind::ALL {
        let (site, application) = (Site::start(), start().await);
        let proxy = kind.start(&site, application, |text| text).await;
        let bearer = format!("Bearer {}", site.login("api", &[]).await.access_token);
        let headers = [("authorization", bearer.as_str()), ("accept", "text/html")];
        let broken = get(&proxy, "/broken", &headers).await;
        assert_eq!(broken.status, StatusCode::INTERNAL_SERVER_ERROR, "{kind:?}");
        assert!(
            broken.body.contains("/broken"),
            "{kind:?}: the application's own answer"
        );
        site.server.kill();
        let down = get(&proxy, "/", &headers).await;
        assert_eq!(
            (down.status, down.header("retry-after")),
            (StatusCode::SERVICE_UNAVAILABLE, "1"),
            "{kind:?}: {down:?}"
        );
        assert_eq!(
            (down.header("www-authenticate"), down.cookies().count()),
            ("", 0),
            "{kind:?}"
        );
        assert_eq!(get(&proxy, "/login", &headers).await.status, StatusCode::OK, "{kind:?}");
    }
}
