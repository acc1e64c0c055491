//! Attackers at the edge: forged refresh cookies, sessions of other clients, lookalikes of identity headers, malformed bearer
//! tokens and forged addresses, at `Check` and `/authorize`. The tests of the proxies send the same through real ones.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use countersign::proto::{RefreshOutcome, Tokens};
use futures_util::future::join_all;
use http::StatusCode;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::application::{Response, send};
use crate::forward_auth::side_port;
use crate::site::{REFRESH, SECRET, Site, allowed, cookies, denied, set_cookie, values};
use crate::support::Admin;
use crate::support::caller::{generation, refresh_bytes, refresh_text};

/// Header names that a service could take for those of the identity.
pub(crate) const LOOKALIKES: [&str; 6] = [
    "X_Auth_Roles",
    "x-auth_subject",
    "X-AUTH_SCOPES",
    "x_auth-client",
    "X.Auth.Session",
    "x-auth-user",
];

/// Values of `authorization` in which a lenient service could find a bearer token that was not verified.
pub(crate) const MALFORMED_BEARERS: [&str; 6] = [
    "Bearer\tx",
    "Bearer:x",
    "bearer",
    "BEARER=x",
    "Bearer  \tx",
    "Basic YTpi, Bearer x",
];

/// Asks `/authorize` about a GET with these headers.
async fn authorize(site: &Site, headers: &[(&str, &str)]) -> Response {
    let proxy = [("x-forward-auth-secret", SECRET), ("x-forwarded-method", "GET")];
    send(side_port(site), "GET", "/authorize", &[&proxy[..], headers].concat()).await
}

/// The text with this change to its bytes, and a checksum that is right again.
fn changed(token: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = refresh_bytes(token);
    change(&mut bytes);
    let end = bytes.len() - 4;
    let sum = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum.to_be_bytes());
    refresh_text(&bytes)
}

/// A refresh token without a valid tag that names a key that will be made `ahead` keys from now.
fn forged(good: &str, ahead: u32) -> String {
    changed(good, |bytes| {
        let key = u32::from_be_bytes(bytes[1..5].try_into().unwrap());
        bytes[1..5].copy_from_slice(&(key + ahead).to_be_bytes());
        let tag = bytes.len() - 20;
        bytes[tag] ^= 1;
    })
}

/// Presents a refresh cookie at Check and at `/authorize`, where it is refused. Returns the statuses and the values that the
/// answers set for the refresh cookie.
async fn refused_everywhere(site: &Site, refresh_token: &str) -> [(u16, Option<String>); 2] {
    let cookie = cookies("", refresh_token);
    let (status, refusal) = denied(site.check("GET", &[("cookie", &cookie)], &[]).await.unwrap());
    let checked = (u16::try_from(status).unwrap(), set_cookie(&refusal.headers, REFRESH));
    let answer = authorize(site, &[("cookie", &cookie)]).await;
    assert_eq!(
        answer.header("x-set-refresh-cookie").is_empty(),
        answer.cookies().count() == 0
    );
    [checked, (answer.status.as_u16(), answer.cookie(REFRESH))]
}

#[tokio::test]
async fn a_session_of_another_client_is_not_renewed() {
    let site = Site::with(&[
        ("gateway.client_id", "web"),
        ("tokens.reuse_policy", "strict"),
        ("tokens.refresh_grace", "0s"),
    ]);
    let add = ["client", "add", "web", "--grant", "password", "--audience", "api"];
    site.storage.run(&add).succeed();
    let kept = (401, None);

    let other = site.login("api", &[]).await;
    assert_eq!(
        refused_everywhere(&site, &other.refresh_token).await,
        [kept.clone(), kept.clone()]
    );
    let (next, outcome) = site.caller.refresh(&other.refresh_token).await.unwrap();
    assert_eq!(
        outcome,
        RefreshOutcome::Rotated,
        "no request before this one rotated it"
    );
    assert_eq!(generation(&next.refresh_token), generation(&other.refresh_token) + 1);
    // The old token would be a reuse at its own client. Here it neither gets the successor nor ends the session.
    assert_eq!(
        refused_everywhere(&site, &other.refresh_token).await,
        [kept.clone(), kept]
    );
    site.caller.assert_active(&next.access_token).await;
    let (last, _) = site.caller.refresh(&next.refresh_token).await.unwrap();

    // The tag covers the name of the client.
    let renamed = changed(&last.refresh_token, |bytes| {
        let name = 74..74 + usize::from(bytes[73]);
        assert_eq!(&bytes[name.clone()], b"default");
        bytes[73] = 3;
        bytes.splice(name, *b"web");
    });
    let cleared = (401, Some(String::new()));
    assert_eq!(refused_everywhere(&site, &renamed).await, [cleared.clone(), cleared]);
    assert_eq!(
        site.caller.refresh(&last.refresh_token).await.unwrap().1,
        RefreshOutcome::Rotated
    );

    let own = site.caller.login_at("web", "ada").await;
    let cookie = cookies("", &own.refresh_token);
    let ok = allowed(site.check("GET", &[("cookie", &cookie)], &[]).await.unwrap());
    let renewed = set_cookie(&ok.response_headers_to_add, REFRESH).unwrap();
    let answer = authorize(&site, &[("cookie", &cookies("", &renewed))]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        generation(&answer.cookie(REFRESH).unwrap()),
        generation(&own.refresh_token) + 2
    );
}

#[tokio::test]
async fn lookalikes_of_identity_headers_do_not_reach_the_service() {
    let site = Site::start();
    let bearer = format!("Bearer {}", site.login("api", &[]).await.access_token);
    for name in LOOKALIKES {
        let headers = [("authorization", bearer.as_str()), (name, "root")];
        let ok = allowed(site.check("GET", &headers, &[]).await.unwrap());
        assert!(ok.headers_to_remove.contains(&name.to_owned()), "{name}");
        let answer = authorize(&site, &headers).await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (StatusCode::FORBIDDEN, "reserved_header"),
            "{name}"
        );
    }
    // The proxy overwrites the names themselves.
    let headers = [
        ("authorization", bearer.as_str()),
        ("X-Auth-Roles", "root"),
        ("x-author", "x"),
    ];
    let answer = authorize(&site, &headers).await;
    assert_eq!(
        (answer.status, answer.header("x-auth-roles")),
        (StatusCode::OK, "author editor")
    );
}

#[tokio::test]
async fn a_malformed_bearer_is_refused_whatever_is_beside_it() {
    let site = Site::start();
    let tokens = site.login("api", &[]).await;
    let cookie = cookies(&tokens.access_token, &tokens.refresh_token);
    for value in MALFORMED_BEARERS {
        let headers = [("cookie", cookie.as_str()), ("authorization", value)];
        let (status, refusal) = denied(site.check("GET", &headers, &[]).await.unwrap());
        assert_eq!(
            (status, values(&refusal.headers, "set-cookie").len()),
            (401, 0),
            "{value:?}"
        );
        let answer = authorize(&site, &headers).await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (StatusCode::UNAUTHORIZED, "invalid_token"),
            "{value:?}"
        );
    }
    // Another scheme is for the service.
    let headers = [("cookie", cookie.as_str()), ("authorization", "Basic YTpi")];
    let ok = allowed(site.check("GET", &headers, &[]).await.unwrap());
    assert!(!ok.headers_to_remove.contains(&"authorization".to_owned()));
    assert_eq!(authorize(&site, &headers).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_forged_address_is_not_recorded() {
    for (hops, header, recorded) in [
        ("1", "10.9.9.9, ::ffff:192.0.2.7", "192.0.2.7"),
        ("2", "10.9.9.9, 2001:DB8::7, 192.0.2.1", "2001:db8::7"),
        ("1", "10.9.9.9, <script>", ""),
    ] {
        let site = Site::with(&[("gateway.trusted_hops", hops), ("tokens.refresh_grace", "0s")]);
        let tokens = site.login("api", &[]).await;
        let cookie = cookies("", &tokens.refresh_token);
        let headers = [("cookie", cookie.as_str()), ("x-forwarded-for", header)];
        assert_eq!(authorize(&site, &headers).await.status, StatusCode::OK);
        assert_eq!(authorize(&site, &headers).await.status, StatusCode::UNAUTHORIZED);
        let events = Admin::of(&site.server).events("token.refresh.reused").await;
        let addresses: Vec<&str> = events.iter().map(|event| event.ip_address.as_str()).collect();
        assert_eq!(addresses, [recorded]);
    }
}

/// A connection to the side port, as a proxy keeps it open. The server closes connections that are a minute old; then the next
/// request opens another one.
struct ProxyConnection {
    sender: SendRequest<Full<Bytes>>,
    to: SocketAddr,
    host: u8,
}

impl ProxyConnection {
    /// Connects from 127.0.0.`host`.
    async fn open(to: SocketAddr, host: u8) -> Self {
        let sender = Self::connect(to, host).await;
        Self { sender, to, host }
    }

    async fn connect(to: SocketAddr, host: u8) -> SendRequest<Full<Bytes>> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
        let io = TokioIo::new(socket.connect(to).await.unwrap());
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// Asks about a GET with this refresh cookie. Returns the status, and the value that is set for the refresh cookie.
    async fn present(&mut self, refresh_token: &str) -> (u16, Option<String>) {
        let request = http::Request::get("/authorize")
            .header("host", "app.example")
            .header("x-forward-auth-secret", SECRET)
            .header("x-forwarded-method", "GET")
            .header("cookie", format!("{REFRESH}={refresh_token}"));
        if self.sender.ready().await.is_err() {
            self.sender = Self::connect(self.to, self.host).await;
        }
        let answer = self
            .sender
            .send_request(request.body(Full::default()).unwrap())
            .await
            .unwrap();
        let (head, body) = answer.into_parts();
        body.collect().await.unwrap();
        let cookies = head
            .headers
            .get_all("set-cookie")
            .iter()
            .map(|value| value.to_str().unwrap());
        let refresh = cookies
            .filter_map(|cookie| cookie.strip_prefix(REFRESH)?.strip_prefix('=')?.split(';').next())
            .next_back();
        (head.status.as_u16(), refresh.map(str::to_owned))
    }
}

/// How many connections flood, how many requests each of them sends at most, and for how long at most.
const FLOODERS: usize = 320;
const REQUESTS_EACH: usize = 10;
const FLOOD_TIME: Duration = Duration::from_secs(10);

/// Renewals of these sessions, each one by one, while `FLOODERS` connections present the token that `attack` gives for their
/// number and that of the request. Asserts that every renewal succeeds. Returns the statuses of the flood, and a line about both.
async fn renew_beside_a_flood(
    site: &Site,
    honest: Vec<Tokens>,
    attack: impl Fn(usize, usize) -> String,
) -> (BTreeMap<u16, usize>, String) {
    let to = side_port(site);
    let flooding = Arc::new(AtomicBool::new(true));
    let browsers = honest.into_iter().map(|tokens| {
        let flooding = Arc::clone(&flooding);
        tokio::spawn(async move {
            let mut connection = ProxyConnection::open(to, 1).await;
            let (mut token, mut took) = (tokens.refresh_token, Vec::new());
            while flooding.load(Ordering::SeqCst) {
                let start = Instant::now();
                let (status, next) = connection.present(&token).await;
                took.push(start.elapsed());
                assert_eq!(status, 200, "renewal {} of a good session", took.len());
                let next = next.expect("a renewal sets the cookie");
                assert_eq!(generation(&next), generation(&token) + 1);
                token = next;
            }
            took
        })
    });
    let browsers: Vec<_> = browsers.collect();
    let start = Instant::now();
    let attack = &attack;
    let flood = (0..FLOODERS).map(|number| async move {
        let host = u8::try_from(2 + number % 16).unwrap();
        let mut connection = ProxyConnection::open(to, host).await;
        let mut statuses = Vec::new();
        for request in 0..REQUESTS_EACH {
            if request > 0 && start.elapsed() > FLOOD_TIME {
                break;
            }
            statuses.push(connection.present(&attack(number, request)).await.0);
        }
        statuses
    });
    let mut answers = BTreeMap::<u16, usize>::new();
    for status in join_all(flood).await.concat() {
        *answers.entry(status).or_default() += 1;
    }
    let lasted = start.elapsed();
    flooding.store(false, Ordering::SeqCst);
    let mut took: Vec<Duration> = join_all(browsers).await.into_iter().flat_map(Result::unwrap).collect();
    took.sort_unstable();
    let quantile = |part: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "small"
        )]
        let index = (part * (took.len() - 1) as f64) as usize;
        took[index]
    };
    let report = format!(
        "flood of {} requests in {lasted:?}: {answers:?}; {} good renewals, all successful, p50 {:?}, p99 {:?}",
        answers.values().sum::<usize>(),
        took.len(),
        quantile(0.5),
        quantile(0.99),
    );
    assert!(took.len() >= 4, "only {} renewals", took.len());
    (answers, report)
}

async fn log_in(site: &Site, sessions: usize) -> Vec<Tokens> {
    let mut honest = Vec::new();
    for _ in 0..sessions {
        honest.push(site.login("api", &[]).await);
    }
    honest
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_refresh_cookies_take_no_renewal_from_others() {
    let site = Site::start();
    let honest = log_in(&site, 4).await;
    let sample = honest[0].refresh_token.clone();
    // The next seven keys are those that another replica could have made meanwhile.
    let attack = |number: usize, request: usize| forged(&sample, 1 + u32::try_from((number + request) % 7).unwrap());
    let (answers, report) = renew_beside_a_flood(&site, honest, attack).await;
    println!("{report}");
    assert!(answers.keys().eq([&401]), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_renews_all_the_time_takes_no_renewal_from_others() {
    let site = Site::with(&[("tokens.refresh_grace", "5m")]);
    crate::support::deployment::add_user(&site.storage, "eve", &[]);
    let eve = site.caller.login("eve").await.refresh_token;
    let honest = log_in(&site, 4).await;
    let (answers, report) = renew_beside_a_flood(&site, honest, |_, _| eve.clone()).await;
    println!("{report}");
    assert!(answers.keys().all(|status| [200, 503].contains(status)), "{answers:?}");
    assert!(answers[&200] > 0);
}
