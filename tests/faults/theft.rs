//! Rows 17 and 18: a token is used by two. The session ends on all three replicas, with all its tokens.

use std::time::Duration;

use countersign::clock::{Clock as _, SystemClock};
use countersign::proto::{RefreshOutcome, Tokens};
use tokio::time::{Instant, sleep_until};
use tonic::Code;

use crate::support::{Caller, Fleet, assert_refused};

/// The sequences, each in the words of who has the token. The last call is the one that ends the session.
struct Story<'a> {
    callers: &'a [Caller],
    begun: Instant,
    second: i64,
    turn: usize,
    given: Vec<Tokens>,
}

fn second() -> i64 {
    SystemClock::new().now().0 / 1000
}

impl<'a> Story<'a> {
    async fn begin(callers: &'a [Caller], client: &str) -> Self {
        let tokens = callers[0].login_at(client, "ada").await;
        Self {
            callers,
            begun: Instant::now(),
            second: second(),
            turn: 0,
            given: vec![tokens],
        }
    }

    /// Each call goes to the next replica.
    fn caller(&mut self) -> &'a Caller {
        self.turn += 1;
        &self.callers[self.turn % self.callers.len()]
    }

    /// Presents the token that was given as the `n`th; it works.
    async fn uses(&mut self, n: usize, attempt: &str) -> RefreshOutcome {
        let token = self.given[n].refresh_token.clone();
        let answer = self.caller().refresh_as(&token, attempt).await.expect("it works");
        let outcome = answer.outcome();
        self.given.push(answer.tokens.unwrap());
        outcome
    }

    /// Presents the token that was given as the `n`th: one too often.
    #[expect(clippy::print_stdout, reason = "a test says what it measured")]
    async fn ends(mut self, n: usize, attempt: &str, what: &str) {
        let token = self.given[n].refresh_token.clone();
        let refused = self.caller().refresh_as(&token, attempt).await;
        assert_refused(refused, Code::Unauthenticated, "REFRESH_TOKEN_REUSED");
        let (ended, in_one_second) = (Instant::now(), self.second == second());
        let mut slowest = Duration::ZERO;
        for caller in self.callers {
            for tokens in &self.given {
                let refused = caller.refresh_as(&tokens.refresh_token, attempt).await;
                assert_refused(refused, Code::Unauthenticated, "SESSION_REVOKED");
                caller.until_revoked(&tokens.access_token).await;
            }
            slowest = ended.elapsed();
        }
        println!(
            "{what}: over after {:?}{}; known and tried everywhere {slowest:?} later",
            ended.duration_since(self.begun),
            if in_one_second {
                ", all in one second of the clock"
            } else {
                ""
            },
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_had_the_token_first_both_lose_it() {
    let fleet = Fleet::start(&[], &[]).await;
    fleet
        .run(&[
            "client",
            "add",
            "graceless",
            "--grant",
            "password",
            "--audience",
            "*",
            "--refresh-grace",
            "0s",
        ])
        .await;
    fleet
        .run(&[
            "client",
            "add",
            "brief",
            "--grant",
            "password",
            "--audience",
            "*",
            "--refresh-grace",
            "1s",
        ])
        .await;
    let callers = fleet.callers();
    // The first call of each replica pays for its connection.
    for caller in &callers {
        caller.login("ada").await;
    }

    let mut it = Story::begin(&callers, "default").await;
    it.uses(0, "").await;
    it.uses(1, "").await;
    it.ends(0, "", "the grandparent").await;

    let mut it = Story::begin(&callers, "default").await;
    for n in 0..5 {
        it.uses(n, "").await;
    }
    it.ends(1, "", "one long gone").await;

    let mut it = Story::begin(&callers, "graceless").await;
    it.uses(0, "").await;
    it.ends(0, "", "the parent, without a grace").await;

    let mut it = Story::begin(&callers, "brief").await;
    it.uses(0, "").await;
    sleep_until(Instant::now() + Duration::from_millis(1_050)).await;
    it.ends(0, "", "the parent, after the grace").await;

    let mut it = Story::begin(&callers, "default").await;
    it.uses(0, "mine").await;
    it.ends(0, "yours", "the parent, as another attempt").await;

    // The answer of the second rotation never arrived anywhere: an orphan. Its parent comes, and then its grandparent.
    let mut it = Story::begin(&callers, "default").await;
    it.uses(0, "").await;
    it.uses(1, "").await;
    assert_eq!(it.uses(1, "").await, RefreshOutcome::Replayed);
    it.ends(0, "", "the parent of an orphan").await;

    // The attacker is first: S1, R1 (attacker), S1 (honest).
    let mut it = Story::begin(&callers, "default").await;
    it.uses(0, "attacker").await;
    it.ends(0, "honest", "the honest client, at once, as its own attempt")
        .await;

    let mut it = Story::begin(&callers, "brief").await;
    it.uses(0, "").await;
    sleep_until(Instant::now() + Duration::from_millis(1_050)).await;
    it.ends(0, "", "the honest client, after the grace").await;

    // R1, R2 by the attacker, then S1 by the honest client.
    let mut it = Story::begin(&callers, "default").await;
    it.uses(0, "").await;
    it.uses(1, "").await;
    it.ends(0, "", "the honest client, two behind").await;

    // Inside the grace both hold the same successor; where they part, both end.
    let mut it = Story::begin(&callers, "default").await;
    it.uses(0, "").await;
    assert_eq!(it.uses(0, "").await, RefreshOutcome::Replayed);
    assert_eq!(it.given[1].refresh_token, it.given[2].refresh_token);
    it.uses(1, "attacker").await;
    it.ends(2, "honest", "the first divergence of two that held the same")
        .await;

    let reused = "SELECT count(*) FROM audit_events WHERE kind = 'token.refresh.reused'";
    assert_eq!(fleet.database.scalar(reused).await, "10");
    fleet.assert_calm();
}
