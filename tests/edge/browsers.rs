//! What browsers meet behind each of the four proxies: the way to the login page, CORS preflights, large cookie jars, and
//! cookies that they send twice.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::StatusCode;

use crate::application::{Response, send, send_body, start};
use crate::recipes::Kind;
use crate::site::{REFRESH, Site, cookies};

/// The headers with which a browser loads a page.
const PAGE: [(&str, &str); 2] = [
    ("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
    ("sec-fetch-mode", "navigate"),
];

#[tokio::test]
async fn a_browser_is_sent_to_the_login_page_and_a_script_is_not() {
    let (site, application) = (Site::start(), start().await);
    for kind in Kind::ALL {
        let proxy = kind.start(&site, application, |text| text).await;
        let ask = |method: &'static str, headers: Vec<(&'static str, String)>| async move {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            send(proxy.address, method, "/page?a=b&c=d", &headers).await
        };
        let page = || PAGE.map(|(name, value)| (name, value.to_owned())).to_vec();
        let sent = ask("GET", page()).await;
        assert_eq!(
            (sent.status, sent.header("location")),
            (StatusCode::SEE_OTHER, "/login?return_to=%2Fpage%3Fa%3Db%26c%3Dd"),
            "{kind:?}"
        );
        // Its session is over: it is sent there too, and its cookies are removed.
        let gone = site.login("api", &[]).await;
        let revoked = countersign::proto::revoke_request::Target::Token(gone.refresh_token.clone());
        site.caller.revoke(revoked).await.unwrap();
        let stale = cookies("", &gone.refresh_token);
        let sent = ask("GET", [page(), vec![("cookie", stale.clone())]].concat()).await;
        assert_eq!(
            (sent.status, sent.cookie(REFRESH).as_deref()),
            (StatusCode::SEE_OTHER, Some("")),
            "{kind:?}"
        );

        for (method, headers) in [
            ("GET", vec![("accept", "application/json".to_owned())]),
            (
                "GET",
                vec![
                    ("accept", "text/html, */*".to_owned()),
                    ("sec-fetch-mode", "cors".to_owned()),
                ],
            ),
            ("GET", vec![]),
            ("POST", page()),
            (
                "GET",
                [page(), vec![("authorization", "Bearer expired".to_owned())]].concat(),
            ),
            ("GET", vec![("cookie", stale)]),
        ] {
            let refused = ask(method, headers.clone()).await;
            assert_eq!(
                refused.status,
                StatusCode::UNAUTHORIZED,
                "{kind:?} {method} {headers:?}"
            );
            assert_eq!(refused.header("location"), "");
            assert!(
                refused.headers.get_all("www-authenticate").iter().count() == 1,
                "{kind:?}: {refused:?}"
            );
            assert!(
                refused.header("www-authenticate").starts_with("Bearer"),
                "{kind:?}: {refused:?}"
            );
            assert!(!refused.error().is_empty(), "{kind:?}");
        }

        // The login page itself is open, and no identity can be forged there.
        let lies = ["x-auth-subject", "x-auth-username", "x-auth-roles"].map(|name| (name, "root"));
        let login = send(
            proxy.address,
            "GET",
            "/login?return_to=%2Fpage",
            &[&PAGE[..], &lies].concat(),
        )
        .await;
        assert_eq!(login.status, StatusCode::OK, "{kind:?}");
        assert!(!login.body.contains("root"), "{kind:?}: {}", login.body);
        assert_eq!(send(proxy.address, "POST", "/login", &[]).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_preflight_reaches_the_application_and_the_request_after_it_needs_a_token() {
    let (site, application) = (Site::start(), start().await);
    let origin = ("origin", "https://spa.example");
    let preflight = [
        origin,
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "authorization"),
    ];
    for kind in Kind::ALL {
        let proxy = kind.start(&site, application, |text| text).await;
        let passed = send(proxy.address, "OPTIONS", "/orders", &preflight).await;
        assert!(passed.received_header("x-auth-subject").is_empty(), "{kind:?}");
        assert!(passed.body.contains("\"OPTIONS\""), "{kind:?}: {}", passed.body);
        for (method, headers) in [("PUT", &preflight[..]), ("OPTIONS", &[origin]), ("OPTIONS", &[])] {
            let refused = send(proxy.address, method, "/orders", headers).await;
            assert_eq!(
                refused.status,
                StatusCode::UNAUTHORIZED,
                "{kind:?} {method} {headers:?}"
            );
        }
        // What is no preflight of a browser is not open: a browser sends none with a credential.
        let bad = [&preflight[..], &[("authorization", "Bearer bad")]].concat();
        assert_eq!(
            send(proxy.address, "OPTIONS", "/", &bad).await.status,
            StatusCode::UNAUTHORIZED
        );
    }
}

/// Cookies of the application that take about this many bytes.
fn jar(bytes: usize) -> String {
    let cookies: Vec<String> = (0..bytes / 500)
        .map(|n| format!("app{n:04}={}", "v".repeat(490)))
        .collect();
    cookies.join("; ")
}

#[tokio::test]
async fn a_large_cookie_jar_passes_and_reaches_the_application() {
    let (site, application) = (Site::start(), start().await);
    let mut refresh = site.login("api", &[]).await.refresh_token;
    for kind in Kind::ALL {
        let proxy = kind.start(&site, application, |text| text).await;
        let large = jar(100_000);
        let sent = format!("{REFRESH}={refresh}; {large}");
        // The cookies are renewed too.
        let passed = send(proxy.address, "GET", "/", &[("cookie", &sent)]).await;
        assert_eq!(passed.status, StatusCode::OK, "{kind:?}: {}", passed.body);
        assert_eq!(
            passed.received_header("x-auth-subject"),
            [site.ada.as_str()],
            "{kind:?}"
        );
        assert_eq!(passed.received_header("cookie"), [large.as_str()], "{kind:?}");
        refresh = passed.cookie(REFRESH).expect("renewed");
        let refused = send(proxy.address, "GET", "/", &[("cookie", &large)]).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{kind:?}");
    }
}

/// The cookies that a browser stores, each by name, domain and path (RFC 6265 §5.3), of one site.
#[derive(Debug, Default)]
struct Browser(BTreeSet<(String, String, String, String)>);

impl Browser {
    const HOST: &str = "app.shop.example";

    fn set(&mut self, cookie: &str) {
        let mut parts = cookie.split(';').map(str::trim);
        let (name, value) = parts.next().unwrap().split_once('=').unwrap();
        let (mut domain, mut path, mut expired) = (String::new(), "/".to_owned(), false);
        for part in parts {
            match part.split_once('=') {
                Some(("Domain", given)) => given.clone_into(&mut domain),
                Some(("Path", given)) => given.clone_into(&mut path),
                Some(("Max-Age", "0")) => expired = true,
                _ => {}
            }
        }
        let is_ours = domain.is_empty() || Self::HOST == domain || Self::HOST.ends_with(&format!(".{domain}"));
        assert!(is_ours, "a cookie for another site: {cookie}");
        self.0
            .retain(|(other, at, below, _)| (other.as_str(), at, below) != (name, &domain, &path));
        if !expired {
            self.0.insert((name.to_owned(), domain, path, value.to_owned()));
        }
    }

    /// The header for a request to this path.
    fn header(&self, path: &str) -> String {
        let is_below = |prefix: &str| {
            path == prefix
                || path.starts_with(prefix) && (prefix.ends_with('/') || path[prefix.len()..].starts_with('/'))
        };
        let sent = self.0.iter().filter(|(_, _, prefix, _)| is_below(prefix));
        let sent: Vec<String> = sent.map(|(name, _, _, value)| format!("{name}={value}")).collect();
        sent.join("; ")
    }

    fn receive(&mut self, answer: &Response) {
        answer.cookies().for_each(|cookie| self.set(cookie));
    }
}

#[tokio::test]
async fn duplicates_of_custom_cookies_are_cleared_and_the_user_can_log_in_again() {
    let site = Site::with(&[("gateway.access_cookie", "at"), ("gateway.refresh_cookie", "rt")]);
    let application = start().await;
    for kind in Kind::ALL {
        let proxy = kind
            .start(&site, application, |text| text.replace("__Host-cs_", ""))
            .await;
        let path = "/account/keys/new?x=y";
        let mut browser = Browser::default();
        // A sibling host, or an earlier version of the application, has set the names too.
        for planted in [
            "rt=planted; Domain=shop.example; Path=/",
            "rt=planted; Domain=app.shop.example; Path=/account",
            "at=planted; Path=/account/keys/",
        ] {
            browser.set(planted);
        }
        let tokens = site.login("api", &[]).await;
        let log_in = |browser: &mut Browser| {
            browser.set(&format!("at={}; Path=/; Max-Age=900", tokens.access_token));
            browser.set(&format!("rt={}; Path=/; Max-Age=900", tokens.refresh_token));
        };
        log_in(&mut browser);
        let ask = async |browser: &Browser| {
            let headers = [
                ("host", Browser::HOST),
                ("cookie", &browser.header("/account/keys/new")),
            ];
            send(proxy.address, "GET", path, &headers).await
        };
        let refused = ask(&browser).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{kind:?}");
        browser.receive(&refused);
        assert!(
            !browser.header("/account/keys/new").contains("planted"),
            "{kind:?}: {browser:?}"
        );
        log_in(&mut browser);
        let passed = ask(&browser).await;
        assert_eq!(
            passed.received_header("x-auth-subject"),
            [site.ada.as_str()],
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn envoy_may_send_the_body_of_a_request_too() {
    let (site, application) = (Site::start(), start().await);
    let with_body = |text: String| {
        let from = "                      transport_api_version: V3\n";
        let body = "with_request_body: { max_request_bytes: 1048576, allow_partial_message: true }";
        text.replace(from, &format!("{from}                      {body}\n"))
    };
    let proxy = Kind::Envoy.start(&site, application, with_body).await;
    let bearer = format!("Bearer {}", site.login("api", &[]).await.access_token);
    let headers = [("authorization", bearer.as_str()), ("cookie", &jar(30_000))];
    for size in [10, 100_000, 1_048_576, 3_000_000] {
        let body = Bytes::from(vec![b'x'; size]);
        let passed = send_body(proxy.address, "POST", "/", &headers, body).await.unwrap();
        assert_eq!(passed.status, StatusCode::OK, "{size}: {}", passed.body);
        assert!(
            passed.body.contains(&format!("\"size\":{size}")),
            "{size}: {}",
            passed.body
        );
    }
}
