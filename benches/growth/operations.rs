//! The calls that are measured at each size.

use std::time::Duration;

use bytes::Bytes;
use countersign::proto::issue_request::Credential;
use countersign::proto::revoke_request::Target as RevokeTarget;
use countersign::proto::{
    IssueRequest, ListAuditEventsRequest, ListSessionsRequest, ListUsersRequest, PasswordCredential, RefreshOutcome,
    RefreshRequest, RevokeRequest, SessionContext, ValidateRequest,
};

use crate::baseline::Baseline;
use crate::deployment::{CROWDED, Deployment, Service};
use crate::figures::{round_length, rounds};
use crate::generator::{closed, framed};
use crate::population::{Population, Purpose};
use crate::processor::{Measured, always, each_once};
use crate::support::PASSWORD;
use crate::table::Row;

const VALIDATE: &str = "/countersign.v1.TokenService/Validate";
pub const REFRESH: &str = "/countersign.v1.TokenService/Refresh";
pub const ISSUE: &str = "/countersign.v1.TokenService/Issue";
const REVOKE: &str = "/countersign.v1.TokenService/Revoke";
const LIST_USERS: &str = "/countersign.v1.UserService/ListUsers";
const LIST_SESSIONS: &str = "/countersign.v1.UserService/ListSessions";
const LIST_AUDIT: &str = "/countersign.v1.AuditService/ListAuditEvents";

/// Concurrent calls on each of the four connections.
const STREAMS: usize = 1;

/// The most calls that a round can make in each second: so many requests are prepared.
const MAX_RATE: f64 = 8000.0;

/// Runs the rounds of one operation. `requests` makes those of a round.
async fn row(
    deployment: &mut Deployment,
    service: &Service,
    name: &'static str,
    path: &'static str,
    requests: impl Fn(&mut Deployment) -> Vec<Bytes>,
) -> Row {
    let mut measured = Measured::default();
    let (stores, target) = (deployment.stores(), service.target(path));
    let (mut wal, mut calls) = (0.0, 0);
    for _ in 0..rounds() {
        let requests = requests(deployment).into_iter();
        let before = deployment.wal().await;
        measured
            .round(
                stores,
                std::slice::from_ref(&target),
                STREAMS,
                round_length(),
                each_once(requests),
            )
            .await;
        wal += deployment.wal().await - before;
        calls += measured.rounds.last().map_or(0, crate::generator::Round::calls);
    }
    eprintln!("  {name}: {calls} calls");
    Row {
        name,
        time: Some(measured.latency()),
        cost: measured.median(),
        wal: wal / calls.max(1) as f64,
    }
}

/// As many of these requests as a round can send.
fn many(one: impl FnMut() -> Option<Bytes>) -> Vec<Bytes> {
    let count = most_calls(round_length());
    std::iter::repeat_with(one)
        .take(count)
        .map_while(|request| request)
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small positive number"
)]
fn most_calls(span: Duration) -> usize {
    (span.as_secs_f64() * MAX_RATE) as usize
}

fn validate(access_token: String) -> Bytes {
    framed(&ValidateRequest {
        access_token,
        audience: "api".to_owned(),
        ..ValidateRequest::default()
    })
}

pub fn refresh(refresh_token: String) -> Bytes {
    framed(&RefreshRequest {
        refresh_token,
        attempt_id: "bench".to_owned(),
        ..RefreshRequest::default()
    })
}

pub fn login(username: String, client_id: &str) -> Bytes {
    framed(&IssueRequest {
        client_id: client_id.to_owned(),
        credential: Some(Credential::Password(PasswordCredential {
            username,
            password: PASSWORD.to_owned(),
        })),
        context: Some(SessionContext {
            user_agent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned(),
            ip_address: "192.0.2.17".to_owned(),
            ..SessionContext::default()
        }),
        ..IssueRequest::default()
    })
}

fn revoke(target: RevokeTarget) -> Bytes {
    framed(&RevokeRequest {
        target: Some(target),
        ..RevokeRequest::default()
    })
}

fn list_audit(subject: String, kind: &str) -> Bytes {
    framed(&ListAuditEventsRequest {
        subject,
        r#type: kind.to_owned(),
        ..ListAuditEventsRequest::default()
    })
}

/// A round of the yardstick: a handler of one SELECT and one EVALSHA. It tells whether the machine was the same.
async fn yardstick(deployment: &Deployment) -> Row {
    let baseline = Baseline::refresh(deployment.database.url(), &deployment.redis.url(), false);
    let target = baseline.target(REFRESH);
    let request = refresh("x".repeat(230));
    let mut measured = Measured::default();
    for _ in 0..rounds() {
        let targets = std::slice::from_ref(&target);
        measured
            .round(
                deployment.stores(),
                targets,
                STREAMS,
                round_length(),
                always(request.clone()),
            )
            .await;
    }
    Row {
        name: "(a handler of one SELECT and one EVALSHA)",
        time: Some(measured.latency()),
        cost: measured.median(),
        wal: 0.0,
    }
}

/// Asserts that the service takes a loaded session for its own, and that its own records look like the loaded ones.
async fn check(deployment: &mut Deployment, service: &Service) {
    let n = deployment.population.take(Purpose::Use).unwrap();
    let request = RefreshRequest {
        refresh_token: deployment.population.refresh_token(n),
        ..RefreshRequest::default()
    };
    let refreshed = service.client.refresh(request).await.unwrap();
    assert_eq!(refreshed.outcome(), RefreshOutcome::Rotated);
    let n = deployment.population.any(Purpose::LogIn);
    let request = login(Population::name(n), Population::client(n).as_str());
    let target = service.target(ISSUE);
    let login = closed(
        &target,
        STREAMS,
        Duration::from_mins(1),
        each_once(std::iter::once(request)),
    );
    login.await.assert_ok();
    let key = format!("cs:s:{{{}}}", deployment.population.user(n));
    let lengths = "local r = redis.call('HVALS', KEYS[1]) return { #r, #r[1], #r[2] }";
    let lengths = deployment.redis.command(&["EVAL", lengths, "1", &key]);
    let [count, one, other] = lengths.lines().collect::<Vec<_>>()[..] else {
        panic!("{lengths}")
    };
    assert_eq!((count, one), ("2", other), "a loaded record and one of the service");
}

/// All rows of one size.
pub async fn measure(deployment: &mut Deployment) -> Vec<Row> {
    let service = deployment.serve_calls().await;
    let d = deployment;
    check(d, &service).await;
    let mut rows = vec![yardstick(d).await];
    let known: Vec<Bytes> = (0..1000)
        .map(|_| validate(d.access_token(d.population.any(Purpose::Use))))
        .collect();
    rows.push(
        row(d, &service, "Validate, token seen before", VALIDATE, |_| {
            known.iter().cycle().take(most_calls(round_length())).cloned().collect()
        })
        .await,
    );
    let new = |d: &mut Deployment| many(|| Some(validate(d.access_token(d.population.any(Purpose::Use)))));
    rows.push(row(d, &service, "Validate, new token", VALIDATE, new).await);
    let refreshes = |d: &mut Deployment| {
        many(|| {
            let n = d.population.take(Purpose::Use)?;
            Some(refresh(d.population.refresh_token(n)))
        })
    };
    rows.push(row(d, &service, "Refresh", REFRESH, refreshes).await);
    let logins = |d: &mut Deployment| {
        many(|| {
            let n = d.population.any(Purpose::LogIn);
            Some(login(Population::name(n), Population::client(n).as_str()))
        })
    };
    rows.push(row(d, &service, "Issue (cheap hash)", ISSUE, logins).await);
    let crowded = |_: &mut Deployment| many(|| Some(login(CROWDED.to_owned(), "bench")));
    rows.push(row(d, &service, "Issue, user with 50 sessions: ends one", ISSUE, crowded).await);
    let by_token = |d: &mut Deployment| {
        many(|| {
            let n = d.population.take(Purpose::RevokeSession)?;
            Some(revoke(RevokeTarget::Token(d.population.refresh_token(n))))
        })
    };
    rows.push(row(d, &service, "Revoke a session", REVOKE, by_token).await);
    let by_user = |d: &mut Deployment| {
        many(|| {
            let n = d.population.take(Purpose::RevokeUser)?;
            Some(revoke(RevokeTarget::UserId(d.population.user(n).to_string())))
        })
    };
    rows.push(row(d, &service, "Revoke a user", REVOKE, by_user).await);
    lists(d, &service, &mut rows).await;
    rows
}

async fn lists(d: &mut Deployment, service: &Service, rows: &mut Vec<Row>) {
    let first = |_: &mut Deployment| many(|| Some(framed(&ListUsersRequest::default())));
    rows.push(row(d, service, "ListUsers, a page of 50", LIST_USERS, first).await);
    let by_name = |d: &mut Deployment| {
        many(|| {
            Some(framed(&ListUsersRequest {
                query: Population::name(d.population.any(Purpose::Use)),
                ..ListUsersRequest::default()
            }))
        })
    };
    rows.push(row(d, service, "ListUsers by a name", LIST_USERS, by_name).await);
    let sessions = |d: &mut Deployment| {
        many(|| {
            let user_id = d.population.user(d.population.any(Purpose::Use)).to_string();
            Some(framed(&ListSessionsRequest { user_id }))
        })
    };
    rows.push(row(d, service, "ListSessions, one", LIST_SESSIONS, sessions).await);
    let crowded = |d: &mut Deployment| {
        let user_id = d.crowded.clone();
        many(|| {
            Some(framed(&ListSessionsRequest {
                user_id: user_id.clone(),
            }))
        })
    };
    rows.push(row(d, service, "ListSessions, 50", LIST_SESSIONS, crowded).await);
    let newest = |_: &mut Deployment| many(|| Some(list_audit(String::new(), "")));
    rows.push(row(d, service, "audit query, the newest 50", LIST_AUDIT, newest).await);
    let by_subject = |d: &mut Deployment| {
        many(|| {
            let user = d.population.user(d.population.any(Purpose::Use));
            Some(list_audit(user.to_string(), ""))
        })
    };
    rows.push(row(d, service, "audit query of a user", LIST_AUDIT, by_subject).await);
    let by_type = |_: &mut Deployment| many(|| Some(list_audit(String::new(), "user.created")));
    rows.push(row(d, service, "audit query of a rare type", LIST_AUDIT, by_type).await);
}
