//! Check by an agent: the answers of its upstream, from memory where that is enough.

use std::time::Duration;

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

const PATIENCE: Duration = Duration::from_secs(20);

async fn agent(site: &Site, rights: &[&str], settings: &[(&str, &str)]) -> Agent {
    let agent = Agent::with(&site.storage, &site.server, &listen_anywhere(), rights, settings);
    agent.caller().await;
    agent
}

async fn ask(agent: &Agent, asked: CheckRequest) -> Result<CheckResponse, Status> {
    let answer = AuthorizationClient::new(agent.channel()).check(asked).await?;
    Ok(answer.into_inner())
}

#[tokio::test]
async fn it_answers_as_its_upstream_does() {
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
        // The second time from what the first left.
        (&[bearer], &[]),
        (&[bearer], &[("scopes", "read")]),
        (&[bearer], &[("scopes", "write")]),
        (&[bearer], &[("audience", "other")]),
        (&[bearer, ("x_auth_subject", "root")], &[]),
        (&[("cookie", &cookie)], &[]),
        (&[revoked], &[]),
        (&[("authorization", "Bearer garbage")], &[]),
        (&[], &[]),
    ] {
        let asked = request("GET", headers, route);
        let told = ask(&agent, asked.clone()).await.unwrap();
        assert_eq!(told, site.check_as(asked, None).await.unwrap(), "{headers:?} {route:?}");
    }
    let refused = ask(&agent, CheckRequest::default()).await;
    assert_refused(refused, Code::InvalidArgument, "INVALID_REQUEST");
}

#[tokio::test]
async fn cookies_are_renewed_by_its_own_right_alone() {
    let site = Site::with(&[
        // Whole seconds count: a shorter life may be over when it begins.
        ("tokens.access_ttl", "3s"),
        ("tokens.access_jitter", "0"),
        ("tokens.leeway", "0s"),
    ]);
    let bare = agent(&site, &["watch", "validate"], &[]).await;
    let tokens = site.login("api", &[]).await;
    let cookie = cookies(&tokens.access_token, &tokens.refresh_token);
    let page = request("GET", &[("cookie", &cookie)], &[]);
    eventually("the token expires", PATIENCE, || async {
        site.caller.inactive_reason(&tokens.access_token).await
    })
    .await;
    assert_eq!(denied(ask(&bare, page.clone()).await.unwrap()).0, 401);
    drop(bare);

    site.storage.run(&["client", "delete", "agent"]).succeed();
    let mut able = agent(&site, &["watch", "validate", "refresh"], &[]).await;
    let ok = allowed(ask(&able, page.clone()).await.unwrap());
    assert_eq!(values(&ok.headers, "x-auth-subject"), [site.ada.as_str()]);
    let successor = set_cookie(&ok.response_headers_to_add, REFRESH).unwrap();
    assert_eq!(generation(&successor), generation(&tokens.refresh_token) + 1);

    // Without the upstream nothing is renewed, and that says nothing of the cookie.
    let mut site = site;
    site.server.signal(Signal::SIGKILL);
    let refused = ask(&able, page).await;
    assert_refused(refused, Code::Unavailable, "STORE_UNAVAILABLE");
    able.process.signal(Signal::SIGTERM);
}

#[tokio::test]
async fn it_passes_requests_on_without_its_upstream_until_its_knowledge_is_stale() {
    let mut site = Site::start();
    let settings = [("COUNTERSIGN_REVOCATION__MAX_STALENESS", "6s")];
    let agent = agent(&site, &["watch", "validate"], &settings).await;
    let bearer = format!("Bearer {}", site.login("api", &[]).await.access_token);
    let asked = request("GET", &[("authorization", &bearer)], &[]);
    site.server.signal(Signal::SIGKILL);
    allowed(ask(&agent, asked.clone()).await.unwrap());
    let stale = eventually("its knowledge is stale", PATIENCE, || async {
        ask(&agent, asked.clone()).await.err()
    })
    .await;
    assert_refused(Err::<(), _>(stale), Code::Unavailable, "REVOCATIONS_STALE");
}

#[tokio::test]
async fn what_it_wants_holds_for_what_the_upstream_decides_too() {
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
        let refused = denied(ask(&demanding, page.clone()).await.unwrap());
        assert_eq!(refused.0, status, "{settings:?}");
        drop(demanding);
        site.storage.run(&["client", "delete", "agent"]).succeed();
    }
    let stripping = agent(&site, &rights, &[("COUNTERSIGN_GATEWAY__STRIP_TOKEN", "true")]).await;
    let ok = allowed(ask(&stripping, page).await.unwrap());
    assert!(ok.headers_to_remove.contains(&"authorization".to_owned()));
}
