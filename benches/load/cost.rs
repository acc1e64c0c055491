//! What calls cost on Postgres and Redis: speed, and the processor time of all processes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use countersign::client::Client;
use countersign::keys::verify::unverified_claims;
use countersign::proto::issue_request::Credential;
use countersign::proto::revoke_request::Target as RevokeTarget;
use countersign::proto::{
    IssueRequest, IssueResponse, ListSessionsRequest, PasswordCredential, RefreshRequest, RevokeRequest,
};
use prost::Message as _;

use crate::baseline::Baseline;
use crate::callers::{SCOPES, add_caller, caller, patient};
use crate::cores;
use crate::figures::{round_length, rounds, speed};
use crate::generator::{Source, Target, Transport, closed, framed};
use crate::processor::{Measured, PARTS, StoreProcesses, always, each_once};
use crate::refresh::{REFRESH, STREAMS, Sessions};
use crate::report::ReportRow;
use crate::support::deployment::add_user;
use crate::support::serve::Storage;
use crate::support::{Countersign, Database, PASSWORD, Postgres, Redis};

const ISSUE: &str = "/countersign.v1.TokenService/Issue";
pub const REVOKE: &str = "/countersign.v1.TokenService/Revoke";
const LIST_SESSIONS: &str = "/countersign.v1.UserService/ListSessions";

/// Users whose logins and sessions are measured; each has some sessions.
const USERS: usize = 40;

/// The stores, the service on them, and a caller.
pub struct Deployment {
    pub postgres: Postgres,
    pub redis: Redis,
    pub storage: Storage,
    pub server: Countersign,
    pub client: Client,
    bearer: String,
    database: Database,
    users: Vec<String>,
}

impl Deployment {
    pub async fn start() -> Self {
        let (postgres, redis) = cores::anywhere(|| (Postgres::start(&[]), Redis::start(&[])));
        let database = postgres.database().await;
        let storage = patient(Storage::clustered(database.url(), &redis.url(), "cs"))
            .set("tokens.max_sessions_per_user", "10000");
        add_user(&storage, "ada", &[]);
        for n in 0..USERS {
            add_user(&storage, &format!("user{n}"), &[]);
        }
        let (id, secret) = add_caller(&storage, SCOPES);
        let server = cores::on_server_core(|| storage.serve(&[]));
        let client = caller(&server, (id, secret), SCOPES, None);
        let mut users = Vec::new();
        for n in 0..USERS {
            let session = client.log_in(&format!("user{n}"), PASSWORD).await.unwrap();
            users.push(unverified_claims(&session.tokens().access_token).unwrap().sub);
        }
        let own = client.own_token().await.unwrap().unwrap();
        Self {
            bearer: format!("Bearer {}", own.expose()),
            database,
            storage,
            postgres,
            redis,
            server,
            client,
            users,
        }
    }

    pub fn target(&self, path: &'static str) -> Target {
        Target {
            transport: Transport::Tcp,
            address: self.server.grpc(),
            path,
            bearer: self.bearer.clone(),
            pid: self.server.pid(),
            alone: false,
        }
    }

    /// The only value of a query.
    pub async fn number(&self, query: &str) -> f64 {
        self.database.scalar(query).await.parse().unwrap()
    }

    fn baseline(&self, signs: bool) -> (Baseline, Target) {
        let baseline = Baseline::refresh(self.database.url(), &self.redis.url(), signs);
        let target = baseline.target(REFRESH);
        (baseline, target)
    }

    /// One round, with what it cost.
    async fn measure(&self, into: &mut Measured, target: &Target, source: impl FnMut() -> Source) {
        let stores = StoreProcesses::of(&self.postgres, &self.redis);
        into.round(stores, std::slice::from_ref(target), STREAMS, round_length(), source)
            .await;
    }
}

fn logins() -> impl FnMut() -> Source {
    let mut streams = 0;
    move || {
        let mut n = streams;
        streams += 1;
        Box::new(move |_| {
            n += 1;
            Some(framed(&login(&format!("user{}", n % USERS))))
        })
    }
}

fn login(user: &str) -> IssueRequest {
    IssueRequest {
        client_id: "bench".to_owned(),
        credential: Some(Credential::Password(PasswordCredential {
            username: user.to_owned(),
            password: PASSWORD.to_owned(),
        })),
        ..IssueRequest::default()
    }
}

/// Opens sessions and returns the requests that revoke them.
pub async fn revocations(deployment: &Deployment, count: usize) -> Vec<Bytes> {
    let tokens: Arc<Mutex<Vec<String>>> = Arc::default();
    let left = Arc::new(AtomicUsize::new(count));
    let source = || -> Source {
        let (tokens, left) = (Arc::clone(&tokens), Arc::clone(&left));
        let mut n = 0;
        Box::new(move |answer| {
            if let Some(answer) = answer {
                let answer = IssueResponse::decode(answer.get(5..).unwrap_or_default()).unwrap();
                tokens.lock().unwrap().push(answer.tokens.unwrap().refresh_token);
            }
            let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            n += 1;
            taken.ok().map(|_| framed(&login(&format!("user{}", n % USERS))))
        })
    };
    let minute = Duration::from_mins(1);
    closed(&deployment.target(ISSUE), STREAMS, minute, source)
        .await
        .assert_ok();
    let tokens = std::mem::take(&mut *tokens.lock().unwrap());
    let request = |token: String| {
        framed(&RevokeRequest {
            target: Some(RevokeTarget::Token(token)),
            ..RevokeRequest::default()
        })
    };
    tokens.into_iter().map(request).collect()
}

/// Refresh, Issue, Revoke and `ListSessions`, beside handlers of one SELECT and one EVALSHA.
pub async fn clustered() -> Vec<ReportRow> {
    let deployment = Deployment::start().await;
    let sessions = Sessions::open(4 * STREAMS, &deployment.client).await;
    let ((_bare, bare_target), (_signing, signing_target)) = (deployment.baseline(false), deployment.baseline(true));
    let request = framed(&RefreshRequest {
        refresh_token: "x".repeat(230),
        ..RefreshRequest::default()
    });
    let lists = deployment
        .users
        .iter()
        .map(|user| framed(&ListSessionsRequest { user_id: user.clone() }));
    let lists: Vec<Bytes> = lists.collect();

    let [mut refresh, mut bare, mut signing] = [(); 3].map(|()| Measured::default());
    let [mut issue, mut revoke, mut list] = [(); 3].map(|()| Measured::default());
    for n in 0..rounds() {
        deployment
            .measure(&mut refresh, &deployment.target(REFRESH), sessions.sources())
            .await;
        deployment
            .measure(&mut bare, &bare_target, always(request.clone()))
            .await;
        deployment
            .measure(&mut signing, &signing_target, always(request.clone()))
            .await;
        // Before the users have many sessions.
        deployment
            .measure(
                &mut list,
                &deployment.target(LIST_SESSIONS),
                always(lists[n % USERS].clone()),
            )
            .await;
    }
    for _ in 0..rounds() {
        deployment
            .measure(&mut issue, &deployment.target(ISSUE), logins())
            .await;
        let requests = revocations(&deployment, 1_500).await;
        deployment
            .measure(&mut revoke, &deployment.target(REVOKE), each_once(requests.into_iter()))
            .await;
    }
    report(
        &refresh,
        &bare,
        &signing,
        &[("Issue", &issue), ("Revoke", &revoke), ("ListSessions", &list)],
    )
}

fn report(refresh: &Measured, bare: &Measured, signing: &Measured, others: &[(&str, &Measured)]) -> Vec<ReportRow> {
    let mut rows = vec![
        ReportRow::new(
            "Refresh, Postgres and Redis (against one SELECT and one EVALSHA)",
            "calls/s",
            speed(&refresh.rounds),
            speed(&bare.rounds),
        )
        .at_least(0.7),
        ReportRow::new(
            "Refresh (against the same with a signature and an HMAC)",
            "calls/s",
            speed(&refresh.rounds),
            speed(&signing.rounds),
        )
        .at_least(0.85),
    ];
    for (call, measured) in [("Refresh", refresh)].iter().chain(others) {
        for (part, of) in PARTS {
            let name = format!("{call}: CPU of {part} (against one SELECT and one EVALSHA)");
            rows.push(ReportRow::new(name, "µs/call", measured.cost(of), bare.cost(of)));
        }
    }
    rows
}
