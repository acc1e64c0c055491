//! `/authorize`, asked directly and by nginx, Traefik and Caddy, each configured as the README shows it.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;

use crate::application::{Answer, ask, start};
use crate::proxies::{Proxied, caddy, nginx, traefik};
use crate::site::{ACCESS, REFRESH, SECRET, Site, cookies};
use crate::support::eventually;

fn side_port(site: &Site) -> SocketAddr {
    site.server.http_url().trim_start_matches("http://").parse().unwrap()
}

#[tokio::test]
async fn only_the_proxy_may_ask() {
    let site = Site::start();
    let bearer = format!("Bearer {}", site.login("api", &["read"]).await.access_token);
    let good = ("authorization", bearer.as_str());
    let to = side_port(&site);
    let wrong = ("x-forward-auth-secret", "a-shared-secret-of-the-testz");
    for headers in [&[good][..], &[good, wrong]] {
        let answer = ask(to, "GET", "/authorize", headers).await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (StatusCode::FORBIDDEN, "unknown_proxy")
        );
    }
    let proxy = ("x-forward-auth-secret", SECRET);
    let answer = ask(to, "GET", "/authorize?scopes=read", &[good, proxy]).await;
    assert_eq!(
        (answer.status, answer.header("x-auth-subject")),
        (StatusCode::OK, site.ada.as_str())
    );
    let answer = ask(to, "GET", "/authorize?scopes=write", &[good, proxy]).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (StatusCode::FORBIDDEN, "insufficient_scope")
    );
    let answer = ask(to, "GET", "/authorize?scope=write", &[good, proxy]).await;
    assert_eq!(
        answer.status,
        StatusCode::BAD_REQUEST,
        "a slip of the pen opens nothing"
    );

    // Anybody may where anybody may validate; where it is off, it is not there.
    let open = Site::with(&[("gateway.forward_auth_secret", "")]);
    let answer = ask(side_port(&open), "GET", "/authorize", &[]).await;
    assert_eq!(
        (answer.status, answer.header("www-authenticate")),
        (StatusCode::UNAUTHORIZED, "Bearer realm=\"api\"")
    );
    let off = Site::with(&[("gateway.forward_auth", "false")]);
    assert_eq!(
        ask(side_port(&off), "GET", "/authorize", &[]).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_method_that_is_not_told_may_be_any() {
    let site = Site::start();
    let tokens = site.login("api", &[]).await;
    let cookie = cookies(&tokens.access_token, &tokens.refresh_token);
    let asked = [("x-forward-auth-secret", SECRET), ("cookie", cookie.as_str())];
    let to = side_port(&site);
    let answer = ask(to, "GET", "/authorize", &asked).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (StatusCode::FORBIDDEN, "cross_site")
    );
    let told = [&asked[..], &[("x-forwarded-method", "GET")]].concat();
    let answer = ask(to, "GET", "/authorize", &told).await;
    assert_eq!((answer.status, answer.header("cookie")), (StatusCode::OK, "theme=dark"));
}

#[tokio::test]
async fn a_refusal_shows_tokens_to_the_browser_alone_and_not_to_its_scripts() {
    let site = Site::start();
    let tokens = site.login("api", &[]).await;
    let cookie = cookies("", &tokens.refresh_token);
    let mut asked = vec![
        ("x-forward-auth-secret", SECRET),
        ("x-forwarded-method", "GET"),
        ("cookie", cookie.as_str()),
    ];
    let to = side_port(&site);
    // Some proxies hand a refusal on with all its headers.
    let refused = ask(to, "GET", "/authorize?scopes=write", &asked).await;
    assert_eq!(
        (refused.status, refused.header("x-set-refresh-cookie")),
        (StatusCode::FORBIDDEN, "")
    );
    let next = cookies("", &refused.cookie(REFRESH).unwrap());
    asked[2].1 = &next;
    let renewed = ask(to, "GET", "/authorize", &asked).await;
    assert_eq!(renewed.status, StatusCode::OK);
    assert!(renewed.header("x-set-refresh-cookie").starts_with(REFRESH));
    // Two generations old.
    asked[2].1 = &cookie;
    let stolen = ask(to, "GET", "/authorize", &asked).await;
    assert_eq!(stolen.status, StatusCode::UNAUTHORIZED);
    assert!(stolen.header("x-set-refresh-cookie").contains("Max-Age=0"));
}

/// What every proxy must do, however it is told to.
async fn behaves(site: &Site, proxy: &Proxied) {
    let ask = |method: &'static str, headers: Vec<(&'static str, String)>| async move {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        ask(proxy.address, method, "/page?x=y", &headers).await
    };
    let tokens = site.login("api", &[]).await;
    let bearer = format!("Bearer {}", tokens.access_token);

    let lies = vec![
        ("authorization", bearer),
        ("x-auth-subject", "root".to_owned()),
        ("x-auth-scopes", "root".to_owned()),
    ];
    let passed: Answer = ask("POST", lies).await;
    assert_eq!(passed.seen("x-auth-subject"), [site.ada.as_str()]);
    assert_eq!(passed.seen("x-auth-session"), [tokens.session_id.as_str()]);
    assert!(!passed.body.contains("root"), "{}", passed.body);
    assert!(
        !passed.body.contains(SECRET),
        "the secret stays between proxy and Countersign"
    );
    assert!(passed.body.contains("/page?x=y"));

    let nobody = ask("GET", vec![]).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    assert!(nobody.header("www-authenticate").starts_with("Bearer"));

    let stale = cookies("", &tokens.refresh_token);
    let renewed = ask("GET", vec![("cookie", stale.clone())]).await;
    assert_eq!(renewed.seen("x-auth-subject"), [site.ada.as_str()]);
    assert_eq!(renewed.seen("cookie"), ["theme=dark"]);
    let (access, refresh) = (renewed.cookie(ACCESS).unwrap(), renewed.cookie(REFRESH).unwrap());
    assert_eq!(renewed.cookie("app").as_deref(), Some("1"));
    assert!(
        renewed
            .cookies()
            .all(|cookie| cookie.starts_with("app=") || cookie.contains("; HttpOnly; Secure"))
    );

    let fresh = cookies(&access, &refresh);
    let again = ask("GET", vec![("cookie", fresh.clone())]).await;
    assert_eq!(
        (again.status, again.cookies().count()),
        (StatusCode::OK, 1),
        "{again:?}"
    );
    let site_header = |site: &str| vec![("cookie", fresh.clone()), ("sec-fetch-site", site.to_owned())];
    assert_eq!(
        ask("POST", site_header("cross-site")).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(ask("POST", site_header("same-origin")).await.status, StatusCode::OK);
    let origin = |origin: &str| vec![("cookie", fresh.clone()), ("origin", origin.to_owned())];
    assert_eq!(
        ask("POST", origin("https://evil.example")).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(ask("POST", origin("https://app.example")).await.status, StatusCode::OK);
}

/// A configuration that we deliver, for these addresses.
fn delivered(file: &str, site: &Site, application: SocketAddr) -> String {
    let mut text = std::fs::read_to_string(format!("deploy/{file}")).unwrap();
    for (from, to) in [
        ("http://countersign:50080", site.server.http_url()),
        ("http://app:8000", format!("http://{application}")),
        ("the-shared-secret", SECRET.to_owned()),
    ] {
        assert_eq!(text.matches(from).count(), 1, "{file}: {from}");
        text = text.replace(from, &to);
    }
    text
}

#[tokio::test]
async fn nginx_asks_before_it_lets_anything_through() {
    let (site, application) = (Site::start(), start().await);
    behaves(&site, &nginx(&delivered("nginx.conf", &site, application))).await;
}

#[tokio::test]
async fn traefik_asks_before_it_lets_anything_through() {
    let (site, application) = (Site::start(), start().await);
    let proxy = traefik(&delivered("traefik.yaml", &site, application));
    eventually("traefik has read its routes", Duration::from_secs(20), || async {
        let answer = ask(proxy.address, "GET", "/", &[]).await;
        (answer.status != StatusCode::NOT_FOUND).then_some(())
    })
    .await;
    behaves(&site, &proxy).await;
}

#[tokio::test]
async fn caddy_asks_before_it_lets_anything_through() {
    let (site, application) = (Site::start(), start().await);
    behaves(&site, &caddy(&delivered("Caddyfile", &site, application))).await;
}
