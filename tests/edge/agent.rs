//! Envoy's `Check` answered by an agent: from memory where that suffices, otherwise by its upstream.

use std::time::Duration;

use countersign::proto::RefreshOutcome;
use countersign::proto::envoy::service::auth::v3::CheckRequest;
use countersign::proto::envoy::service::auth::v3::CheckResponse;
use countersign::proto::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use countersign::proto::revoke_request::Target;
use nix::sys::signal::Signal;
use tonic::{Code, Status};

use crate::site::{REFRESH, Site, allowed, cookies, denied, request, set_cookie, values};
use crate::support::agent::{Agent, listen_anywhere};
use crate::support::caller::generation;
use crate::support::{assert_refused, eventually};

const TIMEOUT: Duration = Duration::from_secs(20);

async fn agent(site: &Site, rights: &[&str], settings: &[(&str, &str)]) -> Agent {
    let agent = Agent::with(&site.storage, &site.server, &listen_anywhere(), rights, settings);
    agent.caller().await;
    agent
}

async fn check(agent: &Agent, check_request: CheckRequest) -> Result<CheckResponse, Status> {
    let answer = AuthorizationClient::new(agent.channel()).check(check_request).await?;
    Ok(answer.into_inner())
}

#[tokio::test]
async fn the_agent_answers_as_its_upstream_does() {
    let site = Site::start();
    let agent = agent(&site, &["watch", "validate"], &[]).await;
    let good = site.login("api", &["read"]).await;
    let gone = site.login("api", &["read"]).await;
    site.caller
        .revoke(Target::Token(gone.refresh_token.clone()))
        .await
        .unwrap();
    agent.caller().await.until_revoked(&gone.access_token).await;
    let [bearer, revoked] = [&good, &gone].map(|tokens| format!("Bearer {}", tokens.access_token));
    let cookie = cookies(&good.access_token, &good.refresh_token);
    let (bearer, revoked) = (("authorization", bearer.as_str()), ("authorization", revoked.as_str()));
    for (headers, route) in [
        (&[bearer] as &[_], &[] as &[_]),
        // The second time from the agent's cache.
        (&[bearer], &[]),
        (&[bearer], &[("scopes", "read")]),
        (&[bearer], &[("scopes", "write")]),
        (&[bearer], &[("audience", "other")]),
        (&[bearer], &[("roles", "chief editor")]),
        (&[bearer], &[("roles", "chief")]),
        (&[], &[("optional", "true")]),
        (&[bearer], &[("optional", "true")]),
        (&[revoked], &[("optional", "true")]),
        (&[("accept", "text/html")], &[("login", "/login")]),
        (&[bearer, ("x_auth_subject", "root")], &[]),
        (&[("cookie", &cookie)], &[]),
        (&[revoked], &[]),
        (&[("authorization", "Bearer garbage")], &[]),
        (&[], &[]),
    ] {
        let check_request = request("GET", headers, route);
        let answer = check(&agent, check_request.clone()).await.unwrap();
        assert_eq!(
            answer,
            site.check_as(check_request, None).await.unwrap(),
            "{headers:?} {route:?}"
        );
    }
    let refused = check(&agent, CheckRequest::default()).await;
    assert_refused(refused, Code::InvalidArgument, "INVALID_REQUEST");
}

#[tokio::test]
async fn cookies_are_renewed_only_if_the_agent_may_refresh() {
    let site = Site::with(&[
        // Expiry is in whole seconds: a shorter life may be over when it begins.
        ("tokens.access_ttl", "3s"),
        ("tokens.access_jitter", "0"),
        ("tokens.leeway", "0s"),
    ]);
    let bare = agent(&site, &["watch", "validate"], &[]).await;
    let tokens = site.login("api", &[]).await;
    let cookie = cookies(&tokens.access_token, &tokens.refresh_token);
    let page = request("GET", &[("cookie", &cookie)], &[]);
    eventually("the token expires", TIMEOUT, || async {
        site.caller.inactive_reason(&tokens.access_token).await
    })
    .await;
    assert_eq!(denied(check(&bare, page.clone()).await.unwrap()).0, 401);
    drop(bare);

    site.storage.run(&["client", "delete", "agent"]).succeed();
    let mut able = agent(&site, &["watch", "validate", "refresh"], &[]).await;
    let ok = allowed(check(&able, page.clone()).await.unwrap());
    assert_eq!(values(&ok.headers, "x-auth-subject"), [site.ada.as_str()]);
    let successor = set_cookie(&ok.response_headers_to_add, REFRESH).unwrap();
    assert_eq!(generation(&successor), generation(&tokens.refresh_token) + 1);

    // Without the upstream no cookie is renewed, and the error does not call the cookie invalid.
    let mut site = site;
    site.server.signal(Signal::SIGKILL);
    let refused = check(&able, page).await;
    assert_refused(refused, Code::Unavailable, "STORE_UNAVAILABLE");
    able.process.signal(Signal::SIGTERM);
}

#[tokio::test]
async fn without_its_upstream_requests_pass_until_max_staleness() {
    let mut site = Site::start();
    let settings = [("COUNTERSIGN_REVOCATION__MAX_STALENESS", "6s")];
    let agent = agent(&site, &["watch", "validate"], &settings).await;
    let bearer = format!("Bearer {}", site.login("api", &[]).await.access_token);
    let check_request = request("GET", &[("authorization", &bearer)], &[]);
    site.server.signal(Signal::SIGKILL);
    allowed(check(&agent, check_request.clone()).await.unwrap());
    let stale = eventually("the agent's data is stale", TIMEOUT, || async {
        check(&agent, check_request.clone()).await.err()
    })
    .await;
    assert_refused(Err::<(), _>(stale), Code::Unavailable, "REVOCATIONS_STALE");
}

#[tokio::test]
async fn route_requirements_hold_for_answers_of_the_upstream() {
    let site = Site::with(&[
        ("tokens.access_ttl", "3s"),
        ("tokens.access_jitter", "0"),
        ("tokens.leeway", "0s"),
    ]);
    let tokens = site.login("api", &["read"]).await;
    let page = request(
        "GET",
        &[("cookie", &format!("{REFRESH}={}", tokens.refresh_token))],
        &[],
    );
    let rights = ["watch", "validate", "refresh"];
    let demands: [(&[(&str, &str)], i32); 3] = [
        (&[("COUNTERSIGN_GATEWAY__SCOPES", "admin")], 403),
        (&[("COUNTERSIGN_GATEWAY__AUDIENCE", "elsewhere")], 401),
        (&[("COUNTERSIGN_GATEWAY__CLIENT_ID", "another")], 401),
    ];
    for (settings, status) in demands {
        let demanding = agent(&site, &rights, settings).await;
        let refused = denied(check(&demanding, page.clone()).await.unwrap());
        assert_eq!(refused.0, status, "{settings:?}");
        drop(demanding);
        site.storage.run(&["client", "delete", "agent"]).succeed();
    }
    let tokens = site.login("api", &["read"]).await;
    let page = request("GET", &[("cookie", &cookies("", &tokens.refresh_token))], &[]);
    let demanding = agent(&site, &rights, &[("COUNTERSIGN_GATEWAY__CLIENT_ID", "another")]).await;
    let (status, refusal) = denied(check(&demanding, page.clone()).await.unwrap());
    assert_eq!((status, values(&refusal.headers, "set-cookie").len()), (401, 0));
    drop(demanding);
    site.storage.run(&["client", "delete", "agent"]).succeed();
    let (_, outcome) = site.caller.refresh(&tokens.refresh_token).await.unwrap();
    assert_eq!(
        outcome,
        RefreshOutcome::Rotated,
        "the upstream was not asked to renew it"
    );

    let stripping = agent(&site, &rights, &[("COUNTERSIGN_GATEWAY__STRIP_TOKEN", "true")]).await;
    let ok = allowed(check(&stripping, page.clone()).await.unwrap());
    assert!(ok.headers_to_remove.contains(&"authorization".to_owned()));
    let mut chief = page.clone();
    let settings = &mut chief.attributes.as_mut().unwrap().context_extensions;
    settings.insert("roles".to_owned(), "chief".to_owned());
    let (status, refusal) = denied(check(&stripping, chief).await.unwrap());
    assert_eq!(status, 403);
    assert!(set_cookie(&refusal.headers, REFRESH).is_some(), "renewed all the same");
    // The session is over: on an optional route the upstream lets the browser pass as a visitor.
    site.caller.revoke(Target::Token(tokens.refresh_token)).await.unwrap();
    let mut optional = page;
    let settings = &mut optional.attributes.as_mut().unwrap().context_extensions;
    settings.insert("optional".to_owned(), "true".to_owned());
    let ok = allowed(check(&stripping, optional).await.unwrap());
    assert!(values(&ok.headers, "x-auth-subject").is_empty());
}
