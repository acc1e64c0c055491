//! Row 27: keys that nobody knows. Ten thousand of them cost one look at the database an interval, and a good token of a
//! new key is good all the same.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::proto::InactiveReason;
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep};

use crate::support::keys::{kid, part};
use crate::support::{Caller, Keys, Servers, eventually};

const UNKNOWN: usize = 10_000;

/// What a load of all keys looks like in the log of the database.
fn loads(servers: &Servers) -> u64 {
    servers
        .postgres
        .log()
        .matches("FROM signing_keys ORDER BY created")
        .count() as u64
}

/// The token with a `kid` that no key has: everything else about it is right, so that only the key can tell.
fn of_an_unknown_key(token: &str, number: usize) -> String {
    let mut header = part(token, 0);
    header["kid"] = format!("{number:0>43}").into();
    let (_, rest) = token.split_once('.').unwrap();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_unknown_keys_are_one_load_an_interval() {
    let servers = Servers::start(&[]).await;
    let (one, other) = (servers.serve().await, servers.serve().await);
    let (at_one, at_other) = (Caller::of(&one), Caller::of(&other));
    let good = at_one.login("ada").await.access_token;
    at_other.assert_active(&good).await;

    let before = loads(&servers);
    let start = Instant::now();
    futures_util::stream::iter(0..UNKNOWN)
        .for_each_concurrent(32, |number| {
            let (caller, token) = (&at_other, of_an_unknown_key(&good, number));
            async move { assert_eq!(caller.inactive(&token).await, Some(InactiveReason::UnknownKey)) }
        })
        .await;
    let busy = start.elapsed();
    let after = loads(&servers);
    // What both replicas load without anybody asking, over the same time.
    sleep(busy).await;
    let idle = loads(&servers) - after;
    let loaded = after - before;
    println!("{UNKNOWN} unknown keys in {busy:?}: {loaded} loads, {idle} in as long without");
    assert!(
        loaded <= idle + busy.as_secs() + 6,
        "{loaded} loads in {busy:?}, {idle} without the flood"
    );

    // In the midst of such a flood, keys that other replicas made at a stroke are learnt within an interval or two.
    let keys = Keys::of(&one);
    let (done, flooding) = tokio::sync::watch::channel(false);
    let flood = {
        let (caller, good) = (at_other.clone(), good.clone());
        tokio::spawn(async move {
            for number in UNKNOWN.. {
                if *flooding.borrow() {
                    break;
                }
                assert!(caller.inactive(&of_an_unknown_key(&good, number)).await.is_some());
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
            at_other.inactive(&new).await.is_none().then_some(())
        })
        .await;
        slowest = slowest.max(start.elapsed());
        at_other.assert_active(&good).await;
    }
    println!("during a flood a new key was known within {slowest:?}");
    done.send(true).unwrap();
    flood.await.unwrap();
}
