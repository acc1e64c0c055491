//! When the stores are down, the proxy gets an error: a token is never called invalid because of an outage.

use std::time::Duration;

use countersign::proto::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use http::StatusCode;
use tonic::Code;

use crate::application::send;
use crate::site::{REFRESH, SECRET, allowed, request, set_cookie};
use crate::support::caller::reason;
use crate::support::proxy::LinkState;
use crate::support::{Caller, Servers, eventually};

#[tokio::test]
async fn without_stores_a_renewal_is_an_error_and_the_cookie_is_kept() {
    let servers = Servers::start(&[])
        .await
        .set("gateway.cookies", "true")
        .set("gateway.forward_auth", "true")
        .set("gateway.forward_auth_secret", SECRET);
    let server = servers.serve().await;
    let tokens = Caller::of(&server).login("ada").await;
    let mut client = AuthorizationClient::connect(server.grpc_url()).await.unwrap();
    let cookie = format!("{REFRESH}={}", tokens.refresh_token);
    let bearer = format!("Bearer {}", tokens.access_token);

    servers.to_redis.set(LinkState::Cut);
    let refused = client
        .check(request("GET", &[("cookie", &cookie)], &[]))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), (Code::Unavailable, "STORE_UNAVAILABLE".to_owned()));
    let http = server.http_url().trim_start_matches("http://").parse().unwrap();
    let headers = [
        ("x-forward-auth-secret", SECRET),
        ("x-forwarded-method", "GET"),
        ("cookie", cookie.as_str()),
    ];
    let answer = send(http, "GET", "/authorize", &headers).await;
    assert_eq!(
        (answer.status, answer.cookies().count()),
        (StatusCode::SERVICE_UNAVAILABLE, 0)
    );
    // Tokens that memory can check still pass.
    allowed(
        client
            .check(request("GET", &[("authorization", &bearer)], &[]))
            .await
            .unwrap()
            .into_inner(),
    );

    servers.to_redis.set(LinkState::Up(Duration::ZERO));
    let ok = eventually("the cookie is renewed", Duration::from_secs(20), || {
        let mut client = client.clone();
        let cookie = cookie.clone();
        async move { client.check(request("GET", &[("cookie", &cookie)], &[])).await.ok() }
    })
    .await;
    assert!(set_cookie(&allowed(ok.into_inner()).response_headers_to_add, REFRESH).is_some());
}
