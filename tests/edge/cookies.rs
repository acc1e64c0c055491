//! Tokens in cookies, with `Check` called directly: renewal, theft, requests forged by other sites, and outages.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use futures_util::future::join_all;

use crate::site::{ACCESS, REFRESH, Site, allowed, cookies, denied, request, set_cookie, values};
use crate::support::caller::generation;
use crate::support::eventually;

#[tokio::test]
async fn a_valid_cookie_passes_and_is_not_forwarded() {
    let site = Site::start();
    let tokens = site.login("api", &[]).await;
    let cookie = cookies(&tokens.access_token, &tokens.refresh_token);
    let ok = allowed(site.check("GET", &[("cookie", &cookie)], &[]).await.unwrap());
    assert_eq!(values(&ok.headers, "x-auth-subject"), [site.ada.as_str()]);
    assert_eq!(
        values(&ok.headers, "cookie"),
        ["theme=dark"],
        "Countersign's cookies are not forwarded"
    );
    assert!(ok.response_headers_to_add.is_empty(), "nothing to renew");

    let alone = format!("{ACCESS}={}", tokens.access_token);
    let ok = allowed(site.check("GET", &[("cookie", &alone)], &[]).await.unwrap());
    assert!(ok.headers_to_remove.contains(&"cookie".to_owned()));

    // A bearer token takes precedence over cookies, which may even be invalid, and does not make a cookie valid.
    let bearer = format!("Bearer {}", tokens.access_token);
    let odd = format!("{ACCESS}=a; {ACCESS}=b");
    let ok = allowed(
        site.check("POST", &[("authorization", &bearer), ("cookie", &odd)], &[])
            .await
            .unwrap(),
    );
    assert!(ok.headers_to_remove.contains(&"cookie".to_owned()));
    let bad = [("authorization", "Bearer bad"), ("cookie", cookie.as_str())];
    assert_eq!(denied(site.check("GET", &bad, &[]).await.unwrap()).0, 401);
}

#[tokio::test]
async fn an_expired_cookie_is_renewed_once_for_all_requests_of_a_page() {
    let site = Site::with(&[
        // Expiry is in whole seconds: a shorter life may be over when it begins.
        ("tokens.access_ttl", "3s"),
        ("tokens.access_jitter", "0"),
        ("tokens.leeway", "0s"),
        ("tokens.reuse_policy", "strict"),
        ("tokens.refresh_grace", "5m"),
    ]);
    let tokens = site.login("api", &[]).await;
    let old = cookies(&tokens.access_token, &tokens.refresh_token);
    eventually("the token expires", Duration::from_secs(10), || async {
        site.caller.inactive_reason(&tokens.access_token).await
    })
    .await;
    let old = [("cookie", old.as_str())];

    let page = join_all((0..20).map(|_| site.check("GET", &old, &[]))).await;
    let mut successors: Vec<String> = page
        .into_iter()
        .map(|answer| {
            let ok = allowed(answer.unwrap());
            assert_eq!(values(&ok.headers, "cookie"), ["theme=dark"]);
            let written = values(&ok.response_headers_to_add, "set-cookie");
            assert_eq!(written.len(), 2);
            for cookie in &written {
                assert!(cookie.ends_with("; HttpOnly; Secure; SameSite=Strict"), "{cookie}");
                assert!(cookie.contains("; Path=/; Max-Age="), "{cookie}");
            }
            set_cookie(&ok.response_headers_to_add, REFRESH).unwrap()
        })
        .collect();
    successors.dedup();
    assert_eq!(successors.len(), 1, "all requests get one successor");
    assert_eq!(generation(&successors[0]), generation(&tokens.refresh_token) + 1);
}

#[tokio::test]
async fn renewals_follow_the_policy_of_the_client() {
    let site = Site::start();
    let client = |id: &'static str, policy: &[&str]| {
        let add = ["client", "add", id, "--grant", "password", "--audience", "api"];
        site.storage.run(&[&add[..], policy].concat()).succeed();
    };
    client("once", &["--refresh-grace", "0s"]);
    client("strict", &["--reuse-policy", "strict", "--refresh-grace", "5m"]);
    client("tolerant", &["--reuse-policy", "tolerant", "--refresh-grace", "5m"]);
    // The application refreshed the session itself, with an attempt id; a browser tab still has the previous cookie.
    for (id, attempt, is_accepted) in [
        ("once", "", false),
        ("strict", "", true),
        ("strict", "attempt", false),
        ("tolerant", "attempt", true),
    ] {
        let tokens = site.caller.login_at(id, "ada").await;
        let next = site.caller.refresh_as(&tokens.refresh_token, attempt).await.unwrap();
        let next = next.tokens.unwrap().refresh_token;
        let cookie = format!("{REFRESH}={}", tokens.refresh_token);
        let answer = site.check("GET", &[("cookie", &cookie)], &[]).await.unwrap();
        if is_accepted {
            let ok = allowed(answer);
            assert_eq!(
                set_cookie(&ok.response_headers_to_add, REFRESH),
                Some(next),
                "{id} {attempt}"
            );
        } else {
            let (status, refusal) = denied(answer);
            let cleared = (401, Some(String::new()));
            assert_eq!(
                (status, set_cookie(&refusal.headers, REFRESH)),
                cleared,
                "{id} {attempt}"
            );
        }
    }
}

#[tokio::test]
async fn a_browser_without_an_access_token_cookie_is_renewed_too() {
    let site = Site::with(&[("gateway.same_site", "lax")]);
    let tokens = site.login("api", &["read"]).await;
    let refresh = format!("{REFRESH}={}", tokens.refresh_token);
    let ok = allowed(
        site.check("GET", &[("cookie", &refresh)], &[("scopes", "read")])
            .await
            .unwrap(),
    );
    let access = set_cookie(&ok.response_headers_to_add, ACCESS).unwrap();
    site.caller.assert_active(&access).await;
    assert!(values(&ok.response_headers_to_add, "set-cookie")[0].ends_with("SameSite=Lax"));

    // A request without the required scope is refused, but the browser still gets the new cookies: its old refresh
    // token works for the grace only.
    let (status, refusal) = denied(
        site.check("GET", &[("cookie", &refresh)], &[("scopes", "write")])
            .await
            .unwrap(),
    );
    assert_eq!(status, 403);
    assert!(set_cookie(&refusal.headers, REFRESH).is_some());
}

#[tokio::test]
async fn a_reused_refresh_cookie_revokes_the_session_and_clears_the_cookies() {
    let site = Site::start();
    let tokens = site.login("api", &[]).await;
    let stolen = format!("{REFRESH}={}", tokens.refresh_token);
    let mut newest = tokens.refresh_token.clone();
    for _ in 0..2 {
        let cookie = format!("{REFRESH}={newest}");
        let ok = allowed(site.check("GET", &[("cookie", &cookie)], &[]).await.unwrap());
        newest = set_cookie(&ok.response_headers_to_add, REFRESH).unwrap();
    }
    let (status, refusal) = denied(site.check("GET", &[("cookie", &stolen)], &[]).await.unwrap());
    assert_eq!(status, 401);
    assert_eq!(set_cookie(&refusal.headers, ACCESS).as_deref(), Some(""));
    assert_eq!(set_cookie(&refusal.headers, REFRESH).as_deref(), Some(""));
    assert!(
        values(&refusal.headers, "set-cookie")
            .iter()
            .all(|cookie| cookie.contains("Max-Age=0"))
    );

    // The honest browser is logged out too, also with its access token.
    let owner = cookies(&tokens.access_token, &newest);
    let (status, refusal) = denied(site.check("GET", &[("cookie", &owner)], &[]).await.unwrap());
    assert_eq!(
        (status, set_cookie(&refusal.headers, REFRESH).as_deref()),
        (401, Some(""))
    );
}

#[tokio::test]
async fn requests_that_change_something_must_come_from_the_same_site() {
    let site = Site::start();
    let tokens = site.login("api", &[]).await;
    let cookie = cookies(&tokens.access_token, &tokens.refresh_token);
    let cookie = ("cookie", cookie.as_str());
    for (method, site_header, passes) in [
        ("GET", ("sec-fetch-site", "cross-site"), true),
        ("HEAD", ("origin", "https://evil.example"), true),
        ("POST", ("sec-fetch-site", "same-origin"), true),
        ("POST", ("origin", "https://app.example"), true),
        ("POST", ("sec-fetch-site", "same-site"), false),
        ("POST", ("sec-fetch-site", "cross-site"), false),
        ("POST", ("origin", "https://evil.example"), false),
        ("POST", ("accept", "*/*"), false),
        ("DELETE", ("sec-fetch-site", "none"), false),
        ("GET", ("upgrade", "websocket"), false),
        ("", ("accept", "*/*"), false),
    ] {
        let answer = site.check(method, &[cookie, site_header], &[]).await.unwrap();
        if passes {
            allowed(answer);
        } else {
            let (status, refusal) = denied(answer);
            assert_eq!(status, 403, "{method} {site_header:?}");
            assert!(refusal.body.contains("cross_site"), "{}", refusal.body);
            assert!(
                values(&refusal.headers, "set-cookie").is_empty(),
                "the session is not revoked"
            );
        }
    }
}

#[tokio::test]
async fn a_cookie_that_is_not_renewed_is_refused() {
    let site = Site::start();
    let tokens = site.login("api", &[]).await;
    let refresh = format!("{REFRESH}={}", tokens.refresh_token);
    let refresh = [("cookie", refresh.as_str())];

    // A route with long-running responses: no renewal there, but the browser keeps its cookies.
    let (status, refusal) = denied(site.check("GET", &refresh, &[("streaming", "true")]).await.unwrap());
    assert_eq!((status, values(&refusal.headers, "set-cookie").len()), (401, 0));

    // Else the browser would send both for ever.
    let doubled = format!("{0}; {0}", refresh[0].1);
    let (status, refusal) = denied(site.check("GET", &[("cookie", &doubled)], &[]).await.unwrap());
    let cleared = values(&refusal.headers, "set-cookie");
    assert_eq!((status, cleared.len()), (401, 1));
    assert!(
        cleared[0].starts_with(&format!("{REFRESH}=; Path=/; Max-Age=0;")),
        "{cleared:?}"
    );

    let many = "a=b; ".repeat(1000) + refresh[0].1;
    allowed(site.check("GET", &[("cookie", &many)], &[]).await.unwrap());

    let other = Site::start();
    let foreign = other.login("api", &[]).await;
    let foreign = cookies(&foreign.access_token, &foreign.refresh_token);
    let (status, refusal) = denied(site.check("GET", &[("cookie", &foreign)], &[]).await.unwrap());
    assert_eq!(
        (status, set_cookie(&refusal.headers, REFRESH).as_deref()),
        (401, Some(""))
    );

    site.caller.revoke(Target::Token(tokens.refresh_token)).await.unwrap();
    let (status, refusal) = denied(site.check("GET", &refresh, &[]).await.unwrap());
    assert_eq!(
        (status, set_cookie(&refusal.headers, REFRESH).as_deref()),
        (401, Some(""))
    );
}

#[tokio::test]
async fn cookies_are_renewed_only_for_callers_that_may_refresh_and_only_if_enabled() {
    let site = Site::with(&[("server.anonymous_scopes", "countersign:issue,countersign:validate")]);
    let tokens = site.login("api", &[]).await;
    let cookie = cookies("", &tokens.refresh_token);
    let (status, refusal) = denied(site.check("GET", &[("cookie", &cookie)], &[]).await.unwrap());
    assert_eq!((status, values(&refusal.headers, "set-cookie").len()), (401, 0));

    let off = Site::with(&[("gateway.cookies", "false")]);
    let tokens = off.login("api", &[]).await;
    let cookie = cookies(&tokens.access_token, "");
    let asked = request("GET", &[("cookie", &cookie)], &[]);
    let (status, refusal) = denied(off.check_as(asked, None).await.unwrap());
    assert_eq!(
        (status, values(&refusal.headers, "www-authenticate").concat().as_str()),
        (401, "Bearer realm=\"api\"")
    );
}
