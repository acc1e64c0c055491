//! Tokens with unknown key ids. Ten thousand of them cause at most one reload of the keys per interval, and a token
//! of a new key is still accepted.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::proto::InactiveReason;
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep};

use crate::support::keys::{kid, part};
use crate::support::{Caller, Keys, Servers, eventually};

const UNKNOWN: usize = 10_000;

/// How many times the database log shows a load of all signing keys.
fn loads(servers: &Servers) -> u64 {
    servers
        .postgres
        .log()
        .matches("FROM signing_keys ORDER BY created")
        .count() as u64
}

/// The token with a `kid` that no key has. Everything else in it is valid, so only the key can give it away.
fn with_unknown_kid(token: &str, number: usize) -> String {
    let mut header = part(token, 0);
    header["kid"] = format!("{number:0>43}").into();
    let (_, rest) = token.split_once('.').unwrap();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_unknown_key_ids_cause_one_reload_per_interval() {
    let servers = Servers::start(&[]).await;
    let (one, other) = (servers.serve().await, servers.serve().await);
    let (at_one, at_other) = (Caller::of(&one), Caller::of(&other));
    let good = at_one.login("ada").await.access_token;
    at_other.assert_active(&good).await;

    let before = loads(&servers);
    let start = Instant::now();
    futures_util::stream::iter(0..UNKNOWN)
        .for_each_concurrent(32, |number| {
            let (caller, token) = (&at_other, with_unknown_kid(&good, number));
            async move { assert_eq!(caller.inactive_reason(&token).await, Some(InactiveReason::UnknownKey)) }
        })
        .await;
    let busy = start.elapsed();
    let after = loads(&servers);
    // The loads that both replicas make in the same time without such calls.
    sleep(busy).await;
    let idle = loads(&servers) - after;
    let loaded = after - before;
    println!("{UNKNOWN} unknown key ids in {busy:?}: {loaded} loads, {idle} in the same time without them");
    assert!(
        loaded <= idle + busy.as_secs() + 6,
        "{loaded} loads in {busy:?}, {idle} without the flood"
    );

    // During such a flood, a replica learns a new key of another replica within one or two intervals.
    let keys = Keys::of(&one);
    let (done, flooding) = tokio::sync::watch::channel(false);
    let flood = {
        let (caller, good) = (at_other.clone(), good.clone());
        tokio::spawn(async move {
            for number in UNKNOWN.. {
                if *flooding.borrow() {
                    break;
                }
                assert!(caller.inactive_reason(&with_unknown_kid(&good, number)).await.is_some());
            }
        })
    };
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        keys.rotate(true).await.unwrap();
        keys.rotate(true).await.unwrap();
        let new = at_one.login("ada").await.access_token;
        assert_ne!(kid(&new), kid(&good));
        let start = Instant::now();
        eventually("the new key is known", Duration::from_secs(30), || async {
            at_other.inactive_reason(&new).await.is_none().then_some(())
        })
        .await;
        slowest = slowest.max(start.elapsed());
        at_other.assert_active(&good).await;
    }
    println!("during a flood a new key was known within {slowest:?}");
    done.send(true).unwrap();
    flood.await.unwrap();
}
