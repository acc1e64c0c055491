//! `/authorize`, called directly and by nginx, Traefik and Caddy, each configured as the README shows.

use std::net::SocketAddr;

use http::StatusCode;

use crate::application::{Response, send, start};
use crate::hostile::{LOOKALIKES, MALFORMED_BEARERS};
use crate::proxies::RunningProxy;
use crate::recipes::Kind;
use crate::site::{ACCESS, REFRESH, SECRET, Site, cookies};
use crate::support::Admin;

pub(crate) fn side_port(site: &Site) -> SocketAddr {
    site.server.http_url().trim_start_matches("http://").parse().unwrap()
}

#[tokio::test]
async fn only_the_proxy_may_call_authorize() {
    let site = Site::start();
    let bearer = format!("Bearer {}", site.login("api", &["read"]).await.access_token);
    let good = ("authorization", bearer.as_str());
    let to = side_port(&site);
    let wrong = ("x-forward-auth-secret", "a-shared-secret-of-the-testz");
    for headers in [&[good][..], &[good, wrong]] {
        let answer = send(to, "GET", "/authorize", headers).await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (StatusCode::FORBIDDEN, "unknown_proxy")
        );
    }
    let proxy = ("x-forward-auth-secret", SECRET);
    let answer = send(to, "GET", "/authorize?scopes=read", &[good, proxy]).await;
    assert_eq!(
        (answer.status, answer.header("x-auth-subject")),
        (StatusCode::OK, site.ada.as_str())
    );
    let answer = send(to, "GET", "/authorize?scopes=write", &[good, proxy]).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (StatusCode::FORBIDDEN, "insufficient_scope")
    );
    let answer = send(to, "GET", "/authorize?scope=write", &[good, proxy]).await;
    assert_eq!(
        answer.status,
        StatusCode::BAD_REQUEST,
        "a misspelt secret opens nothing"
    );

    // Without a secret, all callers may call it if anonymous callers may validate. If it is off, the path does not
    // exist.
    let open = Site::with(&[("gateway.forward_auth_secret", "")]);
    let answer = send(side_port(&open), "GET", "/authorize", &[]).await;
    assert_eq!(
        (answer.status, answer.header("www-authenticate")),
        (StatusCode::UNAUTHORIZED, "Bearer realm=\"api\"")
    );
    let off = Site::with(&[("gateway.forward_auth", "false")]);
    assert_eq!(
        send(side_port(&off), "GET", "/authorize", &[]).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_missing_method_is_treated_as_any_method() {
    let site = Site::start();
    let tokens = site.login("api", &[]).await;
    let cookie = cookies(&tokens.access_token, &tokens.refresh_token);
    let request_headers = [("x-forward-auth-secret", SECRET), ("cookie", cookie.as_str())];
    let to = side_port(&site);
    let answer = send(to, "GET", "/authorize", &request_headers).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (StatusCode::FORBIDDEN, "cross_site")
    );
    let with_method = [&request_headers[..], &[("x-forwarded-method", "GET")]].concat();
    let answer = send(to, "GET", "/authorize", &with_method).await;
    assert_eq!((answer.status, answer.header("cookie")), (StatusCode::OK, "theme=dark"));
}

#[tokio::test]
async fn a_refusal_shows_new_tokens_only_to_the_browser_and_not_to_scripts() {
    let site = Site::start();
    let tokens = site.login("api", &[]).await;
    let cookie = cookies("", &tokens.refresh_token);
    let mut request_headers = vec![
        ("x-forward-auth-secret", SECRET),
        ("x-forwarded-method", "GET"),
        ("cookie", cookie.as_str()),
    ];
    let to = side_port(&site);
    // Some proxies pass a refusal on with all its headers.
    let refused = send(to, "GET", "/authorize?scopes=write", &request_headers).await;
    assert_eq!(
        (refused.status, refused.header("x-set-refresh-cookie")),
        (StatusCode::FORBIDDEN, "")
    );
    let next = cookies("", &refused.cookie(REFRESH).unwrap());
    request_headers[2].1 = &next;
    let renewed = send(to, "GET", "/authorize", &request_headers).await;
    assert_eq!(renewed.status, StatusCode::OK);
    assert!(renewed.header("x-set-refresh-cookie").starts_with(REFRESH));
    // Two generations old, so it is a reuse.
    request_headers[2].1 = &cookie;
    let stolen = send(to, "GET", "/authorize", &request_headers).await;
    assert_eq!(stolen.status, StatusCode::UNAUTHORIZED);
    assert!(stolen.header("x-set-refresh-cookie").contains("Max-Age=0"));
}

/// The checks that every proxy must pass.
async fn assert_proxy(site: &Site, proxy: &RunningProxy) {
    let send = |method: &'static str, headers: Vec<(&'static str, String)>| async move {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        send(proxy.address, method, "/page?x=y", &headers).await
    };
    let tokens = site.login("api", &[]).await;
    let bearer = format!("Bearer {}", tokens.access_token);

    let lies = vec![
        ("authorization", bearer),
        ("x-auth-subject", "root".to_owned()),
        ("x-auth-scopes", "root".to_owned()),
    ];
    let passed: Response = send("POST", lies).await;
    assert_eq!(passed.received_header("x-auth-subject"), [site.ada.as_str()]);
    assert_eq!(passed.received_header("x-auth-session"), [tokens.session_id.as_str()]);
    assert!(!passed.body.contains("root"), "{}", passed.body);
    assert!(
        !passed.body.contains(SECRET),
        "the secret stays between proxy and Countersign"
    );
    assert!(passed.body.contains("/page?x=y"));

    let anonymous = send("GET", vec![]).await;
    assert_eq!(anonymous.status, StatusCode::UNAUTHORIZED);
    assert!(anonymous.header("www-authenticate").starts_with("Bearer"));

    let stale = cookies("", &tokens.refresh_token);
    let renewed = send("GET", vec![("cookie", stale.clone())]).await;
    assert_eq!(renewed.received_header("x-auth-subject"), [site.ada.as_str()]);
    assert_eq!(renewed.received_header("cookie"), ["theme=dark"]);
    let (access, refresh) = (renewed.cookie(ACCESS).unwrap(), renewed.cookie(REFRESH).unwrap());
    assert_eq!(renewed.cookie("app").as_deref(), Some("1"));
    assert!(
        renewed
            .cookies()
            .all(|cookie| cookie.starts_with("app=") || cookie.contains("; HttpOnly; Secure"))
    );

    let fresh = cookies(&access, &refresh);
    let again = send("GET", vec![("cookie", fresh.clone())]).await;
    assert_eq!(
        (again.status, again.cookies().count()),
        (StatusCode::OK, 1),
        "{again:?}"
    );
    let site_header = |site: &str| vec![("cookie", fresh.clone()), ("sec-fetch-site", site.to_owned())];
    assert_eq!(
        send("POST", site_header("cross-site")).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(send("POST", site_header("same-origin")).await.status, StatusCode::OK);
    let origin = |origin: &str| vec![("cookie", fresh.clone()), ("origin", origin.to_owned())];
    assert_eq!(
        send("POST", origin("https://evil.example")).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(send("POST", origin("https://app.example")).await.status, StatusCode::OK);

    for name in LOOKALIKES {
        let answer = send("GET", vec![("cookie", fresh.clone()), (name, "root".to_owned())]).await;
        let is_refused = (answer.status, answer.body.contains("reserved_header")) == (StatusCode::FORBIDDEN, true);
        // The proxy removed the header, or it does not pass on the answer's body.
        let is_removed = answer.status == StatusCode::OK && !answer.body.contains("root");
        let is_nginx = answer.status == StatusCode::FORBIDDEN && answer.header("server").starts_with("nginx");
        assert!(is_refused || is_removed || is_nginx, "{name}: {answer:?}");
    }
    for value in MALFORMED_BEARERS {
        let answer = send(
            "GET",
            vec![("cookie", fresh.clone()), ("authorization", value.to_owned())],
        )
        .await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{value:?}: {answer:?}");
    }
    let basic = vec![("cookie", fresh.clone()), ("authorization", "Basic YTpi".to_owned())];
    let basic = send("GET", basic).await;
    assert_eq!(
        basic.received_header("authorization"),
        ["Basic YTpi"],
        "for the application"
    );

    // Two generations old, so it is a reuse, which is in the audit trail with the address that the proxy saw.
    let newer = send("GET", vec![("cookie", cookies("", &refresh))]).await;
    assert!(newer.cookie(REFRESH).is_some());
    let spoofed = vec![("cookie", stale), ("x-forwarded-for", "10.9.9.9".to_owned())];
    assert_eq!(send("GET", spoofed).await.status, StatusCode::UNAUTHORIZED);
    let events = Admin::of(&site.server).events("token.refresh.reused").await;
    let addresses: Vec<&str> = events.iter().map(|event| event.ip_address.as_str()).collect();
    assert_eq!(addresses, ["127.0.0.1"]);
}

#[tokio::test]
async fn nginx_authorizes_every_request() {
    let (site, application) = (Site::start(), start().await);
    assert_proxy(&site, &Kind::Nginx.start(&site, application, |text| text).await).await;
}

#[tokio::test]
async fn traefik_authorizes_every_request() {
    let (site, application) = (Site::start(), start().await);
    assert_proxy(&site, &Kind::Traefik.start(&site, application, |text| text).await).await;
}

#[tokio::test]
async fn caddy_authorizes_every_request() {
    let (site, application) = (Site::start(), start().await);
    assert_proxy(&site, &Kind::Caddy.start(&site, application, |text| text).await).await;
}
