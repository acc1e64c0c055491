//! One call runs a script once, whatever happens to the connection.

use std::time::Duration;

use countersign::model::{ErrorKind, Rotation};
use countersign::store::SessionStore as _;

use super::{RECOVERY, TIMEOUT, connect_with, connected, server};
use crate::sessions::backends::{attempt, present, session, successor};
use crate::support::proxy::{AfterLoss, Proxy};
use crate::support::{Redis, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_redis_no_longer_knows_is_sent_again() {
    let server = server(&[]).await;
    let store = connected(&server).await;
    let session = session();
    // The rights of the user are checked by scripts too, once for each connection, until all are open.
    let before = eventually("the connections are examined", Duration::from_secs(30), || async {
        let first = sent_as_text(&server);
        tokio::time::sleep(Duration::from_millis(500)).await;
        (sent_as_text(&server) == first).then_some(first)
    })
    .await;
    store.create(&session, 9).await.unwrap();
    for generation in 0..3 {
        server.command(&["SCRIPT", "FLUSH"]);
        let rotation = store.rotate(&present(&session, generation)).await.unwrap();
        assert!(
            matches!(&rotation, Rotation::Rotated(r) if r.generation == generation + 1),
            "{rotation:?}"
        );
    }
    // One EVAL for the creation and one after each flush. A script that Redis knows is not sent as text.
    assert_eq!(sent_as_text(&server), before + 4);
    store.rotate(&present(&session, 3)).await.unwrap();
    assert_eq!(sent_as_text(&server), before + 4);
}

/// How many scripts Redis has been sent as text.
fn sent_as_text(server: &Redis) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]);
    let calls = stats
        .split("cmdstat_eval:calls=")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_whose_reply_was_lost_is_not_repeated() {
    let server = server(&[]).await;
    let proxy = Proxy::start(server.address()).await;
    let url = format!("redis://{}", proxy.address());
    // Long enough to connect again: a client that repeats calls would do so.
    let with_deadline = Duration::from_secs(5);
    for (afterwards, timeout) in [(AfterLoss::Close, with_deadline), (AfterLoss::Silence, TIMEOUT)] {
        let store = connect_with(&url, "cs", timeout).await.unwrap();
        let session = session();
        eventually("the session is created", RECOVERY, || async {
            store.create(&session, 9).await.ok()
        })
        .await;
        let first = attempt(&session, 0, "a");
        eventually("the session is rotated", RECOVERY, || async {
            store.rotate(&first).await.ok()
        })
        .await;
        let lost = proxy.lost();
        proxy.lose_reply(|request| request.windows(7).any(|word| word == b"EVALSHA"), afterwards);
        let error = store.rotate(&attempt(&session, 1, "b")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::StoreUnavailable, "{error:?}");
        assert_eq!(proxy.lost(), lost + 1);
        let mut retry = attempt(&session, 1, "b");
        // Calls leave the silent connection for another one within its timeouts, although the others answer.
        let rotation = eventually("it is answered", RECOVERY, || async { store.rotate(&retry).await.ok() }).await;
        assert!(
            matches!(rotation, Rotation::Replayed(_)),
            "the script had run: {rotation:?}"
        );
        assert_eq!(successor(&rotation).generation, 2, "it ran once");
        retry.generation = 2;
        assert_eq!(successor(&store.rotate(&retry).await.unwrap()).generation, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_caller_goes_away_completes() {
    let server = server(&[]).await;
    let store = connected(&server).await;
    let session = session();
    store.create(&session, 9).await.unwrap();
    let key = format!("cs:s:{{{}}}", session.user);
    let record = || server.command(&["--no-raw", "HVALS", &key]);
    for generation in 0..20 {
        let presented = attempt(&session, generation, "a");
        let before = record();
        // Polled once, so that it is sent, then dropped.
        let mut rotation = store.rotate(&presented);
        let _ = futures_util::poll!(&mut rotation);
        drop(rotation);
        eventually("the rotation is done", RECOVERY, || async {
            (record() != before).then_some(())
        })
        .await;
        let rotation = store.rotate(&presented).await.unwrap();
        assert!(
            matches!(&rotation, Rotation::Replayed(successor) if successor.generation == generation + 1),
            "{rotation:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_redis_logs_contain_nothing_that_callers_send() {
    let server = server(&["--slowlog-log-slower-than", "0", "--slowlog-max-len", "1000"]).await;
    let store = connected(&server).await;
    let mut session = session();
    let secret = b"the session secret, canary 4711!";
    session.secret_hash = countersign::secret::sha256(secret);
    session.context.user_agent = "{canary}*\r\nFLUSHALL".into();
    store.create(&session, 9).await.unwrap();
    store.rotate(&attempt(&session, 0, "canary")).await.unwrap();
    store.list(session.user, 1).await.unwrap();
    store.advance_counters(&[], 15).await.unwrap();
    let mut keys: Vec<_> = server.command(&["KEYS", "*"]).lines().map(str::to_owned).collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "cs:counter:{0}".to_owned(),
            "cs:counter:{0}:step".to_owned(),
            format!("cs:s:{{{}}}", session.user)
        ]
    );
    let log = server.command(&["SLOWLOG", "GET", "-1"]);
    assert!(log.to_lowercase().contains("evalsha"), "{log}");
    assert!(!log.contains("4711"), "{log}");
}
