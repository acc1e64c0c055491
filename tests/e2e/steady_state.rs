//! In steady state Validate calls no store: the stores themselves count their calls.

use tokio::time::sleep;

use crate::support::deployment::{add_user, for_tests};
use crate::support::serve::Storage;
use crate::support::{Caller, Postgres, Redis};

const CALLS: usize = 4_000;

#[tokio::test(flavor = "multi_thread")]
async fn validate_sends_no_statement_and_no_command() {
    let postgres = Postgres::start(&[("log_statement", "all")]);
    let redis = Redis::start(&[]);
    let database = postgres.database().await;
    let storage = for_tests(Storage::clustered(database.url(), &redis.url(), "cs"));
    add_user(&storage, "ada", &[]);
    let server = storage.serve(&[]);
    let caller = Caller::of(&server);
    let mut tokens = Vec::new();
    for _ in 0..10 {
        tokens.push(caller.login("ada").await.access_token);
    }
    for token in &tokens {
        caller.assert_active(token).await;
    }

    let counted = async || (postgres.statements(), redis.commands());
    let start = tokio::time::Instant::now();
    let before = counted().await;
    for n in 0..CALLS {
        // Valid tokens, forged ones and garbage: none of them causes a call to a store.
        match n % 4 {
            0 => assert!(caller.inactive_reason("csr_garbage").await.is_some()),
            1 => assert!(caller.inactive_reason(&tokens[n % 10][1..]).await.is_some()),
            _ => caller.assert_active(&tokens[n % 10]).await,
        }
    }
    let busy = start.elapsed();
    let after = counted().await;
    // The background calls in the same time.
    sleep(busy).await;
    let idle = counted().await;

    let (statements, commands) = (after.0 - before.0, after.1 - before.1);
    let (background_statements, background_commands) = (idle.0 - after.0, idle.1 - after.1);
    println!(
        "{CALLS} validations in {busy:?}: {statements} statements and {commands} commands; \
         as long without: {background_statements} and {background_commands}"
    );
    // Background work such as reconciliation falls on either side of a boundary; one statement per hundred calls
    // would be 40.
    let slack = 10 + 2 * busy.as_secs();
    assert!(statements <= background_statements + slack);
    assert!(commands <= background_commands + slack);
}
