//! Strings that are not refresh tokens of this service cause no call to a store.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::caller::{reason, refresh_bytes, refresh_text};
use crate::support::{Caller, Servers};

/// How many strings are sent over the wire. The tests of `token::refresh_token` give a million of them to the decoder
/// alone.
const STRINGS: u64 = 20_000;

/// A small random number generator that gives the same strings in every run.
struct Lcg(u64);

impl Lcg {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).unwrap()
    }
}

/// A good token with a defect: a changed, missing, added or doubled byte, or a correct checksum over a wrong tag.
fn mutated(good: &str, numbers: &mut Lcg) -> String {
    let mut bytes = refresh_bytes(good);
    let at = numbers.next(bytes.len());
    match numbers.next(6) {
        0 => bytes[at] ^= 1 << numbers.next(8),
        1 => drop(bytes.remove(at)),
        2 => bytes.insert(at, 0),
        3 => bytes.truncate(at),
        4 => {
            let at = at.min(bytes.len() - 5);
            bytes[at] = bytes[at].wrapping_add(1);
            let end = bytes.len() - 4;
            let sum = crc32fast::hash(&bytes[..end]);
            bytes[end..].copy_from_slice(&sum.to_be_bytes());
        }
        _ => {
            let length = numbers.next(300);
            bytes = (0..length).map(|_| u8::try_from(numbers.next(256)).unwrap()).collect();
        }
    }
    match numbers.next(8) {
        0 => refresh_text(&bytes).replacen("csr_", "csr-", 1),
        1 => format!("{good} "),
        2 => good.to_uppercase(),
        _ => refresh_text(&bytes),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strings_that_are_not_refresh_tokens_reach_no_store() {
    let servers = Servers::start(&[]).await;
    let server = servers.serve().await;
    let caller = Caller::of(&server);
    let good = caller.login("ada").await.refresh_token;

    let commands = || servers.redis.commands();
    let (statements_before, commands_before) = (servers.postgres.statements(), commands());
    let start = tokio::time::Instant::now();
    let mut numbers = Lcg(0x0C55_7E57);
    let at_once = Arc::new(Semaphore::new(100));
    let mut calls = JoinSet::new();
    for _ in 0..STRINGS {
        let token = mutated(&good, &mut numbers);
        if token == good {
            continue;
        }
        let (caller, permit) = (caller.clone(), Arc::clone(&at_once).acquire_owned().await.unwrap());
        calls.spawn(async move {
            let _permit = permit;
            let status = caller
                .refresh(&token)
                .await
                .expect_err("the string is not a refresh token of this service");
            assert_eq!(
                reason(&status),
                (Code::Unauthenticated, "REFRESH_TOKEN_MALFORMED".into()),
                "{token}"
            );
            if token.len() < 300 {
                let revoked = caller
                    .revoke(countersign::proto::revoke_request::Target::Token(token))
                    .await;
                assert_eq!(revoked.unwrap(), 0);
            }
        });
    }
    calls.join_all().await;
    let busy = start.elapsed();
    let (statements, commands_meanwhile) = (
        servers.postgres.statements() - statements_before,
        commands() - commands_before,
    );
    println!("{STRINGS} strings in {busy:?}: {statements} statements, {commands_meanwhile} commands");
    // Background work goes on a few times a second: reconciliation, heartbeats and reading the stream.
    let background = 50 + 20 * busy.as_secs();
    assert!(statements < background && commands_meanwhile < background);
    caller.refresh(&good).await.expect("the session is unaffected");
}
