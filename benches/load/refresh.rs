//! Sessions that are refreshed, and Refresh embedded.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use countersign::proto::{RefreshRequest, RefreshResponse};
use prost::Message as _;

use crate::callers::{SCOPES, add_caller, caller};
use crate::cores;
use crate::figures::{median, round_length, rounds};
use crate::generator::{Round, Source, Target, Transport, closed, framed};
use crate::report::ReportRow;
use crate::support::deployment::add_user;
use crate::support::serve::Storage;
use crate::support::{Countersign, PASSWORD};

pub const REFRESH: &str = "/countersign.v1.TokenService/Refresh";

/// Concurrent streams on each of the four connections.
pub const STREAMS: usize = 8;

/// Sessions. One stream at a time refreshes each of them.
pub struct Sessions {
    tokens: Arc<Mutex<Vec<String>>>,
}

impl Sessions {
    pub async fn open(count: usize, caller: &countersign::client::Client) -> Self {
        let mut tokens = Vec::new();
        for _ in 0..count {
            tokens.push(caller.log_in("ada", PASSWORD).await.unwrap().tokens().refresh_token);
        }
        let tokens = Arc::new(Mutex::new(tokens));
        Self { tokens }
    }

    /// Each stream takes a session and returns it for the next round.
    pub fn sources(&self) -> impl FnMut() -> Source + use<> {
        let tokens = self.tokens.clone();
        move || {
            let mut stream = SessionStream {
                token: tokens.lock().unwrap().pop().expect("as many sessions as streams"),
                back: tokens.clone(),
            };
            Box::new(move |answer| Some(stream.next(answer)))
        }
    }
}

/// The session of one stream. Dropping it returns the session.
struct SessionStream {
    token: String,
    back: Arc<Mutex<Vec<String>>>,
}

impl SessionStream {
    fn next(&mut self, answer: Option<&[u8]>) -> Bytes {
        if let Some(answer) = answer {
            let answer = RefreshResponse::decode(answer.get(5..).unwrap_or_default()).unwrap();
            if let Some(tokens) = answer.tokens.filter(|tokens| !tokens.refresh_token.is_empty()) {
                self.token = tokens.refresh_token;
            }
        }
        framed(&RefreshRequest {
            refresh_token: self.token.clone(),
            attempt_id: "bench".to_owned(),
            ..RefreshRequest::default()
        })
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        // The last response was not read. The next request has the same `attempt_id`, so it gets the same successor.
        self.back.lock().unwrap().push(std::mem::take(&mut self.token));
    }
}

async fn measured(server: &Countersign, client: &countersign::client::Client, sessions: &Sessions) -> Round {
    let own = client.own_token().await.unwrap().unwrap();
    let target = Target {
        transport: Transport::Tcp,
        address: server.grpc(),
        path: REFRESH,
        bearer: format!("Bearer {}", own.expose()),
        pid: server.pid(),
        alone: false,
    };
    let round = closed(&target, STREAMS, round_length(), sessions.sources()).await;
    round.assert_ok();
    round
}

pub async fn embedded() -> Vec<ReportRow> {
    let storage = Storage::embedded().set("tokens.max_sessions_per_user", "1000");
    add_user(&storage, "ada", &[]);
    let (id, secret) = add_caller(&storage, SCOPES);
    let server = cores::on_server_core(|| storage.serve(&[]));
    let client = caller(&server, (id, secret), SCOPES, None);
    let sessions = Sessions::open(4 * STREAMS, &client).await;
    let mut speeds = Vec::new();
    for _ in 0..rounds() {
        speeds.push(measured(&server, &client, &sessions).await.per_second());
    }
    vec![
        ReportRow::new(
            "Refresh, embedded (against 4,000)",
            "calls/s",
            median(speeds.into_iter()),
            4000.0,
        )
        .at_least(1.0),
    ]
}
