//! All floods at once, each from addresses of its own in 127.0.0.0/8, beside callers that behave well.
//!
//! Full size, ten minutes: `COUNTERSIGN_TEST_ALL_FLOODS=600 cargo test --release --all-features --test faults all_floods --
//! --nocapture`.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign::proto::issue_request::Credential;
use countersign::proto::revoke_request::Target;
use countersign::proto::{
    ClientSecretCredential, CreateUserRequest, ListSessionsRequest, PasswordCredential, RevokeRequest, Tokens, User,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::caller::{refresh_bytes, refresh_text};
use crate::support::load::Report;
use crate::support::raw::with_bearer;
use crate::support::source::{H2Connection, connect_from, unfinished};
use crate::support::web::metric;
use crate::support::{Admin, Caller, Countersign, Deployment, DeploymentKind, Load, PASSWORD, size};

const WATCH: &str = "/grpc.health.v1.Health/Watch";
const VALIDATE: &str = "/countersign.v1.TokenService/Validate";

/// The shared secret of `/authorize`.
const PROXY_SECRET: &str = "a-secret-of-thirty-two-characters";

/// The memory limit of the Helm chart, in KiB.
const MEMORY_LIMIT: u64 = 512 * 1024;

/// What the database may grow by, in bytes.
const GROWTH_LIMIT: i64 = 50 << 20;

/// How often each flood acted.
type Counts = Arc<BTreeMap<&'static str, AtomicU64>>;

/// The floods; each attacks until it is aborted.
struct Floods {
    tasks: JoinSet<()>,
    counts: Counts,
}

impl Floods {
    fn new(names: &[&'static str]) -> Self {
        Self {
            tasks: JoinSet::new(),
            counts: Arc::new(names.iter().map(|name| (*name, AtomicU64::new(0))).collect()),
        }
    }

    /// Starts `attackers` loops that call `act` with the number of the attacker and of the act. Each act takes a moment, so
    /// that the tests' own machine is left with time for the good callers.
    fn start<F>(
        &mut self,
        name: &'static str,
        attackers: usize,
        act: impl Fn(usize, usize) -> F + Clone + Send + 'static,
    ) where
        F: Future<Output = ()> + Send,
    {
        for attacker in 0..attackers {
            let (act, counts) = (act.clone(), Arc::clone(&self.counts));
            self.tasks.spawn(async move {
                for n in 0.. {
                    act(attacker, n).await;
                    counts[name].fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(5)).await;
                }
            });
        }
    }
}

/// An address of flood `kind`.
fn address(kind: u8, n: usize) -> Ipv4Addr {
    let low = |n: usize| u8::try_from(n % 250 + 1).unwrap_or(1);
    Ipv4Addr::new(127, kind, low(n / 250), low(n))
}

/// Fills a connection with calls whose message never ends, and holds it for a while.
async fn hold_unfinished(server: SocketAddr, from: Ipv4Addr, path: &'static str) {
    let Some(mut connection) = H2Connection::open(from, server).await else {
        return sleep(Duration::from_millis(200)).await;
    };
    let mut held = Vec::new();
    for _ in 0..100 {
        match timeout(
            Duration::from_secs(1),
            connection.begin(path, unfinished(60_000, 50_000), false),
        )
        .await
        {
            Ok(Some(call)) => held.push(call),
            Ok(None) | Err(_) => break,
        }
    }
    sleep(Duration::from_secs(3)).await;
}

/// Sends half of a request to the side port, and waits until it is closed.
async fn hold_half_sent(side_port: SocketAddr, from: Ipv4Addr) {
    let Ok(mut io) = connect_from(from, side_port).await else {
        return;
    };
    if io
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-slow: ")
        .await
        .is_ok()
    {
        let mut rest = [0; 64];
        let _closed = timeout(Duration::from_secs(10), io.read(&mut rest)).await;
    }
}

/// Asks `/authorize` about a request with this refresh cookie.
async fn authorize(side_port: SocketAddr, from: Ipv4Addr, refresh_token: &str) {
    let Ok(mut io) = connect_from(from, side_port).await else {
        return;
    };
    let request = format!(
        "GET /authorize HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-forward-auth-secret: {PROXY_SECRET}\r\n\
         x-forwarded-method: GET\r\ncookie: __Host-cs_rt={refresh_token}\r\n\r\n"
    );
    if io.write_all(request.as_bytes()).await.is_ok() {
        let mut answer = Vec::new();
        let _read = timeout(Duration::from_secs(10), io.read_to_end(&mut answer)).await;
    }
}

/// A refresh token with a right checksum and a wrong tag, of a key that does not exist yet.
fn forged(good: &str, n: usize) -> String {
    let mut bytes = refresh_bytes(good);
    bytes[4] = bytes[4].wrapping_add(1 + u8::try_from(n % 7).unwrap_or(0));
    let end = bytes.len() - 4;
    bytes[end - 1] ^= 1;
    let sum = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum.to_be_bytes());
    refresh_text(&bytes)
}

/// A user who does with their own account whatever is allowed, as fast as possible.
async fn act_on_own_account(user: &Admin, id: &str, tokens: &Tokens, n: usize) {
    if n.is_multiple_of(2) {
        let request = RevokeRequest {
            target: Some(Target::UserId(id.to_owned())),
            keep_session_id: tokens.session_id.clone(),
            ..RevokeRequest::default()
        };
        drop(
            user.tokens
                .clone()
                .revoke(with_bearer(request, &tokens.access_token))
                .await,
        );
    } else {
        let request = ListSessionsRequest { user_id: id.to_owned() };
        drop(
            user.users
                .clone()
                .list_sessions(with_bearer(request, &tokens.access_token))
                .await,
        );
    }
}

async fn register(from: &Admin, name: String) {
    let user = User {
        username: name,
        ..User::default()
    };
    let request = CreateUserRequest {
        user: Some(user),
        password: PASSWORD.to_owned(),
    };
    drop(from.users.clone().create_user(request).await);
}

fn start_floods(server: &Countersign, victim: &Tokens, own: (String, Tokens), piling: String) -> Floods {
    let (grpc, url) = (server.grpc(), server.http_url());
    let side_port: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
    let mut floods = Floods::new(&[
        "unfinished watches",
        "unfinished validations",
        "half-sent requests",
        "wrong secrets",
        "unknown users",
        "registrations",
        "own-account calls",
        "piled sessions",
        "forged cookies",
    ]);
    floods.start("unfinished watches", 20, move |attacker, _| {
        hold_unfinished(grpc, address(1, attacker / 5), WATCH)
    });
    floods.start("unfinished validations", 20, move |attacker, _| {
        hold_unfinished(grpc, address(2, attacker / 5), VALIDATE)
    });
    floods.start("half-sent requests", 100, move |_, _| {
        hold_half_sent(side_port, address(3, 0))
    });

    let guessers: Arc<Vec<Admin>> = Arc::new(
        (0..500)
            .map(|n| Admin::from_address(server, &address(4, n).to_string()))
            .collect(),
    );
    let (secrets, names) = (Arc::clone(&guessers), Arc::clone(&guessers));
    floods.start("wrong secrets", 4, move |attacker, n| {
        let from = secrets[(4 * n + attacker) % secrets.len()].clone();
        let credential = Credential::ClientSecret(ClientSecretCredential {
            secret: "wrong".to_owned(),
        });
        async move { drop(from.issue("no-such-client", credential, &[], &[]).await) }
    });
    floods.start("unknown users", 2, move |attacker, n| {
        let from = names[(2 * n + attacker) % names.len()].clone();
        let credential = Credential::Password(PasswordCredential {
            username: format!("unknown{n}"),
            password: "wrong".to_owned(),
        });
        async move { drop(from.issue("", credential, &[], &[]).await) }
    });
    floods.start("registrations", 2, move |attacker, n| {
        let from = guessers[(2 * n + attacker) % guessers.len()].clone();
        async move { register(&from, format!("flood{attacker}x{n}")).await }
    });

    let (user, own) = (Admin::from_address(server, &address(5, 0).to_string()), Arc::new(own));
    floods.start("own-account calls", 4, move |_, n| {
        let (user, own) = (user.clone(), Arc::clone(&own));
        async move { act_on_own_account(&user, &own.0, &own.1, n).await }
    });
    let service = Caller::of(server);
    floods.start("piled sessions", 1, move |_, _| {
        let (service, name) = (service.clone(), piling.clone());
        async move {
            if let Ok(tokens) = service.issue(&name, PASSWORD).await {
                drop(service.revoke(Target::SessionId(tokens.session_id)).await);
            }
        }
    });
    let sample = victim.refresh_token.clone();
    floods.start("forged cookies", 4, move |attacker, n| {
        let token = forged(&sample, n);
        async move { authorize(side_port, address(6, attacker), &token).await }
    });
    floods
}

/// Callers that behave well: a service validates, users log in and refresh.
struct GoodCallers(Vec<(&'static str, Load)>);

impl GoodCallers {
    async fn start(server: &Countersign) -> Self {
        let caller = Caller::of(server);
        let tokens = caller.login("ada").await;
        let mut sessions = Vec::new();
        for _ in 0..8 {
            sessions.push(Arc::new(Mutex::new(caller.login("ada").await.refresh_token)));
        }
        let (validating, refreshing, access) = (caller.clone(), caller.clone(), tokens.access_token);
        let validations = Load::start(50, move |_| {
            let (caller, token) = (validating.clone(), access.clone());
            async move { caller.validate(&token).await }
        });
        let refreshes = Load::start(8, move |n| {
            let (caller, session) = (refreshing.clone(), Arc::clone(&sessions[n % sessions.len()]));
            async move {
                let mut token = session.lock().await;
                *token = caller.refresh(&token).await?.0.refresh_token;
                Ok(())
            }
        });
        let logins = Load::start(1, move |_| {
            let caller = caller.clone();
            async move { caller.issue("grace", PASSWORD).await }
        });
        Self(vec![
            ("Validate", validations),
            ("Refresh", refreshes),
            ("Issue", logins),
        ])
    }

    async fn stop(self) -> Vec<(&'static str, Report)> {
        let mut reports = Vec::new();
        for (name, load) in self.0 {
            reports.push((name, load.stop().await));
        }
        reports
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn good_callers_notice_nothing_of_all_floods_at_once() {
    let span = Duration::from_secs(size("COUNTERSIGN_TEST_ALL_FLOODS", 12));
    let deployment = Deployment::fresh(DeploymentKind::Clustered)
        .await
        .set("throttle.enabled", "true")
        .set("tokens.max_sessions_per_user", "50")
        .set("users.registration", "open")
        // Without `countersign:users`: registrations of callers with that scope have no limit.
        .set(
            "server.anonymous_scopes",
            "countersign:issue,countersign:refresh,countersign:revoke,countersign:validate",
        )
        .set("gateway.cookies", "true")
        .set("gateway.forward_auth", "true")
        .set("gateway.forward_auth_secret", PROXY_SECRET);
    let database = deployment.database.as_ref().expect("a clustered deployment");
    for name in ["ada", "grace", "piler"] {
        deployment.add_user(name, &[]);
    }
    let mallory = deployment.add_user("mallory", &[]);
    let server = deployment.serve();
    let good = GoodCallers::start(&server).await;
    let caller = Caller::of(&server);
    let victim = caller.login("ada").await;
    let own = (mallory, caller.login("mallory").await);
    sleep(Duration::from_secs(1)).await;
    let begun = database.scalar("SELECT pg_database_size(current_database())").await;
    let (before, log_before) = (server.resident_kib(), server.log().len());

    let mut floods = start_floods(&server, &victim, own, "piler".to_owned());
    let mut peak = before;
    let watching = async {
        loop {
            peak = peak.max(server.resident_kib());
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = sleep(span) => {}
        () = watching => pending().await,
    }
    let reports = good.stop().await;
    floods.tasks.shutdown().await;

    let size_of = |text: String| text.parse::<i64>().unwrap();
    let grown = size_of(database.scalar("SELECT pg_database_size(current_database())").await) - size_of(begun);
    println!("floods for {span:?}: {:?}", floods.counts);
    println!(
        "memory {before} KiB before, {peak} KiB at most; database +{} KiB; log +{} KiB; {} calls refused by a gate",
        grown / 1024,
        (server.log().len() - log_before) / 1024,
        metric(&server, "countersign_gate_refusals_total"),
    );
    for (name, report) in &reports {
        println!("{name}: {report}");
    }
    for (name, report) in reports {
        let all: u64 = report.answers.values().sum();
        let failed = all - report.count("Ok");
        // At least 99.9 % succeed; one call more may fail, because a short run makes fewer than a thousand.
        assert!(failed <= 1 + all / 1000, "{name}: {report}");
    }
    assert!(
        floods.counts.values().all(|count| count.load(Ordering::Relaxed) > 0),
        "{:?}",
        floods.counts
    );
    assert!(peak < MEMORY_LIMIT, "{peak} KiB");
    assert!(grown < GROWTH_LIMIT, "{grown} bytes");
}
